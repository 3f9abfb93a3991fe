"""The criterion compared with two independent ones: torch's CTC, and an enumeration of all paths."""

from __future__ import annotations

import itertools
import math
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmbridge.bliss.lexicon import Lemma, Lexicon, Pronunciation
from shmbridge.errors import FileFormatError
from shmbridge.refsprint.automaton import Automaton, ExportedAutomaton, build_automaton
from shmbridge.refsprint.configuration import Configuration
from shmbridge.refsprint.console import CriticalError, FailedAssertionError
from shmbridge.refsprint.criterion import Model, create_criterion
from shmbridge.refsprint.ctc import ForwardBackward
from shmbridge.refsprint.orthography import parse_orthography
from support.ctc import automaton_loss, enumerate_ctc
from support.packages import import_or_skip

Array = npt.NDArray[Any]


def lexicon(
    words: dict[str, list[tuple[int, ...]]], labels: int = 4, special: Optional[dict[str, str]] = None
) -> Lexicon:
    """Return a lexicon; the pronunciations of a word are equally probable."""
    lemmas = [
        Lemma(
            (tuple(word.split()),),
            tuple(Pronunciation(phonemes, math.log(len(ways))) for phonemes in ways),
            (special or {}).get(word),
        )
        for word, ways in words.items()
    ]
    return Lexicon("lexicon.xml", [f"p{i}" for i in range(labels)], lemmas)


def automaton(orthography: str, lex: Lexicon, blank: int = 0, silence: bool = False) -> Automaton:
    return build_automaton(parse_orthography(orthography, lex, silence), blank)


def log_posteriors(time: int, labels: int, seed: int) -> Array:
    logits = np.random.default_rng(seed).normal(scale=2.0, size=(time, labels))
    result: Array = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return result


def sum_exported(exported: ExportedAutomaton, posteriors: Array) -> float:
    """The loss from the edges of an exported automaton."""
    edges = exported.edges.reshape(3, exported.num_edges)
    return automaton_loss(posteriors, edges, exported.weights, 0, exported.num_states - 1)


pronunciations = st.lists(st.integers(1, 3), min_size=1, max_size=2).map(tuple)
words_strategy = st.lists(st.lists(pronunciations, min_size=1, max_size=2, unique=True), max_size=2)


@settings(deadline=None, max_examples=60)
@given(words_strategy, st.integers(1, 5), st.integers(0, 1000))
def test_loss_and_occupation_agree_with_an_enumeration_of_paths(
    words: list[list[tuple[int, ...]]], time: int, seed: int
) -> None:
    lex = lexicon({f"w{i}": ways for i, ways in enumerate(words)})
    weighted: dict[tuple[int, ...], float] = {}
    for choice in itertools.product(*words):
        labels = tuple(itertools.chain.from_iterable(choice))
        weighted[labels] = weighted.get(labels, 0.0) + 1.0 / math.prod(len(ways) for ways in words)
    posteriors = log_posteriors(time, 4, seed)
    loss, occupation, _ = enumerate_ctc(posteriors, weighted, 0)
    graph = automaton("".join(f"w{i} " for i in range(len(words))), lex)
    paths = ForwardBackward(graph)
    result = paths.sum_paths(posteriors[:, paths.labels])
    if math.isinf(loss):
        assert result is None
        assert sum_exported(graph.export(), posteriors) == math.inf
        return
    assert result is not None
    assert result.loss == pytest.approx(loss, abs=1e-9)
    spread = np.zeros((time, 4))
    spread[:, result.labels] = result.occupation
    assert spread == pytest.approx(occupation, abs=1e-9)
    assert sum_exported(graph.export(), posteriors) == pytest.approx(loss, abs=1e-5)


def torch_loss(torch: Any, logs: Any, target: list[int]) -> Any:
    lengths = torch.tensor([len(logs)]), torch.tensor([len(target)])
    return torch.nn.functional.ctc_loss(logs[:, None], torch.tensor([target]), *lengths, reduction="sum")


@pytest.mark.parametrize("seed", range(5))
def test_one_pronunciation_agrees_with_torch(seed: int) -> None:
    torch = import_or_skip("torch")
    rng = np.random.default_rng(seed)
    words = {f"w{i}": [tuple(int(x) for x in rng.integers(1, 12, rng.integers(1, 5)))] for i in range(6)}
    order = [f"w{i}" for i in rng.integers(0, 6, 8)]
    target = [label for word in order for label in words[word][0]]
    logits = torch.tensor(rng.normal(size=(100, 12)), requires_grad=True)
    logs = torch.log_softmax(logits, -1)
    loss = torch_loss(torch, logs, target)
    loss.backward()
    posteriors = logs.detach().numpy().astype(np.float32)
    criterion = _criterion(lexicon(words, 12, {}), log_space=True)
    outcome = criterion(posteriors.T, "".join(word + " " for word in order), "error-signal")
    assert outcome is not None
    assert outcome.error is not None
    assert outcome.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    assert pytest.approx(logits.grad.numpy(), abs=1e-4) == outcome.error.T


