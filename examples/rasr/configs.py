"""RASR's config files: one for each of the four ways (docs/ways.md), and the one that they include."""

from __future__ import annotations

from pathlib import Path

from .task import Task

__all__ = ["WAYS", "acoustic_model", "config", "model"]

_ACOUSTIC_MODEL = """\
[*.corpus]
file = {folder}/corpus.xml

[*.lexicon]
file = {folder}/{lexicon}

# One label per phoneme, in the order of the lexicon's inventory.
[*.acoustic-model]
state-tying.type         = monophone
hmm.states-per-phone     = 1
hmm.state-repetitions    = 1
hmm.across-word-model    = false
phonology.history-length = 0
phonology.future-length  = 0
allophones.add-all           = false
allophones.add-from-lexicon  = true

[*.acoustic-model.tdp]
*.loop        = 0
*.forward     = 0
*.skip        = infinity
*.exit        = 0
entry-m1.loop = infinity
entry-m2.loop = infinity
"""

_CTC = """\
# Blanks between the labels, and repeated labels. CTC does not have transition probabilities; the graph
# builder requires exactly these values.
[*.allophone-state-graph-builder]
topology = ctc

[*]
training-criterion              = ctc
# Use CTC's forward-backward instead of the search aligner.
use-search-aligner              = false
use-direct-alignment-extraction = true

# No pruning. With RASR's default threshold, 50, the error signal of 1000 frames was wrong by up to 0.4 for
# some labels, while the loss looked right.
[*.ctc-aligner]
min-acoustic-pruning = 1e9

# Do not divide by label priors: the plain CTC loss.
[*.priors]
priori-scale = 0
"""

_PYTHON_CONTROL = """\
[*]
action                   = python-control
python-control-loop-type = {loop}
extract-features         = false
# The parent sends log posteriors.
input-in-log-space       = true
"""

_TRAINER = """\
[*]
action             = supervised-segmentwise-training
trainer            = feed-forward-trainer
estimator          = dry-run
buffer-type        = utterance
buffer-size        = {frames}
shuffle            = false
input-in-log-space = {log_space}

# Only the number of frames matters. It must be the number of frames of the posteriors.
[*.feature-extraction]
file = {folder}/features.flow

"""

_PYTHON_LAYER = """\
[*.neural-network]
links = 0->posteriors:0

[*.posteriors]
layer-type       = python
dimension-output = {labels}
links            = 0->top:0

# Further layers could follow here, but the Python layer does not need them.
[*.top]
layer-type       = identity
dimension-output = {labels}
"""

_OWN_NETWORK = """\
[*.neural-network]
links = 0->own:0

[*.own]
layer-type       = linear+softmax
dimension-output = {labels}
"""

_WAYS = {
    "iterate": (
        "# Sprint iterates the corpus. The child computes the criterion through the callback.",
        _PYTHON_CONTROL.replace("{loop}", "iterate-corpus"),
    ),
    "trainer": (
        "# Sprint's trainer. The network is a Python layer, whose output is the parent's posteriors.",
        _TRAINER.replace("{log_space}", "true") + _PYTHON_LAYER,
    ),
    "loop": (
        "# Sprint only answers the callback. It must not ask for a segment order.",
        _PYTHON_CONTROL.replace("{loop}", "python-control-loop"),
    ),
    "order": (
        "# Segment order alone: Sprint trains its own network on the segments that the parent names.\n"
        "# Sprint neither receives posteriors nor returns an error signal: the segments are skipped.",
        _TRAINER.replace("{log_space}", "false") + _OWN_NETWORK,
    ),
}

WAYS = tuple(_WAYS)
"""Corpus iteration, a trainer with a Python layer, the control loop, and segment order alone."""


def model(folder: Path) -> str:
    """Return the config that all ways include: corpus, lexicon, acoustic model and criterion."""
    head = "# The criterion, the same for all ways: the CTC loss of log posteriors."
    return f"{head}\n\n{acoustic_model(folder, 'lexicon.xml')}\n{_CTC}"


def acoustic_model(folder: Path, lexicon: str) -> str:
    """Return the part on corpus, lexicon (a file in the folder) and acoustic model."""
    return _ACOUSTIC_MODEL.format(folder=folder, lexicon=lexicon)


def config(task: Task, folder: Path, way: str) -> str:
    """Return the config of one of WAYS."""
    head, body = _WAYS[way]
    frames = max(segment.frames for segment in task.segments)
    filled = body.format(folder=folder, labels=len(task.phonemes), frames=frames)
    return f"{head}\n\ninclude model.config\n\n{filled}"
