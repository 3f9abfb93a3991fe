"""A task of one segment, with which the doctor asks a Sprint what it can compute.

The segment has four frames of the word "one", whose label has the probability 0.4 in each frame. The lattice
has the word "other" next to it, whose label has the probability 0.3. So all losses are known.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["FRAMES", "LOSSES", "SEGMENT", "log_posteriors", "options", "write"]

SEGMENT = "doctor/recording/segment"
"""The full name of the segment."""

FRAMES = 4
_PROBABILITIES = (0.4, 0.3, 0.2, 0.1)  # of one, other, silence and blank
_ONE, _OTHER, _, _BLANK = _PROBABILITIES
_DIMENSION = 2  # of the features, whose values do not matter

LOSSES = {
    # The label stands in n frames in a row; there are FRAMES + 1 - n places for them among the blanks.
    "CTC": -math.log(sum((FRAMES + 1 - n) * _ONE**n * _BLANK ** (FRAMES - n) for n in range(1, FRAMES + 1))),
    "MMI": math.log1p((_OTHER / _ONE) ** FRAMES),
    # The accuracy of the word is 1, that of the other one 0.
    "ME": -1 / (1 + (_OTHER / _ONE) ** FRAMES),
}
"""The loss of each criterion."""

_HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'
_CORPUS = f"""{_HEAD}<corpus name="doctor">
  <recording name="recording" audio="none.wav">
    <segment name="segment" start="0.00" end="{FRAMES / 100:.2f}">
      <orth> one </orth>
    </segment>
  </recording>
</corpus>
"""
# RASR requires that the first lemma has two phonemes. A lattice needs silence with an empty orthography, but
# CTC must not have it: it would be optional between the words.
_LEXICON = f"""{_HEAD}<lexicon>
  <phoneme-inventory>
    <phoneme><symbol>a</symbol></phoneme>
    <phoneme><symbol>b</symbol></phoneme>
    <phoneme><symbol>SIL</symbol><variation>none</variation></phoneme>
    <phoneme><symbol>BLANK</symbol><variation>none</variation></phoneme>
  </phoneme-inventory>
  <lemma><orth>both</orth><phon>a b</phon></lemma>
  <lemma><orth>one</orth><phon>a</phon></lemma>
  <lemma><orth>other</orth><phon>b</phon></lemma>
  <lemma special="silence"><orth>[SILENCE]</orth>{{orth}}<phon>SIL</phon>{{tokens}}</lemma>
  <lemma special="blank"><orth>[BLANK]</orth><phon>BLANK</phon></lemma>
</lexicon>
"""
_FLOW = f"""{_HEAD}<network>
  <out name="features"/>
  <param name="id"/>
  <param name="start-time"/>
  <param name="end-time"/>
  <node name="frames" filter="generic-vector-f32-text-input" file="{{folder}}/features.xml"/>
  <link from="frames" to="network:features"/>
