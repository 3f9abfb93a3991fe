"""Word lattices of a task, the mixture set that RASR insists on, and the configs of MMI and minimum error."""

from __future__ import annotations

import random
from pathlib import Path

from shmbridge.lattices import Lattice

from .bliss import FRAME_SHIFT
from .configs import acoustic_model
from .feature_cache import DIMENSION
from .task import Segment, Task, Word

__all__ = ["CRITERIA", "config", "make_lattices", "mixture_set"]

CRITERIA = ("mmi", "me")

_CONFIG = """\
# A lattice criterion in RASR's lattice-processor: {name}.

{acoustic_model}
[*]
actions    = read,rescore,linear-combination,accumulate-discriminatively
selections = lattice-reader,lattice-rescorer,combination,trainer
# RASR logs five lines for each arc.
log.channel = nil

[*.lattice-reader]
readers                       = total
lattice-archive.type          = htk
lattice-archive.path          = {folder}/lattices
lattice-archive.suffix        = .lat
lattice-archive.am-scale      = 0
lattice-archive.lm-scale      = 1
lattice-archive.penalty-scale = 0

# The parts of a lattice, in this order: the scores of the network{accuracy_part}, and those of the lattice.
[*.lattice-rescorer]
nn-emission-rescorers = nn
{distance}pass-extractors       = total
share-acoustic-model  = true
segmentwise-feature-extraction.feature-extraction.file = {folder}/features.flow

{accuracy}[*.combination]
outputs      = total{accuracy_output}
total.scales = {scales}

[*.trainer]
criterion        = {criterion}
model-type       = neural-network
estimator        = dry-run
lattice-name     = total
weight-threshold = 0

[*.class-labels]
number-of-classes = {labels}

# The arcs are aligned with the posteriors. RASR needs a mixture set nevertheless.
[*.acoustic-model.mixture-set]
file                = {folder}/mixtures.pms
feature-scorer-type = nn-cached

[*.neural-network]
links = 0->posteriors:0

[*.posteriors]
layer-type       = python
dimension-input  = {dimension}
dimension-output = {labels}
links            = 0->top:0

# Above the Python layer there must be another one: the top layer receives no error signal.
[*.top]
layer-type       = identity
dimension-input  = {labels}
dimension-output = {labels}
"""

_ACCURACY = """\
[*.accuracy]
distance-type = approximate-phone-accuracy
spoken-source = orthography

"""


def make_lattices(task: Task, arcs: int, seed: int = 1) -> dict[str, Lattice]:
    """Generate a lattice for each segment, by full name. It contains the reference, and other words.

    Args:
        task: the task.
        arcs: the number of arcs of each lattice; fewer if a segment has too few words.
        seed: the seed of all random choices. The same arguments give the same lattices.
    """
    rng = random.Random(seed)
    return {segment.full_name: _make_lattice(task, segment, arcs, rng) for segment in task.segments}


def mixture_set(task: Task) -> str:
    """Return a mixture set with one Gaussian for each label, in RASR's text format.

    The means are spread over the frames, so that alignments with it differ from those with the posteriors.
    """
    labels = len(task.phonemes)
    frames = max(segment.frames for segment in task.segments)
    lines = ["#Version: 2.0", "#CovarianceType: DiagonalCovariance"]
    lines.append(f"{DIMENSION} {labels} {labels} {labels} 1")
    lines += [f"1 {label} 0" for label in range(labels)]  # densities and logarithms of weights
    lines += [f"{label} 0" for label in range(labels)]  # mean and covariance of each density
    lines += [f"{DIMENSION} {label % 7} {(37 * label) % frames + 0.25}" for label in range(labels)]
    lines.append(f"{DIMENSION} " + " ".join(["1 1"] * DIMENSION))
    return "\n".join(lines) + "\n"


def config(task: Task, folder: Path, criterion: str) -> str:
    """Return the config of one of CRITERIA."""
    is_mmi = criterion == "mmi"
    accuracy_scales = "accuracy.scales = 0.0 1.0 0.0\n\n"
    return _CONFIG.format(
        name="maximum mutual information" if is_mmi else "minimum phone error",
        acoustic_model=acoustic_model(folder, "lattice-lexicon.xml"),
        folder=folder,
        criterion=criterion.upper(),
        labels=len(task.phonemes),
        dimension=DIMENSION,
        accuracy_part="" if is_mmi else ", accuracies",
        distance="" if is_mmi else "distance-rescorers    = accuracy\n",
        accuracy="" if is_mmi else _ACCURACY,
        accuracy_output="" if is_mmi else " accuracy",
        scales="1.0 1.0" if is_mmi else f"1.0 0.0 1.0\n{accuracy_scales}".rstrip(),
    )


def _make_lattice(task: Task, segment: Segment, arcs: int, rng: random.Random) -> Lattice:
    borders = _borders(segment)
    found = [(place, place + 1, word) for place, word in enumerate(segment.words)]
    attempts = 20 * arcs
    while len(found) < arcs and attempts:
        attempts -= 1
        source = rng.randrange(len(borders) - 1)
        target = min(source + rng.randint(1, 2), len(borders) - 1)
        word = rng.choice(task.words)
        if _longest(word) <= borders[target] - borders[source] and (source, target, word) not in found:
            found.append((source, target, word))
    found.sort(key=lambda arc: arc[:2])
    return Lattice(
        [border * FRAME_SHIFT for border in borders],
        [source for source, _, _ in found],
        [target for _, target, _ in found],
        [word.orthography for _, _, word in found],
        language=[round(rng.uniform(-4, -1), 4) for _ in found],
    )


def _borders(segment: Segment) -> list[int]:
    """Return the frames at which words begin, and the last one. Longer words get more frames."""
    needed = [_longest(word) for word in segment.words]
    total = sum(needed)
    return [round(segment.frames * sum(needed[:count]) / total) for count in range(len(needed) + 1)]


def _longest(word: Word) -> int:
    return max(len(labels) for labels in word.pronunciations)
