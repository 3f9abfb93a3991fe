"""Call RETURNN's SprintInstancePool, with or without shmbridge.returnn, and store the results.

    python run_returnn.py JOBS.json RESULTS.npz

A separate program, because RETURNN's pipes need a numpy older than 2.3, and because RETURNN leaves children,
exit handlers and monkey patches behind. JOBS has `shmbridge` (bool) and `jobs`: a list of
{"sprint_opts": …, "calls": [["loss", posteriors, lengths, tags] or ["automata", tags], …]}.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np


def main(jobs_path: str, results_path: str) -> None:
    with open(jobs_path, encoding="utf-8") as file:
        task = json.load(file)
    if task["shmbridge"]:
        import shmbridge.returnn

        shmbridge.returnn.install(ring_size=1 << 20)
    from returnn.sprint.error_signals import SprintInstancePool

    results: dict[str, Any] = {}
    for j, job in enumerate(task["jobs"]):
        pool = SprintInstancePool.get_global_instance(job["sprint_opts"])
        assert SprintInstancePool.get_global_instance(job["sprint_opts"]) is pool
        for c, (kind, *arguments) in enumerate(job["calls"]):
            with pool.lock:
                if kind == "automata":
                    answer = pool.get_automata_for_batch(*arguments)
                else:
                    seed, dtype, lengths, tags = arguments
                    posteriors = make_posteriors(seed, dtype, lengths)
                    answer = pool.get_batch_loss_and_error_signal(
                        posteriors, np.array(lengths, np.int32), tags
                    )
            for a, array in enumerate(answer):
                results[f"{j}/{c}/{a}"] = array
    results["instances"] = np.array(
        [len(pool.instances) for pool in SprintInstancePool.global_instances.values()]
    )
    np.savez(results_path, **results)


def make_posteriors(seed: int, dtype: str, lengths: list[int]) -> Any:
    """Return random log posteriors (time,batch,4)."""
    x = np.random.default_rng(seed).normal(size=(max(lengths), len(lengths), 4))
    return (x - np.log(np.exp(x).sum(axis=-1, keepdims=True))).astype(dtype)


if __name__ == "__main__":
    main(*sys.argv[1:])
