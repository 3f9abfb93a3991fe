"""SprintLoss and its gradients, against torch's own CTC, all paths one by one and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import shmbridge
from support.packages import import_or_skip

torch = import_or_skip("torch")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402 - only where there is torch

from shmbridge.torch import SprintLoss, sprint_loss  # noqa: E402

# Those of the corpus that have one pronunciation only, which is all that torch's CTC takes.
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
def shared(module_sprint_env: Any) -> Any:
    with module_sprint_env.pool("loop", num_instances=2) as pool:
        yield pool


def random_logits(lengths: Any, seed: int = 0, dtype: Any = torch.float32) -> Any:
    """(time,batch,label)."""
    values = np.random.default_rng(seed).normal(size=(max(lengths), len(lengths), 4))
    return torch.tensor(values, dtype=dtype)


def reference(log_probs: Any, lengths: Any, names: Any) -> Any:
    """Torch's CTC of each segment, in float64."""
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


# --- loss and gradient are those of CTC


@pytest.mark.parametrize("way", ["iterate", "trainer", "loop"])
def test_loss_and_gradient_are_those_of_all_paths_summed(sprint_env: Any, way: str) -> None:
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
def test_the_gradient_before_the_softmax_is_that_of_torchs_ctc(
    module_sprint_env: Any, shared: Any, reduction: str, batch_first: bool, from_logits: bool
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


def test_the_gradient_behind_the_softmax_is_that_of_torchs_ctc_too(
    module_sprint_env: Any, shared: Any
) -> None:
    lengths = module_sprint_env.frames(NAMES)
    log_probs = random_logits(lengths).log_softmax(-1).requires_grad_()
    weights = torch.rand(len(NAMES))
    loss = sprint_loss(shared, log_probs, lengths, NAMES, reduction="none")
    expected = reference(log_probs, lengths, NAMES)
    torch.testing.assert_close(
        gradient(log_probs, loss, weights), gradient(log_probs, expected, weights), rtol=1e-4, atol=1e-5
    )


def test_the_softmax_maps_the_error_signal_to_itself(module_sprint_env: Any, shared: Any) -> None:
    lengths = module_sprint_env.frames(NAMES)
    logits = random_logits(lengths).requires_grad_()
    log_probs = logits.log_softmax(-1)
    loss = sprint_loss(shared, log_probs, lengths, NAMES, reduction="sum")
    behind, before = gradient(log_probs, loss), gradient(logits, loss)
    assert behind.abs().max() > 0.1
    torch.testing.assert_close(behind.sum(-1), torch.zeros(behind.shape[:2]), rtol=0, atol=1e-6)
    torch.testing.assert_close(behind, before, rtol=0, atol=1e-6)


@pytest.mark.parametrize("from_logits", [False, True])
def test_the_gradient_agrees_with_finite_differences(
    module_sprint_env: Any, shared: Any, from_logits: bool
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
    step = 1e-2  # what is lost in float32 weighs as much as the step's square
    for index in np.ndindex(*logits.shape):
        ends = []
        for direction in (step, -step):
            moved = logits.detach().clone()
            moved[index] += direction
            ends.append(loss(moved).item())
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(computed[index].item(), abs=1e-3)


def test_long_segments_agree_with_torchs_ctc(sprint_env: Any) -> None:
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
def test_any_float_dtype_is_taken_and_its_gradient_is_of_that_dtype(
    module_sprint_env: Any, shared: Any, dtype: Any, from_logits: bool
) -> None:
    lengths = module_sprint_env.frames(NAMES)
    logits = random_logits(lengths, seed=2)
    given = (logits if from_logits else logits.log_softmax(-1)).to(dtype).requires_grad_()
    loss = sprint_loss(shared, given, lengths, NAMES, reduction="none", from_logits=from_logits)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    # What was lost when the input was rounded is lost for both.
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
def test_a_segment_of_more_than_one_block_arrives_whole(sprint_env: Any, dtype: Any, frames: int) -> None:
    # Twice the posteriors come back: see PRELUDE.
    body = "init().run_control_loop(callback=callback)"
    log_probs = torch.randn(frames, 1, 4).to(dtype).requires_grad_()
    with sprint_env.scripted_pool(body, use_python_segment_order=False, ring_size=1 << 22) as pool:
        sprint_loss(pool, log_probs, [frames], ["c/s1"]).backward()
    assert torch.equal(log_probs.grad, 2 * log_probs.detach())


def test_any_strides_are_taken(module_sprint_env: Any, shared: Any) -> None:
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
def test_lengths_may_be_any_integers(module_sprint_env: Any, shared: Any, kind: str) -> None:
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
def test_a_view_that_is_only_marked_as_negated_is_taken(
    module_sprint_env: Any, shared: Any, dtype: Any
) -> None:
    """Such as the imaginary part of a conjugate: torch negates it when it is read."""
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
def test_tags_may_be_of_any_kind_and_an_error_shows_the_names_alone(
    module_sprint_env: Any, shared: Any, kind: Any
) -> None:
    names = [NAMES[0], module_sprint_env.SHORT]
    lengths = module_sprint_env.frames(names)
    log_probs = random_logits(lengths).log_softmax(-1)
    expected = sprint_loss(shared, log_probs, lengths, names)
    assert sprint_loss(shared, log_probs, lengths, kind(names)) == expected
    with pytest.raises(shmbridge.BatchError, match="discarded the segments 'kórpus/rec/short': its log says"):
        sprint_loss(shared, log_probs, lengths, kind(names), discarded="error")
    with pytest.raises(shmbridge.BatchError, match="segment 'kórpus/rec/short' has 0 frames"):
        sprint_loss(shared, log_probs, [lengths[0], 0], kind(names))


@pytest.mark.parametrize("from_logits", [False, True])
def test_what_lies_beyond_the_length_does_not_matter(
    module_sprint_env: Any, shared: Any, from_logits: bool
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
def test_an_empty_batch_has_the_loss_zero(shared: Any, lengths: Any) -> None:
    log_probs = torch.zeros(3, 0, 4, requires_grad=True)
    loss = sprint_loss(shared, log_probs, lengths, [])
    loss.backward()
    assert loss == 0
    assert log_probs.grad.shape == (3, 0, 4)


# --- autograd


def test_without_gradients_there_is_the_loss_alone(module_sprint_env: Any, shared: Any) -> None:
    lengths = module_sprint_env.frames(NAMES)
    log_probs = random_logits(lengths).log_softmax(-1).requires_grad_()
    with_gradient = sprint_loss(shared, log_probs, lengths, NAMES)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            loss = sprint_loss(shared, log_probs, lengths, NAMES)
            assert not loss.requires_grad
            torch.testing.assert_close(loss, with_gradient)
    assert not sprint_loss(shared, log_probs.detach(), lengths, NAMES).requires_grad


def test_gradients_add_up_over_backwards_and_losses(module_sprint_env: Any, shared: Any) -> None:
    lengths = module_sprint_env.frames(NAMES)
    logits = random_logits(lengths).requires_grad_()
    loss = sprint_loss(shared, logits.log_softmax(-1), lengths, NAMES)
    once = gradient(logits, loss)
    loss.backward(retain_graph=True)
    loss.backward(retain_graph=True)
    (3 * loss + sprint_loss(shared, logits, lengths, NAMES, from_logits=True)).backward()
    torch.testing.assert_close(logits.grad, 6 * once, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("from_logits", [False, True])
def test_a_second_derivative_is_an_error(module_sprint_env: Any, shared: Any, from_logits: bool) -> None:
    """Also where it would come from the softmax alone: a penalty on the gradient would be wrong silently."""
    lengths = module_sprint_env.frames(NAMES)
    logits = random_logits(lengths).requires_grad_()
    given = 2 * logits * logits if from_logits else logits.log_softmax(-1)
    loss = sprint_loss(shared, given, lengths, NAMES, from_logits=from_logits)
    with pytest.raises(shmbridge.UsageError, match="create_graph=True asks for a second derivative"):
        torch.autograd.grad(loss, logits, create_graph=True, retain_graph=True)
    # Beside a penalty on the gradient of another loss it goes on as ever.
    alone = gradient(logits, loss)
    (slope,) = torch.autograd.grad(logits.pow(2).sum(), logits, create_graph=True)
    penalty = slope.pow(2).sum()
    torch.testing.assert_close(gradient(logits, loss + penalty), alone + 8 * logits)


# --- segments that Sprint discards


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_discarded_segments_contribute_nothing(
    module_sprint_env: Any, shared: Any, reduction: str, from_logits: bool
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
def test_discarded_segments_may_have_an_infinite_loss_and_still_no_gradient(
    module_sprint_env: Any, shared: Any, reduction: str
) -> None:
    names = [NAMES[0], module_sprint_env.SHORT]
    lengths = module_sprint_env.frames(names)
    log_probs = random_logits(lengths).log_softmax(-1).requires_grad_()
    criterion = SprintLoss(shared, reduction=reduction, discarded="inf")
    loss = criterion(log_probs, lengths, names)
    assert loss.isinf().tolist() == ([False, True] if reduction == "none" else True)
    computed = gradient(log_probs, loss.sum())
    assert (computed[:, 1] == 0).all()
    assert (computed[: lengths[0], 0] != 0).all()
    # Whatever comes in for the discarded one, 0 / 0 included.
    if reduction == "none":
        computed = gradient(log_probs, loss, torch.tensor([1.0, float("nan")]))
        assert (computed[:, 1] == 0).all()
        assert computed.isfinite().all()


def test_discarded_segments_may_be_an_error_that_names_them(module_sprint_env: Any, shared: Any) -> None:
    names = [NAMES[0], module_sprint_env.SHORT]
    lengths = module_sprint_env.frames(names)
    criterion = SprintLoss(shared, discarded="error")
    log_probs = random_logits(lengths).log_softmax(-1)
    with pytest.raises(
        shmbridge.BatchError, match=r"discarded the segments 'kórpus/rec/short': its log says"
    ):
        criterion(log_probs, lengths, names)
    assert criterion(log_probs[:, :1], lengths[:1], names[:1]).isfinite()


@pytest.mark.parametrize(("discarded", "expected"), [("zero", 0.0), ("inf", float("inf"))])
def test_where_all_are_discarded_the_mean_is_no_nan(
    module_sprint_env: Any, shared: Any, discarded: str, expected: float
) -> None:
    lengths = module_sprint_env.frames([module_sprint_env.SHORT])
    log_probs = random_logits(lengths).log_softmax(-1).requires_grad_()
    loss = sprint_loss(shared, log_probs, lengths, [module_sprint_env.SHORT], discarded=discarded)
    assert loss == expected
    assert (gradient(log_probs, loss) == 0).all()


# --- what goes wrong


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("from_logits", [False, True])
def test_a_nan_is_an_error_with_its_place_and_the_next_batch_goes_on(
    module_sprint_env: Any, shared: Any, dtype: Any, from_logits: bool
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
    module_sprint_env: Any, shared: Any
) -> None:
    names = NAMES[:2]
    lengths = module_sprint_env.frames(names)
    without_memory = torch.empty(max(lengths), 2, 4, device="meta")
    try:
        sprint_loss(shared, without_memory, lengths, names)
    except NotImplementedError:  # and while its traceback lives:
        module_sprint_env.check(shared, names)
    else:
        pytest.fail("a tensor without data was sent")


@pytest.mark.parametrize("from_logits", [False, True])
def test_tensors_that_have_no_values_are_not_sent(
    module_sprint_env: Any, shared: Any, from_logits: bool
) -> None:
    """In this mode torch writes to no memory: what lay in the ring would go to Sprint."""
    names = NAMES[:2]
    lengths = module_sprint_env.frames(names)
    with FakeTensorMode(), pytest.raises(shmbridge.BatchError, match="makes a FakeTensor of the ring"):
        sprint_loss(shared, torch.empty(max(lengths), 2, 4), lengths, names, from_logits=from_logits)
    module_sprint_env.check(shared, names)


@pytest.mark.parametrize(
    ("log_probs", "lengths", "tags", "expected"),
    [
        (np.zeros((3, 1, 4), np.float32), [3], ["kórpus/rec/one"], "of type ndarray"),
        (torch.zeros(3, 4), [3], ["kórpus/rec/one"], r"shape \(3, 4\); it has to be \(time,batch,label\)"),
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
        (torch.zeros(3, 1, 4), [3, 3], ["kórpus/rec/one"], "all three have to agree"),
        (torch.zeros(3, 1, 4), [3], ["a", "b"], "all three have to agree"),
        (torch.zeros(3, 2, 4), [3, 3], ["a", "a"], "more than once"),
        (torch.zeros(3, 1, 5), [3], ["kórpus/rec/one"], "5 labels, Sprint's model has 4"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(
    sprint_env: Any, log_probs: Any, lengths: Any, tags: Any, expected: str
) -> None:
    with sprint_env.pool("loop", num_labels=4) as pool:
        with pytest.raises(shmbridge.BatchError, match=expected):
            sprint_loss(pool, log_probs, lengths, tags)
        assert pool.stats().posteriors_bytes == 0


def test_batch_first_says_its_own_order_of_axes(shared: Any) -> None:
    with pytest.raises(shmbridge.BatchError, match=r"it has to be \(batch,time,label\)"):
        sprint_loss(shared, torch.zeros(3, 4), [3], ["kórpus/rec/one"], batch_first=True)


@pytest.mark.parametrize(
    ("option", "value"), [("reduction", "avg"), ("discarded", "skip"), ("reduction", None)]
)
def test_an_option_that_there_is_not_is_refused_with_those_that_there_are(
    shared: Any, option: str, value: Any
) -> None:
    with pytest.raises(shmbridge.OptionError, match=f"{option} is {value!r}; it has to be one of '"):
        SprintLoss(shared, **{option: value})
    with pytest.raises(shmbridge.OptionError, match=f"{option} is {value!r}"):
        sprint_loss(shared, torch.zeros(3, 1, 4), [3], ["kórpus/rec/one"], **{option: value})


def test_errors_of_sprint_come_through(shared: Any) -> None:
    with pytest.raises(shmbridge.RemoteError, match="kórpus/rec/nowhere"):
        sprint_loss(shared, torch.zeros(3, 1, 4), [3], ["kórpus/rec/nowhere"])


def test_it_prints_its_options_and_has_no_state(shared: Any) -> None:
    criterion = SprintLoss(shared, reduction="sum", from_logits=True)
    assert "reduction='sum'" in repr(criterion)
    assert "from_logits=True" in repr(criterion)
    assert "children" in repr(criterion)
    assert criterion.state_dict() == {}
    assert list(criterion.parameters()) == []
