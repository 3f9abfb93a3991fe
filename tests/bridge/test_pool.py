"""The use of a pool by a trainer: batches of any kind, automata, options, and closing."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import re
import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import shmbridge
from support.ctc import automaton_loss
from support.internals import use_cores
from support.packages import import_or_skip
from support.sprint_env import SprintEnv


@pytest.fixture(scope="module")
def shared(module_sprint_env: SprintEnv) -> Iterator[shmbridge.SprintInstancePool]:
    """Two children in the control loop, shared by the tests."""
    with module_sprint_env.pool("loop", num_instances=2) as pool:
        yield pool


# --- batches


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_lengths_may_have_any_integer_dtype(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, dtype: str
) -> None:
    names = module_sprint_env.NAMES[:3]
    lengths = module_sprint_env.frames(names)
    posteriors = module_sprint_env.posteriors(lengths)
    loss, error_signal = shared.get_batch_loss_and_error_signal(posteriors, np.array(lengths, dtype), names)
    module_sprint_env.compare(loss, error_signal, posteriors, lengths, names)


def test_lengths_may_be_a_list_and_segment_names_a_numpy_array(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    names = module_sprint_env.NAMES[:3]
    lengths = module_sprint_env.frames(names)
    posteriors = module_sprint_env.posteriors(lengths)
    given: Any = np.array(names)
    loss, error_signal = shared.get_batch_loss_and_error_signal(posteriors, lengths, given)
    module_sprint_env.compare(loss, error_signal, posteriors, lengths, names)


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "C order": np.ascontiguousarray,
    "Fortran order": np.asfortranarray,
    "batch first in memory": lambda x: np.ascontiguousarray(x.transpose(1, 0, 2)).transpose(1, 0, 2),
    "every second of more frames": lambda x: np.repeat(x, 2, axis=0)[::2],
    "every second of more labels": lambda x: np.repeat(x, 2, axis=2)[..., ::2],
    "backwards in time": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "backwards in everything": lambda x: np.ascontiguousarray(x[::-1, ::-1, ::-1])[::-1, ::-1, ::-1],
    "unaligned": lambda x: np.frombuffer(b"x" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape),
    "swapped bytes": lambda x: x.astype(x.dtype.newbyteorder()),
    "read-only": lambda x: np.broadcast_to(x, x.shape),
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_posteriors_may_have_any_float_dtype_and_layout(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, layout: str, dtype: str
) -> None:
    names = module_sprint_env.NAMES[:3]
    lengths = module_sprint_env.frames(names)
    posteriors = module_sprint_env.posteriors(lengths)
    posteriors[posteriors > 1e20] = 6e4
    posteriors = posteriors.astype(dtype)
    given = LAYOUTS[layout](posteriors)
    assert given.shape == posteriors.shape
    loss, error_signal = shared.get_batch_loss_and_error_signal(given, np.array(lengths), names)
    module_sprint_env.compare(loss, error_signal, posteriors.astype(np.float32), lengths, names)


def test_a_torch_tensor_is_accepted(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    torch = import_or_skip("torch")
    names = module_sprint_env.NAMES[:3]
    lengths = module_sprint_env.frames(names)
    posteriors = module_sprint_env.posteriors(lengths)
    loss, error_signal = shared.get_batch_loss_and_error_signal(
        torch.tensor(posteriors), torch.tensor(lengths, dtype=torch.int32), names
    )
    module_sprint_env.compare(loss, error_signal, posteriors, lengths, names)


@pytest.mark.parametrize("layout", ["contiguous", "strided"])
def test_the_error_signal_is_written_into_out(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, layout: str
) -> None:
    names = module_sprint_env.NAMES
    lengths = module_sprint_env.frames(names)
    posteriors = module_sprint_env.posteriors(lengths)
    steps = 2 if layout == "strided" else 1
    memory = np.full((2 * posteriors.shape[0], len(names), 4), 7, np.float32)
    out = memory[: posteriors.shape[0] * steps : steps]
    loss, error_signal = shared.get_batch_loss_and_error_signal(posteriors, np.array(lengths), names, out=out)
    assert error_signal is out
    module_sprint_env.compare(loss, out, posteriors, lengths, names)
    untouched = memory[1::2] if layout == "strided" else memory[posteriors.shape[0] :]
    assert (untouched == 7).all()


def test_the_given_posteriors_are_not_changed(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    names = module_sprint_env.NAMES
    lengths = module_sprint_env.frames(names)
    posteriors = module_sprint_env.posteriors(lengths)
    given = posteriors.copy()
    shared.get_batch_loss_and_error_signal(given, np.array(lengths), names)
    np.testing.assert_array_equal(given, posteriors)


@pytest.mark.parametrize("layout", ["interleaved", "adjacent", "reversed axes of size 1"])
def test_out_may_be_other_elements_of_the_same_memory(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, layout: str
) -> None:
    names = module_sprint_env.NAMES[:1] if "axes" in layout else module_sprint_env.NAMES[:3]
    lengths = module_sprint_env.frames(names)
    posteriors = module_sprint_env.posteriors(lengths)
    memory = np.zeros((2, *posteriors.shape), np.float32)
    given, out = memory
    if layout == "interleaved":
        memory = np.zeros((posteriors.shape[0], 2, *posteriors.shape[1:]), np.float32)
        given, out = memory[:, 0], memory[:, 1]
    elif layout != "adjacent":  # the same elements in the same order
        out = given.reshape(1, *posteriors.shape[::2]).transpose(1, 0, 2)
        assert out.strides != given.strides
    given[...] = posteriors
    loss, error_signal = shared.get_batch_loss_and_error_signal(given, lengths, names, out=out)
    assert error_signal is out
    module_sprint_env.compare(loss, out, posteriors, lengths, names)


def test_out_may_be_the_posteriors(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    """The pool sends each segment before it overwrites the posteriors with the error signal."""
    names = module_sprint_env.NAMES
    lengths = module_sprint_env.frames(names)
    posteriors = module_sprint_env.posteriors(lengths)
    out = posteriors.copy()
    loss, error_signal = shared.get_batch_loss_and_error_signal(out, np.array(lengths), names, out=out)
    assert error_signal is out
    module_sprint_env.compare(loss, out, posteriors, lengths, names)


def test_minus_infinity_is_a_valid_posterior(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    posteriors = module_sprint_env.posteriors([3])
    posteriors[0, 0, 1] = -np.inf
    loss, error_signal = shared.get_batch_loss_and_error_signal(posteriors, np.array([3]), ["kórpus/rec/one"])
    module_sprint_env.compare(loss, error_signal, posteriors, [3], ["kórpus/rec/one"])


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_batch_may_have_any_size(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, size: int
) -> None:
    module_sprint_env.check(shared, module_sprint_env.NAMES[:size])


def test_a_batch_of_twenty_segments_is_shared_by_two_children(sprint_env: SprintEnv) -> None:
    sprint_env.segments = {f"kórpus/rec/{b}": ("ab" if b % 2 else "grün", 3 + b % 4) for b in range(20)}
    sprint_env.write_corpus()
    with sprint_env.pool("iterate", num_instances=2) as pool:
        sprint_env.check(pool, list(sprint_env.segments))
        assert pool.stats().segments == 20


@pytest.mark.parametrize("way", ["iterate", "trainer", "loop"])
def test_a_segment_may_occur_several_times_in_a_batch(sprint_env: SprintEnv, way: str) -> None:
    """Each occurrence has posteriors, a loss and an error signal of its own."""
    names = [sprint_env.NAMES[index] for index in (0, 1, 0, 0, 1, 1)]
    with sprint_env.pool(way, num_instances=2) as pool:
        sprint_env.check(pool, names)
        sprint_env.check(pool, names[:1] * 2)
        assert pool.stats().segments == len(names) + 2


def test_the_errors_of_a_segment_that_occurs_twice_are_one_error(sprint_env: SprintEnv) -> None:
    names = [sprint_env.NAMES[0], "kórpus/rec/nowhere", "kórpus/rec/nowhere"]
    with sprint_env.pool("loop") as pool:
        with pytest.raises(shmbridge.RemoteError, match="nowhere") as caught:
            pool.get_batch_loss_and_error_signal(sprint_env.posteriors([6, 6, 6]), [6, 6, 6], names)
        assert list(caught.value.failed) == names[1:2]
        assert caught.value.partial is not None
        assert np.isfinite(caught.value.partial[0]).tolist() == [True, False, False]
        assert pool.stats().failed == 2
        sprint_env.check(pool, sprint_env.NAMES)


def test_the_old_name_of_the_segment_names_works_with_a_warning(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    names = module_sprint_env.NAMES[:2]
    lengths = module_sprint_env.frames(names)
    posteriors = module_sprint_env.posteriors(lengths)
    old: Any = {"tags": names}
    with pytest.warns(DeprecationWarning, match="'tags' is deprecated; use 'segment_names'") as caught:
        loss, error_signal = shared.get_batch_loss_and_error_signal(posteriors, lengths, **old)
    with pytest.warns(DeprecationWarning, match="'tags' is deprecated; use 'segment_names'"):
        shared.get_automata_for_batch(**old)
    module_sprint_env.compare(loss, error_signal, posteriors, lengths, names)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("lengths", [np.zeros(0, np.int64), []], ids=["array", "list"])
def test_an_empty_batch_is_answered_without_sprint(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, lengths: Any
) -> None:
    before = shared.stats().segments
    loss, error_signal = shared.get_batch_loss_and_error_signal(np.zeros((0, 0, 4)), lengths, [])
    assert loss.shape == (0,)
    assert error_signal.shape == (0, 0, 4)
    edges, weights, ends = shared.get_automata_for_batch([])
    assert (edges.shape, weights.shape, ends.shape) == ((4, 0), (0,), (2, 0))
    assert shared.stats().segments == before
    module_sprint_env.check(shared, module_sprint_env.NAMES)


def test_lengths_shorter_than_the_batch_leave_the_rest_of_the_error_signal_zero(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    lengths, names = [3, 4], ["kórpus/rec/one", "kórpus/rec/either"]
    posteriors = module_sprint_env.posteriors([9, 9])
    out = np.full((9, 2, 4), np.nan, np.float32)
    loss, error_signal = shared.get_batch_loss_and_error_signal(posteriors, np.array(lengths), names, out=out)
    module_sprint_env.compare(loss, error_signal, posteriors, lengths, names)
    assert not error_signal[4:].any()


def test_segments_and_bytes_are_counted(sprint_env: SprintEnv) -> None:
    names = sprint_env.NAMES[:3]
    with sprint_env.pool("iterate", num_instances=2) as pool:
        sprint_env.check(pool, names)
        pool.get_automata_for_batch(names[:2])
        statistics = pool.stats()
        assert statistics.segments == 3
        assert statistics.automata == 2
        assert (
            statistics.posteriors_bytes == statistics.error_signal_bytes == 16 * sum(sprint_env.frames(names))
        )
        assert (statistics.skipped, statistics.failed) == (0, 0)


# --- the result of a batch


def repickled(given: Any) -> Any:
    return pickle.loads(pickle.dumps(given))  # noqa: S301


def check_batch_result(result: Any, loss: Any, error_signal: Any, skipped: list[bool]) -> None:
    assert type(result) is shmbridge.BatchResult
    assert len(result) == 2
    assert result.skipped.dtype == np.bool_
    assert result.skipped.tolist() == skipped
    for one, other in zip(result, (loss, error_signal)):
        np.testing.assert_array_equal(one, other)
    assert result.loss is result[0]
    assert result.error_signal is result[1]


def test_the_result_of_a_batch_is_a_tuple_of_two_with_an_attribute_skipped(sprint_env: SprintEnv) -> None:
    names = [sprint_env.NAMES[0], sprint_env.SHORT, sprint_env.NAMES[1]]
    lengths = sprint_env.frames(names)
    with sprint_env.pool("iterate", num_instances=2) as pool:
        result = pool.get_batch_loss_and_error_signal(sprint_env.posteriors(lengths), lengths, names)
    loss, error_signal = result
    assert np.isinf(loss).tolist() == [False, True, False]
    check_batch_result(result, loss, error_signal, [False, True, False])
    for same in (copy.copy(result), copy.deepcopy(result), repickled(result)):
        check_batch_result(same, loss, error_signal, [False, True, False])
    check_batch_result(result._replace(loss=-loss), -loss, error_signal, [False, True, False])
    check_batch_result(result._replace(skipped=~result.skipped), loss, error_signal, [True, False, True])
    check_batch_result(result._make(result), loss, error_signal, [False, True, False])
    check_batch_result(result._make([*result, ~result.skipped]), loss, error_signal, [True, False, True])
    assert result.__replace__.__func__ is shmbridge.BatchResult._replace  # type: ignore[attr-defined]


def test_automata_are_a_tuple_of_three_with_names(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    automata = shared.get_automata_for_batch(module_sprint_env.NAMES)
    edges, weights, start_end_states = automata
    for same in (automata, copy.copy(automata), repickled(automata)):
        assert type(same) is shmbridge.Automata
        np.testing.assert_array_equal(same.edges, edges)
        np.testing.assert_array_equal(same.weights, weights)
        np.testing.assert_array_equal(same.start_end_states, start_end_states)


# --- automata


def test_automata_of_a_batch_have_the_documented_shapes_and_states_of_their_own(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    names = module_sprint_env.NAMES
    edges, weights, ends = shared.get_automata_for_batch(names)
    assert edges.dtype == np.uint32
    assert weights.dtype == np.float32
    assert ends.dtype == np.uint32
    assert edges.shape == (4, len(weights))
    assert ends.shape == (2, len(names))
    assert ends[0, 0] == 0
    for b in range(len(names)):
        own = edges[:2, edges[3] == b]
        assert own.min() == ends[0, b]
        assert own.max() == ends[1, b]
        if b:
            assert ends[0, b] == ends[1, b - 1] + 1
    assert set(edges[3].tolist()) == set(range(len(names)))
    assert edges[2].max() < module_sprint_env.LABELS


def test_a_segment_that_occurs_twice_has_an_automaton_at_each_index(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    names = [module_sprint_env.NAMES[index] for index in (1, 0, 1)]
    edges, weights, ends = shared.get_automata_for_batch(names)
    for index, name in enumerate(names):
        alone_edges, alone_weights, _ = shared.get_automata_for_batch([name])
        own = edges[:, edges[3] == index]
        own[:2] -= ends[0, index]
        np.testing.assert_array_equal(own[:3], alone_edges[:3])
        np.testing.assert_array_equal(weights[edges[3] == index], alone_weights)


@pytest.mark.parametrize("dtype", [np.int32, np.dtype(np.int32), "int32"])
def test_automata_may_be_int32(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, dtype: Any
) -> None:
    names = module_sprint_env.NAMES
    automata = shared.get_automata_for_batch(names, dtype=dtype)
    assert automata.edges.dtype == automata.start_end_states.dtype == np.int32
    assert automata.weights.dtype == np.float32
    for array, expected in zip(automata, shared.get_automata_for_batch(names)):
        np.testing.assert_array_equal(array, expected)
    empty = shared.get_automata_for_batch([], dtype=dtype)
    assert (empty.edges.dtype, empty.edges.shape) == (np.int32, (4, 0))


@pytest.mark.parametrize("dtype", [np.int64, np.float32, "uint8", None, "nothing"])
def test_automata_of_another_dtype_are_refused(shared: shmbridge.SprintInstancePool, dtype: Any) -> None:
    with pytest.raises(shmbridge.BatchError, match=r"dtype is .*; it must be numpy\.uint32 or numpy\.int32"):
        shared.get_automata_for_batch([], dtype=dtype)


def test_automata_with_numbers_beyond_int32_are_refused_as_int32(sprint_env: SprintEnv) -> None:
    body = """
    def answer(command, **arguments):
        if command != "export_allophone_state_fsa_by_segment_name":
            return callback(command, **arguments)
        return 2, 1, np.array([0, 1, 1 << 31], np.uint32), np.zeros(1, np.float32)

    init().run_control_loop(callback=answer)
    """
    with sprint_env.scripted_pool(body, use_python_segment_order=False) as pool:
        assert pool.get_automata_for_batch(["c/s1"]).edges[2].tolist() == [1 << 31]
        with pytest.raises(shmbridge.ProtocolError, match="2147483648, which int32 cannot hold"):
            pool.get_automata_for_batch(["c/s1"], dtype=np.int32)


def test_the_sum_over_the_paths_of_the_automaton_is_the_loss(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    names = module_sprint_env.NAMES
    lengths = module_sprint_env.frames(names)
    posteriors = module_sprint_env.posteriors(lengths)
    loss, _ = shared.get_batch_loss_and_error_signal(posteriors, np.array(lengths), names)
    edges, weights, ends = shared.get_automata_for_batch(names)
    for b, length in enumerate(lengths):
        mine = edges[3] == b
        summed = automaton_loss(posteriors[:length, b], edges[:, mine], weights[mine], *ends[:, b].tolist())
        assert summed == pytest.approx(loss[b], rel=1e-4)


# --- options


def returnn_options(sprint_env: SprintEnv) -> dict[str, Any]:
    """Return the options of a pool under RETURNN's names, or under ours if RETURNN has none."""
    ours = sprint_env.options("loop")
    command = shlex.join(ours["sprint_exec_path"])
    return {
        "sprintExecPath": sprint_env.executable(f'#!/bin/sh\nexec {command} "$@"\n'),
        "sprintConfigStr": shlex.join(ours["sprint_config"]),
        "sprintControlConfig": {"verbose": True},
        "minPythonControlVersion": 4,
        "usePythonSegmentOrder": False,
        "numInstances": 2,
        "ring_size": 1 << 20,
        "env": sprint_env.env,
    }


