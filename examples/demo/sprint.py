"""The options of the Sprint children: the one place that knows them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Optional, Union

from .data import CORPUS, LEXICON

# What refsprint and RASR's nn-trainer both understand.
_OPTIONS = (
    "--*.action=python-control",
    "--*.python-control-loop-type=iterate-corpus",
    "--*.extract-features=false",
    f"--*.corpus.file={CORPUS}",
    f"--*.lexicon.file={LEXICON}",
    # What comes in are log posteriors, not posteriors.
    "--*.input-in-log-space=true",
)


def executable(path: Optional[str]) -> Union[str, list[str]]:
    """The user's nn-trainer, or refsprint where there is none."""
    return path if path is not None else [sys.executable, "-m", "shmbridge.refsprint"]


def config(more: Sequence[str]) -> list[str]:
    """All options; those of the user come last, so that they win."""
    return [*_OPTIONS, *more]
