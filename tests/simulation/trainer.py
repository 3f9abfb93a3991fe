"""A random user of the pool, who checks each result and each error.

The user remembers what it holds. An error must have a reason: something that the user can change, or a fault
that did occur in this world.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Sequence
from typing import Any, Optional

import numpy as np

import shmbridge
from shmbridge.errors import (
    BridgeTimeoutError,
    ClosedError,
    PeerGoneError,
    ProtocolError,
    RemoteError,
    ResourceError,
    SegmentTimeoutError,
    ShmbridgeError,
    UsageError,
)
from support.internals import child_with_news, idle_child_of_queue, interrupt, queued_names, what_is_held

from .lines import at_line, at_signal_point
from .parent import Environment, untraced
from .sprint import LABELS, Plan
from .world import ViolationError

_FRAMES = (1, 2, 3, 5, 40, 300, 700, 1300, 1300, 2600)  # a ring has room for one of the longest
_BEHIND = re.compile(r"segment 's(\d+)' cannot be answered before 's(\d+)', which")


class Claim:
    """One claim of the user's.

    Attributes:
        segment: its number.
        claim: what pool.claim returned.
        order: its place among all claims.
        ended: the number of Sprints that had ended when it was claimed.
    """

    def __init__(self, segment: int, claim: Any, order: int, ended: int) -> None:
        self.segment = segment
        self.claim = claim
        self.order = order
        self.ended = ended
        self.late = False  # a Sprint ended before it was sent: it may queue behind later ones
        self.sent: Any = None
        self.result: Any = None
        self.array: Any = None


class Trainer:
    """A random user.

    Args:
        environment: of the world.
        options: of the pool.
        interrupts: how likely a call is interrupted by Ctrl-C.
        preemptions: how likely the trainer loses its core in a call, at any line.
    """

    def __init__(
        self, environment: Environment, options: dict[str, Any], *, interrupts: float, preemptions: float
    ) -> None:
        self.environment = environment
        self.world = environment.world
        self.ledger = environment.ledger
        self.options = options
        self.interrupts = interrupts
        self.preemptions = preemptions
        self.limits = 0.2
        self.pool: Any = None
        self.is_closed = False
        self.segments = 0
        self.open: list[Claim] = []
        self.sent: list[Claim] = []
        self.held: list[Claim] = []
        environment.before_sleep = self._check_nothing_idle
        environment.after_timeout = self._check_no_news
        environment.preemptions = preemptions / 10

    # --- the life of the pool

    def start(self) -> None:
        """Start the pool."""
        self.environment.is_closing = True  # if the start fails
        got = self._call("start", lambda: shmbridge.SprintInstancePool("simulated", **self.options), [])
        if not isinstance(got, BaseException):
            self.environment.is_closing = False
            self.pool = got

    def close_in_other_thread(self) -> None:
        """Close the pool as another thread does."""
        if self.pool is not None:
            self.is_closed = self.environment.is_closing = self.environment.must_wake = True
            with untraced():
                interrupt(self.pool)

    def settle(self) -> None:
        """Finish all that was begun, without faults; check that the pool goes on, and holds nothing."""
        self.interrupts = self.preemptions = self.limits = self.environment.preemptions = 0.0
        self.environment.plan = Plan()
        self.world.interrupt = False
        while self.held:
            self.release()
        while self.open:
            self.send()
        while self.sent:
            before = len(self.sent)
            self.result(0)
            if len(self.sent) == before:
                raise ViolationError(f"nothing is open or held, and {self.sent[-1].segment} has no result")
            while self.held:
                self.release()
        if self.is_closed or self.pool is None:
            return
        self._wait_until_all_is_quiet()
        for _ in range(len(self.environment.processes) + 3):
            if self._batch(2 * self.options["num_instances"]) or self.is_closed:
                break
            self._wait_until_all_is_quiet()
        else:
            raise ViolationError("the pool does not go on in a world without faults")
        self._wait_until_all_is_quiet()
        # A Sprint that hangs before its hello has some seconds left until start_timeout.
        hanging = [sprint.pid for sprint in self.world.sprints if sprint.hangs]
        held = [] if self.is_closed else what_is_held(self.pool, but_not_by=hanging)
        if held:
            raise ViolationError(f"the pool still holds: {', '.join(held)}")

    def close(self) -> None:
        """Close the pool; check that no Sprint is left."""
        self.environment.is_closing = True
        if self.pool is not None:
            self.pool.close()
            self.pool = None
        for segment, deaths in self.ledger.deaths.items():
            if deaths > self.options["max_restarts"] + 1:
                raise ViolationError(f"segment {segment} has ended {deaths} Sprints")
        left = [sprint.pid for sprint in self.world.sprints if sprint.alive]
        if left and self.world.interrupts:  # frames may keep a pool that did not start
            gc.collect()
            left = [sprint.pid for sprint in self.world.sprints if sprint.alive]
        if left:
            raise ViolationError(f"Sprints are left: {left}")

    # --- calls

    def step(self) -> None:
        """Do anything."""
        choice = self.world.random.random()
        if choice < 0.30:
            self.claim_and_send()
        elif choice < 0.40:
            self.claim()
        elif choice < 0.48:
            self.send()
        elif choice < 0.52:
            self.abort()
        elif choice < 0.70:
            self.result()
        elif choice < 0.80:
            self.release()
        elif choice < 0.92:
            self._batch(1 + int(4 * self.world.random.random()))
        elif choice < 0.94:
            self.automata()
        elif choice < 0.97:
            self.look()
        else:
            self.rest()

    def claim_and_send(self) -> None:
        """Claim and send some segments."""
        for _ in range(1 + int(3 * self.world.random.random())):
            if self.claim():
                self.send(len(self.open) - 1)

    def claim(self) -> bool:
        """Claim a segment, and fill it. Return whether that succeeded."""
        segment, frames = self._new_segment(), self._frames()
        got = self._call("claim", lambda: self.pool.claim(f"s{segment}", frames, LABELS), [segment])
        if isinstance(got, BaseException):
            return False
        matrix = got.posteriors
        matrix.fill(0)
        matrix[0, 0] = matrix[-1, -1] = segment
        self.open.append(Claim(segment, got, segment, self._ended))
        return True

    def send(self, index: Optional[int] = None) -> None:
        """Send a claim."""
        if self.open:
            claim = self._take(self.open, index)
            claim.late = claim.ended != self._ended
            got = self._call("send", lambda: claim.claim.send(check_nan=False), [claim.segment])
            claim.claim = None
            if not isinstance(got, BaseException):
                claim.sent = got
                self.sent.append(claim)

    def abort(self) -> None:
        """Abort or drop a claim."""
        if self.open:
            claim = self._take(self.open)
            if self.world.chance(0.5):
                self._call("abort", claim.claim.abort, [claim.segment])

    def result(self, index: Optional[int] = None) -> None:
        """Wait for a result, with or without a limit."""
        if not self.sent:
            return
        claim = self._take(self.sent, index)
        timeout = self.world.delay(1e-3) if self.world.chance(self.limits) else None
        got = self._call("result", lambda: claim.sent.result(timeout), [claim.segment], timeout=timeout)
        if isinstance(got, BaseException):
            if _may_succeed_later(got):
                self.sent.append(claim)
            return
        claim.sent = None
        array = got.error_signal
        self._check_answer(claim.segment, got.loss, array[0, 0], array[-1, -1])
        claim.result = got
        claim.array = array if self.world.chance(0.5) else None
        self.held.append(claim)

    def release(self) -> None:
        """Release a result; check that it is unchanged."""
        if self.held:
            claim = self._take(self.held)
            result, claim.array = claim.result, None
            array = result.error_signal
            self._check_answer(claim.segment, result.loss, array[0, 0], array[-1, -1])
            del array
            if self.world.chance(0.7):
                result.release()

    def automata(self) -> None:
        """Request the automata of two segments."""
        segments = [self._new_segment(), self._new_segment()]
        got = self._call(
            "automata", lambda: self.pool.get_automata_for_batch([f"s{each}" for each in segments]), segments
        )
        if not isinstance(got, BaseException) and got.edges[2].tolist() != segments:
            raise ViolationError(f"the automata of {segments} are those of {got.edges[2].tolist()}")

    def look(self) -> None:
        """Ask without waiting whether a result is there."""
        if self.sent:
            claim = self.sent[int(len(self.sent) * self.world.random.random())]
            self._call("done", claim.sent.done, [claim.segment])

    def rest(self) -> None:
        """Do something else for a while."""
        for _ in range(int(10 * self.world.random.random())):
            if not self.world.is_over:
                self.world.next_event(float("inf"))

    def _batch(self, size: int) -> bool:
        """Compute a batch. Return whether all segments have their result, or Sprint's own error."""
        segments = [self._new_segment() for _ in range(size)]
        lengths = [self._frames() for _ in segments]
        posteriors = np.zeros((max(lengths), size, LABELS), np.float32)
        for index, (segment, length) in enumerate(zip(segments, lengths)):
            posteriors[0, index, 0] = posteriors[length - 1, index, -1] = segment
            self.ledger.frames[segment] = (-segments[0], -length)
        nan = self.world.chance(self.limits / 4)
        if nan:
            posteriors[0, 0, 1] = np.nan
        names = [f"s{segment}" for segment in segments]
        got = self._call(
            "batch",
            lambda: self.pool.get_batch_loss_and_error_signal(posteriors, lengths, names),
            segments,
        )
        failed: Any = {}
        if isinstance(got, BaseException):
            failed, got = getattr(got, "failed", {}), getattr(got, "partial", None)
            if got is None:
                self._check_not_queued(names)
                return False
        loss, error_signal = got
        for index, (segment, length, name) in enumerate(zip(segments, lengths, names)):
            if name in failed and not (nan and index == 0 and "[nan]" in str(failed[name])):
                self._check_error(failed[name], [segment])
            if name in failed:
                continue
            first, last = error_signal[0, index, 0], error_signal[length - 1, index, -1]
            self._check_answer(segment, loss[index], first, last)
            if length < max(lengths) and error_signal[length, index].any():
                raise ViolationError(f"the error signal of {segment} is not 0 behind its end")
        return all(isinstance(error, RemoteError) for error in failed.values())

    # --- parts of them

    @property
    def _ended(self) -> int:
        return sum(not sprint.alive for sprint in self.world.sprints)

    def _new_segment(self) -> int:
        self.segments += 1
        return self.segments

    def _frames(self) -> int:
        return _FRAMES[int(len(_FRAMES) * self.world.random.random())]

    def _take(self, claims: list[Claim], index: Optional[int] = None) -> Claim:
        return claims.pop(int(len(claims) * self.world.random.random()) if index is None else index)

    def _call(
        self,
        what: str,
        call: Callable[[], Any],
        segments: Sequence[int],
        *,
        timeout: Optional[float] = None,
    ) -> Any:
        """Return what the call returns, or the error that it raises and that has a reason."""
        world = self.world
        world.note("> {} {}", what, segments)
        interrupts = world.interrupts
        try:
            if self.preemptions and world.chance(self.preemptions):
                with at_line(self._line(), self._lose_core):
                    got = call()
            elif self.interrupts and world.chance(self.interrupts):
                if world.chance(0.5):
                    with at_signal_point(self._line()):
                        got = call()
                else:
                    world.after(1e-4, self._press_ctrl_c)
                    got = call()
            else:
                got = call()
            world.note("< {}", got)
            return got
        except KeyboardInterrupt as error:
            if world.interrupts == interrupts:
                raise ViolationError("KeyboardInterrupt without Ctrl-C") from None
            return _bare(error)
        except (ShmbridgeError, BufferError) as error:
            world.note("< {!r}", error)
            if not getattr(error, "failed", None):
                self._check_error(error, segments, timeout=timeout)
            return _bare(error)

    def _line(self) -> int:
        """Return a random number of lines, small ones as often as large ones."""
        return int(600 ** self.world.random.random())

    def _press_ctrl_c(self) -> None:
        """Interrupt this call, or a later one."""
        self.world.interrupt = self.interrupts > 0

    def _lose_core(self) -> None:
        """Let the world go on while the trainer's thread does not run."""
        self.world.note("the trainer loses its core")
        for _ in range(1 + int(4 * self.world.random.random())):
            if not self.world.is_over:
                self.world.next_event(float("inf"))

    def _check_nothing_idle(self) -> None:
        idle = None if self.pool is None else idle_child_of_queue(self.pool)
        if idle is not None:
            raise ViolationError(
                f"the trainer sleeps, requests are queued, and Sprint {idle} has nothing to do"
            )

    def _check_not_queued(self, names: Sequence[str]) -> None:
        if not self.world.interrupts:
            left = set(names).intersection(queued_names(self.pool))
            if left:
                raise ViolationError(f"the batch was left, and {left} are still queued")

    def _check_no_news(self) -> None:
        news = None if self.pool is None else child_with_news(self.pool)
        if news is not None:
            raise ViolationError(f"the trainer has slept until a deadline, and {news} had answered")

    def _wait_until_all_is_quiet(self) -> None:
        while not self.world.is_over:
            self.world.next_event(float("inf"))
        claim = self._new_segment()
        if not isinstance(
            self._call("claim", lambda: self.pool.claim(f"s{claim}", 1, LABELS), [claim]), Exception
        ):
            self.world.note("quiet")

    def _check_answer(self, segment: int, loss: float, first: float, last: float) -> None:
        skipped = segment in self.ledger.skipped
        if loss == np.inf and not skipped:
            skipped = self.options["skip_fatal_segments"] and self._ended > self.options["max_restarts"]
        expected = (np.inf, 0, 0) if skipped else (-segment, segment, segment)
        if (loss, first, last) != expected:
            raise ViolationError(f"segment {segment}: {(loss, first, last)}, and not {expected}")
        if segment in self.ledger.failed:
            raise ViolationError(f"segment {segment} failed, and has a result")

    def _check_error(self, error: BaseException, segments: Sequence[int], *, timeout: Any = None) -> None:
        """Raise ViolationError unless the error has a reason."""
        problem = self._problem(error, timeout)
        if problem is None and isinstance(error, (PeerGoneError, ProtocolError)):
            answered = self.ledger.answered.intersection(segments)
            if answered and not self.world.interrupts and not any(each.lied for each in self.world.sprints):
                problem = f"segment {answered} was answered"
        if problem is not None:
            raise ViolationError(f"{problem}: {error!r} at {list(segments)}") from error

    def _problem(self, error: BaseException, timeout: Any) -> Optional[str]:
        """Return what is wrong with an error; None if it has a reason."""
        sprints = self.world.sprints
        has_reason = False
        if isinstance(error, ClosedError):
            has_reason = self.is_closed
        elif isinstance(error, SegmentTimeoutError):
            has_reason = self.options["segment_timeout"] is not None
        elif isinstance(error, PeerGoneError):
            return self._problem_of_death()
        elif isinstance(error, BridgeTimeoutError):
            has_reason = timeout is not None or any(each.hangs and not each.was_ready for each in sprints)
        elif isinstance(error, ResourceError):
            has_reason = self.environment.failed_starts > 0
        elif isinstance(error, RemoteError):
            has_reason = bool(self.ledger.failed)
        elif isinstance(error, ProtocolError):
            has_reason = any(each.lied for each in sprints)
        elif isinstance(error, BufferError):
            # The frames of a KeyboardInterrupt may keep a claim until the next garbage collection.
            has_reason = bool(self.held or self.open or self.world.interrupts)
        elif isinstance(error, UsageError):
            return self._problem_of_refusal(str(error))
        return None if has_reason else "an error without a reason"

    def _problem_of_death(self) -> Optional[str]:
        sprints = self.world.sprints
        ended = [each for each in sprints if not each.alive]
        if not ended:
            return "no Sprint has ended"
        is_weak = self.environment.failed_starts or any(not each.was_ready for each in ended)
        if len(ended) <= self.options["max_restarts"] and not (is_weak or self.is_closed):
            return f"only {len(ended)} Sprints have ended"
        return None

    def _problem_of_refusal(self, message: str) -> Optional[str]:
        if "[claim-state]" in message:
            return None if self.world.interrupts else "an answer is lost"
        behind = _BEHIND.match(message)
        if behind is not None:
            waiting, older = map(int, behind.groups())
            late = [each.segment for each in self.sent if each.late]
            if older not in [each.segment for each in self.open]:
                return f"segment {older} is not open"
            return None if older < waiting or waiting in late or self._ended else "it was claimed later"
        return None if "[behind-claim]" in message and self.open else "a refusal without a reason"


def _may_succeed_later(error: BaseException) -> bool:
    """Return whether result() may be called again after this error."""
    if isinstance(error, PeerGoneError):
        return False
    if isinstance(error, (KeyboardInterrupt, BufferError)):
        return True
    return "[timeout]" in str(error) or "[behind-claim]" in str(error)


def _bare(error: BaseException) -> BaseException:
    """Return the error without the frames that it keeps alive."""
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)
