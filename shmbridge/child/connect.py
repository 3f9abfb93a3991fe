"""Sprint's first call, whichever it is, opens the connection to the parent."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Optional, Union

from .. import config as config_strings
from .. import protocol
from ..errors import OptionError
from .callback import Callback
from .control import PythonControl
from .feature_scorer import FeatureScorer
from .output import Verbosity, log_call, warn
from .request import SprintParts

_PYTHON_CONTROL = "Sprint.PythonControl"  # the name that RASR's PythonControl passes to init
_CALLBACK_CONTROL = "NnTrainer.pythonControl"  # the unit without a trainer, whose callback takes posteriors
_SEGMENTWISE_TRAINER = "SegmentwiseNnTrainer"  # the unit of lattice criteria
_FEATURE_SCORER = "PythonFeatureScorer"  # the unit that RASR's feature scorer passes to init


def init(
    name: str,
    reference: object,
    config: str,
    sprint_unit: Optional[str] = None,
    version_number: Optional[int] = None,
    callback: Optional[Callback] = None,
    **_newer: object,
) -> Union[PythonControl, FeatureScorer]:
    """Return the object that a part of Sprint calls from then on.

    RASR's PythonControl and PythonFeatureScorer call this, with all arguments by keyword
    (Nn/PythonControl.cc and Nn/PythonFeatureScorer.cc in RASR).

    Args:
        name: the caller's interface. RASR always passes "Sprint.PythonControl".
        reference: a PyCapsule that distinguishes callers of the same name. Not used.
        config: the value of Sprint's option pymod-config: `key:value,key:value`, written by the parent.
        sprint_unit: the part of Sprint that calls: "NnTrainer.pythonControl", "FeedForwardTrainer",
            "SegmentwiseNnTrainer" or "PythonFeatureScorer".
        version_number: the version of RASR's callback interface, an int.
        callback: RASR's builtin function: `callback(command, **arguments)` (see shmbridge.child.callback).
        _newer: keywords that a newer RASR may add. Not used.

    Returns:
        A FeatureScorer for the unit PythonFeatureScorer; for any other unit, this process's PythonControl.

    Raises:
        OptionError: the config string is malformed or incomplete, or Sprint is older than
            minPythonControlVersion.
        PeerGoneError: the parent ended before the connection was open.
        ProtocolError: the parent runs another version of shmbridge.
        ResourceError: no memory can be mapped, or no thread can be started.
    """
    control = connect(name, config, sprint_unit, version_number, callback)
    return FeatureScorer(control.link) if sprint_unit == _FEATURE_SCORER else control


def connect(
    name: str,
    config: str,
    sprint_unit: Optional[str] = None,
    version_number: Optional[int] = None,
    callback: Optional[Callback] = None,
) -> PythonControl:
    """Open the connection to the parent, unless it is open, and return this process's PythonControl.

    Args:
        name: "Sprint.PythonControl", or the part of shmbridge that Sprint calls.
        config: the config string; shmbridge.config.KEYS lists the keys that count.
        sprint_unit, version_number, callback: see `init`.

    Raises:
        OptionError, PeerGoneError, ProtocolError, ResourceError: see `init`.
    """
    settings = config_strings.parse(config)
    Verbosity.quiet = Verbosity.quiet or config_strings.get_bool(settings, "quiet")
    Verbosity.verbose = Verbosity.verbose or config_strings.get_bool(settings, "verbose")
    log_call(f"init: name {name!r}, sprint_unit {sprint_unit!r}, version_number {version_number!r}")
    c2p_fd = config_strings.get_int(settings, "c2p_fd")
    try:
        p2c_fd = config_strings.get_int(settings, "p2c_fd")
        min_version = config_strings.get_int(settings, "minPythonControlVersion")
        if name == _PYTHON_CONTROL and (version_number or 0) < min_version:
            raise OptionError(
                f"the version of this Sprint's PythonControl is {version_number}; it must be at least "
                f"{min_version} (minPythonControlVersion): use a newer Sprint, or lower the option [versions]"
            )
        if PythonControl.instance is None:
            _warn_of_misspelt_keys(settings)
        control = PythonControl.create(c2p_fd, p2c_fd, settings, version_number)
    except Exception as error:
        # Sprint prints the exception and exits. This message brings it to the parent as well.
        with contextlib.suppress(OSError, OverflowError):  # OverflowError: c2p_fd is too large a number
            protocol.send(c2p_fd, "exception", **protocol.describe_exception(error))
        raise
    if callback is not None:
        control.callback = callback
    if name == _PYTHON_CONTROL and sprint_unit != _FEATURE_SCORER:
        control.parts |= SprintParts.CONTROL
    if sprint_unit == _CALLBACK_CONTROL:
        control.parts |= SprintParts.POSTERIORS
    if sprint_unit == _SEGMENTWISE_TRAINER:
        control.keeps_last_segment = True
    return control


def _warn_of_misspelt_keys(settings: Mapping[str, str]) -> None:
    """Warn of each key that is almost one of ours. Other unknown keys may belong to the user's module."""
    for key in settings:
        hint = config_strings.did_you_mean(key, config_strings.KEYS)
        if hint and key not in config_strings.KEYS:
            warn(f"the config string has the key {key!r}{hint} [control-config]")
