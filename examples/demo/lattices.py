"""Phoneme lattices of the training segments, and the other files of lattice-processor.

The network knows CTC's blank, lattice-processor knows only pronunciations, each label of which lasts at least
one frame. So each phoneme is a word of its own, and the blank is the silence between the words: an alignment
of CTC is a path of such words, with exact times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional

import numpy as np

from examples.rasr import bliss, feature_cache, task
from examples.rasr import lattices as rasr_lattices
from shmbridge.bliss.corpus import read_corpus
from shmbridge.bliss.lexicon import read_lexicon
from shmbridge.lattices import Lattice, Word, check_lattice, from_n_best, write_htk

from .data import Corpus, DataError, FloatArray, Labels, batches
from .decode import Stretch, align, alternatives
from .model import AcousticModel

_BATCH_SIZE = 8
_SUBSTITUTES = 4  # for each label
_DISTORTED_PASSES = 2
_FRAME_SHIFT = bliss.FRAME_SHIFT  # of the posteriors; lattice-processor knows no other


def sprint_name(segment_name: str) -> str:
    """Return the name of a segment in the corpus of the lattices."""
    return f"{task.CORPUS}/{task.RECORDING}/{_short_name(segment_name)}"


def make(corpus: Corpus, model: AcousticModel, rng: np.random.Generator) -> dict[str, Lattice]:
    """Return a lattice for each training segment: the transcript, and what the decoder may take it for.

    The model makes few errors on the features that it was trained on. So the decoder also reads distorted
    features, with dropout.

    Args:
        corpus: the data.
        model: computes the posteriors.
        rng: distorts the features.
    """
    undistorted = dict(_posteriors(corpus, model, None))
    best = {name: rows.copy() for name, rows in undistorted.items()}
    for _ in range(_DISTORTED_PASSES):
        for name, rows in _posteriors(corpus, model, rng):
            np.maximum(best[name], rows, out=best[name])
    made = {}
    for segment in corpus.train:
        name, blank = segment.name, corpus.labels.blank
        transcript = align(undistorted[name], segment.labels, blank)
        if transcript is None:
            raise DataError(f"segment {name!r} has fewer frames than its transcript needs")
        hypotheses = [transcript, *alternatives(best[name], transcript, blank, _SUBSTITUTES)]
        words = [[_word(stretch, corpus.labels) for stretch in hypothesis] for hypothesis in hypotheses]
        made[name] = from_n_best(words, join_at_times=True)
    return made


def write(folder: Path, corpus: Corpus, lattices: Mapping[str, Lattice]) -> Path:
    """Write corpus, lexicon, features, mixture set, lattices and config, and check the lattices.

    Args:
        folder: the output folder. It is created if it does not exist; existing files are replaced.
        corpus: the data.
        lattices: a lattice for each training segment.

    Returns:
        The config file.

    Raises:
        DataError: Sprint would skip a lattice, or end at it.
        OSError: a file cannot be written.
    """
    folder = folder.resolve()
    (folder / "lattices" / task.CORPUS / task.RECORDING).mkdir(parents=True, exist_ok=True)
    of_lattices = _task(corpus, lattices)
    cache = folder / "features.cache"
    with cache.open("wb") as file:
        feature_cache.write_cache(file, of_lattices)
    for name, text in {
        "corpus.xml": bliss.corpus(of_lattices),
        "lattice-lexicon.xml": _lexicon(corpus.labels),
        "features.flow": feature_cache.flow_network(str(cache)),
        "mixtures.pms": rasr_lattices.mixture_set(of_lattices),
        "me.config": rasr_lattices.config(of_lattices, folder, "me"),
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
    lexicon = read_lexicon(str(folder / "lattice-lexicon.xml"))
    segments = {segment.full_name: segment for segment in read_corpus(str(folder / "corpus.xml")).segments}
    for name, lattice in lattices.items():
        path = folder / "lattices" / f"{sprint_name(name)}.lat"
        write_htk(lattice, path)
        segment = segments[sprint_name(name)]
        for problem in check_lattice(lattice, segment, lexicon, num_frames=_num_frames(lattice)):
            raise DataError(f"{path}: {problem}")
    return folder / "me.config"


def _posteriors(
    corpus: Corpus, model: AcousticModel, rng: Optional[np.random.Generator]
) -> Iterator[tuple[str, FloatArray]]:
    """Yield name and log posteriors of each training segment; distorted, with dropout, if there is an rng."""
    for batch in batches(corpus.train, _BATCH_SIZE, rng):
        log_posteriors, lengths = model.forward(batch.features, batch.lengths, train=rng is not None)
        for column, (name, length) in enumerate(zip(batch.names, lengths)):
            yield name, log_posteriors[:length, column].copy()


def _word(stretch: Stretch, labels: Labels) -> Word:
    symbol = labels.symbols[stretch.label]
    return Word(symbol, stretch.start * _FRAME_SHIFT, stretch.end * _FRAME_SHIFT)


def _task(corpus: Corpus, lattices: Mapping[str, Lattice]) -> task.Task:
    words = tuple(task.Word(symbol, ((label,),)) for label, symbol in enumerate(corpus.labels.symbols))
    segments = (
        task.Segment(
            _short_name(segment.name),
            tuple(words[label] for label in segment.labels),
            _num_frames(lattices[segment.name]),
        )
        for segment in corpus.train
    )
    return task.Task(corpus.labels.symbols, words, tuple(segments))


def _short_name(segment_name: str) -> str:
    return segment_name.replace("/", "-")


def _num_frames(lattice: Lattice) -> int:
    return round(float(lattice.times[-1]) / _FRAME_SHIFT)


def _lexicon(labels: Labels) -> str:
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<lexicon>", "  <phoneme-inventory>"]
    lines += [
        f"    <phoneme><symbol>{symbol}</symbol><variation>none</variation></phoneme>"
        for symbol in labels.symbols
    ]
    lines.append("  </phoneme-inventory>")
    for label, symbol in enumerate(labels.symbols):
        text = f"<orth>{symbol}</orth>"
        if label == labels.blank:
            lines.append(
                f'  <lemma special="silence">{text}<orth/><phon>{symbol}</phon><synt/><eval/></lemma>'
            )
        else:
            lines.append(f"  <lemma>{text}<phon>{symbol}</phon></lemma>")
    return "\n".join([*lines, "</lexicon>"]) + "\n"
