"""Serve scores to children that recognise: here Sprint requests, and the trainer's network answers."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, Optional

import numpy as np

from .. import protocol
from .._native import lib
from ..errors import BatchError, OptionError, ProtocolError, ShmbridgeError, UsageError, without_traceback
from ..ring import Claim, FloatArray
from .child import Child
from .child_state import ChildState
from .copying import copy_checked, is_float
from .lifecycle import Lifecycle, PoolState
from .waits import NextScoreRequest, Room, check_no_open_claim

_log = logging.getLogger("shmbridge")

_DEAD = ChildState.DEAD

ScoreFunction = Callable[[FloatArray], Any]
"""features (time,dim) float32 -> scores (time,label) of any float dtype, negative logarithms."""


def serve(pool: Lifecycle, score: ScoreFunction) -> None:
    """Answer the children's score requests until all have ended. The caller holds the lock.

    Args and errors: those of SprintInstancePool.serve_scores.
    """
    if not callable(score):
        raise UsageError(f"score is of type {type(score).__name__}; it must be a function [serving]")
    if pool.options.max_restarts > 0:
        raise OptionError(
            f"max_restarts is {pool.options.max_restarts}; serve_scores requires 0, because a restarted "
            "child would begin its corpus again [no-restart]"
        )
    pool.scheduler.restart_dead_children()
    for child in pool.scheduler.children:
        _check_idle(child)
    children = list(pool.scheduler.children)
    pool.state = PoolState.SERVING
    try:
        pool.check_not_closed()
        for child in children:
            child.score_requests.begin_serving()
        wait = NextScoreRequest(children)
        while True:
            pool.scheduler.run_until(wait)
            requests = [child for child in children if child.score_requests.features is not None]
            if not requests:
                break
            for child in requests:
                if child.score_requests.features is not None:  # it may have ended meanwhile
                    _answer(pool, child, score)
    finally:
        if pool.state is PoolState.SERVING:
            pool.state = PoolState.CLOSING if pool.is_closed else PoolState.OPEN
        for child in children:
            child.score_requests.end_serving()
    if not all(child.score_requests.received for child in children):
        _log.warning(
            "a child ended without a score request; check that its feature-scorer-type is "
            "python-feature-scorer, and that its corpus has segments [no-score-requests]"
        )


def _check_idle(child: Child) -> None:
    """Raise UsageError if a segment was claimed for the child, or sent to it, and is not answered."""
    if child.in_flight:
        raise UsageError(
            f"segment {child.in_flight[0][1].name!r} was sent and is not answered; wait for its result "
            "before you call serve_scores [serving]"
        )
    check_no_open_claim([child])


def _answer(pool: Lifecycle, child: Child, score: ScoreFunction) -> None:
    """Compute the scores and send them; or send the error, and raise it."""
    try:
        claim = _compute(pool, child, score)
    except Exception as error:
        if pool.state is PoolState.SERVING and child.state is not _DEAD:
            _send_error(pool, child, error)
        raise
    child.score_requests.answer(claim)
    child.scored += 1
    pool.statistics.scored += 1
    pool.statistics.scored_frames += claim.rows


def _compute(pool: Lifecycle, child: Child, score: ScoreFunction) -> Claim:
    """Return the scores in a claim.

    The view of the features ends with this function: once Sprint has its scores, the next features have room.
    """
    record = child.score_requests.features
    features = None if record is None else record.matrix
    if record is None or features is None:
        raise UsageError("the features have been released [scores-held]")
    shape = (features.shape[0], record.states)
    begin = time.perf_counter()
    try:
        scores = np.asarray(score(features))
    finally:
        pool.statistics.score_seconds += time.perf_counter() - begin
    pool.check_not_closed()  # the function may have closed the pool
    if scores.shape != shape or not is_float(scores.dtype):
        raise BatchError(
            f"the score function returned {scores.shape} of {scores.dtype} for features {features.shape}; "
            f"it must return {shape} (time,label) of a float dtype [score-function]"
        )
    claim = _claim(pool, child, *shape, lib.SHMB_FLOAT32)
    begin = time.perf_counter()
    try:
        nan = copy_checked(claim.matrix, scores, check=lib.SHMB_CHECK_NAN)  # infinity is a valid score
        if nan is not None:
            raise BatchError(
                f"the scores are NaN at (time,label) {nan}; a NaN would mislead Sprint's search"
                " [score-function]"
            )
    except BaseException:  # the traceback of the error would keep the claim open
        claim.abort()
        raise
    finally:
        pool.statistics.copy_seconds += time.perf_counter() - begin
    return claim


def _send_error(pool: Lifecycle, child: Child, error: Exception) -> None:
    """Make the child's call raise, and the child end with the error's message."""
    report = np.frombuffer(protocol.encode_report(error), np.uint8)
    with contextlib.suppress(ShmbridgeError):  # the child ended meanwhile
        claim = _claim(pool, child, 1, len(report), lib.SHMB_UINT8)
        claim.matrix[0] = report
        child.score_requests.answer(claim, lib.SHMB_FAILED)
        child.join()  # so that the next call finds it dead, and not about to die


def _claim(pool: Lifecycle, child: Child, rows: int, columns: int, dtype: int) -> Claim:
    """Claim a record for the answer. If there is no room yet, the child must first consume padding.

    Raises:
        ShmbridgeError: why the child ended.
    """

    def pick() -> Child:
        child.poll_exit()
        if child.error is not None:
            raise without_traceback(child.error)
        return child

    def attempt(child: Child) -> Optional[Claim]:
        try:
            return child.score_requests.try_claim_answer(child.channel.sender, rows, columns, dtype)
        except ProtocolError as error:
            child.kill_for(error)
            raise

    room = Room(pick, attempt)
    pool.scheduler.run_until(room)
    return room.claim
