"""What has crossed the bridge, and how long it took."""

from __future__ import annotations

import dataclasses

from .._native import lib
from ..ring import Record
from ..units import format_bytes, pluralize

__all__ = ["ChildStatistics", "Counters", "PoolStatistics"]

_SKIPPED = lib.SHMB_SKIPPED  # looked up once: this stands in what runs for each segment


@dataclasses.dataclass
class Counters:
    """What a pool counts while it runs. Written by the call that works; any thread may read it.

    Attributes:
        segments, skipped, failed, automata, scored, scored_frames, posteriors_bytes, error_signal_bytes,
            copy_seconds, score_seconds, start_seconds: see PoolStatistics.
    """

    segments: int = 0
    skipped: int = 0
    failed: int = 0
    automata: int = 0
    scored: int = 0
    scored_frames: int = 0
    posteriors_bytes: int = 0
    error_signal_bytes: int = 0
    copy_seconds: float = 0.0
    score_seconds: float = 0.0
    start_seconds: float = 0.0

    def count(self, record: Record) -> None:
        """Count the answer to a segment."""
        if record.status == _SKIPPED:
            self.skipped += 1
        else:
            self.segments += 1
            self.error_signal_bytes += 4 * record.rows * record.columns


@dataclasses.dataclass(frozen=True)
class ChildStatistics:
    """One child at one moment.

    Attributes:
        pid: of the process that was started last.
        state: "starting", "ready", or "ended".
        in_flight: requests that were sent and are not answered.
        answered: requests that were answered, by this child and those in whose place it was started.
        scored: segments whose features it, or those, sent to be scored, and whose scores were sent back.
        restarts: how often a new child was started in the place of one that had ended.
        ring_size: bytes that each of the two rings has.
        posteriors_used: bytes of the ring to Sprint that were sent and that Sprint has not released.
        error_signals_used: bytes of the ring from Sprint that were sent and are not released here.
    """

    pid: int
    state: str
    in_flight: int
    answered: int
    scored: int
    restarts: int
    ring_size: int
    posteriors_used: int
    error_signals_used: int


@dataclasses.dataclass(frozen=True)
class PoolStatistics:
    """What has crossed the bridge since the pool was created. From `SprintInstancePool.stats`.

    Attributes:
        seconds: since then, or from then until the pool was closed.
        segments: answered with a loss.
        skipped: answered by Sprint without one: it discarded the segment.
        failed: not answered: an exception there, or its end.
        automata: received.
        scored: segments whose features Sprint sent, and whose scores were sent back (serve_scores).
        scored_frames: of those.
        posteriors_bytes: sent, of matrices of posteriors.
        error_signal_bytes: received, of matrices of error signals.
        wait_seconds: that calls have waited for Sprint, once it was ready the first time.
        copy_seconds: in which calls have copied the matrices of batches into and out of the rings (with
            shmbridge.torch: and computed the log softmax of logits), and scores into them. What is exchanged
            in place is not.
        score_seconds: in the function that serve_scores calls.
        start_seconds: that calls have waited until children were ready, at first and when a call found one
            dead.
        restarts: children that were started in the place of others.
        children: each child now.
    """

    seconds: float
    segments: int
    skipped: int
    failed: int
    automata: int
    scored: int
    scored_frames: int
    posteriors_bytes: int
    error_signal_bytes: int
    wait_seconds: float
    copy_seconds: float
    score_seconds: float
    start_seconds: float
    restarts: int
    children: tuple[ChildStatistics, ...]

    def __str__(self) -> str:
        """One sentence for people, as it is logged when the pool closes."""
        parts = [
            f"{pluralize(self.segments, 'segment', 'segments')} in {self.seconds:.1f} s by "
            f"{pluralize(len(self.children), 'Sprint child', 'Sprint children')}",
            f"{self.skipped} skipped, {self.failed} failed, "
            f"{pluralize(self.restarts, 'restart', 'restarts')}",
            f"{format_bytes(self.posteriors_bytes)} of posteriors sent, "
            f"{format_bytes(self.error_signal_bytes)} of error signals received",
            f"{self.wait_seconds:.1f} s waiting for Sprint, {self.copy_seconds:.1f} s copying, "
            f"{self.start_seconds:.1f} s until Sprint was ready",
        ]
        if self.automata:
            parts.insert(1, pluralize(self.automata, "automaton", "automata"))
        if self.scored:
            parts.insert(
                1,
                f"{pluralize(self.scored, 'segment', 'segments')} of "
                f"{pluralize(self.scored_frames, 'frame', 'frames')} scored in {self.score_seconds:.1f} s",
            )
        return "; ".join(parts)
