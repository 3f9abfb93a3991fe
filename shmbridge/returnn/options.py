"""The sprint_opts of a RETURNN config, as RETURNN means them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

from ..errors import OptionError


def translate(sprint_opts: Mapping[str, Any], num_instances: int) -> dict[str, Any]:
    """Options of shmbridge.SprintInstancePool.

    Args:
        sprint_opts: as RETURNN's pool has them, which has taken numInstances out; they may have our
            own options as well.
        num_instances: what it has taken out.

    Raises:
        OptionError: sprintConfigStr names nothing in the config, or is no string, list or callable.
    """
    options = dict(sprint_opts)
    if "num_instances" not in options:
        options["numInstances"] = num_instances
    path = options.get("sprintExecPath")
    if isinstance(path, (str, os.PathLike)) and os.path.exists(path):
        # A bare name is a file in the working directory to RETURNN; ours looks it up in PATH.
        options["sprintExecPath"] = os.path.abspath(path)
    if "sprintConfigStr" in options:
        options["sprintConfigStr"] = _words(options["sprintConfigStr"])
    return options


def _words(value: Any) -> list[str]:
    """Sprint's arguments: what stands in the config is evaluated by RETURNN's own function.

    That is: a string as a shell would split it, or a list; words such as $VARIABLE are looked up in the
    environment; callables, also in the list, are called; "config:name" is the setting `name` of the config.
    """
    if isinstance(value, str) and value.startswith("config:"):
        value = _setting(value, value[len("config:") :])
    evaluate = importlib.import_module("returnn.util.basic").eval_shell_str
    try:
        words: list[str] = evaluate(value)
    except (AssertionError, ValueError) as error:
        raise OptionError(
            f"sprintConfigStr is {value!r}, which RETURNN cannot take for a string, a list of strings, or a "
            f"callable that returns one: {error} [returnn-config]"
        ) from error
    return words


def _setting(given: str, name: str) -> Any:
    """The setting of the RETURNN config that is loaded."""
    config = importlib.import_module("returnn.config").get_global_config(raise_exception=False)
    if config is None:
        raise OptionError(f"sprintConfigStr is {given!r}, but RETURNN has no config loaded [returnn-config]")
    if name not in config.typed_dict:
        raise OptionError(
            f"sprintConfigStr is {given!r}, but the RETURNN config has no {name!r} [returnn-config]"
        )
    return config.typed_dict[name]
