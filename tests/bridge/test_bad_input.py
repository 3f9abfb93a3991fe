"""Invalid input raises immediately with all details, and the pool stays usable."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import shmbridge
from support.sprint_env import SprintEnv

A, B, C = "kórpus/rec/one", "kórpus/rec/two", "kórpus/rec/either"


def scores(frames: int = 5, batch: int = 2, labels: int = 4) -> Any:
    return np.full((frames, batch, labels), -1.0, np.float32)


def with_nan(value: float = np.nan) -> Any:
    given = scores()
    given[2, 1, 3] = value
    return given


def with_junk_behind() -> Any:
    given = scores()
    given[4, 0] = np.nan
    return given


def read_only() -> Any:
    given = scores()
    given.flags.writeable = False
    return given


def overlapping(kind: str) -> tuple[Any, Any]:
    """Return posteriors, and an array of their shape that shares their memory in another order."""
    memory = np.full(100, -1.0, np.float32)
    given = memory[:40].reshape(5, 2, 4)
    if kind == "shifted":
        return given, memory[8:48].reshape(5, 2, 4)
    if kind == "backwards":
        return given, given[::-1]
    if kind == "transposed":
        return given, memory[:40].reshape(2, 5, 4).transpose(1, 0, 2)
    return memory[:80].view(np.float64).reshape(5, 2, 4), given  # wider elements


LENGTHS = np.array([3, 4])
NAMES = [A, B]

# posteriors, lengths, names, out -> parts of the message
BATCHES: dict[str, tuple[Any, ...]] = {
    "two dimensions": (scores()[0], LENGTHS, NAMES, None, ["(2, 4)", "(time,batch,label)"]),
    "four dimensions": (scores()[None], LENGTHS, NAMES, None, ["(1, 5, 2, 4)"]),
    "a number": (3.0, LENGTHS, NAMES, None, ["shape ()"]),
    "integers": (scores().astype(np.int32), LENGTHS, NAMES, None, ["int32", "float"]),
    "complex numbers": (scores().astype(np.complex64), LENGTHS, NAMES, None, ["complex64"]),
    "truth values": (scores() > 0, LENGTHS, NAMES, None, ["bool"]),
    "objects": (scores().astype(object), LENGTHS, NAMES, None, ["object"]),
    "strings": (np.full((5, 2, 4), "x"), LENGTHS, NAMES, None, ["<U1"]),
    "float lengths": (scores(), np.array([3.0, 4.0]), NAMES, None, ["float64", "integer"]),
    "bool lengths": (scores(), np.array([True, True]), NAMES, None, ["bool"]),
    "two-dimensional lengths": (scores(), np.array([[3, 4]]), NAMES, None, ["(1, 2)", "batch of 2"]),
    "one length": (scores(), np.array(3), NAMES, None, ["shape ()"]),
    "too few lengths": (scores(), np.array([3]), NAMES, None, ["batch of 2", "(1,)", "2 segment names"]),
    "too few names": (scores(), LENGTHS, [A], None, ["batch of 2", "(2,)", "1 segment names"]),
    "too many names": (scores(), LENGTHS, [A, B, C], None, ["batch of 2", "3 segment names"]),
    "a batch that is too small": (scores(batch=1), LENGTHS, NAMES, None, ["batch of 1", "(2,)"]),
    "a length beyond the time": (
        scores(),
        np.array([3, 6]),
        NAMES,
        None,
        ["seq_lengths[1] is 6", B, "5 frames"],
    ),
    "a length of zero": (scores(), np.array([0, 4]), NAMES, None, [A, "0 frames"]),
    "a negative length": (scores(), np.array([3, -4]), NAMES, None, [B, "-4 frames"]),
    "a huge unsigned length": (scores(), np.array([3, 2**64 - 1], np.uint64), NAMES, None, [str(2**64 - 1)]),
    "zero labels": (scores(labels=0), LENGTHS, NAMES, None, ["0 labels"]),
    "a NaN": (with_nan(), LENGTHS, NAMES, None, [B, "index 1", "time 2, label 3"]),
    "a NaN in float64": (with_nan().astype("f8"), LENGTHS, NAMES, None, [B, "time 2, label 3"]),
    "a NaN in float16": (with_nan().astype("f2"), LENGTHS, NAMES, None, [B, "time 2, label 3"]),
    "plus infinity": (with_nan(np.inf), LENGTHS, NAMES, None, [B, "index 1", "+inf at time 2, label 3"]),
    "plus infinity in float64": (
        with_nan(np.inf).astype("f8"),
        LENGTHS,
        NAMES,
        None,
        ["+inf at time 2, label 3"],
    ),
    "a float64 beyond float32": (
        np.where(np.isnan(with_nan()), 1e300, with_nan().astype("f8")),
        LENGTHS,
        NAMES,
        None,
        ["+inf at time 2, label 3"],
    ),
    "a NaN in Fortran order": (np.asfortranarray(with_nan()), LENGTHS, NAMES, None, [B, "time 2, label 3"]),
    "an empty name": (scores(), LENGTHS, [A, ""], None, ["at index 1 of the batch is ''"]),
    "a name that is None": (scores(), LENGTHS, [A, None], None, ["at index 1 of the batch is None"]),
    "a name that is a number": (scores(), LENGTHS, [7, B], None, ["at index 0 of the batch is 7"]),
    "bytes that are not UTF-8": (scores(), LENGTHS, [A, b"\xff\xfe"], None, ["at index 1", r"\xff", "UTF-8"]),
    "a lone surrogate": (scores(), LENGTHS, ["\udc80", B], None, ["at index 0", r"\udc80", "UTF-8"]),
    "a str for the names": (scores(), LENGTHS, A, None, [f"are {A!r}, a single name", f"[{A!r}]"]),
    "bytes for the names": (scores(), LENGTHS, b"c/r/s", None, ["a single name", "[b'c/r/s']"]),
    "None for the names": (scores(), LENGTHS, None, None, ["segment names are None", "a sequence"]),
    "a number for the names": (scores(), LENGTHS, 7, None, ["segment names are 7", "a sequence"]),
    "time and batch swapped": (
        scores().transpose(1, 0, 2),
        LENGTHS,
        NAMES,
        None,
        ["2 frames and a batch of 5", "Time and batch seem to be swapped", "batch_first"],
    ),
    "out of another shape": (scores(), LENGTHS, NAMES, scores(frames=4), ["float32 (4, 2, 4)", "(5, 2, 4)"]),
    "out of another dtype": (scores(), LENGTHS, NAMES, scores().astype("f8"), ["float64", "float32"]),
    "out that is a list": (scores(), LENGTHS, NAMES, [], ["list"]),
    **{
        f"out that is {kind}": (given, LENGTHS, NAMES, out, ["shares memory with log_posteriors"])
        for kind in ("shifted", "backwards", "transposed", "of narrower elements")
        for given, out in [overlapping(kind)]
    },
    "out that is read-only": (scores(), LENGTHS, NAMES, read_only(), ["read-only"]),
}


@pytest.fixture(scope="module")
def shared(module_sprint_env: SprintEnv) -> Iterator[shmbridge.SprintInstancePool]:
    """Two children in the control loop, with the option num_labels."""
    with module_sprint_env.pool("loop", num_instances=2) as pool:
        module_sprint_env.check(pool, module_sprint_env.NAMES)
        yield pool


# --- invalid batches


@pytest.mark.parametrize("what", BATCHES)
def test_an_invalid_batch_is_refused_with_its_value(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, what: str
) -> None:
    posteriors, lengths, names, out, expected = BATCHES[what]
    pids = module_sprint_env.sprint_pids()
    with pytest.raises(shmbridge.BatchError) as caught:
        shared.get_batch_loss_and_error_signal(posteriors, lengths, names, out=out)
    assert isinstance(caught.value, ValueError)
    for text in expected:
        assert text in str(caught.value)
    module_sprint_env.check(shared, module_sprint_env.NAMES)
    assert module_sprint_env.sprint_pids() == pids


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_invalid_posteriors_in_place_are_refused_and_the_claim_stays_open(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, value: float
) -> None:
    posteriors = module_sprint_env.posteriors([3])[:, 0]
    with shared.claim(A, 3, 4) as claim:
        claim.posteriors[...] = posteriors
        claim.posteriors[1, 2] = value
        with pytest.raises(shmbridge.BatchError, match=r"(NaN|\+inf) at time 1, label 2; .*\[nan\]"):
            claim.send()
        claim.posteriors[1, 2] = posteriors[1, 2]
        with claim.send().result() as result:
            assert np.isfinite(result.loss)


def send_in_place(pool: shmbridge.SprintInstancePool, posteriors: Any, name: str) -> Any:
    with pool.claim(name, *posteriors.shape[::2]) as claim:
        claim.posteriors[...] = posteriors[:, 0]
        with claim.send().result() as result:
            return result.loss


def send_batch(pool: shmbridge.SprintInstancePool, posteriors: Any, name: str) -> Any:
    return pool.get_batch_loss_and_error_signal(posteriors, [len(posteriors)], [name]).loss[0]


WAYS = [send_batch, send_in_place]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("send", WAYS)
@pytest.mark.parametrize("factor", [1.0, 0.5, 0.0])
def test_posteriors_that_are_not_normalized_get_one_warning(
    sprint_env: SprintEnv, caplog: pytest.LogCaptureFixture, send: Any, factor: float
) -> None:
    right = sprint_env.posteriors([3])
    logits = factor * (right + 5)
    with sprint_env.pool("loop") as pool:
        assert np.isfinite(send(pool, right, A))
        assert not warnings(caplog)
        for _ in range(2):
            send(pool, logits, A)
            send(pool, right, A)
    (message,) = warnings(caplog)
    for text in (A, "at time 1; they must sum to 1", "from_logits=True", "[not-normalized]"):
        assert text in message


@pytest.mark.parametrize("send", WAYS)
def test_posteriors_that_are_not_normalized_are_an_error_if_the_option_says_so(
    sprint_env: SprintEnv, send: Any
) -> None:
    right = sprint_env.posteriors([3])
    with sprint_env.pool("loop", unnormalized_posteriors="error") as pool:
        for _ in range(2):
            with pytest.raises(shmbridge.BatchError, match=r"sum to 2\.\d+ at time 1; .*\[not-normalized\]"):
                send(pool, right + 1, A)
            assert np.isfinite(send(pool, right, A))
        assert pool.stats().segments == 2


@pytest.mark.parametrize("send", WAYS)
def test_posteriors_that_are_not_normalized_may_be_allowed(
    sprint_env: SprintEnv, caplog: pytest.LogCaptureFixture, send: Any
) -> None:
    with sprint_env.pool("loop", unnormalized_posteriors="allow") as pool:
        send(pool, sprint_env.posteriors([3]) + 1, A)
    assert not warnings(caplog)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_rounded_posteriors_of_many_labels_are_normalized(sprint_env: SprintEnv, dtype: str) -> None:
    given = np.full((3, 1, 12000), -np.log(12000))
    if dtype == "bfloat16":
        given = given.astype(pytest.importorskip("ml_dtypes").bfloat16)
    body = "init().run_control_loop(callback=callback)"
    with sprint_env.scripted_pool(
        body, use_python_segment_order=False, unnormalized_posteriors="error"
    ) as pool:
        assert send_batch(pool, given if dtype == "bfloat16" else given.astype(dtype), "c/s1") == 1.5


def test_a_nan_beyond_the_length_is_ignored(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    given = with_junk_behind()
    loss, error_signal = shared.get_batch_loss_and_error_signal(given, LENGTHS, NAMES)
    module_sprint_env.compare(loss, error_signal, given, LENGTHS.tolist(), NAMES)


@pytest.mark.parametrize("way", ["iterate", "trainer", "loop"])
def test_a_label_dimension_that_differs_from_earlier_batches_is_refused(
    sprint_env: SprintEnv, way: str
) -> None:
    expected = "5 labels; those of the last batch had 4"
    if way == "trainer":  # Sprint reports the number, in a control message that may arrive after an answer
        expected = "5 labels; (Sprint's model has|those of the last batch had) 4"
    with sprint_env.pool(way) as pool:
        sprint_env.check(pool, sprint_env.NAMES)
        with pytest.raises(shmbridge.BatchError, match=expected):
            pool.get_batch_loss_and_error_signal(scores(5, 2, 5), LENGTHS, NAMES)
        with pytest.raises(shmbridge.BatchError, match=expected):
            pool.claim(A, 3, 5)
        sprint_env.check(pool, sprint_env.NAMES)


def test_a_label_dimension_that_differs_from_the_option_is_refused_at_the_first_batch(
    sprint_env: SprintEnv,
) -> None:
    with sprint_env.pool("loop", num_labels=4) as pool:
        with pytest.raises(shmbridge.BatchError, match="3 labels; the option num_labels is 4; correct"):
            pool.get_batch_loss_and_error_signal(scores(5, 2, 3), LENGTHS, NAMES)
        with pytest.raises(shmbridge.BatchError, match="3 labels; the option num_labels is 4; correct"):
            pool.claim(A, 3, 3)
        sprint_env.check(pool, sprint_env.NAMES)


def test_a_label_dimension_that_only_sprint_rejects_raises_with_its_output_and_the_pool_continues(
    sprint_env: SprintEnv,
) -> None:
    with sprint_env.pool("loop") as pool:
        with pytest.raises(shmbridge.PeerGoneError) as caught:
            pool.get_batch_loss_and_error_signal(scores(5, 1, 3), LENGTHS[:1], NAMES[:1])
        assert caught.value.signal_name == "SIGABRT"
        assert caught.value.segments == (A,)
        assert "3 labels" in str(caught.value)
        sprint_env.check(pool, sprint_env.NAMES)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (A, "a single name"),
        ([""], "index 0 of the batch is ''"),
        ([None], "index 0 of the batch is None"),
        ([b"\xff"], "UTF-8"),
        (["\udc80"], "UTF-8"),
    ],
)
def test_automata_of_invalid_segment_names_are_refused(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, names: Any, expected: str
) -> None:
    with pytest.raises(shmbridge.BatchError, match=expected):
        shared.get_automata_for_batch(names)
    module_sprint_env.check(shared, module_sprint_env.NAMES)


def test_one_failed_segment_does_not_prevent_the_others_from_being_counted(sprint_env: SprintEnv) -> None:
    names = [A, "kórpus/rec/nowhere", B]
    with sprint_env.pool("loop", num_instances=2) as pool:
        with pytest.raises(shmbridge.RemoteError, match="nowhere"):
            pool.get_batch_loss_and_error_signal(scores(batch=3), np.array([3, 4, 5]), names)
        assert (pool.stats().segments, pool.stats().failed) == (2, 1)
        sprint_env.check(pool, sprint_env.NAMES)


# --- invalid options

OPTIONS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a misspelt option": ({"num_instance": 2}, ["'num_instance'", "did you mean num_instances?"]),
    "an option without a similar name": (
        {"zzz": 2},
        ["'zzz'", "valid options: ", "num_instances, ", "env, "],
    ),
    "an unknown option of RETURNN": ({"sprintFoo": 2}, ["sprintFoo", "[unknown-option]"]),
    "zero instances": ({"num_instances": 0}, ["num_instances is 0"]),
    "instances that are a string": ({"num_instances": "2"}, ["num_instances is '2'"]),
    "instances that are True": ({"num_instances": True}, ["num_instances is True"]),
    "an empty ring": ({"ring_size": 0}, ["ring_size is 0"]),
    "a fractional ring": ({"ring_size": 1e6}, ["ring_size is 1000000.0"]),
    "a ring beyond every bound": ({"ring_size": 1 << 60}, [str(1 << 60)]),
    "labels that are True": ({"num_labels": True}, ["num_labels is True"]),
    "labels of zero": ({"num_labels": 0}, ["num_labels is 0"]),
    "a negative version": ({"min_python_control_version": -1}, ["min_python_control_version is -1"]),
    "an unknown reaction": (
        {"unnormalized_posteriors": "raise"},
        ["unnormalized_posteriors is 'raise'", "'warn', 'error', 'allow'"],
    ),
    "a number for a truth value": ({"allow_zero_error_signal": 1}, ["allow_zero_error_signal is 1", "True"]),
    "a share of zero": ({"skip_warning_share": 0}, ["skip_warning_share is 0"]),
    "a share that is a percentage": ({"skip_warning_share": 10}, ["skip_warning_share is 10", "at most 1"]),
    "a share that is NaN": ({"skip_warning_share": float("nan")}, ["skip_warning_share is nan"]),
    "a share that is a string": ({"skip_warning_share": "0.1"}, ["skip_warning_share is '0.1'"]),
    "a timeout of zero": ({"start_timeout": 0}, ["start_timeout is 0"]),
    "a timeout that is NaN": ({"exit_timeout": float("nan")}, ["exit_timeout is nan"]),
    "a timeout that is a string": ({"exit_timeout": "1"}, ["exit_timeout is '1'"]),
    "a timeout that is True": ({"start_timeout": True}, ["start_timeout is True"]),
    "a timeout beyond every clock": ({"exit_timeout": 10**400}, ["exit_timeout is 1000"]),
    "a comma in the config string": ({"sprint_control_config": {"a": "b,c:d"}}, ["'a'", "b,c:d"]),
    "a colon in a key of it": ({"sprint_control_config": {"a:b": "c"}}, ["'a:b'"]),
    "an empty key of it": ({"sprint_control_config": {"": "c"}}, ["''"]),
    "a line break in it": ({"sprint_control_config": {"a": "b\nc"}}, ["'a'"]),
    "a number as a key of it": ({"sprint_control_config": {5: "c"}}, ["5", "'c'"]),
    "a NUL in it": ({"sprint_control_config": {"a": "b\0"}}, ["'b\\x00'"]),
    "a lone surrogate in it": ({"sprint_control_config": {"a": "\ud800"}}, ["\\ud800"]),
    "a config string that is not a mapping": ({"sprint_control_config": "verbose:True"}, ["verbose:True"]),
    "an unterminated quote": ({"sprint_config": "--a='b"}, ["--a='b"]),
    "words that are not strings": ({"sprint_config": [1, 2]}, ["[1, 2]"]),
    "a NUL in the words": ({"sprint_config": ["--a", "\0"]}, ["sprint_config", "'\\x00'"]),
    "a NUL in the arguments": ({"sprint_exec_path": [sys.executable, "\0"]}, ["sprint_exec_path", "'\\x00'"]),
    "a lone surrogate in the words": ({"sprint_config": "--a=\ud800"}, ["sprint_config", "\\ud800"]),
    "a number in the environment": ({"env": {"A": 1}}, ["env", "'A': 1"]),
    "a NUL in the environment": ({"env": {"A": "\0"}}, ["env", "'A'"]),
    "a name that holds a =": ({"env": {"A=B": "c"}}, ["env", "'A=B'"]),
    "an environment that is not a mapping": ({"env": "A=b"}, ["A=b"]),
    "an executable that is a number": ({"sprint_exec_path": 7}, ["7"]),
}


@pytest.mark.parametrize("what", OPTIONS)
def test_an_invalid_option_is_refused_with_its_value(sprint_env: SprintEnv, what: str) -> None:
    given, expected = OPTIONS[what]
    options = sprint_env.options("loop")
    for name in given:
        options.pop(name, None)
    with pytest.raises(shmbridge.OptionError) as caught:
        shmbridge.SprintInstancePool(**options, **given)
    for text in expected:
        assert text in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_the_exit_timeout_may_be_infinite(sprint_env: SprintEnv) -> None:
    with sprint_env.pool("loop", exit_timeout=float("inf")) as pool:
        sprint_env.check(pool, sprint_env.NAMES)


def test_without_an_executable_the_error_names_the_option() -> None:
    with pytest.raises(shmbridge.OptionError, match="sprint_exec_path"):
        shmbridge.SprintInstancePool()  # type: ignore[call-arg]


def test_an_instance_is_one_child(sprint_env: SprintEnv) -> None:
    with pytest.raises(shmbridge.OptionError, match=r"num_instances is 2.*SprintInstancePool"):
        shmbridge.SprintSubprocessInstance(**sprint_env.options("loop", num_instances=2))


def test_the_config_string_cannot_set_keys_that_the_bridge_sets(sprint_env: SprintEnv) -> None:
    options = sprint_env.options("loop", sprint_control_config={"c2p_fd": 1})
    with pytest.raises(shmbridge.OptionError, match="'c2p_fd', which the bridge sets itself"):
        shmbridge.SprintInstancePool(**options)


# --- invalid executables

ELF = b"\x7fELF" + b"\0" * 100


@pytest.mark.parametrize("what", ["missing", "not on the path", "not executable", "a directory", "empty"])
def test_an_executable_that_cannot_be_executed_is_an_option_error_with_its_path(
    sprint_env: SprintEnv, what: str
) -> None:
    path = str(sprint_env.path / "nn-trainer")
    expected = path
    if what == "not on the path":
        path = expected = "nn-trainer.of.nobody"
    elif what == "not executable":
        (sprint_env.path / "nn-trainer").write_text("#!/bin/sh\n")
    elif what == "a directory":
        (sprint_env.path / "nn-trainer").mkdir()
    elif what == "empty":
        path, expected = "", "empty"
    with pytest.raises(shmbridge.OptionError) as caught:
        shmbridge.SprintInstancePool(sprint_exec_path=path)
    assert expected in str(caught.value)
    assert "sprint_exec_path" in str(caught.value)


@pytest.mark.parametrize("content", [b"no script\n", b"#!/no/such/interpreter\n", ELF, b""])
def test_a_file_that_is_not_a_program_is_an_option_error_with_its_path(
    sprint_env: SprintEnv, content: bytes
) -> None:
    path = sprint_env.executable("")
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(shmbridge.OptionError) as caught:
        shmbridge.SprintInstancePool(sprint_exec_path=path)
    assert path in str(caught.value)


# --- children that end prematurely


def test_a_child_that_exits_during_start_up_is_an_error_with_its_exit_code_and_last_output(
    sprint_env: SprintEnv,
) -> None:
    path = sprint_env.executable("#!/bin/sh\necho to stdout\necho to stderr >&2\nexit 7\n")
    with pytest.raises(shmbridge.PeerGoneError) as caught:
        shmbridge.SprintInstancePool(sprint_exec_path=path, num_instances=2, ring_size=1 << 20)
    error = caught.value
    assert error.exit_code == 7
    assert error.signal_name is None
    assert error.last_output == ("to stdout", "to stderr")
    for text in ("exited with code 7", path, "to stdout", "to stderr"):
        assert text in str(error)


def test_a_child_that_exits_with_0_during_start_up_is_also_an_error() -> None:
    with pytest.raises(shmbridge.PeerGoneError, match="exited with code 0") as caught:
        shmbridge.SprintInstancePool(sprint_exec_path="true", ring_size=1 << 20)
    assert caught.value.exit_code == 0
    assert caught.value.last_output == ()


def test_a_child_that_is_not_ready_in_time_is_terminated_and_raises_a_timeout(sprint_env: SprintEnv) -> None:
    path = sprint_env.executable("#!/bin/sh\necho reading models\nexec sleep 1000")
    with pytest.raises(
        shmbridge.BridgeTimeoutError,
        match=r"within 2 seconds \(start_timeout\) \[start-timeout\]; its last output:\n    reading models$",
    ) as caught:
        shmbridge.SprintInstancePool(
            sprint_exec_path=path, ring_size=1 << 20, start_timeout=2, env=sprint_env.env
        )
    assert caught.value.last_output == ("reading models",)


def test_an_exception_at_import_reaches_the_parent_with_its_traceback(sprint_env: SprintEnv) -> None:
    with pytest.raises(shmbridge.PeerGoneError) as caught:
        sprint_env.scripted_pool("raise ZeroDivisionError('on purpose')")
    assert caught.value.exit_code == 1
    assert caught.value.last_output[-1] == "ZeroDivisionError: on purpose"


def test_only_the_last_lines_of_output_are_kept(sprint_env: SprintEnv) -> None:
    with pytest.raises(shmbridge.PeerGoneError) as caught:
        sprint_env.scripted_pool("for i in range(10000):\n    print('line', i)\nsys.exit(3)")
    assert caught.value.last_output[-1] == "line 9999"
    assert 10 <= len(caught.value.last_output) <= 100


def test_the_reason_that_sprint_reports_comes_before_a_stack_trace(sprint_env: SprintEnv) -> None:
    body = """
    print('<error component="x">')
    print('an old error')
    print('</error>')
    print('<critical-error component="reader">')
    print("  Cannot calculate best from 'x' because it is empty")
    print('</critical-error>')
    for i in range(60):
        print('stack', i)
    sys.exit(1)
    """
    with pytest.raises(shmbridge.PeerGoneError) as caught:
        sprint_env.scripted_pool(body)
    error, message = caught.value, str(caught.value).splitlines()
    assert "it reported:" in message[0]
    assert message[2] == "      Cannot calculate best from 'x' because it is empty"
    assert message[-1] == "    stack 59"
    assert sum("stack" in line for line in message) == 20
    assert "20 of the 66 lines in last_output" in str(error)
    assert error.reported[1] == "  Cannot calculate best from 'x' because it is empty"
    assert len(error.last_output) == 66


def test_long_output_without_a_line_end_is_truncated_and_does_not_block(
    sprint_env: SprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    body = """
    control = init()
    for name in segment_list():
        sys.stdout.write("x" * 3_000_000)
        sys.stdout.flush()
        process(control, name)
    print(" the end")
    """
    with sprint_env.scripted_pool(body) as pool:
        for _ in range(2):
            loss, _ = pool.get_batch_loss_and_error_signal(scores(batch=1), np.array([3]), ["c/s1"])
            assert loss[0] == 1.5
    said = sprint_log()
    assert max(len(line) for line in said) < 100_000
    assert said[-1].endswith(" the end")


def test_output_that_is_not_utf_8_is_shown_with_escapes(sprint_env: SprintEnv) -> None:
    body = "sys.stdout.buffer.write(b'gr\\xfcn \\xe2\\x82\\xac\\r\\n')\nsys.stdout.flush()\nsys.exit(3)"
    with pytest.raises(shmbridge.PeerGoneError) as caught:
        sprint_env.scripted_pool(body)
    assert caught.value.last_output == ("gr�n €",)


@pytest.mark.parametrize("signal_name", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGALRM"])
def test_a_child_that_is_killed_in_the_criterion_is_an_error_with_signal_segment_and_output(
    sprint_env: SprintEnv, signal_name: str
) -> None:
    options = sprint_env.sprint_file("crashing", {"segment": "c/s2", "signal": signal_name})
    with shmbridge.SprintInstancePool(**options) as pool:
        for _ in range(2):
            (pid,) = sprint_env.sprint_pids()
            with pytest.raises(shmbridge.PeerGoneError) as caught:
                pool.get_batch_loss_and_error_signal(
                    scores(batch=3), np.array([5, 4, 3]), sprint_env.SCRIPTED_NAMES
                )
            error = caught.value
            assert error.signal_name == signal_name
            assert error.exit_code is None
            assert "c/s1" not in error.segments
            assert error.segments[0] == "c/s2"
            assert error.last_output[-1] == "a lattice is broken"
            for text in (signal_name, str(pid), "'c/s2'", "a lattice is broken"):
                assert text in str(error)
            for name in ("c/s1", "c/s3"):
                loss, error_signal = pool.get_batch_loss_and_error_signal(
                    scores(batch=1), np.array([3]), [name]
                )
                assert loss[0] == 1.5
                assert (error_signal[:3] == -2).all()
        # two for each round, and the first child's segment that was answered before
        assert pool.stats().segments == 2 * 3


def test_the_other_child_continues_when_one_is_killed(sprint_env: SprintEnv) -> None:
    names = ["c/bad", *(f"c/good{i}" for i in range(6))]
    settings = {"segment": "c/bad", "signal": "SIGKILL"}
    options = sprint_env.sprint_file("crashing", settings, num_instances=2, use_python_segment_order=False)
    with shmbridge.SprintInstancePool(**options) as pool:
        before = sprint_env.sprint_pids()
        with pytest.raises(shmbridge.PeerGoneError, match="SIGKILL") as caught:
            pool.get_batch_loss_and_error_signal(scores(batch=7), np.array([5, 4, 4, 4, 4, 4, 4]), names)
        assert caught.value.segments[0] == "c/bad"
        loss, _ = pool.get_batch_loss_and_error_signal(scores(batch=6), np.full(6, 4), names[1:])
        assert (loss == 1.5).all()
        after = sprint_env.sprint_pids()
        assert len(after) == 2
        assert len(set(before) & set(after)) == 1


def test_a_child_that_exits_during_a_batch_is_an_error_with_its_exit_code(sprint_env: SprintEnv) -> None:
    body = """
    init()
    for name in segment_list():
        print("no more of this")
        sys.exit(5)
    """
    with sprint_env.scripted_pool(body) as pool:
        for _ in range(2):
            with pytest.raises(shmbridge.PeerGoneError) as caught:
                pool.get_batch_loss_and_error_signal(scores(batch=1), np.array([3]), ["c/s1"])
            assert caught.value.exit_code == 5
            assert caught.value.segments == ("c/s1",)
            assert caught.value.last_output[-1] == "no more of this"


# --- files that cannot be parsed


@pytest.mark.parametrize("way", ["iterate", "trainer"])
def test_a_corpus_that_cannot_be_parsed_is_an_error_with_file_and_line(
    sprint_env: SprintEnv, way: str
) -> None:
    path = sprint_env.path / "corpus.xml"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[5] = "<segment name='x' start='soon'><orth> a </orth></segment>"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(shmbridge.PeerGoneError) as caught, sprint_env.pool(way) as pool:
        sprint_env.check(pool, sprint_env.NAMES)
    assert f"{path}:6: start is 'soon'; it must be a time in seconds" in "\n".join(caught.value.last_output)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("corpus.xml", "<corpus name='x'>\n<recording>", ":2: "),
        ("corpus.xml", "<lexicon/>", ":1: expected <corpus>, got <lexicon>"),
        ("corpus.xml", "", "no element found"),
        ("corpus.xml", None, "No such file"),
        (
            "lexicon.xml",
            "<lexicon>\n<phoneme-inventory>\n<oops/></phoneme-inventory></lexicon>",
            ":3: unexpected <oops>",
        ),
        ("lexicon.xml", None, "No such file"),
    ],
)
def test_a_corpus_or_lexicon_that_cannot_be_read_is_an_error_with_the_file(
    sprint_env: SprintEnv, file: str, content: Any, expected: str
) -> None:
    path = sprint_env.path / file
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(shmbridge.PeerGoneError) as caught, sprint_env.pool("loop") as pool:
        sprint_env.check(pool, sprint_env.NAMES)
    said = "\n".join(caught.value.last_output)
    assert str(path) in said
    assert expected in said


def test_an_invalid_option_of_sprint_is_an_error_with_its_value(sprint_env: SprintEnv) -> None:
    with pytest.raises(shmbridge.PeerGoneError) as caught:
        sprint_env.pool("loop", "action=dance")
    assert "dance" in "\n".join(caught.value.last_output)
    assert caught.value.exit_code == 1


# --- a machine with too few resources


def test_shared_memory_that_cannot_be_reserved_is_an_error_with_a_remedy(sprint_env: SprintEnv) -> None:
    with pytest.raises(shmbridge.ResourceError) as caught:
        sprint_env.pool("loop", ring_size=1 << 42)
    for text in ("ring_size", "are needed", "are free", "bytes"):
        assert text in str(caught.value)
    assert isinstance(caught.value, OSError)
