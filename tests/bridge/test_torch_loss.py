"""SprintLoss and its gradients, against torch's CTC, an enumeration of all paths and finite differences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import shmbridge
from support.packages import import_or_skip
from support.sprint_env import SprintEnv

torch = import_or_skip("torch")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402 - requires torch

from shmbridge.torch import SprintLoss, sprint_loss  # noqa: E402

# The segments of the corpus with a single pronunciation; torch's CTC supports no others.
TARGETS = {
    "kórpus/rec/größe": [2, 1, 0],
    "kórpus/rec/one": [0],
    "kórpus/rec/two": [0, 1],
    "kórpus/rec/twice": [0, 0],
    "kórpus/rec/日本": [1, 2, 0],
    "kórpus/rec/again": [0, 0],
    "kórpus/rec/last": [0, 1, 0],
}
NAMES = list(TARGETS)
REDUCTIONS = ["none", "sum", "mean"]


@pytest.fixture(scope="module")
def shared(module_sprint_env: SprintEnv) -> Iterator[shmbridge.SprintInstancePool]:
    with module_sprint_env.pool("loop", num_instances=2) as pool:
        yield pool


def random_logits(lengths: Any, seed: int = 0, dtype: Any = torch.float32) -> Any:
    """Return random logits (time,batch,label)."""
    values = np.random.default_rng(seed).normal(size=(max(lengths), len(lengths), 4))
    return torch.tensor(values, dtype=dtype)


def reference(log_probs: Any, lengths: Any, names: Any) -> Any:
    """Return torch's CTC loss of each segment, in float64."""
    return torch.nn.functional.ctc_loss(
        log_probs.double(),
        torch.tensor([label for name in names for label in TARGETS[name]]),
        torch.tensor(lengths),
        torch.tensor([len(TARGETS[name]) for name in names]),
        blank=3,
        reduction="none",
    )


def reduce(loss: Any, reduction: str) -> Any:
    return {"none": loss, "sum": loss.sum(), "mean": loss.sum() / len(loss)}[reduction]


def gradient(of: Any, loss: Any, weights: Any = None) -> Any:
    (result,) = torch.autograd.grad(
        loss if weights is None else (weights * loss).sum(), of, retain_graph=True
    )
    return result


# --- loss and gradient equal those of CTC


@pytest.mark.parametrize("way", ["iterate", "trainer", "loop"])
def test_loss_and_gradient_equal_the_sum_over_all_paths(sprint_env: SprintEnv, way: str) -> None:
    lengths = sprint_env.frames(sprint_env.NAMES)
    posteriors = sprint_env.posteriors(lengths)
    log_probs = torch.tensor(posteriors, requires_grad=True)
    with sprint_env.pool(way, num_instances=2) as pool:
        loss = SprintLoss(pool, reduction="none")(log_probs, torch.tensor(lengths), sprint_env.NAMES)
    loss.sum().backward()
    sprint_env.compare(loss.detach().numpy(), log_probs.grad.numpy(), posteriors, lengths, sprint_env.NAMES)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("from_logits", [False, True])
def test_the_gradient_at_the_logits_equals_that_of_torchs_ctc(
    module_sprint_env: SprintEnv,
    shared: shmbridge.SprintInstancePool,
    reduction: str,
    batch_first: bool,
    from_logits: bool,
) -> None:
    lengths = module_sprint_env.frames(NAMES)
    logits = random_logits(lengths, seed=1).requires_grad_()
    weights = torch.rand(len(NAMES)) if reduction == "none" else torch.tensor(-2.5)
    expected = reduce(reference(logits.double().log_softmax(-1), lengths, NAMES), reduction)

    given = logits if from_logits else logits.log_softmax(-1)
    loss = SprintLoss(shared, reduction=reduction, batch_first=batch_first, from_logits=from_logits)(
        given.transpose(0, 1) if batch_first else given, lengths, NAMES
    )
    assert loss.shape == expected.shape
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        gradient(logits, loss, weights), gradient(logits, expected, weights), rtol=1e-4, atol=1e-5
    )


