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

_pinned: weakref.WeakSet[Memory] = weakref.WeakSet()
_lock = threading.Lock()


def pin(memory: Memory) -> None:
    """Register a mapping with CUDA, once, so that the device reads and writes it without a detour.

    Raises:
        ResourceError: CUDA refuses.
    """
    with _lock:
        if memory in _pinned:
            return
        code = int(torch.cuda.cudart().cudaHostRegister(memory.address, memory.size, _PORTABLE))
        if code != 0:
            raise ResourceError(
                f"CUDA did not register {memory.size} bytes of shared memory (error {code}); "
                "lower the option ring_size or the number of instances, or say pin_memory=False"
            )
        _pinned.add(memory)
    # It has the pointer, and with it the mapping: nothing else may be mapped there before it is unregistered.
    weakref.finalize(memory, _unpin, memory.address, memory.pointer, os.getpid())


def _unpin(address: int, _pointer: Any, pid: int) -> None:
    if os.getpid() == pid:  # a fork has no part in CUDA
        torch.cuda.cudart().cudaHostUnregister(address)


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
