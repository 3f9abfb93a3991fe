"""Each function of sprint_entry, called as Sprint calls it by a scripted Sprint of a real pool."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import shmbridge
from support.sprint_env import SprintEnv

ONE = ["c/s1"]


def batch(
    pool: shmbridge.SprintInstancePool, names: Any = ONE, frames: int = 3, labels: int = 4
) -> tuple[Any, Any]:
    """Return the result of a batch of ones."""
    posteriors = np.ones((frames, len(names), labels), np.float32)
    return pool.get_batch_loss_and_error_signal(posteriors, np.full(len(names), frames), names)


def play(sprint_env: SprintEnv, body: str, names: Any = ONE, **more: Any) -> Any:
    """Run a script as Sprint for one batch, and return its SEEN."""
    with sprint_env.scripted_pool(body, **more) as pool:
        loss, error_signal = batch(pool, names)
    assert (loss == 1.5).all()
    assert (error_signal == 2).all()
    return sprint_env.seen()


def play_file(
    sprint_env: SprintEnv, name: str, settings: Mapping[str, object], names: Any = ONE, **more: Any
) -> Any:
    """Run tests/sprints/NAME.py as Sprint for one batch, and return its SEEN."""
    with shmbridge.SprintInstancePool(**sprint_env.sprint_file(name, settings, **more)) as pool:
        loss, error_signal = batch(pool, names)
    assert (loss == 1.5).all()
    assert (error_signal == 2).all()
    return sprint_env.seen()


# --- print


def test_print_prints_as_the_builtin_does(sprint_env: SprintEnv, sprint_log: Callable[[], list[str]]) -> None:
    body = """
    control = init()
    sprint_entry.print("one", 2, sep="-", end="!\\n", flush=True)
    for name in segment_list():
        process(control, name)
    """
    play(sprint_env, body)
    said = sprint_log()
    assert any(line.endswith("one-2!") for line in said)
    assert any("getSegmentList: corpus 'c', 3 segments" in line for line in said)


def test_with_quiet_neither_print_nor_the_child_prints_anything(
    sprint_env: SprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    body = """
    control = init()
    sprint_entry.print("not to be seen")
    for name in segment_list():
        process(control, name)
    control.exit()
    print("the builtin")
    """
    play(sprint_env, body, sprint_control_config={"quiet": True})
    assert [line.partition("] ")[2] for line in sprint_log()] == ["the builtin"]


def test_verbose_prints_a_line_for_each_call_of_each_segment(
    sprint_env: SprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    body = """
    control = init()
    for name in segment_list():
        process(control, name)
    """
    play(sprint_env, body, sprint_env.SCRIPTED_NAMES, sprint_control_config={"verbose": True})
    said = "\n".join(sprint_log())
    for name in sprint_env.SCRIPTED_NAMES:
        assert f"segment order: {name!r}" in said
        assert f"process_segment {name!r}" in said


def test_print_escapes_what_the_encoding_lacks_and_ignores_a_closed_output(
    sprint_env: SprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    body = """
    control = init()
    sprint_entry.print("größe", "\\udcff")
    sys.stdout.close()
    sprint_entry.print("not to be seen")
    sys.stdout = None
    sprint_entry.print("not to be seen")
    for name in segment_list():
        process(control, name)
    """
    play(sprint_env, body, env={**sprint_env.env, "PYTHONIOENCODING": "ascii"})
    said = sprint_log()
    assert any(line.endswith(r"gr\xf6\xdfe \udcff") for line in said)
    assert not any("not to be seen" in line for line in said)


def test_print_to_a_file_of_the_caller_raises_as_the_builtin_does(sprint_env: SprintEnv) -> None:
    body = """
    control = init()
    with open(os.devnull, "w") as file:
        pass
    SEEN["error"] = attempt(lambda: sprint_entry.print("lost", file=file))
    for name in segment_list():
        process(control, name)
    """
    assert play(sprint_env, body)["error"][0] == "ValueError"


# --- init


@pytest.mark.parametrize("order", list(itertools.permutations(["control", "order", "layer"])))
def test_control_segment_order_and_layer_share_one_instance_in_any_order_of_init(
    sprint_env: SprintEnv, order: Any
) -> None:
    seen = play_file(sprint_env, "init_order", {"order": ",".join(order)})
    assert seen["one_instance"]
    assert seen["init_returns_it"]


def test_a_sprint_that_is_too_old_is_refused_with_the_reason(sprint_env: SprintEnv) -> None:
    options = sprint_env.scripted("init(version_number=2)", min_python_control_version=3)
    with pytest.raises(shmbridge.PeerGoneError) as caught:
        shmbridge.SprintInstancePool(**options)
    message = str(caught.value)
    assert "OptionError" in message
    assert "is 2; it must be at least 3" in message
    assert "minPythonControlVersion" in message
    assert caught.value.exit_code == 1


def test_a_sprint_without_a_version_number_is_refused(sprint_env: SprintEnv) -> None:
    with pytest.raises(shmbridge.PeerGoneError, match="is None; it must be at least 2"):
        shmbridge.SprintInstancePool(**sprint_env.scripted("init(version_number=None)"))


def test_a_sprint_that_is_new_enough_is_accepted(sprint_env: SprintEnv) -> None:
    body = """
    control = init(version_number=3)
    for name in segment_list():
        process(control, name)
    """
    play(sprint_env, body, min_python_control_version=3)


def test_init_accepts_arguments_that_later_sprints_may_add(sprint_env: SprintEnv) -> None:
    body = """
    control = init(something_new=1)
    control.init_processing(input_dim=40, output_dim=-1, something_new=2)
    for name in segment_list():
        process(control, name, something_new=3)
    control.exit(something_new=4)
    """
    play(sprint_env, body)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("", "no 'c2p_fd'"),
        ("c2p_fd:3", "no 'p2c_fd'"),
        ("c2p_fd:three,p2c_fd:4", "'c2p_fd' in the config string is 'three'; it must be an integer"),
        ("c2p_fd:3,p2c_fd:4,minPythonControlVersion:2", "no 'shm_fd'"),
        ("c2p_fd:99999999999999999999,p2c_fd:4,minPythonControlVersion:2", "no 'shm_fd'"),
        ("c2p_fd", "an item 'c2p_fd' that is not key:value"),
        ("c2p_fd:3,c2p_fd:4", "'c2p_fd' twice"),
        ("c2p_fd:3,quiet:perhaps", "'quiet' in the config string is 'perhaps'"),
    ],
)
def test_an_incomplete_or_malformed_config_string_is_an_option_error(
    config: str, expected: str, sprint_env: SprintEnv
) -> None:
    script = f"""
    import sprint_entry, shmbridge
    for call in (
        lambda: sprint_entry.init(name="Sprint.PythonControl", reference=object(), config={config!r},
                                  version_number=5),
        lambda: sprint_entry.SprintNnPythonLayer(config={config!r}),
        lambda: next(sprint_entry.getSegmentList(corpusName="c", segmentList=["s"], config={config!r})),
    ):
        try:
            call()
        except shmbridge.OptionError as error:
            print("OptionError:", error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        env=sprint_env.env,
        timeout=60,
    )
    errors = [line for line in done.stdout.splitlines() if line.startswith("OptionError:")]
    assert len(errors) == 3, done.stderr
    assert all(expected in error for error in errors)


