"""action=supervised-segmentwise-training: the network, the Python layer and the order of the calls."""

from __future__ import annotations

import math
import signal
from typing import Any

import numpy as np
import pytest
from refsprint_env import RefsprintEnv

TRAIN = (
    "action=supervised-segmentwise-training",
    "trainer=feed-forward-trainer",
    "estimator=dry-run",
    "buffer-type=utterance",
    "shuffle=false",
    "training-criterion=ctc",
    "input-in-log-space=true",
)
PYTHON_LAYER = ("neural-network.links=0->bottom", "bottom.layer-type=python", "bottom.dimension-output=7")
TWO_LAYERS = (*PYTHON_LAYER, "bottom.links=top", "top.layer-type=identity")
CONTROL = ("python-control-enabled=true",)

LAYER = """
class SprintNnPythonLayer:
    def __init__(self, **arguments):
        record("layer", **arguments)
    def isTrainable(self):
        return TRAINABLE
    def getNumberOfFreeParameters(self):
        record("getNumberOfFreeParameters")
        return 11
    def forward(self, **arguments):
        record("forward", **arguments)
        matrix = arguments["input"][0]
        time = matrix.shape[1]
        logits = numpy.random.default_rng(time).normal(size=(7, time))
        return logits - numpy.log(numpy.exp(logits).sum(axis=0))
    def backpropagate(self, **arguments):
        record("backpropagate", **arguments)
        return (numpy.zeros((7, 3)),)
    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda **arguments: record(name, **arguments)

TRAINABLE = True
"""

CREATED = ["layer", "setOutputDimension", "setInputDimension", "initializeNetworkParameters"]
COUNTED = "getNumberOfFreeParameters"


def calls_for(finished: Any, segment: str) -> list[str]:
    """Return the names of the calls from init_segment of a segment to the next one."""
    names: list[str] = []
    current = None
    for name, arguments in finished.calls:
        if name == "init_segment":
            current = arguments["segment_name"][1]
        if current == segment and name != "finalize":
            names.append(name)
    return names


