"""Labels, words and segments, generated randomly from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["CORPUS", "RECORDING", "TOO_SHORT", "Segment", "Task", "Word", "make_task"]

CORPUS, RECORDING = "example", "recording"

TOO_SHORT = "too-short"
"""The name of a segment with too few frames for its words: Sprint skips it."""


@dataclass(frozen=True)
class Word:
    """An entry of the lexicon.

    Attributes:
        orthography: the written word.
        pronunciations: the labels of each pronunciation. All are equally probable.
    """

    orthography: str
    pronunciations: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Segment:
    """An utterance.

    Attributes:
        name: the name within the recording.
        words: the words.
        frames: the number of frames.
    """

    name: str
    words: tuple[Word, ...]
    frames: int

    @property
    def full_name(self) -> str:
        """The full segment name, as in Sprint and shmbridge."""
        return f"{CORPUS}/{RECORDING}/{self.name}"


@dataclass(frozen=True)
class Task:
    """Labels, words and segments.

    Attributes:
        phonemes: the symbols, indexed by label. The last two are silence and blank.
        words: the lexicon, without silence and blank.
        segments: the corpus. The last segment is too short for its words.
    """

    phonemes: tuple[str, ...]
    words: tuple[Word, ...]
    segments: tuple[Segment, ...]

    @property
    def silence(self) -> int:
        """The label of silence. RASR's acoustic model requires it, but no segment contains it."""
        return len(self.phonemes) - 2

    @property
    def blank(self) -> int:
        """The label of the CTC blank."""
        return len(self.phonemes) - 1

    def segment(self, full_name: str) -> Segment:
        """Return the segment with a full name. Raise KeyError if there is none."""
        for segment in self.segments:
            if segment.full_name == full_name:
                return segment
        raise KeyError(full_name)

    def label_sequences(self, full_name: str) -> list[tuple[float, tuple[int, ...]]]:
        """Return the possible label sequences of a segment, without blanks: (probability, labels)."""
        sequences: list[tuple[float, tuple[int, ...]]] = [(1.0, ())]
        for word in self.segment(full_name).words:
            share = 1.0 / len(word.pronunciations)
            sequences = [(p * share, (*s, *more)) for p, s in sequences for more in word.pronunciations]
        return sequences


def make_task(labels: int, segments: int, frames: int, seed: int = 1) -> Task:
    """Generate words and segments.

    Args:
        labels: the number of labels, with silence and blank; at least 5.
        segments: the number of segments, without the one that is too short.
        frames: the number of frames of the longest segment, at least 10; the others have at least half.
        seed: the seed of all random choices. The same arguments give the same task.

    Raises:
        ValueError: an argument is too small.
    """
    for name, value, minimum in (("labels", labels, 5), ("segments", segments, 1), ("frames", frames, 10)):
        if value < minimum:
            raise ValueError(f"{name} is {value}; it must be at least {minimum}")
    rng = random.Random(seed)
    spoken = range(labels - 2)
    words = _make_words(spoken, rng)
    made = []
    for number in range(segments):
        length = frames if number == 0 else rng.randint((frames + 1) // 2, frames)
        made.append(Segment(f"segment-{number + 1}", _speak(words, length, rng), length))
    # The word "twice" repeats a label, so that it needs three frames in CTC.
    made.append(Segment(TOO_SHORT, (words[-2], words[-2]), 2))
    phonemes = (*(f"p{label}" for label in spoken), "SIL", "BLANK")
    return Task(phonemes, tuple(words), tuple(made))


def _make_words(spoken: range, rng: random.Random) -> list[Word]:
    words = []
    for number in range(min(len(spoken), 100)):
        labels = tuple(rng.choice(spoken) for _ in range(rng.randint(2, 4)))
        words.append(Word(f"long{number}", (labels,)))
    # One word per label, so that the lexicon contains all labels.
    words += [Word(f"word{label}", ((label,),)) for label in spoken]
    one, other = spoken[0], spoken[1]
    return [*words, Word("twice", ((one, one),)), Word("either", ((one, other), (other,)))]


def _speak(words: list[Word], frames: int, rng: random.Random) -> tuple[Word, ...]:
    """Choose words whose labels, each followed by a blank, need at most half of the frames."""
    said: list[Word] = []
    room = frames // 2
    *plain, either = words
    # At most one word has two pronunciations, so that a segment has at most two label sequences.
    choices = [*(rng.choice(plain) for _ in range(frames)), either]
    rng.shuffle(choices)
    for word in choices:
        room -= 2 * max(len(labels) for labels in word.pronunciations)
        if room < 0:
            break
        said.append(word)
    return tuple(said) or (words[0],)