def test_init_ignores_the_signals_of_a_batch_system_in_sprint_alone(sprint_env: SprintEnv) -> None:
    body = """
    import signal, subprocess, time
    handled = []
    signal.signal(signal.SIGUSR2, lambda *_: handled.append(1))
    control = init()

    def end_of_fork():
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(write, b".")
            while True:
                signal.pause()
        os.read(read, 1)
        os.kill(pid, signal.SIGTERM)
        return -os.WTERMSIG(os.waitpid(pid, 0)[1])

    def end_of_program():
        program = subprocess.Popen(["sleep", "1000"])
        program.terminate()
        return program.wait()

    for name in segment_list():
        SEEN["ends"] = [end_of_fork(), end_of_program()]
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(os.getpid(), number)
        SEEN["handled"] = len(handled)
        process(control, name)
    """
    seen = play(sprint_env, body)
    assert seen["ends"] == [-signal.SIGTERM] * 2
    assert seen["handled"] == 1


# --- getSegmentList


def test_get_segment_list_yields_exactly_str_names_in_the_order_of_the_requests(
    sprint_env: SprintEnv,
) -> None:
    body = """
    for name in segment_list():
        control = init()
        SEEN.setdefault("types", []).append(type(name) is str)
        SEEN.setdefault("names", []).append(name)
        process(control, name)
    """
    names = ["c/s3", "c/s1", "c/s2"]
    seen = play(sprint_env, body, names)
    assert seen["types"] == [True] * 3
    assert seen["names"] == names  # equal lengths: the order of the batch


