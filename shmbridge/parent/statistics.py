"""What has crossed the bridge, and how long it took."""

from __future__ import annotations

import dataclasses

from ..units import format_bytes, pluralize

__all__ = ["ChildStatistics", "Counters", "PoolStatistics"]


@dataclasses.dataclass
class Counters:
    """The running counters of a pool. The call that works writes them; any thread may read them.

    Attributes: see PoolStatistics.
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

    def count(self, is_skipped: bool, size: int) -> None:
        """Count the answer to a segment, whose error signal has `size` elements."""
        if is_skipped:
            self.skipped += 1
        else:
            self.segments += 1
            self.error_signal_bytes += 4 * size


@dataclasses.dataclass(frozen=True)
class ChildStatistics:
    """One child at one moment. `answered` and `scored` include the children that it replaced.

    Attributes:
        pid: of its process.
        state: "starting", "ready" or "ended".
        in_flight: requests sent and not answered.
        answered: requests answered.
        scored: segments whose scores were sent.
        restarts: how often a child was replaced here.
        ring_size: bytes of each of its two rings.
        posteriors_used: bytes that were sent to Sprint and that Sprint has not released.
        error_signals_used: bytes that Sprint sent and that are not released here.
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
        seconds: since the pool was created, until now or until it was closed.
        segments: answered with a loss.
        skipped: segments that Sprint skipped.
        failed: requests not answered: Sprint's Python raised, or Sprint ended.
        automata: received.
        scored: segments whose scores were sent (serve_scores).
        scored_frames: their frames.
        posteriors_bytes: of matrices sent.
        error_signal_bytes: of matrices received.
        copy_seconds: spent copying the matrices of batches, and scores, into and out of the rings (with
            shmbridge.torch, also the log softmax of logits). Segments in place are not copied.
        score_seconds: spent in the function that serve_scores calls.
        start_seconds: spent waiting until children were ready, at first and after a death.
        wait_seconds: spent waiting for Sprint once it was ready.
        restarts: of all children.
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
    copy_seconds: float
    score_seconds: float
    start_seconds: float
    wait_seconds: float
    restarts: int
    children: tuple[ChildStatistics, ...]

    def __str__(self) -> str:
        """Return one line for people, as the pool logs it when it closes."""
        parts = [
            f"{pluralize(self.segments, 'segment', 'segments')} in {self.seconds:.1f} s by "
            f"{pluralize(len(self.children), 'Sprint child', 'Sprint children')}"
        ]
        if self.scored:
            parts.append(
                f"{pluralize(self.scored, 'segment', 'segments')} of "
                f"{pluralize(self.scored_frames, 'frame', 'frames')} scored in {self.score_seconds:.1f} s"
            )
        if self.automata:
            parts.append(pluralize(self.automata, "automaton", "automata"))
        parts += [
            f"{self.skipped} skipped, {self.failed} failed, "
            f"{pluralize(self.restarts, 'restart', 'restarts')}",
            f"{format_bytes(self.posteriors_bytes)} of posteriors sent, "
            f"{format_bytes(self.error_signal_bytes)} of error signals received",
            f"{self.wait_seconds:.1f} s waiting for Sprint, {self.copy_seconds:.1f} s copying, "
            f"{self.start_seconds:.1f} s until Sprint was ready",
        ]
        return "; ".join(parts)
