"""A synthetic corpus, lexicon and features: enough for refsprint, and for a network to learn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["PHONEMES", "SyntheticCorpus", "Utterance"]

Array = np.ndarray[Any, np.dtype[Any]]

PHONEMES = ("a", "e", "i", "o", "u", "k", "m", "s", "t", "BLANK")
"""A phoneme's index is its label; the last is the blank."""

_WORDS = 24
_DIMENSION = 16  # of the features
_NOISE = 0.8  # standard deviation of the features; each phoneme's mean has length 4


@dataclass(frozen=True)
class Utterance:
    """A segment.

    Attributes:
        name: the full segment name.
        orth: the words, separated by spaces.
        phonemes: the words' phonemes, as labels.
        features: (time, dimension) float32.
    """

    name: str
    orth: str
    phonemes: tuple[int, ...]
    features: Array


class SyntheticCorpus:
    """Random words of random phonemes, and utterances of these words.

    Args:
        segments: number of utterances.
        seed: of the random generator; equal seeds give equal corpora.

    Attributes:
        utterances: of the corpus.
    """

    def __init__(self, segments: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        speech = len(PHONEMES) - 1
        words: list[tuple[int, ...]] = []
        while len(words) < _WORDS:
            word = tuple(random.integers(speech, size=random.integers(2, 5)).tolist())
            if word not in words:
                words.append(word)
        self._words = words
        means = random.normal(size=(speech, _DIMENSION)).astype(np.float32)
        means *= 4 / np.linalg.norm(means, axis=1, keepdims=True)
        self.utterances = [self._speak(number, random, means) for number in range(segments)]

    def _speak(self, number: int, random: np.random.Generator, means: Array) -> Utterance:
        words = [self._words[word] for word in random.integers(_WORDS, size=random.integers(2, 7))]
        phonemes = tuple(label for word in words for label in word)
        frames: list[Array] = []
        for label in phonemes:
            frames += [means[label]] * int(random.integers(2, 5))
            frames += [np.zeros(_DIMENSION, np.float32)]  # silence: the blank
        features = np.stack(frames) + _NOISE * random.normal(size=(len(frames), _DIMENSION))
        orth = " ".join(map(_orth, words))
        return Utterance(f"demo/recording/{number}", orth, phonemes, features.astype(np.float32))

    def write(self, folder: Path) -> list[str]:
        """Write corpus.xml and lexicon.xml into the folder. Return Sprint's options for them."""
        segments = (
            f'<segment name="{utterance.name.rpartition("/")[2]}" start="0" '
            f'end="{len(utterance.features) / 100}"><orth> {utterance.orth} </orth></segment>\n'
            for utterance in self.utterances
        )
        corpus, lexicon = folder / "corpus.xml", folder / "lexicon.xml"
        corpus.write_text(
            '<?xml version="1.0" encoding="utf-8"?>\n<corpus name="demo">\n'
            f'<recording name="recording" audio="none.wav">\n{"".join(segments)}</recording>\n</corpus>\n',
            encoding="utf-8",
        )
        symbols = "".join(f"<phoneme><symbol>{symbol}</symbol></phoneme>\n" for symbol in PHONEMES)
        lemmas = "".join(
            f"<lemma><orth>{_orth(word)}</orth><phon>{' '.join(PHONEMES[p] for p in word)}</phon></lemma>\n"
            for word in self._words
        )
        lexicon.write_text(
            f'<?xml version="1.0" encoding="utf-8"?>\n<lexicon>\n<phoneme-inventory>\n{symbols}'
            f'</phoneme-inventory>\n{lemmas}<lemma special="blank"><orth>[BLANK]</orth>'
            f"<phon>{PHONEMES[-1]}</phon></lemma>\n</lexicon>\n",
            encoding="utf-8",
        )
        return [
            "--*.action=python-control",
            "--*.python-control-loop-type=iterate-corpus",
            "--*.extract-features=false",
            "--*.input-in-log-space=true",
            f"--*.corpus.file={corpus}",
            f"--*.lexicon.file={lexicon}",
        ]


def _orth(word: tuple[int, ...]) -> str:
    return "".join(PHONEMES[label] for label in word)
