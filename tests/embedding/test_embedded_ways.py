"""The four ways in a program that embeds Python, each end to end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from host_env import HostSprintEnv

import shmbridge
from support.mappings import offset_in_shared_memory

WAYS = ["iterate", "trainer", "trainer, layer on top", "segmentwise trainer", "loop"]
ANSWERS = {
    "nothing": "TypeError",
    "the loss alone": "ValueError",
    "a number": "TypeError",
    "no error signal": "UsageError",
    "a list": "UsageError",
    "a loss of str": "ValueError",
    "another shape": "BatchError",
    "an exception": "ArithmeticError",
    "an error without an exception": "SystemError",
    "an exception and a result": "SystemError",
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_gives_the_losses_and_error_signals_of_ctc(sprint_env: HostSprintEnv, way: str) -> None:
    with sprint_env.pool(way, num_instances=2) as pool:
        sprint_env.check(pool, sprint_env.NAMES, seed=1)
        sprint_env.check(pool, list(reversed(sprint_env.NAMES)), seed=2)
        sprint_env.check(pool, sprint_env.NAMES[2:4], seed=3)
        assert pool.stats().segments == 2 * len(sprint_env.NAMES) + 2


@pytest.mark.parametrize("way", WAYS)
def test_each_way_skips_a_segment_that_is_too_short(sprint_env: HostSprintEnv, way: str) -> None:
    names = [sprint_env.NAMES[0], sprint_env.SHORT, sprint_env.NAMES[1]]
    lengths = sprint_env.frames(names)
    posteriors = sprint_env.posteriors(lengths)
    with sprint_env.pool(way) as pool:
        loss, error_signal = pool.get_batch_loss_and_error_signal(posteriors, np.array(lengths), names)
        assert loss[1] == np.inf
        assert not error_signal[:, 1].any()
        sprint_env.check(pool, sprint_env.NAMES)
        assert pool.stats().skipped == 1


@pytest.mark.parametrize("way", WAYS)
def test_an_unknown_segment_is_a_key_error_and_the_next_works(sprint_env: HostSprintEnv, way: str) -> None:
    with sprint_env.pool(way) as pool:
        with pytest.raises(shmbridge.RemoteError, match="corpus/rec/nowhere") as caught:
            pool.get_batch_loss_and_error_signal(
                sprint_env.posteriors([3]), np.array([3]), ["corpus/rec/nowhere"]
            )
        assert caught.value.remote_type == "KeyError"
        sprint_env.check(pool, sprint_env.NAMES)


@pytest.mark.parametrize("way", ["iterate", "trainer", "loop"])
def test_automata_come_through_the_callback_before_and_after_segments(
    sprint_env: HostSprintEnv, way: str
) -> None:
    with sprint_env.pool(way) as pool:
        sprint_env.check(pool, sprint_env.NAMES[:2])
        edges, weights, ends = pool.get_automata_for_batch(["corpus/rec/two", "corpus/rec/one"])
        # "ab": labels 97 % 6 and 98 % 6, each with a loop arc; then "a".
        np.testing.assert_array_equal(edges[:3, :4], [[0, 1, 1, 2], [1, 1, 2, 2], [1, 1, 2, 2]])
        np.testing.assert_array_equal(weights, [0, 0.5] * 3)
        assert ends.shape == (2, 2)
        with pytest.raises(shmbridge.RemoteError, match="corpus/rec/nowhere"):
            pool.get_automata_for_batch(["corpus/rec/nowhere"])
        sprint_env.check(pool, sprint_env.NAMES)


@pytest.mark.parametrize("when", ["before any segment", "between segments"])
def test_a_second_part_of_sprint_may_call_init_and_exit_while_the_first_runs(
    sprint_env: HostSprintEnv, when: str, sprint_log: Callable[[], list[str]]
) -> None:
    with sprint_env.pool("iterate", "host.control=twice") as pool:
        if when == "between segments":
            sprint_env.check(pool, sprint_env.NAMES[:1])
        sprint_env.check(pool, sprint_env.NAMES)
        sprint_env.check(pool, sprint_env.NAMES)
        pool.get_automata_for_batch(sprint_env.NAMES[:1])
    said = sprint_log()
    assert sum("sprint_unit 'PythonFeatureScorer'" in line for line in said) == 1
    assert sum(line.endswith("] exit") for line in said) == 2


# --- Answers of the criterion.


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("way", ["iterate", "loop"])
def test_an_invalid_answer_of_the_criterion_is_the_segments_error_and_the_next_works(
    sprint_env: HostSprintEnv, way: str, answer: str
) -> None:
    bad = "corpus/rec/two"
    good = [name for name in sprint_env.NAMES if name != bad]
    with sprint_env.pool(way, f"host.answer={answer}", f"host.answer-for={bad}") as pool:
        for _ in range(2):
            with pytest.raises(shmbridge.RemoteError) as caught:
                sprint_env.check(pool, [bad])
            assert caught.value.remote_type == ANSWERS[answer]
            assert caught.value.segment == bad
            sprint_env.check(pool, good)
        assert pool.stats().failed == 2


@pytest.mark.parametrize("kind", ["float64", "c-order"])
@pytest.mark.parametrize("way", ["iterate", "loop"])
def test_an_error_signal_of_another_layout_or_precision_is_accepted(
    sprint_env: HostSprintEnv, way: str, kind: str
) -> None:
    with sprint_env.pool(way, f"host.error-signal={kind}") as pool:
        sprint_env.check(pool, sprint_env.NAMES)
        sprint_env.check(pool, sprint_env.NAMES, seed=1)


def test_a_transposed_error_signal_is_an_error_with_both_shapes(sprint_env: HostSprintEnv) -> None:
    pool = sprint_env.pool("iterate", "host.error-signal=transposed")
    with pool, pytest.raises(shmbridge.RemoteError, match=r"\(8, 3\) .*\(3, 8\)"):
        sprint_env.check(pool, ["corpus/rec/one"])


# --- The place of the matrices.


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("thread", ["main", "other"])
def test_sprint_reads_and_writes_the_trainers_matrices_in_place(
    sprint_env: HostSprintEnv, way: str, thread: str
) -> None:
    with sprint_env.pool(way, "host.places=true", f"host.thread={thread}") as pool:
        sprint_env.check(pool, sprint_env.NAMES[:1])  # the trial: its error signal is allocated elsewhere
        for name in [*sprint_env.NAMES, *sprint_env.NAMES]:
            (frames,) = sprint_env.frames([name])
            posteriors = sprint_env.posteriors([frames])
            claim = pool.claim(name, frames, sprint_env.LABELS)
            claim.posteriors[...] = posteriors[:, 0]
            where = offset_in_shared_memory(claim.posteriors)
            with claim.send().result() as result:
                # A trainer writes a note for each matrix, with -1 for the other.
                notes = [note for note in sprint_env.notes() if note["name"] == name][-2:]
                assert where is not None
                assert where in [note["posteriors"] for note in notes]
                assert notes[-1]["error_signal"] == offset_in_shared_memory(result.error_signal)
                _, expected = sprint_env.expected(posteriors, [frames], [name])
                np.testing.assert_allclose(result.error_signal, expected[:, 0], atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("thread", ["other", "each"])
def test_sprint_may_call_from_threads_that_python_did_not_create(
    sprint_env: HostSprintEnv, way: str, thread: str
) -> None:
    """In a thread without our NumPy allocation handler, the error signal is copied."""
    with sprint_env.pool(way, f"host.thread={thread}", "host.places=true") as pool:
        for seed in range(5):
            sprint_env.check(pool, sprint_env.NAMES, seed=seed)
        pool.get_automata_for_batch(sprint_env.NAMES)


def test_a_misspelt_key_of_the_config_string_is_a_warning_with_the_right_key(
    sprint_env: HostSprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    keys = {"verbos": True, "a_users_own_key": 1}
    with sprint_env.pool("iterate", sprint_control_config=keys) as pool:
        sprint_env.check(pool, sprint_env.NAMES[:1])
    hints = [line for line in sprint_log() if "did you mean" in line]
    assert len(hints) == 1
    assert "'verbos'; did you mean 'verbose'?" in hints[0]