def test_the_gradient_at_the_log_probs_equals_that_of_torchs_ctc(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    lengths = module_sprint_env.frames(NAMES)
    log_probs = random_logits(lengths).log_softmax(-1).requires_grad_()
    weights = torch.rand(len(NAMES))
    loss = sprint_loss(shared, log_probs, lengths, NAMES, reduction="none")
    expected = reference(log_probs, lengths, NAMES)
    torch.testing.assert_close(
        gradient(log_probs, loss, weights), gradient(log_probs, expected, weights), rtol=1e-4, atol=1e-5
    )


def test_the_backward_of_log_softmax_leaves_the_error_signal_unchanged(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    lengths = module_sprint_env.frames(NAMES)
    logits = random_logits(lengths).requires_grad_()
    log_probs = logits.log_softmax(-1)
    loss = sprint_loss(shared, log_probs, lengths, NAMES, reduction="sum")
    after, before = gradient(log_probs, loss), gradient(logits, loss)
    assert after.abs().max() > 0.1
    torch.testing.assert_close(after.sum(-1), torch.zeros(after.shape[:2]), rtol=0, atol=1e-6)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)


@pytest.mark.parametrize("from_logits", [False, True])
def test_the_gradient_agrees_with_finite_differences(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, from_logits: bool
) -> None:
    names = ["kórpus/rec/two", "kórpus/rec/either"]
    lengths = module_sprint_env.frames(names)
    logits = random_logits(lengths, dtype=torch.float64).requires_grad_()
    weights = torch.tensor([0.5, 3.0], dtype=torch.float64)

    def loss(x: Any) -> Any:
        given = x if from_logits else x.log_softmax(-1)
        loss = sprint_loss(shared, given, lengths, names, reduction="none", from_logits=from_logits)
        return (weights * loss).sum()

    computed = gradient(logits, loss(logits))
    step = 1e-2  # balances float32 rounding and the error of the difference quotient
    for index in np.ndindex(*logits.shape):
        ends = []
        for direction in (step, -step):
            moved = logits.detach().clone()
            moved[index] += direction
            ends.append(loss(moved).item())
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(computed[index].item(), abs=1e-3)


def test_long_segments_agree_with_torchs_ctc(sprint_env: SprintEnv) -> None:
    rng = np.random.default_rng(5)
    sprint_env.segments, targets = {}, {}
    words = {"a": [0], "ab": [0, 1], "grün": [2, 1], "twice": [0, 0]}
    for b in range(6):
        spoken = rng.choice(sorted(words), size=rng.integers(1, 12))
        name = f"kórpus/rec/{b}"
        sprint_env.segments[name] = (" ".join(spoken), int(rng.integers(60, 120)))
        targets[name] = [label for word in spoken for label in words[word]]
    sprint_env.write_corpus()
    names, lengths = list(targets), sprint_env.frames(list(targets))
    logits = random_logits(lengths, seed=7).requires_grad_()
    with sprint_env.pool("loop", num_instances=2) as pool:
        loss = sprint_loss(pool, logits.log_softmax(-1), lengths, names)
    expected = torch.nn.functional.ctc_loss(
        logits.double().log_softmax(-1),
        torch.tensor([label for name in names for label in targets[name]]),
        torch.tensor(lengths),
        torch.tensor([len(targets[name]) for name in names]),
        blank=3,
        reduction="sum",
    ) / len(names)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient(logits, loss), gradient(logits, expected), rtol=1e-3, atol=1e-5)


