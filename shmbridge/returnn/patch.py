"""Puts our methods into RETURNN's class, and takes them out again.

The class itself stays RETURNN's, with its `get_global_instance`, its lock and its attributes. So it does not
matter who has imported it before, or imports it later, or has an instance of it.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import sys
from typing import Any, Optional

from ..errors import OptionError, UsageError
from ..parent.options import Options
from ..parent.returnn_options import RETURNN_NAMES
from . import pool
from .output import Output

_CLASS = "SprintInstancePool"
# What is used of RETURNN's class, or replaced in it: method -> parameters.
_METHODS = {
    "__init__": ("self", "sprint_opts"),
    "get_global_instance": ("sprint_opts",),
    "get_batch_loss_and_error_signal": ("self", "log_posteriors", "seq_lengths", "tags"),
    "get_automata_for_batch": ("self", "tags"),
    "get_free_instance": ("self",),
}
_ATTRIBUTES = ("lock", "sprint_opts", "max_num_instances")
_REPLACEMENTS = {
    "get_batch_loss_and_error_signal": pool.get_batch_loss_and_error_signal,
    "get_automata_for_batch": pool.get_automata_for_batch,
    "get_free_instance": pool.get_free_instance,
}
# Options that RETURNN has no name for.
_OURS = {field.name for field in dataclasses.fields(Options)} - set(RETURNN_NAMES.values())

_originals: dict[tuple[type, str], Any] = {}
_output = Output()


def install(**options: Any) -> None:
    """Have RETURNN's SprintInstancePool go through shared memory, in this process.

    May be called before or after RETURNN's modules are imported, and again: pools that have not started
    their children yet then take the new options. What Sprint writes goes to the logger shmbridge.sprint;
    where nobody has set up logging, it goes to standard output, as with RETURNN.

    Thread-safety: call it from one thread, while no other uses RETURNN's pools.

    Args:
        options: for all pools, what RETURNN has no name for: ring_size, labels, start_timeout,
            exit_timeout, env (see `shmbridge.parent.options.Options`). A config's sprint_opts may have them
            as well, and win.

    Raises:
        OptionError: an option is unknown or wrong.
        UsageError: RETURNN is not installed, or it is a version whose SprintInstancePool is another one.
    """
    if not options.keys() <= _OURS:
        raise OptionError(
            f"install() does not take {', '.join(sorted(options.keys() - _OURS))}; "
            f"it takes {', '.join(sorted(_OURS))}. All others belong into the config's sprint_opts"
            " [returnn-install]"
        )
    Options.parse({"sprint_exec_path": sys.executable, **options})  # raises what is wrong with them
    pool_class = _pool_class()
    pool.set_defaults(options)
    if (pool_class, "get_automata_for_batch") in _originals:
        return
    for name, replacement in _REPLACEMENTS.items():
        _originals[pool_class, name] = getattr(pool_class, name)
        setattr(pool_class, name, replacement)
    _output.attach()


def uninstall() -> None:
    """Give RETURNN its own methods back, and end the children that work for its pools.

    Thread-safety: as install.
    """
    for (pool_class, name), original in _originals.items():
        setattr(pool_class, name, original)
    _originals.clear()
    pool.set_defaults({})
    pool.close_all()
    _output.detach()


def is_installed() -> bool:
    """Whether RETURNN's SprintInstancePool goes through shared memory now."""
    return bool(_originals)


def _pool_class() -> type:
    """RETURNN's SprintInstancePool, which has what is used of it.

    Raises:
        UsageError: there is none, or it is another.
    """
    try:
        returnn = importlib.import_module("returnn")
    except ModuleNotFoundError as error:
        if error.name != "returnn":
            raise
        raise UsageError(
            "RETURNN is not installed here: pip install 'shmbridge[returnn]' [returnn-install]"
        ) from error
    try:
        module = importlib.import_module("returnn.sprint.error_signals")
    except ModuleNotFoundError as error:
        raise _unlike(returnn, str(error)) from error
    pool_class = getattr(module, _CLASS, None)
    if not isinstance(pool_class, type):
        raise _unlike(returnn, f"{module.__name__} has no class {_CLASS} [returnn-install]")
    for name, expected in _METHODS.items():
        if not callable(getattr(pool_class, name, None)):
            raise _unlike(returnn, f"{_CLASS} has no {name}() [returnn-install]")
        found = tuple(inspect.signature(getattr(pool_class, name)).parameters)
        if found != expected:
            raise _unlike(
                returnn,
                f"{_CLASS}.{name} takes ({', '.join(found)}), not ({', '.join(expected)}) [returnn-install]",
            )
    try:
        instance = pool_class({})  # RETURNN's starts nothing before its first call
    except Exception as error:
        raise _unlike(
            returnn, f"{_CLASS}({{}}) raises {type(error).__name__}: {error} [returnn-install]"
        ) from error
    for name in _ATTRIBUTES:
        if not hasattr(instance, name):
            raise _unlike(returnn, f"an instance of {_CLASS} has no {name} [returnn-install]")
    for needed_from, name in (
        ("returnn.util.basic", "eval_shell_str"),
        ("returnn.config", "get_global_config"),
    ):
        if not hasattr(importlib.import_module(needed_from), name):
            raise _unlike(returnn, f"{needed_from} has no {name} [returnn-install]")
    return pool_class


def _unlike(returnn: Any, problem: str) -> UsageError:
    version: Optional[str] = getattr(returnn, "__version__", None)
    return UsageError(
        f"RETURNN {version or 'of unknown version'} is not as shmbridge.returnn knows it: {problem}. "
        "Nothing was changed. shmbridge.SprintInstancePool does not need RETURNN [returnn-install]"
    )
