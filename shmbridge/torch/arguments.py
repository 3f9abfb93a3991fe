"""What the user gives to a loss, checked before anything is computed."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any, Callable, Literal, TypeVar, Union, cast, get_args

import numpy as np
import torch

from ..errors import BatchError, OptionError
from ..parent import SprintInstancePool
from ..ring import Array

Reduction = Literal["none", "sum", "mean"]
SkippedLoss = Literal["zero", "inf", "error"]
SegmentNames = Union[Sequence[str], Sequence[bytes], Array]
Lengths = Union[torch.Tensor, Array, Sequence[int]]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def outside_the_graph(reason: str) -> Callable[[_Function], _Function]:
    """Make each call a graph break under torch.compile. torch's own decorator would lose the types."""

    def decorate(function: _Function) -> _Function:
        return cast(_Function, torch.compiler.disable(function, reason=reason))

    return decorate


def to_array(value: Any) -> Array:
    """Return a tensor on any device, or what NumPy takes, as an array."""
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def check_pool(pool: Any) -> None:
    """Raise OptionError if this is not a pool."""
    if not isinstance(pool, SprintInstancePool):
        raise OptionError(
            f"pool is {pool!r}; it must be the shmbridge.SprintInstancePool to use [loss-input]"
        )


def check_choice(name: str, value: Any, choices: Any) -> None:
    """Raise OptionError if the value is not one of the choices, a Literal type."""
    if value not in get_args(choices):
        allowed = ", ".join(map(repr, get_args(choices)))
        raise OptionError(f"{name} is {value!r}; it must be one of {allowed} [loss-input]")


def check_scale(name: str, value: Any, allow_zero: bool = False) -> None:
    """Raise OptionError if the value is not a positive, finite number (or zero)."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf or (value == 0 and not allow_zero):
        kind = "non-negative" if allow_zero else "positive"
        raise OptionError(f"{name} is {value!r}; it must be a {kind}, finite number [loss-input]")


def check_tensor(log_probs: Any, batch_first: bool) -> None:
    """Raise BatchError if this is not a dense float tensor with three axes."""
    if not isinstance(log_probs, torch.Tensor):
        raise BatchError(
            f"log_probs is of type {type(log_probs).__name__}; it must be a torch.Tensor [loss-input]"
        )
    if log_probs.is_nested or log_probs.layout != torch.strided:
        layout = "nested" if log_probs.is_nested else log_probs.layout
        raise BatchError(
            f"log_probs has layout {layout}; it must be dense: pad it, or call to_dense() [loss-input]"
        )
    if log_probs.ndim != 3:
        axes = "(batch,time,label)" if batch_first else "(time,batch,label)"
        raise BatchError(f"log_probs has shape {tuple(log_probs.shape)}; it must be {axes} [loss-input]")
    if not log_probs.is_floating_point():
        raise BatchError(f"log_probs has dtype {log_probs.dtype}; it must be a float dtype [loss-input]")