def test_get_segment_list_refuses_names_that_are_not_in_the_corpus_without_passing_them_to_sprint(
    sprint_env: SprintEnv,
) -> None:
    body = """
    control = init()
    SEEN["names"] = []
    for name in segment_list():
        SEEN["names"].append(name)
        process(control, name)
    """
    with sprint_env.scripted_pool(body) as pool:
        with pytest.raises(shmbridge.RemoteError, match="no segment 'c/other'") as caught:
            batch(pool, ["c/other"])
        assert caught.value.remote_type == "KeyError"
        batch(pool)
    assert sprint_env.seen()["names"] == ONE


def test_get_segment_list_accepts_an_iterable_of_segments_and_their_infos(sprint_env: SprintEnv) -> None:
    body = """
    control = init()
    for name in sprint_entry.getSegmentList(corpusName="c", segmentList=tuple(SEGMENTS),
                                            segmentsInfo={"c/s1": {"time": 1.0}}, config=CONFIG):
        process(control, name)
    """
    play(sprint_env, body)


def test_get_segment_list_ends_when_the_parent_closes(sprint_env: SprintEnv) -> None:
    body = """
    init()
    SEEN["names"] = list(segment_list())
    """
    with sprint_env.scripted_pool(body):
        pass
    assert sprint_env.seen()["names"] == []


# --- process_segment


def test_the_callback_receives_the_orthography_as_str_with_its_trailing_blank(sprint_env: SprintEnv) -> None:
    body = """
    control = init()
    given = [" schön wär's ".encode(), "schön wär's ", b""]
    for name in segment_list():
        process(control, name, orthography=given.pop(0))
    """
    seen = play(sprint_env, body, sprint_env.SCRIPTED_NAMES)
    assert seen["orthographies"] == [" schön wär's ", "schön wär's ", ""]


def test_the_callback_receives_posteriors_that_sprint_copies_with_one_memcpy(sprint_env: SprintEnv) -> None:
    body = """
    def callback(command, **arguments):
        posteriors = arguments["posteriors"]
        SEEN["posteriors"] = [posteriors.shape, posteriors.strides, str(posteriors.dtype),
                              type(posteriors).__name__]
        SEEN["rest"] = {key: value for key, value in arguments.items() if key != "posteriors"}
        SEEN["command"] = command
        return 1.5, np.asfortranarray(2 * posteriors)

    control = init()
    for name in segment_list():
        process(control, name)
    """
    seen = play(sprint_env, body)
    assert seen["posteriors"] == [[4, 3], [4, 16], "float32", "ndarray"]
    assert seen["command"] == "calculate_criterion"
    assert seen["rest"] == {
        "orthography": "word ",
        "segment_name": "c/s1",
        "output_error_type": "error-signal",
    }


def test_an_alignment_is_passed_on_if_sprint_has_no_orthography(sprint_env: SprintEnv) -> None:
    body = """
    def callback(command, **arguments):
        SEEN["alignment"] = arguments["alignment"].tolist()
        SEEN["keys"] = sorted(arguments)
        return 1.5, np.asfortranarray(2 * arguments["posteriors"])

    control = init()
    for name in segment_list():
        process(control, name, orthography=None, alignment=np.arange(3, dtype=np.float32))
    """
    seen = play(sprint_env, body)
    assert seen["alignment"] == [0, 1, 2]
    assert "orthography" not in seen["keys"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("neither orthography nor alignment", "UsageError.*neither an orthography nor an alignment"),
        ("an orthography that is not UTF-8", "UnicodeDecodeError"),
        ("an exception", "ZeroDivisionError.*on purpose"),
        ("a loss alone", "UsageError.*a loss but NoneType for an error signal"),
        ("another shape", r"BatchError.*\(7, 4\).*\(3, 4\)"),
        ("None", "TypeError"),
        ("complex numbers", "TypeError"),
    ],
)
def test_an_error_of_one_segment_is_a_remote_error_and_the_next_is_answered(
    sprint_env: SprintEnv, error: str, expected: str
) -> None:
    options = sprint_env.sprint_file("one_error", {"error": error})
    with shmbridge.SprintInstancePool(**options) as pool:
        with pytest.raises(shmbridge.RemoteError, match=expected) as caught:
            batch(pool)
        assert caught.value.segment == "c/s1"
        assert "Traceback" in caught.value.remote_traceback or caught.value.remote_type == "BatchError"
        loss, error_signal = batch(pool, ["c/s2"])
        assert loss[0] == 1.5
        assert (error_signal == 2).all()
    sprint_env.seen()


