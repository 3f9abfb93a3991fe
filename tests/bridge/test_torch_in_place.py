"""Tensors over claims and results share the rings' memory, and CUDA registers it once for each child."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import shmbridge
from support.packages import import_or_skip
from support.sprint_env import SprintEnv

torch = import_or_skip("torch")

from shmbridge.torch import cuda, sprint_loss  # noqa: E402 - requires torch
from shmbridge.torch.cuda import pin  # noqa: E402

DEVICE = torch.device("cuda", 0)

NAME = "kórpus/rec/two"


def is_in_shared_memory(address: int) -> bool:
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < end:
            return "/memfd:shmbridge" in line
    return False


def test_log_softmax_writes_into_the_claim_and_the_error_signal_is_not_copied(sprint_env: SprintEnv) -> None:
    (frames,) = sprint_env.frames([NAME])
    logits = torch.randn(frames, 4)
    with sprint_env.pool("loop") as pool, pool.claim(NAME, frames, 4) as segment:
        posteriors = torch.from_numpy(segment.posteriors)
        address = segment.posteriors.__array_interface__["data"][0]
        assert posteriors.data_ptr() == address
        assert is_in_shared_memory(address)
        torch.log_softmax(logits, -1, out=posteriors)
        assert posteriors.data_ptr() == address
        assert (torch.from_numpy(segment.posteriors) == logits.log_softmax(-1)).all()
        with segment.send().result() as result:
            error_signal = torch.from_numpy(result.error_signal)
            assert error_signal.data_ptr() == result.error_signal.__array_interface__["data"][0]
            assert is_in_shared_memory(error_signal.data_ptr())
            with pytest.raises(BufferError, match="still views it"):
                result.release()
            del error_signal


def test_a_claim_gives_a_network_the_same_gradient_as_the_loss(sprint_env: SprintEnv) -> None:
    (frames,) = sprint_env.frames([NAME])
    network = torch.nn.Linear(3, 4)
    features = torch.randn(frames, 3)
    with sprint_env.pool("loop") as pool:
        loss = sprint_loss(pool, network(features)[:, None], [frames], [NAME], from_logits=True)
        loss.backward()
        expected = [parameter.grad.clone() for parameter in network.parameters()]
        network.zero_grad()
        with pool.claim(NAME, frames, 4) as segment:
            logits = network(features)
            torch.log_softmax(logits.detach(), -1, out=torch.from_numpy(segment.posteriors))
            with segment.send().result() as result:
                logits.backward(torch.from_numpy(result.error_signal))
                assert result.loss == pytest.approx(loss.item())
    for parameter, gradient in zip(network.parameters(), expected):
        torch.testing.assert_close(parameter.grad, gradient)


def test_from_numpy_keeps_the_records_of_a_claim_and_its_result_alive(sprint_env: SprintEnv) -> None:
    body = "init().run_control_loop(callback=callback)"
    with sprint_env.scripted_pool(body, use_python_segment_order=False, ring_size=1 << 20) as pool:
        segment = pool.claim("c/s1", 50, 4)
        kept = torch.from_numpy(segment.posteriors)
        kept.fill_(3)
        result = segment.send().result()
        signal = torch.from_numpy(result.error_signal)
        del segment, result
        for value in range(20):
            with pool.claim("c/s2", 50, 4) as other:
                torch.from_numpy(other.posteriors).fill_(value)
                other.send().result()
        assert (kept == 3).all()
        assert (signal == 6).all()
    assert (kept == 3).all()
    assert (signal == 6).all()


def test_from_logits_writes_the_log_softmax_into_the_ring_without_a_temporary_tensor(
    sprint_env: SprintEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, labels = 2000, 64
    logits = torch.randn(1, frames, labels)
    written = []
    log_softmax = torch.log_softmax

    def watched(*args: Any, **more: Any) -> Any:
        written.append(more["out"].data_ptr())
        return log_softmax(*args, **more)

    monkeypatch.setattr(torch, "log_softmax", watched)
    body = "init().run_control_loop(callback=callback)"
    with sprint_env.scripted_pool(body, use_python_segment_order=False, ring_size=1 << 20) as pool:  # noqa: SIM117
        with torch.profiler.profile(profile_memory=True) as profile:
            sprint_loss(pool, logits, [frames], ["c/s1"], batch_first=True, from_logits=True)
    assert len(written) == 1
    monkeypatch.undo()
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert largest < frames * labels * 4


class RecordingCudart:
    """A stand-in for CUDA's runtime, which needs a device. Checks that registered memory is mapped.

    Args:
        errors: the codes that the first calls of cudaHostRegister return.
    """

    def __init__(self, *errors: int) -> None:
        self.registered: dict[int, int] = {}
        self.unregistered: list[int] = []
        self.errors = list(errors)
        self.tried = 0

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:  # noqa: N802
        self.tried += 1
        if self.errors:
            return self.errors.pop(0)
        assert is_in_shared_memory(address)
        assert is_in_shared_memory(address + size - 1)
        assert address not in self.registered
        self.registered[address] = size
        return 0

    def cudaHostUnregister(self, address: int) -> int:  # noqa: N802
        if address not in self.registered:
            return 713
        assert is_in_shared_memory(address)
        assert is_in_shared_memory(address + self.registered.pop(address) - 1)
        self.unregistered.append(address)
        return 0


def use_instead_of_cuda(cudart: RecordingCudart, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list of devices on which an error was cleared."""
    cleared: list[Any] = []
    monkeypatch.setattr(torch.cuda, "cudart", lambda: cudart)
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    monkeypatch.setattr(cuda, "_clear_error", cleared.append)
    return cleared


