"""One table of Sprint's calls, their arguments, and the outcome of Python errors, for three Sprints.

The stand-ins and the host are always compared with it, RASR's programs if they are there (sprints.py).
"""

from __future__ import annotations

import inspect
import signal
from pathlib import Path
from typing import Any, Union

import numpy as np
import pytest
import sprints

import sprint_entry
from shmbridge.child.feature_scorer import FeatureScorer
from support.ctc import enumerate_ctc
from support.finished import Finished

ABORTED = -signal.SIGABRT
# The number of these calls differs between Sprints.
ANY_NUMBER_OF_TIMES = {"isTrainable", "getNumberOfFreeParameters"}

OBJECT = ["object"]
NONE = ["NoneType", None]
NAMES = list(sprints.SEGMENTS)


def text(value: str) -> list[Any]:
    return ["str", value]


def number(value: int) -> list[Any]:
    return ["int", value]


def matrix(rows: int, columns: int) -> list[Any]:
    """Describe a float32 matrix in Fortran order that is writeable and owns its memory."""
    return ["ndarray", [rows, columns], "float32", True, True, True]


def init(unit: str) -> dict[str, Any]:
    return {
        "name": text("Sprint.PythonControl"),
        "sprint_unit": text(unit),
        "reference": OBJECT,
        "callback": OBJECT,
        "version_number": number(5),
        "config": text("some:thing"),
    }


ORDER = {
    "corpusName": text("corpus"),
    "segmentList": ["list", [text(name) for name in NAMES]],
    "segmentsInfo": NONE,
    "config": text("some:thing"),
}


def process(name: str) -> dict[str, Any]:
    _, speaker, orthography = sprints.SEGMENTS[name]
    return {
        "name": text(name),
        "orthography": ["bytes", f"{orthography} "],
        "speaker_name": NONE if speaker is None else text(speaker),
        "features": NONE,
        "alignment": NONE,
        "soft_alignment": NONE,
    }


def train(name: str) -> list[tuple[str, dict[str, Any]]]:
    frames = sprints.SEGMENTS[name][0]
    calls: list[tuple[str, dict[str, Any]]] = [
        ("init_segment", {"segment_name": text(name)}),
        ("forward", {"input": ["list", [matrix(2, frames)]]}),
    ]
    if name != "corpus/rec/short":  # discarded
        calls.append(("notify_segment_loss", {"segment_name": NONE, "loss": ["float"]}))
        calls.append(("backpropagate", {"errorSignalIn": matrix(sprints.LABELS, frames)}))
    return calls


