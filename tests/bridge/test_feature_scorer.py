"""Sprint as a recogniser: it sends features, and the trainer's function returns scores."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmbridge
from shmbridge._native import lib
from shmbridge.memory import MIN_RING_SIZE
from support.internals import (
    before_each_memory_reservation,
    before_each_score_copy,
    before_each_sleep,
    children,
    is_serving,
    once,
    poll,
    wrap_score_claims,
)
from support.sprint_env import SprintEnv

DIM, LABELS = 3, 5
WEIGHTS = np.random.default_rng(7).normal(size=(DIM, LABELS)).astype(np.float32)


def network(features: Any) -> Any:
    """Return -log softmax of a linear layer in float64, which is not Sprint's dtype."""
    x = features.astype(np.float64) @ WEIGHTS
    return np.log(np.exp(x).sum(axis=1, keepdims=True)) - x


@pytest.fixture
def features(sprint_env: SprintEnv) -> dict[str, Any]:
    """Return (dimension, time) of each segment of the corpus; write them to features.npz."""
    random = np.random.default_rng(5)
    matrices: dict[str, Any] = {
        name: random.normal(size=(DIM, f)).astype(np.float32) for name, (_, f) in sprint_env.segments.items()
    }
    np.savez(sprint_env.path / "features.npz", **matrices)
    return matrices


def recognizer(sprint_env: SprintEnv, *sprint: str, **more: Any) -> dict[str, Any]:
    """Return the options of a pool whose Sprint recognises the corpus."""
    config = [
        "action=refsprint-recognition",
        f"corpus.file={sprint_env.path}/corpus.xml",
        f"feature-extraction.file={sprint_env.path}/features.npz",
        f"feature-dimension={DIM}",
        f"python-feature-scorer-output-dimension={LABELS}",
        f"refsprint.scores-file={sprint_env.path}/scores.npz",
        *sprint,
    ]
    options = sprint_env.options("loop", **{"use_python_segment_order": False, **more})
    return {**options, "sprint_config": [f"--*.{option}" for option in config]}


def pool_of(sprint_env: SprintEnv, *sprint: str, **more: Any) -> Any:
    return shmbridge.SprintInstancePool(**recognizer(sprint_env, *sprint, **more))


# A scripted Sprint that scores features.
SCORER = f"""
scorer = init(sprint_unit="PythonFeatureScorer")
scorer.init(input_dim={DIM}, output_dim={LABELS})
def score(frames, offset=0):
    for time in range(frames):
        scorer.add_feature(feature=np.full({DIM}, offset + time, np.float32), time=time)
    scorer.compute(num_frames=frames)
    scores = [scorer.get_scores(time=time).tolist() for time in range(frames)]
    scorer.reset(num_frames=frames)
    return scores
"""


def scorer_by_hand(sprint_env: SprintEnv, body: str, **more: Any) -> Any:
    return sprint_env.scripted_pool(SCORER + textwrap.dedent(body), use_python_segment_order=False, **more)


def wait_for_death(sprint_env: SprintEnv, pool: shmbridge.SprintInstancePool) -> None:
    (only,) = children(pool)
    sprint_env.wait_until(only.notice_death, "the pool knows that Sprint has ended")


def test_a_recogniser_receives_the_scores_of_the_trainers_function(
    sprint_env: SprintEnv, features: dict[str, Any], sprint_log: Callable[[], list[str]]
) -> None:
    asked = []

    def score(segment: Any) -> Any:
        asked.append(np.array(segment))
        assert segment.dtype == np.float32
        return network(segment)

    with pool_of(sprint_env) as pool:
        pool.serve_scores(score)
        stats = pool.stats()
    assert (stats.scored, stats.scored_frames) == (len(features), sum(m.shape[1] for m in features.values()))
    assert (stats.segments, stats.failed, stats.posteriors_bytes, stats.error_signal_bytes) == (0, 0, 0, 0)
    assert len(asked) == len(features)
    for segment, matrix in zip(asked, features.values()):
        np.testing.assert_array_equal(segment, matrix.T)
    with np.load(sprint_env.path / "scores.npz") as scores:
        assert sorted(scores) == sorted(features)
        for name, matrix in features.items():
            np.testing.assert_array_equal(scores[name], network(matrix.T).astype(np.float32))
            best = network(matrix.T).argmin(axis=1)
            best = best[np.r_[True, best[1:] != best[:-1]]].tolist()
            assert any(repr(name) in line and line.endswith(f"best labels {best}") for line in sprint_log())


