"""A Sprint that dies at a stage of its life.

Settings: `stage` is a key of STAGES, and `death` of DEATHS. The file `mark` contains a segment's name, or
"start", and how often Sprint dies there. Sprint appends the name of each segment to the file `log`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from prelude import init, setting

from shmbridge.channel import Channel
from shmbridge.child.inbox import Inbox
from shmbridge.child.request import ParentSegment
from shmbridge.doorbell import Doorbell
from shmbridge.memory import Geometry, Memory
from shmbridge.ring import Record

Array = npt.NDArray[Any]
MARK, STAGE = setting("mark"), setting("stage")
DEATHS: dict[str, Callable[[], object]] = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSEGV": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "SIGABRT": os.abort,
    "exit code 7": lambda: os._exit(7),
}
calculated: list[str] = []


def die_if_due(what: str) -> None:
    """Die if the mark contains this name, and count it there."""
    try:
        with open(MARK) as file:
            due, times = file.read().split()
    except FileNotFoundError:
        return
    if due != what:
        return
    if times == "1":
        os.unlink(MARK)
    else:
        with open(MARK + ".new", "w") as file:
            file.write(f"{due} {int(times) - 1}")
        os.replace(MARK + ".new", MARK)  # another child may be reading it
    print("its last words", flush=True)
    DEATHS[setting("death")]()


def die_waiting() -> None:
    """Die when Sprint waits after the last segment."""
    wait = Channel.wait

    def dying_wait(channel: Channel, **arguments: Any) -> Any:
        if len(calculated) == 5:
            die_if_due("c/s2")
        return wait(channel, **arguments)

    mock.patch.object(Channel, "wait", dying_wait).start()


def die_reading() -> None:
    """Die when Sprint has received a record."""
    to_request = Inbox._to_request

    def dying_to_request(inbox: Inbox, record: Record) -> Any:
        die_if_due(record.name.decode())
        return to_request(inbox, record)

    mock.patch.object(Inbox, "_to_request", dying_to_request).start()


def die_copying() -> None:
    """Die when half of an error signal is copied into the ring."""

    def dying_copyto(target: Array, source: Array, **_more: Any) -> None:
        half = len(target) // 2
        target[:half] = source[:half]
        die_if_due(calculated[-1])
        target[half:] = source[half:]

    mock.patch.object(np, "copyto", dying_copyto).start()


def die_after_commit() -> None:
    """Die when an answer is committed, before the trainer's doorbell rings."""
    bells: list[Doorbell] = []
    of_child, send_copy = Channel.of_child, ParentSegment._send_copy

    def silent_channel(memory: Memory, geometry: Geometry, own: Doorbell, peer: Doorbell) -> Channel:
        bells.append(peer)
        return of_child(memory, geometry, own=own, peer=own)  # a commit rings Sprint's own doorbell

    def dying_send_copy(segment: ParentSegment, *arguments: Any) -> Any:
        claim = send_copy(segment, *arguments)
        die_if_due(segment.name)
        bells[0].poke()
        return claim

    mock.patch.object(Channel, "of_child", silent_channel).start()
    mock.patch.object(ParentSegment, "_send_copy", dying_send_copy).start()


STAGES: dict[str, Callable[[], None]] = {
    "before its hello": lambda: die_if_due("start"),
    "after its hello": lambda: None,
    "waiting": die_waiting,
    "reading a record": die_reading,
    "in the criterion": lambda: None,
    "half-way through the error signal": die_copying,
    "between commit and doorbell": die_after_commit,
}


def callback(command: str, **arguments: Any) -> Any:
    """Return the sum of the posteriors, and twice the posteriors."""
    if command != "calculate_criterion":
        return {"version": "v", "get_orthography_by_segment_name": "word "}[command]
    name, posteriors = arguments["segment_name"], arguments["posteriors"]
    calculated.append(name)
    if STAGE == "in the criterion":
        die_if_due(name)
    with open(setting("log"), "a") as log:
        print(name, file=log)
    # An array in C order is not allocated in the ring, but copied.
    in_layout = np.ascontiguousarray if STAGE.startswith(("half-way", "between")) else np.asfortranarray
    return float(posteriors.sum()), in_layout(2 * posteriors)


STAGES[STAGE]()
control = init()
if STAGE == "after its hello":
    die_if_due("start")
control.run_control_loop(callback=callback)
