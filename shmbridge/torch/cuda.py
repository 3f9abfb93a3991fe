"""CUDA: the rings as pinned memory, and copies between them and the device on a stream of their own."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import torch

from ..errors import ResourceError
from ..memory import Memory

_PORTABLE = 1  # cudaHostRegisterPortable: pinned for every device of this process
_NO_MEMORY = 2  # cudaErrorMemoryAllocation
_REGISTERED_ALREADY = 712  # cudaErrorHostMemoryAlreadyRegistered

_pinned: weakref.WeakSet[Memory] = weakref.WeakSet()
_lock = threading.Lock()


def pin(memory: Memory, device: torch.device) -> None:
    """Register a mapping with CUDA, once, so that the devices read and write it without a detour.

    Thread-safety: may be called from any thread.

    Args:
        memory: to register; it is unregistered before it is unmapped.
        device: one that this process uses: on no other is anything begun.

    Raises:
        ResourceError: CUDA refuses.
    """
    with _lock:
        if memory in _pinned:
            return
        # First this: a Ctrl-C behind the next line must leave nothing registered. It has the pointer, and so
        # the mapping: nothing else may be mapped there before it is unregistered.
        undo = weakref.finalize(memory, _unpin, memory.address, memory.pointer, device, os.getpid())
        code = _register(memory, device)
        if code == _REGISTERED_ALREADY:  # what was mapped there before could not be unregistered
            _unpin(memory.address, memory.pointer, device, os.getpid())
            code = _register(memory, device)
        if code != 0:
            undo.detach()
            if code == _NO_MEMORY:
                advice = "lower the option ring_size or the number of instances, or say pin_memory=False"
            else:
                advice = (
                    "it may be of work that was queued earlier (CUDA_LAUNCH_BLOCKING=1 shows where); else "
                    "say pin_memory=False"
                )
            raise ResourceError(
                f"CUDA did not register {memory.size} bytes of shared memory (error {code}); {advice} [cuda]"
            )
        _pinned.add(memory)


def _register(memory: Memory, device: torch.device) -> int:
    """CUDA's error, or 0."""
    with torch.cuda.device(device):
        code = int(torch.cuda.cudart().cudaHostRegister(memory.address, memory.size, _PORTABLE))
    if code != 0:
        _forget_error(device)
    return code


def _unpin(address: int, _pointer: Any, device: torch.device, pid: int) -> None:
    if os.getpid() != pid:  # a fork has no part in CUDA
        return
    with torch.cuda.device(device):  # this may be any thread
        if int(torch.cuda.cudart().cudaHostUnregister(address)) != 0:
            _forget_error(device)


def _forget_error(device: torch.device) -> None:
    """CUDA keeps a thread's last error and tells it to the next kernel, whosever that is: let it be ours."""
    with contextlib.suppress(RuntimeError):
        torch.ones(1, device=device)


@functools.cache
def copy_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream on which this device's matrices are copied."""
    return torch.cuda.Stream(device)


@contextlib.contextmanager
def side_stream(stream: torch.cuda.Stream) -> Iterator[None]:
    """Work on this stream, after what was given to the current one, and before what will be given to it."""
    current = torch.cuda.current_stream(stream.device)
    stream.wait_stream(current)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        current.wait_stream(stream)


def copy(target: torch.Tensor, source: torch.Tensor, stream: torch.cuda.Stream) -> None:
    """Copy between device and ring, on the stream, which is the current one; return when it is done.

    Sprint computes meanwhile. With non_blocking, torch converts on the device, and straight into the ring.
    """
    try:
        target.copy_(source, non_blocking=True)
    finally:  # Ctrl-C included: nobody else may get the place while the device writes to it
        stream.synchronize()