def test_several_recognisers_share_the_function_and_each_receives_its_own_scores(
    sprint_env: SprintEnv, features: dict[str, Any]
) -> None:
    # All children have the same command line: the shell that starts them selects a part of the corpus.
    names = list(features)
    for part in range(2):
        (sprint_env.path / f"part{part}").write_text("\n".join(names[part::2]) + "\n")
    python = recognizer(sprint_env)["sprint_exec_path"][0]
    script = sprint_env.executable(
        f"""#!/bin/sh
if mkdir {sprint_env.path}/first 2>/dev/null; then part=0; else part=1; fi
exec {python} -m shmbridge.refsprint "$@" \\
    "--*.segments.file={sprint_env.path}/part$part" \\
    "--*.refsprint.scores-file={sprint_env.path}/scores$part.npz"
"""
    )
    with pool_of(sprint_env, num_instances=2, sprint_exec_path=script) as pool:
        pool.serve_scores(network)
        stats = pool.stats()
    assert stats.scored == len(names)
    assert sorted(child.scored for child in stats.children) == [len(names) // 2, -(-len(names) // 2)]
    for part in range(2):
        with np.load(sprint_env.path / f"scores{part}.npz") as scores:
            assert sorted(scores) == sorted(names[part::2])
            for name in scores:
                np.testing.assert_array_equal(scores[name], network(features[name].T).astype(np.float32))


def test_each_call_is_a_pass_over_the_corpus(sprint_env: SprintEnv, features: dict[str, Any]) -> None:
    with pool_of(sprint_env) as pool:
        pool.serve_scores(network)
        pool.serve_scores(lambda segment: 2 * network(segment))
        stats = pool.stats()
        assert stats.scored == stats.children[0].scored == 2 * len(features)
        assert stats.restarts == 1
    with np.load(sprint_env.path / "scores.npz") as scores:
        for name, matrix in features.items():
            np.testing.assert_array_equal(scores[name], (2 * network(matrix.T)).astype(np.float32))


def test_a_segment_longer_than_any_buffer_and_scores_of_every_stride_arrive_whole(
    sprint_env: SprintEnv,
) -> None:
    with scorer_by_hand(sprint_env, "SEEN['scores'] = [score(frames) for frames in (1, 3000, 2)]") as pool:
        pool.serve_scores(lambda segment: np.asfortranarray(np.repeat(segment[:, :1], LABELS, axis=1)))
    for frames, scores in zip((1, 3000, 2), sprint_env.seen()["scores"]):
        assert scores == [[float(time)] * LABELS for time in range(frames)]


def test_infinite_scores_are_valid(sprint_env: SprintEnv) -> None:
    with scorer_by_hand(sprint_env, "SEEN['scores'] = score(1)") as pool:
        pool.serve_scores(lambda segment: np.full((1, LABELS), np.inf))
    assert sprint_env.seen()["scores"] == [[float("inf")] * LABELS]


def test_rings_that_hold_little_more_than_one_segment_suffice(sprint_env: SprintEnv) -> None:
    body = "SEEN['scores'] = [score(1 + i * 7 % 100, i) for i in range(300)]"
    with scorer_by_hand(sprint_env, body, ring_size=4096) as pool:
        pool.serve_scores(lambda segment: np.repeat(segment[:, :1], LABELS, axis=1))
    for i, scores in enumerate(sprint_env.seen()["scores"]):
        assert scores == [[float(i + time)] * LABELS for time in range(1 + i * 7 % 100)]


# --- errors of the function


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            lambda f: np.zeros((len(f), LABELS + 1)),
            r"returned \(\d+, 6\) of float64 .* must return \(\d+, 5\)",
        ),
        (lambda f: np.zeros((len(f) + 1, LABELS)), "score-function"),
        (lambda f: np.zeros((len(f), LABELS), int), "of int64 .* of a float dtype"),
        (lambda f: None, r"returned \(\) of object"),
        (lambda f: np.where(np.arange(LABELS) == 2, np.nan, np.zeros((len(f), 1))), r"NaN .* \(0, 2\)"),
    ],
    ids=["labels", "frames", "dtype", "none", "nan"],
)
def test_invalid_scores_are_an_error_here_and_in_sprint(
    sprint_env: SprintEnv, features: Any, sprint_log: Callable[[], list[str]], answer: Any, message: str
) -> None:
    with pool_of(sprint_env) as pool:
        with pytest.raises(shmbridge.BatchError, match=message):
            pool.serve_scores(answer)
        assert sprint_env.sprint_pids() == []
    assert any("The trainer's score function raised BatchError" in line for line in sprint_log())
    assert pool.stats().scored == 0
    assert not (sprint_env.path / "scores.npz").exists()


