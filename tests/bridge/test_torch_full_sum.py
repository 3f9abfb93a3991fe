"""full_sum_loss against an enumeration of all paths, torch's CTC, Sprint's, and finite differences."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import shmbridge
from support.automata import (
    Part,
    combine,
    ctc_automaton,
    enumerate_paths,
    random_automaton,
)
from support.packages import import_or_skip
from support.sprint_env import SprintEnv

torch = import_or_skip("torch")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402 - requires torch

from shmbridge.torch import FullSumLoss, full_sum_loss, sprint_loss, viterbi  # noqa: E402

LABELS = 4
BACKENDS = ["native", "torch"]
both_backends = pytest.mark.parametrize("backend", BACKENDS)

CTC = [ctc_automaton(labels, blank=3) for labels in ([0, 1], [2, 2], [1], [0, 2, 1])]
CTC_LENGTHS = [5, 4, 3, 6]
TOO_SHORT = [5, 2, 3, 6]  # [2, 2] needs three frames


def random_scores(lengths: Any, seed: int = 0, dtype: Any = torch.float64, labels: int = LABELS) -> Any:
    """Return random log-probs (time,batch,label), NaN beyond each length."""
    scores = torch.tensor(np.random.default_rng(seed).normal(size=(max(lengths), len(lengths), labels)))
    scores = scores.log_softmax(-1)
    for b, length in enumerate(lengths):
        scores[length:, b] = math.nan
    return scores.to(dtype)


def enumerate_batch(parts: Any, scores: Any, lengths: Any, transition_scale: float = 1.0) -> Any:
    """Return losses (batch,) and occupations (time,batch,label) by an enumeration of all paths."""
    losses, occupations = torch.empty(len(parts), dtype=torch.float64), torch.zeros(scores.shape).double()
    for b, (part, length) in enumerate(zip(parts, lengths)):
        enumerated = enumerate_paths(part, scores[:length, b].detach().numpy(), transition_scale)
        losses[b] = enumerated.loss
        occupations[:length, b] = torch.from_numpy(enumerated.occupation)
    return losses, occupations


# --- loss and gradient


@both_backends
@pytest.mark.parametrize("seed", range(20))
def test_loss_and_gradient_equal_the_sum_over_each_single_path(backend: str, seed: int) -> None:
    lengths = [3, 5, 1, 4]
    parts = [random_automaton(10 * seed + b, LABELS, num_states=2 + b) for b in range(4)]
    scores = random_scores(lengths, seed).requires_grad_()
    expected, occupations = enumerate_batch(parts, scores, lengths)
    loss = full_sum_loss(scores, lengths, combine(parts), reduction="none", skipped="inf", backend=backend)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    weights = torch.arange(1.0, 5.0)
    loss.backward(weights.double())
    torch.testing.assert_close(scores.grad, -occupations * weights[None, :, None], rtol=1e-5, atol=1e-5)


@both_backends
@pytest.mark.parametrize(
    "turned", [False, True], ids=["many edges into a state", "many edges out of a state"]
)
def test_states_with_many_edges_are_summed_exactly(backend: str, turned: bool) -> None:
    first = np.array([[0] * 40, range(1, 41), [label % LABELS for label in range(40)]])
    second = np.array([range(1, 41), [41] * 40, [label % 3 for label in range(40)]])
    edges = np.concatenate([first, second], axis=1)
    if turned:
        edges[:2] = 41 - edges[1::-1]
    part = Part(42, edges, np.linspace(0, 3, 80).astype(np.float32))
    scores = random_scores([2]).requires_grad_()
    expected, occupations = enumerate_batch([part], scores, [2])
    loss = full_sum_loss(scores, [2], combine([part]), backend=backend)
    loss.backward()
    torch.testing.assert_close(loss, expected[0])
    torch.testing.assert_close(scores.grad, -occupations)


@both_backends
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_loss_and_gradient_equal_those_of_torchs_ctc(backend: str, batch_first: bool, reduction: str) -> None:
    rng = np.random.default_rng(0)
    targets = [rng.integers(0, 79, 20).tolist() for _ in range(8)]
    lengths = rng.integers(60, 101, 8).tolist()
    automata = combine([ctc_automaton(labels, blank=79) for labels in targets])
    logits = torch.randn(100, 8, 80, generator=torch.Generator().manual_seed(0)).requires_grad_()
    log_probs = logits.log_softmax(-1)
    given = log_probs.transpose(0, 1) if batch_first else log_probs
    loss = full_sum_loss(
        given, lengths, automata, reduction=reduction, batch_first=batch_first, backend=backend
    )
    expected = torch.nn.functional.ctc_loss(
        log_probs.double(), torch.tensor(targets), torch.tensor(lengths), torch.full((8,), 20), 79, "none"
    )
    expected = {"none": expected, "sum": expected.sum(), "mean": expected.mean()}[reduction]
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(loss.sum(), logits, retain_graph=True)
    (reference,) = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(gradient, reference, rtol=1e-5, atol=1e-5)


@both_backends
def test_the_gradient_agrees_with_finite_differences_also_without_softmax(backend: str) -> None:
    parts = [random_automaton(seed, LABELS) for seed in (1, 3)]
    scores = torch.randn(4, 2, LABELS, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    prior = torch.tensor([0.1, 0.2, 0.3, 0.4]).double().log().requires_grad_()

    def loss(scores: Any, prior: Any) -> Any:
        return full_sum_loss(
            scores,
            [4, 3],
            combine(parts),
            reduction="none",
            skipped="error",
            log_prior=prior,
            acoustic_scale=0.7,
            prior_scale=0.3,
            transition_scale=0.5,
            backend=backend,
        )

    assert torch.autograd.gradcheck(loss, (scores, prior), rtol=1e-5, atol=1e-7)


@both_backends
def test_prior_and_scales_compose_the_score_of_a_path(backend: str) -> None:
    parts = [random_automaton(seed, LABELS) for seed in (1, 3)]
    scores = random_scores([4, 3])
    prior = np.log([0.1, 0.2, 0.3, 0.4])
    composed = 0.7 * scores - 0.3 * torch.from_numpy(prior)
    expected, _ = enumerate_batch(parts, composed, [4, 3], transition_scale=0.5)
    options = {"log_prior": prior, "acoustic_scale": 0.7, "prior_scale": 0.3, "transition_scale": 0.5}
    loss = full_sum_loss(scores, [4, 3], combine(parts), reduction="none", backend=backend, **options)
    torch.testing.assert_close(loss, expected)


@both_backends
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_float_dtype_and_any_strides_are_accepted(backend: str, dtype: Any) -> None:
    log_probs = random_scores([6] * 4, labels=2 * LABELS).to(dtype)
    strided = log_probs.permute(2, 0, 1).contiguous().permute(1, 2, 0)[..., ::2].requires_grad_()
    plain = strided.detach().double().contiguous().requires_grad_()
    losses = [full_sum_loss(x, CTC_LENGTHS, combine(CTC), backend=backend) for x in (strided, plain)]
    assert losses[0].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(losses[0].double(), losses[1], rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(loss, x)[0] for loss, x in zip(losses, (strided, plain))]
    assert gradients[0].dtype == dtype
    tolerance = {torch.float16: 1e-3, torch.bfloat16: 1e-2}.get(dtype, 1e-5)
    torch.testing.assert_close(gradients[0].double(), gradients[1], rtol=tolerance, atol=tolerance)


@both_backends
def test_one_tensor_of_scores_may_be_expanded_to_all_frames(backend: str) -> None:
    frame = random_scores([1])
    expected, _ = enumerate_batch([CTC[0]], frame.expand(5, 1, LABELS), [5])
    scores = frame.expand(5, 1, LABELS).detach().requires_grad_()
    loss = full_sum_loss(scores, [5], combine([CTC[0]]), backend=backend)
    loss.backward()
    torch.testing.assert_close(loss, expected[0])
    torch.testing.assert_close(scores.grad.sum(-1), -torch.ones(5, 1).double())


@pytest.mark.parametrize("convert", [torch.tensor, lambda a: a.view(np.int32) if a.dtype.kind == "u" else a])
def test_automata_may_be_tensors_or_int32(convert: Any) -> None:
    automata = combine(CTC)
    scores = random_scores(CTC_LENGTHS)
    converted = tuple(
        convert(array.astype(np.int64) if convert is torch.tensor else array) for array in automata
    )
    given = (converted[0], converted[1].float() if convert is torch.tensor else converted[1], converted[2])
    lengths = torch.tensor(CTC_LENGTHS)
    assert full_sum_loss(scores, lengths, given) == full_sum_loss(scores, CTC_LENGTHS, automata)


# --- stability


@both_backends
@pytest.mark.parametrize("frames", [2_000, pytest.param(10_000, marks=pytest.mark.exhaustive)])
def test_long_and_peaky_sequences_keep_float64_precision(backend: str, frames: int) -> None:
    """States of a frame differ by more than a double can: the blanks are 1e13 times as likely."""
    num_labels = frames // 2 - 1
    labels = [0, 1] * (num_labels // 2) + [0] * (num_labels % 2)
    logits = torch.zeros(frames, 1, LABELS).double()
    logits[..., 3] = 30
    noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    log_probs = (logits + noise).log_softmax(-1).requires_grad_()
    loss = full_sum_loss(log_probs, [frames], combine([ctc_automaton(labels, blank=3)]), backend=backend)
    expected = torch.nn.functional.ctc_loss(
        log_probs, torch.tensor([labels]), torch.tensor([frames]), torch.tensor([num_labels]), 3, "sum"
    )
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    (gradient,) = torch.autograd.grad(loss, log_probs, retain_graph=True)
    (reference,) = torch.autograd.grad(expected, log_probs)
    torch.testing.assert_close(log_probs.exp() + gradient, reference, rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient.sum(-1), -torch.ones(frames, 1).double(), rtol=0, atol=1e-8)


@both_backends
def test_the_only_path_is_found_however_small_its_probability(backend: str) -> None:
    automata = combine([ctc_automaton([0, 1] * 200, blank=3)])
    scores = torch.full((400, 1, LABELS), -1e4)
    scores[..., 3] = 0  # the blank, which no path of this length has
    scores.requires_grad_()
    loss = full_sum_loss(scores, [400], automata, skipped="error", backend=backend)
    loss.backward()
    assert loss == 400 * 1e4
    assert scores.grad.sum() == -400
    assert not scores.grad[..., 2:].any()


# --- sequences without a path


@both_backends
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_a_sequence_without_a_path_is_skipped(backend: str, reduction: str) -> None:
    scores = random_scores(TOO_SHORT).requires_grad_()
    expected, occupations = enumerate_batch(CTC, scores, TOO_SHORT)
    assert expected.isinf().tolist() == [False, True, False, False]
    expected[1] = 0
    loss = full_sum_loss(scores, TOO_SHORT, combine(CTC), reduction=reduction, backend=backend)
    loss.sum().backward()
    reduced = {"none": expected, "sum": expected.sum(), "mean": expected.sum() / 3}[reduction]
    torch.testing.assert_close(loss, reduced)
    torch.testing.assert_close(scores.grad, -occupations / (3 if reduction == "mean" else 1))


@both_backends
def test_the_loss_of_a_skipped_sequence_can_be_infinite_and_its_gradient_stays_zero(backend: str) -> None:
    scores = random_scores(TOO_SHORT).requires_grad_()
    loss = full_sum_loss(scores, TOO_SHORT, combine(CTC), skipped="inf", backend=backend)
    assert loss == math.inf
    (loss * loss).backward()
    assert not scores.grad[:, 1].any()
    assert not scores.grad.isnan()[:, 1].any()


@both_backends
def test_a_skipped_sequence_can_be_an_error(backend: str) -> None:
    with pytest.raises(shmbridge.BatchError, match=r"the sequences 1 of the batch .* \[no-path\]"):
        full_sum_loss(random_scores(TOO_SHORT), TOO_SHORT, combine(CTC), skipped="error", backend=backend)


@both_backends
def test_scores_of_minus_infinity_and_automata_without_edges_are_skipped_too(backend: str) -> None:
    no_edges = Part(2, np.empty((3, 0), np.int64), np.empty(0))
    scores = torch.full((4, 2, LABELS), -math.inf).requires_grad_()
    for parts in ([CTC[0], no_edges], [no_edges, no_edges]):
        loss = full_sum_loss(scores, [4, 4], combine(parts), backend=backend)
        assert loss.isnan()
        (gradient,) = torch.autograd.grad(loss, scores)
        assert not gradient.any()


@both_backends
def test_an_empty_batch_has_no_mean(backend: str) -> None:
    for frames in (0, 3):
        scores = torch.zeros(frames, 0, LABELS, requires_grad=True)
        assert full_sum_loss(scores, [], combine([]), backend=backend).isnan()
        assert full_sum_loss(scores, [], combine([]), reduction="sum", backend=backend) == 0


# --- Sprint


@pytest.fixture(scope="module")
def pool(module_sprint_env: SprintEnv) -> Iterator[shmbridge.SprintInstancePool]:
    with module_sprint_env.pool("loop", num_instances=2) as pool:
        yield pool


@both_backends
def test_loss_and_gradient_at_the_logits_equal_those_of_sprints_criterion(
    module_sprint_env: SprintEnv, pool: shmbridge.SprintInstancePool, backend: str
) -> None:
    names = [*module_sprint_env.NAMES, module_sprint_env.SHORT]
    lengths = module_sprint_env.frames(names)
    logits = torch.randn(max(lengths), len(names), LABELS, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    loss = FullSumLoss(pool, reduction="none", backend=backend)(logits.log_softmax(-1), lengths, names)
    expected = sprint_loss(pool, logits.log_softmax(-1), lengths, names, reduction="none")
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    (reference,) = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(gradient, reference, rtol=1e-5, atol=1e-5)


def test_the_module_passes_its_options_on_and_has_no_state(
    module_sprint_env: SprintEnv, pool: shmbridge.SprintInstancePool
) -> None:
    names = [*module_sprint_env.NAMES, module_sprint_env.SHORT]
    lengths = module_sprint_env.frames(names)
    log_probs = random_scores(lengths, dtype=torch.float32)
    options: dict[str, Any] = {
        "reduction": "sum",
        "batch_first": True,
        "skipped": "inf",
        "log_prior": np.log([0.1, 0.2, 0.3, 0.4]),
        "acoustic_scale": 0.7,
        "prior_scale": 0.3,
        "transition_scale": 0.5,
        "backend": "torch",
    }
    criterion = copy.deepcopy(FullSumLoss(pool, **options))
    given = log_probs.transpose(0, 1)
    expected = full_sum_loss(given, lengths, pool.get_automata_for_batch(names), **options)
    assert criterion(given, lengths, names) == expected
    assert criterion.state_dict() == {}
    assert "transition_scale=0.5" in repr(criterion)


def test_a_pool_is_required() -> None:
    with pytest.raises(shmbridge.OptionError, match=r"pool is None; .* \[loss-input\]"):
        FullSumLoss(None)


# --- invalid input


def changed(row: int, value: int) -> Any:
    automata = combine(CTC)
    edges = automata.edges.astype(np.int64)
    edges[row, 2] = value
    return automata._replace(edges=edges)


@pytest.mark.parametrize(
    ("automata", "message"),
    [
        (None, r"automata is of type NoneType; it must be edges \(4,E\)"),
        (
            combine(CTC[:3]),
            r"start_end_states is uint32 \(2, 3\); it must be of integer dtype and shape \(2, 4\)",
        ),
        (combine(CTC)._replace(edges=np.zeros((3, 5), np.int32)), r"automata.edges is int32 \(3, 5\)"),
        (combine(CTC)._replace(edges=combine(CTC).edges.astype(float)), "automata.edges is float64"),
        (
            combine(CTC)._replace(weights=np.full(combine(CTC).weights.shape, np.nan)),
            "weights has nan at edge 0",
        ),
        (combine(CTC)._replace(weights=np.full(combine(CTC).weights.shape, -np.inf)), "weights has -inf"),
        (combine(CTC)._replace(start_end_states=np.zeros((2, 4), np.int32)), "overlapping automata"),
        (changed(0, -1), "leads from state -1 at edge 2; the states of sequence 0 are 0 to"),
        (changed(1, 1000), "leads to state 1000 at edge 2; the states of sequence 0 are 0 to"),
        (changed(2, LABELS), "has label 4 at edge 2; the scores have 4 labels, and epsilon edges"),
        (changed(2, 2**32 - 1), "has label 4294967295 at edge 2"),
        (changed(3, 4), "has sequence 4 at edge 2; the batch has 4 sequences"),
        (changed(3, 1), "leads from state . at edge 2; the states of sequence 1 are"),
    ],
)
def test_invalid_automata_are_refused(automata: Any, message: str) -> None:
    for function in (full_sum_loss, viterbi):
        with pytest.raises(shmbridge.BatchError, match=rf"{message}.* \[automata\]"):
            function(random_scores(CTC_LENGTHS), CTC_LENGTHS, automata)


@pytest.mark.parametrize(
    ("scores", "lengths", "message"),
    [
        (np.zeros((6, 4, LABELS)), CTC_LENGTHS, r"of type ndarray; .* \[loss-input\]"),
        (torch.zeros(6, LABELS), CTC_LENGTHS, r"shape \(6, 4\); .* \[loss-input\]"),
        (torch.zeros(6, 4, LABELS).int(), CTC_LENGTHS, r"dtype torch.int32; .* \[loss-input\]"),
        (torch.zeros(6, 4, LABELS), [1.0] * 4, r"dtype float64; .* \[dtype\]"),
        (torch.zeros(6, 4, LABELS), [1] * 3, r"shape \(3,\); .* a batch of 4 \[batch-shapes\]"),
        (torch.zeros(6, 4, LABELS), [1, 1, 0, 1], r"seq_lengths\[2\] is 0; .* \[batch-shapes\]"),
        (
            torch.zeros(6, 4, LABELS),
            [1, 1, 1, 7],
            r"seq_lengths\[3\] is 7; .* from 1 to 6.* \[batch-shapes\]",
        ),
    ],
)
def test_invalid_scores_and_lengths_are_refused(scores: Any, lengths: Any, message: str) -> None:
    for function in (full_sum_loss, viterbi):
        with pytest.raises(shmbridge.BatchError, match=message):
            function(scores, lengths, combine(CTC))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_plus_infinity_are_refused_if_the_automaton_uses_them(value: float) -> None:
    scores = random_scores([6] * 4)
    scores[2, 2, 0] = value  # CTC[2] has the labels 1 and 3
    full_sum_loss(scores, CTC_LENGTHS, combine(CTC))
    scores[2, 2, 1] = value
    message = r"the scores of sequence 2 are NaN or \+inf .* \[nan\]"
    for backend in BACKENDS:
        with pytest.raises(shmbridge.BatchError, match=message):
            full_sum_loss(scores, CTC_LENGTHS, combine(CTC), backend=backend)
    with pytest.raises(shmbridge.BatchError, match=message):
        viterbi(scores, CTC_LENGTHS, combine(CTC))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"reduction": "max"}, "reduction is 'max'; it must be one of 'none', 'sum', 'mean'"),
        ({"skipped": None}, "skipped is None; it must be one of"),
        ({"backend": "cuda"}, "backend is 'cuda'; it must be one of 'auto', 'native', 'torch'"),
        ({"acoustic_scale": 0}, "acoustic_scale is 0; it must be a positive"),
        ({"prior_scale": -1.0}, "prior_scale is -1.0; it must be a non-negative"),
        ({"transition_scale": math.inf}, "transition_scale is inf; it must be a non-negative"),
        (
            {"log_prior": np.zeros(3)},
            r"log_prior is torch.float64 \(3,\); it must be of float dtype and shape \(4,\)",
        ),
    ],
)
def test_invalid_options_are_refused(option: Any, message: str) -> None:
    with pytest.raises(shmbridge.UsageError, match=rf"{message}.* \[loss-input\]"):
        full_sum_loss(random_scores(CTC_LENGTHS), CTC_LENGTHS, combine(CTC), **option)


def test_the_native_backend_is_for_the_cpu() -> None:
    scores = torch.zeros(6, 4, LABELS, device="meta")
    with pytest.raises(shmbridge.OptionError, match=r'backend is "native"; .* device meta \[loss-input\]'):
        full_sum_loss(scores, CTC_LENGTHS, combine(CTC), backend="native")


def test_a_mode_without_values_is_refused() -> None:
    with FakeTensorMode(), pytest.raises(shmbridge.BatchError, match=r"\[no-values\]"):
        full_sum_loss(torch.empty(6, 4, LABELS), CTC_LENGTHS, combine(CTC))


def test_a_second_derivative_is_refused() -> None:
    scores = random_scores(CTC_LENGTHS).requires_grad_()
    loss = full_sum_loss(scores, CTC_LENGTHS, combine(CTC))
    with pytest.raises(shmbridge.UsageError, match=r"\[second-derivative\]"):
        torch.autograd.grad(loss, scores, create_graph=True)
    torch.autograd.grad(loss, scores)


@both_backends
def test_threads_may_compute_at_the_same_time(backend: str) -> None:
    scores = random_scores(CTC_LENGTHS)
    expected = full_sum_loss(scores, CTC_LENGTHS, combine(CTC), reduction="none", backend=backend)
    found: list[Any] = []

    def compute() -> None:
        for _ in range(20):
            given = scores.clone().requires_grad_()
            loss = full_sum_loss(given, CTC_LENGTHS, combine(CTC), reduction="none", backend=backend)
            loss.sum().backward()
            found.append(loss.detach())

    threads = [threading.Thread(target=compute) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert all(loss.equal(expected) for loss in found)


@pytest.mark.exhaustive  # RETURNN compiles its operation for a minute
def test_loss_and_gradient_equal_those_of_returnns_operation() -> None:
    pytest.importorskip("tree", reason="RETURNN needs dm-tree")
    native_op = pytest.importorskip("returnn.torch.util.native_op")
    scores = random_scores(CTC_LENGTHS, dtype=torch.float32).nan_to_num(0.0).requires_grad_()
    edges, weights, ends = combine(CTC).as_int32()
    mask = torch.arange(max(CTC_LENGTHS))[:, None] < torch.tensor(CTC_LENGTHS)
    occupations, sums = native_op.fast_baum_welch(
        am_scores=-scores.detach(),
        seq_mask=mask,
        edges=torch.from_numpy(edges),
        weights=torch.from_numpy(weights),
        start_end_states=torch.from_numpy(ends),
    )
    loss = full_sum_loss(scores, CTC_LENGTHS, combine(CTC), reduction="none")
    loss.sum().backward()
    torch.testing.assert_close(loss, sums[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(scores.grad, -(-occupations).exp() * mask[..., None], rtol=1e-5, atol=1e-5)
