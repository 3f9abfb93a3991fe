"""The time that the bridge adds to RASR's own criterion: `python -m benchmarks.rasr --nn-trainer PATH`.

Two nn-trainers take turns: one is a pool's, the other makes the same calls with no parent (rasr_alone.py).
Each turn is a round over all segments of a batch; reported are the percentiles of the ratio of neighbouring
turns. Corpus and model come from examples/rasr. A machine that others use as well has nothing to say here.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Callable, Optional

import numpy as np

from examples import rasr
from shmbridge import ShmbridgeError, SprintInstancePool

from .percentiles import summarise
from .rasr_alone import posteriors_of

TARGET = 1.03
_HERE = Path(__file__).resolve().parent
# What the pool sets for its children, so that both have it (docs/architecture.md).
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184"}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Measure and tell; the exit code is 1 after an error."""
    options = _parse(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            task = rasr.make_task(options.labels, options.segments, options.frames)
            _report(*_measure(options, rasr.write(Path(folder), task)))
    except (ShmbridgeError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rasr",
        description="How much longer RASR's CTC criterion takes through the bridge than without a parent.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--nn-trainer", required=True, help="RASR's nn-trainer (examples/rasr/README.md)")
    parser.add_argument("--pythonpath", default=os.environ.get("PYTHONPATH", ""), help="for its Python")
    parser.add_argument("--labels", type=int, default=12000, help="of the posteriors")
    parser.add_argument("--frames", type=int, default=1000, help="of each segment")
    parser.add_argument("--segments", type=int, default=6, help="of a batch")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each")
    return parser.parse_args(arguments)


def _measure(options: argparse.Namespace, files: rasr.Files) -> tuple[list[int], list[int]]:
    """Nanoseconds of each round: through the bridge, alone."""
    env = {**os.environ, **_MALLOC, "PYTHONPATH": options.pythonpath}
    names = [segment.full_name for segment in files.task.segments[: options.segments]]
    frames, labels = options.frames, options.labels
    posteriors = np.stack([posteriors_of(b, frames, labels) for b in range(len(names))], axis=1)
    error_signal = np.zeros_like(posteriors)
    lengths = np.full(len(names), frames)
    through: list[int] = []
    alone: list[int] = []
    with contextlib.ExitStack() as stack:
        alone_round = stack.enter_context(_alone(options, files, names, env))
        pool = stack.enter_context(
            SprintInstancePool(
                sprint_exec_path=options.nn_trainer,
                ring_size=3 * (frames * labels * 4 + 4096),
                env=env,
                **files.options("loop"),
            )
        )
        for number in range(options.rounds + 1):
            start = time.perf_counter_ns()
            pool.get_batch_loss_and_error_signal(posteriors, lengths, names, out=error_signal)
            duration = time.perf_counter_ns() - start
            by_itself = alone_round()
            if number:  # at the first, Sprint reads its corpus and builds its model
                through.append(duration)
                alone.append(by_itself)
            print(f"\rround {number} of {options.rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    per_segment = len(names)
    return [t // per_segment for t in through], [t // per_segment for t in alone]


@contextlib.contextmanager
def _alone(
    options: argparse.Namespace, files: rasr.Files, names: Sequence[str], env: dict[str, str]
) -> Iterator[Callable[[], int]]:
    """A nn-trainer without a parent; yields what runs one round there and returns its nanoseconds."""
    reading, writing = os.pipe()
    config = f"answers:{writing},frames:{options.frames},labels:{options.labels},names:{';'.join(names)}"
    sprint = f"--*.pymod-path={_HERE} --*.pymod-name=rasr_alone --*.pymod-config={config}".split()
    command = [options.nn_trainer, *files.options("loop")["sprint_config"], *sprint]
    with open(reading) as answers, tempfile.TemporaryFile("w+") as output:
        try:
            process = subprocess.Popen(
                [*command, "--*.python-control-enabled=true"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(writing,),
                env=env,
                text=True,
            )
        finally:
            os.close(writing)
        try:
            yield lambda: _ask(process, answers, output)
        finally:
            process.kill()
            process.wait()
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()


def _ask(process: subprocess.Popen[str], answers: IO[str], output: IO[str]) -> int:
    with contextlib.suppress(BrokenPipeError):
        if process.stdin is not None:
            process.stdin.write("\n")
            process.stdin.flush()
    answer = answers.readline()
    if not answer:
        process.wait()
        output.seek(0)
        raise OSError(
            f"the nn-trainer without a parent ended ({process.returncode}):\n{output.read()[-3000:]}"
        )
    return int(answer)


def _report(through: Sequence[int], alone: Sequence[int]) -> None:
    ratios = [t / a for t, a in zip(through, alone)]
    for name, durations in (("through the bridge", through), ("no parent", alone)):
        figures: dict[str, Any] = summarise(durations)
        texts = "  ".join(f"{key} {figures[key] * 1e3:.1f} ms" for key in ("min", "p50", "p90"))
        print(f"{name:20}{texts}  (a segment)")
    p10, p50, p90 = np.percentile(ratios, [10, 50, 90])
    reached = "reached" if p50 <= TARGET else "not reached"
    print(f"{'ratio':20}p10 {p10:.3f}  p50 {p50:.3f}  p90 {p90:.3f}; target {TARGET}: {reached}")


if __name__ == "__main__":
    sys.exit(main())