def test_several_pronunciations_sum_over_their_alternatives_in_torch() -> None:
    torch = import_or_skip("torch")
    ways: list[list[tuple[int, ...]]] = [[(1, 2), (1, 3)], [(3,), (3, 3), (2, 1)]]
    lex = lexicon({"a": ways[0], "b": ways[1]})
    logits = torch.tensor(np.random.default_rng(3).normal(size=(20, 4)), requires_grad=True)
    logs = torch.log_softmax(logits, -1)
    alternatives = []
    for choice in itertools.product(*ways, ways[0]):
        target = [label for labels in choice for label in labels]
        loss = torch_loss(torch, logs, target)
        alternatives.append(-loss - math.log(2 * 3 * 2))
    total = -torch.logsumexp(torch.stack(alternatives), 0)
    total.backward()
    criterion = _criterion(lex, log_space=True)
    outcome = criterion(logs.detach().numpy().astype(np.float32).T, "a b a ", "error-signal")
    assert outcome is not None
    assert outcome.error is not None
    assert outcome.loss == pytest.approx(float(total.detach()), rel=1e-5)
    assert pytest.approx(logits.grad.numpy(), abs=1e-4) == outcome.error.T


def _criterion(lex: Lexicon, log_space: bool) -> Any:
    """Return a criterion with a lexicon that is not in a file. Label 0 is the blank."""
    config = Configuration.from_arguments([f"--*.input-in-log-space={'true' if log_space else 'false'}"])
    model = Model(config)
    blank = Lemma((("[BLANK]",),), (Pronunciation((0,), 0.0),), "blank")
    model.__dict__["lexicon"] = Lexicon(lex.path, lex.phonemes, [*lex.lemmas, blank])
    return create_criterion(config, model)


@pytest.mark.parametrize("log_space", [True, False])
def test_each_kind_of_error_is_defined_as_in_sprint(log_space: bool) -> None:
    criterion = _criterion(lexicon({"a": [(1, 2)]}), log_space)
    logs = log_posteriors(6, 4, 7).astype(np.float32)
    y = np.exp(logs)
    given_posteriors = np.asfortranarray((logs if log_space else y).T)
    errors: dict[str, Any] = {}
    for kind in ("none", "pseudo-targets", "error-signal", "error-signal-before-softmax"):
        outcome = criterion(given_posteriors, "a ", kind)
        errors[kind] = None if outcome.error is None else outcome.error.T.copy()
    assert errors["none"] is None
    target = errors["pseudo-targets"]
    assert target.sum(axis=1) == pytest.approx(np.ones(6), abs=1e-5)
    if log_space:
        signal = y - target
        assert errors["error-signal"] == pytest.approx(signal, abs=1e-5)
        inner = (signal * logs).sum(axis=1, keepdims=True)
        assert errors["error-signal-before-softmax"] == pytest.approx(logs * (signal - inner), abs=1e-4)
    else:
        assert errors["error-signal"] == pytest.approx(-target / y, rel=1e-4)
        assert errors["error-signal-before-softmax"] == pytest.approx(y - target, abs=1e-5)


def test_posteriors_are_not_normalized() -> None:
    criterion = _criterion(lexicon({"a": [(1,)]}), log_space=True)
    logs = log_posteriors(5, 4, 1).astype(np.float32)
    loss = criterion(logs.T, "a ", "none").loss
    assert criterion((logs - 1).T, "a ", "none").loss == pytest.approx(loss + 5, abs=1e-4)


def test_minus_infinity_makes_a_label_impossible() -> None:
    criterion = _criterion(lexicon({"a": [(1,)]}), log_space=True)
    logs = log_posteriors(5, 4, 1).astype(np.float32)
    logs[:, 2:] = -np.inf
    logs[0, 1] = -np.inf
    outcome = criterion(logs.T, "a ", "error-signal")
    assert np.isfinite(outcome.loss)
    assert np.isfinite(outcome.error).all()
    logs[2] = -np.inf
    assert criterion(logs.T, "a ", "error-signal") is None


def test_far_apart_posteriors_do_not_underflow() -> None:
    criterion = _criterion(lexicon({"a": [(1,)]}), log_space=True)
    logs = np.full((3, 4), -5000.0, dtype=np.float32)
    logs[:, 3] = 0.0
    outcome = criterion(logs.T, "a ", "error-signal")
    # Blanks around a run of labels: 6 paths of the same probability.
    assert outcome.loss == pytest.approx(15000 - math.log(6))