def train_with_lattice(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the calls of SegmentwiseNnTrainer: it forwards before init_segment, and names the segment."""
    init_segment, forward, *rest = train(name)
    calls = [forward, init_segment]
    if rest:
        _, backpropagate = rest
        calls += [("notify_segment_loss", {"segment_name": text(name), "loss": ["float"]}), backpropagate]
    return calls


def scored(name: str) -> list[tuple[str, dict[str, Any]]]:
    frames = sprints.SEGMENTS[name][0]
    feature = ["ndarray", [3], "float32", True, True, True]
    return [
        *(("add_feature", {"feature": feature, "time": number(time)}) for time in range(frames)),
        ("compute", {"num_frames": number(frames)}),
        *(("get_scores", {"time": number(time)}) for time in range(frames)),
        ("reset", {"num_frames": number(frames)}),
    ]


# --- The table, first part: the calls, without errors.

CALLS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "iterate": [
        ("init", init("NnTrainer.pythonControl")),
        ("getSegmentList", ORDER),
        ("init_processing", {"input_dim": number(-1), "output_dim": number(-1)}),
        *(("process_segment", process(name)) for name in NAMES),
        ("exit", {}),
    ],
    "loop": [
        ("init", init("NnTrainer.pythonControl")),
        ("run_control_loop", {"callback": OBJECT}),
        ("exit", {}),
    ],
    "trainer": [
        ("getSegmentList", ORDER),
        ("init", init("FeedForwardTrainer")),
        ("SprintNnPythonLayer", {"config": text("some:thing")}),
        ("setOutputDimension", {"size": number(sprints.LABELS)}),
        ("setInputDimension", {"stream": number(0), "size": number(2)}),
        ("initializeNetworkParameters", {}),
        *(call for name in NAMES for call in train(name)),
        ("finalize", {}),
    ],
    "lattices": [
        ("SprintNnPythonLayer", {"config": text("some:thing")}),
        ("setOutputDimension", {"size": number(sprints.LABELS)}),
        ("setInputDimension", {"stream": number(0), "size": number(2)}),
        ("initializeNetworkParameters", {}),
        ("init", init("SegmentwiseNnTrainer")),
        ("getSegmentList", ORDER),
        *(call for name in NAMES for call in train_with_lattice(name)),
        ("finalize", {}),
    ],
    "score": [
        ("init", init("PythonFeatureScorer")),
        ("init", {"input_dim": number(3), "output_dim": number(sprints.LABELS)}),
        ("get_feature_buffer_size", {}),
        ("reset", {"num_frames": number(0)}),
        *(call for name in NAMES for call in scored(name)),
        ("exit", {}),
    ],
}

# --- Second part: errors of Python, with Sprint's exit code. The call is the last one.

RAISES: dict[str, int] = {
    "raises OSError": 1,
    "raises SystemExit(7)": 7,
    "raises SystemExit(None)": 0,
    "raises SystemExit('text')": 1,
    "raises KeyboardInterrupt": 1,
}
BASIC = {"raises OSError": 1, "raises SystemExit(7)": 7, "requires another argument": 1}
SIGNATURES = {"is missing": 1, "takes no argument": 1, "requires another argument": 1}
WRONG: list[tuple[str, str, dict[str, int]]] = [
    ("iterate", "init", {**RAISES, **SIGNATURES, "returns None": 1, "returns an object": 1}),
    ("iterate", "init_processing", BASIC),
    ("iterate", "process_segment", {**RAISES, **SIGNATURES}),
    ("iterate", "exit", {**RAISES, "is missing": 1, "requires another argument": 1}),
    (
        "iterate",
        "getSegmentList",
        {
            **RAISES,
            **SIGNATURES,
            "returns None": 1,
            "returns 1": 1,
            "yields bytes": 1,
            "yields an int": 1,
            "yields None": 1,
            "yields an unknown name": 1,
            "yields one and raises OSError": 1,
        },
    ),
    ("loop", "init", BASIC),
    ("loop", "run_control_loop", {**RAISES, **SIGNATURES}),
    ("loop", "exit", BASIC),
    ("trainer", "init", BASIC),
    ("trainer", "init_segment", BASIC),
    ("trainer", "notify_segment_loss", BASIC),
    ("trainer", "SprintNnPythonLayer", BASIC),
    ("trainer", "setOutputDimension", BASIC),
    ("trainer", "setInputDimension", BASIC),
    ("trainer", "initializeNetworkParameters", {"raises OSError": 1, "is missing": 1}),
    ("trainer", "isTrainable", {"raises OSError": 1, "returns None": 1, "returns 1": 1, "is missing": 1}),
    (
        "trainer",
        "getNumberOfFreeParameters",
        {"raises OSError": 1, "returns None": 1, "returns a str": 1, "returns -1": 1},
    ),
    (
        "trainer",
        "forward",
        {
            **RAISES,
            **SIGNATURES,
            "returns None": 1,
            "returns a list": 1,
            "returns float16": 1,
        },
    ),
    (
        "trainer",
        "backpropagate",
        {**BASIC, "returns None": 1, "returns a list of matrices": 1},
    ),
    ("lattices", "init", {**BASIC, "returns None": 1}),
    ("lattices", "getSegmentList", {**BASIC, "returns None": 1}),
    ("lattices", "init_segment", BASIC),
    ("lattices", "notify_segment_loss", BASIC),
    ("lattices", "SprintNnPythonLayer", BASIC),
    ("lattices", "isTrainable", {"raises OSError": 1, "returns None": 1, "returns 1": 1}),
    ("lattices", "forward", {**RAISES, **SIGNATURES, "returns None": 1, "returns float16": 1}),
    ("lattices", "backpropagate", {**BASIC, "returns None": 1, "returns a list of matrices": 1}),
    ("score", "add_feature", BASIC),
    ("score", "compute", BASIC),
    ("score", "reset", BASIC),
    (
        "score",
        "get_feature_buffer_size",
        {**BASIC, "returns None": 1, "returns a str": 1, "returns 0": 1},
    ),
    (
        "score",
        "get_scores",
        {
            **RAISES,
            **SIGNATURES,
            "returns None": 1,
            "returns a list": 1,
            "returns a float16 vector": 1,
            "returns an int32 vector": 1,
            "returns a longer vector": 1,
        },
    ),
]
# Sprint ignores the return value of these calls.
IGNORED = [
    ("iterate", "init_processing", "returns a str"),
    ("iterate", "process_segment", "returns 1"),
    ("iterate", "exit", "returns a list"),
    ("loop", "run_control_loop", "returns 1"),
    ("trainer", "init_segment", "returns a str"),
    ("trainer", "notify_segment_loss", "returns a list"),
    ("trainer", "setOutputDimension", "returns 1"),
    ("trainer", "setInputDimension", "returns 1"),
    ("trainer", "initializeNetworkParameters", "returns 1"),
    ("trainer", "finalize", "returns 1"),
    ("lattices", "init_segment", "returns a str"),
    ("lattices", "notify_segment_loss", "returns a list"),
    ("lattices", "finalize", "returns 1"),
    ("score", "add_feature", "returns 1"),
    ("score", "compute", "returns a str"),
    ("score", "reset", "returns a list"),
]

# --- Third part: the callback's commands, with the type of the result, an exception, or Sprint's exit code.
# Posteriors of nothing but -inf are left out: RASR differs, with a loss of 41943040 and no skipped segment.

ERROR_SIGNAL = matrix(sprints.LABELS, 5)
DISCARDED = ["tuple", [NONE, NONE]]
CALCULATE = {"posteriors": "good", "orthography": "b a ", "output_error_type": "error-signal"}
Outcome = Union[list[Any], str, int]
ASKED: list[tuple[str, dict[str, Any], Outcome]] = [
    ("version", {}, ["str"]),
    ("version_number", {}, number(5)),
    ("help", {}, ["str"]),
    ("init_criterion", {}, NONE),
    ("nonsense", {}, "ValueError"),
    ("calculate_criterion", CALCULATE, ["tuple", [["float"], ERROR_SIGNAL]]),
    ("calculate_criterion", {**CALCULATE, "segment_name": "x"}, ["tuple", [["float"], ERROR_SIGNAL]]),
    ("calculate_criterion", {**CALCULATE, "posteriors": "in C order"}, ["tuple", [["float"], ERROR_SIGNAL]]),
    ("calculate_criterion", {**CALCULATE, "posteriors": "float64"}, ["tuple", [["float"], ERROR_SIGNAL]]),
    ("calculate_criterion", {**CALCULATE, "output_error_type": "none"}, ["tuple", [["float"], NONE]]),
    ("calculate_criterion", {"posteriors": "good", "orthography": "b a "}, ["tuple", [["float"], NONE]]),
    *(
        (
            "calculate_criterion",
            {**CALCULATE, "output_error_type": kind},
            ["tuple", [["float"], ERROR_SIGNAL]],
        )
        for kind in ("error-signal-before-softmax", "pseudo-targets")
    ),
    (
        "calculate_criterion",
        {**CALCULATE, "posteriors": "for a short segment", "output_error_type": "pseudo-targets"},
        DISCARDED,
    ),
    ("calculate_criterion", {**CALCULATE, "posteriors": "for a short segment"}, DISCARDED),
    ("calculate_criterion", {}, "TypeError"),
    ("calculate_criterion", {"posteriors": "good", "as bytes": "b a "}, "TypeError"),
    ("calculate_criterion", {**CALCULATE, "orthography": None}, "TypeError"),
    ("calculate_criterion", {**CALCULATE, "orthography": 7}, "TypeError"),
    ("calculate_criterion", {**CALCULATE, "segment_name": None}, "TypeError"),
    ("calculate_criterion", {**CALCULATE, "output_error_type": None}, "TypeError"),
    ("calculate_criterion", {**CALCULATE, "output_error_type": "nonsense"}, "ValueError"),
    ("calculate_criterion", {**CALCULATE, "alignment": [0.0]}, "ValueError"),
    ("calculate_criterion", {**CALCULATE, "nonsense": 1}, "TypeError"),
    ("calculate_criterion", {**CALCULATE, "posteriors": "float16"}, 1),
    ("calculate_criterion", {**CALCULATE, "posteriors": "int32"}, 1),
    ("calculate_criterion", {**CALCULATE, "posteriors": "a list"}, 1),
    ("calculate_criterion", {**CALCULATE, "posteriors": "of one dimension"}, 1),
    ("calculate_criterion", {**CALCULATE, "posteriors": "of three dimensions"}, 1),
    ("calculate_criterion", {**CALCULATE, "posteriors": "in another byte order"}, 1),
    ("calculate_criterion", {**CALCULATE, "posteriors": "unaligned"}, 1),
    ("calculate_criterion", {**CALCULATE, "posteriors": "with a NaN first"}, ABORTED),
    ("calculate_criterion", {**CALCULATE, "posteriors": "without frames"}, ABORTED),
    ("calculate_criterion", {**CALCULATE, "posteriors": "of another width"}, ABORTED),
    ("calculate_criterion", {**CALCULATE, "orthography": "b a"}, ABORTED),
    ("get_orthography_by_segment_name", {"segment_name": NAMES[1]}, text("b a d ")),
    ("get_orthography_by_segment_name", {"segment_name": "corpus/rec/nowhere"}, "KeyError"),
    ("get_orthography_by_segment_name", {}, "TypeError"),
    ("get_orthography_by_segment_name", {"segment_name": None}, "TypeError"),
    ("get_orthography_by_segment_name", {"segment_name": "x", "nonsense": 1}, "TypeError"),
    ("export_allophone_state_fsa_by_segment_name", {"segment_name": "corpus/rec/nowhere"}, "KeyError"),
    ("export_allophone_state_fsa_by_segment_name", {}, "TypeError"),
    ("export_allophone_state_fsa_by_orthography", {"orthography": None}, "TypeError"),
]


@pytest.fixture(params=["refsprint", "host", "rasr"])
def sprint(request: pytest.FixtureRequest, tmp_path: Path) -> sprints.Sprint:
    host = request.getfixturevalue("host_program") if request.param == "host" else None
    return sprints.Sprint(request.param, tmp_path, host)


def run(sprint: sprints.Sprint, way: str, *options: str, **probe: Any) -> Finished:
    if way in ("trainer", "lattices") and not sprint.has_features:
        pytest.skip("examples/rasr, which writes the features and the lattices, is missing")
    if sprint.name == "rasr":
        if way == "score":
            pytest.skip("nn-trainer has no recogniser: see tests/rasr/test_rasr_feature_scorer.py")
        if way == "lattices" and not sprints.LATTICE_PROCESSOR:
            pytest.skip("SHMBRIDGE_LATTICE_PROCESSOR is not set; it must be the path of RASR's program")
        if way != "lattices" and not sprints.NN_TRAINER:
            pytest.skip(f"{sprints.VARIABLE} is not set; it must be the path of RASR's nn-trainer")
    finished = sprint.run(way, *options, **probe)
    print(finished.out)  # pytest shows this if the test fails
    finished.calls = [call for call in finished.calls if call[0] not in ANY_NUMBER_OF_TIMES]
    return finished


def agree(described: Any, expected: Any) -> bool:
    """Return whether a description is the expected one. A type without a value matches any value."""
    if expected in (["object"], ["str"], ["float"]):
        return bool(described[:1] == expected)
    if expected[0] in ("list", "tuple"):
        return (
            described[0] == expected[0]
            and len(described[1]) == len(expected[1])
            and all(agree(one, other) for one, other in zip(described[1], expected[1]))
        )
    return bool(described == expected)


def assert_agree(arguments: dict[str, Any], expected: dict[str, Any]) -> None:
    assert arguments.keys() == expected.keys()
    for name, description in expected.items():
        assert agree(arguments[name], description), (name, arguments[name], description)


def ended_well(sprint: sprints.Sprint, finished: Finished, way: str) -> bool:
    # RASR may abort after a complete training with a Python layer (docs/ways.md).
    may_abort = sprint.name == "rasr" and way == "trainer" and finished.names[-1:] == ["finalize"]
    return finished.code == 0 or (may_abort and finished.code == ABORTED)


@pytest.mark.parametrize("way", CALLS)
def test_sprint_makes_these_calls_with_these_arguments(sprint: sprints.Sprint, way: str) -> None:
    finished = run(sprint, way)
    assert finished.names == [name for name, _ in CALLS[way]]
    for (_, arguments), (_, expected) in zip(finished.calls, CALLS[way]):
        assert_agree(arguments, expected)
    assert ended_well(sprint, finished, way)


def test_sprint_entry_names_each_parameter_that_sprint_passes() -> None:
    owners = (sprint_entry, sprint_entry.PythonControl, sprint_entry.SprintNnPythonLayer, FeatureScorer)
    for call, arguments in (one for calls in CALLS.values() for one in calls):
        named = [
            inspect.signature(getattr(owner, call)).parameters for owner in owners if hasattr(owner, call)
        ]
        assert any(arguments.keys() <= parameters.keys() for parameters in named), call


@pytest.mark.parametrize(
    ("way", "call", "how", "code"),
    [(way, call, how, code) for way, call, table in WRONG for how, code in table.items()],
)
def test_a_python_error_ends_sprint_with_this_exit_code(
    sprint: sprints.Sprint, way: str, call: str, how: str, code: int
) -> None:
    finished = run(sprint, way, misbehave={call: how})
    assert finished.code == code
    if how.startswith("raises"):
        assert finished.names[-1:] == [call] or call in ANY_NUMBER_OF_TIMES
        shown = how.split()[1]
        assert ("on purpose" in finished.out) == (shown not in ("SystemExit(7)", "SystemExit(None)"))
    if call not in ("init", "exit"):
        assert "exit" not in finished.names


@pytest.mark.parametrize(("way", "call", "how"), IGNORED)
def test_sprint_ignores_the_return_value_of_these_calls(
    sprint: sprints.Sprint, way: str, call: str, how: str
) -> None:
    finished = run(sprint, way, misbehave={call: how})
    assert finished.names == [name for name, _ in CALLS[way]]
    assert ended_well(sprint, finished, way)


def test_sprint_accepts_float64_scores(sprint: sprints.Sprint, tmp_path: Path) -> None:
    path = tmp_path / "scores.npz"
    files = [f"host.scores={path}", f"refsprint.scores-file={path}"]
    finished = run(sprint, "score", *files, misbehave={"get_scores": "returns a float64 vector"})
    assert finished.names == [name for name, _ in CALLS["score"]]
    assert finished.code == 0
    if sprint.name == "refsprint":
        with np.load(path) as scores:
            rows = np.concatenate([scores[name] for name in NAMES])
    else:
        rows = np.loadtxt(path, delimiter="\t", usecols=range(1, sprints.LABELS + 1))
    frames = sum(sprints.SEGMENTS[name][0] for name in NAMES)
    np.testing.assert_array_equal(rows, [np.arange(sprints.LABELS) / 4] * frames)


def test_a_module_that_cannot_be_imported_ends_sprint(sprint: sprints.Sprint) -> None:
    finished = run(sprint, "loop", misbehave={"module": "raises ImportError"})
    assert finished.code == 1
    assert "ImportError: on purpose" in finished.out
    assert finished.names == []


@pytest.mark.parametrize(
    ("command", "keywords", "outcome"),
    ASKED,
    ids=[f"{i}-{command}" for i, (command, _, _) in enumerate(ASKED)],
)
def test_each_command_of_the_callback_has_this_outcome(
    sprint: sprints.Sprint, command: str, keywords: dict[str, Any], outcome: Outcome
) -> None:
    finished = run(sprint, "loop", ask=[[command, keywords], ["version_number", {}]])
    if isinstance(outcome, int):
        assert finished.code == outcome
        # Sprint ends without calling Python again.
        assert finished.names == ["init", "run_control_loop"]
        return
    assert finished.code == 0
    answers = [arguments for name, arguments in finished.calls if name in ("answered", "raised")]
    if isinstance(outcome, str):
        assert answers[0] == {"error": ["str", outcome]}
    else:
        assert_agree(answers[0], {"answer": outcome})
    # Sprint continues.
    assert answers[1] == {"answer": ["int", 5]}
    assert finished.names[-1] == "exit"


@pytest.mark.parametrize("kind", ["error-signal", "error-signal-before-softmax", "pseudo-targets"])
def test_the_criterion_is_ctc(sprint: sprints.Sprint, kind: str) -> None:
    finished = run(sprint, "loop", ask=[["calculate_criterion", {**CALCULATE, "output_error_type": kind}]])
    (answer,) = finished.arguments("answered")
    (values,) = finished.arguments("error signal")
    logits = np.random.default_rng(5).normal(size=(5, sprints.LABELS)).astype(np.float32)
    scores = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    labels = (ord("b") % 6, ord("a") % 6)
    loss, _, error_signal = enumerate_ctc(scores, {labels: 1.0}, sprints.LABELS - 1)
    if kind == "pseudo-targets":
        error_signal = np.exp(scores) - error_signal
    elif kind == "error-signal-before-softmax":
        # RASR treats the logarithms as the output of a softmax. The result has no meaning.
        error_signal = scores * (error_signal - (scores * error_signal).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(answer["answer"][1][0][1], loss, rtol=1e-5)
    flat = [value for _, value in values["values"][1]]
    np.testing.assert_allclose(np.reshape(flat, (5, sprints.LABELS)), error_signal, atol=1e-5)
