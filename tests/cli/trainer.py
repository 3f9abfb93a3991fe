"""A trainer with pools, for tests of `shmbridge stats`: performs the action of each line on standard input.

python trainer.py FOLDER POOLS
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from pathlib import Path

import numpy as np

from shmbridge import SprintInstancePool
from shmbridge.cli.synthetic import PHONEMES, SyntheticCorpus

REFSPRINT = [sys.executable, "-m", "shmbridge.refsprint"]


def main(folder: Path, num_pools: int) -> None:
    """Print a line when ready, and one after each action."""
    corpus = SyntheticCorpus(6, seed=3)
    config = corpus.write(folder)
    pools = [
        SprintInstancePool(
            sprint_exec_path=REFSPRINT,
            sprint_config=config,
            num_instances=2,
            ring_size=1 << 20,
            max_restarts=1,
        )
        for _ in range(num_pools)
    ]
    lengths = np.array([len(utterance.features) for utterance in corpus.utterances])
    names = [utterance.name for utterance in corpus.utterances]
    posteriors = np.full((lengths.max(), len(names), len(PHONEMES)), -np.log(len(PHONEMES)), np.float32)
    held = []
    taken: list[int] = []
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    pids = [child.pid for child in pools[0].stats().children]
    print(json.dumps([os.getpid(), pids, int(lengths[0])]), flush=True)
    for line in sys.stdin:
        action = line.strip()
        if action == "batch":
            pools[0].get_batch_loss_and_error_signal(posteriors, lengths, names)
        elif action == "hold":
            claim = pools[0].claim(names[0], int(lengths[0]), len(PHONEMES))
            claim.posteriors[:] = -1
            held.append(claim.send().result())
        elif action == "fork":
            if os.fork() == 0:
                sys.stdin.read()  # until the test closes it
                os._exit(0)
        elif action == "exhaust":  # no further descriptor can be opened
            highest = max(map(int, os.listdir("/proc/self/fd")))
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
        elif action == "recover":
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            while taken:
                os.close(taken.pop())
        elif action == "score":
            pools[0].close()
            pools[0] = scored_pool(folder, names)
            pools[0].serve_scores(lambda features: np.zeros((len(features), len(PHONEMES))))
        elif action == "close":
            pools[0].close()
        print(json.dumps("done"), flush=True)


def scored_pool(folder: Path, names: list[str]) -> SprintInstancePool:
    """Start a pool whose children request scores."""
    features = folder / "features.npz"
    np.savez(features, **{name: np.ones((2, 5), np.float32) for name in names})
    options = {
        "action": "refsprint-recognition",
        "feature-dimension": 2,
        "python-feature-scorer-output-dimension": len(PHONEMES),
        "corpus.file": folder / "corpus.xml",
        "feature-extraction.file": features,
    }
    return SprintInstancePool(
        sprint_exec_path=REFSPRINT,
        sprint_config=[f"--*.{name}={value}" for name, value in options.items()],
        use_python_segment_order=False,
        num_instances=2,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