</network>
"""
_LATTICE = f"""VERSION=1.0
N=2 L=2
I=0 t=0.00
I=1 t={FRAMES / 100:.2f}
J=0 S=0 E=1 W=one a=0 l=0
J=1 S=0 E=1 W=other a=0 l=0
"""

_OPTIONS = """
corpus.file={folder}/corpus.xml
acoustic-model.state-tying.type=monophone
acoustic-model.hmm.states-per-phone=1
acoustic-model.hmm.state-repetitions=1
acoustic-model.hmm.across-word-model=false
acoustic-model.phonology.history-length=0
acoustic-model.phonology.future-length=0
acoustic-model.allophones.add-all=false
acoustic-model.allophones.add-from-lexicon=true
acoustic-model.tdp.*.loop=0
acoustic-model.tdp.*.forward=0
acoustic-model.tdp.*.skip=infinity
acoustic-model.tdp.*.exit=0
acoustic-model.tdp.entry-m1.loop=infinity
acoustic-model.tdp.entry-m2.loop=infinity
"""
_TRAINER = """
lexicon.file={folder}/lexicon.xml
action=python-control
python-control-loop-type=python-control-loop
extract-features=false
allophone-state-graph-builder.topology=ctc
training-criterion=ctc
use-search-aligner=false
use-direct-alignment-extraction=true
ctc-aligner.min-acoustic-pruning=1e9
priors.priori-scale=0
"""
_LATTICES = """
lexicon.file={folder}/lattice-lexicon.xml
actions=read,rescore,linear-combination,accumulate-discriminatively
selections=lattice-reader,lattice-rescorer,combination,trainer
lattice-reader.readers=total
lattice-reader.lattice-archive.type=htk
lattice-reader.lattice-archive.path={folder}/lattices
lattice-reader.lattice-archive.suffix=.lat
lattice-reader.lattice-archive.am-scale=0
lattice-reader.lattice-archive.lm-scale=1
lattice-reader.lattice-archive.penalty-scale=0
lattice-rescorer.nn-emission-rescorers=nn
lattice-rescorer.distance-rescorers=accuracy
lattice-rescorer.pass-extractors=total
lattice-rescorer.share-acoustic-model=true
lattice-rescorer.segmentwise-feature-extraction.feature-extraction.file={folder}/features.flow
accuracy.distance-type=approximate-phone-accuracy
accuracy.spoken-source=orthography
combination.outputs=total accuracy
combination.total.scales=1.0 0.0 1.0
combination.accuracy.scales=0.0 1.0 0.0
trainer.criterion={criterion}
trainer.model-type=neural-network
trainer.estimator=dry-run
trainer.lattice-name=total
trainer.weight-threshold=0
class-labels.number-of-classes={labels}
acoustic-model.mixture-set.file={folder}/mixtures.pms
acoustic-model.mixture-set.feature-scorer-type=nn-cached
neural-network.links=0->posteriors:0
posteriors.layer-type=python
posteriors.dimension-input={dimension}
posteriors.dimension-output={labels}
posteriors.links=0->top:0
top.layer-type=identity
top.dimension-input={labels}
top.dimension-output={labels}
"""


def write(folder: Path) -> None:
    """Write corpus, lexicons, lattice, mixture set and features into an existing folder."""
    texts = {
        "corpus.xml": _CORPUS,
        "lexicon.xml": _LEXICON.format(orth="", tokens=""),
        "lattice-lexicon.xml": _LEXICON.format(orth="<orth/>", tokens="<synt/><eval/>"),
        "features.flow": _FLOW.format(folder=folder),
        "features.xml": _features(),
        "mixtures.pms": _mixture_set(),
        f"lattices/{SEGMENT}.lat": _LATTICE,
    }
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def options(folder: Path, criterion: str) -> list[str]:
    """Return the options for a criterion of LOSSES: nn-trainer's for CTC, else lattice-processor's.

    Args:
        folder: the absolute path of the folder with the files.
        criterion: the criterion.
    """
    text = _OPTIONS + (_TRAINER if criterion == "CTC" else _LATTICES)
    filled = text.format(folder=folder, criterion=criterion, labels=len(_PROBABILITIES), dimension=_DIMENSION)
    return [f"--*.{line}" for line in filled.split("\n") if line]


def log_posteriors() -> NDArray[np.float32]:
    """Return the log posteriors of the segment, of shape (time,label)."""
    return np.tile(np.log(np.array(_PROBABILITIES, np.float32)), (FRAMES, 1))


def _features() -> str:
    values = " ".join(["0"] * _DIMENSION)
    times = [f'start="{n / 100:.2f}" end="{(n + 1) / 100:.2f}"' for n in range(FRAMES)]
    frames = [f'  <vector-f32 size="{_DIMENSION}" {time}>{values}</vector-f32>' for time in times]
    return "\n".join([f"{_HEAD}<features>", *frames, "</features>", ""])


def _mixture_set() -> str:
    """Return one Gaussian for each label. RASR insists on them, but aligns with the posteriors."""
    labels = len(_PROBABILITIES)
    lines = ["#Version: 2.0", "#CovarianceType: DiagonalCovariance"]
    lines.append(f"{_DIMENSION} {labels} {labels} {labels} 1")
    lines += [f"1 {label} 0" for label in range(labels)]  # densities and logarithms of weights
    lines += [f"{label} 0" for label in range(labels)]  # mean and covariance of each density
    lines += [" ".join([str(_DIMENSION), *["0"] * _DIMENSION])] * labels
    lines.append(" ".join([str(_DIMENSION), *["1 1"] * _DIMENSION]))
    return "\n".join(lines) + "\n"