def test_a_segment_that_sprint_rejects_is_skipped(
    sprint_env: SprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    body = """
    control = init(callback=lambda command, **arguments: (None, None))
    for name in segment_list():
        process(control, name)
    """
    with sprint_env.scripted_pool(body) as pool:
        loss, error_signal = batch(pool)
        assert loss[0] == np.inf
        assert not error_signal.any()
    assert not any("warning" in line for line in sprint_log())


@pytest.mark.parametrize("layout", ["np.asfortranarray", "np.ascontiguousarray", "np.float64"])
def test_the_error_signal_may_have_any_layout_and_precision(sprint_env: SprintEnv, layout: str) -> None:
    body = f"""
    given = np.arange(12, dtype=np.float32).reshape(4, 3)
    control = init(callback=lambda command, **arguments: (np.float32(0.25), {layout}(given)))
    for name in segment_list():
        process(control, name)
    """
    with sprint_env.scripted_pool(body) as pool:
        loss, error_signal = batch(pool)
    assert loss[0] == 0.25
    np.testing.assert_array_equal(error_signal[:, 0], np.arange(12).reshape(4, 3).T)


def test_iterating_a_corpus_without_a_callback_is_refused(sprint_env: SprintEnv) -> None:
    body = """
    control = init(callback=None)
    SEEN["error"] = attempt(lambda: control.init_processing(input_dim=-1, output_dim=-1))
    init().init_processing(input_dim=-1, output_dim=-1)
    for name in segment_list():
        process(control, name)
    """
    seen = play(sprint_env, body)
    assert seen["error"][0] == "UsageError"
    assert "callback" in seen["error"][1]


@pytest.mark.parametrize(
    "call",
    [
        "process(control, 'c/s2')",
        "control.init_segment(segment_name='c/s2')",
        "control.notify_segment_loss(segment_name='c/s2', loss=1.0)",
    ],
)
def test_a_segment_that_was_not_requested_is_an_error_that_names_both(
    sprint_env: SprintEnv, call: str
) -> None:
    body = f"""
    control = init()
    SEEN["before"] = attempt(lambda: {call})
    for name in segment_list():
        SEEN["meanwhile"] = attempt(lambda: {call})
        process(control, name)
    """
    seen = play(sprint_env, body)
    for when, asked in (("before", "none"), ("meanwhile", "'c/s1'")):
        assert seen[when][0] == "UsageError"
        assert f"Sprint works on segment 'c/s2', the parent requested {asked}" in seen[when][1]
        assert "python-segment-order" in seen[when][1]


def test_a_sprint_that_iterates_without_our_segment_order_ends_with_that_advice(
    sprint_env: SprintEnv,
) -> None:
    options = sprint_env.options("iterate", use_python_segment_order=False)
    with pytest.raises(shmbridge.PeerGoneError) as caught, shmbridge.SprintInstancePool(**options) as pool:
        sprint_env.check(pool, sprint_env.NAMES)
    assert "python-segment-order=true" in str(caught.value)
    assert caught.value.exit_code == 1


# --- calls of NnTrainer, and the layer

LAYER = """
control = init()
layer = sprint_entry.SprintNnPythonLayer(config=CONFIG)
layer.setOutputDimension(size=4)
layer.setInputDimension(stream=0, size=5)
layer.initializeNetworkParameters()

def features(frames=3):
    return np.zeros((5, frames), np.float32, order="F")
"""


def layer_script(rest: str) -> str:
    return LAYER + textwrap.dedent(rest)


@pytest.mark.parametrize("name", ["None", "name"])
@pytest.mark.parametrize("loss_first", [True, False])
def test_loss_and_error_signal_may_come_in_either_order_and_the_loss_without_a_name(
    sprint_env: SprintEnv, name: str, loss_first: bool
) -> None:
    body = layer_script(f"""
    for name in segment_list():
        control.init_segment(segment_name=name)
        output = layer.forward(input=[features()])
        if {loss_first}:
            control.notify_segment_loss(segment_name={name}, loss=1.5)
        layer.backpropagate(errorSignalIn=np.asfortranarray(2 * output))
        if not {loss_first}:
            control.notify_segment_loss(segment_name={name}, loss=1.5)
    layer.finalize()
    """)
    play(sprint_env, body, sprint_env.SCRIPTED_NAMES)


def test_the_segment_may_be_notified_after_forward_as_segmentwise_nn_trainer_does(
    sprint_env: SprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    body = layer_script("""
    for name in segment_list():
        output = layer.forward(input=[features()])
        control.init_segment(segment_name=name)
        control.notify_segment_loss(segment_name=name, loss=1.5)
        layer.backpropagate(errorSignalIn=np.asfortranarray(2 * output))
    """)
    play(sprint_env, body)
    assert not any("warning" in line for line in sprint_log())


@pytest.mark.parametrize("container", ["list", "tuple"])
def test_forward_returns_a_view_of_the_shared_memory_that_sprint_copies_with_one_memcpy(
    sprint_env: SprintEnv, container: str
) -> None:
    posteriors = np.arange(12, dtype=np.float32).reshape(3, 1, 4)
    options = sprint_env.sprint_file("forward_view", {"container": container})
    with shmbridge.SprintInstancePool(**options) as pool:
        loss, error_signal = pool.get_batch_loss_and_error_signal(posteriors, np.array([3]), ONE)
        assert loss[0] == 1.5
        assert (error_signal == 2).all()
    seen = sprint_env.seen()
    shape, strides, dtype, values = seen["output"]
    assert (shape, strides, dtype) == ([4, 3], [4, 16], "float32")
    assert values == posteriors[:, 0].T.tolist()
    assert "/memfd:shmbridge" in seen["mapping"]
    assert "rw-s" in seen["mapping"]
    assert seen["same"]


def test_backpropagate_returns_a_tuple_of_one_matrix_of_zeros_in_sprints_layout(
    sprint_env: SprintEnv,
) -> None:
    body = layer_script("""
    for name in segment_list():
        control.init_segment(segment_name=name)
        output = layer.forward(input=[features()])
        control.notify_segment_loss(segment_name=None, loss=1.5)
        answer = layer.backpropagate(errorSignalIn=np.asfortranarray(2 * output))
        SEEN["type"] = [type(answer).__name__, len(answer), type(answer[0]).__name__]
        SEEN["matrix"] = [answer[0].shape, answer[0].strides, str(answer[0].dtype), bool(answer[0].any())]
    """)
    seen = play(sprint_env, body)
    assert seen["type"] == ["tuple", 1, "ndarray"]
    assert seen["matrix"] == [[5, 3], [4, 20], "float32", False]


def test_a_trainer_that_passes_the_same_array_each_time_does_not_change_earlier_error_signals(
    sprint_env: SprintEnv,
) -> None:
    body = layer_script("""
    error = None
    for i, name in enumerate(segment_list()):
        control.init_segment(segment_name=name)
        output = layer.forward(input=[features()])
        if i == 2:  # after the trial, so in the ring
            error = np.empty((4, 3), np.float32, order="F")
        given = np.empty((4, 3), np.float32, order="F") if error is None else error
        given[...] = i
        control.notify_segment_loss(segment_name=None, loss=1.5)
        layer.backpropagate(errorSignalIn=given)
        del given
    """)
    with sprint_env.scripted_pool(body) as pool:
        results = []
        for _ in range(8):
            claim = pool.claim("c/s1", 3, 4)
            claim.posteriors[...] = 0
            results.append(claim.send().result())
        for i, result in enumerate(results):
            assert (result.error_signal == i).all()


LOSS_ALONE = layer_script("""
for name in segment_list():
    output = layer.forward(input=[features()])
    control.init_segment(segment_name=name)
    control.notify_segment_loss(segment_name=name, loss=1.5)
    if name == "c/s3":
        layer.backpropagate(errorSignalIn=np.asfortranarray(2 * output))
layer.finalize()
""")


def test_a_sprint_that_gives_no_error_signal_gives_the_losses(
    sprint_env: SprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    """As with the Python layer on top, or with estimator=dummy: nothing is backpropagated."""
    names = sprint_env.SCRIPTED_NAMES
    with sprint_env.scripted_pool(LOSS_ALONE, num_instances=2) as pool:
        loss = pool.get_batch_loss(np.ones((3, 3, 4)), [3, 3, 3], names)
        assert loss.dtype == np.float32
        assert loss.tolist() == [1.5] * 3
        statistics = pool.stats()
        assert (statistics.segments, statistics.skipped, statistics.failed) == (3, 0, 0)
        assert statistics.error_signal_bytes == 4 * 3 * 4
    assert not any("warning" in line for line in sprint_log())


def test_without_an_error_signal_the_error_gives_the_loss_and_the_layer_that_is_missing(
    sprint_env: SprintEnv,
) -> None:
    names = sprint_env.SCRIPTED_NAMES
    with sprint_env.scripted_pool(LOSS_ALONE) as pool:
        with pytest.raises(shmbridge.UsageError, match=r"the loss 1\.5 .*an identity layer above") as caught:
            batch(pool, names)
        assert list(caught.value.failed) == names[:2]
        assert caught.value.partial.loss[2] == 1.5
        assert (caught.value.partial.error_signal[:, 2] == 2).all()
        claim = pool.claim("c/s1", 3, 4)
        claim.posteriors[...] = 0
        with pytest.raises(shmbridge.UsageError, match="an identity layer above"):
            claim.send().result()
        assert batch(pool, ["c/s3"])[0][0] == 1.5


def test_a_layer_may_have_several_input_streams(sprint_env: SprintEnv) -> None:
    body = layer_script("""
    layer.setInputDimension(stream=1, size=2)
    other = np.zeros((2, 3), np.float32, order="F")
    for name in segment_list():
        control.init_segment(segment_name=name)
        one = features()
        SEEN["wrong"] = [attempt(lambda: layer.forward(input=streams))[0]
                         for streams in ([], [one], [one, other[:, 1:]], [one, other[0]])]
        output = layer.forward(input=[features(), other])
        control.notify_segment_loss(segment_name=None, loss=1.5)
        answer = layer.backpropagate(errorSignalIn=np.asfortranarray(2 * output))
        SEEN["answer"] = [type(answer).__name__, *(matrix.shape for matrix in answer)]
        SEEN["rest"] = [[matrix.strides, str(matrix.dtype), bool(matrix.any())] for matrix in answer]
    """)
    seen = play(sprint_env, body)
    assert seen["wrong"] == ["UsageError"] * 4
    assert seen["answer"] == ["tuple", [5, 3], [2, 3]]
    assert seen["rest"] == [[[4, 20], "float32", False], [[4, 8], "float32", False]]


def test_the_other_calls_of_the_layer_return_the_types_that_sprint_requires(
    sprint_env: SprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    body = layer_script("""
    trainable, parameters = layer.isTrainable(), layer.getNumberOfFreeParameters()
    SEEN["trainable"] = [type(trainable) is bool, trainable]
    SEEN["parameters"] = [type(parameters) is int, parameters]
    SEEN["rest"] = [layer.initializeNetworkParameters(), layer.loadNetworkParameters(filename="old.xml"),
                    layer.saveNetworkParameters(filename="new.xml"), layer.finalize()]
    SEEN["inputs"] = attempt(lambda: layer.forward(input=[features(), features()]))
    SEEN["no segment"] = attempt(lambda: layer.forward(input=[features()]))
    for name in segment_list():
        process(control, name)
    """)
    seen = play(sprint_env, body)
    assert seen["trainable"] == [True, True]
    assert seen["parameters"][0]
    assert seen["parameters"][1] >= 0
    assert seen["rest"] == [None] * 4
    assert seen["inputs"][0] == "UsageError"
    assert "(5, 3)" in seen["inputs"][1]
    assert seen["no segment"][0] == "UsageError"
    assert any("'old.xml'" in line for line in sprint_log())


def test_the_label_dimension_that_sprint_reports_is_checked_at_the_next_batch(sprint_env: SprintEnv) -> None:
    body = layer_script("""
    for name in segment_list():
        process(control, name)
    """)
    with sprint_env.scripted_pool(body) as pool:

        def is_refused() -> bool:
            # Sprint's message uses the pipe: it may arrive after the first answers
            try:
                batch(pool, labels=5)
            except shmbridge.BatchError as error:
                return "5 labels" in str(error) and "has 4" in str(error)
            except shmbridge.RemoteError:
                return False
            return False

        sprint_env.wait_until(is_refused, "5 labels are refused")
        sent = pool.stats().posteriors_bytes
        with pytest.raises(shmbridge.BatchError, match="5 labels"):
            batch(pool, labels=5)
        with pytest.raises(shmbridge.BatchError, match="5 labels"):
            pool.claim("c/s1", 3, 5)
        assert pool.stats().posteriors_bytes == sent
        assert batch(pool)[0][0] == 1.5


def test_init_processing_also_reports_the_label_dimension(sprint_env: SprintEnv) -> None:
    body = """
    control = init()
    control.init_processing(input_dim=40, output_dim=6)
    for name in segment_list():
        process(control, name)
    """
    with sprint_env.scripted_pool(body) as pool:

        def is_refused() -> bool:
            try:
                batch(pool, labels=5)
            except shmbridge.BatchError:
                return True
            return False

        sprint_env.wait_until(is_refused, "5 labels are refused")
        assert batch(pool, labels=6)[0][0] == 1.5


def test_posteriors_that_sprint_cannot_use_raise_in_the_parent_and_sprint_receives_uniform_ones(
    sprint_env: SprintEnv,
) -> None:
    body = layer_script("""
    for name in segment_list():
        control.init_segment(segment_name=name)
        output = layer.forward(input=[features()])
        SEEN.setdefault("outputs", []).append([output.shape, float(np.exp(output).sum())])
        control.notify_segment_loss(segment_name=None, loss=1.5)
        layer.backpropagate(errorSignalIn=np.asfortranarray(2 * output))
    """)
    with sprint_env.scripted_pool(body) as pool:
        with pytest.raises(shmbridge.RemoteError, match=r"\(7, 4\).*\(3, 4\)"):
            batch(pool, frames=7)
        assert batch(pool)[0][0] == 1.5
    (shape, mass), _ = sprint_env.seen()["outputs"]
    assert shape == [4, 3]
    assert mass == pytest.approx(3)


# --- the control loop


def test_run_control_loop_serves_with_the_callback_that_it_receives(
    sprint_env: SprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    body = """
    control = init(callback=None)
    control.run_control_loop(callback=callback)
    control.exit()
    """
    seen = play(sprint_env, body, ["any/name", "whatever"], use_python_segment_order=False)
    assert seen["orthographies"] == ["word ", "word "]
    assert any("<version>by hand</version>" in line for line in sprint_log())


def test_handle_next_answers_one_request_and_returns_false_after_the_last(sprint_env: SprintEnv) -> None:
    body = """
    control = init()
    SEEN["answers"] = []
    while not SEEN["answers"] or SEEN["answers"][-1]:
        SEEN["answers"].append(control.handle_next())
    """
    seen = play(sprint_env, body, ["any/one", "any/two"], use_python_segment_order=False)
    assert seen["answers"] == [True, True, False]


def test_segment_list_iterator_serves_without_a_list_of_known_segments(sprint_env: SprintEnv) -> None:
    body = """
    control = init()
    for name in control.segment_list_iterator():
        process(control, name)
    """
    play(sprint_env, body, ["any/name"])


def test_an_automaton_comes_from_the_callback(sprint_env: SprintEnv) -> None:
    body = """
    def callback(command, **arguments):
        if command == "version":
            return "by hand"
        assert command == "export_allophone_state_fsa_by_segment_name", command
        if arguments["segment_name"] == "c/bad":
            return 1, 2, np.array([0, 1, 1, 2, 0, 0], np.uint32), np.zeros(2, np.float32)
        return (3, 2, np.array([0, 1, 1, 2, 7, 8], np.uint32), np.array([0.5, 0.25], np.float32))

    init().run_control_loop(callback=callback)
    """
    with sprint_env.scripted_pool(body, use_python_segment_order=False) as pool:
        edges, weights, ends = pool.get_automata_for_batch(["c/s1", "c/s2"])
        np.testing.assert_array_equal(edges, [[0, 1, 3, 4], [1, 2, 4, 5], [7, 8, 7, 8], [0, 0, 1, 1]])
        np.testing.assert_array_equal(weights, np.array([0.5, 0.25, 0.5, 0.25], np.float32))
        np.testing.assert_array_equal(ends, [[0, 3], [2, 5]])
        with pytest.raises(shmbridge.ProtocolError, match="not one of its 1 "):
            pool.get_automata_for_batch(["c/bad"])
        assert pool.get_automata_for_batch(["c/s1"])[0].shape == (4, 2)


# --- the listening thread, and calls from other threads


def test_the_listening_thread_is_started_only_once(sprint_env: SprintEnv) -> None:
    body = """
    control = init()
    for _ in range(3):
        control.run_threaded_control_loop()
        control.check_control_loop_running()
    SEEN["threads"] = [thread.name for thread in threading.enumerate()]
    for name in segment_list():
        process(control, name)
    """
    assert len(play(sprint_env, body)["threads"]) == 2


def test_another_thread_receives_loss_and_error_signal_while_sprint_iterates(sprint_env: SprintEnv) -> None:
    done = sprint_env.path / "done"
    options = sprint_env.sprint_file("threads", {"case": "while iterating", "done": done})
    with shmbridge.SprintInstancePool(**options) as pool:
        sprint_env.wait_until(done.exists, "the thread has received all answers")
        assert batch(pool)[0][0] == 1.5
    seen = sprint_env.seen()
    assert "own_threaded_callback" in seen["version"]
    assert seen["answer"] == [1.5, [[-2.0] * 4] * 3]
    assert seen["unknown"][0] == "KeyError"
    assert seen["wrong"][0] == "BatchError"
    assert "(3, 4)" in seen["wrong"][1]
    assert "4 frames" in seen["wrong"][1]
    assert seen["command"][0] == "ValueError"
    assert "dance" in seen["command"][1]
    assert seen["own thread"][0] == "UsageError"
    assert "another thread" in seen["own thread"][1]


def test_another_thread_may_also_use_the_control_loop(sprint_env: SprintEnv) -> None:
    seen = play_file(sprint_env, "threads", {"case": "in the control loop"}, use_python_segment_order=False)
    assert seen["answer"] == [1.5, [[-2.0] * 4] * 3]


def test_another_thread_receives_infinity_for_a_segment_that_sprint_skips(sprint_env: SprintEnv) -> None:
    options = sprint_env.sprint_file("threads", {"case": "skipped"})
    with shmbridge.SprintInstancePool(**options) as pool:
        batch(pool)
    loss, error_signal = sprint_env.seen()["answer"]
    assert loss == float("inf")
    assert error_signal == [[0.0] * 4] * 3


def test_another_thread_receives_the_exception_of_sprints_callback(sprint_env: SprintEnv) -> None:
    assert play_file(sprint_env, "threads", {"case": "exception"})["answer"] == [
        "ZeroDivisionError",
        "on purpose",
    ]


def test_another_thread_that_waits_when_the_parent_closes_receives_an_error(sprint_env: SprintEnv) -> None:
    assert play_file(sprint_env, "threads", {"case": "after close"})["late"][0] in (
        "ClosedError",
        "ProtocolError",
        "PeerGoneError",
    )


# --- close


def test_after_close_the_parent_is_notified_and_further_calls_raise_or_end(sprint_env: SprintEnv) -> None:
    with shmbridge.SprintInstancePool(**sprint_env.sprint_file("after_close", {})) as pool:
        assert batch(pool)[0][0] == 1.5
        sprint_env.wait_until((sprint_env.path / "seen.json").exists, "the script has ended")
    seen = sprint_env.seen()
    assert seen["instance"] == "None"
    assert seen["check"][0] in ("ProtocolError", "ClosedError")
    assert seen["next"] == ["returned", "False"]
    assert seen["names"] == []
    assert seen["process"][0] == "UsageError"
    assert seen["init"][0] == "OptionError"
    assert "an open descriptor" in seen["init"][1]


def test_a_sprint_that_closes_the_connection_counts_as_ended(sprint_env: SprintEnv) -> None:
    body = """
    control = init()
    names = segment_list()
    process(control, next(names))
    control.close()
    import signal
    signal.pause()  # stay alive and silent
    """
    with sprint_env.scripted_pool(body) as pool:
        assert batch(pool)[0][0] == 1.5
        sprint_env.wait_until(lambda: not sprint_env.sprint_pids(), "the parent has ended that Sprint")
