"""An nn-trainer that makes the same calls without a parent: the reference of the other ways."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import IO

import numpy as np

from .way import Round, Way

_HERE = Path(__file__).resolve().parent


class Alone(Way):
    """The nn-trainer runs in_sprint.py in the control loop. A line on its standard input starts a round."""

    config = "loop"

    def _start(self) -> None:
        work = self.work
        reading, writing = os.pipe()
        self._answers: IO[str] = self.resources.enter_context(open(reading))  # noqa: SIM115 - `resources` closes it
        self._output: IO[str] = self.resources.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115
        config = f"answers:{writing},frames:{work.frames},labels:{work.labels},names:{';'.join(work.names)}"
        sprint = [
            f"--*.pymod-path={_HERE}",
            "--*.pymod-name=in_sprint",
            f"--*.pymod-config={config}",
            "--*.python-control-enabled=true",
            *self._segment_order(config),
        ]
        try:
            self._process = subprocess.Popen(
                [work.nn_trainer, *work.files.options(self.config)["sprint_config"], *sprint],
                stdin=subprocess.PIPE,
                stdout=self._output,
                stderr=self._output,
                pass_fds=(writing,),
                env=work.whole_env,
                text=True,
            )
        finally:
            os.close(writing)
        self.resources.callback(self._end)

    def _segment_order(self, config: str) -> list[str]:
        return []

    def round(self) -> Round:
        """Compute the batch once.

        Raises:
            OSError: the nn-trainer ended.
        """
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin is not None:
                self._process.stdin.write("\n")
                self._process.stdin.flush()
        line = self._answers.readline()
        if not line:
            self._process.wait()
            self._output.seek(0)
            raise OSError(
                f"the nn-trainer without a parent ended ({self._process.returncode}):\n"
                f"{self._output.read()[-3000:]}"
            )
        answer = json.loads(line)
        return Round(answer["nanoseconds"], np.array(answer["losses"]), None)

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


class AloneTrainer(Alone):
    """The same in Sprint's own trainer, with a Python layer as its network."""

    config = "trainer"

    def _segment_order(self, config: str) -> list[str]:
        return [
            "--*.python-segment-order=true",
            f"--*.python-segment-order-pymod-path={_HERE}",
            "--*.python-segment-order-pymod-name=in_sprint",
            f"--*.python-segment-order-config={config}",
            "--*.python-segment-order-allow-copy=false",
        ]