def test_an_exception_of_the_function_is_raised_here_and_ends_sprint(
    sprint_env: SprintEnv, features: Any, sprint_log: Callable[[], list[str]]
) -> None:
    def score(segment: Any) -> Any:
        raise KeyError("no such layer")

    with pool_of(sprint_env) as pool:
        with pytest.raises(KeyError, match="no such layer"):
            pool.serve_scores(score)
        assert sprint_env.sprint_pids() == []
        pool.serve_scores(network)  # restarts the child
        assert pool.stats().scored == len(features)
    assert any("score function raised KeyError: 'no such layer'" in line for line in sprint_log())


def test_ctrl_c_in_the_function_loses_no_segment(sprint_env: SprintEnv, features: dict[str, Any]) -> None:
    calls = 0

    def score(segment: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return network(segment)

    with pool_of(sprint_env) as pool:
        with pytest.raises(KeyboardInterrupt):
            pool.serve_scores(score)
        pool.serve_scores(score)
        assert pool.stats().scored == len(features)
    with np.load(sprint_env.path / "scores.npz") as scores:
        assert sorted(scores) == sorted(features)


def test_ctrl_c_in_the_copy_loses_no_segment(sprint_env: SprintEnv, features: dict[str, Any]) -> None:
    copies = itertools.count(1)

    def interrupt_third() -> None:
        if next(copies) == 3:
            raise KeyboardInterrupt

    with before_each_score_copy(interrupt_third), pool_of(sprint_env) as pool:
        with pytest.raises(KeyboardInterrupt) as caught:
            pool.serve_scores(network)
        pool.serve_scores(network)
        assert pool.stats().scored == len(features)
    assert caught.tb is not None  # its frames hold the unsent claim
    with np.load(sprint_env.path / "scores.npz") as scores:
        for name, matrix in features.items():
            np.testing.assert_array_equal(scores[name], network(matrix.T).astype(np.float32))


class Interrupted:
    """A claim with Ctrl-C right before or right after its commit."""

    def __init__(self, claim: Any, when: str) -> None:
        self._claim = claim
        self._when = when
        self.matrix, self.rows, self.abort = claim.matrix, claim.rows, claim.abort

    def commit(self, *arguments: Any) -> None:
        del self.matrix
        if self._when == "behind":
            self._claim.commit(*arguments)
        raise KeyboardInterrupt


@pytest.mark.parametrize("when", ["before", "behind"])
def test_ctrl_c_at_the_commit_loses_no_segment_and_answers_none_twice(
    sprint_env: SprintEnv, features: dict[str, Any], when: str
) -> None:
    claims = []

    def interrupt_third(claim: Any) -> Any:
        claims.append(claim)
        return Interrupted(claim, when) if len(claims) == 3 else claim

    asked = []

    def score(segment: Any) -> Any:
        asked.append(segment.shape)
        return network(segment)

    with pool_of(sprint_env) as pool, wrap_score_claims(interrupt_third):
        with pytest.raises(KeyboardInterrupt):
            pool.serve_scores(score)
        pool.serve_scores(score)
    assert len(asked) == len(features) + (when == "before")
    with np.load(sprint_env.path / "scores.npz") as scores:
        assert sorted(scores) == sorted(features)
        for name, matrix in features.items():
            np.testing.assert_array_equal(scores[name], network(matrix.T).astype(np.float32))


def test_the_segment_timeout_runs_only_while_serve_scores_waits_for_a_request(
    sprint_env: SprintEnv,
) -> None:
    """Each of two children sends one request, when it is its turn."""
    turn = sprint_env.path / "turn"
    body = f"""
import time
while True:
    try:
        os.unlink({str(turn)!r})
        break
    except FileNotFoundError:
        time.sleep(0.01)
score(2)
"""
    late: list[tuple[bool, bool]] = []

    def note() -> None:
        """Note whether each child can time out: the child with the open request first."""
        asking, other = sorted(children(pool), key=lambda child: not child.awaits_scores)
        late.append((asking.is_timed, other.is_timed))

    def score(segment: Any) -> Any:
        note()
        if len(late) == 1:
            raise KeyboardInterrupt
        if len(late) == 3:
            turn.touch()
        return network(segment)

    with scorer_by_hand(sprint_env, body, num_instances=2, segment_timeout=1000) as pool:
        with pytest.raises(KeyboardInterrupt), before_each_sleep(pool, once(turn.touch)):
            pool.serve_scores(score)
        note()
        pool.serve_scores(score)
        assert pool.stats().scored == 2
    # A request during serve_scores; between the calls; before the call; and with one child alive.
    assert late[:3] == [(False, True), (False, False), (False, True)]
    assert late[3][0] is False


@pytest.mark.parametrize("call", ["serve", "batch", "claim", "automata"])
def test_the_function_cannot_use_its_own_pool(sprint_env: SprintEnv, features: Any, call: str) -> None:
    calls: dict[str, Callable[[shmbridge.SprintInstancePool], object]] = {
        "serve": lambda pool: pool.serve_scores(network),
        "batch": lambda pool: pool.get_batch_loss_and_error_signal(
            np.zeros((4, 1, 5)), [4], sprint_env.NAMES[:1]
        ),
        "claim": lambda pool: pool.claim(sprint_env.NAMES[0], 4, LABELS),
        "automata": lambda pool: pool.get_automata_for_batch(sprint_env.NAMES[:1]),
    }
    with pool_of(sprint_env) as pool:
        with pytest.raises(shmbridge.UsageError, match="from within a call of its own"):
            pool.serve_scores(lambda segment: calls[call](pool))
        pool.serve_scores(network)  # the pool works as before
        assert pool.stats().scored == len(features)


def test_features_that_are_kept_until_the_ring_is_full_are_an_error_with_a_remedy(
    sprint_env: SprintEnv,
) -> None:
    kept = []

    def score(segment: Any) -> Any:
        kept.append(segment)
        return np.zeros((len(segment), LABELS))

    body = "SEEN['n'] = len([score(50) for _ in range(400)])"
    with scorer_by_hand(sprint_env, body, ring_size=8192) as pool:
        with pytest.raises(BufferError, match="scores-held"):
            pool.serve_scores(score)
        kept.clear()
        pool.serve_scores(lambda segment: np.zeros((len(segment), LABELS)))
        assert pool.stats().scored == 400
    assert sprint_env.seen()["n"] == 400


def test_scores_too_large_for_the_ring_are_an_error_with_the_required_size(
    sprint_env: SprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    frames = MIN_RING_SIZE // 16  # of features 12 bytes each, of scores 20
    message = rf"{frames} x 5 needs .* ring_size to at least {20 * frames + 64}"
    with scorer_by_hand(sprint_env, f"score({frames})", ring_size=1) as pool:
        with pytest.raises(shmbridge.SegmentTooLargeError, match=message):
            pool.serve_scores(lambda segment: np.zeros((frames, LABELS)))
        assert pool.stats().scored == 0
    assert any("SegmentTooLargeError" in line for line in sprint_log())


def test_features_too_large_for_the_ring_end_sprint_with_the_required_size(sprint_env: SprintEnv) -> None:
    frames = MIN_RING_SIZE // 12
    with scorer_by_hand(sprint_env, f"score({frames})", ring_size=1) as pool:
        message = rf"SegmentTooLargeError: {frames} x 3 .* ring_size"
        with pytest.raises(shmbridge.PeerGoneError, match=message):
            pool.serve_scores(network)


# --- faults of Sprint


def test_a_sprint_that_is_killed_while_it_awaits_scores_is_an_error(
    sprint_env: SprintEnv, features: Any
) -> None:
    def score(segment: Any) -> Any:
        (pid,) = sprint_env.sprint_pids()
        os.kill(pid, signal.SIGKILL)
        sprint_env.wait_gone([pid])
        return network(segment)

    with pool_of(sprint_env) as pool, pytest.raises(shmbridge.PeerGoneError, match="SIGKILL") as caught:
        pool.serve_scores(score)
    assert caught.value.signal_name == "SIGKILL"


def test_an_open_request_of_a_dead_sprint_occupies_no_room_after_the_restart(
    sprint_env: SprintEnv, features: Any
) -> None:
    mapped = []

    def count_mapped() -> None:
        gc.collect()  # the error's traceback holds the features
        mapped.append(Path("/proc/self/maps").read_text().count("/memfd:shmbridge"))

    def score(segment: Any) -> Any:
        os.kill(pool.stats().children[0].pid, signal.SIGKILL)
        wait_for_death(sprint_env, pool)
        return network(segment)

    with before_each_memory_reservation(count_mapped), pool_of(sprint_env) as pool:
        with pytest.raises(shmbridge.PeerGoneError):
            pool.serve_scores(score)
        pool.serve_scores(network)
    assert mapped[1] == mapped[0]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_sprint_that_is_killed_ends_the_call_while_others_send_many_requests(
    sprint_env: SprintEnv, victim: int
) -> None:
    calls = 0

    def score(segment: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            os.kill(pool.stats().children[victim].pid, signal.SIGKILL)
            child = children(pool)[victim]
            sprint_env.wait_until(child.notice_death, "the pool knows that Sprint has ended")
        return np.zeros((len(segment), LABELS))

    with scorer_by_hand(sprint_env, "for _ in range(1000): score(2)", num_instances=2) as pool:
        with pytest.raises(shmbridge.PeerGoneError, match="SIGKILL"):
            pool.serve_scores(score)
        assert calls <= 2


def test_a_sprint_that_fails_between_two_segments_is_an_error_with_its_last_output(
    sprint_env: SprintEnv,
) -> None:
    body = "score(2)\nprint('out of hypotheses', flush=True)\nos._exit(3)"
    with scorer_by_hand(sprint_env, body) as pool:
        with pytest.raises(shmbridge.PeerGoneError, match=r"exited with code 3.*(\n.*)*out of hypotheses"):
            pool.serve_scores(network)
        assert pool.stats().scored == 1


def test_a_sprint_that_exits_with_0_while_it_awaits_scores_is_an_error(sprint_env: SprintEnv) -> None:
    go = sprint_env.path / "go"
    os.mkfifo(go)
    body = f"""
        def end():
            open({str(go)!r}).close()
            os._exit(0)
        threading.Thread(target=end).start()
        score(2)
        """

    def score(segment: Any) -> Any:
        go.open("w").close()
        wait_for_death(sprint_env, pool)
        return network(segment)

    with scorer_by_hand(sprint_env, body) as pool:
        with pytest.raises(shmbridge.PeerGoneError, match="exited with code 0"):
            pool.serve_scores(score)
        assert pool.stats().scored == 0


@pytest.mark.parametrize("asked", [0, 1])
def test_a_sprint_that_hangs_before_or_between_its_segments_is_terminated(
    sprint_env: SprintEnv, asked: int
) -> None:
    body = "score(2)\n" * asked + "threading.Event().wait()"
    with scorer_by_hand(sprint_env, body, segment_timeout=0.5) as pool:
        message = r"neither requested scores nor ended within 0.5 seconds \(segment_timeout\)"
        with pytest.raises(shmbridge.SegmentTimeoutError, match=message):
            pool.serve_scores(network)
        assert pool.stats().scored == asked


def test_a_sprint_that_is_stopped_while_its_scores_wait_for_room_is_terminated(sprint_env: SprintEnv) -> None:
    frames = (MIN_RING_SIZE - 64) // (4 * LABELS)  # as many as fit into a ring that is empty

    def score(segment: Any) -> Any:
        if len(segment) == frames:  # the next record must first wrap around the end of the ring
            os.kill(pool.stats().children[0].pid, signal.SIGSTOP)
        return np.zeros((len(segment), LABELS))

    with scorer_by_hand(sprint_env, f"score(2); score({frames})", ring_size=1, segment_timeout=0.5) as pool:
        with pytest.raises(shmbridge.SegmentTimeoutError, match="segment_timeout"):
            pool.serve_scores(score)
        assert pool.stats().scored == 1


def test_a_function_slower_than_the_segment_timeout_does_not_end_sprint(sprint_env: SprintEnv) -> None:
    body = "SEEN['scores'] = [score(2), score(2)]"
    slow = threading.Event()

    def score(segment: Any) -> Any:
        slow.wait(0.8)
        return network(segment)

    with scorer_by_hand(sprint_env, body, segment_timeout=0.5) as pool:
        pool.serve_scores(score)
        assert pool.stats().scored == 2


def test_a_sprint_that_never_requests_scores_is_logged(
    sprint_env: SprintEnv, caplog: pytest.LogCaptureFixture
) -> None:
    go = sprint_env.path / "go"
    os.mkfifo(go)
    with scorer_by_hand(sprint_env, f"open({str(go)!r}).close()") as pool:

        def let_end() -> None:
            sprint_env.wait_until(lambda: is_serving(pool), "the pool serves")
            go.open("w").close()

        thread = threading.Thread(target=let_end)
        thread.start()
        pool.serve_scores(network)
        thread.join()
        assert pool.stats().scored == 0
    assert "ended without a score request" in caplog.text


# --- two ways at once


@pytest.mark.parametrize("way", ["loop", "iterate"])
def test_serving_a_sprint_that_awaits_segments_is_an_error_and_its_batches_continue(
    sprint_env: SprintEnv, way: str
) -> None:
    with sprint_env.pool(way) as pool:
        with pytest.raises(shmbridge.UsageError, match="no-score-requests"):
            pool.serve_scores(network)
        sprint_env.check(pool, sprint_env.NAMES)


def test_a_batch_for_a_sprint_that_awaits_scores_is_an_error(sprint_env: SprintEnv, features: Any) -> None:
    with pool_of(sprint_env) as pool:
        posteriors = np.zeros((4, 1, LABELS), np.float32)
        with pytest.raises((shmbridge.UsageError, shmbridge.PeerGoneError), match="serve_scores"):
            pool.get_batch_loss_and_error_signal(posteriors, np.array([4]), [sprint_env.NAMES[0]])


def test_serving_is_refused_while_claimed_or_sent_segments_are_unfinished(sprint_env: SprintEnv) -> None:
    with sprint_env.pool("loop") as pool:
        name, frames = sprint_env.NAMES[0], sprint_env.segments[sprint_env.NAMES[0]][1]
        with pool.claim(name, frames, sprint_env.LABELS) as segment:
            with pytest.raises(shmbridge.UsageError, match=f"{name}.*behind-claim"):
                pool.serve_scores(network)
            segment.posteriors[:] = 0
            pending = segment.send()
            with pytest.raises(shmbridge.UsageError, match=f"{name}.* is not answered"):
                pool.serve_scores(network)
            pending.result().release()


def test_invalid_arguments_of_serve_scores_are_refused(sprint_env: SprintEnv, features: Any) -> None:
    with (
        pool_of(sprint_env, max_restarts=1) as pool,
        pytest.raises(shmbridge.OptionError, match="max_restarts"),
    ):
        pool.serve_scores(network)
    with pool_of(sprint_env) as pool, pytest.raises(shmbridge.UsageError, match="score is of type str"):
        pool.serve_scores("network")
    with pytest.raises(shmbridge.ClosedError):
        pool.serve_scores(network)


def test_closing_from_another_thread_ends_the_serving_and_sprint(
    sprint_env: SprintEnv, features: Any
) -> None:
    with pool_of(sprint_env) as pool:
        closer = threading.Thread(target=pool.close)

        def score(segment: Any) -> Any:
            closer.start()
            sprint_env.wait_until(lambda: pool.closed, "the pool is being closed")
            return network(segment)

        with pytest.raises(shmbridge.ClosedError):
            pool.serve_scores(score)
        closer.join()
    assert sprint_env.sprint_pids() == []


# --- checks in the child


def test_calls_out_of_order_are_errors_that_name_the_expected_call(sprint_env: SprintEnv) -> None:
    settings = {"dimension": DIM, "labels": LABELS}
    options = sprint_env.sprint_file("scorer_out_of_order", settings, use_python_segment_order=False)
    with shmbridge.SprintInstancePool(**options) as pool:
        pool.serve_scores(network)
    seen = sprint_env.seen()
    assert seen["size"] == -1
    types, messages = zip(*seen["errors"])
    assert types == ("UsageError",) * 4 + ("returned",) + ("UsageError",) * 2
    assert "scores for 0 frames" in messages[0]
    assert "0 frames were computed" in messages[1]
    assert "time 1; the next must have shape (3,), at time 0" in messages[2]
    assert "shape (2,)" in messages[3]
    assert "scores for 2 frames; it has added 1" in messages[5]
    assert "0 frames were computed" in messages[6]


def test_a_sprint_that_keeps_scores_raises_with_the_advice_to_copy_them(sprint_env: SprintEnv) -> None:
    body = (
        SCORER
        + "scorer.add_feature(feature=np.zeros(3, np.float32), time=0)\n"
        + (
            "scorer.compute(num_frames=1)\nkept = scorer.get_scores(time=0)\n"
            "SEEN['error'] = attempt(lambda: scorer.compute(num_frames=1))\n"
        )
    )
    with scorer_by_hand(sprint_env, body) as pool:
        pool.serve_scores(network)
    assert "it must copy them" in sprint_env.seen()["error"][1]


# --- records that an untrusted Sprint writes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": lib.SHMB_UINT32}, "features are .* of dtype 2"),
        ({"rows": 0}, r"features are \(0, 3\)"),
        ({"labels": 0}, "for 0 labels"),
        ({"labels": 1 << 40}, "for 1099511627776 labels"),
        ({"status": lib.SHMB_FAILED}, "status 2"),
        ({"twice": True}, "scorer-order"),
        ({"kind": lib.SHMB_SCORES}, "no request is open"),
    ],
    ids=["dtype", "empty", "no labels", "many labels", "failed", "twice", "scores"],
)
def test_invalid_features_end_the_sprint_that_wrote_them(
    sprint_env: SprintEnv, changes: dict[str, int], message: str
) -> None:
    given = {
        "kind": lib.SHMB_FEATURES,
        "dtype": lib.SHMB_FLOAT32,
        "rows": 2,
        "labels": 5,
        "status": 0,
        **changes,
    }
    body = f"""
given = {given!r}
for _ in range(2 if "twice" in given else 1):
    claim = scorer._link.claim(given["kind"], given["rows"], 3, sequence=1, dtype=given["dtype"])
    claim.commit(given["status"], 0.0, given["labels"])
threading.Event().wait()
"""

    def score(segment: Any) -> Any:
        (child,) = children(pool)
        sprint_env.wait_until(lambda: poll(pool) and child.is_dead, "the second record is there")
        return np.zeros((2, 5))

    # The pool may detect it while it still waits for Sprint's hello.
    with pytest.raises(shmbridge.ProtocolError, match=message), scorer_by_hand(sprint_env, body) as pool:
        pool.serve_scores(score)


def test_an_invalid_position_ends_the_sprint_that_wrote_it_when_it_receives_its_scores(
    sprint_env: SprintEnv,
) -> None:
    body = """
import ctypes
from shmbridge.memory import PAGE
head = ctypes.c_uint64.from_address(scorer._link.channel.memory.address + PAGE + 128)  # of the ring to Sprint
head.value += 1 << 20
score(2)
"""
    with scorer_by_hand(sprint_env, body) as pool:
        with pytest.raises(shmbridge.ProtocolError, match="head"):
            pool.serve_scores(network)
        assert pool.stats().children[0].state == "ended"


@pytest.mark.parametrize("change", ["sequence", "kind", "shape", "dtype", "report"])
def test_invalid_answers_end_the_call_in_sprint(sprint_env: SprintEnv, change: str) -> None:
    """The child also checks the records of the parent."""
    pieces = {
        "sequence": ("waits for the scores of request 1", {"sequence": 9}),
        "kind": ("of kind 2, but", {"kind": lib.SHMB_POSTERIORS}),
        "shape": (r"scores are \(2, 4\)", {"columns": 4}),
        "dtype": ("of dtype 2", {"dtype": lib.SHMB_UINT32}),
        "report": (
            "failure report for the scores cannot be read",
            {"dtype": lib.SHMB_UINT8, "status": lib.SHMB_FAILED},
        ),
    }
    message, changes = pieces[change]
    given = {"kind": lib.SHMB_SCORES, "dtype": lib.SHMB_FLOAT32, "sequence": 1, "columns": 5, "status": 0}
    given.update(changes)

    def score(segment: Any) -> Any:
        claim = children(pool)[0].claim_record(
            given["kind"], 2, given["columns"], sequence=given["sequence"], dtype=given["dtype"]
        )
        claim.commit(given["status"])
        wait_for_death(sprint_env, pool)
        return np.zeros((2, 5))

    with scorer_by_hand(sprint_env, "score(2)") as pool:
        with pytest.raises(shmbridge.PeerGoneError, match=f"ProtocolError: .*{message}"):
            pool.serve_scores(score)
        assert pool.stats().scored == 0
