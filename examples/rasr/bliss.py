"""The corpus and the lexicon in RASR's XML format, Bliss."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from .task import CORPUS, RECORDING, Task

__all__ = ["FRAME_SHIFT", "corpus", "lexicon"]

FRAME_SHIFT = 0.01
"""Seconds per frame."""

_HEAD = '<?xml version="1.0" encoding="utf-8"?>'


def corpus(task: Task) -> str:
    """Return the corpus: one recording with all segments, one after the other."""
    return "\n".join(_corpus_lines(task)) + "\n"


def lexicon(task: Task, optional_silence: bool = False) -> str:
    """Return the lexicon: the phoneme inventory, in the order of the labels, and the words.

    Args:
        task: the task.
        optional_silence: silence may occur between the words of an orthography, as lattices need it.
    """
    return "\n".join(_lexicon_lines(task, optional_silence)) + "\n"


def _corpus_lines(task: Task) -> Iterator[str]:
    yield _HEAD
    yield f"<corpus name={quoteattr(CORPUS)}>"
    # RASR requires the name of an audio file, but does not read it: the features come from a cache.
    yield f'  <recording name={quoteattr(RECORDING)} audio="none.wav">'
    first = 0
    for segment in task.segments:
        start, end = first * FRAME_SHIFT, (first + segment.frames) * FRAME_SHIFT
        words = " ".join(word.orthography for word in segment.words)
        yield f'    <segment name={quoteattr(segment.name)} start="{start:.2f}" end="{end:.2f}">'
        yield f"      <orth> {escape(words)} </orth>"
        yield "    </segment>"
        first += segment.frames
    yield "  </recording>"
    yield "</corpus>"


def _lexicon_lines(task: Task, optional_silence: bool) -> Iterator[str]:
    yield _HEAD
    yield "<lexicon>"
    yield "  <phoneme-inventory>"
    for phoneme in task.phonemes:
        # Without variation, a phoneme has no context. Silence and blank must not have one.
        fixed = "<variation>none</variation>" if phoneme in task.phonemes[-2:] else ""
        yield f"    <phoneme><symbol>{escape(phoneme)}</symbol>{fixed}</phoneme>"
    yield "  </phoneme-inventory>"
    # The first lemma must have at least two phonemes. Otherwise RASR b6ff1a89, without phoneme contexts, does
    # not link the end of a word to the next word, and crashes.
    for word in task.words:
        spoken = "".join(
            f"<phon>{' '.join(task.phonemes[label] for label in labels)}</phon>"
            for labels in word.pronunciations
        )
        yield f"  <lemma><orth>{escape(word.orthography)}</orth>{spoken}</lemma>"
    for role, label in (("silence", task.silence), ("blank", task.blank)):
        orth = f"<orth>[{role.upper()}]</orth>"
        phon = f"<phon>{task.phonemes[label]}</phon>"
        if optional_silence and role == "silence":
            orth, phon = f"{orth}<orth/>", f"{phon}<synt/><eval/>"
        yield f'  <lemma special="{role}">{orth}{phon}</lemma>'
    yield "</lexicon>"
