"""PythonFeatureScorer in nn-trainer: it aligns its corpus with the scores of our function.

nn-trainer does not contain a recognizer. The node speech-alignment of its flow networks has an acoustic model
with a feature scorer, and makes the calls of a recognizer.
"""

from __future__ import annotations

from pathlib import Path

import ctc_reference
import numpy as np
import pytest

import shmbridge
from examples.rasr import feature_cache
from examples.rasr.feature_cache import DIMENSION

_FLOW = """<?xml version="1.0" encoding="utf-8"?>
<network>
  <out name="features"/>
  <out name="alignments"/>
  <param name="id"/>
  <param name="orthography"/>
  <node name="cache" filter="generic-cache" id="$(id)" path="{cache}"/>
  <node name="aggregate" filter="generic-aggregation-vector-f32"/>
  <node name="alignment" filter="speech-alignment" id="$(id)" orthography="$(orthography)"/>
  <link from="cache" to="network:features"/>
  <link from="cache" to="aggregate"/>
  <link from="aggregate" to="alignment"/>
  <link from="alignment" to="network:alignments"/>
</network>
"""

_CONFIG = """
include {model}/model.config

[*]
action                 = supervised-training
trainer                = dummy
buffer-type            = utterance
shuffle                = false
python-control-enabled = false
# RASR's master ends with an error if it does not know the criterion.
training-criterion     = none

[*.neural-network]
links = 0->own:0
[*.own]
layer-type       = linear+softmax
dimension-output = {labels}

[*.feature-extraction]
file = {folder}/align.flow

[*.mixture-set]
file                = {folder}/mixtures.pms
feature-scorer-type = python-feature-scorer
feature-dimension   = 2

[*.aligner]
min-acoustic-pruning = 1e9
statistics.channel   = statistics
[*.channels.statistics]
file = {folder}/statistics.xml
"""


def write_mixtures(path: Path, labels: int) -> None:
    """Write one mixture with one density per label. RASR takes the number of labels from it."""
    lines = ["#Version: 2.0", "#CovarianceType: DiagonalCovariance", f"{DIMENSION} {labels} {labels} 1 1"]
    lines += [f"1 {label} 0.0" for label in range(labels)]
    lines += ["0 0"] * labels  # mean and covariance of each density
    lines += [f"{DIMENSION}" + DIMENSION * " 0.0", f"{DIMENSION}" + DIMENSION * " 1.0 1.0", ""]
    path.write_text("\n".join(lines))


def best_path(scores, sequences, blank):
    """Return the minimum over paths of the sum of scores: the loss of very sharp posteriors."""
    sharp = 1e6
    return min(
        ctc_reference.loss_and_error_signal(-sharp * scores, [(1.0, labels)], blank)[0] / sharp
        - np.log(probability)
        for probability, labels in sequences
    )


@pytest.fixture
def nn_trainer(any_nn_trainer):
    """nn-trainer: it aligns without a criterion."""
    return any_nn_trainer


@pytest.fixture
def aligner(nn_trainer, tmp_path):
    """A function that starts a pool whose nn-trainer aligns the corpus."""
    model = nn_trainer.files.folder
    (tmp_path / "align.flow").write_text(_FLOW.format(cache=model / "features.cache"))
    write_mixtures(tmp_path / "mixtures.pms", nn_trainer.labels)
    config = tmp_path / "align.config"
    config.write_text(_CONFIG.format(model=model, folder=tmp_path, labels=nn_trainer.labels))

    def pool():
        # The parent adds options to the command line, which takes precedence over the file.
        sprint = [f"--config={config}", "--*.python-control-enabled=false"]
        return nn_trainer.pool("loop", sprint_config=sprint, num_labels=None)

    return pool


def test_nn_trainer_aligns_with_the_scores_of_our_function(nn_trainer, aligner, tmp_path):
    random = np.random.default_rng(4)
    answers = []
    got = []

    def score(features):
        got.append(features.copy())
        answers.append(random.uniform(0, 10, (len(features), nn_trainer.labels)).astype(np.float32))
        return answers[-1]

    with aligner() as pool:
        pool.serve_scores(score)
        assert pool.stats().scored == len(nn_trainer.task.segments)
    assert [len(scores) for scores in answers] == [segment.frames for segment in nn_trainer.task.segments]
    for number, (segment, features) in enumerate(zip(nn_trainer.task.segments, got)):
        np.testing.assert_array_equal(features, feature_cache.features(number, segment.frames))
    totals = [
        float(line.strip()[len("<total>") : -len("</total>")])
        for line in (tmp_path / "statistics.xml").read_text().splitlines()
        if "<total>" in line
    ]
    assert len(totals) >= len(nn_trainer.names)  # the last segment is too short to be aligned
    for name, scores, total in zip(nn_trainer.names, answers, totals):
        sequences = nn_trainer.task.label_sequences(name)
        assert total == pytest.approx(best_path(scores, sequences, nn_trainer.task.blank), rel=1e-4), name


def test_an_exception_of_our_function_ends_nn_trainer(aligner, sprint_log):
    def score(features):
        raise KeyError("no such layer")

    with aligner() as pool, pytest.raises(KeyError, match="no such layer"):
        pool.serve_scores(score)
    assert any(
        "The trainer's score function raised KeyError: 'no such layer'" in line for line in sprint_log()
    )


def test_scores_of_the_wrong_shape_do_not_reach_nn_trainer(nn_trainer, aligner):
    with aligner() as pool, pytest.raises(shmbridge.BatchError, match=f", {nn_trainer.labels}\\)"):
        pool.serve_scores(lambda features: np.zeros((len(features), nn_trainer.labels - 1)))
