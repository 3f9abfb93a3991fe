"""The executable and the options of the Sprint children."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Optional, Union

from .data import CORPUS, LEXICON

# Options of both refsprint and RASR's nn-trainer.
_OPTIONS = (
    "--*.action=python-control",
    "--*.python-control-loop-type=iterate-corpus",
    "--*.extract-features=false",
    f"--*.corpus.file={CORPUS}",
    f"--*.lexicon.file={LEXICON}",
    # The trainer sends log posteriors.
    "--*.input-in-log-space=true",
)


def executable(path: Optional[str]) -> Union[str, list[str]]:
    """Return the user's nn-trainer, or refsprint by default."""
    return path if path is not None else [sys.executable, "-m", "shmbridge.refsprint"]


def config(more: Sequence[str]) -> list[str]:
    """Return all options. The user's options come last and take precedence."""
    return [*_OPTIONS, *more]