@pytest.mark.parametrize(("code", "advice"), [(2, "lower ring_size"), (719, "CUDA_LAUNCH_BLOCKING")])
def test_a_failed_registration_raises_and_can_be_retried(
    sprint_env: SprintEnv, monkeypatch: pytest.MonkeyPatch, code: int, advice: str
) -> None:
    cudart = RecordingCudart(code)
    cleared = use_instead_of_cuda(cudart, monkeypatch)
    with sprint_env.pool("loop") as pool:
        (memory,) = pool.memories
        with pytest.raises(shmbridge.ResourceError, match=rf"\(error {code}\); .*{advice}"):
            pin(memory, DEVICE)
        assert cleared == [DEVICE]  # the next kernel of the network would report the error otherwise
        pin(memory, DEVICE)
        assert list(cudart.registered) == [memory.address]
    del memory, pool
    gc.collect()
    assert cudart.registered == {}
    assert cleared == [DEVICE]


def test_memory_that_is_still_registered_is_unregistered_first(
    sprint_env: SprintEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    cudart = RecordingCudart(712)
    use_instead_of_cuda(cudart, monkeypatch)
    with sprint_env.pool("loop") as pool:
        (memory,) = pool.memories
        cudart.registered[memory.address] = memory.size
        pin(memory, DEVICE)
        assert cudart.unregistered == [memory.address]
        assert cudart.registered == {memory.address: memory.size}


def test_memory_is_registered_once_for_each_child_and_unregistered_before_it_is_unmapped(
    sprint_env: SprintEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    cudart = RecordingCudart()
    use_instead_of_cuda(cudart, monkeypatch)
    pool = sprint_env.pool("loop", num_instances=2)
    for _ in range(2):
        for memory in pool.memories:
            pin(memory, DEVICE)
    addresses = [memory.address for memory in pool.memories]
    assert sorted(cudart.registered) == sorted(addresses)
    claim = pool.claim(NAME, 5, 4)
    kept = torch.from_numpy(claim.posteriors)
    (address,) = [a for a, s in cudart.registered.items() if a <= kept.data_ptr() < a + s]
    del claim, memory
    os.kill(pool.stats().children[addresses.index(address)].pid, signal.SIGKILL)
    sprint_env.wait_until(lambda: len(sprint_env.sprint_pids()) == 1, "the child is gone")
    with contextlib.suppress(shmbridge.PeerGoneError):  # the death may be noticed late
        sprint_env.check(pool, sprint_env.NAMES)
    sprint_env.check(pool, sprint_env.NAMES)  # the child was restarted
    gc.collect()
    for memory in pool.memories:
        pin(memory, DEVICE)
    assert sum(memory.address not in addresses for memory in pool.memories) >= 1
    assert len(cudart.registered) == 2
    assert cudart.unregistered == [address]
    kept.fill_(1)  # the mapping outlives its registration
    del memory, kept
    pool.close()
    del pool
    gc.collect()
    assert cudart.registered == {}
    assert len(cudart.unregistered) == 3


def test_a_fork_does_not_unregister_memory(sprint_env: SprintEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA does not work in a fork, such as a DataLoader's worker: a call would crash there."""
    cudart = RecordingCudart()
    use_instead_of_cuda(cudart, monkeypatch)
    pools = [sprint_env.pool("loop")]
    pin(pools[0].memories[0], DEVICE)
    pid = os.fork()
    if pid == 0:
        pools.clear()
        gc.collect()
        os._exit(len(cudart.unregistered))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    pools.pop().close()
    gc.collect()
    assert len(cudart.unregistered) == 1
