"""The plan of a round, which depends only on the seed and the round's number."""

from __future__ import annotations

import dataclasses
import random
from typing import Optional

from segments import MAX_NAME, MAX_SIZE

from shmbridge._native import lib

# strict: Sprint dies, hangs and is killed, and no segment is lost.
# fatal: Sprint never survives some segments; only these fail, or are skipped.
# lossy: Sprint is killed at any moment, with few restarts or none; the remaining answers are right.
KINDS = {"calm": 2, "strict": 4, "fatal": 2, "lossy": 3}
# Steps are cheap if Sprint lives long.
_STEPS = {"calm": 10, "strict": 2, "fatal": 5, "lossy": 1}


@dataclasses.dataclass(frozen=True)
class Plan:
    """The plan of one round.

    Attributes:
        kind: of KINDS.
        seed: of the segments' content.
        n_steps: how many calls, or groups of them, the trainer makes.
        way: of driving Sprint: "loop" or "iterate".
        labels: the label dimension.
        ring_size, num_instances, max_restarts, skip_fatal_segments, segment_timeout: options of the pool.
        chances: what Sprint does with a segment: see segments.does.
        kill_every: seconds between kills from outside, on average; None: there are none.
        fork_every: seconds between forks of the trainer in another thread, on average.
    """

    kind: str
    seed: int
    n_steps: int
    way: str
    labels: int
    ring_size: int
    num_instances: int
    max_restarts: int
    skip_fatal_segments: bool
    segment_timeout: Optional[float]
    chances: dict[str, float]
    kill_every: Optional[float]
    fork_every: float

    @property
    def max_frames(self) -> int:
        """The size of the largest segment that fits into the ring with any name."""
        frames = min((self.ring_size - lib.SHMB_HEADER_SIZE) // (4 * self.labels), MAX_SIZE // self.labels)
        while lib.shmb_record_size(lib.SHMB_FLOAT32, frames, self.labels, MAX_NAME) > self.ring_size:
            frames -= 1
        return frames


def draw_plan(seed: int, index: int, n_steps: int, spoil: float = 0.0) -> Plan:
    """Return the plan of round `index`.

    Args:
        seed: of the soak.
        index: of the round.
        n_steps: of a round in which Sprint is often killed; where it lives longer there are more.
        spoil: the chance that Sprint answers wrongly.
    """
    rng = random.Random(f"{seed} {index}")
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    chances = {"skip": 0.01, "raise": 0.002, "spoil": spoil}
    hangs = kind in ("strict", "lossy") and rng.random() < 0.3
    if kind != "calm":
        chances["die once"] = 0.001
    if kind == "fatal":
        chances["die always"] = 0.001
    if hangs:
        chances["hang once"] = 0.0003
    restarts = {"calm": [0, 2], "strict": [1000], "fatal": [1, 2], "lossy": [0, 0, 1, 3]}[kind]
    return Plan(
        kind=kind,
        seed=rng.getrandbits(32),
        n_steps=n_steps * _STEPS[kind],
        way=rng.choice(["loop", "iterate"]),
        labels=rng.choice([1, 2, 7, 61, 500]),
        ring_size=1 << rng.choice([16, 16, 17, 18, 20, 21]),
        num_instances=rng.choice([1, 1, 2, 2, 3]),
        max_restarts=rng.choice(restarts),
        skip_fatal_segments=kind != "calm" and rng.random() < 0.5,
        segment_timeout=1.5 if hangs else None,
        chances=chances,
        kill_every=rng.choice([0.3, 1.0, 3.0]) if kind in ("strict", "lossy") else None,
        fork_every=rng.choice([0.1, 0.5, 2.0]),
    )
