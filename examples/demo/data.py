"""The data in this folder: features, transcripts and labels, grouped into batches."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shmbridge.bliss.corpus import read_corpus
from shmbridge.bliss.lexicon import Lexicon, read_lexicon

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

DATA = Path(__file__).parent / "data"
FEATURES = DATA / "features.npz"
CORPUS = DATA / "corpus.xml.gz"
LEXICON = DATA / "lexicon.xml"


class DataError(Exception):
    """The data are missing or inconsistent."""


@dataclass(frozen=True)
class Labels:
    """The labels, in Sprint's order.

    Attributes:
        symbols: the phoneme of each label.
        blank: the label of the CTC blank.
        silence: the label of silence, which the label error rate ignores.
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
        name: the full segment name.
        features: (time, mel band) float32, with mean 0 and variance 1 over the segment.
        labels: the labels of the transcript.
    """

    name: str
    features: FloatArray
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """A batch of segments.

    Attributes:
        features: (time, batch, mel band) float32, zero beyond each length.
        lengths: (batch,) int32, the number of frames of each segment.
        segments: the segments.
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
    """All data of the demonstration.

    Attributes:
        labels: the outputs of the network.
        train: the training segments.
        held_out: the held-out segments, by the name of the set.
    """

    labels: Labels
    train: tuple[Segment, ...]
    held_out: dict[str, tuple[Segment, ...]]


def load() -> Corpus:
    """Read the data.

    Raises:
        DataError: a file is missing or inconsistent with the others.
        shmbridge.FileFormatError: corpus or lexicon cannot be parsed.
    """
    for path in (FEATURES, CORPUS, LEXICON):
        if not path.is_file():
            raise DataError(
                f"{path} is missing; restore it with git checkout, or generate it with espeak-ng: "
                "python -m examples.demo.make_features"
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
                sets[_set_of(name)].append(Segment(name, _normalize(log_mel), phonemes))
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"the files in {DATA} are inconsistent ({error}); restore them with git checkout"
        ) from error
    train = tuple(sets.pop("train"))
    return Corpus(labels, train, {name: tuple(segments) for name, segments in sets.items()})


def batches(
    segments: Sequence[Segment], batch_size: int, rng: np.random.Generator | None = None
) -> Iterator[Batch]:
    """Group segments of similar length, so that there is little padding.

    Args:
        segments: the segments. batch_size: the number of segments per batch. The last batch may have fewer.
        rng: for training: shuffles the batches, varies the grouping slightly and distorts the features.
        Without
            it, the batches are always the same.
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
    """Augment the features: stretch the mel axis, and mask some frames and some bands.

    There are few voices in the training data; without augmentation the model memorizes them.

    Args:
        features: (time, mel band) float32, normalized.
        rng: the source of the random choices.

    Returns:
        A new array of the same shape.
    """
    time, bands = features.shape
    # Stretching moves the formants like a change of the vocal tract length (Jaitly and Hinton 2013).
    centre = bands / 2.0
    stretched = (np.arange(bands) - centre) * rng.uniform(0.9, 1.1) + centre + rng.uniform(-1, 1)
    positions = np.clip(stretched, 0, bands - 1)
    below = np.minimum(positions.astype(np.intp), bands - 2)
    share = (positions - below).astype(np.float32)
    distorted = features[:, below] * (1 - share) + features[:, below + 1] * share
    # Masks as in SpecAugment (Park et al. 2019), but shorter than a phoneme.
    first = int(rng.integers(0, time))
    distorted[first : first + int(rng.integers(0, 6))] = 0.0
    band = int(rng.integers(0, bands))
    distorted[:, band : band + int(rng.integers(0, 5))] = 0.0
    return np.asarray(distorted, dtype=np.float32)


def _normalize(features: FloatArray) -> FloatArray:
    """Normalize each band to mean 0 and variance 1. This removes the level and the microphone."""
    return np.asarray((features - features.mean(axis=0)) / (features.std(axis=0) + 1e-3), dtype=np.float32)


def _set_of(segment_name: str) -> str:
    """Return the set of a segment, which make_features encodes in the name of the recording."""
    recording = segment_name.split("/")[1]
    if recording.startswith("train-"):
        return "train"
    return recording.partition("heldout-")[2].rpartition("-")[0].replace("-", " ") + "s"


def _labels(lexicon: Lexicon) -> Labels:
    """Return the labels. Sprint numbers them in the order of the lexicon's phoneme inventory."""
    silence = lexicon.special("silence")
    if silence is None:
        raise DataError(f"{LEXICON} has no silence; restore it with git checkout")
    return Labels(lexicon.phonemes, lexicon.blank(), silence.pronunciations[0].phonemes[0])


def _pronunciations(lexicon: Lexicon) -> dict[str, tuple[int, ...]]:
    """Return the labels of each word. This lexicon has one pronunciation per word."""
    return {
        " ".join(words): lemma.pronunciations[0].phonemes
        for lemma in lexicon.lemmas
        for words in lemma.orthographies
    }
