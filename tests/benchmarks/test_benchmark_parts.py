"""The parts of the benchmarks that need neither rich, matplotlib nor another peer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import exchange, leftovers, minimal_sprint, settings, targets
from benchmarks.peers import ENTRIES, Entry, PeerFailedError, Work
from benchmarks.peers.peer import Peer
from benchmarks.percentiles import summarise
from benchmarks.progress import Progress
from shmbridge.cli.null_sprint import error_signal_for

ENTRY = {entry.name: entry for entry in ENTRIES}


class ReturnsAnotherValue(Peer):
    def _start(self) -> None:
        pass

    def round_trip(self, value: float) -> float:
        return value + 1


class FailsLater(Peer):
    def _start(self) -> None:
        self.trips = 0

    def round_trip(self, value: float) -> float:
        self.trips += 1
        if self.trips > 10:
            raise PeerFailedError("it broke")
        return value


def entry_of(peer: type[Peer]) -> Entry:
    return Entry("name", "title", "peer", False, __name__, peer.__name__)


def measured(monkeypatch, peer: type[Peer]):
    monkeypatch.setattr(Entry, "load", lambda _: peer)
    (of_size,) = exchange.measure([(2, 3)], [entry_of(peer)], 5, 1e-4, Progress())
    return of_size["results"]["name"]


@pytest.mark.parametrize(
    "name", ["in_place", "batch", "batch_out", "raw_pipe", "queue_shared_memory", "copy"]
)
def test_a_round_trip_returns_the_value_that_was_sent(name):
    with ENTRY[name].load()(Work(7, 5)) as peer:
        for value in (3.0, -4.0):
            peer.begin_block()
            assert peer.round_trip(value) == value
            peer.end_block()


def test_a_peer_that_returns_another_value_is_not_measured(monkeypatch):
    assert "it must return" in measured(monkeypatch, ReturnsAnotherValue)["unavailable"]


def test_a_peer_that_fails_later_is_reported_without_figures(monkeypatch):
    assert measured(monkeypatch, FailsLater) == {"unavailable": "it broke"}


def test_percentiles_are_in_seconds():
    assert summarise([1_000_000_000] * 99 + [3_000_000_000]) == pytest.approx(
        {"p50": 1.0, "p90": 1.0, "p99": 1.02, "min": 1.0, "count": 100}
    )


def results_with(in_place_large: float, out_large: float = 1.0) -> dict[str, object]:
    def of(size, **p50):
        results = {name: {"p50": value} for name, value in p50.items()}
        results["returnn_pipe"] = {"unavailable": "not today"}
        return {"rows": size[0], "columns": size[1], "results": results}

    small = of((100, 1000), in_place=1.0, iceoryx2_spinning=2.0)
    large = of((1000, 12001), in_place=in_place_large, iceoryx2_spinning=2.0, batch_out=out_large, copy=0.5)
    return {"exchange": [small, large]}


def verdicts(results) -> dict[str, object]:
    return {row["what"]: (row["value"], row["reached"]) for row in targets.evaluate(results)}


def test_a_target_is_reached_up_to_its_bound():
    assert verdicts(results_with(1.2))["in place, 48 MB over 0.4 MB"] == (1.2, True)
    assert verdicts(results_with(1.3))["in place, 48 MB over 0.4 MB"] == (1.3, False)


def test_the_worst_size_counts_against_iceoryx2():
    assert verdicts(results_with(1.6))["in place over iceoryx2 spinning, the worst size"] == (0.8, False)


def test_a_copying_round_trip_is_compared_with_two_copies():
    what = "get_batch… with out=, 48 MB, over two np.copyto"
    assert verdicts(results_with(1.0, out_large=1.25))[what] == (1.25, True)


def test_a_target_that_was_not_measured_has_a_reason():
    reasons = {row["what"]: row["reason"] for row in targets.evaluate(results_with(1.0))}
    assert "not today" in reasons["RETURNN pipe over get_batch… with out=, 48 MB"]
    assert "not measured" in reasons["idle parent or child, share of a core"]


def test_the_error_signal_of_the_null_criterion_has_sprints_layout():
    posteriors = np.arange(6, dtype=np.float32).reshape(2, 3).T  # (label,time)
    error_signal = error_signal_for(posteriors)
    assert error_signal.shape == (3, 2)
    assert error_signal.dtype == np.float32
    assert error_signal.flags.f_contiguous
    assert error_signal.flags.owndata


@pytest.mark.parametrize("setting", ["wait:3", "sleep:", "busy"])
def test_an_invalid_criterion_is_refused(setting):
    with pytest.raises(ValueError, match=r"wait|could not convert"):
        minimal_sprint.delay_from(setting)


def test_files_of_killed_runs_are_removed_and_those_of_running_ones_kept(tmp_path, monkeypatch):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    monkeypatch.setattr(leftovers, "_SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(leftovers.tempfile, "gettempdir", lambda: str(tmp_path))
    left = tmp_path / f"shmbridge-bench-{ended.pid}-abc"
    left.write_bytes(b"")
    folder = tmp_path / f"shmbridge-bench-{ended.pid}-folder"
    (folder / "inside").mkdir(parents=True)
    kept = [tmp_path / "other", tmp_path / "shmbridge-bench-1-abc"]
    for path in kept:
        path.write_bytes(b"")
    leftovers.sweep()
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_the_full_run_measures_all_targets():
    assert {(100, 1000), (1000, 12001)} <= set(settings.FULL.sizes)
    assert 10 in settings.FULL.criteria_ms
    assert {1, 2} <= set(settings.FULL.children)
    assert set(settings.FULL.parts) == set(settings.PARTS)


def test_the_names_of_peers_are_unique():
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)
    assert len({entry.title for entry in ENTRIES}) == len(ENTRIES)


def test_minimal_sprint_does_not_put_its_folder_on_the_path():
    script = Path(minimal_sprint.__file__)
    done = subprocess.run(
        [
            sys.executable,
            str(script),
            "--*.pymod-path=/nowhere",
            "--*.pymod-name=targets",
            "--*.pymod-config=",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No module named 'targets'" in done.stderr


def test_a_block_whose_creation_is_interrupted_is_removed(monkeypatch):
    def interrupted(*_):
        assert names()  # the block exists, and multiprocessing does not track it yet
        raise KeyboardInterrupt

    def names():
        return [path.name for path in Path("/dev/shm").glob(f"{leftovers.name_of_run()}*")]

    monkeypatch.setattr("multiprocessing.shared_memory.register", interrupted, raising=False)  # Python 3.9
    monkeypatch.setattr("multiprocessing.resource_tracker.register", interrupted)
    with pytest.raises(KeyboardInterrupt), ENTRY["queue_shared_memory"].load()(Work(7, 5)):
        raise AssertionError("not reached")
    assert not names()
