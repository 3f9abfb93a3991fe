"""The four ways in which Sprint drives the child, each end to end with two children."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import shmbridge
from shmbridge.parent.command_line import CommandLine
from support.packages import import_or_skip
from support.sprint_env import SprintEnv

TRAINERS = {
    "python layer below an identity": (),
    "python layer on top": ("bottom.links=", "top.layer-type=identity"),
    "python layer below a softmax": ("top.layer-type=softmax", "input-in-log-space=false"),
    "SegmentwiseNnTrainer": ("refsprint.notifications=segmentwise",),
    "SegmentwiseNnTrainer, python layer on top": ("refsprint.notifications=segmentwise", "bottom.links="),
}


def torch_ctc(torch: Any, posteriors: Any, lengths: Any, labels: Any, blank: int) -> tuple[Any, Any]:
    """Return loss (batch,) and gradient at the logits, of float64 scores (time,batch,label)."""
    scores = torch.tensor(posteriors.astype(np.float64), requires_grad=True)
    loss = torch.nn.functional.ctc_loss(
        scores.log_softmax(-1),
        torch.tensor([label for sequence in labels for label in sequence]),
        torch.tensor(lengths),
        torch.tensor([len(sequence) for sequence in labels]),
        blank=blank,
        reduction="none",
    )
    loss.sum().backward()
    return loss.detach().numpy(), scores.grad.numpy()


# --- a: iterate-corpus and segment order


def test_iterating_the_corpus_returns_the_losses_and_error_signals_of_ctc(sprint_env: SprintEnv) -> None:
    with sprint_env.pool("iterate", num_instances=2) as pool:
        sprint_env.check(pool, sprint_env.NAMES, seed=1)
        sprint_env.check(pool, list(reversed(sprint_env.NAMES)), seed=2)
        sprint_env.check(pool, sprint_env.NAMES[2:4], seed=3)
        assert pool.stats().segments == 2 * len(sprint_env.NAMES) + 2
        assert pool.stats().failed == 0


def test_iterating_the_corpus_serves_automata_between_batches(sprint_env: SprintEnv) -> None:
    with sprint_env.pool("iterate", num_instances=2) as pool:
        edges, weights, ends = pool.get_automata_for_batch(sprint_env.NAMES)
        sprint_env.check(pool, sprint_env.NAMES)
        again = pool.get_automata_for_batch(sprint_env.NAMES)
        for one, other in zip((edges, weights, ends), again):
            np.testing.assert_array_equal(one, other)
        assert pool.stats().automata == 2 * len(sprint_env.NAMES)


def test_iterating_the_corpus_skips_a_segment_that_is_too_short_for_its_words(
    sprint_env: SprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    names = [sprint_env.NAMES[0], sprint_env.SHORT, sprint_env.NAMES[1]]
    lengths = sprint_env.frames(names)
    posteriors = sprint_env.posteriors(lengths)
    with sprint_env.pool("iterate", num_instances=2) as pool:
        loss, error_signal = pool.get_batch_loss_and_error_signal(posteriors, np.array(lengths), names)
        assert np.isinf(loss[1])
        assert loss[1] > 0
        assert not error_signal[:, 1].any()
        expected_loss, expected_error = sprint_env.expected(posteriors[:, ::2], lengths[::2], names[::2])
        np.testing.assert_allclose(loss[::2], expected_loss, rtol=1e-4)
        np.testing.assert_allclose(error_signal[:, ::2], expected_error, atol=1e-5)
        assert (pool.stats().segments, pool.stats().skipped) == (2, 1)


# --- b: a trainer with PythonControl and a Python layer


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_trainer_with_a_python_layer_returns_the_losses_and_error_signals_of_ctc(
    sprint_env: SprintEnv, trainer: str
) -> None:
    with sprint_env.pool("trainer", *TRAINERS[trainer], num_instances=2) as pool:
        sprint_env.check(pool, sprint_env.NAMES, seed=1)
        sprint_env.check(pool, list(reversed(sprint_env.NAMES)), seed=2)
        assert pool.stats().segments == 2 * len(sprint_env.NAMES)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_segment_that_sprint_rejects_is_skipped_and_counted(
    sprint_env: SprintEnv, trainer: str, sprint_log: Callable[[], list[str]]
) -> None:
    names = [sprint_env.SHORT, sprint_env.NAMES[0], sprint_env.NAMES[1]]
    lengths = sprint_env.frames(names)
    posteriors = sprint_env.posteriors(lengths)
    with sprint_env.pool("trainer", *TRAINERS[trainer], num_instances=2) as pool:
        for _ in range(2):
            loss, error_signal = pool.get_batch_loss_and_error_signal(posteriors, np.array(lengths), names)
            assert loss[0] == np.inf
            assert not error_signal[:, 0].any()
            expected_loss, _ = sprint_env.expected(posteriors[:, 1:], lengths[1:], names[1:])
            np.testing.assert_allclose(loss[1:], expected_loss, rtol=1e-4)
        assert (pool.stats().segments, pool.stats().skipped) == (4, 2)
    said = "\n".join(sprint_log())
    assert f"segment {sprint_env.SHORT!r}: Sprint gave no error signal; answered as skipped" in said
    assert "no segment notification" not in said
    assert "not asked for posteriors" not in said


@pytest.mark.parametrize("trainer", ["python layer below an identity", "SegmentwiseNnTrainer"])
def test_a_wrong_number_of_frames_is_an_error_with_both_shapes_and_the_next_segment_is_answered(
    sprint_env: SprintEnv, trainer: str
) -> None:
    name = sprint_env.NAMES[0]
    (frames,) = sprint_env.frames([name])
    with sprint_env.pool("trainer", *TRAINERS[trainer], num_instances=2) as pool:
        wrong = sprint_env.posteriors([frames + 2])
        with pytest.raises(shmbridge.RemoteError) as caught:
            pool.get_batch_loss_and_error_signal(wrong, np.array([frames + 2]), [name])
        assert caught.value.segment == name
        assert caught.value.remote_type == "BatchError"
        assert f"({frames + 2}, 4)" in caught.value.remote_message
        assert f"({frames}, 4)" in caught.value.remote_message
        sprint_env.check(pool, sprint_env.NAMES)
        sprint_env.check(pool, [name])
        assert pool.stats().failed == 1


def test_a_trainer_also_exports_automata(sprint_env: SprintEnv) -> None:
    with sprint_env.pool("trainer", num_instances=2) as pool:
        sprint_env.check(pool, sprint_env.NAMES)
        _, _, ends = pool.get_automata_for_batch(sprint_env.NAMES)
        assert ends.shape == (2, len(sprint_env.NAMES))
        sprint_env.check(pool, sprint_env.NAMES)


# --- c: the control loop


def test_the_control_loop_serves_any_segment_by_name_without_a_segment_order(
    sprint_env: SprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    with sprint_env.pool("loop", num_instances=2) as pool:
        sprint_env.check(pool, list(reversed(sprint_env.NAMES)), seed=1)
        sprint_env.check(pool, sprint_env.NAMES[3:4], seed=2)
        sprint_env.check(pool, sprint_env.NAMES[3:5], seed=3)
        assert pool.stats().segments == len(sprint_env.NAMES) + 3
    assert not any("getSegmentList" in line for line in sprint_log())


def test_the_control_loop_accepts_any_number_of_frames(sprint_env: SprintEnv) -> None:
    names = sprint_env.NAMES[:3]
    with sprint_env.pool("loop", num_instances=2) as pool:
        for lengths in ([6, 5, 4], [4, 6, 6]):
            posteriors = sprint_env.posteriors(lengths)
            loss, error = pool.get_batch_loss_and_error_signal(posteriors, np.array(lengths), names)
            sprint_env.compare(loss, error, posteriors, lengths, names)


def test_the_control_loop_exports_automata(sprint_env: SprintEnv) -> None:
    with sprint_env.pool("loop", num_instances=2) as pool:
        edges, weights, ends = pool.get_automata_for_batch(sprint_env.NAMES)
        assert edges.shape == (4, len(weights))
        assert ends.shape == (2, len(sprint_env.NAMES))
        sprint_env.check(pool, sprint_env.NAMES)


def test_the_control_loop_skips_a_segment_that_sprint_rejects(sprint_env: SprintEnv) -> None:
    names = [sprint_env.SHORT, sprint_env.NAMES[0]]
    lengths = sprint_env.frames(names)
    with sprint_env.pool("loop", num_instances=2) as pool:
        loss, error_signal = pool.get_batch_loss_and_error_signal(
            sprint_env.posteriors(lengths), np.array(lengths), names
        )
        assert loss[0] == np.inf
        assert np.isfinite(loss[1])
        assert not error_signal[:, 0].any()
        assert pool.stats().skipped == 1


@pytest.mark.parametrize("way", ["iterate", "trainer", "loop"])
def test_an_unknown_segment_is_a_key_error_of_sprint_and_the_next_is_answered(
    sprint_env: SprintEnv, way: str
) -> None:
    names = [sprint_env.NAMES[1], "kórpus/rec/nowhere", sprint_env.NAMES[2]]
    lengths = [3, 6, 5]
    with sprint_env.pool(way, num_instances=2) as pool:
        for call in (
            lambda: pool.get_batch_loss_and_error_signal(
                sprint_env.posteriors(lengths), np.array(lengths), names
            ),
            lambda: pool.get_automata_for_batch(["kórpus/rec/nowhere"]),
        ):
            with pytest.raises(shmbridge.RemoteError, match="kórpus/rec/nowhere") as caught:
                call()
            assert caught.value.remote_type == "KeyError"
            assert caught.value.segment == "kórpus/rec/nowhere"
            sprint_env.check(pool, sprint_env.NAMES)


# --- a, b and c compared with torch, with segments that are too long for an enumeration of all paths


@pytest.mark.parametrize("way", ["iterate", "trainer", "loop"])
def test_losses_and_error_signals_agree_with_torchs_ctc(sprint_env: SprintEnv, way: str) -> None:
    torch = import_or_skip("torch")
    words = {"a": (0,), "ab": (0, 1), "grün": (2, 1), "twice": (0, 0)}
    rng = np.random.default_rng(5)
    sprint_env.segments = {}
    for b in range(8):
        orthography = " ".join(rng.choice(sorted(words), size=rng.integers(1, 12)))
        sprint_env.segments[f"kórpus/rec/{b}"] = (orthography, int(rng.integers(60, 120)))
    sprint_env.write_corpus()
    names = list(sprint_env.segments)
    lengths = sprint_env.frames(names)
    posteriors = sprint_env.posteriors(lengths, seed=7)
    labels = [[p for word in o.split() for p in words[word]] for o in sprint_env.orthographies(names)]
    expected_loss, expected_error = torch_ctc(torch, posteriors, lengths, labels, sprint_env.BLANK)
    with sprint_env.pool(way, num_instances=2) as pool:
        loss, error_signal = pool.get_batch_loss_and_error_signal(posteriors, np.array(lengths), names)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-4)
    np.testing.assert_allclose(error_signal, expected_error, atol=1e-4)


@pytest.mark.parametrize("way", ["iterate", "trainer", "loop"])
def test_the_losses_alone_are_those_with_error_signals(sprint_env: SprintEnv, way: str) -> None:
    names = [*sprint_env.NAMES, sprint_env.SHORT]
    lengths = sprint_env.frames(names)
    posteriors = sprint_env.posteriors(lengths)
    with sprint_env.pool(way, num_instances=2) as pool:
        expected, _ = pool.get_batch_loss_and_error_signal(posteriors, lengths, names)
        np.testing.assert_array_equal(pool.get_batch_loss(posteriors, lengths, names), expected)
        with pytest.raises(shmbridge.BatchError, match=r"must be \(time,batch,label\)"):
            pool.get_batch_loss(posteriors[0], lengths, names)


# --- posteriors in log space


@pytest.mark.parametrize("way", ["iterate", "trainer", "loop"])
def test_a_sprint_that_aborts_on_posteriors_names_the_option_for_log_space(
    sprint_env: SprintEnv, way: str
) -> None:
    with sprint_env.pool(way, "input-in-log-space=false") as pool:
        with pytest.raises(shmbridge.PeerGoneError, match=r"SIGABRT.* input-in-log-space=true") as caught:
            sprint_env.check(pool, sprint_env.NAMES[:1])
        assert caught.value.signal_name == "SIGABRT"


@pytest.mark.parametrize(
    ("options", "is_set"),
    [
        (["--*.action=python-control"], True),
        (['--nn-trainer.action="python-control"'], True),
        (["--action=python-control"], True),
        (["--*.action=supervised-segmentwise-training"], False),
        (["--*.action=python-control", "--*.action=supervised-segmentwise-training"], False),
        (["--*.reaction=python-control"], False),
        (["--config=sprint.config"], False),
    ],
)
def test_log_space_is_set_only_if_the_criterion_receives_the_posteriors_themselves(
    options: list[str], is_set: bool
) -> None:
    """In a trainer the criterion may receive the output of a softmax, which is not in log space."""
    command_line = CommandLine.parse(sys.executable, options).with_bridge({}, segment_order=True)
    assert ("--*.input-in-log-space=true" in command_line) == is_set
    assert command_line[-len(options) :] == options


# --- d: segment order alone


D = {
    "no python layer": (("no-layer", ()), False, True),
    "no python control": (("trainer", ("python-control-enabled=false",)), True, False),
    "neither": (("no-layer", ("python-control-enabled=false",)), True, True),
}


@pytest.mark.parametrize("sprint", D)
def test_segments_without_an_error_signal_are_skipped_and_the_log_names_the_missing_option(
    sprint_env: SprintEnv, sprint: str, sprint_log: Callable[[], list[str]]
) -> None:
    (way, more), no_notification, not_asked = D[sprint]
    names = sprint_env.NAMES[:3]
    lengths = sprint_env.frames(names)
    posteriors = sprint_env.posteriors(lengths)
    with sprint_env.pool(way, *more, num_instances=2) as pool:
        for segments in range(2):
            loss, error_signal = pool.get_batch_loss_and_error_signal(posteriors, np.array(lengths), names)
            assert (loss == np.inf).all()
            assert not error_signal.any()
            assert pool.stats().skipped == 3 * (segments + 1)
        assert pool.stats().segments == 0
    said = sprint_log()
    for name in names:
        of_segment = [line for line in said if f"segment {name!r}" in line and "warning" in line]
        assert sum("gave no error signal" in line for line in of_segment) == 2
        assert sum("no segment notification" in line for line in of_segment) == 2 * no_notification
        assert sum("not asked for posteriors" in line for line in of_segment) == 2 * not_asked


def test_without_python_control_the_error_of_automata_gives_the_reason(sprint_env: SprintEnv) -> None:
    with sprint_env.pool("trainer", "python-control-enabled=false", num_instances=2) as pool:
        with pytest.raises(shmbridge.RemoteError, match=r"no callback.* enable python-control"):
            pool.get_automata_for_batch(sprint_env.NAMES)
        loss, _ = pool.get_batch_loss_and_error_signal(
            sprint_env.posteriors([3]), np.array([3]), ["kórpus/rec/one"]
        )
        assert loss[0] == np.inf


def test_after_a_segment_without_an_error_signal_the_next_one_is_answered(
    sprint_env: SprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    body = """
    for name in segment_list():
        control = sprint_entry.PythonControl.instance
        if control.callback is None:
            init()
        if name != "c/s2":  # as with a bad lattice: the trainer does not come to it
            process(control, name)
    """
    with sprint_env.scripted_pool(body, num_instances=2) as pool:
        loss, error_signal = pool.get_batch_loss_and_error_signal(
            np.ones((2, 3, 4)), np.array([2, 2, 2]), sprint_env.SCRIPTED_NAMES
        )
        np.testing.assert_array_equal(loss, np.array([1.5, np.inf, 1.5], np.float32))
        np.testing.assert_array_equal(error_signal.sum(axis=(0, 2)), [16, 0, 16])
    said = "\n".join(line for line in sprint_log() if "warning" in line)
    assert "segment 'c/s2': Sprint gave no error signal; answered as skipped; Sprint did not begin it" in said
    assert "no segment notification" not in said  # the segments before it had both
    assert "not asked for posteriors" not in said
    assert "c/s1" not in said
    assert "c/s3" not in said


# --- names and orthographies arrive unchanged


@pytest.mark.parametrize("way", ["iterate", "trainer", "loop"])
def test_a_corpus_in_latin_1_has_the_same_names(sprint_env: SprintEnv, way: str) -> None:
    sprint_env.segments = {name: sprint_env.segments[name] for name in sprint_env.NAMES[:3]}
    sprint_env.write_corpus(encoding="iso-8859-1")
    with sprint_env.pool(way) as pool:
        sprint_env.check(pool, sprint_env.NAMES[:3])


def test_a_tag_may_be_utf_8_bytes(sprint_env: SprintEnv) -> None:
    lengths = sprint_env.frames(sprint_env.NAMES[:1])
    with sprint_env.pool("iterate") as pool:
        posteriors = sprint_env.posteriors(lengths)
        loss, error_signal = pool.get_batch_loss_and_error_signal(
            posteriors, np.array(lengths), [sprint_env.NAMES[0].encode()]
        )
        sprint_env.compare(loss, error_signal, posteriors, lengths, sprint_env.NAMES[:1])
