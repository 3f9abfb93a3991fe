"""`python -m examples.rasr FOLDER`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from .configs import WAYS
from .files import write
from .task import make_task


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Write the files and say what there is; the exit code is 1 where that was not possible."""
    options = _parse(arguments)
    try:
        task = make_task(options.labels, options.segments, options.frames, options.seed)
        files = write(options.folder, task)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"{files.folder}: {len(task.phonemes)} labels (silence {task.silence}, blank {task.blank}), "
        f"{len(task.words)} words, {len(task.segments)} segments"
    )
    for way in WAYS:
        print(f"    --config={files.config(way)}")
    return 0


def _parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.rasr",
        description="Write a corpus, a lexicon and configs with which RASR's nn-trainer computes CTC.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where to put the files")
    parser.add_argument("--labels", type=int, default=8, help="silence and blank are among them")
    parser.add_argument("--segments", type=int, default=8, help="and one more that is too short")
    parser.add_argument("--frames", type=int, default=40, help="of the longest segment")
    parser.add_argument("--seed", type=int, default=1, help="of the words and segments, which are made up")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
