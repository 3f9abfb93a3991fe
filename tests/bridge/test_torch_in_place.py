"""Tensors over claims and results: what the network writes is what Sprint reads, and the other way round."""

from __future__ import annotations

import contextlib
import gc
import os
from pathlib import Path
from typing import Any

import pytest

import shmbridge
from support.internals import children
from support.packages import import_or_skip

torch = import_or_skip("torch")

from shmbridge.torch import (  # noqa: E402 - only where there is torch
    cuda,
    error_signal_of,
    posteriors_of,
    sprint_loss,
)
from shmbridge.torch.cuda import pin  # noqa: E402

DEVICE = torch.device("cuda", 0)

NAME = "kórpus/rec/two"


def is_in_shared_memory(address: int) -> bool:
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < end:
            return "/dev/shm/" in line
    return False


def test_the_tensor_lies_where_the_claim_lies_and_log_softmax_writes_there(sprint_env: Any) -> None:
    (frames,) = sprint_env.frames([NAME])
    logits = torch.randn(frames, 4)
    with sprint_env.pool("loop") as pool, pool.claim(NAME, frames, 4) as segment:
        posteriors = posteriors_of(segment)
        address = segment.posteriors.__array_interface__["data"][0]
        assert posteriors.data_ptr() == address
        assert is_in_shared_memory(address)
        torch.log_softmax(logits, -1, out=posteriors)
        assert posteriors.data_ptr() == address
        assert (torch.from_numpy(segment.posteriors) == logits.log_softmax(-1)).all()
        with segment.send().result() as result:
            error_signal = error_signal_of(result)
            assert error_signal.data_ptr() == result.error_signal.__array_interface__["data"][0]
            assert is_in_shared_memory(error_signal.data_ptr())
            with pytest.raises(BufferError, match="still views it"):
                result.release()
            del error_signal
        with pytest.raises(shmbridge.UsageError, match="already sent"):
            posteriors_of(segment)


def test_the_in_place_way_trains_a_network_as_the_loss_does(sprint_env: Any) -> None:
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
            torch.log_softmax(logits.detach(), -1, out=posteriors_of(segment))
            with segment.send().result() as result:
                logits.backward(error_signal_of(result))
                assert result.loss == pytest.approx(loss.item())
    for parameter, gradient in zip(network.parameters(), expected):
        torch.testing.assert_close(parameter.grad, gradient)


def test_a_tensor_that_is_kept_shows_what_was_sent(sprint_env: Any) -> None:
    body = "init().run_control_loop(callback=callback)"
    with sprint_env.scripted_pool(body, use_python_segment_order=False, ring_size=1 << 20) as pool:
        segment = pool.claim("c/s1", 50, 4)
        kept = posteriors_of(segment)
        kept.fill_(3)
        result = segment.send().result()
        signal = error_signal_of(result)
        del segment, result
        for value in range(20):
            with pool.claim("c/s2", 50, 4) as other:
                posteriors_of(other).fill_(value)
                other.send().result()
        assert (kept == 3).all()
        assert (signal == 6).all()
    assert (kept == 3).all()
    assert (signal == 6).all()


def test_the_error_signal_of_a_discarded_segment_is_zero(sprint_env: Any) -> None:
    (frames,) = sprint_env.frames([sprint_env.SHORT])
    with sprint_env.pool("loop") as pool, pool.claim(sprint_env.SHORT, frames, 4) as segment:
        posteriors_of(segment).fill_(-1)
        with segment.send().result() as result:
            assert result.skipped
            assert (error_signal_of(result) == torch.zeros(frames, 4)).all()


def test_from_logits_the_softmax_is_written_into_the_ring(sprint_env: Any, monkeypatch: Any) -> None:
    """No tensor of the size of the posteriors is made on the way."""
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
    """Stands in for CUDA's runtime, which needs a device: checks that what is registered is mapped.

    Args:
        errors: with which it answers what it is asked first to register.
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


def use_instead_of_cuda(cudart: RecordingCudart, monkeypatch: Any) -> list[Any]:
    """Returns a list of the devices that were used for nothing but to forget an error."""
    forgotten: list[Any] = []
    monkeypatch.setattr(torch.cuda, "cudart", lambda: cudart)
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    monkeypatch.setattr(cuda, "_forget_error", forgotten.append)
    return forgotten


@pytest.mark.parametrize(
    ("code", "advice"), [(2, "lower the option ring_size"), (719, "CUDA_LAUNCH_BLOCKING")]
)
def test_what_cuda_refuses_is_an_error_and_can_be_tried_again(
    sprint_env: Any, monkeypatch: Any, code: int, advice: str
) -> None:
    cudart = RecordingCudart(code)
    forgotten = use_instead_of_cuda(cudart, monkeypatch)
    with sprint_env.pool("loop") as pool:
        (memory,) = pool.memories
        with pytest.raises(shmbridge.ResourceError, match=rf"\(error {code}\); .*{advice}"):
            pin(memory, DEVICE)
        assert forgotten == [DEVICE]  # else the next kernel of the network would have it
        pin(memory, DEVICE)
        assert list(cudart.registered) == [memory.address]
    del memory, pool
    gc.collect()
    assert cudart.registered == {}
    assert forgotten == [DEVICE]


def test_memory_that_was_left_registered_is_registered_anew(sprint_env: Any, monkeypatch: Any) -> None:
    cudart = RecordingCudart(712)
    use_instead_of_cuda(cudart, monkeypatch)
    with sprint_env.pool("loop") as pool:
        (memory,) = pool.memories
        cudart.registered[memory.address] = memory.size
        pin(memory, DEVICE)
        assert cudart.unregistered == [memory.address]
        assert cudart.registered == {memory.address: memory.size}


def test_the_memory_is_registered_once_for_each_child_and_unregistered_before_it_is_unmapped(
    sprint_env: Any, monkeypatch: Any
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
    kept = posteriors_of(claim)
    (address,) = [a for a, s in cudart.registered.items() if a <= kept.data_ptr() < a + s]
    del claim, memory
    children(pool)[addresses.index(address)].kill()
    sprint_env.wait_until(lambda: len(sprint_env.sprint_pids()) == 1, "the child is gone")
    with contextlib.suppress(shmbridge.PeerGoneError):
        sprint_env.check(
            pool, sprint_env.NAMES
        )  # an error only where the death was noticed after a segment was sent
    sprint_env.check(pool, sprint_env.NAMES)  # the child was started anew
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


def test_a_fork_unregisters_nothing(sprint_env: Any, monkeypatch: Any) -> None:
    """A worker of a DataLoader, say, in which CUDA does not work: it would crash there."""
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
