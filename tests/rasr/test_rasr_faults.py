"""Errors name the segment, and the pool continues to work."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import numpy as np
import pytest

import shmbridge

WITH_ERROR_SIGNAL = ["iterate", "trainer", "loop"]
NOWHERE = "example/recording/nowhere"


def sprint_pids():
    """Return the pids of the children that this process has started."""
    pids = []
    for children in Path("/proc/self/task").glob("*/children"):
        try:
            started = children.read_text().split()
        except FileNotFoundError:  # the thread has just ended
            continue
        for pid in started:
            if b"--*.pymod-config=" in Path(f"/proc/{pid}/cmdline").read_bytes():
                pids.append(int(pid))
    return sorted(pids)


@pytest.mark.parametrize("children", [1, 2])
@pytest.mark.parametrize("way", WITH_ERROR_SIGNAL)
def test_an_unknown_segment_is_an_error_and_does_not_restart_children(sprint, way, children):
    names = [sprint.names[0], NOWHERE, sprint.names[1]]
    posteriors = sprint.posteriors([sprint.names[0]] * 3)
    lengths = np.full(3, len(posteriors))
    lengths[2] = sprint.lengths(names[2:])[0]
    with sprint.pool(way, num_instances=children) as pool:
        sprint.check(pool, sprint.names)
        before = sprint_pids()
        assert len(before) == children
        with pytest.raises(shmbridge.RemoteError, match=NOWHERE) as caught:
            pool.get_batch_loss_and_error_signal(posteriors, lengths, names)
        assert (caught.value.segment, caught.value.remote_type) == (NOWHERE, "KeyError")
        sprint.check(pool, sprint.names)
        assert sprint_pids() == before
        assert pool.stats().failed == 1


def test_segment_order_alone_also_reports_an_unknown_segment(sprint):
    with sprint.pool("order") as pool:
        with pytest.raises(shmbridge.RemoteError, match=NOWHERE):
            pool.get_batch_loss_and_error_signal(np.zeros((3, 1, sprint.labels)), np.array([3]), [NOWHERE])
        loss, _ = sprint.loss_and_error_signal(pool, sprint.names, sprint.posteriors(sprint.names))
        assert (loss == np.inf).all()


@pytest.mark.parametrize("way", WITH_ERROR_SIGNAL)
def test_posteriors_with_a_nan_are_not_sent(sprint, way):
    """RASR aborts if the first frame contains a NaN, and does not detect others."""
    names = sprint.names[:2]
    with sprint.pool(way) as pool:
        sprint.check(pool, names)
        before = sprint_pids()
        answered = pool.stats().segments
        for frame, label in [(0, 0), (3, 2)]:
            posteriors = sprint.posteriors(names)
            posteriors[frame, 0, label] = np.nan
            with pytest.raises(shmbridge.BatchError, match="NaN") as caught:
                sprint.loss_and_error_signal(pool, names, posteriors)
            assert names[0] in str(caught.value)
        assert pool.stats().skipped == 0
        assert pool.stats().segments <= answered + 2  # Sprint may have computed the other segment
        sprint.check(pool, names)
        assert sprint_pids() == before


@pytest.mark.parametrize("children", [1, 2])
@pytest.mark.parametrize("way", ["iterate", "loop"])
def test_an_abort_is_an_error_with_signal_output_and_segment(sprint, way, children):
    """RASR asserts the number of labels. Without num_labels, the pool does not check it."""
    name = sprint.names[0]
    with sprint.pool(way, num_instances=children, num_labels=None) as pool:
        for _ in range(2):
            with pytest.raises(shmbridge.PeerGoneError) as caught:
                sprint.loss_and_error_signal(
                    pool, [name], sprint.posteriors([name], labels=sprint.labels + 1)
                )
            error = caught.value
            assert (error.signal_name, error.exit_code) == ("SIGABRT", None)
            assert error.segments == (name,)
            assert name in str(error)
            assert "SIGABRT" in str(error)
            if sprint.is_rasr:
                assert "nEmissions" in "\n".join(error.last_output)  # the assertion
        sprint.check(pool, sprint.names)


def test_with_a_python_layer_a_wrong_number_of_labels_does_not_reach_sprint(sprint):
    name = sprint.names[0]
    with sprint.pool("trainer", num_labels=None) as pool:
        sprint.check(pool, [name])
        with pytest.raises(shmbridge.BatchError, match=str(sprint.labels + 1)):
            sprint.loss_and_error_signal(pool, [name], sprint.posteriors([name], labels=sprint.labels + 1))
        sprint.check(pool, sprint.names)


@pytest.mark.parametrize("way", WITH_ERROR_SIGNAL)
def test_a_child_that_is_killed_between_batches_is_restarted(sprint, way):
    with sprint.pool(way, num_instances=2) as pool:
        sprint.check(pool, sprint.names)
        victim, other = sprint_pids()
        os.kill(victim, signal.SIGKILL)
        # The pool may notice the death before or after it sends to the child.
        with contextlib.suppress(shmbridge.PeerGoneError):
            sprint.check(pool, sprint.names)
        sprint.check(pool, sprint.names)
        assert other in sprint_pids()
        assert len(sprint_pids()) == 2


def test_a_wrong_number_of_frames_is_an_error_with_both_numbers(sprint):
    name = sprint.names[0]
    (frames,) = sprint.lengths([name])
    with sprint.pool("trainer") as pool:
        posteriors = np.full((frames - 1, 1, sprint.labels), -1.0)
        with pytest.raises(shmbridge.RemoteError) as caught:
            pool.get_batch_loss_and_error_signal(posteriors, np.array([frames - 1]), [name])
        assert f"({frames - 1}, {sprint.labels})" in caught.value.remote_message
        assert f"({frames}, {sprint.labels})" in caught.value.remote_message
        sprint.check(pool, sprint.names)


@pytest.mark.parametrize("file", ["corpus", "lexicon"])
def test_a_missing_file_is_an_error_with_sprints_output(sprint, file, tmp_path):
    missing = tmp_path / "nothing-here.xml"

    def use():
        # Sprint may exit before its hello, or at the first segment.
        with sprint.pool("iterate", f"{file}.file={missing}") as pool:
            sprint.check(pool, sprint.names[:1])

    with pytest.raises(shmbridge.PeerGoneError) as caught:
        use()
    assert str(missing) in "\n".join(caught.value.last_output)


@pytest.mark.parametrize("way", [*WITH_ERROR_SIGNAL, "order"])
def test_close_logs_no_warning(sprint, way, caplog):
    """RASR may abort while it destroys its layers. This is after the last answer, and not a failure."""
    with sprint.pool(way, num_instances=2) as pool:
        sprint.loss_and_error_signal(pool, sprint.names, sprint.posteriors(sprint.names))
        caplog.clear()  # segment order alone skips all segments, and warns
    assert sprint_pids() == []
    ours = [r for r in caplog.records if r.name.startswith("shmbridge") and r.name != "shmbridge.sprint"]
    assert not [record.getMessage() for record in ours if record.levelname in ("WARNING", "ERROR")]
