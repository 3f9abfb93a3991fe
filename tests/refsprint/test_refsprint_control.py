"""action=python-control: the calls, the callback, and the failures, in a real process."""

from __future__ import annotations

import gzip
import signal
from typing import Any

import numpy as np
import pytest
from refsprint_env import RefsprintEnv

LOOP = ("action=python-control", "input-in-log-space=true", "training-criterion=ctc")
ITERATE = (
    "action=python-control",
    "python-control-loop-type=iterate-corpus",
    "extract-features=false",
)
ORDER = ("python-segment-order=true", "python-segment-order-pymod-name=usermod")

INIT = {
    "name": ["str", "Sprint.PythonControl"],
    "sprint_unit": ["str", "NnTrainer.pythonControl"],
    "reference": ["object", "object"],
    "callback": ["object", "Callback"],
    "version_number": ["int", 5],
    "config": ["str", "c2p_fd:3,p2c_fd:4"],
}


def test_a_control_loop_calls_init_run_and_exit(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(sprint_env.CONTROL)
    finished = sprint_env.run(*LOOP)
    assert finished.code == 0, finished.err
    assert finished.names == ["init", "run_control_loop", "exit"]
    assert finished.arguments("init") == [INIT]
    assert finished.arguments("run_control_loop") == [{"callback": ["object", "Callback"]}]


def test_iterating_the_corpus_passes_each_segment_to_python(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(sprint_env.CONTROL)
    finished = sprint_env.run(*ITERATE)
    assert finished.code == 0, finished.err
    assert finished.names == ["init", "init_processing", *["process_segment"] * 4, "exit"]
    assert finished.arguments("init_processing") == [{"input_dim": ["int", -1], "output_dim": ["int", -1]}]
    segments = finished.arguments("process_segment")
    assert [segment["name"] for segment in segments] == [["str", name] for name in sprint_env.SEGMENTS]
    none = ["NoneType", None]
    assert segments[0] == {
        "name": ["str", "demo/rec/one"],
        "orthography": ["bytes", "hello world "],
        "speaker_name": ["str", "anna"],
        "features": none,
        "alignment": none,
        "soft_alignment": none,
    }
    assert segments[1]["speaker_name"] == none
    assert segments[3]["orthography"] == ["bytes", "grün "]


def test_features_come_from_a_file(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(sprint_env.CONTROL)
    matrices: dict[str, Any] = {name: np.ones((3, 5), dtype=np.float64) for name in sprint_env.SEGMENTS}
    np.savez(sprint_env.path / "features.npz", **matrices)
    finished = sprint_env.run(*ITERATE[:2], f"feature-extraction.file={sprint_env.path}/features.npz")
    assert finished.code == 0, finished.err
    assert finished.arguments("init_processing")[0]["input_dim"] == ["int", 3]
    features = finished.arguments("process_segment")[0]["features"]
    assert features == ["ndarray", [3, 5], "float32", True, True, True]


def test_without_a_feature_file_the_error_names_the_option_to_set(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(sprint_env.CONTROL)
    finished = sprint_env.run(*ITERATE[:2])
    assert finished.code == 1
    assert "extract-features=false" in finished.err


def test_python_determines_the_segment_order(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(
        sprint_env.CONTROL
        + """
def getSegmentList(**arguments):
    record("getSegmentList", **arguments)
    for name in reversed(arguments["segmentList"][:2]):
        record("next")
        yield name
    """
    )
    finished = sprint_env.run(*ITERATE, *ORDER, "python-segment-order-config=x:1")
    assert finished.code == 0, finished.err
    # A generator runs only as far as segments are needed.
    assert finished.names == [
        "init",
        "getSegmentList",
        "next",
        "init_processing",
        "process_segment",
        "next",
        "process_segment",
        "exit",
    ]
    assert finished.arguments("getSegmentList") == [
        {
            "corpusName": ["str", "demo"],
            "segmentList": ["list", [["str", name] for name in sprint_env.SEGMENTS]],
            "segmentsInfo": ["NoneType", None],
            "config": ["str", "x:1"],
        }
    ]
    shown = [segment["name"][1] for segment in finished.arguments("process_segment")]
    assert shown == ["demo/rec/2", "demo/rec/one"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return [b'demo/rec/one']", "a segment name is of type bytes; it must be str"),
        ("return [7]", "a segment name is of type int; it must be str"),
        ("return ['nowhere']", "'nowhere' not found"),
        ("return 5", "did not return an iterable"),
        ("raise KeyError('gone')", "KeyError: 'gone'"),
    ],
)
def test_a_wrong_segment_list_is_fatal(sprint_env: RefsprintEnv, body: str, message: str) -> None:
    sprint_env.module(sprint_env.CONTROL + f"\ndef getSegmentList(**arguments):\n    {body}\n")
    finished = sprint_env.run(*ITERATE, *ORDER)
    assert finished.code == 1
    assert message in finished.err
    assert "exit" not in finished.names


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("def init(**arguments): return None", 1, "returned None"),
        ("def init(**arguments): raise OSError('broken')", 1, "OSError: broken"),
        ("def init(**arguments): raise SystemExit(7)", 7, ""),
        ("def init(**arguments): raise KeyboardInterrupt", 1, "KeyboardInterrupt"),
        ("raise ImportError('module')", 1, "ImportError: module"),
        ("", 1, "init"),
        ("def init(**arguments): return object()", 1, "run_control_loop"),
    ],
)
def test_an_uncaught_exception_is_printed_and_fatal(
    sprint_env: RefsprintEnv, source: str, code: int, message: str
) -> None:
    sprint_env.module(source)
    finished = sprint_env.run(*LOOP)
    assert finished.code == code
    assert message in finished.err
    if code == 1:
        assert "PYTHON ERROR" in finished.err


def test_every_command_of_the_callback_returns_sprints_types(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(
        sprint_env.CONTROL_LOOP
        + """
def loop(callback, posteriors):
    for command in ("version", "version_number", "help", "init_criterion"):
        record(command, result=callback(command))
    record("orthography", result=callback("get_orthography_by_segment_name", segment_name="demo/sub/rec/a"))
    for error in ("none", "error-signal", "error-signal-before-softmax", "pseudo-targets"):
        record("criterion", result=callback("calculate_criterion", posteriors=posteriors.T,
               orthography="world ", output_error_type=error, segment_name="demo/rec/one"))
    record("short", result=callback("calculate_criterion", posteriors=posteriors[:4].T,
           orthography="hello ", output_error_type="error-signal"))
    record("impossible", result=callback("calculate_criterion", posteriors=numpy.full((7, 9), -numpy.inf),
           orthography="hello ", output_error_type="error-signal"))
    for by, value in (("orthography", "grün "), ("segment_name", "demo/sub/rec/a")):
        record("automaton", result=callback("export_allophone_state_fsa_by_" + by, **{by: value}))
    # The result does not depend on the memory layout and the precision.
    expected = callback("calculate_criterion", posteriors=posteriors.T, orthography="world ",
                        output_error_type="error-signal")
    readonly = posteriors.copy()
    readonly.flags.writeable = False
    for other in (posteriors.T.copy(), posteriors.astype("float64").T, readonly.T,
                  numpy.repeat(posteriors.T, 2, axis=0)[::2]):
        loss, signal = callback("calculate_criterion", posteriors=other, orthography="world ",
                                output_error_type="error-signal")
        assert abs(loss - expected[0]) < 1e-5 and numpy.allclose(signal, expected[1], atol=1e-6)
"""
    )
    finished = sprint_env.run(*LOOP)
    assert finished.code == 0, finished.err
    results = [(name, arguments["result"]) for name, arguments in finished.calls if "result" in arguments]
    by_name = dict(results)
    assert by_name["version"][0] == by_name["help"][0] == "str"
    assert by_name["version_number"] == ["int", 5]
    assert by_name["init_criterion"] == ["NoneType", None]
    assert by_name["orthography"] == ["str", "grün "]
    criteria = [result for name, result in results if name == "criterion"]
    losses = {result[1][0][1] for result in criteria}
    assert len(losses) == 1
    assert losses == {float(np.float32(loss)) for loss in losses}
    assert criteria[0][1][0][0] == "float"
    assert criteria[0][1][1] == ["NoneType", None]
    for result in criteria[1:]:
        assert result[0] == "tuple"
        assert result[1][1] == ["ndarray", [sprint_env.LABELS, 12], "float32", True, True, True]
    nothing = ["tuple", [["NoneType", None], ["NoneType", None]]]
    assert by_name["short"] == by_name["impossible"] == nothing
    automata = [result for name, result in results if name == "automaton"]
    assert automata[0] == automata[1]
    states, arcs, edges, weights = automata[0][1]
    assert states[0] == arcs[0] == "int"
    assert edges[1:3] == [[3 * arcs[1]], "uint32"]
    assert weights[1:3] == [[arcs[1]], "float32"]


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("callback('nonsense')", "ValueError"),
        ("callback(b'version')", "TypeError"),
        ("callback()", "TypeError"),
        ("callback('version', 1)", "TypeError"),
        ("callback('calculate_criterion')", "TypeError"),
        ("callback('calculate_criterion', posteriors=posteriors.T, orthography=b'world ')", "TypeError"),
        ("callback('calculate_criterion', posteriors=posteriors.T, other=1)", "TypeError"),
        (
            "callback('calculate_criterion', posteriors=posteriors.T, orthography='a ',"
            " output_error_type='x')",
            "ValueError",
        ),
        (
            "callback('calculate_criterion', posteriors=posteriors.T, orthography='a ',"
            " alignment=numpy.zeros(3))",
            "ValueError",
        ),
        ("callback('get_orthography_by_segment_name', segment_name='x')", "KeyError"),
        ("callback('export_allophone_state_fsa_by_segment_name', segment_name='x')", "KeyError"),
        ("callback('get_alignment_from_cache', 'x.cache', 'demo/rec/one')", "ValueError"),
        ("callback('analyze_alignment_from_cache', 'x.cache', segment_name='y')", "ValueError"),
    ],
)
def test_an_error_in_the_call_raises_in_the_caller(
    sprint_env: RefsprintEnv, expression: str, error: str
) -> None:
    sprint_env.module(
        sprint_env.CONTROL_LOOP
        + f"""
def loop(callback, posteriors):
    try:
        {expression}
    except Exception as error:
        record("error", type=type(error).__name__)
    record("after", version=callback("version_number"))
"""
    )
    finished = sprint_env.run(*LOOP)
    assert finished.code == 0, finished.err
    assert finished.arguments("error") == [{"type": ["str", error]}]
    assert finished.names[-2:] == ["after", "exit"]


@pytest.mark.parametrize(
    "posteriors",
    [
        "posteriors.T.astype('float16')",
        "posteriors.T.astype('int32')",
        "posteriors.T.tolist()",
        "posteriors.T[0]",
        "posteriors.T[None]",
        "posteriors.T.astype('>f4')",
        "numpy.frombuffer(bytes(7 * 12 * 4 + 1), 'u1')[1:].view('f4').reshape(7, 12)",
    ],
)
def test_an_unacceptable_matrix_ends_sprint_with_exit_code_1(
    sprint_env: RefsprintEnv, posteriors: str
) -> None:
    _end_in_criterion(sprint_env, posteriors, "world ", 1)


@pytest.mark.parametrize(
    ("posteriors", "orthography"),
    [
        ("numpy.where(numpy.arange(7)[:, None] == 3, numpy.nan, posteriors.T)", "world "),
        ("posteriors.T[:, :0]", "world "),
        ("posteriors.T[:6]", "world "),
        ("posteriors.T", "world"),
        ("posteriors.T", " world "),
        ("posteriors.T", "world  world "),
    ],
)
def test_a_failed_assertion_ends_sprint_with_sigabrt(
    sprint_env: RefsprintEnv, posteriors: str, orthography: str
) -> None:
    _end_in_criterion(sprint_env, posteriors, orthography, -signal.SIGABRT)


def _end_in_criterion(sprint_env: RefsprintEnv, posteriors: str, orthography: str, code: int) -> None:
    sprint_env.module(
        sprint_env.CONTROL_LOOP
        + f"""
def loop(callback, posteriors):
    try:
        callback("calculate_criterion", posteriors={posteriors}, orthography={orthography!r},
                 output_error_type="error-signal")
    except BaseException:
        record("caught")
    finally:
        record("finally")
"""
    )
    finished = sprint_env.run(*LOOP)
    assert finished.code == code
    assert "refsprint" in finished.err
    # Neither except nor finally has run.
    assert finished.names == ["init", "run_control_loop"]


def test_negative_posteriors_require_the_option_for_log_space(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(
        sprint_env.CONTROL_LOOP
        + """
def loop(callback, posteriors):
    callback("calculate_criterion", posteriors=posteriors.T, orthography="world ")
"""
    )
    assert sprint_env.run("action=python-control").code == -signal.SIGABRT


def test_only_segments_that_python_orders_have_orthographies(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(
        sprint_env.CONTROL_LOOP
        + """
def getSegmentList(**arguments):
    record("getSegmentList")
    return ["demo/rec/2"]

def loop(callback, posteriors):
    record("one", result=callback("get_orthography_by_segment_name", segment_name="demo/rec/2"))
    try:
        callback("get_orthography_by_segment_name", segment_name="demo/rec/one")
    except KeyError:
        record("unknown")
"""
    )
    finished = sprint_env.run(*LOOP, *ORDER)
    assert finished.code == 0, finished.err
    assert finished.names == ["init", "run_control_loop", "getSegmentList", "one", "unknown", "exit"]


def test_a_word_that_the_lexicon_lacks_is_left_out_of_its_segment(sprint_env: RefsprintEnv) -> None:
    corpus = sprint_env.corpus.read_text(encoding="utf-8").replace("grün", "blau world blau")
    sprint_env.corpus.write_text(corpus, encoding="utf-8")
    sprint_env.module(
        sprint_env.CONTROL_LOOP
        + """
import sys
def loop(callback, posteriors):
    orths = [callback("get_orthography_by_segment_name", segment_name=name)
             for name in ("demo/rec/2", "demo/sub/rec/a")]
    for orth in (*orths, orths[1]):
        print("asking for", orth, file=sys.stderr, flush=True)
        record("loss", loss=callback("calculate_criterion", posteriors=posteriors.T, orthography=orth)[0])
"""
    )
    finished = sprint_env.run(*LOOP)
    assert finished.code == 0, finished.err
    first, second, third = finished.arguments("loss")
    assert first == second == third
    assert "unknown word" not in finished.err.split("asking for blau")[0]
    assert finished.err.count("skipping the unknown word 'blau'") == 1


@pytest.mark.parametrize("value", ["none", "crc", "cross-entropy", ""])
def test_a_criterion_that_sprint_does_not_have_is_replaced_by_none(
    sprint_env: RefsprintEnv, value: str
) -> None:
    sprint_env.module(
        sprint_env.CONTROL_LOOP
        + """
def loop(callback, posteriors):
    loss, error = callback("calculate_criterion", posteriors=posteriors.T, orthography="world ",
                           output_error_type="error-signal")
    record("result", loss=loss, shape=error.shape, zero=not error.any())
"""
    )
    finished = sprint_env.run(*LOOP, f"training-criterion={value}")
    assert finished.code == 0, finished.err
    (result,) = finished.arguments("result")
    assert result["loss"] == ["float", 0.0]
    assert result["zero"] == ["bool", True]
    line = f"configuration error: unparsable value {value} for parameter training-criterion, substituting"
    assert finished.err.count(line) == (value != "none")


def test_the_null_criterion_returns_the_posteriors_without_a_model(sprint_env: RefsprintEnv) -> None:
    sprint_env.lexicon.unlink()
    sprint_env.module(
        sprint_env.CONTROL_LOOP
        + """
def loop(callback, posteriors):
    for given in (posteriors, posteriors.astype("float64"), numpy.asfortranarray(posteriors)):
        loss, error = callback("calculate_criterion", posteriors=given.T, orthography="x ",
                               output_error_type="error-signal")
        record("result", loss=loss, error=error, equal=bool((error == given.T).all()),
               other=not numpy.shares_memory(error, given))
"""
    )
    finished = sprint_env.run(
        *LOOP, "refsprint.criterion=null", "refsprint.criterion-sleep=0.001", "refsprint.criterion-busy=0.001"
    )
    assert finished.code == 0, finished.err
    for result in finished.arguments("result"):
        assert result == {
            "loss": ["float", 0.0],
            "error": ["ndarray", [sprint_env.LABELS, 12], "float32", True, True, True],
            "equal": ["bool", True],
            "other": ["bool", True],
        }


def test_only_the_listed_segments_are_visited_in_the_listed_order(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(sprint_env.CONTROL)
    (sprint_env.path / "keep").write_text("# comment\ndemo/rec/one\n a \n\n", encoding="utf-8")
    (sprint_env.path / "order").write_text("\n".join(reversed(sprint_env.SEGMENTS)), encoding="utf-8")
    files = (f"corpus.segments.file={sprint_env.path}/keep", f"corpus.segment-order={sprint_env.path}/order")
    finished = sprint_env.run(*ITERATE, *files)
    assert finished.code == 0, finished.err
    shown = [segment["name"][1] for segment in finished.arguments("process_segment")]
    assert shown == ["demo/sub/rec/a", "demo/rec/one"]
    (sprint_env.path / "keep").write_text("# comment\n", encoding="utf-8")
    finished = sprint_env.run(*ITERATE, *files)
    assert finished.code == 1
    assert "lists no segments" in finished.err


def test_lists_of_segments_may_be_gzipped(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(sprint_env.CONTROL)
    keep, order = sprint_env.path / "keep.gz", sprint_env.path / "order"
    keep.write_bytes(gzip.compress(b"demo/rec/one\ndemo/rec/2\n"))
    order.write_bytes(gzip.compress("\r\n".join(reversed(sprint_env.SEGMENTS)).encode()))
    files = (f"corpus.segments.file={keep}", f"corpus.segment-order={order}")
    finished = sprint_env.run(*ITERATE, *files)
    assert finished.code == 0, finished.err
    shown = [segment["name"][1] for segment in finished.arguments("process_segment")]
    assert shown == ["demo/rec/2", "demo/rec/one"]
    keep.write_bytes(keep.read_bytes()[:-4])
    finished = sprint_env.run(*ITERATE, *files)
    assert finished.code == 1
    assert "keep.gz: is not a complete gzip file" in finished.err


def test_segments_can_be_ordered_by_short_name_and_with_their_lengths(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(
        sprint_env.CONTROL
        + """
def getSegmentList(segmentList, segmentsInfo, **arguments):
    record("info", names=segmentList, time=segmentsInfo["short"]["time"])
    return ["short"]
"""
    )
    options = ("segment-order-look-up-short-name=true", "python-segment-order-with-segment-info=true")
    finished = sprint_env.run(*ITERATE, *ORDER, *options)
    assert finished.code == 0, finished.err
    (info,) = finished.arguments("info")
    assert info["names"] == ["list", [["str", name] for name in ("one", "2", "short", "a")]]
    assert info["time"] == ["float", pytest.approx(0.02)]
    assert finished.arguments("process_segment")[0]["name"] == ["str", "demo/rec/short"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("action=dance", "action"),
        ("lexicon.file=", "lexicon.file is not set"),
        ("python-control-loop-type=x", "python-control-loop-type"),
        ("pymod-name=", "pymod"),
        ("refsprint.criterion=x", "refsprint.criterion"),
        ("pymod-config=$(nothing)", "nothing"),
    ],
)
def test_the_error_names_a_wrong_option(sprint_env: RefsprintEnv, option: str, message: str) -> None:
    sprint_env.module(
        sprint_env.CONTROL_LOOP + "\ndef loop(callback, posteriors):\n    callback('init_criterion')\n"
    )
    finished = sprint_env.run(*LOOP, option)
    assert finished.code == 1
    assert message in finished.err


def test_a_malformed_config_file_is_reported_with_the_line(sprint_env: RefsprintEnv) -> None:
    finished = sprint_env.run(*LOOP, config="[*]\n# fine\nthis is wrong\n")
    assert finished.code == 1
    assert "sprint.config:3: " in finished.err


def test_atexit_functions_run_even_if_sprint_exits_in_the_callback(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(
        sprint_env.CONTROL_LOOP
        + """
import atexit
atexit.register(lambda: record("atexit"))

def loop(callback, posteriors):
    callback("calculate_criterion", posteriors=[1.0], orthography="world ")
"""
    )
    finished = sprint_env.run(*LOOP)
    assert finished.code == 1
    assert finished.names[-1] == "atexit"


@pytest.mark.parametrize(
    "arguments", ["", ", alignment=numpy.zeros(12, dtype='float32')", ", orthography=''"]
)
def test_ctc_without_an_orthography_is_a_critical_error(sprint_env: RefsprintEnv, arguments: str) -> None:
    sprint_env.module(
        sprint_env.CONTROL_LOOP
        + f"""
def loop(callback, posteriors):
    callback("calculate_criterion", posteriors=posteriors.T{arguments})
"""
    )
    finished = sprint_env.run(*LOOP)
    assert finished.code == 1
    assert "orthography" in finished.err


def test_ctrl_c_ends_sprint_without_a_keyboard_interrupt(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(
        sprint_env.CONTROL_LOOP
        + """
import signal

def loop(callback, posteriors):
    try:
        print("ready", flush=True)
        signal.pause()
    finally:
        record("finally")
"""
    )
    with sprint_env.start(*LOOP) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line == "ready\n":
                    break
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGINT
    assert "finally" not in (sprint_env.path / "calls.jsonl").read_text()


def test_a_write_into_a_closed_pipe_ends_sprint(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(
        sprint_env.CONTROL_LOOP
        + """
import os

def loop(callback, posteriors):
    reading, writing = os.pipe()
    os.close(reading)
    os.write(writing, b"x")
"""
    )
    assert sprint_env.run(*LOOP).code == -signal.SIGPIPE


def test_no_thread_runs_while_the_criterion_is_delayed(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(
        sprint_env.CONTROL_LOOP
        + """
import sys, threading, time

def loop(callback, posteriors):
    # From here on, another thread runs only if this one explicitly releases the GIL.
    sys.setswitchinterval(3600.0)
    ticks = []
    def tick():
        while True:
            ticks.append(None)
            time.sleep(0.001)
    threading.Thread(target=tick, daemon=True).start()
    while not ticks:
        time.sleep(0.001)
    before = len(ticks)
    callback("calculate_criterion", posteriors=posteriors.T, orthography="x ",
             output_error_type="error-signal")
    record("ticks", during=len(ticks) - before)
"""
    )
    delays = ("refsprint.criterion-sleep=0.1", "refsprint.criterion-busy=0.1")
    finished = sprint_env.run(*LOOP, "refsprint.criterion=null", *delays)
    assert finished.code == 0, finished.err
    assert finished.arguments("ticks") == [{"during": ["int", 0]}]


def test_help_names_the_actions(capsys: pytest.CaptureFixture[str]) -> None:
    from shmbridge.refsprint.__main__ import main

    assert main(["--help"]) == 0
    assert "supervised-segmentwise-training" in capsys.readouterr().out
