"""The trainer of the soak: random calls of one pool, whose answers are compared with the expected ones."""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Optional

import numpy as np
import segments
from disturber import Forks
from plan import Plan
from segments import Array, Does

import shmbridge
from shmbridge.errors import BatchError, BridgeTimeoutError, PeerGoneError, RemoteError, UsageError

_MOST_KEPT = 12
_LARGEST_BATCH = 1 << 20  # elements
# The result of a call that has lost everything, if the plan permits it.
_GONE = object()


@dataclasses.dataclass(frozen=True)
class Exchange:
    """One segment, and its expected outcome."""

    name: str
    number: int
    frames: int
    does: Does


class Trainer:
    """Drives one pool through the steps of a plan.

    Args:
        plan: the actions of Sprint, and the segments that may be lost.
        rng: selects the steps.
        pool: the pool.
        forks: runs functions in forks.
        counts: counters of the steps and their results.
    """

    def __init__(self, plan: Plan, rng: random.Random, pool: Any, forks: Forks, counts: Counter[str]) -> None:
        self.plan = plan
        self.rng = rng
        self.pool = pool
        self.forks = forks
        self.counts = counts
        self.journal: deque[str] = deque(maxlen=20)
        self._number = 0
        self._kept: list[tuple[Array, Exchange]] = []  # error signals that outlive their results
        self._kept_posteriors: list[tuple[Array, Exchange]] = []
        self._repeated = 0  # exchanges that were retried: the pool may have counted their first answers

    def step(self) -> None:
        """Make one random step."""
        steps: dict[Callable[[], None], float] = {
            self._batch: 10,
            self._in_place: 10,
            self._automata: 1,
            self._two_threads: 1,
            self._misuse: 1,
            self._look_from_fork: 0.3,
            self._look_at_kept: 1,
            self._rest: 0.5,
        }
        step = self.rng.choices(list(steps), list(steps.values()))[0]
        self._note(f"step {self.counts['steps']}: {step.__name__}")
        step()
        self.counts["steps"] += 1

    def check_statistics(self) -> None:
        """Check that the pool's counters equal those of the soak."""
        seen, counted = self.counts["answered"], self.pool.stats().segments
        assert seen <= counted, f"{seen} were answered, the pool has counted {counted}"
        if self.plan.kind != "lossy":
            most = seen + self._repeated
            assert counted <= most, f"at most {most} were answered, the pool has counted {counted}"
        self.counts["restarts"] += self.pool.stats().restarts

    def check_kept(self) -> None:
        """Check that the held arrays have not changed, and release them."""
        self._look_at_kept()
        self._kept.clear()
        self._kept_posteriors.clear()

    def use_in_fork(self) -> None:
        """Check, in a fork, that every use of the pool raises."""
        uses: list[Callable[[], Any]] = [
            lambda: self.pool.claim(segments.NAMES[0], 1, self.plan.labels),
            lambda: self.pool.get_automata_for_batch(segments.NAMES[:2]),
            lambda: self.pool.get_batch_loss_and_error_signal(
                np.zeros((1, 1, self.plan.labels), np.float32), np.ones(1, np.int32), segments.NAMES[:1]
            ),
        ]
        for use in uses:
            try:
                use()
            except UsageError:
                continue
            raise AssertionError("the pool could be used in a fork")
        self.pool.close()

    # --- steps

    def _batch(self) -> None:
        exchanges = self._draw_many(self.rng.choice([0, 1, 2, 5, 20, 40, 150]))
        # A batch is as long as its longest segment.
        exchanges.sort(key=lambda exchange: exchange.frames)
        while exchanges and exchanges[-1].frames * len(exchanges) * self.plan.labels > _LARGEST_BATCH:
            exchanges.pop()
        self.rng.shuffle(exchanges)
        self._run_batch(exchanges)

    def _in_place(self) -> None:
        sent: list[tuple[Any, Exchange]] = []
        open_claims: list[tuple[Any, Exchange]] = []
        for exchange in self._draw_many(self.rng.randint(1, 8)):
            claim = self._claim(exchange, open_claims, sent)
            if claim is None:
                continue
            claim.posteriors[...] = self._posteriors(exchange)
            open_claims.append((claim, exchange))
            del claim
            while open_claims and self.rng.random() < 0.4:
                self._finish_one(open_claims, sent)
        if open_claims and self.rng.random() < 0.1:
            self._run_batch(self._draw_many(3), behind_claims=True)
        while open_claims:
            self._finish_one(open_claims, sent)
        self._take_results(sent)

    def _automata(self) -> None:
        names = self.rng.sample(segments.NAMES, self.rng.choice([0, 1, 5, 20]))
        got = self._call_with_room(lambda: self.pool.get_automata_for_batch(names), ())
        if got is _GONE:
            return
        edges, weights, ends = got
        parts, start = [], 0
        for index, name in enumerate(names):
            n_states, part, expected = segments.automaton_of(name)
            assert ends[:, index].tolist() == [start, start + n_states - 1], f"states of {name!r}: {ends}"
            ids = np.full((1, len(expected)), index, np.uint32)
            parts.append(np.concatenate([part[:2] + np.uint32(start), part[2:], ids]))
            start += n_states
        if names:
            np.testing.assert_array_equal(edges, np.concatenate(parts, axis=1))
            all_weights = [segments.automaton_of(name)[2] for name in names]
            np.testing.assert_array_equal(weights, np.concatenate(all_weights))
        self.counts["automata"] += len(names)

    def _two_threads(self) -> None:
        self.check_kept()  # otherwise one thread would have to make room for the other
        errors: list[BaseException] = []

        def run(exchanges: list[Exchange]) -> None:
            try:
                self._run_batch(exchanges)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=run, args=(self._draw_many(10),)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def _misuse(self) -> None:
        exchanges = [exchange for exchange in self._draw_many(5) if exchange.does is Does.ANSWER]
        kind = self.rng.choice(["nan", "too large", "nan in place"])
        self._note(kind)
        if kind == "too large":
            frames = self.plan.ring_size // (4 * self.plan.labels) + 1
            self._expect(lambda: self.pool.claim(segments.NAMES[0], frames, self.plan.labels), UsageError)
        elif kind == "nan" and exchanges:
            self._run_batch(exchanges, nan_at=self.rng.randrange(len(exchanges)))
        elif kind == "nan in place" and exchanges:
            claim = self._claim(exchanges[0], [], [])
            if claim is not None:
                claim.posteriors[...] = np.nan
                self._expect(claim.send, BatchError)

    def _look_from_fork(self) -> None:
        def look() -> None:
            self.check_kept()
            self.use_in_fork()

        self.forks.fork(look)
        self.counts["forks"] += 1
        self.forks.reap()
        self._look_at_kept()

    def _look_at_kept(self) -> None:
        for array, exchange in self._kept:
            expected = segments.error_signal_of(self.plan.seed, exchange.name, exchange.number, array.shape)
            assert np.array_equal(array, expected), f"an error signal that is held has changed: {exchange}"
        for array, exchange in self._kept_posteriors:
            whole = segments.is_posteriors(array, self.plan.seed, exchange.name, exchange.number)
            assert whole, f"posteriors that are held have changed: {exchange}"

    def _rest(self) -> None:
        time.sleep(self.rng.random() * 0.1)

    # --- parts of the steps

    def _note(self, what: str) -> None:
        self.journal.append(what)

    def _draw_many(self, count: int) -> list[Exchange]:
        return [self._draw(name) for name in self.rng.sample(segments.NAMES, count)]

    def _draw(self, name: str) -> Exchange:
        self._number += 1
        most = self.plan.max_frames
        size = self.rng.random()
        if size < 0.01:
            frames = most - self.rng.choice([0, 0, 0, 1, 2])
        elif size < 0.1:
            frames = self.rng.randint(1, max(most // 4, 1))
        else:
            frames = self.rng.randint(1, max(min(most // 16, 4000 // self.plan.labels), 1))
        does = segments.does(self.plan.seed, self._number, self.plan.chances)
        return Exchange(name, self._number, max(frames, 1), does)

    def _posteriors(self, exchange: Exchange) -> Array:
        shape = (exchange.frames, self.plan.labels)
        return segments.posteriors_of(self.plan.seed, exchange.name, exchange.number, shape)

    def _expect(self, call: Callable[[], Any], error: type[Exception]) -> None:
        try:
            call()
        except error:
            return
        except PeerGoneError:
            if self.plan.kind == "lossy":
                return
            raise
        raise AssertionError(f"there was no {error.__name__}")

    def _call_with_room(self, call: Callable[[], Any], exchanges: Sequence[Exchange]) -> Any:
        """Call as _call does; if held arrays fill the ring, release them and retry."""
        try:
            return self._call(call, exchanges)
        except BufferError:
            self._note("no room")
        self.counts["made room"] += 1
        self._repeated += len(exchanges)
        self.check_kept()
        return self._call(call, exchanges)

    def _call(self, call: Callable[[], Any], exchanges: Sequence[Exchange]) -> Any:
        """Return the result of the call, an expected error, or _GONE if everything may be lost."""
        try:
            return call()
        except (RemoteError, PeerGoneError) as error:
            self._check_error(error, exchanges)
            if error.partial is None and isinstance(error, PeerGoneError) and self.plan.kind == "lossy":
                self.counts["lost"] += len(exchanges)
                return _GONE
            # Its frames would keep their arrays until the next garbage collection.
            return error.with_traceback(None)

    def _check_error(self, error: shmbridge.ShmbridgeError, exchanges: Sequence[Exchange]) -> None:
        """Raise the error again unless the plan expects it."""
        if isinstance(error, RemoteError):
            planned = {e.name: e.number for e in exchanges if e.does is Does.RAISE}
            if error.remote_message == f"as planned for exchange {planned.get(str(error.segment))}":
                return
        elif self.plan.kind == "lossy":
            return
        elif not self.plan.skip_fatal_segments and isinstance(error, PeerGoneError):
            fatal = [exchange.name for exchange in exchanges if exchange.does is Does.DIE_ALWAYS]
            if error.segments and error.segments[0] in fatal:
                return
        raise error

    def _run_batch(
        self, exchanges: list[Exchange], *, behind_claims: bool = False, nan_at: Optional[int] = None
    ) -> None:
        self._note(f"batch {[(e.number, e.frames, e.does.value) for e in exchanges]}")
        most = max((exchange.frames for exchange in exchanges), default=0)
        shape = (most, len(exchanges), self.plan.labels)
        posteriors = np.full(shape, np.nan, self.rng.choice([np.float32, np.float64]))
        if self.rng.random() < 0.3:  # as some networks return it
            posteriors = np.ascontiguousarray(posteriors.transpose(2, 0, 1)).transpose(1, 2, 0)
        for index, exchange in enumerate(exchanges):
            posteriors[: exchange.frames, index] = self._posteriors(exchange)
        if nan_at is not None:
            posteriors[exchanges[nan_at].frames - 1, nan_at, -1] = np.nan
        lengths = np.array([exchange.frames for exchange in exchanges], np.int32)
        names = [exchange.name for exchange in exchanges]
        out = np.full(shape, 7, np.float32) if self.rng.random() < 0.3 else None
        error: Optional[shmbridge.ShmbridgeError] = None
        try:
            got = self._call_with_room(
                lambda: self.pool.get_batch_loss_and_error_signal(posteriors, lengths, names, out=out),
                exchanges,
            )
        except BatchError as nan_error:
            if nan_at is None or nan_error.partial is None:
                raise
            got = nan_error
        except (UsageError, BufferError) as refusal:
            if not behind_claims:
                raise
            self._note(f"refused: {type(refusal).__name__}")
            self._repeated += len(exchanges)
            return
        if got is _GONE:
            return
        if isinstance(got, shmbridge.ShmbridgeError):
            error = got
            assert error.partial is not None, f"an error without the other answers: {error}"
            got = error.partial
        loss, error_signal = got
        assert out is None or error_signal is out
        n_failed = 0
        for index, exchange in enumerate(exchanges):
            answer = (float(loss[index]), error_signal[: exchange.frames, index])
            failed = self._check_answer(exchange, *answer, nan=index == nan_at, with_error=error is not None)
            n_failed += failed
            if not failed:
                assert not error_signal[exchange.frames :, index].any(), f"not 0 behind the end: {exchange}"
        assert bool(n_failed) == (error is not None), f"{n_failed} failed, and the error is {error}"

    def _check_answer(
        self,
        exchange: Exchange,
        loss: float,
        error_signal: Array,
        *,
        nan: bool = False,
        with_error: bool = True,
    ) -> bool:
        """Compare an answer with the expected one, and return whether the segment failed."""
        plan, does = self.plan, exchange.does
        fatal = does is Does.DIE_ALWAYS
        if np.isnan(loss):
            planned = does is Does.RAISE or (fatal and not plan.skip_fatal_segments) or nan
            assert with_error, f"a loss of NaN, and no error: {exchange}"
            assert planned or plan.kind == "lossy", f"not answered, without a reason: {exchange}"
            self.counts["failed" if planned else "lost"] += 1
            return True
        planned = does is Does.RAISE or nan
        assert not planned, f"answered with {loss}, where an error had to come: {exchange}"
        lost = plan.kind == "lossy" and plan.skip_fatal_segments and plan.max_restarts > 0
        if does is Does.SKIP or (fatal and plan.skip_fatal_segments) or (lost and loss == np.inf):
            assert loss == np.inf, f"not skipped: {exchange}"
            assert not error_signal.any(), f"skipped, and the error signal is not 0: {exchange}"
            self.counts["skipped"] += 1
            return False
        expected = segments.error_signal_of(plan.seed, exchange.name, exchange.number, error_signal.shape)
        expected_loss = segments.loss_of(plan.seed, exchange.name, exchange.number)
        assert loss == expected_loss, f"loss {loss}, it must be {expected_loss}: {exchange}"
        if not np.array_equal(error_signal, expected):
            where = np.argwhere(error_signal != expected)
            raise AssertionError(
                f"the error signal is wrong at {len(where)} places from {where[0].tolist()} to "
                f"{where[-1].tolist()}: {exchange}"
            )
        self.counts["answered"] += 1
        self.counts["bytes"] += 8 * error_signal.size
        return False

    # --- in place

    def _claim(
        self, exchange: Exchange, open_claims: list[tuple[Any, Exchange]], sent: list[tuple[Any, Exchange]]
    ) -> Any:
        """Return a claim, or None if there is no child for it."""
        self._note(f"claim {exchange.number} ({exchange.frames} frames, {exchange.does.value})")
        for _ in range(2):
            try:
                return self.pool.claim(exchange.name, exchange.frames, self.plan.labels)
            except (BufferError, UsageError) as error:
                # The ring has room only after the open claims are sent and the held arrays are released.
                if not (open_claims or self._kept or self._kept_posteriors or sent):
                    raise
                self._note(f"make room: {type(error).__name__}")
            except PeerGoneError:
                if self.plan.kind != "lossy":
                    raise
                self.counts["lost"] += 1
                return None
            self.counts["made room"] += 1
            while open_claims:
                self._finish_one(open_claims, sent)
            self._take_results(sent, in_order=True)
            self.check_kept()
        return self.pool.claim(exchange.name, exchange.frames, self.plan.labels)

    def _finish_one(self, open_claims: list[tuple[Any, Exchange]], sent: list[tuple[Any, Exchange]]) -> None:
        """Send, abort or drop one of the claims."""
        claim, exchange = open_claims.pop(self.rng.randrange(len(open_claims)))
        what = self.rng.random()
        if what < 0.1:
            self._note(f"abort {exchange.number}")
            if what < 0.05:
                claim.abort()
            return
        self._note(f"send {exchange.number}")
        if self.rng.random() < 0.1 and len(self._kept_posteriors) < _MOST_KEPT:
            self._kept_posteriors.append((claim.posteriors, exchange))
        try:
            segment = claim.send()
        except PeerGoneError:
            if self.plan.kind != "lossy":
                raise
            self.counts["lost"] += 1
            return
        sent.append((segment, exchange))

    def _take_results(self, sent: list[tuple[Any, Exchange]], *, in_order: bool = False) -> None:
        """Receive or drop all results."""
        if in_order:
            sent.sort(key=lambda both: -both[1].number)
        else:
            self.rng.shuffle(sent)
        while sent:
            segment, exchange = sent.pop()
            if self.rng.random() < 0.05:
                self._repeated += 1
                self._note(f"the result of {exchange.number} is not asked for")
                continue
            try:
                self._take_result(segment, exchange)
            except BufferError as error:
                self._note(f"{error}"[:60])
                assert self._kept or self._kept_posteriors, f"no room for {exchange}, where nothing is held"
                self.check_kept()
                sent.append((segment, exchange))

    def _take_result(self, segment: Any, exchange: Exchange) -> None:
        self._note(f"result of {exchange.number}")
        got = self._call(lambda: self._result(segment), [exchange])
        if got is _GONE:
            return
        if isinstance(got, shmbridge.ShmbridgeError):
            self._check_answer(exchange, np.nan, np.empty((0, 0)))
            return
        assert (got.name, got.skipped) == (exchange.name, got.loss == np.inf)
        error_signal = got.error_signal
        self._check_answer(exchange, got.loss, error_signal)
        keep = not got.skipped and len(self._kept) < _MOST_KEPT and self.rng.random() < 0.2
        if keep:
            self._kept.append((error_signal, exchange))
            if self.rng.random() < 0.5:
                in_ring = error_signal.base is not None  # otherwise a copy, which made room in the ring
                try:
                    got.release()
                except BufferError:
                    assert in_ring, "a result could not be released that is not in the ring"
                    return
                assert not in_ring, "a result was released under the array that views it"
            return
        del error_signal
        if self.rng.random() < 0.7:
            got.release()

    def _result(self, segment: Any) -> Any:
        while self.rng.random() < 0.3:
            try:
                return segment.result(timeout=self.rng.random() * 0.002)
            except BridgeTimeoutError as error:
                if isinstance(error, PeerGoneError):
                    raise
        return segment.result()
