"""Old names of keyword arguments, which still work."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from typing import Any, Callable, TypeVar, cast

_Function = TypeVar("_Function", bound=Callable[..., Any])


def accept_old_names(
    old_names: Mapping[str, str], *, stacklevel: int = 2
) -> Callable[[_Function], _Function]:
    """Rename deprecated keyword arguments, and warn. Type checkers and help() see the new names only.

    Args:
        old_names: old name -> new name.
        stacklevel: the caller to blame; 2 for the caller of the function.
    """

    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def renamed(*args: Any, **options: Any) -> Any:
            if options:
                for old in options.keys() & old_names.keys():
                    new = old_names[old]
                    message = f"the argument {old!r} is deprecated; use {new!r} [deprecated]"
                    warnings.warn(message, DeprecationWarning, stacklevel=stacklevel)
                    options[new] = options.pop(old)
            return function(*args, **options)

        return cast(_Function, renamed)

    return decorate