# --- dtypes, layouts, lengths


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("from_logits", [False, True])
def test_any_float_dtype_is_accepted_and_its_gradient_has_that_dtype(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, dtype: Any, from_logits: bool
) -> None:
    lengths = module_sprint_env.frames(NAMES)
    logits = random_logits(lengths, seed=2)
    given = (logits if from_logits else logits.log_softmax(-1)).to(dtype).requires_grad_()
    loss = sprint_loss(shared, given, lengths, NAMES, reduction="none", from_logits=from_logits)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    # The reference receives the same rounded input.
    exact = given.detach().double().requires_grad_()
    expected = reference(exact.log_softmax(-1) if from_logits else exact, lengths, NAMES)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    weights = torch.rand(len(NAMES), dtype=loss.dtype)
    computed = gradient(given, loss, weights)
    assert computed.dtype == dtype
    tolerance = {torch.float16: 1e-3, torch.bfloat16: 8e-3}.get(dtype, 1e-5)
    torch.testing.assert_close(computed.double(), gradient(exact, expected, weights), rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("frames", [30000, 70001])
def test_a_segment_of_several_blocks_arrives_complete(sprint_env: SprintEnv, dtype: Any, frames: int) -> None:
    # The error signal is twice the posteriors: see PRELUDE.
    body = "init().run_control_loop(callback=callback)"
    log_probs = torch.randn(frames, 1, 4).to(dtype).requires_grad_()
    with sprint_env.scripted_pool(body, use_python_segment_order=False, ring_size=1 << 22) as pool:
        sprint_loss(pool, log_probs, [frames], ["c/s1"]).backward()
    assert torch.equal(log_probs.grad, 2 * log_probs.detach())


def test_any_strides_are_accepted(module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool) -> None:
    lengths = module_sprint_env.frames(NAMES)
    plain = random_logits(lengths, seed=3).log_softmax(-1)
    expected = sprint_loss(shared, plain, lengths, NAMES, reduction="none")
    for order in ((2, 1, 0), (1, 0, 2), (0, 2, 1)):
        strided = plain.permute(order).contiguous().permute(*np.argsort(order).tolist()).requires_grad_()
        assert not strided.is_contiguous()
        loss = sprint_loss(shared, strided, lengths, NAMES, reduction="none")
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(
            gradient(strided, loss.sum()),
            gradient(strided, reference(strided, lengths, NAMES).sum()).float(),
            rtol=1e-4,
            atol=1e-5,
        )
    every_other = torch.stack([plain, torch.full_like(plain, 7)], -1)[..., 0]
    torch.testing.assert_close(sprint_loss(shared, every_other, lengths, NAMES, reduction="none"), expected)


@pytest.mark.parametrize("kind", ["list", "numpy", "int32", "int64", "uint8"])
def test_lengths_may_have_any_integer_type(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, kind: str
) -> None:
    names = ["kórpus/rec/one", "kórpus/rec/two"]
    lengths = module_sprint_env.frames(names)
    given = {
        "list": lambda: lengths,
        "numpy": lambda: np.array(lengths, np.int16),
        "int32": lambda: torch.tensor(lengths, dtype=torch.int32),
        "int64": lambda: torch.tensor(lengths),
        "uint8": lambda: torch.tensor(lengths, dtype=torch.uint8),
    }[kind]()
    log_probs = random_logits(lengths).log_softmax(-1)
    loss = sprint_loss(shared, log_probs, given, names, reduction="none")
    torch.testing.assert_close(loss.double(), reference(log_probs, lengths, names), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_lazily_negated_view_is_accepted(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, dtype: Any
) -> None:
    """The imaginary part of a conjugate is such a view: torch negates its elements on reading."""
    lengths = module_sprint_env.frames(NAMES)
    plain = random_logits(lengths).log_softmax(-1).to(dtype)
    negated = torch._neg_view(-plain)
    assert negated.is_neg()
    assert sprint_loss(shared, negated, lengths, NAMES) == sprint_loss(shared, plain, lengths, NAMES)


@pytest.mark.parametrize(
    "kind",
    [tuple, np.array, lambda names: [name.encode() for name in names]],
    ids=["tuple", "numpy", "bytes"],
)
def test_segment_names_may_be_any_sequence_of_str_or_bytes_and_errors_quote_them_plainly(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, kind: Any
) -> None:
    names = [NAMES[0], module_sprint_env.SHORT]
    lengths = module_sprint_env.frames(names)
    log_probs = random_logits(lengths).log_softmax(-1)
    expected = sprint_loss(shared, log_probs, lengths, names)
    assert sprint_loss(shared, log_probs, lengths, kind(names)) == expected
    with pytest.raises(shmbridge.BatchError, match="skipped the segments 'kórpus/rec/short', often"):
        sprint_loss(shared, log_probs, lengths, kind(names), skipped="error")
    with pytest.raises(shmbridge.BatchError, match="segment 'kórpus/rec/short' has 0 frames"):
        sprint_loss(shared, log_probs, [lengths[0], 0], kind(names))


@pytest.mark.parametrize("from_logits", [False, True])
def test_values_beyond_the_length_are_ignored(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, from_logits: bool
) -> None:
    names = ["kórpus/rec/one", "kórpus/rec/last"]
    lengths = module_sprint_env.frames(names)
    log_probs = random_logits(lengths).log_softmax(-1)
    log_probs[lengths[0] :, 0] = float("nan")
    log_probs.requires_grad_()
    loss = sprint_loss(shared, log_probs, lengths, names, from_logits=from_logits)
    assert loss.isfinite()
    computed = gradient(log_probs, loss)
    assert (computed[lengths[0] :, 0] == 0).all()
    assert (computed[: lengths[0], 0] != 0).all()


@pytest.mark.parametrize("lengths", [torch.zeros(0, dtype=torch.int64), []], ids=["tensor", "list"])
def test_an_empty_batch_has_loss_zero(shared: shmbridge.SprintInstancePool, lengths: Any) -> None:
    log_probs = torch.zeros(3, 0, 4, requires_grad=True)
    loss = sprint_loss(shared, log_probs, lengths, [], reduction="sum")
    loss.backward()
    assert loss == 0
    assert log_probs.grad.shape == (3, 0, 4)
    assert sprint_loss(shared, log_probs, lengths, []).isnan()


# --- autograd


def test_without_gradients_the_loss_is_the_same(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    lengths = module_sprint_env.frames(NAMES)
    log_probs = random_logits(lengths).log_softmax(-1).requires_grad_()
    with_gradient = sprint_loss(shared, log_probs, lengths, NAMES)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            loss = sprint_loss(shared, log_probs, lengths, NAMES)
            assert not loss.requires_grad
            torch.testing.assert_close(loss, with_gradient)
    assert not sprint_loss(shared, log_probs.detach(), lengths, NAMES).requires_grad


def test_gradients_accumulate_over_backward_calls_and_losses(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    lengths = module_sprint_env.frames(NAMES)
    logits = random_logits(lengths).requires_grad_()
    loss = sprint_loss(shared, logits.log_softmax(-1), lengths, NAMES)
    once = gradient(logits, loss)
    loss.backward(retain_graph=True)
    loss.backward(retain_graph=True)
    (3 * loss + sprint_loss(shared, logits, lengths, NAMES, from_logits=True)).backward()
    torch.testing.assert_close(logits.grad, 6 * once, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("from_logits", [False, True])
def test_a_second_derivative_is_an_error(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, from_logits: bool
) -> None:
    """A penalty on the gradient would otherwise be silently wrong, even if it only concerns the softmax."""
    lengths = module_sprint_env.frames(NAMES)
    logits = random_logits(lengths).requires_grad_()
    given = 2 * logits * logits if from_logits else logits.log_softmax(-1)
    loss = sprint_loss(shared, given, lengths, NAMES, from_logits=from_logits)
    with pytest.raises(shmbridge.UsageError, match="create_graph=True requests a second derivative"):
        torch.autograd.grad(loss, logits, create_graph=True, retain_graph=True)
    # A penalty on the gradient of another loss may be added to this loss.
    alone = gradient(logits, loss)
    (slope,) = torch.autograd.grad(logits.pow(2).sum(), logits, create_graph=True)
    penalty = slope.pow(2).sum()
    torch.testing.assert_close(gradient(logits, loss + penalty), alone + 8 * logits)


# --- segments that Sprint skips


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_skipped_segments_contribute_nothing(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, reduction: str, from_logits: bool
) -> None:
    names = [NAMES[0], module_sprint_env.SHORT, NAMES[1]]
    lengths = module_sprint_env.frames(names)
    logits = random_logits(lengths).requires_grad_()
    given = logits if from_logits else logits.log_softmax(-1)
    loss = sprint_loss(shared, given, lengths, names, reduction=reduction, from_logits=from_logits)
    others = reference(logits.log_softmax(-1)[:, ::2], lengths[::2], names[::2])
    if reduction == "none":
        assert loss[1] == 0
        loss, expected = loss.sum(), others.sum()
    else:
        expected = reduce(others, reduction)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    computed = gradient(logits, loss)
    assert (computed[:, 1] == 0).all()
    torch.testing.assert_close(computed, gradient(logits, expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_skipped_segments_may_have_an_infinite_loss_and_still_have_no_gradient(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, reduction: str
) -> None:
    names = [NAMES[0], module_sprint_env.SHORT]
    lengths = module_sprint_env.frames(names)
    log_probs = random_logits(lengths).log_softmax(-1).requires_grad_()
    criterion = SprintLoss(shared, reduction=reduction, skipped="inf")
    loss = criterion(log_probs, lengths, names)
    assert loss.isinf().tolist() == ([False, True] if reduction == "none" else True)
    computed = gradient(log_probs, loss.sum())
    assert (computed[:, 1] == 0).all()
    assert (computed[: lengths[0], 0] != 0).all()
    # An incoming NaN for the skipped segment does not matter either.
    if reduction == "none":
        computed = gradient(log_probs, loss, torch.tensor([1.0, float("nan")]))
        assert (computed[:, 1] == 0).all()
        assert computed.isfinite().all()


def test_skipped_segments_may_raise_an_error_that_names_them(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    names = [NAMES[0], module_sprint_env.SHORT]
    lengths = module_sprint_env.frames(names)
    criterion = SprintLoss(shared, skipped="error")
    log_probs = random_logits(lengths).log_softmax(-1)
    with pytest.raises(shmbridge.BatchError, match="skipped the segments 'kórpus/rec/short', often"):
        criterion(log_probs, lengths, names)
    assert criterion(log_probs[:, :1], lengths[:1], names[:1]).isfinite()


@pytest.mark.parametrize(("skipped", "expected"), [("zero", float("nan")), ("inf", float("inf"))])
def test_the_mean_over_no_answered_segment_is_nan_and_its_gradient_zero(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, skipped: str, expected: float
) -> None:
    lengths = module_sprint_env.frames([module_sprint_env.SHORT])
    log_probs = random_logits(lengths).log_softmax(-1).requires_grad_()
    loss = sprint_loss(shared, log_probs, lengths, [module_sprint_env.SHORT], skipped=skipped)
    torch.testing.assert_close(loss, torch.tensor(expected), equal_nan=True)
    assert (gradient(log_probs, loss) == 0).all()


# --- errors


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("from_logits", [False, True])
def test_a_nan_raises_with_its_position_and_the_next_batch_works(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, dtype: Any, from_logits: bool
) -> None:
    names = NAMES[:2]
    lengths = module_sprint_env.frames(names)
    log_probs = random_logits(lengths).log_softmax(-1).to(dtype)
    log_probs[2, 0, 0] = float("nan")
    where = "time 2, label 0"
    with pytest.raises(shmbridge.BatchError, match=rf"größe' \(index 0 of the batch\) are NaN at {where}"):
        sprint_loss(shared, log_probs, lengths, names, from_logits=from_logits)
    module_sprint_env.check(shared, names)


def test_an_error_of_torch_in_the_middle_of_a_batch_leaves_the_pool_usable(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    names = NAMES[:2]
    lengths = module_sprint_env.frames(names)
    without_memory = torch.empty(max(lengths), 2, 4, device="meta")
    try:
        sprint_loss(shared, without_memory, lengths, names)
    except NotImplementedError:  # here its traceback is still alive
        module_sprint_env.check(shared, names)
    else:
        pytest.fail("a tensor without data was sent")


@pytest.mark.parametrize("from_logits", [False, True])
def test_tensors_without_values_are_not_sent(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, from_logits: bool
) -> None:
    """In this mode torch writes to no memory: Sprint would receive the ring's old contents."""
    names = NAMES[:2]
    lengths = module_sprint_env.frames(names)
    with FakeTensorMode(), pytest.raises(shmbridge.BatchError, match="makes a FakeTensor of shared memory"):
        sprint_loss(shared, torch.empty(max(lengths), 2, 4), lengths, names, from_logits=from_logits)
    module_sprint_env.check(shared, names)


@pytest.mark.parametrize(
    ("log_probs", "lengths", "segment_names", "expected"),
    [
        (np.zeros((3, 1, 4), np.float32), [3], ["kórpus/rec/one"], "of type ndarray"),
        (torch.zeros(3, 4), [3], ["kórpus/rec/one"], r"shape \(3, 4\); it must be \(time,batch,label\)"),
        (torch.zeros(3, 1, 4, dtype=torch.int32), [3], ["kórpus/rec/one"], "dtype torch.int32"),
        (torch.zeros(3, 1, 4).to_sparse(), [3], ["kórpus/rec/one"], "layout torch.sparse_coo"),
        (
            torch.nested.nested_tensor([torch.zeros(3, 4)], layout=torch.jagged),
            [3],
            ["kórpus/rec/one"],
            "layout nested",
        ),
        (torch.zeros(3, 1, 4), [4], ["kórpus/rec/one"], r"seq_lengths\[0\] is 4 .* has 3 frames"),
        (torch.zeros(3, 1, 4), [0], ["kórpus/rec/one"], "0 frames"),
        (torch.zeros(3, 1, 4), [3.0], ["kórpus/rec/one"], "dtype float64"),
        (torch.zeros(3, 1, 4), [3, 3], ["kórpus/rec/one"], "all three must agree"),
        (torch.zeros(3, 1, 4), [3], ["a", "b"], "all three must agree"),
        (torch.zeros(3, 1, 4), [3], "kórpus/rec/one", "are 'kórpus/rec/one', a single name"),
        (torch.zeros(2, 3, 4), [3, 3], ["a", "b"], "Time and batch seem to be swapped.*batch_first"),
        (torch.zeros(1, 3, 4), [3], ["a"], "Time and batch seem to be swapped.*batch_first"),
        (torch.zeros(3, 1, 5), [3], ["kórpus/rec/one"], "5 labels; the option num_labels is 4"),
    ],
)
def test_an_invalid_batch_is_rejected_and_nothing_is_sent(
    sprint_env: SprintEnv, log_probs: Any, lengths: Any, segment_names: Any, expected: str
) -> None:
    with sprint_env.pool("loop", num_labels=4) as pool:
        with pytest.raises(shmbridge.BatchError, match=expected):
            sprint_loss(pool, log_probs, lengths, segment_names)
        assert pool.stats().posteriors_bytes == 0


def test_the_error_for_batch_first_names_its_order_of_axes(shared: shmbridge.SprintInstancePool) -> None:
    with pytest.raises(shmbridge.BatchError, match=r"it must be \(batch,time,label\)"):
        sprint_loss(shared, torch.zeros(3, 4), [3], ["kórpus/rec/one"], batch_first=True)


def test_a_batch_in_time_order_with_batch_first_is_an_error_that_names_the_option(
    shared: shmbridge.SprintInstancePool,
) -> None:
    with pytest.raises(shmbridge.BatchError, match=r"Time and batch seem to be swapped.*batch_first"):
        sprint_loss(shared, torch.zeros(3, 2, 4), [3, 3], ["a", "b"], batch_first=True)


@pytest.mark.parametrize("pool", [None, shmbridge.SprintInstancePool, "refsprint"], ids=repr)
def test_something_else_than_a_pool_is_rejected(pool: Any) -> None:
    with pytest.raises(shmbridge.OptionError, match=r"pool is .*; it must be the shmbridge\.SprintInst"):
        SprintLoss(pool)
    with pytest.raises(shmbridge.OptionError, match="pool is "):
        sprint_loss(pool, torch.zeros(3, 1, 4), [3], ["kórpus/rec/one"])


@pytest.mark.parametrize(
    ("option", "value"), [("reduction", "avg"), ("skipped", "skip"), ("reduction", None)]
)
def test_an_invalid_choice_is_rejected_with_the_valid_ones(
    shared: shmbridge.SprintInstancePool, option: str, value: Any
) -> None:
    with pytest.raises(shmbridge.OptionError, match=f"{option} is {value!r}; it must be one of '"):
        SprintLoss(shared, **{option: value})
    with pytest.raises(shmbridge.OptionError, match=f"{option} is {value!r}"):
        sprint_loss(shared, torch.zeros(3, 1, 4), [3], ["kórpus/rec/one"], **{option: value})


def test_errors_of_sprint_are_raised(shared: shmbridge.SprintInstancePool) -> None:
    with pytest.raises(shmbridge.RemoteError, match="kórpus/rec/nowhere"):
        sprint_loss(shared, torch.zeros(3, 1, 4), [3], ["kórpus/rec/nowhere"])


def test_the_module_prints_its_options_and_has_no_state(shared: shmbridge.SprintInstancePool) -> None:
    criterion = SprintLoss(shared, reduction="sum", from_logits=True)
    assert "reduction='sum'" in repr(criterion)
    assert "from_logits=True" in repr(criterion)
    assert "children" in repr(criterion)
    assert criterion.state_dict() == {}
    assert list(criterion.parameters()) == []


def test_old_names_of_arguments_work_with_one_warning(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    names = [module_sprint_env.SHORT]
    log_probs = random_logits(module_sprint_env.frames(names))
    with pytest.warns(DeprecationWarning, match="'discarded' is deprecated; use 'skipped'") as init_warnings:
        criterion = SprintLoss(shared, discarded="inf")
    with pytest.warns(DeprecationWarning, match="'tags' is deprecated; use 'segment_names'") as call_warnings:
        assert criterion(log_probs, [2], tags=names) == float("inf")
    with pytest.warns(DeprecationWarning, match="is deprecated") as function_warnings:
        assert sprint_loss(shared, log_probs, [2], tags=names, discarded="inf") == float("inf")
    for warnings, count in ((init_warnings, 1), (call_warnings, 1), (function_warnings, 2)):
        assert [warning.filename for warning in warnings] == [__file__] * count
