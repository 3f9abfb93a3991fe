"""Before the trainer waits for a child: can what it waits for come? Else the user is told what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from typing import Optional

from ..errors import UsageError
from .instance import Instance
from .pending import Pending


def check_not_stuck(instance: Instance, concerned: Optional[Pending] = None) -> bool:
    """Raise where no answer can come until the user does something; call it before waiting.

    Args:
        instance: the child.
        concerned: what alone is waited for; None: whatever was sent. What was sent to another child is no
            concern of this one.

    Returns:
        Whether something that is waited for lies here.

    Raises:
        UsageError: what was sent lies behind a claim that was not sent yet.
        BufferError: Sprint has told that it finds no room for its answer, and what is received is held.
    """
    queue = instance.pending
    if not queue:
        return False
    oldest, pending = queue[0]
    if concerned is not None and concerned is not pending and not instance.holds(concerned):
        return False
    name = pending.name
    if instance.questions.unanswered is not None:
        raise UsageError(
            f"segment {name!r} waits in vain: Sprint scores features, and awaits their scores; call "
            "serve_scores [serving]"
        )
    open_claim = instance.channel.sender.oldest_open()
    if open_claim is not None and open_claim[0] < oldest:
        raise UsageError(
            f"segment {name!r} waits behind {_decode(open_claim[1])!r}, which was claimed earlier on the "
            "same child and is not sent yet: Sprint sees them in the order of their claims; send or "
            "abort that [behind-claim]"
        )
    receiver = instance.channel.receiver
    if instance.no_room == (oldest, receiver.released) and receiver.used:
        raise BufferError(
            f"Sprint has no room to answer for {name!r}: {receiver.used} of {receiver.capacity} bytes of "
            "the ring lie behind the oldest result that is still held; release the results and their "
            "arrays, or raise the option ring_size [ring-full]"
        )
    return True


def check_none_stuck(instances: Sequence[Instance]) -> None:
    """Raise where one of them is stuck: all that was sent is waited for."""
    for instance in instances:
        check_not_stuck(instance)


def check_not_all_stuck(instances: Sequence[Instance]) -> None:
    """Raise where all of them are: none will ever have room for what is to be sent again."""
    alive = [instance for instance in instances if instance.death is None]
    for instance in alive:
        with contextlib.suppress(UsageError, BufferError):
            check_not_stuck(instance)
            return
    check_none_stuck(alive)  # the first says what to do; one that goes on is enough


def check_can_come(instances: Sequence[Instance], pending: Pending, to_send: Collection[Pending]) -> None:
    """Raise where this alone, which was sent to one of them or is to be sent again, cannot be answered.

    Raises:
        UsageError, BufferError: as check_not_stuck; or nobody has it any more.
    """
    for instance in instances:
        if check_not_stuck(instance, pending):
            return
    if pending not in to_send:
        raise UsageError(
            f"segment {pending.name!r} has no answer: the call that was to take it was interrupted, by "
            "Ctrl-C for instance; claim the segment again [claim-state]"
        )
    check_not_all_stuck(instances)


def check_question_can_come(instance: Instance) -> None:
    """Raise where the child can ask nothing until the user does something; call it before waiting.

    Raises:
        UsageError: Sprint waits for what it is asked.
        BufferError: Sprint has told that it finds no room for its features, and earlier ones are held.
    """
    if instance.death is not None:
        return
    if instance.questions.ready_for_requests:
        raise UsageError(
            "this Sprint awaits segments from the trainer, and so never asks for scores: it runs the "
            "control loop, or the segment order of use_python_segment_order=True; set that to False, "
            "and give Sprint an action that recognises or aligns (docs/ways.md) [no-score-requests]"
        )
    receiver, no_room = instance.channel.receiver, instance.no_room
    if no_room is not None and no_room[1] == receiver.released and receiver.used:
        raise BufferError(
            f"Sprint has no room for the next features: {receiver.used} of {receiver.capacity} bytes of "
            "the ring lie behind the oldest features that are still held; let go of them and their "
            "views, or raise the option ring_size [scores-held]"
        )


def check_no_open_claim(instance: Instance) -> None:
    """Raise UsageError where what is sent now would wait behind a claim that is not sent yet."""
    open_claim = None if instance.death is not None else instance.channel.sender.oldest_open()
    if open_claim is not None:
        raise UsageError(
            f"segment {_decode(open_claim[1])!r} was claimed and is not sent yet: what is sent after it "
            "would wait behind it; send or abort it first [behind-claim]"
        )


def check_idle(instance: Instance) -> None:
    """Raise UsageError where something is open that was claimed for the child or sent to it."""
    if instance.pending:
        raise UsageError(
            f"segment {instance.pending[0][1].name!r} was sent to Sprint and is not answered yet: "
            "wait for its result before you call serve_scores [serving]"
        )
    check_no_open_claim(instance)


def _decode(name: bytes) -> str:
    """For messages: it was read from shared memory, where the child may write."""
    return name.decode("utf-8", "replace")
