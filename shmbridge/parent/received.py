"""Is what came through the ring what it has to be? The child may write anything."""

from __future__ import annotations

from typing import Optional

import numpy as np

from .. import protocol
from .._native import lib
from ..errors import ProtocolError, RemoteError
from ..ring import Record
from .pending import Pending

_ANSWERED, _FAILED, _FLOAT32 = lib.SHMB_ANSWERED, lib.SHMB_FAILED, lib.SHMB_FLOAT32


def check_features(record: Record) -> None:
    """Raise ProtocolError where these are no features whose scores could be computed."""
    rows, columns = record.shape
    good = record.status == _ANSWERED and record.dtype == _FLOAT32 and rows > 0 and columns > 0
    if not good or not 0 < record.states < 1 << 32:
        raise ProtocolError(
            f"Sprint's features are {record.shape} of dtype {record.dtype}, status {record.status}, for "
            f"{record.states} labels; they have to be (time,dim) of dtype {_FLOAT32} [bad-answer]"
        )


def look_closer(record: Record, sequence: int, pending: Pending) -> Optional[RemoteError]:
    """What an answer is that does not have the loss and error signal that were asked for.

    Returns:
        The error that the child reports; None, where it was skipped, or what was asked for is something else.

    Raises:
        ProtocolError: it is no answer to this.
    """
    if record.sequence != sequence:
        raise ProtocolError(
            f"Sprint answered request {record.sequence} where {sequence} was the next to be answered"
            " [bad-answer]"
        )
    if record.kind != pending.answer_kind:
        raise ProtocolError(f"the answer for {pending.name!r} is of kind {record.kind} [bad-answer]")
    if record.status == _FAILED:
        return _remote_error(pending.name, record)
    if record.status == _ANSWERED and pending.rows:
        raise ProtocolError(
            f"the answer for {pending.name!r} is {record.shape} of dtype {record.dtype}; it has to be "
            f"{(pending.rows, pending.columns)} of dtype {_FLOAT32} [bad-answer]"
        )
    return None


def _remote_error(name: str, record: Record) -> RemoteError:
    """The exception that the child reports in the record."""
    matrix = record.matrix
    if matrix is None or matrix.dtype != np.uint8:
        raise ProtocolError(f"the failure report for {name!r} cannot be read: it is not bytes [bad-answer]")
    return RemoteError(name, *protocol.read_report(matrix.tobytes(), repr(name)))
