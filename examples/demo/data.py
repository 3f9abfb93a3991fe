"""The shipped data: features, transcripts and labels, and batches of them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shmbridge.refsprint.corpus import read_corpus
from shmbridge.refsprint.lexicon import Lexicon, read_lexicon

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

DATA = Path(__file__).parent / "data"
FEATURES = DATA / "features.npz"
CORPUS = DATA / "corpus.xml.gz"
LEXICON = DATA / "lexicon.xml"


class DataError(Exception):
    """The shipped data are missing, or do not fit together."""


@dataclass(frozen=True)
class Labels:
    """What an output of the network stands for: the phonemes, in Sprint's order.

    Attributes:
        symbols: the phoneme of each label index.
        blank: the index of the CTC blank.
        silence: the index of silence, which may be recognised but is not counted.
    """

    symbols: tuple[str, ...]
    blank: int
    silence: int

    def __len__(self) -> int:
        """The number of labels, blank and silence included."""
        return len(self.symbols)


@dataclass(frozen=True)
class Segment:
    """One utterance.

    Attributes:
        name: the full segment name, as Sprint has it.
        features: (time, mel band) float32, normalised to mean 0 and variance 1 over the segment.
        labels: the phonemes of the transcript, as label indices.
    """

    name: str
    features: FloatArray
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """Segments side by side.

    Attributes:
        features: (time, batch, mel band) float32, zero beyond each length.
        lengths: (batch,) int32, the frames of each segment.
        segments: the segments themselves.
    """

    features: FloatArray
    lengths: IntArray
    segments: tuple[Segment, ...]

    @property
    def names(self) -> list[str]:
        """The full segment names."""
        return [segment.name for segment in self.segments]


@dataclass(frozen=True)
class Corpus:
    """All that is shipped.

    Attributes:
        labels: the outputs of the network.
        train: the segments to train on.
        held_out: the segments to measure on, by the name of the set.
    """

    labels: Labels
    train: tuple[Segment, ...]
    held_out: dict[str, tuple[Segment, ...]]


def load() -> Corpus:
    """Read the shipped data.

    Raises:
        DataError: a file is missing or does not fit to the others.
        shmbridge.FileFormatError: corpus or lexicon cannot be parsed.
    """
    for path in (FEATURES, CORPUS, LEXICON):
        if not path.is_file():
            raise DataError(
                f"{path} is missing. It is part of the repository (git checkout restores it); "
                "with espeak-ng it can be made again: python -m examples.demo.make_features"
            )
    lexicon = read_lexicon(str(LEXICON))
    labels, pronunciations = _labels(lexicon), _pronunciations(lexicon)
    sets: dict[str, list[Segment]] = {"train": [], "known voices": [], "new voices": []}
    try:
        with np.load(FEATURES) as arrays:
            low, high = arrays["log_mel_range"]
            for segment in read_corpus(str(CORPUS)).segments:
                name = segment.full_name
                log_mel = arrays[name].astype(np.float32) * ((high - low) / 255.0) + low
                phonemes = tuple(p for word in segment.orthography.split() for p in pronunciations[word])
                sets[_set_of(name)].append(Segment(name, _normalised(log_mel), phonemes))
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"the files in {DATA} do not fit together: {error}") from error
    train = tuple(sets.pop("train"))
    return Corpus(labels, train, {name: tuple(segments) for name, segments in sets.items()})


def batches(
    segments: Sequence[Segment], batch_size: int, rng: np.random.Generator | None = None
) -> Iterator[Batch]:
    """Group segments of like length, so that little is padding.

    Args:
        segments: what to group.
        batch_size: segments of a batch; the last one may have fewer.
        rng: for training: makes the order random, the grouping a little, and distorts the features;
            without it all is fixed.
    """
    sizes = np.array([len(segment.features) for segment in segments], dtype=np.float64)
    if rng is not None:
        sizes *= rng.uniform(0.9, 1.1, size=len(sizes))
    order = np.argsort(sizes, kind="stable")
    groups = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if rng is not None:
        rng.shuffle(groups)
    for group in groups:
        members = tuple(segments[index] for index in group)
        lengths = np.array([len(segment.features) for segment in members], dtype=np.int32)
        features = np.zeros((lengths.max(), len(members), members[0].features.shape[1]), dtype=np.float32)
        for column, segment in enumerate(members):
            distorted = segment.features if rng is None else distort(segment.features, rng)
            features[: lengths[column], column] = distorted
        yield Batch(features, lengths, members)


def distort(features: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Another voice and another room: stretch the mel axis, hide a stretch of time and of bands.

    There are few voices in training; without this the model learns them by heart.

    Args:
        features: (time, mel band) float32, normalised.
        rng: chooses how.

    Returns:
        A new array of the same shape.
    """
    time, bands = features.shape
    # Stretching moves the formants, as the length of a vocal tract does (Jaitly and Hinton 2013).
    centre = bands / 2.0
    stretched = (np.arange(bands) - centre) * rng.uniform(0.9, 1.1) + centre + rng.uniform(-1, 1)
    wanted = np.clip(stretched, 0, bands - 1)
    below = np.minimum(wanted.astype(np.intp), bands - 2)
    share = (wanted - below).astype(np.float32)
    distorted = features[:, below] * (1 - share) + features[:, below + 1] * share
    # Masks as in SpecAugment (Park et al. 2019), but short: a phoneme must not disappear altogether.
    first = int(rng.integers(0, time))
    distorted[first : first + int(rng.integers(0, 6))] = 0.0
    band = int(rng.integers(0, bands))
    distorted[:, band : band + int(rng.integers(0, 5))] = 0.0
    return np.asarray(distorted, dtype=np.float32)


def _normalised(features: FloatArray) -> FloatArray:
    """Mean 0 and variance 1 of each band over the segment: takes away level and microphone."""
    return np.asarray((features - features.mean(axis=0)) / (features.std(axis=0) + 1e-3), dtype=np.float32)


def _set_of(segment_name: str) -> str:
    """Which set a segment belongs to: make_features puts it into the name of the recording."""
    recording = segment_name.split("/")[1]
    if recording.startswith("train-"):
        return "train"
    return recording.partition("heldout-")[2].rpartition("-")[0].replace("-", " ") + "s"


def _labels(lexicon: Lexicon) -> Labels:
    """Sprint numbers the labels as the phoneme inventory of the lexicon lists the phonemes."""
    silence = lexicon.special("silence")
    if silence is None:
        raise DataError(f"{LEXICON} has no silence")
    return Labels(lexicon.phonemes, lexicon.blank(), silence.pronunciations[0].phonemes[0])


def _pronunciations(lexicon: Lexicon) -> dict[str, tuple[int, ...]]:
    """The phonemes of each word, as label indices. This lexicon has one pronunciation for each."""
    return {
        " ".join(words): lemma.pronunciations[0].phonemes
        for lemma in lexicon.lemmas
        for words in lemma.orthographies
    }
