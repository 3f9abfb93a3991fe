"""RETURNN's names for the options of a pool, translated to ours.

They live on this side of `shmbridge.returnn` because SprintInstancePool takes them as well: in
`from_returnn`, and as deprecated keywords. `shmbridge.returnn` imports this package, and not vice versa.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import shlex
import warnings
from collections.abc import Mapping
from typing import Any, Callable, Optional, TypeVar

from ..errors import OptionError
from .options import unknown_option

RETURNN_NAMES = {
    "sprintExecPath": "sprint_exec_path",
    "sprintConfigStr": "sprint_config",
    "sprintControlConfig": "sprint_control_config",
    "minPythonControlVersion": "min_python_control_version",
    "usePythonSegmentOrder": "use_python_segment_order",
    "numInstances": "num_instances",
}
"""RETURNN's name -> ours."""

_Init = TypeVar("_Init", bound=Callable[..., None])


def accept_returnn_names(init: _Init) -> _Init:
    """Decorate a constructor: take RETURNN's keywords with a DeprecationWarning, name unknown ones."""
    known = [name for name in inspect.signature(init).parameters if name != "self"]

    @functools.wraps(init)
    def wrapper(*args: Any, **options: Any) -> None:
        returnn_names = sorted(options.keys() & RETURNN_NAMES.keys())
        if returnn_names:
            warnings.warn(
                f"{', '.join(returnn_names)}: RETURNN's names are deprecated here; use "
                f"{', '.join(RETURNN_NAMES[name] for name in returnn_names)}, or "
                "SprintInstancePool.from_returnn(sprint_opts) [unknown-option]",
                DeprecationWarning,
                stacklevel=2,
            )
            options = rename(options)
        for name in options:
            if name not in known:
                raise unknown_option(name, known)
        if len(args) < 2 and "sprint_exec_path" not in options:
            raise OptionError("sprint_exec_path is missing; it must be Sprint's executable [unknown-option]")
        init(*args, **options)

    return wrapper  # type: ignore[return-value] # the keywords added are not for type checkers


def rename(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options under our names.

    Raises:
        OptionError: a name is not a str, or an option is given twice, once under each name.
    """
    renamed: dict[str, Any] = {}
    for name, value in options.items():
        if not isinstance(name, str):
            raise unknown_option(name, ())
        ours = RETURNN_NAMES.get(name, name)
        if ours in renamed:
            raise OptionError(
                f"{ours} is given twice, once under RETURNN's name; give it once [unknown-option]"
            )
        renamed[ours] = value
    return renamed


def translate(sprint_opts: Mapping[str, Any], num_instances: Optional[int] = None) -> dict[str, Any]:
    """Return the options of SprintInstancePool for the sprint_opts of a RETURNN config.

    Args:
        sprint_opts: under RETURNN's names; options under our names may be mixed in.
        num_instances: replaces numInstances, which RETURNN's pool takes out; None: nothing to replace.

    Raises:
        OptionError: sprint_opts is not a mapping of str; an option is given twice; or sprintConfigStr is
            not a string, list or callable, or refers to a setting that the RETURNN config does not have.
    """
    if not isinstance(sprint_opts, Mapping):
        raise OptionError(
            f"sprint_opts is {sprint_opts!r}; it must be a mapping, such as a dict [option-value]"
        )
    options = dict(sprint_opts)
    if num_instances is not None and "num_instances" not in options:
        options["numInstances"] = num_instances
    path = options.get("sprintExecPath")
    if isinstance(path, (str, os.PathLike)) and os.path.exists(path):
        # RETURNN takes a bare name for a file in the working directory; ours is looked up in PATH.
        options["sprintExecPath"] = os.path.abspath(path)
    if "sprintConfigStr" in options:
        options["sprintConfigStr"] = _words(options["sprintConfigStr"])
    return rename(options)


def _words(value: Any) -> list[str]:
    """Return Sprint's arguments, evaluated by RETURNN's own function.

    RETURNN splits a string as a shell does, replaces words such as $VARIABLE, and calls callables, also
    within a list. "config:name" is the setting `name` of the RETURNN config. Without RETURNN, only strings
    and lists of strings are possible.
    """
    if isinstance(value, str) and value.startswith("config:"):
        value = _setting(value, value[len("config:") :])
    try:
        evaluate = importlib.import_module("returnn.util.basic").eval_shell_str
    except ModuleNotFoundError as error:
        if error.name != "returnn":
            raise
        return _words_without_returnn(value)
    try:
        words: list[str] = evaluate(value)
    except (AssertionError, ValueError) as error:
        raise OptionError(
            f"sprintConfigStr is {value!r}; RETURNN needs a string, a list of strings, or a callable that "
            f"returns one: {error} [returnn-config]"
        ) from error
    return words


def _words_without_returnn(value: Any) -> list[str]:
    try:
        return shlex.split(value) if isinstance(value, str) else [os.fsdecode(word) for word in value]
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"sprintConfigStr is {value!r}; it must be a string or a list of strings if RETURNN is not "
            f"installed: {error} [returnn-config]"
        ) from None


def _setting(given: str, name: str) -> Any:
    """Return the setting of the loaded RETURNN config."""
    try:
        config = importlib.import_module("returnn.config").get_global_config(raise_exception=False)
    except ModuleNotFoundError as error:
        if error.name != "returnn":
            raise
        config = None
    if config is None:
        raise OptionError(f"sprintConfigStr is {given!r}; RETURNN has no config loaded [returnn-config]")
    if name not in config.typed_dict:
        raise OptionError(
            f"sprintConfigStr is {given!r}; the RETURNN config has no {name!r} [returnn-config]"
        )
    return config.typed_dict[name]