def check_returnn_options(
    sprint_env: SprintEnv, sprint_log: Callable[[], list[str]], pool: shmbridge.SprintInstancePool
) -> None:
    """Check that the options of `returnn_options` have reached the pool and Sprint."""
    with pool:
        assert pool.num_instances == 2
        sprint_env.check(pool, sprint_env.NAMES)
        assert pool.stats().children[0].ring_size <= 1 << 20
    assert any("run_control_loop" in line for line in sprint_log())  # usePythonSegmentOrder, verbose
    assert not any("getSegmentList" in line for line in sprint_log())


def test_returnns_names_as_keywords_work_and_are_deprecated_once(
    sprint_env: SprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    options = returnn_options(sprint_env)
    with pytest.warns(DeprecationWarning, match="deprecated") as caught:
        pool = shmbridge.SprintInstancePool(**options)
    check_returnn_options(sprint_env, sprint_log, pool)
    (warning,) = caught
    for text in ("sprintExecPath", "sprint_exec_path", "numInstances", "num_instances", "from_returnn"):
        assert text in str(warning.message)
    assert warning.filename == __file__  # the line of the caller


def test_an_option_under_both_names_is_refused(sprint_env: SprintEnv) -> None:
    options = {**sprint_env.options("loop"), "num_instances": 2}
    with (
        pytest.warns(DeprecationWarning, match="numInstances"),
        pytest.raises(shmbridge.OptionError, match=r"num_instances.* twice"),
    ):
        shmbridge.SprintInstancePool(**{**options, "numInstances": 2})
    with pytest.raises(shmbridge.OptionError, match=r"num_instances.* twice"):
        shmbridge.SprintInstancePool.from_returnn({**options, "numInstances": 2})


class NoReturnn:
    """A finder for sys.meta_path that hides RETURNN."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name == "returnn":
            raise ModuleNotFoundError("RETURNN is not installed", name=name)


@pytest.fixture
def without_returnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make RETURNN impossible to import."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "returnn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [NoReturnn(), *sys.meta_path])


@pytest.mark.usefixtures("without_returnn")
@pytest.mark.filterwarnings("error::DeprecationWarning")
@pytest.mark.parametrize("kind", ["string", "list"])
def test_from_returnn_accepts_sprint_opts_without_returnn(
    sprint_env: SprintEnv, sprint_log: Callable[[], list[str]], kind: str
) -> None:
    options = returnn_options(sprint_env)
    if kind == "list":
        options["sprintConfigStr"] = shlex.split(options["sprintConfigStr"])
    check_returnn_options(sprint_env, sprint_log, shmbridge.SprintInstancePool.from_returnn(options))


@pytest.mark.usefixtures("without_returnn")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sprintConfigStr": lambda: "--a=b"}, "sprintConfigStr"),
        ({"sprintConfigStr": ["--a", lambda: "--a=b"]}, "sprintConfigStr"),
        ({"sprintConfigStr": "config:sprint"}, "config:sprint"),
        ({"sprintConfigStr": "--a='b"}, "--a='b"),
        ({"numInstance": 2}, "did you mean num_instances?"),
    ],
)
def test_from_returnn_refuses_options_that_only_returnn_can_evaluate(
    sprint_env: SprintEnv, changes: Any, expected: str
) -> None:
    options = {**returnn_options(sprint_env), **changes}
    with pytest.raises(shmbridge.OptionError, match=re.escape(expected)):
        shmbridge.SprintInstancePool.from_returnn(options)


def test_from_returnn_of_an_instance_is_an_instance(sprint_env: SprintEnv) -> None:
    options = {**returnn_options(sprint_env), "numInstances": 1}
    with shmbridge.SprintSubprocessInstance.from_returnn(options) as instance:
        assert isinstance(instance, shmbridge.SprintSubprocessInstance)
        assert len(sprint_env.sprint_pids()) == 1


def test_a_sprint_subprocess_instance_is_one_child(sprint_env: SprintEnv) -> None:
    with shmbridge.SprintSubprocessInstance(**sprint_env.options("iterate")) as instance:
        assert instance.num_instances == 1
        assert len(sprint_env.sprint_pids()) == 1
        sprint_env.check(instance, sprint_env.NAMES)


def test_options_of_the_user_take_precedence_over_those_of_the_bridge(
    sprint_env: SprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    with sprint_env.pool("trainer", "python-control-enabled=false") as pool:
        pool.get_batch_loss_and_error_signal(sprint_env.posteriors([3]), np.array([3]), ["kórpus/rec/one"])
    assert any("no segment notification" in line for line in sprint_log())


def test_the_children_have_the_environment_of_the_option_env(
    sprint_env: SprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    body = """
    control = init()
    print("greeting:", os.environ.get("GREETING"))
    """
    sprint_env.env["GREETING"] = "hello"
    with sprint_env.scripted_pool(body):
        pass
    assert "greeting: hello" in "\n".join(sprint_log())


# --- the end of a pool


def test_leaving_the_context_ends_the_children_with_exit_code_0(
    sprint_env: SprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    with sprint_env.pool("iterate", num_instances=2) as pool:
        sprint_env.check(pool, sprint_env.NAMES)
        pids = sprint_env.sprint_pids()
        assert len(pids) == 2
        assert "2 children" in repr(pool)
    assert sprint_env.sprint_pids() == []
    assert pool.closed
    assert "closed" in repr(pool)
    said = sprint_log()
    assert sum("the parent asks to exit" in line for line in said) == 2
    assert sum(line.endswith("refsprint: done") for line in said) == 2


def test_leaving_the_context_with_an_error_also_ends_the_children(sprint_env: SprintEnv) -> None:
    with pytest.raises(ZeroDivisionError), sprint_env.pool("iterate", num_instances=2):
        raise ZeroDivisionError
    assert sprint_env.sprint_pids() == []


def test_a_pool_may_be_closed_twice_and_is_not_used_after_that(sprint_env: SprintEnv) -> None:
    pool = sprint_env.pool("iterate", num_instances=2)
    claim = pool.claim(sprint_env.NAMES[0], 6, 4)
    pool.close()
    pool.close()
    for call in (
        lambda: sprint_env.check(pool, sprint_env.NAMES),
        lambda: pool.get_automata_for_batch(sprint_env.NAMES),
        lambda: pool.claim(sprint_env.NAMES[0], 3, 4),
        claim.send,
    ):
        with pytest.raises(shmbridge.ClosedError, match="closed"):
            call()


def test_a_copy_is_the_same_pool_and_it_is_not_pickled(shared: shmbridge.SprintInstancePool) -> None:
    assert copy.copy(shared) is shared
    assert copy.deepcopy({"pool": shared})["pool"] is shared
    with pytest.raises(shmbridge.UsageError, match="create a pool in each process"):
        pickle.dumps(shared)


def test_a_pool_that_nothing_refers_to_ends_its_children(sprint_env: SprintEnv) -> None:
    pool = sprint_env.pool("iterate", num_instances=2)
    sprint_env.check(pool, sprint_env.NAMES)
    pids = sprint_env.sprint_pids()
    assert len(pids) == 2
    del pool
    gc.collect()
    sprint_env.wait_gone(pids)


def test_the_interpreters_end_ends_the_children(sprint_env: SprintEnv) -> None:
    body = """
    pool = shmbridge.SprintInstancePool(**OPTIONS)
    say("ready")
    sys.stdin.read()
    """
    with sprint_env.trainer(body, sprint_env.options("iterate", num_instances=2)) as trainer:
        assert sprint_env.said(trainer) == "ready"
        pids = sprint_env.sprint_pids()
        assert len(pids) == 2
        trainer.communicate()
        assert trainer.returncode == 0
        assert not any(pid in sprint_env.sprint_pids() for pid in pids)


def test_an_interpreter_that_ends_with_an_exception_in_a_batch_ends_the_children(
    sprint_env: SprintEnv,
) -> None:
    body = """
    pool = shmbridge.SprintInstancePool(**OPTIONS)
    say("ready")
    pool.get_batch_loss_and_error_signal(np.zeros(1), [1], ["x"])
    """
    with sprint_env.trainer(body, sprint_env.options("iterate", num_instances=2)) as trainer:
        assert sprint_env.said(trainer) == "ready"
        trainer.communicate()
        assert trainer.returncode == 1
    assert sprint_env.sprint_pids() == []


# --- several pools, threads and children


def test_two_pools_live_side_by_side(sprint_env: SprintEnv) -> None:
    with sprint_env.pool("iterate", num_instances=2) as one, sprint_env.pool("loop") as other:
        for seed in range(3):
            sprint_env.check(one, sprint_env.NAMES, seed)
            sprint_env.check(other, sprint_env.NAMES, seed)
        one.close()
        sprint_env.check(other, sprint_env.NAMES)


def test_several_threads_share_a_pool(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for i in range(10):
                module_sprint_env.check(shared, module_sprint_env.NAMES[seed : seed + 3], seed=10 * seed + i)
                shared.get_automata_for_batch(module_sprint_env.NAMES[:2])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_the_children_work_in_parallel(sprint_env: SprintEnv, sprint_log: Callable[[], list[str]]) -> None:
    # While one child sleeps in its criterion, the others receive the remaining segments.
    options = {"num_instances": 2, "sprint_control_config": {"verbose": True}}
    with sprint_env.pool("iterate", "refsprint.criterion-sleep=0.05", **options) as pool:
        sprint_env.check(pool, sprint_env.NAMES)
    workers = {line.partition("]")[0] for line in sprint_log() if "process_segment" in line}
    assert len(workers) == 2


# --- the ring's size


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (1, {"in": [False, False, False], "out": [False, False, False]}),
        (2, {"in": [True, False, False], "out": [False, False, True]}),
        (3, {"in": [True, True, True], "out": [True, True, True]}),
    ],
)
def test_a_second_thread_copies_if_a_core_is_idle(
    sprint_env: SprintEnv, cores: int, expected: dict[str, list[bool]]
) -> None:
    """Sprint has two segments at a time: it is idle before the first and after the last.

    It answers the first when the second was copied, and the others when the third was copied.
    """
    body = """
    gate = open(GATE, "rb", buffering=0)

    def gated(command, **arguments):
        if command == "calculate_criterion":
            gate.read(1)
        return callback(command, **arguments)

    init().run_control_loop(callback=gated)
    """
    path = sprint_env.path / "gate"
    os.mkfifo(path)
    seen: dict[str, list[bool]] = {"in": [], "out": []}

    def copy_in(target: Any, source: Any, two_threads: bool) -> None:
        seen["in"].append(two_threads)
        target[...] = source
        gate.write({1: b"", 2: b"1", 3: b"23"}[len(seen["in"])])

    def copy_out(target: Any, source: Any, two_threads: bool) -> None:
        seen["out"].append(two_threads)
        target[...] = source

    posteriors = np.full((3, 3, 4), -1.0, np.float32)
    error_signal = np.empty(posteriors.shape, np.float32)
    with (
        open(path, "r+b", buffering=0) as gate,
        use_cores(cores),
        sprint_env.scripted_pool(
            body.replace("GATE", repr(str(path))), use_python_segment_order=False
        ) as pool,
    ):
        loss = pool.run_batch(
            posteriors, [3, 3, 3], sprint_env.SCRIPTED_NAMES, error_signal, copy_in=copy_in, copy_out=copy_out
        )
    assert seen == expected
    assert (loss == 1.5).all()
    assert (error_signal == -2).all()


def test_more_segments_than_fit_into_the_ring_at_once_wait_for_room(sprint_env: SprintEnv) -> None:
    names = sprint_env.NAMES
    lengths = [3000] * len(names)  # 48 of the ring's 64 kB each
    posteriors = sprint_env.posteriors(lengths)
    with sprint_env.pool("loop", num_instances=2, ring_size=1 << 16) as small:
        loss, error_signal = small.get_batch_loss_and_error_signal(posteriors, np.array(lengths), names)
    with sprint_env.pool("loop", ring_size=4 << 20) as large:
        expected, expected_error = large.get_batch_loss_and_error_signal(posteriors, np.array(lengths), names)
    np.testing.assert_array_equal(loss, expected)
    np.testing.assert_array_equal(error_signal, expected_error)
    assert np.isfinite(loss).all()


def test_a_segment_larger_than_the_ring_is_refused_before_anything_is_sent(sprint_env: SprintEnv) -> None:
    frames = 5000
    with sprint_env.pool("loop", num_instances=2, ring_size=1 << 16) as pool:
        posteriors = sprint_env.posteriors([3, frames])
        for call in (
            lambda: pool.get_batch_loss_and_error_signal(
                posteriors, np.array([3, frames]), sprint_env.NAMES[1:3]
            ),
            lambda: pool.claim(sprint_env.NAMES[0], frames, 4),
        ):
            with pytest.raises(shmbridge.SegmentTooLargeError) as caught:
                call()
            message = str(caught.value)
            assert f"{frames} x 4" in message
            assert "65536 bytes" in message
            (needed,) = (int(number) for number in re.findall(r"at least (\d+)", message))
            assert frames * 16 <= needed <= frames * 16 + 4096
            assert f"({needed} bytes)" in message
            assert "ring_size" in message
        assert pool.stats().posteriors_bytes == 0
        sprint_env.check(pool, sprint_env.NAMES)
        assert pool.stats().segments == len(sprint_env.NAMES)
    with sprint_env.pool("loop", ring_size=needed) as pool:
        loss, _ = pool.get_batch_loss_and_error_signal(
            posteriors, np.array([3, frames]), sprint_env.NAMES[1:3]
        )
        assert np.isfinite(loss).all()


def test_a_segment_name_that_is_too_long_is_refused(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    name = "x" * 5000
    with pytest.raises(shmbridge.SegmentTooLargeError, match="5000 bytes; it must have at most 4096"):
        shared.get_batch_loss_and_error_signal(np.zeros((1, 1, 4)), np.array([1]), [name])
    with pytest.raises(shmbridge.UsageError, match="5000 bytes; it must have at most 4096"):
        shared.get_automata_for_batch([name])
    module_sprint_env.check(shared, module_sprint_env.NAMES)


def test_an_automaton_larger_than_the_ring_is_an_error_and_the_pool_continues(sprint_env: SprintEnv) -> None:
    name = "kórpus/rec/long"
    sprint_env.segments[name] = ("twice " * 2000, 10)
    sprint_env.write_corpus()
    with sprint_env.pool("loop", ring_size=1 << 16) as pool:
        with pytest.raises(shmbridge.RemoteError, match="ring_size") as caught:
            pool.get_automata_for_batch([sprint_env.NAMES[0], name])
        assert caught.value.remote_type == "SegmentTooLargeError"
        assert caught.value.segment == name
        sprint_env.check(pool, sprint_env.NAMES)
