"""Writes everything into one folder, and says how a pool is started on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import bliss, configs, feature_cache
from .task import Task

__all__ = ["Files", "write"]

_NOT_IN_A_PATH = set("\"'$()[]<>&#;% \t\n")
"""RASR's config files have comments, references and quotes, and no way to write these signs otherwise."""


@dataclass(frozen=True)
class Files:
    """The files of a task.

    Attributes:
        folder: where they are, an absolute path.
        task: what they are about.
    """

    folder: Path
    task: Task

    def config(self, way: str) -> Path:
        """The config file for one of the four ways: "iterate", "trainer", "loop" or "order"."""
        return self.folder / f"{way}.config"

    def options(self, way: str) -> dict[str, Any]:
        """The options of shmbridge.SprintInstancePool for one of the four ways, but for the executable.

        Args:
            way: "iterate", "trainer", "loop" or "order".
        """
        return {
            "sprint_config": [f"--config={self.config(way)}"],
            "use_python_segment_order": way != "loop",
            "num_labels": len(self.task.phonemes),
        }


def write(folder: Path, task: Task) -> Files:
    """Write corpus, lexicon, feature cache, flow network and config files.

    Args:
        folder: is made where it does not exist; files of the same names are replaced.
        task: what the files are about.

    Raises:
        ValueError: the folder's path cannot be written in RASR's config files.
        OSError: a file cannot be written.
    """
    folder = folder.resolve()
    forbidden = _NOT_IN_A_PATH.intersection(str(folder))
    if forbidden:
        raise ValueError(
            f"the folder {str(folder)!r} cannot be named in RASR's config files, because of "
            f"{' '.join(map(repr, sorted(forbidden)))}: choose another"
        )
    folder.mkdir(parents=True, exist_ok=True)
    cache = folder / "features.cache"
    texts = {
        "corpus.xml": bliss.corpus(task),
        "lexicon.xml": bliss.lexicon(task),
        "features.flow": feature_cache.flow_network(str(cache)),
        "model.config": configs.model(folder),
        **{f"{way}.config": configs.config(task, folder, way) for way in configs.WAYS},
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    with cache.open("wb") as file:
        feature_cache.write_cache(file, task)
    return Files(folder, task)
