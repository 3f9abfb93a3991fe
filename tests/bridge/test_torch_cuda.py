"""SprintLoss on a CUDA device. Skipped without one."""

from __future__ import annotations

import math
import os
import signal
from typing import Any

import pytest

import shmbridge
from shmbridge.parent import copying
from support.packages import import_or_skip
from support.sprint_env import SprintEnv

torch = import_or_skip("torch")

from shmbridge.torch import cuda, sprint_loss  # noqa: E402 - requires torch

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


@pytest.fixture(scope="module", autouse=True)
def context() -> None:
    """Initialize CUDA, whose descriptors and threads stay, before a test counts its own."""
    if torch.cuda.is_available():
        torch.ones(8, 8, device="cuda", requires_grad=True).log_softmax(-1).sum().backward()
        torch.ones(8).pin_memory().to("cuda", non_blocking=True)
        torch.cuda.synchronize()


LONG_KERNEL = 100_000_000  # cycles of the device, about 60 ms
DOUBLER = "init().run_control_loop(callback=callback)"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("pin_memory", [False, True])
def test_loss_and_gradient_equal_those_of_the_same_tensor_on_the_cpu(
    sprint_env: SprintEnv, dtype: Any, from_logits: bool, batch_first: bool, pin_memory: bool
) -> None:
    names = [*sprint_env.NAMES, sprint_env.SHORT]
    lengths = sprint_env.frames(names)
    on_cpu = torch.randn(max(lengths), len(names), 4).log_softmax(-1).to(dtype)
    if batch_first:
        on_cpu = on_cpu.transpose(0, 1).contiguous()
    on_device = on_cpu.cuda().requires_grad_()
    on_cpu.requires_grad_()
    options = {"from_logits": from_logits, "batch_first": batch_first, "pin_memory": pin_memory}
    with sprint_env.pool("loop", num_instances=2) as pool:
        expected = sprint_loss(pool, on_cpu, lengths, names, **options)
        loss = sprint_loss(pool, on_device, torch.tensor(lengths).cuda(), names, **options)
        assert loss.device == on_device.device
        expected.backward()
        loss.backward()
    torch.testing.assert_close(loss.cpu(), expected)
    torch.testing.assert_close(on_device.grad.cpu(), on_cpu.grad, rtol=1e-3, atol=1e-3)


def test_the_rings_are_pinned_and_so_are_those_of_a_restarted_child(sprint_env: SprintEnv) -> None:
    log_probs = torch.zeros(3, 1, 4, device="cuda")
    with sprint_env.scripted_pool(DOUBLER, use_python_segment_order=False) as pool:
        sprint_loss(pool, log_probs, [3], ["c/s1"])
        (first,) = pool.memories
        with pool.claim("c/s1", 3, 4) as segment:
            assert torch.from_numpy(segment.posteriors).is_pinned()
        os.kill(pool.stats().children[0].pid, signal.SIGKILL)
        sprint_env.wait_until(lambda: not sprint_env.sprint_pids(), "the child is gone")
        for _ in range(3):
            try:
                sprint_loss(pool, log_probs, [3], ["c/s1"])
            except shmbridge.PeerGoneError:
                continue
        (second,) = pool.memories
        assert second is not first
        with pool.claim("c/s1", 3, 4) as segment:
            assert torch.from_numpy(segment.posteriors).is_pinned()


def test_the_loss_is_ordered_with_earlier_and_later_work_of_the_stream(sprint_env: SprintEnv) -> None:
    """The loss is called before the log-probs are computed, and the gradient is read at once."""
    frames = 20000
    with sprint_env.scripted_pool(DOUBLER, use_python_segment_order=False, ring_size=1 << 24) as pool:
        for value in range(5):
            torch.cuda._sleep(LONG_KERNEL)
            log_probs = torch.full((frames, 1, 4), float(value), device="cuda").requires_grad_()
            sprint_loss(pool, log_probs, [frames], ["c/s1"], reduction="sum").backward()
            assert (log_probs.grad.cpu() == 2 * value).all()


