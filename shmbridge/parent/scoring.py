"""Scores for Sprints that recognise: here Sprint asks, and the trainer's network answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Optional

import numpy as np

from .. import protocol
from .._native import lib
from ..errors import BatchError, PeerGoneError, ProtocolError, UsageError, without_traceback
from ..ring import Array, Claim
from .copying import copy_checked, is_float
from .dispatcher import Dispatcher
from .instance import Instance
from .stuck import check_idle, check_question_can_come

_log = logging.getLogger("shmbridge")

# features (time,dim) float32 -> scores (time,label) of any float dtype, -log space
ScoreFunction = Callable[[Array], Any]


def serve(dispatcher: Dispatcher, score: ScoreFunction) -> None:
    """Answer what the children ask until all have ended. Hold the dispatcher's lock.

    Args and errors: those of SprintInstancePool.serve_scores.
    """
    if not callable(score):
        raise UsageError(
            f"serve_scores takes a function of features, not {type(score).__name__} [score-function]"
        )
    dispatcher.start_dead_anew()
    dispatcher.serving = True
    begun: list[Instance] = []
    try:
        for instance in dispatcher.instances:
            check_idle(instance)
            instance.questions.begin_serving()
            begun.append(instance)
        while not _have_ended(dispatcher.instances):
            progress = dispatcher.collect()
            for instance in dispatcher.instances:
                if instance.questions.unanswered is not None and instance.death is None:
                    _answer(dispatcher, instance, score)
                    progress = True
            if not progress:
                for instance in dispatcher.instances:
                    check_question_can_come(instance)
                dispatcher.wait()
    finally:
        dispatcher.serving = False
        for instance in begun:
            instance.questions.end_serving()
    if not all(instance.questions.asked for instance in dispatcher.instances):
        _log.warning(
            "a Sprint has ended without asking for scores: is its feature-scorer-type python-feature-scorer, "
            "and are there segments in its corpus? [no-score-requests]"
        )


def _have_ended(instances: Sequence[Instance]) -> bool:
    """Whether all are done with their corpus. Each is looked at: the last may die while the first goes on."""
    ended = [_has_ended(instance) for instance in instances]
    return all(ended)


def _has_ended(instance: Instance) -> bool:
    """Whether the child's corpus is done. Raises what it died of, if it is not."""
    death = instance.death
    if death is None:
        return False
    if isinstance(death, PeerGoneError) and death.exit_code == 0 and instance.questions.unanswered is None:
        return True
    raise without_traceback(death)


def _answer(dispatcher: Dispatcher, instance: Instance, score: ScoreFunction) -> None:
    """Have the scores computed and send them; or send why there are none, and raise it."""
    try:
        claim = _compute(dispatcher, instance, score)
    except Exception as error:
        if not dispatcher.closed:
            _refuse(dispatcher, instance, error)
        raise
    if claim is not None:
        instance.questions.answer(claim)
        instance.scored += 1
        dispatcher.statistics.scored += 1
        dispatcher.statistics.scored_frames += claim.rows


def _compute(dispatcher: Dispatcher, instance: Instance, score: ScoreFunction) -> Optional[Claim]:
    """The scores, ready to be sent; None where the child has ended meanwhile.

    The features are let go of here: when Sprint has its scores, there is room for the next.
    """
    question = instance.questions.unanswered
    features = None if question is None else question.matrix
    if question is None or features is None:
        raise UsageError("the features have been released [scores-held]")
    wanted = (features.shape[0], question.states)
    begin = time.perf_counter()
    try:
        scores = np.asarray(score(features))
    finally:
        dispatcher.statistics.score_seconds += time.perf_counter() - begin
    dispatcher.check_usable()  # the function may have closed the pool
    if instance.look_for_death() is not None:
        return None
    if scores.shape != wanted or not is_float(scores.dtype):
        raise BatchError(
            f"the score function returned {scores.shape} of {scores.dtype} for features {features.shape}; "
            f"Sprint wants scores {wanted} (time,label) of a float dtype [score-function]"
        )
    claim = _claim(dispatcher, instance, *wanted, lib.SHMB_FLOAT32)
    if claim is None:
        return None
    begin = time.perf_counter()
    try:
        nan = copy_checked(claim.matrix, scores)
        if nan is not None:
            raise BatchError(
                f"the scores have a NaN at (time,label) {nan}, which would mislead Sprint's search"
                " [score-function]"
            )
    except BaseException:  # also Ctrl-C, whose traceback would keep the claim open
        claim.abort()
        raise
    finally:
        dispatcher.statistics.copy_seconds += time.perf_counter() - begin
    return claim


def _refuse(dispatcher: Dispatcher, instance: Instance, error: Exception) -> None:
    """Let the child's call fail, and the child end with the error's message."""
    report = np.frombuffer(protocol.encode_report(error), np.uint8)
    claim = _claim(dispatcher, instance, 1, len(report), lib.SHMB_UINT8)
    if claim is not None:
        claim.matrix[0] = report
        instance.questions.answer(claim, lib.SHMB_FAILED)
        instance.wait_for_end()  # so that the next call does not find it between living and dead


def _claim(
    dispatcher: Dispatcher, instance: Instance, rows: int, columns: int, dtype: int
) -> Optional[Claim]:
    """A record for the answer; None where the child has ended.

    The child awaits it with nothing else received: if there is no room yet, it has to pass padding first.
    """
    while instance.death is None:
        try:
            claim = instance.questions.try_claim_answer(instance.channel.sender, rows, columns, dtype)
        except ProtocolError as error:
            instance.condemn(error)
            raise
        if claim is not None:
            return claim
        if not dispatcher.collect():
            dispatcher.wait(full=[instance])
    return None
