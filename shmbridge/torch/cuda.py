"""CUDA: register the rings as pinned memory, and copy between them and the device on a separate stream."""

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
_ALREADY_REGISTERED = 712  # cudaErrorHostMemoryAlreadyRegistered

_pinned: weakref.WeakSet[Memory] = weakref.WeakSet()
_lock = threading.Lock()


def pin(memory: Memory, device: torch.device) -> None:
    """Register a mapping with CUDA, so that devices read and write it directly. Repeated calls do nothing.

    Thread-safety: may be called from any thread.

    Args:
        memory: the mapping. It is unregistered before it is unmapped.
        device: a device that this process uses already; CUDA creates a context on no other device.

    Raises:
        ResourceError: CUDA did not register it.
    """
    with _lock:
        if memory in _pinned:
            return
        # The finalizer comes first, so that Ctrl-C after the next line leaves nothing registered. It holds
        # the pointer, and so the mapping: the address must not be reused before it is unregistered.
        undo = weakref.finalize(memory, _unpin, memory.address, memory.pointer, device, os.getpid())
        code = _register(memory, device)
        if code == _ALREADY_REGISTERED:  # an earlier mapping at this address could not be unregistered
            _unpin(memory.address, memory.pointer, device, os.getpid())
            code = _register(memory, device)
        if code != 0:
            undo.detach()
            if code == _NO_MEMORY:
                advice = "lower ring_size or num_instances, or pass pin_memory=False"
            else:
                advice = (
                    "if it stems from an earlier kernel, CUDA_LAUNCH_BLOCKING=1 shows which; otherwise pass "
                    "pin_memory=False"
                )
            raise ResourceError(
                f"CUDA did not register {memory.size} bytes of shared memory (error {code}); {advice} [cuda]"
            )
        _pinned.add(memory)


def _register(memory: Memory, device: torch.device) -> int:
    """Return CUDA's error code, or 0."""
    with torch.cuda.device(device):
        code = int(torch.cuda.cudart().cudaHostRegister(memory.address, memory.size, _PORTABLE))
    if code != 0:
        _clear_error(device)
    return code


def _unpin(address: int, _pointer: Any, device: torch.device, pid: int) -> None:
    if os.getpid() != pid:  # CUDA does not work in a fork
        return
    with torch.cuda.device(device):  # finalizers run in any thread, and each has its current device
        if int(torch.cuda.cudart().cudaHostUnregister(address)) != 0:
            _clear_error(device)


def _clear_error(device: torch.device) -> None:
    """Launch a kernel that consumes the thread's last error; the next kernel would report it otherwise."""
    with contextlib.suppress(RuntimeError):
        torch.ones(1, device=device)


@functools.cache
def copy_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream on which matrices are copied from and to this device."""
    return torch.cuda.Stream(device)


@contextlib.contextmanager
def side_stream(stream: torch.cuda.Stream) -> Iterator[None]:
    """Work on this stream, ordered after all earlier and before all later work of the current stream."""
    current = torch.cuda.current_stream(stream.device)
    stream.wait_stream(current)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        current.wait_stream(stream)


def copy(target: torch.Tensor, source: torch.Tensor, stream: torch.cuda.Stream) -> None:
    """Copy between device and ring on `stream`, which must be the current one, and wait for the copy.

    Sprint computes meanwhile. With non_blocking=True, torch converts on the device and copies directly
    to or from the ring.
    """
    try:
        target.copy_(source, non_blocking=True)
    finally:  # also after Ctrl-C: the device must not write to space that is reused
        stream.synchronize()
