"""PythonControl: Sprint's side of the object that the user's ``init`` returns."""

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
    """The object that the user's ``init`` returned, and the calls that Sprint makes to it.

    Args:
        config: the options of the application.
        sprint_unit: which part of Sprint this is.

    Errors:
        CriticalError: the module cannot be imported, ``init`` failed or returned None.
    """

    def __init__(self, config: Configuration, sprint_unit: str) -> None:
        self._config = config
        module = import_module(config.string("pymod-path"), config.string("pymod-name"), sprint_unit)
        self._callback = Callback(config)
        self._object = call(
            module,
            "init",
            name="Sprint.PythonControl",
            sprint_unit=sprint_unit,
            # In Sprint a PyCapsule: nothing can be done with it but to compare it.
            reference=object(),
            callback=self._callback,
            version_number=CALLBACK_VERSION,
            config=config.string("pymod-config"),
        )
        if self._object is None:
            raise CriticalError(f"PYTHON ERROR: init() of {sprint_unit} returned None [python-error]")

    def run_control_loop(self) -> None:
        """Let Python do what it wants, until it returns."""
        self.call("run_control_loop", callback=self._callback)

    def iterate_corpus(self) -> None:
        """Show Python each segment of the corpus."""
        extract = self._config.boolean("extract-features", True)
        features = Features(self._config.select("feature-extraction"))
        if extract and not features.has_file:
            raise OptionError(
                "refsprint extracts no features from audio: set --*.extract-features=false, "
                "or name an .npz file with --*.feature-extraction.file [features]"
            )
        if self._config.boolean("extract-alignments", False):
            raise OptionError("refsprint extracts no alignments: leave out extract-alignments [features]")
        first = True
        for segment in visit(self._config.select("corpus")):
            matrix = to_python(features.matrix(segment, 0)) if extract else None
            if first:
                input_dim = -1 if matrix is None else matrix.shape[0]
                self.call("init_processing", input_dim=input_dim, output_dim=-1)
                first = False
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
        """Tell Python that this is the end."""
        self.call("exit")

    def call(self, method: str, /, **arguments: Any) -> Any:
        """Call a method of the user's object. Errors as python_calls.call."""
        return call(self._object, method, **arguments)
