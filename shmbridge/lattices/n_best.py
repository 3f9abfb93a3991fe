"""A lattice of the hypotheses of a decoder that has no lattices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..errors import UsageError
from .lattice import Lattice

__all__ = ["Word", "from_n_best"]


class Word(NamedTuple):
    """One word of a hypothesis, or silence.

    Attributes:
        word: an orthography of the lexicon.
        start, end: seconds from the beginning of the segment.
        acoustic, language: natural logarithms of probabilities.
    """

    word: str
    start: float
    end: float
    acoustic: float = 0.0
    language: float = 0.0


def from_n_best(hypotheses: Iterable[Sequence[Word]], *, join_at_times: bool = False) -> Lattice:
    """Build the lattice of some hypotheses of one segment.

    Args:
        hypotheses: each a sequence of words without gaps, silence included. All begin at the same time, and
            end at the same time. Equal hypotheses count once.
        join_at_times: join all hypotheses at each time at which words of several begin. The lattice then has
            more paths than hypotheses: any word may follow any that ends when it begins. Of equal words
            between the same times, the one with the best sum of scores remains. By default each path is a
            hypothesis; common beginnings and ends are shared.

    Raises:
        UsageError: there is no hypothesis, one is empty or has a gap, or their times do not agree.
    """
    checked = [list(hypothesis) for hypothesis in hypotheses]
    _check(checked)
    arcs = _join(checked) if join_at_times else _share(checked)
    times: dict[int, float] = {}
    for source, target, word in arcs:
        times[source], times[target] = word.start, word.end
    number = {node: index for index, node in enumerate(sorted(times, key=lambda node: (times[node], node)))}
    arcs.sort(key=lambda arc: (number[arc[0]], number[arc[1]], arc[2].word))
    return Lattice(
        [times[node] for node in number],
        [number[source] for source, _, _ in arcs],
        [number[target] for _, target, _ in arcs],
        [word.word for _, _, word in arcs],
        [word.acoustic for _, _, word in arcs],
        [word.language for _, _, word in arcs],
    )


_Arc = tuple[int, int, Word]


def _check(hypotheses: list[list[Word]]) -> None:
    if not hypotheses:
        raise UsageError("there are no hypotheses; a lattice needs at least one [lattice]")
    for index, words in enumerate(hypotheses):
        if not words:
            raise UsageError(f"hypothesis {index} has no words; it must cover the segment [lattice]")
        for before, word in zip(words, words[1:]):
            if word.start != before.end:
                raise UsageError(
                    f"in hypothesis {index}, {before.word!r} ends at {before.end} s and {word.word!r} begins "
                    f"at {word.start} s; fill gaps with a word for silence [lattice]"
                )
        for place, time, first in (
            ("begins", words[0].start, hypotheses[0][0].start),
            ("ends", words[-1].end, hypotheses[0][-1].end),
        ):
            if time != first:
                raise UsageError(
                    f"hypothesis {index} {place} at {time} s, hypothesis 0 at {first} s [lattice]"
                )


def _join(hypotheses: list[list[Word]]) -> list[_Arc]:
    node = {time: index for index, time in enumerate(sorted({w.start for h in hypotheses for w in h}))}
    node.setdefault(hypotheses[0][-1].end, len(node))
    best: dict[tuple[int, int, str], Word] = {}
    for word in (word for words in hypotheses for word in words):
        key = (node[word.start], node[word.end], word.word)
        best[key] = max(best.get(key, word), word, key=lambda each: each.acoustic + each.language)
    return [(source, target, word) for (source, target, _), word in best.items()]


def _share(hypotheses: list[list[Word]]) -> list[_Arc]:
    """Return the arcs of the smallest graph that has these paths: it shares equal beginnings and ends."""
    tree: list[dict[Word, int]] = [{}]
    for words in hypotheses:
        node = 0
        for word in words:
            if word not in tree[node]:
                tree[node][word] = len(tree)
                tree.append({})
            node = tree[node][word]
    same: dict[frozenset[tuple[Word, int]], int] = {}
    merged = list(range(len(tree)))
    for node in reversed(range(len(tree))):  # a node's successors have higher numbers
        follow = frozenset((word, merged[target]) for word, target in tree[node].items())
        merged[node] = same.setdefault(follow, node)
    return [
        (node, merged[target], word) for node in sorted(set(merged)) for word, target in tree[node].items()
    ]
