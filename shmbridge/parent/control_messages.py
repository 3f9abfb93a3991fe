"""What a child's control messages change in the trainer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Optional

from ..protocol import Message
from .child_state import ChildState
from .pipes import LatestMessages
from .score_requests import Asking

if TYPE_CHECKING:
    from .child import Child

__all__ = ["process_messages"]

_log = logging.getLogger("shmbridge")

_KINDS = ("hello", "dimension", "ready_for_requests", "no_room")  # "exception" is for the error of a death


def process_messages(child: Child, messages: LatestMessages, timeout: Optional[float]) -> bool:
    """Process the unread messages. Return whether there were any.

    After an exception, such as Ctrl-C, the next call processes the same message again.

    Args:
        child: the child.
        messages: those that the child has sent.
        timeout: the user's option segment_timeout.
    """
    progress = False
    for kind in _KINDS:
        message = messages.unread(kind)
        if message is not None:
            progress = True
            _process(child, message, timeout)
            messages.mark_read(message)
    return progress


def _process(child: Child, message: Message, timeout: Optional[float]) -> None:
    kind = message["kind"]
    if kind == "hello":
        child.clock.ready(timeout if child.score_requests.state is Asking.TRAINER else None)
        child.hello = message
        if child.state is ChildState.STARTING:
            child.state = ChildState.READY
        _log.info(
            "Sprint (pid %s) is ready: Python %s, numpy %s, callback version %s",
            *(message.get(key) for key in ("pid", "python", "numpy", "sprint_version")),
        )
    elif kind == "dimension":
        child.num_labels = message["num_labels"]
    elif kind == "ready_for_requests":
        child.score_requests.expect_none()
    else:
        child.no_room = (message["sequence"], message["released"])
        if child.in_flight:
            child.clock.stop()  # until Child.deadline finds that Sprint can go on
