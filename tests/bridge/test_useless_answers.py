"""Answers that train nothing are noticed: error signals of zeros, and segments that Sprint skips."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import shmbridge
from shmbridge.parent.severity import Severity
from support.sprint_env import SprintEnv

LOOP = "\ninit().run_control_loop(callback=answer)"


def batch(pool: shmbridge.SprintInstancePool, values: list[float], name: str = "c/s1") -> Any:
    """Send a batch of one-frame segments with these first posteriors; the others are normalized."""
    posteriors = np.full((1, len(values), 4), -np.log(4), np.float32)
    posteriors[0, :, 0] = values
    return pool.get_batch_loss_and_error_signal(posteriors, [1] * len(values), [name] * len(values))


def in_place(pool: shmbridge.SprintInstancePool, value: float, name: str = "c/s1") -> tuple[float, bool]:
    """Send a segment in place; return its loss, and whether it was skipped."""
    with pool.claim(name, 1, 4) as claim:
        claim.posteriors[...] = -np.log(4)
        claim.posteriors[0, 0] = value
        with claim.send().result() as result:
            return result.loss, result.skipped


def scripted(sprint_env: SprintEnv, body: str, **options: Any) -> shmbridge.SprintInstancePool:
    options = {"unnormalized_posteriors": "allow", "use_python_segment_order": False, **options}
    return sprint_env.scripted_pool(body + LOOP, **options)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "shmbridge"]


@pytest.fixture(autouse=True)
def warnings_only(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.WARNING, "shmbridge"):
        yield


# --- error signals of zeros

# The first posterior is the loss or, if it is below -1, the first value of the error signal. The rest is 0.
ZEROS = """
def answer(command, **arguments):
    if command != "calculate_criterion":
        return callback(command, **arguments)
    value = float(arguments["posteriors"][0, 0])
    error_signal = np.zeros(arguments["posteriors"].shape, np.float32, order="F")
    error_signal[0, 0] = value if value < -1 else 0
    return (0.0 if value < -1 else value), error_signal
"""


@pytest.mark.parametrize("way", ["iterate", "trainer", "loop"])
def test_a_criterion_that_sprint_does_not_have_is_an_error_with_sprints_line(
    sprint_env: SprintEnv, way: str
) -> None:
    name = sprint_env.NAMES[1]
    with sprint_env.pool(way, "training-criterion=crc") as pool:
        for _ in range(2):
            with pytest.raises(shmbridge.CriterionError) as caught:
                pool.get_batch_loss_and_error_signal(sprint_env.posteriors([3]), [3], [name])
            for text in (repr(name), "no criterion", "[zero-error-signal]", "unparsable value crc"):
                assert text in str(caught.value)
            assert "configuration error" in caught.value.reported[0]
        claim = pool.claim(name, 3, 4)
        claim.posteriors[...] = sprint_env.posteriors([3])[:, 0]
        sent = claim.send()
        with pytest.raises(shmbridge.CriterionError, match="unparsable value crc"):
            sent.result()
        assert (pool.stats().segments, pool.stats().failed) == (0, 3)


def test_an_error_that_sprint_prints_just_before_its_answer_is_quoted(sprint_env: SprintEnv) -> None:
    body = ZEROS.replace("    value =", "    print('<error component=1>', flush=True)\n    value =")
    expected = r"Sprint reported:\n    <error component=1>$"
    with scripted(sprint_env, body) as pool, pytest.raises(shmbridge.CriterionError, match=expected):
        batch(pool, [0.0])


def test_without_a_line_that_reports_an_error_the_message_quotes_none(sprint_env: SprintEnv) -> None:
    with scripted(sprint_env, ZEROS) as pool:
        with pytest.raises(shmbridge.CriterionError, match=r"\[zero-error-signal\]$") as caught:
            batch(pool, [0.0])
        assert caught.value.reported == ()
        with pytest.raises(shmbridge.CriterionError, match=r"\[zero-error-signal\]$"):
            in_place(pool, 0.0)


def test_a_loss_of_zero_or_an_error_signal_of_zeros_alone_is_valid(sprint_env: SprintEnv) -> None:
    with scripted(sprint_env, ZEROS) as pool:
        result = batch(pool, [-0.5, -3.0])
        assert result.loss.tolist() == [-0.5, 0.0]
        assert result.error_signal[0, :, 0].tolist() == [0.0, -3.0]
        assert in_place(pool, -0.5) == (-0.5, False)
        assert in_place(pool, -3.0) == (0.0, False)


def test_the_error_is_that_of_the_segment_alone(sprint_env: SprintEnv) -> None:
    with scripted(sprint_env, ZEROS) as pool:
        posteriors = np.full((1, 2, 4), -3.0, np.float32)
        posteriors[0, 1, 0] = 0
        with pytest.raises(shmbridge.CriterionError, match="'c/s2'") as caught:
            pool.get_batch_loss_and_error_signal(posteriors, [1, 1], ["c/s1", "c/s2"])
        assert list(caught.value.failed) == ["c/s2"]
        assert caught.value.partial is not None
        np.testing.assert_array_equal(caught.value.partial[0], [0.0, np.nan])


def test_zeros_may_be_allowed(sprint_env: SprintEnv) -> None:
    name = sprint_env.NAMES[1]
    with sprint_env.pool("loop", "training-criterion=none", allow_zero_error_signal=True) as pool:
        loss, error_signal = pool.get_batch_loss_and_error_signal(sprint_env.posteriors([3]), [3], [name])
        assert loss == 0
        assert not error_signal.any()
        with pool.claim(name, 3, 4) as claim:
            claim.posteriors[...] = sprint_env.posteriors([3])[:, 0]
            with claim.send().result() as result:
                assert result.loss == 0


# --- the severity of Sprint's lines


def test_lines_that_report_problems_are_logged_as_such(
    sprint_env: SprintEnv, caplog: pytest.LogCaptureFixture
) -> None:
    body = """
    print("starting")
    print("configuration error: unparsable value ctc")
    print('<warning component="a.b">\\n  too many\\n  errors\\n</warning>')
    print("<error>one line</error>")
    print("going on", flush=True)
    init().run_control_loop(callback=callback)
    """
    with (
        caplog.at_level(logging.INFO, "shmbridge.sprint"),
        sprint_env.scripted_pool(body, use_python_segment_order=False),
    ):
        pass
    said = [record for record in caplog.records if record.name == "shmbridge.sprint"]
    levels = {record.getMessage().partition("] ")[2]: record.levelname for record in said}
    assert {line: levels[line] for line in list(levels)[:8]} == {
        "starting": "INFO",
        "configuration error: unparsable value ctc": "ERROR",
        '<warning component="a.b">': "WARNING",
        "  too many": "WARNING",
        "  errors": "WARNING",
        "</warning>": "WARNING",
        "<error>one line</error>": "ERROR",
        "going on": "INFO",
    }


@pytest.mark.parametrize("line", ["<warnings>", "a <warning", "error", "<information>", ""])
def test_other_lines_have_the_level_info(line: str) -> None:
    assert Severity().of(line) == logging.INFO


def test_an_element_that_does_not_end_ends_by_itself() -> None:
    severity = Severity()
    assert severity.of("<critical-error component='x'>") == logging.ERROR
    levels = [severity.of("text") for _ in range(100)]
    assert levels[0] == logging.ERROR
    assert levels[-1] == logging.INFO


# --- segments that Sprint skips

# Skips segments whose first posterior is below -1, and says so; if it is below -2 it says nothing.
SKIPS = """
def answer(command, **arguments):
    if command != "calculate_criterion":
        return callback(command, **arguments)
    value = arguments["posteriors"][0, 0]
    if -2 < value < -1:
        print(arguments["segment_name"], "has too few frames", flush=True)
    return (None, None) if value < -1 else callback(command, **arguments)
