"""PythonControl: the calls from Sprint to the object that the user's ``init`` returns."""

from __future__ import annotations

from typing import Any

from shmbridge.errors import OptionError

from . import CALLBACK_VERSION
from .callback import Callback
from .configuration import Configuration
from .console import CriticalError
from .features import Features
from .matrices import to_python
from .python_calls import call, import_module
from .segment_order import visit

__all__ = ["PythonControl"]


class PythonControl:
    """The object that the user's ``init`` returned. All methods raise the errors of python_calls.call.

    Args:
        config: the options of the application.
        sprint_unit: the part of Sprint that makes the calls.

    Raises:
        CriticalError: the module cannot be imported, or ``init`` failed or returned None.
    """

    def __init__(self, config: Configuration, sprint_unit: str) -> None:
        self._config = config
        module = import_module(config, sprint_unit)
        self._callback = Callback(config)
        self._object = call(
            module,
            "init",
            name="Sprint.PythonControl",
            sprint_unit=sprint_unit,
            # In Sprint this is a PyCapsule, which can only be compared.
            reference=object(),
            callback=self._callback,
            version_number=CALLBACK_VERSION,
            config=config.string("pymod-config"),
        )
        if self._object is None:
            raise CriticalError(f"PYTHON ERROR: init() of {sprint_unit} returned None [python-error]")

    def run_control_loop(self) -> None:
        """Run Python's control loop until it returns."""
        self.call("run_control_loop", callback=self._callback)

    def iterate_corpus(self) -> None:
        """Pass each segment of the corpus to Python."""
        extract = self._config.boolean("extract-features", True)
        features = Features(self._config.select("feature-extraction"))
        if extract and not features.has_file:
            raise OptionError(
                "refsprint does not extract features from audio; set --*.extract-features=false, "
                "or name an .npz file with --*.feature-extraction.file [features]"
            )
        if self._config.boolean("extract-alignments", False):
            raise OptionError("refsprint does not extract alignments; remove extract-alignments [features]")
        for number, segment in enumerate(visit(self._config.select("corpus"))):
            matrix = to_python(features.matrix(segment, 0)) if extract else None
            if number == 0:
                input_dim = -1 if matrix is None else matrix.shape[0]
                self.call("init_processing", input_dim=input_dim, output_dim=-1)
            self.call(
                "process_segment",
                name=segment.full_name,
                orthography=segment.orthography.encode(),
                speaker_name=segment.speaker,
                features=matrix,
                alignment=None,
                soft_alignment=None,
            )

    def exit(self) -> None:
        """Call Python's ``exit``."""
        self.call("exit")

    def call(self, method: str, /, **arguments: Any) -> Any:
        """Call a method of the user's object."""
        return call(self._object, method, **arguments)
