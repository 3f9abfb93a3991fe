"""Evaluate the sprint_opts of a RETURNN config as RETURNN does."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

from ..errors import OptionError


def translate(sprint_opts: Mapping[str, Any], num_instances: int) -> dict[str, Any]:
    """Return the options for shmbridge.SprintInstancePool.

    Args:
        sprint_opts: the attribute of RETURNN's pool, which lacks numInstances; options under shmbridge's
            names are kept.
        num_instances: the numInstances that RETURNN's pool removed from them.

    Raises:
        OptionError: sprintConfigStr names no setting of the config, or is not a string, list or callable.
    """
    options = dict(sprint_opts)
    if "num_instances" not in options:
        options["numInstances"] = num_instances
    path = options.get("sprintExecPath")
    if isinstance(path, (str, os.PathLike)) and os.path.exists(path):
        # For RETURNN a bare name is a file in the working directory; shmbridge searches PATH for it.
        options["sprintExecPath"] = os.path.abspath(path)
    if "sprintConfigStr" in options:
        options["sprintConfigStr"] = _evaluate(options["sprintConfigStr"])
    return options


def _evaluate(value: Any) -> list[str]:
    """Return Sprint's arguments, evaluated by RETURNN's own function.

    It splits strings as a shell does, calls callables, replaces $VARIABLE words by the environment's values,
    and accepts lists of all these. "config:name" stands for the setting `name` of the RETURNN config.
    """
    if isinstance(value, str) and value.startswith("config:"):
        value = _setting(value, value[len("config:") :])
    evaluate = importlib.import_module("returnn.util.basic").eval_shell_str
    try:
        words: list[str] = evaluate(value)
    except (AssertionError, ValueError) as error:
        raise OptionError(
            f"sprintConfigStr is {value!r}, which RETURNN cannot evaluate ({error}); it must be a string, a "
            "list of strings, or a callable that returns one [returnn-config]"
        ) from error
    return words


def _setting(given: str, name: str) -> Any:
    """Return a setting of the current RETURNN config."""
    config = importlib.import_module("returnn.config").get_global_config(raise_exception=False)
    if config is None:
        raise OptionError(
            f"sprintConfigStr is {given!r}, but RETURNN has no config; load one first [returnn-config]"
        )
    if name not in config.typed_dict:
        raise OptionError(
            f"sprintConfigStr is {given!r}, but the RETURNN config has no {name!r}; define it there "
            "[returnn-config]"
        )
    return config.typed_dict[name]