def test_a_segment_with_too_few_frames_is_skipped() -> None:
    criterion = _criterion(lexicon({"a": [(1, 1)]}), log_space=True)
    assert criterion(log_posteriors(2, 4, 1).astype(np.float32).T, "a ", "none") is None
    assert criterion(log_posteriors(3, 4, 1).astype(np.float32).T, "a ", "none") is not None


def test_plus_infinity_is_not_detected_as_in_sprint() -> None:
    criterion = _criterion(lexicon({"a": [(1,)]}), log_space=True)
    logs = log_posteriors(5, 4, 1).astype(np.float32)
    logs[2, 3] = np.inf
    outcome = criterion(logs.T, "a ", "error-signal")
    assert np.isfinite(outcome.loss)
    assert np.isnan(outcome.error[:, 2]).any()
    logs[2, 1] = np.inf
    assert criterion(logs.T, "a ", "error-signal") is None


def test_an_empty_orthography_is_only_blanks() -> None:
    logs = log_posteriors(4, 4, 2)
    paths = ForwardBackward(automaton("", lexicon({})))
    result = paths.sum_paths(logs[:, paths.labels])
    assert result is not None
    assert result.loss == pytest.approx(-logs[:, 0].sum())


def test_silences_between_words_are_optional_and_off_by_default() -> None:
    words: dict[str, list[tuple[int, ...]]] = {"a": [(1,)]}
    silence = Lemma(((), ("[SIL]",)), (Pronunciation((3,), 0.0),), "silence")
    lex = Lexicon("x", ["[blank]", "a", "b", "[sil]"], [*lexicon(words).lemmas, silence])
    logs = log_posteriors(4, 4, 5)
    ways = itertools.product((0, 3), (1,), (0, 3), (1,), (0, 3))
    by_default: dict[tuple[int, ...], float] = {(1, 1): 1.0}
    with_silences = {tuple(label for label in way if label): 1.0 for way in ways}
    for optional, weighted in ((False, by_default), (True, with_silences)):
        paths = ForwardBackward(automaton("a a ", lex, silence=optional))
        result = paths.sum_paths(logs[:, paths.labels])
        assert result is not None
        assert result.loss == pytest.approx(enumerate_ctc(logs, weighted, 0).loss)


def test_a_lemma_may_have_several_words() -> None:
    lex = lexicon({"new": [(1,)], "york": [(2,)], "new york": [(3,)]})
    logs = log_posteriors(4, 4, 6)
    paths = ForwardBackward(automaton("new york ", lex))
    result = paths.sum_paths(logs[:, paths.labels])
    assert result is not None
    assert result.loss == pytest.approx(enumerate_ctc(logs, {(1, 2): 1.0, (3,): 1.0}, 0).loss)


def test_unknown_words_are_skipped_or_replaced() -> None:
    lex = lexicon({"a": [(1,)], "b c": [(2,)]})
    assert parse_orthography("x a b x ", lex).skipped == ("x", "b", "x")
    assert parse_orthography("a b c ", lex).skipped == ()
    with_unknown = lexicon({"a": [(1,)], "[UNK]": [(3,)]}, special={"[UNK]": "unknown"})
    assert parse_orthography("x a ", with_unknown).skipped == ()
    logs = log_posteriors(4, 4, 6)
    paths = ForwardBackward(automaton("x a ", with_unknown))
    result = paths.sum_paths(logs[:, paths.labels])
    assert result is not None
    assert result.loss == pytest.approx(enumerate_ctc(logs, {(3, 1): 1.0}, 0).loss)


def test_a_word_without_a_pronunciation_is_a_critical_error() -> None:
    with pytest.raises(CriticalError, match="pronunciation"):
        parse_orthography("a ", lexicon({"a": []}))


@pytest.mark.parametrize("orthography", ["a", " a ", "a  a ", " ", "  "])
def test_misplaced_blanks_are_a_failed_assertion(orthography: str) -> None:
    with pytest.raises(FailedAssertionError, match="followed by one blank"):
        parse_orthography(orthography, lexicon({"a": [(1,)]}))


def test_an_exported_automaton_has_one_start_and_one_final_state() -> None:
    exported = automaton("a a ", lexicon({"a": [(1, 2), (2,)]})).export()
    sources, targets, labels = exported.edges.reshape(3, exported.num_edges)
    assert exported.edges.dtype == np.uint32
    assert exported.weights.dtype == np.float32
    assert set(sources) == set(range(exported.num_states - 1))
    assert set(targets) == set(range(1, exported.num_states))
    assert (targets >= sources).all()
    assert set(labels) == {0, 1, 2}
    assert set(np.round(exported.weights, 4)) == {np.float32(0), np.float32(0.6931)}


def test_a_lexicon_without_a_blank_is_an_error() -> None:
    with pytest.raises(FileFormatError, match="blank"):
        lexicon({"a": [(1,)]}).blank()
