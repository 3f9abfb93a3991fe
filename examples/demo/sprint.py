"""The executable and the options of the Sprint children."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

from .data import CORPUS, LEXICON, Labels

ACOUSTIC_SCALE = 0.5
"""Of the paths of a lattice: less than 1, so that paths other than the best one count."""

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


def lattice_executable(path: Optional[str]) -> Union[str, list[str]]:
    """Return the user's lattice-processor, or ref-lattice-processor by default."""
    return path if path is not None else [sys.executable, "-m", "shmbridge.refsprint.lattice_processor"]


def lattice_config(config_file: Path, labels: Labels) -> list[str]:
    """Return all options of minimum error. The blank does not count as a phone."""
    return [
        f"--config={config_file}",
        f"--*.combination.total.scales={ACOUSTIC_SCALE} 0.0 1.0",
        f"--*.approximate-phone-accuracy-lattice-builder.short-pauses-lemmata={labels.symbols[labels.blank]}",
    ]
