"""Writes all files to one folder, and returns the options of a pool for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shmbridge.lattices import write_htk

from . import bliss, configs, feature_cache, lattices
from .task import Task

__all__ = ["Files", "write"]

_NOT_IN_A_PATH = set("\"'$()[]<>&#;% \t\n")
"""RASR's config files give these characters a special meaning, and have no escapes for them."""


@dataclass(frozen=True)
class Files:
    """The generated files.

    Attributes:
        folder: the absolute path of their folder.
        task: the labels, words and segments.
    """

    folder: Path
    task: Task

    def config(self, way: str) -> Path:
        """Return the config file of a way: "iterate", "trainer", "loop", "order"; "mmi" or "me"."""
        return self.folder / f"{way}.config"

    def options(self, way: str) -> dict[str, Any]:
        """Return the options of shmbridge.SprintInstancePool for a way, without the executable."""
        return {
            "sprint_config": [f"--config={self.config(way)}"],
            "use_python_segment_order": way != "loop",
            "num_labels": len(self.task.phonemes),
        }


def write(folder: Path, task: Task, arcs: int = 20) -> Files:
    """Write corpus, lexicon, feature cache, flow network, lattices, mixture set and config files.

    Args:
        folder: the output folder. It is created if it does not exist; existing files are replaced.
        task: the labels, words and segments.
        arcs: the number of arcs of each lattice.

    Raises:
        ValueError: RASR's config files cannot contain the folder's path.
        OSError: a file cannot be written.
    """
    folder = folder.resolve()
    forbidden = _NOT_IN_A_PATH.intersection(str(folder))
    if forbidden:
        raise ValueError(
            f"the folder is {str(folder)!r}; RASR's config files cannot contain "
            f"{' '.join(map(repr, sorted(forbidden)))}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    cache = folder / "features.cache"
    texts = {
        "corpus.xml": bliss.corpus(task),
        "lexicon.xml": bliss.lexicon(task),
        "features.flow": feature_cache.flow_network(str(cache)),
        "lattice-lexicon.xml": bliss.lexicon(task, optional_silence=True),
        "mixtures.pms": lattices.mixture_set(task),
        "model.config": configs.model(folder),
        **{f"{name}.config": lattices.config(task, folder, name) for name in lattices.CRITERIA},
        **{f"{way}.config": configs.config(task, folder, way) for way in configs.WAYS},
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name, lattice in lattices.make_lattices(task, arcs).items():
        path = folder / "lattices" / f"{name}.lat"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_htk(lattice, path)
    with cache.open("wb") as file:
        feature_cache.write_cache(file, task)
    return Files(folder, task)
