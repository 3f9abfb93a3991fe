"""An error keeps nothing alive: the arrays of its call are freed with it, without the garbage collector."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import shmbridge
from support.internals import kill_child

ERRORS = {
    "c/raises": shmbridge.RemoteError,
    "c/dies": shmbridge.PeerGoneError,
    "c/breaks the protocol": shmbridge.ProtocolError,
    "c/hangs": shmbridge.SegmentTimeoutError,
}


@pytest.fixture
def mark(sprint_env):
    return sprint_env.path / "does-not-start"


@pytest.fixture
def pool(sprint_env, mark):
    options = sprint_env.sprint_file(
        "failing", {"mark": mark}, use_python_segment_order=False, segment_timeout=5
    )
    with shmbridge.SprintInstancePool(**options) as pool:
        gc.collect()
        gc.disable()
        try:
            yield pool
        finally:
            gc.enable()


def batch(pool, name, kind, value=1.0):
    """Make a call that fails, and return weak references to its arrays. A traceback would keep this frame."""
    posteriors = np.full((1000, 2, 4), value, np.float32)
    out = np.empty_like(posteriors)
    others = np.empty(1000)
    with_frame = [weakref.ref(array) for array in (posteriors, out, others)]
    try:
        pool.get_batch_loss_and_error_signal(posteriors, [1000, 10], [name, "c/s1"], out=out)
        right = False
    except kind as error:
        right = type(error) is kind and (error.partial is None or error.partial[1] is out)
    assert right
    return with_frame


def answered_batch(pool):
    posteriors = np.ones((1000, 2, 4), np.float32)
    result = pool.get_batch_loss_and_error_signal(posteriors, [1000, 10], ["c/s1", "c/s2"])
    assert result.loss.tolist() == [1.5, 1.5]
    return [weakref.ref(array) for array in (posteriors, *result)]


def in_place(pool, name, kind):
    others = np.empty(1000)
    claim = pool.claim(name, 1000, 4)
    claim.posteriors[:] = 1
    sent = claim.send()
    for _ in range(2):
        try:
            sent.result()
            right = False
        except kind as error:
            right = type(error) is kind
        assert right
    return sent, weakref.ref(others)


def is_gone(references):
    return [reference() is None for reference in references] == [True] * len(references)


@pytest.mark.parametrize("name", ERRORS)
def test_a_failed_batch_is_freed_with_its_error(pool, name):
    assert is_gone(batch(pool, name, ERRORS[name]))


def test_an_answered_batch_is_freed_with_its_result(pool):
    assert is_gone(answered_batch(pool))


def test_a_batch_with_a_nan_is_freed_with_its_error(pool):
    assert is_gone(batch(pool, "c/s2", shmbridge.BatchError, np.nan))


def test_a_batch_whose_sprint_cannot_be_started_is_freed_with_its_error(pool, mark):
    mark.touch()
    kill_child(pool)
    for _ in range(2):
        assert is_gone(batch(pool, "c/s2", shmbridge.PeerGoneError))


@pytest.mark.parametrize("name", ERRORS)
def test_a_claim_whose_result_is_an_error_keeps_no_array_of_the_call(pool, name):
    sent, reference = in_place(pool, name, ERRORS[name])
    assert reference() is None
    assert sent.done()


def test_the_error_of_a_death_has_the_same_message_and_a_new_traceback_each_time(pool):
    claim = pool.claim("c/dies", 3, 4)
    claim.posteriors[:] = 1
    sent = claim.send()
    errors = []
    for _ in range(2):
        with pytest.raises(shmbridge.PeerGoneError) as caught:
            sent.result()
        errors.append(caught.value)
    first, second = errors
    assert str(first) == str(second)
    assert vars(first) == vars(second)
    assert second.exit_code == 3
    assert first.__traceback__ is not second.__traceback__
