"""What the files are about: labels, words and segments, made up from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["CORPUS", "RECORDING", "TOO_SHORT", "Segment", "Task", "Word", "make_task"]

CORPUS, RECORDING = "example", "recording"

TOO_SHORT = "too-short"
"""The name of a segment that has not enough frames for its words: Sprint discards it."""


@dataclass(frozen=True)
class Word:
    """An entry of the lexicon.

    Attributes:
        orthography: how it is written.
        pronunciations: label indices; the pronunciations of a word are equally probable.
    """

    orthography: str
    pronunciations: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Segment:
    """An utterance.

    Attributes:
        name: its name within the recording.
        words: what is said.
        frames: its length.
    """

    name: str
    words: tuple[Word, ...]
    frames: int

    @property
    def full_name(self) -> str:
        """The full segment name, by which Sprint and shmbridge call it."""
        return f"{CORPUS}/{RECORDING}/{self.name}"


@dataclass(frozen=True)
class Task:
    """Labels, words and segments.

    Attributes:
        phonemes: the symbols; a phoneme's index is its label. The last two are silence and the blank.
        words: the lexicon, without silence and blank.
        segments: the corpus, the one that is too short at its end.
    """

    phonemes: tuple[str, ...]
    words: tuple[Word, ...]
    segments: tuple[Segment, ...]

    @property
    def silence(self) -> int:
        """The label of silence. No segment has it, but RASR's acoustic model wants one."""
        return len(self.phonemes) - 2

    @property
    def blank(self) -> int:
        """The label of the CTC blank."""
        return len(self.phonemes) - 1

    def segment(self, full_name: str) -> Segment:
        """The segment of this full name. KeyError: there is none."""
        for segment in self.segments:
            if segment.full_name == full_name:
                return segment
        raise KeyError(full_name)

    def label_sequences(self, full_name: str) -> list[tuple[float, tuple[int, ...]]]:
        """What can be meant by the words of a segment: (probability, labels), blanks left out."""
        sequences: list[tuple[float, tuple[int, ...]]] = [(1.0, ())]
        for word in self.segment(full_name).words:
            share = 1.0 / len(word.pronunciations)
            sequences = [(p * share, (*s, *more)) for p, s in sequences for more in word.pronunciations]
        return sequences


def make_task(labels: int, segments: int, frames: int, seed: int = 1) -> Task:
    """Make up words and segments.

    Args:
        labels: the label dimension of the posteriors, at least 5: silence and blank are among them.
        segments: how many, besides the one that is too short.
        frames: the length of the longest segment, at least 10; the others have half as many or more.
        seed: of all choices. The same arguments give the same task.

    Raises:
        ValueError: an argument is too small.
    """
    for name, value, least in (("labels", labels, 5), ("segments", segments, 1), ("frames", frames, 10)):
        if value < least:
            raise ValueError(f"{name} is {value}; it has to be at least {least}")
    rng = random.Random(seed)
    spoken = range(labels - 2)
    words = _make_words(spoken, rng)
    made = []
    for number in range(segments):
        length = frames if number == 0 else rng.randint((frames + 1) // 2, frames)
        made.append(Segment(f"segment-{number + 1}", _speak(words, length, rng), length))
    # One word says the same label twice, for which CTC needs three frames.
    made.append(Segment(TOO_SHORT, (words[-2], words[-2]), 2))
    phonemes = (*(f"p{label}" for label in spoken), "SIL", "BLANK")
    return Task(phonemes, tuple(words), tuple(made))


def _make_words(spoken: range, rng: random.Random) -> list[Word]:
    words = []
    for number in range(min(len(spoken), 100)):
        labels = tuple(rng.choice(spoken) for _ in range(rng.randint(2, 4)))
        words.append(Word(f"long{number}", (labels,)))
    # One word for each label, so that each is in the lexicon.
    words += [Word(f"word{label}", ((label,),)) for label in spoken]
    one, other = spoken[0], spoken[1]
    return [*words, Word("twice", ((one, one),)), Word("either", ((one, other), (other,)))]


def _speak(words: list[Word], frames: int, rng: random.Random) -> tuple[Word, ...]:
    """So many words that they fit: their labels, with a blank after each, take half of the frames."""
    said: list[Word] = []
    room = frames // 2
    *plain, either = words
    # At most one word with two pronunciations, so that what can be meant stays easy to write down.
    choices = [*(rng.choice(plain) for _ in range(frames)), either]
    rng.shuffle(choices)
    for word in choices:
        room -= 2 * max(len(labels) for labels in word.pronunciations)
        if room < 0:
            break
        said.append(word)
    return tuple(said) or (words[0],)
