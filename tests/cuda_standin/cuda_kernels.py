"""CUDA's kernels, computed by torch on the CPU in the order of their stream.

A pytest plugin for the stand-in. An operation on the device allocates its result at once, as torch does, and
queues a function on the stream that writes the result later. That function holds addresses only: like a
kernel, it keeps no tensor alive.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
import traceback
import warnings
from typing import Any, Callable

import torch

ops = torch.ops.aten
_runtime = ctypes.CDLL(os.environ["LD_PRELOAD"])
_functions: dict[int, Callable[[], object]] = {}
_keys = itertools.count(1)


class Counts(ctypes.Structure):
    """Counts of the stand-in's copies and registrations; see standin.h."""

    _fields_ = [
        (name, ctypes.c_long)
        for name in (
            "to_host_pinned",
            "to_host_pageable",
            "to_device_pinned",
            "to_device_pageable",
            "registered",
            "unregistered",
        )
    ]


counts = Counts.in_dll(_runtime, "standin_count")


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def _call(key: int) -> None:
    """Run a kernel in the stream's thread. If it raises, abort: the thread has no caller."""
    try:
        _functions.pop(key)()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os.abort()


def _launch(function: Callable[[], object]) -> None:
    """Queue `function` on the current stream. As torch does, first raise the thread's last error."""
    if error := _runtime.cudaGetLastError():
        raise RuntimeError(f"CUDA error {error} of an earlier call")
    key = next(_keys)
    _functions[key] = function
    stream = torch.cuda.current_stream().cuda_stream
    _runtime.cudaLaunchHostFunc(ctypes.c_void_p(stream), _call, ctypes.c_void_p(key))


def _map_tensors(value: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_map_tensors(item, function) for item in value)
    if not isinstance(value, torch.Tensor):
        return value
    if value.is_cuda:
        return function(value)
    return value.item() if value.ndim == 0 else value.clone()


def _over(tensor: Any) -> Any:
    """Return a CPU tensor over the memory of a device tensor."""
    storage = tensor.untyped_storage()
    if storage.nbytes() == 0:
        return torch.empty(tensor.shape, dtype=tensor.dtype)
    memory = (ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())
    view = torch.empty(0, dtype=tensor.dtype)
    view.set_(
        torch.frombuffer(memory, dtype=torch.uint8).untyped_storage(),
        tensor.storage_offset(),
        tensor.size(),
        tensor.stride(),
    )
    return view


def _without_memory(tensor: Any) -> Any:
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")


def _on_device(tensor: Any) -> Any:
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="cuda")


def _functional(op: Any) -> Callable[..., Any]:
    """Implement an operation that returns a new tensor."""

    def launch(*arguments: Any, **options: Any) -> Any:
        expected = op(*_map_tensors(arguments, _without_memory), **options)
        result = _on_device(expected)
        view, sources = _over(result), _map_tensors(arguments, _over)
        _launch(lambda: view.copy_(op(*sources, **options)))
        return result

    return launch


def _in_place(op: Any) -> Callable[..., Any]:
    """Implement an operation that changes its first argument."""

    def launch(target: Any, *arguments: Any, **options: Any) -> Any:
        view, sources = _over(target), _map_tensors(arguments, _over)
        _launch(lambda: op(view, *sources, **options))
        return target

    return launch


def _into(op: Any) -> Callable[..., Any]:
    """Implement an operation with out=."""

    def launch(*arguments: Any, out: Any) -> Any:
        view, sources = _over(out), _map_tensors(arguments, _over)
        _launch(lambda: op(*sources, out=view))
        return out

    return launch


def _copy(target: Any, source: Any, non_blocking: bool = False) -> Any:
    """Copy within the device by a kernel, and otherwise by torch's own code, which converts dtypes too."""
    if target.is_cuda and source.is_cuda:
        to, of = _over(target), _over(source)
        _launch(lambda: to.copy_(of))
        return target
    on_the_cpu = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
    return ops.copy_.default.redispatch(on_the_cpu, target, source, non_blocking)


def _fill(target: Any, value: Any) -> Any:
    return target.fill_(value.item())


def _log_softmax(source: Any, axis: int, half_to_float: bool) -> Any:
    """Compute in float32 if half_to_float, which the CPU's operation does not support."""
    return ops._log_softmax.default(source.float() if half_to_float else source, axis, False)


_NEW = (
    "mul.Tensor",
    "div.Tensor",
    "add.Tensor",
    "sum.dim_IntList",
    "where.self",
    "eq.Scalar",
    "all",
    "mm",
    "_log_softmax_backward_data",
)
_IN_PLACE = ("fill_.Scalar", "zero_")
_INTO = ("mul.out",)

library = torch.library.Library("aten", "IMPL")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch warns of replaced kernels
    for names, make in ((_NEW, _functional), (_IN_PLACE, _in_place), (_INTO, _into)):
        for name in names:
            packet, _, overload = name.partition(".")
            library.impl(name, make(getattr(getattr(ops, packet), overload or "default")), "CUDA")
    library.impl("_log_softmax", _functional(_log_softmax), "CUDA")
    library.impl("fill_.Tensor", _fill, "CUDA")
    library.impl("copy_", _copy, "CUDA")
