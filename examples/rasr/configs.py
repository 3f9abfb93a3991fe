"""RASR's config files, one for each of the four ways (docs/ways.md), and what they share."""

from __future__ import annotations

from pathlib import Path

from .task import Task

__all__ = ["WAYS", "config", "model"]

_MODEL = """\
# What Sprint computes, in whichever way it is driven: the CTC loss of log posteriors.

[*.corpus]
file = {folder}/corpus.xml

[*.lexicon]
file = {folder}/lexicon.xml

# One label for each phoneme, in the order of the lexicon's inventory.
[*.acoustic-model]
state-tying.type         = monophone
hmm.states-per-phone     = 1
hmm.state-repetitions    = 1
hmm.across-word-model    = false
phonology.history-length = 0
phonology.future-length  = 0
allophones.add-all           = false
allophones.add-from-lexicon  = true

# The blank goes between the labels, and each label may be repeated. CTC has no transition probabilities; the
# graph builder insists that they are left out in just this way.
[*.allophone-state-graph-builder]
topology = ctc

[*.acoustic-model.tdp]
*.loop        = 0
*.forward     = 0
*.skip        = infinity
*.exit        = 0
entry-m1.loop = infinity
entry-m2.loop = infinity

[*]
training-criterion              = ctc
# CTC's own forward-backward, instead of the search aligner.
use-search-aligner              = false
use-direct-alignment-extraction = true

# No pruning. RASR's own threshold is 50, and with that the error signal of 1000 frames was wrong by up to 0.4
# in some labels, while the loss looked right.
[*.ctc-aligner]
min-acoustic-pruning = 1e9

# No division by label priors: the plain CTC loss.
[*.priors]
priori-scale = 0
"""

_PYTHON_CONTROL = """\
[*]
action                   = python-control
python-control-loop-type = {loop}
extract-features         = false
# What comes in are log posteriors, not posteriors.
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

# Its frames are as many as those of the posteriors; else they count for nothing.
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

# Here further layers might stand; none are needed above the Python layer.
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
        "# Sprint iterates the corpus, and calculates by callback.",
        _PYTHON_CONTROL.replace("{loop}", "iterate-corpus"),
    ),
    "trainer": (
        "# Sprint's own trainer, whose network is a Python layer: its output is the parent's posteriors.",
        _TRAINER.replace("{log_space}", "true") + _PYTHON_LAYER,
    ),
    "loop": (
        "# Sprint does nothing but answer its callback. It is not to ask for a segment order.",
        _PYTHON_CONTROL.replace("{loop}", "python-control-loop"),
    ),
    "order": (
        "# Segment order alone: Sprint trains a network of its own on the segments that the parent names.\n"
        "# No posteriors go to it and no error signal comes back; it shows what that looks like.",
        _TRAINER.replace("{log_space}", "false") + _OWN_NETWORK,
    ),
}

WAYS = tuple(_WAYS)
"""Iterate the corpus; a trainer with a Python layer; the control loop; segment order alone."""


def model(folder: Path) -> str:
    """What all ways share: corpus, lexicon, acoustic model and criterion."""
    return _MODEL.format(folder=folder)


def config(task: Task, folder: Path, way: str) -> str:
    """The config file for one of WAYS."""
    head, body = _WAYS[way]
    frames = max(segment.frames for segment in task.segments)
    filled = body.format(folder=folder, labels=len(task.phonemes), frames=frames)
    return f"{head}\n\ninclude model.config\n\n{filled}"
