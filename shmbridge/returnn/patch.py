"""Replace methods of RETURNN's SprintInstancePool, and restore them.

The class remains RETURNN's, with its `get_global_instance`, lock and attributes. It may therefore be imported
or instantiated before or after install().
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Mapping
from typing import Any, NoReturn, Optional

from ..errors import OptionError, UsageError
from ..parent.options import Options, Unnormalized
from ..parent.returnn_options import RETURNN_NAMES
from . import pool
from .output import StdoutHandler

# The methods of RETURNN's class that are used or replaced, and their parameters.
_METHODS = {
    "__init__": ("self", "sprint_opts"),
    "get_global_instance": ("sprint_opts",),
    "get_batch_loss_and_error_signal": ("self", "log_posteriors", "seq_lengths", "tags"),
    "get_automata_for_batch": ("self", "tags"),
    "get_free_instance": ("self",),
}
_REPLACEMENTS = {
    "get_batch_loss_and_error_signal": pool.get_batch_loss_and_error_signal,
    "get_automata_for_batch": pool.get_automata_for_batch,
    "get_free_instance": pool.get_free_instance,
}

_originals: dict[tuple[type, str], Any] = {}
_output = StdoutHandler()


def install(
    *,
    ring_size: int = Options.ring_size,
    num_labels: Optional[int] = Options.num_labels,
    max_restarts: int = Options.max_restarts,
    skip_fatal_segments: bool = Options.skip_fatal_segments,
    max_batches_in_flight: int = Options.max_batches_in_flight,
    unnormalized_posteriors: Unnormalized = Options.unnormalized_posteriors,
    allow_zero_error_signal: bool = Options.allow_zero_error_signal,
    skip_warning_share: float = Options.skip_warning_share,
    segment_timeout: Optional[float] = Options.segment_timeout,
    start_timeout: float = Options.start_timeout,
    exit_timeout: float = Options.exit_timeout,
    env: Optional[Mapping[str, str]] = Options.env,
    **unknown: NoReturn,
) -> None:
    """Make RETURNN's SprintInstancePool use shared memory, in this process.

    May be called before or after RETURNN's modules are imported. A further call changes the options of the
    pools that have not started their children yet. Sprint's output goes to the logger shmbridge.sprint, and
    to standard output if logging is not configured, as with RETURNN.

    Thread-safety: no other thread may use RETURNN's pools during the call.

    Args:
        ring_size: this option, and those below, are as in shmbridge.SprintInstancePool, for all
            pools. A config's sprint_opts may set them too, and takes precedence.
        num_labels, max_restarts, skip_fatal_segments, unnormalized_posteriors: see ring_size.
        max_batches_in_flight, allow_zero_error_signal, skip_warning_share: see ring_size.
        segment_timeout, start_timeout, exit_timeout, env: see ring_size.
        unknown: none; RETURNN's own options belong in sprint_opts.

    Raises:
        OptionError: an option is unknown or has a wrong value.
        UsageError: RETURNN is not installed, or its version is incompatible.
    """
    options = dict(locals())  # first of all: the parameters are the only local variables
    for name in options.pop("unknown"):
        close = difflib.get_close_matches(name, options, n=1)
        advice = f"did you mean {close[0]!r}?" if close else f"its options are {', '.join(options)}"
        if name in RETURNN_NAMES or name in RETURNN_NAMES.values():
            advice = "set it in the config's sprint_opts"
        raise OptionError(f"install() has no option {name!r}; {advice} [returnn-install]")
    Options.parse({"sprint_exec_path": sys.executable, **options})  # raises if a value is wrong
    pool_class = _import_pool_class()
    pool.set_defaults(options)
    if (pool_class, "get_automata_for_batch") in _originals:
        return
    for name, replacement in _REPLACEMENTS.items():
        _originals[pool_class, name] = getattr(pool_class, name)
        setattr(pool_class, name, replacement)
    _output.attach()


def uninstall() -> None:
    """Restore RETURNN's own methods, and end the children that work for its pools.

    Thread-safety: as install.
    """
    for (pool_class, name), original in _originals.items():
        setattr(pool_class, name, original)
    _originals.clear()
    pool.set_defaults({})
    pool.close_all()
    _output.detach()


def is_installed() -> bool:
    """Return whether RETURNN's SprintInstancePool uses shared memory."""
    return bool(_originals)


def _import_pool_class() -> Any:
    """Import RETURNN's SprintInstancePool.

    Raises:
        UsageError: RETURNN is not installed, or it lacks something that shmbridge.returnn uses.
    """
    try:
        returnn = importlib.import_module("returnn")
    except ModuleNotFoundError as error:
        if error.name != "returnn":
            raise
        raise UsageError(
            "RETURNN is not installed; run pip install returnn dm-tree [returnn-install]"
        ) from error
    try:
        pool_class = importlib.import_module("returnn.sprint.error_signals").SprintInstancePool
        signatures = {n: tuple(inspect.signature(getattr(pool_class, n)).parameters) for n in _METHODS}
        for holder, names in (
            (pool_class({}), ("lock", "sprint_opts", "max_num_instances")),  # starts no child yet
            (importlib.import_module("returnn.util.basic"), ("eval_shell_str",)),
            (importlib.import_module("returnn.config"), ("get_global_config",)),
        ):
            for name in names:
                getattr(holder, name)
    except Exception as error:
        raise incompatible(returnn, f"{type(error).__name__}: {error}") from error
    for name, expected in _METHODS.items():
        if signatures[name] != expected:
            found, wanted = ", ".join(signatures[name]), ", ".join(expected)
            raise incompatible(returnn, f"{name}({found}) != {name}({wanted})")
    return pool_class


def incompatible(returnn: Any, reason: str) -> UsageError:
    """Return the error for a RETURNN whose SprintInstancePool differs from the expected one."""
    version = getattr(returnn, "__version__", "of unknown version")
    return UsageError(
        f"RETURNN {version} is incompatible with shmbridge.returnn ({reason}) and was left unchanged; use "
        "shmbridge.SprintInstancePool, which does not need RETURNN [returnn-install]"
    )
