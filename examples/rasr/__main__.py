"""`python -m examples.rasr FOLDER`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from .configs import WAYS
from .files import write
from .lattices import CRITERIA
from .task import make_task


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Write the files and print a summary. Return the exit code: 0, or 1 after an error."""
    options = _parse(arguments)
    try:
        task = make_task(options.labels, options.segments, options.frames, options.seed)
        files = write(options.folder, task, options.arcs)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"{files.folder}: {len(task.phonemes)} labels (silence {task.silence}, blank {task.blank}), "
        f"{len(task.words)} words, {len(task.segments)} segments"
    )
    for way in (*WAYS, *CRITERIA):
        print(f"    --config={files.config(way)}")
    return 0


def _parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.rasr",
        description="Write a corpus, a lexicon and configs, so that RASR's nn-trainer computes CTC, "
        "and its lattice-processor MMI and minimum error.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="output folder")
    parser.add_argument("--labels", type=int, default=8, help="number of labels, with silence and blank")
    parser.add_argument(
        "--segments", type=int, default=8, help="number of segments, without the extra one that is too short"
    )
    parser.add_argument("--frames", type=int, default=40, help="number of frames of the longest segment")
    parser.add_argument("--arcs", type=int, default=20, help="number of arcs of each lattice")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random words and segments")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