"""
GOOD, SKIPPED, SILENT = -0.5, -1.5, -3.0


def test_the_first_skipped_segment_gets_a_warning_with_sprints_line_about_it(
    sprint_env: SprintEnv, caplog: pytest.LogCaptureFixture
) -> None:
    with scripted(sprint_env, SKIPS, num_instances=2) as pool:
        batch(pool, [GOOD] * 3)
        assert warnings_of(caplog) == []
        assert in_place(pool, SKIPPED, "c/s2")[1]
        assert batch(pool, [SKIPPED, SILENT, GOOD], "c/s3").skipped.tolist() == [True, True, False]
    (message,) = warnings_of(caplog)
    for text in ("'c/s2'", "Sprint's last line about it: c/s2 has too few frames", "[skipped]"):
        assert text in message


def test_the_warning_says_that_sprint_printed_nothing_about_the_segment(
    sprint_env: SprintEnv, caplog: pytest.LogCaptureFixture
) -> None:
    with scripted(sprint_env, SKIPS) as pool:
        batch(pool, [SILENT])
    (message,) = warnings_of(caplog)
    assert "Sprint's last line about it: none" in message


def test_a_layer_that_is_missing_is_the_reason(
    sprint_env: SprintEnv, caplog: pytest.LogCaptureFixture
) -> None:
    with sprint_env.pool("no-layer") as pool:
        names = sprint_env.NAMES[1:2]
        assert pool.get_batch_loss_and_error_signal(sprint_env.posteriors([3]), [3], names).skipped.all()
    (message,) = warnings_of(caplog)
    assert "does Sprint's network have the Python layer?" in message


@pytest.mark.parametrize(
    ("share", "values", "expected"),
    [
        (0.1, [GOOD] * 50 + [SKIPPED] * 9 + [GOOD] * 100, []),
        (0.1, [SKIPPED] * 11, ["10 of the last 10"]),
        (0.1, [GOOD] * 300 + [SKIPPED] * 100, ["10 of the last 100"]),
        (0.1, [GOOD] * 300 + [SKIPPED] * 120, ["10 of the last 100", "100 of the last 100"]),
        (0.1, ([SKIPPED] + [GOOD] * 11) * 20, []),
        (0.1, ([SKIPPED] + [GOOD] * 9) * 20, ["10 of the last 91", "10 of the last 100"]),
        (1.0, [SKIPPED] * 99 + [GOOD] + [SKIPPED] * 99, []),
        (1, [SKIPPED] * 100, ["100 of the last 100"]),
        (0.001, [GOOD] + [SKIPPED] * 3, ["2 of the last 3"]),
    ],
)
def test_a_share_of_skipped_segments_gets_a_warning_once_in_100_segments(
    sprint_env: SprintEnv,
    caplog: pytest.LogCaptureFixture,
    share: float,
    values: list[float],
    expected: list[str],
) -> None:
    with scripted(sprint_env, SKIPS, skip_warning_share=share) as pool:
        batch(pool, values)
    first, *others = warnings_of(caplog)
    assert "skipped segment" in first
    assert len(others) == len(expected), others
    for message, text in zip(others, expected):
        assert f"Sprint skipped {text} segments" in message
