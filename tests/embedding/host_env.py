"""Pools whose Sprint is the host, and their expected answers."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import build_host
import numpy as np

from support.ctc import enumerate_ctc
from support.sprint_env import SAFETY_NET, SprintEnv

# Full segment name -> orthography, frames. In the host, each byte of the orthography is a label.
SEGMENTS = {
    "corpus/rec/one": ("a", 3),
    "corpus/rec/two": ("ab", 5),
    "corpus/rec/größe": ("ü b", 6),
    "corpus/rec/twice": ("aa", 4),
    "corpus/rec/words": ("a b d", 6),
    "corpus/rec/last": ("dad", 5),
}
SHORT = "corpus/rec/short"
WAYS = {
    "iterate": (
        "action=python-control",
        "python-control-loop-type=iterate-corpus",
        "extract-features=false",
    ),
    "trainer": ("action=supervised-segmentwise-training",),
    "trainer, layer on top": ("action=supervised-segmentwise-training", "host.python-layer=top"),
    "segmentwise trainer": (
        "action=supervised-segmentwise-training",
        "host.notifications=segmentwise",
    ),
    "loop": ("action=python-control", "python-control-loop-type=python-control-loop"),
    "score": ("action=score",),
}


class HostSprintEnv(SprintEnv):
    """Pools of hosts, and their expected answers."""

    LABELS = 8
    BLANK = 7
    NAMES: ClassVar[list[str]] = list(SEGMENTS)
    SHORT = SHORT
    WAYS = WAYS

    def __init__(self, path: Path, program: Path) -> None:
        self.program = program
        self.notes_path = path / "notes.jsonl"
        super().__init__(path)
        self.segments = {**SEGMENTS, SHORT: ("abababab", 2)}
        self.write_corpus()
        paths = [build_host.python_path(), self.env["PYTHONPATH"]]
        self.env["PYTHONPATH"] = os.pathsep.join(paths)

    def write_corpus(self, encoding: str = "utf-8") -> Path:
        path: Path = self.path / "corpus.tsv"
        lines = [
            f"{name}\t{frames}\t\t{orthography} \n" for name, (orthography, frames) in self.segments.items()
        ]
        path.write_text("".join(lines), encoding=encoding)
        return path

    def options(self, way: str, *sprint: str, **more: Any) -> dict[str, Any]:
        words = (
            f"corpus.file={self.path}/corpus.tsv",
            f"python-home={build_host.python_home()}",
            f"host.labels={self.LABELS}",
            f"host.notes={self.notes_path}",
            *WAYS[way],
            *sprint,
        )
        return {
            "sprint_exec_path": str(self.program),
            "sprint_config": [f"--*.{word}" for word in words],
            "use_python_segment_order": way not in ("loop", "score"),
            "ring_size": 1 << 20,
            "exit_timeout": SAFETY_NET,
            "env": self.env,
            **more,
        }

    def notes(self) -> list[dict[str, Any]]:
        """Return the notes that the host has written so far."""
        return [json.loads(line) for line in self.notes_path.read_text(encoding="utf-8").splitlines()]

    def posteriors(self, lengths: Sequence[int], seed: int = 0, labels: int = LABELS) -> Any:
        return super().posteriors(lengths, seed, labels)

    def expected(self, posteriors: Any, lengths: Sequence[int], names: Sequence[str]) -> tuple[Any, Any]:
        loss = np.empty(len(names))
        error_signal = np.zeros(posteriors.shape)
        for b, (length, orthography) in enumerate(zip(lengths, self.orthographies(names))):
            labels = tuple(byte % (self.LABELS - 2) for byte in orthography.encode() if byte != ord(" "))
            enumerated = enumerate_ctc(posteriors[:length, b], {labels: 1.0}, self.BLANK)
            loss[b], error_signal[:length, b] = enumerated.loss, enumerated.error_signal
        return loss, error_signal

    @staticmethod
    def exit_of(pid: int) -> Any:
        """Return a descriptor that becomes readable when the process ends."""
        return os.pidfd_open(pid)