def test_a_python_layer_below_another_is_called_in_sprints_order(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(sprint_env.CONTROL + LAYER)
    finished = sprint_env.run(*TRAIN, *TWO_LAYERS, *CONTROL)
    assert finished.code == 0, finished.err
    names = finished.names
    assert names[: len(CREATED) + 2] == ["init", *CREATED, COUNTED]
    assert finished.arguments("init")[0]["sprint_unit"] == ["str", "FeedForwardTrainer"]
    assert finished.arguments("layer") == [{"config": ["str", "c2p_fd:3,p2c_fd:4"]}]
    assert finished.arguments("setOutputDimension") == [{"size": ["int", 7]}]
    assert finished.arguments("setInputDimension") == [{"stream": ["int", 0], "size": ["int", 7]}]
    whole = ["init_segment", "forward", "notify_segment_loss", "backpropagate"]
    assert calls_for(finished, "demo/rec/one") == whole
    assert calls_for(finished, "demo/rec/2") == whole
    assert calls_for(finished, "demo/sub/rec/a") == whole
    # Two frames are too few for the words: Sprint skips the segment, without a loss.
    assert calls_for(finished, "demo/rec/short") == ["init_segment", "forward"]
    # As in RASR, a trainer does not call exit().
    assert names[-1] == "finalize"
    assert "exit" not in names
    assert finished.arguments("init_segment")[0] == {"segment_name": ["str", "demo/rec/one"]}
    matrix = ["ndarray", [7, 12], "float32", True, True, True]
    assert finished.arguments("forward")[0] == {"input": ["list", [matrix]]}
    assert finished.arguments("backpropagate")[0] == {"errorSignalIn": matrix}
    notified = finished.arguments("notify_segment_loss")[0]
    assert notified["segment_name"] == ["NoneType", None]
    assert notified["loss"][0] == "float"
    assert notified["loss"][1] > 0


def test_a_python_layer_on_top_is_backpropagated_before_the_loss_notification(
    sprint_env: RefsprintEnv,
) -> None:
    sprint_env.module(sprint_env.CONTROL + LAYER)
    finished = sprint_env.run(*TRAIN, *PYTHON_LAYER, *CONTROL)
    assert finished.code == 0, finished.err
    expected = ["init_segment", "forward", "backpropagate", "notify_segment_loss"]
    assert calls_for(finished, "demo/rec/one") == expected


def test_without_python_control_only_the_layer_is_called(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(sprint_env.CONTROL + LAYER)
    finished = sprint_env.run(*TRAIN, *TWO_LAYERS)
    assert finished.code == 0, finished.err
    assert not {"init", "init_segment", "notify_segment_loss", "exit"} & set(finished.names)
    assert finished.names[len(CREATED) + 1 :][:2] == ["forward", "backpropagate"]


@pytest.mark.parametrize("layer", ["identity", "linear+softmax"])
def test_without_a_python_layer_only_python_control_is_called(sprint_env: RefsprintEnv, layer: str) -> None:
    sprint_env.module(sprint_env.CONTROL + LAYER)
    log_space = "true" if layer == "identity" else "false"
    finished = sprint_env.run(
        *TRAIN,
        *CONTROL,
        "neural-network.links=0->only",
        f"only.layer-type={layer}",
        "only.dimension-output=7",
        f"input-in-log-space={log_space}",
    )
    assert finished.code == 0, finished.err
    assert set(finished.names) == {"init", "init_segment", "notify_segment_loss"}
    assert len(finished.arguments("notify_segment_loss")) == 3


def test_a_layer_that_is_not_trainable_is_not_backpropagated(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(sprint_env.CONTROL + LAYER.replace("TRAINABLE = True", "TRAINABLE = False"))
    finished = sprint_env.run(*TRAIN, *TWO_LAYERS, *CONTROL)
    assert finished.code == 0, finished.err
    assert calls_for(finished, "demo/rec/one") == ["init_segment", "forward", "notify_segment_loss"]


def test_a_python_layer_below_a_softmax_returns_logits(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(sprint_env.CONTROL + LAYER)
    same = (*TRAIN, *PYTHON_LAYER, "bottom.links=top", *CONTROL)
    losses = []
    for options in (("top.layer-type=identity",), ("top.layer-type=softmax", "input-in-log-space=false")):
        finished = sprint_env.run(*same, *options)
        assert finished.code == 0, finished.err
        losses.append(finished.arguments("notify_segment_loss")[-1]["loss"][1])
    assert math.isclose(losses[0], losses[1], rel_tol=1e-5)


def test_the_default_estimator_does_not_run_the_network(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(sprint_env.CONTROL + LAYER)
    options = tuple(option for option in TRAIN if not option.startswith("estimator"))
    finished = sprint_env.run(*options, *TWO_LAYERS, *CONTROL)
    assert finished.code == 0, finished.err
    assert calls_for(finished, "demo/rec/short") == ["init_segment", "notify_segment_loss"]


def test_the_segment_list_is_requested_before_init(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(
        sprint_env.CONTROL
        + LAYER
        + """
def getSegmentList(**arguments):
    record("getSegmentList")
    return ["demo/sub/rec/a"]
"""
    )
    order = ("python-segment-order=true", "python-segment-order-pymod-name=usermod")
    finished = sprint_env.run(*TRAIN, *TWO_LAYERS, *CONTROL, *order)
    assert finished.code == 0, finished.err
    assert finished.names[:2] == ["getSegmentList", "init"]
    assert len(finished.arguments("init_segment")) == 1


def test_segmentwise_notifications_contain_the_segment_name(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(sprint_env.CONTROL + LAYER)
    finished = sprint_env.run(*TRAIN, *TWO_LAYERS, *CONTROL, "refsprint.notifications=segmentwise")
    assert finished.code == 0, finished.err
    assert finished.arguments("init")[0]["sprint_unit"] == ["str", "SegmentwiseNnTrainer"]
    assert finished.arguments("notify_segment_loss")[0]["segment_name"] == ["str", "demo/rec/one"]


def test_the_names_of_parameter_files_contain_the_layer(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(sprint_env.CONTROL + LAYER)
    finished = sprint_env.run(*TRAIN, *TWO_LAYERS, "parameters-old=bin:old", "parameters-new=new")
    assert finished.code == 0, finished.err
    assert finished.arguments("loadNetworkParameters") == [{"filename": ["str", "bin:old-f32-layer-0.bin"]}]
    assert finished.names[-2:] == ["finalize", "saveNetworkParameters"]
    assert finished.arguments("saveNetworkParameters") == [{"filename": ["str", "new-f32-layer-0.xml"]}]


def test_features_come_from_a_file(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(sprint_env.CONTROL + LAYER)
    matrices: dict[str, Any] = {
        name: np.ones((3, 9 + i), dtype=np.float32) for i, name in enumerate(sprint_env.SEGMENTS)
    }
    np.savez(sprint_env.path / "features.npz", **matrices)
    finished = sprint_env.run(*TRAIN, *TWO_LAYERS, f"feature-extraction.file={sprint_env.path}/features.npz")
    assert finished.code == 0, finished.err
    shapes = [arguments["input"][1][0][1] for arguments in finished.arguments("forward")]
    assert shapes == [[3, 9], [3, 10], [3, 11], [3, 12]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("return (numpy.zeros((7, 3)),)", "return [numpy.zeros((7, 3))]"), "did not return a tuple"),
        (("TRAINABLE = True", "TRAINABLE = 1"), "did not return a bool"),
        (("TRAINABLE = True", "TRAINABLE = numpy.bool_(True)"), "did not return a bool"),
        (("return 11", "return 'many'"), "returned 'many'; it must return a non-negative int"),
        (("return 11", "return -1"), "returned -1; it must return a non-negative int"),
        (("return logits -", "return [logits] #"), "expected a numpy array"),
        (("return logits -", "return logits.astype('float16') #"), "float16"),
        (("return logits -", "raise OSError('no GPU') #"), "OSError: no GPU"),
    ],
)
def test_a_wrong_return_value_of_a_layer_is_fatal(
    sprint_env: RefsprintEnv, change: tuple[str, str], message: str
) -> None:
    assert change[0] in LAYER
    sprint_env.module(sprint_env.CONTROL + LAYER.replace(*change))
    finished = sprint_env.run(*TRAIN, *TWO_LAYERS, *CONTROL)
    assert finished.code == 1
    assert "PYTHON ERROR" in finished.err
    assert message in finished.err


@pytest.mark.parametrize(
    "change",
    [("return logits -", "return logits[:6] #"), ("return logits -", "return logits * numpy.nan #")],
)
def test_wrong_posteriors_abort(sprint_env: RefsprintEnv, change: tuple[str, str]) -> None:
    sprint_env.module(sprint_env.CONTROL + LAYER.replace(*change))
    assert sprint_env.run(*TRAIN, *PYTHON_LAYER, *CONTROL).code == -signal.SIGABRT


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("buffer-type=minibatch", "buffer-type"),
        ("shuffle=true", "shuffle"),
        ("trainer=autoencoder", "trainer"),
        ("neural-network.links=", "links"),
        ("neural-network.links=0->a,1->b", "links"),
        ("top.links=bottom", "links"),
        ("top.layer-type=pooling", "layer-type"),
    ],
)
def test_the_error_names_a_wrong_option(sprint_env: RefsprintEnv, option: str, message: str) -> None:
    sprint_env.module(sprint_env.CONTROL + LAYER)
    finished = sprint_env.run(*TRAIN, *TWO_LAYERS, option)
    assert finished.code == 1
    assert message in finished.err


def test_a_file_may_contain_all_options(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(sprint_env.CONTROL + LAYER)
    config = """
# Names may begin with the title of the application or with the name of the executable.
[nn-trainer]
action             = supervised-segmentwise-training
trainer            = feed-forward-trainer
estimator          = dry-run
buffer-type        = utterance
shuffle            = false
training-criterion = ctc
input-in-log-space = true
python-control-enabled = true

[*.neural-network]
links              = 0->python-layer

[*.python-layer]
layer-type         = python
dimension-output   = 7
links              = output-layer

[*.output-layer]
layer-type         = identity
"""
    finished = sprint_env.run(config=config)
    assert finished.code == 0, finished.err
    assert finished.names[-1] == "finalize"
    assert len(finished.arguments("notify_segment_loss")) == 3


def test_the_null_criterion_does_not_need_a_lexicon(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(sprint_env.CONTROL + LAYER)
    finished = sprint_env.run(*TRAIN, *TWO_LAYERS, *CONTROL, "refsprint.criterion=null", "lexicon.file=")
    assert finished.code == 0, finished.err
    assert finished.arguments("setInputDimension")[0]["size"] == ["int", 1]
    assert len(finished.arguments("backpropagate")) == 4


def test_a_flow_network_is_ignored(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(sprint_env.CONTROL + LAYER)
    finished = sprint_env.run(*TRAIN, *TWO_LAYERS, "feature-extraction.file=features.flow")
    assert finished.code == 0, finished.err
    assert "features.flow" in finished.err
    assert len(finished.arguments("forward")) == 4


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"text"])
def test_the_error_names_a_damaged_feature_file(sprint_env: RefsprintEnv, content: bytes) -> None:
    sprint_env.module(sprint_env.CONTROL + LAYER)
    (sprint_env.path / "features.npz").write_bytes(content)
    finished = sprint_env.run(*TRAIN, *TWO_LAYERS, f"feature-extraction.file={sprint_env.path}/features.npz")
    assert finished.code == 1
    assert "features.npz: " in finished.err


def test_an_option_makes_a_complete_training_end_with_sigabrt(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(sprint_env.CONTROL + LAYER + "\nimport atexit\natexit.register(record, 'atexit')\n")
    finished = sprint_env.run(*TRAIN, *TWO_LAYERS, "refsprint.abort-after-training=true")
    assert finished.code == -signal.SIGABRT
    assert finished.names[-2:] == ["finalize", "atexit"]


def test_a_word_that_the_lexicon_lacks_is_left_out(sprint_env: RefsprintEnv) -> None:
    corpus = sprint_env.corpus.read_text(encoding="utf-8").replace("grün", "blau")
    sprint_env.corpus.write_text(corpus, encoding="utf-8")
    sprint_env.module(sprint_env.CONTROL + LAYER)
    finished = sprint_env.run(*TRAIN, *TWO_LAYERS, *CONTROL)
    assert finished.code == 0, finished.err
    assert "skipping the unknown word 'blau'" in finished.err
    assert len(finished.arguments("notify_segment_loss")) == 3


def test_a_segment_longer_than_the_buffer_is_skipped(sprint_env: RefsprintEnv) -> None:
    sprint_env.module(sprint_env.CONTROL + LAYER)
    finished = sprint_env.run(*TRAIN, *TWO_LAYERS, *CONTROL, "buffer-size=10")
    assert finished.code == 0, finished.err
    names = [arguments["segment_name"][1] for arguments in finished.arguments("init_segment")]
    assert names == ["demo/rec/2", "demo/rec/short", "demo/sub/rec/a"]