def test_the_zeros_of_a_skipped_segment_are_ordered_too(
    sprint_env: SprintEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No copy follows them that the loss would wait for."""
    find_invalid, empty_like = copying.find_invalid, torch.empty_like

    def find_invalid_slowly(matrix: Any) -> Any:
        torch.cuda._sleep(LONG_KERNEL)  # before the zeros, on their stream
        return find_invalid(matrix)

    monkeypatch.setattr(copying, "find_invalid", find_invalid_slowly)
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: empty_like(*a, **k).fill_(math.nan))
    (frames,) = sprint_env.frames([sprint_env.SHORT])
    with sprint_env.pool("loop") as pool:
        for _ in range(3):
            log_probs = torch.zeros(frames, 1, 4, device="cuda").requires_grad_()
            sprint_loss(pool, log_probs, [frames], [sprint_env.SHORT]).backward()
            assert (log_probs.grad.cpu() == 0).all()


def test_a_segment_is_copied_while_sprint_computes_the_one_before(
    sprint_env: SprintEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sprint continues with the first segment only when the second one is in the ring."""
    fifo = sprint_env.path / "second segment"
    os.mkfifo(fifo)
    body = f"""
waited = []
def patient(command, **arguments):
    if command == "calculate_criterion" and not waited:
        waited.append(open({str(fifo)!r}).read())
    return callback(command, **arguments)
init(callback=patient).run_control_loop(callback=patient)
"""
    find_invalid, copied = copying.find_invalid, []

    def find_invalid_and_signal(matrix: Any) -> Any:
        copied.append(matrix.shape)
        if len(copied) == 2:
            fifo.write_text("copied")
        return find_invalid(matrix)

    monkeypatch.setattr(copying, "find_invalid", find_invalid_and_signal)
    log_probs = torch.zeros(5, 2, 4, device="cuda").requires_grad_()
    with sprint_env.scripted_pool(body, use_python_segment_order=False, segment_timeout=20) as pool:
        sprint_loss(pool, log_probs, [5, 3], ["c/s1", "c/s2"])
    assert copied == [(5, 4), (3, 4)]


def test_matrices_are_copied_directly_between_device_and_ring(sprint_env: SprintEnv) -> None:
    frames, n_segments = 2000, 3
    lengths, names = [frames] * n_segments, [f"c/s{i}" for i in range(n_segments)]
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with sprint_env.scripted_pool(DOUBLER, use_python_segment_order=False, ring_size=1 << 20) as pool:
        log_probs = torch.ones(frames, n_segments, 4, device="cuda").requires_grad_()
        sprint_loss(pool, log_probs, lengths, names)  # pins the ring
        with torch.profiler.profile(activities=activities) as profile:
            sprint_loss(pool, log_probs, lengths, names)
            torch.cuda.synchronize()
    copies = [event.name for event in profile.events() if event.name.startswith("Memcpy")]
    assert sum("Device -> Pinned" in name for name in copies) == n_segments
    assert sum("Pinned -> Device" in name for name in copies) == n_segments


def test_the_loss_works_on_a_stream_of_the_user(sprint_env: SprintEnv) -> None:
    stream = torch.cuda.Stream()
    with sprint_env.scripted_pool(DOUBLER, use_python_segment_order=False) as pool, torch.cuda.stream(stream):
        log_probs = torch.ones(5, 1, 4, device="cuda").requires_grad_()
        sprint_loss(pool, log_probs, [5], ["c/s1"]).backward()
        assert torch.cuda.current_stream() == stream
        assert (log_probs.grad.cpu() == 2).all()


def test_memory_that_cuda_does_not_register_raises_with_a_remedy(
    sprint_env: SprintEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    cudart = torch.cuda.cudart()

    class Refusing:
        """A stand-in for a driver that cannot pin more memory. The error it leaves behind is real."""

        def cudaHostRegister(self, *_: int) -> int:  # noqa: N802
            assert int(cudart.cudaHostRegister(0, 0, 0)) != 0  # the next kernel would report it
            return 2

    monkeypatch.setattr(cuda.torch.cuda, "cudart", Refusing)
    log_probs = torch.zeros(3, 1, 4, device="cuda")
    with sprint_env.scripted_pool(DOUBLER, use_python_segment_order=False) as pool:
        with pytest.raises(shmbridge.ResourceError, match="pin_memory=False"):
            sprint_loss(pool, log_probs, [3], ["c/s1"])
        assert sprint_loss(pool, log_probs, [3], ["c/s1"], pin_memory=False) == 1.5
