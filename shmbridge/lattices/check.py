"""A lattice against corpus and lexicon: what Sprint would end at, or skip."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, Optional

from ..bliss.corpus import Segment
from ..bliss.lexicon import Lemma, Lexicon
from .lattice import Lattice

__all__ = ["Problem", "check_lattice"]


class Problem(NamedTuple):
    """One thing that Sprint would end at, or skip the segment for.

    Attributes:
        line: of the lattice's file, counted from 1; None if the lattice as a whole is meant.
        message: what is wrong, and what Sprint does.
    """

    line: Optional[int]
    message: str

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"


def check_lattice(
    lattice: Lattice,
    segment: Segment,
    lexicon: Lexicon,
    *,
    num_frames: Optional[int] = None,
    frames_per_second: float = 100.0,
    states_per_phone: int = 1,
) -> list[Problem]:
    """Return what Sprint would stumble over; an empty list if there is nothing.

    Args:
        lattice: the lattice of the segment.
        segment: of the corpus.
        lexicon: of the acoustic model.
        num_frames: the number of the segment's feature vectors; None if it is not known.
        frames_per_second: Sprint's timeframe-index-scale.
        states_per_phone: the least number of frames that a phone needs.
    """
    times = lattice.times.tolist()  # Sprint counts frames from the first node
    frames = [math.floor((time - times[0]) * frames_per_second + 0.5) for time in times]
    lines = [None] * lattice.num_arcs if lattice.lines is None else lattice.lines.tolist()
    problems = [
        Problem(line, message)
        for arc, line in enumerate(lines)
        for message in _check_arc(lattice, arc, frames, lexicon, states_per_phone)
    ]
    problems += [Problem(None, message) for message in _check_end(lattice, frames, num_frames)]
    if not _has_path(lattice, tuple(segment.orthography.split()), lexicon):
        problems.append(
            Problem(
                None,
                f"no path has the reference {segment.orthography.strip()!r} of segment "
                f"{segment.full_name!r}; Sprint ends at such a segment",
            )
        )
    return problems


def _check_arc(
    lattice: Lattice, arc: int, frames: list[int], lexicon: Lexicon, states_per_phone: int
) -> Iterator[str]:
    word = lattice.words[arc]
    lemmas = _lemmas(word, lexicon)
    if not lemmas:
        what = f"the lexicon has no orthography {word!r}" if word else "the arc has no word"
        yield f"{what}; Sprint ends at such a segment"
        return
    lengths = [len(each.phonemes) for lemma in lemmas for each in lemma.pronunciations]
    duration = frames[lattice.targets[arc]] - frames[lattice.sources[arc]]
    if not lengths:
        yield f"{word!r} has no pronunciation; Sprint ends at such a segment"
    elif duration < min(lengths) * states_per_phone:
        yield (
            f"{word!r} lasts {duration} frames; its shortest pronunciation needs "
            f"{min(lengths) * states_per_phone}; Sprint skips such a segment"
        )


def _check_end(lattice: Lattice, frames: list[int], num_frames: Optional[int]) -> Iterator[str]:
    if lattice.num_arcs == 0:
        yield "the lattice has no arcs; Sprint ends at such a segment"
    elif num_frames is not None:
        ends = sorted({frames[node] for node in lattice.is_final.nonzero()[0].tolist()})
        for end in ends:
            if end < num_frames:
                yield f"a path ends at frame {end} of {num_frames}; Sprint skips such a segment"
            elif end > num_frames:
                yield f"a path ends at frame {end}, behind the last of {num_frames}; Sprint cuts it off"


def _has_path(lattice: Lattice, reference: tuple[str, ...], lexicon: Lexicon) -> bool:
    """Return whether a path has these words, apart from words that may be left out, such as silence."""
    reached: list[set[int]] = [set() for _ in range(lattice.num_nodes)]  # the number of words, by node
    reached[0].add(0)
    for arc in lattice.arc_order().tolist():
        here, there = reached[lattice.sources[arc]], reached[lattice.targets[arc]]
        for spelling in _spellings(lattice.words[arc], lexicon):
            there |= {
                position + len(spelling)
                for position in here
                if reference[position : position + len(spelling)] == spelling
            }
    return any(len(reference) in reached[node] for node in lattice.is_final.nonzero()[0].tolist())


def _spellings(word: str, lexicon: Lexicon) -> set[tuple[str, ...]]:
    return {spelling for lemma in _lemmas(word, lexicon) for spelling in lemma.orthographies}


def _lemmas(word: str, lexicon: Lexicon) -> list[Lemma]:
    return lexicon.find_lemmas(tuple(word.split())) if word else []
