"""One Sprint process and its channel, from spawn to death. No child is restarted; another replaces it."""

from __future__ import annotations

import contextlib
from typing import Optional

from .. import protocol
from .._native import lib
from ..channel import Channel
from ..errors import ClosedError, ProtocolError, ShmbridgeError, UsageError, without_traceback
from ..ring import Claim, Record
from .answer_check import AnswerCheck
from .child_state import ChildState, is_users_turn
from .clock import Clock
from .control_messages import process_messages
from .launch import launch
from .options import Options
from .request import InFlight, Request, RequestState, no_answer, validate_answer
from .score_requests import ScoreRequests
from .watcher import Watcher

_FEATURES, _FLOAT32 = lib.SHMB_FEATURES, lib.SHMB_FLOAT32  # global names cost less on the hot path
_READY, _DEAD = ChildState.READY, ChildState.DEAD
_IN_FLIGHT = RequestState.IN_FLIGHT


class Child:
    """Spawn a Sprint process, send requests to it, and deliver its answers to them.

    Not thread-safe: the pool serialises. Args and errors are those of launch.launch.

    Attributes:
        state: see ChildState.
        error: why the child ended; None while it is alive.
        died_working: whether it had requests to answer when it ended.
        hello: the message that made it ready; None before.
        num_labels: the number of labels that Sprint sent, or None.
        no_room: from its latest no-room message: the sequence number for which it could not claim a record,
            and the ring's release position at that time; or None.
        in_flight: the requests sent and not answered. After a death they stay here until the scheduler takes
            them; Sprint ended while it worked on the first.
        answered, scored: the number of requests, and of score requests, that were answered.
        score_requests: what the child requests.
        clock: how long it has worked on the oldest request, or started.
    """

    def __init__(self, options: Options, watcher: Watcher, answer_check: AnswerCheck) -> None:
        self._options = options
        self._answer_check = answer_check
        self._timeout = options.segment_timeout
        self._next_sequence = 1
        self.state = ChildState.STARTING
        self.error: Optional[ShmbridgeError] = None
        self.hello: Optional[protocol.Message] = None
        self.num_labels: Optional[int] = None
        self.no_room: Optional[tuple[int, int]] = None
        self.in_flight = InFlight()
        self.answered = 0
        self.scored = 0
        self.clock = Clock()
        self.score_requests = ScoreRequests(self.clock, self._timeout)
        self.died_working = False
        self.clock.start(options.start_timeout)
        channel, self._process = launch(options, watcher)
        self._channel: Optional[Channel] = channel
        self.pid = self._process.pid

    @property
    def channel(self) -> Channel:
        """The rings. Raise the child's error once it is dead."""
        if self._channel is None:
            raise without_traceback(self.error or ClosedError("the child was closed [closed]"))
        return self._channel

    def try_claim(self, kind: int, rows: int, columns: int, name: bytes) -> Optional[Claim]:
        """Claim a float32 record; return None if the ring has no room now.

        Raises:
            SegmentTooLargeError: the record can never fit.
            BufferError: the ring has no room until the user sends, aborts or deletes what is held.
            ProtocolError: the child wrote an invalid position, and was killed for it.
        """
        channel = self._channel or self.channel  # the property, which costs more, raises
        try:
            claim = channel.sender.claim_record(kind, _FLOAT32, rows, columns, self._next_sequence, name)
        except BufferError:
            if not self.in_flight:
                raise
            return None  # requests in flight may hold posteriors for a retry; their answers release them
        except ProtocolError as error:
            self.kill_for(error)
            raise
        if claim is not None:
            self._next_sequence += 1
        return claim

    def send(self, claim: Claim, request: Request) -> None:
        """Send a filled claim; `request` receives the answer."""
        in_flight = self.in_flight
        was_idle = not in_flight
        entry = (claim.sequence, request)
        try:
            (in_flight.append if was_idle else in_flight.add)(entry)
            request.state = _IN_FLIGHT
            claim.commit()
        except BaseException:  # Ctrl-C may come just before or just after the commit itself
            with contextlib.suppress(UsageError):  # raised if the claim is committed: the answer will come
                claim.abort()
                in_flight.discard(entry)
                request.fail(UsageError(f"sending segment {request.name!r} was interrupted [claim-state]"))
            raise
        finally:
            if was_idle:
                self.clock.begin(None)  # `deadline` sets the limit, once Sprint can work

    @property
    def has_exited(self) -> bool:
        """Whether the process has ended, also if nothing has polled the child since. From any thread."""
        return self._process.exited

    def oldest_open_claim(self) -> Optional[tuple[int, str]]:
        """Return the sequence number and segment name of the oldest claim that is not sent, or None."""
        claim = None if self._channel is None else self._channel.sender.oldest_open()
        # The name was read from shared memory, where the child may write any bytes.
        return None if claim is None else (claim[0], claim[1].decode("utf-8", "replace"))

    def poll(self) -> bool:
        """Deliver the next answer, or process other events. Return whether there were any: death is one."""
        if self._process.has_events:
            return self._process_events()
        channel = self._channel
        if channel is None:
            return True
        try:
            receiver = channel.receiver
            record = receiver.receive() if self.in_flight else self.score_requests.receive(receiver)
            if record is None:
                return False
            self._deliver(record)
        except ProtocolError as error:
            error.__traceback__, process = None, self._process
            process.broken, process.has_events = error, True  # the next poll kills it if Ctrl-C comes now
            self.kill_for(error)
        except BaseException:  # Ctrl-C, or a copy of the user's
            self._fail_lost()
            raise
        return True

    def poll_exit(self) -> bool:
        """Return whether the child is dead, as far as can be known now."""
        if self._process.has_events:
            self._process_events()
        return self.state is _DEAD

    def deadline(self) -> Optional[float]:
        """Return when the child must have answered, or sent its hello; None: it may take any time."""
        if self._timeout is not None and self.in_flight and self.state is _READY:
            waits_for_user = is_users_turn(self.channel, self.in_flight[0][0], self.no_room)
            self.clock.limit(None if waits_for_user else self._timeout)
        return self.clock.deadline

    def enforce_deadline(self) -> None:
        """Terminate the child if it has missed its deadline."""
        if self.deadline() is None or not self.clock.is_late() or self.poll():
            return
        if self.state is ChildState.STARTING:
            self._end(self._process.terminate_unready(self._options.start_timeout))
        else:
            error = self._process.terminate_hung(self._timeout or 0, self.in_flight.names)
            self._drain()  # it may have answered at the last moment
            self._end(error)

    def request_exit(self) -> None:
        """Ask the child to exit; `close` waits for it."""
        self._process.send("exit")

    def join(self) -> None:
        """Wait for a child that received an error for its scores to end; kill it if it does not."""
        self._process.join_or_kill(self._options.exit_timeout)
        self.poll_exit()

    def close(self) -> None:
        """End the child and free its memory, apart from what arrays still view. May be called again."""
        self._process.close(self._options.exit_timeout)
        if self.state is not _DEAD:
            self._drain()  # answers that nothing has polled since
            self._end(ClosedError("the pool was closed [closed]"))
        if self.error is not None:
            for _, request in self.in_flight:
                request.fail(self.error)
        self.in_flight.clear()  # a request refers to the pool: the cycle would keep both
        self.score_requests.features = None

    def kill(self) -> None:
        """End the child at once."""
        self._process.kill()

    def kill_for(self, error: ShmbridgeError) -> None:
        """End a child that broke the protocol at once. Nothing that it sent later counts."""
        self._process.kill()
        self._end(error)

    def disown(self) -> None:
        """Leave the rings to the parent: called in a fork of the trainer."""
        if self._channel is not None:
            self._channel.disown()

    def _process_events(self) -> bool:
        """Process control messages and the process's end, and all answers sent before it."""
        process = self._process
        try:
            process.has_events = False
            exited = process.exited  # read before the last look at the ring, which is then complete
            if process.broken is not None:
                self.kill_for(process.broken)
            progress = process_messages(self, process.messages, self._timeout)
            progress = (exited and self._drain()) or progress
            if exited and self.state is not _DEAD:
                self._end(process.exit_error(self.in_flight.names))
        except BaseException:  # Ctrl-C, or a copy of the user's that raises: the next poll goes on
            process.has_events = True
            raise
        return progress or self.state is _DEAD

    def _drain(self) -> bool:
        """Deliver all answers in the ring. Return whether there were any."""
        progress = False
        try:
            while self._channel is not None:
                receiver = self._channel.receiver
                record = receiver.receive() if self.in_flight else self.score_requests.receive(receiver)
                if record is None:
                    break
                self._deliver(record)
                progress = True
        except ProtocolError as error:
            error.__traceback__, process = None, self._process
            process.broken, process.has_events = error, True  # as in poll
            self.kill_for(error)
        except BaseException:
            self._fail_lost()
            raise
        return progress

    def _fail_lost(self) -> None:
        """Fail the request whose answer was received, and not delivered because of an exception."""
        channel, in_flight = self._channel, self.in_flight
        if channel is not None and in_flight and in_flight[0][0] <= channel.receiver.last_answer:
            request = in_flight[0][1]
            request.fail(no_answer(request))
            in_flight.popleft()
            self.clock.begin(None)

    def _deliver(self, record: Record) -> None:
        in_flight = self.in_flight
        if not in_flight:
            if record.kind != _FEATURES:
                raise ProtocolError(
                    f"Sprint answered request {record.sequence}; no request is open [bad-answer]"
                )
            self._take_score_request(record)
            return
        (sequence, request), error = in_flight[0], None
        is_unusual = record.loss == 0.0
        if not record.is_answer(sequence, request.answer_kind, request.rows, request.columns):
            if record.kind == _FEATURES:
                self._take_score_request(record)
                return
            error, is_unusual = validate_answer(record, sequence, request), True
        try:
            in_flight.popleft()
            self.answered += 1
            if in_flight:
                self.clock.begin(None)
            elif self._timeout is not None:
                self.clock.stop()
            if is_unusual and error is None:
                error = self._answer_check.examine(request.name, record, self._process)
            if error is None:
                request.accept(record)
            else:
                request.fail(error)
        except BaseException:  # Ctrl-C: the record is gone
            request.fail(no_answer(request))
            self.clock.begin(None)  # an idle child has no deadline; `deadline` sets that of the next request
            raise

    def _take_score_request(self, features: Record) -> None:
        self.score_requests.take(features)
        if not self.in_flight:
            self.clock.stop()

    def _end(self, error: ShmbridgeError) -> None:
        if self.state is not _DEAD:
            self.error = without_traceback(error)
            self.died_working = bool(self.in_flight)
            self.clock.stop()
            self._channel = None
            self.state = _DEAD  # last: after Ctrl-C, the next call ends it again
