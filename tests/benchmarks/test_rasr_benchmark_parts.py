"""The parts of the benchmark of RASR's criterion that do not need Sprint."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks.peers import PeerFailedError
from benchmarks.rasr import measure, report
from benchmarks.rasr.agreement import check_error_signals, check_losses
from benchmarks.rasr.way import Round, Way
from benchmarks.rasr.ways import WAYS, Entry
from benchmarks.rasr.work import Work

ENTRY = {entry.name: entry for entry in WAYS}
NAMES = ["one", "two"]
LOSSES = np.array([10.0, 20.0])
WORK = Work("nn-trainer", {}, None, NAMES, np.zeros((3, 2, 4), np.float32), np.array([3, 3], np.int32))


class Fake(Way):
    """Computes nothing, and reports 2 s for the batch."""

    seconds = 2.0

    def _start(self) -> None:
        self.rounds = 0

    def round(self) -> Round:
        self.rounds += 1
        return Round(int(self.seconds * 1e9), LOSSES, np.zeros((3, 2, 4), np.float32))


class Slow(Fake):
    seconds = 3.0


class Slower(Fake):
    seconds = 4.0


class CannotStart(Fake):
    def _start(self) -> None:
        raise PeerFailedError("not today")


class FailsLater(Fake):
    def round(self) -> Round:
        if self.rounds == 2:
            raise PeerFailedError("it broke")
        return super().round()


class OtherLosses(Fake):
    def round(self) -> Round:
        return dataclasses.replace(super().round(), losses=LOSSES * [1, 1.001])


class OtherErrorSignal(Fake):
    def round(self) -> Round:
        return dataclasses.replace(super().round(), error_signal=np.full((3, 2, 4), 0.5, np.float32))


def measured(monkeypatch, **ways: type[Way]):
    """Measure ways; the bridge and those without a parent are Fakes by default."""
    chosen = {"bridge": Fake, "alone": Fake, "alone_trainer": Fake, **ways}
    monkeypatch.setattr(Entry, "load", lambda entry: chosen[entry.name])
    return measure.measure(WORK, [ENTRY[name] for name in chosen], 3, lambda _: None)


def test_times_are_per_segment_and_ratios_relative_to_no_parent(monkeypatch):
    ways = measured(monkeypatch, returnn_pipe=Slow, alone=Slower)
    assert ways["alone"]["seconds"]["p50"] == 2.0
    assert ways["bridge"]["ratio"] == pytest.approx({"p10": 0.5, "p50": 0.5, "p90": 0.5})
    assert ways["alone_trainer"]["seconds"]["p50"] == 1.0
    assert ways["returnn_pipe"]["seconds"] == pytest.approx(
        {"p50": 1.5, "p90": 1.5, "p99": 1.5, "min": 1.5, "count": 3}
    )
    assert ways["returnn_pipe"]["ratio"] == pytest.approx({"p10": 1.5, "p50": 1.5, "p90": 1.5})
    assert ways["returnn_pipe"]["added"] == pytest.approx({"p10": 0.5, "p50": 0.5, "p90": 0.5})


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        (CannotStart, "not today"),
        (FailsLater, "it broke"),
        (OtherLosses, "the loss of two is 20.02; without a parent it is 20"),
        (OtherErrorSignal, "the error signal of one differs from the bridge's by 0.5"),
    ],
)
def test_a_peer_that_fails_or_computes_another_result_is_reported(monkeypatch, way, reason):
    ways = measured(monkeypatch, returnn_pipe=way)
    assert ways["returnn_pipe"] == {"title": "RETURNN, pipe + pickle", "unavailable": reason}
    assert ways["bridge"]["seconds"]["count"] == 3


@pytest.mark.parametrize("way", [CannotStart, FailsLater, OtherLosses])
def test_a_way_of_shmbridge_that_fails_or_computes_another_result_is_an_error(monkeypatch, way):
    with pytest.raises(PeerFailedError):
        measured(monkeypatch, bridge=way)


def test_losses_may_differ_by_a_ten_thousandth():
    check_losses(NAMES, LOSSES * 1.00009, LOSSES)
    for wrong in (LOSSES * 1.0002, LOSSES * [1, np.nan], LOSSES * [1, np.inf]):
        with pytest.raises(PeerFailedError, match="the loss of"):
            check_losses(NAMES, wrong, LOSSES)


def test_error_signals_may_differ_by_the_float32_rounding_of_the_loss():
    expected = np.zeros((3, 2, 4), np.float32)
    for loss, difference, agrees in ((10, 0.9e-4, True), (10, 2e-4, False), (9000, 2e-3, True)):
        for error_signal in (expected + np.float32(difference), expected - np.float32(difference)):
            if agrees:
                check_error_signals(NAMES, np.array([loss, loss]), error_signal, expected)
            else:
                with pytest.raises(PeerFailedError, match="the error signal of one"):
                    check_error_signals(NAMES, np.array([loss, loss]), error_signal, expected)
    with pytest.raises(PeerFailedError, match="by nan"):
        check_error_signals(NAMES, LOSSES, expected * np.nan, expected)


def test_the_table_names_ways_that_were_not_run(monkeypatch):
    ways = measured(monkeypatch, returnn_pipe=CannotStart)
    target = {"what": "this over that", "bound": 1.03, "value": 1.5, "reached": False}
    settings = {"frames": 3, "labels": 4, "segments": 2, "rounds": 3}
    load = {"used_by_others": 0.25}
    lines = list(report.lines({"settings": settings, "load": load, "ways": ways, "target": target}))
    assert "other processes used 25% of the cores" in lines[0]
    assert "RETURNN, pipe + pickle: not run: not today" in lines
    assert lines[-1] == "this over that: 1.500; <= 1.03: not reached"


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (
            r"loading\n\033[31mTypeError\033[0m: not so\n<sprint>\n    #1  nn-trainer(main+0x25)\n",
            "TypeError: not so",
        ),
        ("loading\nthis is not an nn-trainer\n", "this is not an nn-trainer"),
    ],
)
def test_the_reason_of_a_returnn_child_that_ended_is_its_own_message(tmp_path, output, reason):
    pytest.importorskip("returnn")
    from benchmarks.peers.returnn_parent import ReturnnParent

    executable = tmp_path / "sprint"
    executable.write_text(f"#!/bin/sh\nprintf '{output}'\nexit 3\n")
    executable.chmod(0o755)
    raises = pytest.raises(PeerFailedError, match=f"its child printed: {reason}$")
    with ReturnnParent([str(executable)], shared_memory=False) as parent, raises, parent.explained():
        parent.exchange(WORK.posteriors, WORK.lengths, NAMES)
