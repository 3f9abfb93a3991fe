"""SprintLoss with MMI and minimum error, from ref-lattice-processor."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmbridge
from support.packages import import_or_skip

torch = import_or_skip("torch")

sys.path.append(str(Path(__file__).resolve().parents[2]))  # examples/ is not installed

from examples import rasr  # noqa: E402
from shmbridge.torch import SprintLoss, sprint_loss  # noqa: E402 - requires torch

FEATURES = 5
CRITERIA = pytest.mark.parametrize("criterion", ["mmi", "me"])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> rasr.Files:
    return rasr.write(tmp_path_factory.mktemp("lattices"), rasr.make_task(labels=10, segments=3, frames=30))


@pytest.fixture
def pool_of(files: rasr.Files) -> Callable[..., shmbridge.SprintInstancePool]:
    """Return a function of the criterion and of the acoustic scale that starts a pool."""

    def start(criterion: str, acoustic_scale: float = 1.0) -> shmbridge.SprintInstancePool:
        options = files.options(criterion)
        accuracy_scale = [0.0] if criterion == "me" else []
        scales = " ".join(map(str, [acoustic_scale, *accuracy_scale, 1.0]))
        options["sprint_config"] += [f"--*.combination.total.scales={scales}"]
        return shmbridge.SprintInstancePool(
            [sys.executable, "-m", "shmbridge.refsprint.lattice_processor"], **options
        )

    return start


def batch(files: rasr.Files) -> tuple[Any, list[int], list[str]]:
    """Return features (time,batch,FEATURES), lengths and names."""
    segments = files.task.segments[:-1]
    lengths = [segment.frames for segment in segments]
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(max(lengths), len(segments), FEATURES, generator=generator)
    return features, lengths, [segment.full_name for segment in segments]


def network() -> Any:
    torch.manual_seed(2)
    return torch.nn.Linear(FEATURES, 10)


@CRITERIA
@pytest.mark.parametrize(("acoustic_scale", "from_logits"), [(1.0, False), (0.3, True), (2.5, False)])
def test_the_gradient_is_that_of_the_loss(
    files: rasr.Files, pool_of: Any, criterion: str, acoustic_scale: float, from_logits: bool
) -> None:
    features, lengths, names = batch(files)
    model = network()
    with pool_of(criterion, acoustic_scale) as pool:
        criterion_of = SprintLoss(
            pool, reduction="sum", from_logits=from_logits, error_signal_scale=acoustic_scale
        )

        def loss() -> Any:
            logits = model(features)
            return criterion_of(logits if from_logits else logits.log_softmax(-1), lengths, names)

        value = loss()
        assert (value.item() >= 0) or criterion == "me"
        value.backward()
        gradient = model.weight.grad.clone()
        step, direction = 1e-2, gradient / gradient.norm()
        values = []
        with torch.no_grad():
            for sign in (1, -2):
                model.weight += sign * step * direction
                values.append(loss().item())
        slope = (values[0] - values[1]) / (2 * step)
        assert slope == pytest.approx(gradient.norm().item(), rel=1e-2)


def test_the_scale_of_the_error_signal_scales_the_gradient_alone(files: rasr.Files, pool_of: Any) -> None:
    features, lengths, names = batch(files)
    losses, gradients = [], []
    with pool_of("mmi") as pool:
        for scale in (1.0, 3.0):
            log_probs = network()(features).log_softmax(-1).detach().requires_grad_()
            loss = sprint_loss(pool, log_probs, lengths, names, error_signal_scale=scale)
            loss.backward()
            losses.append(loss.item())
            gradients.append(log_probs.grad)
    assert losses[0] == losses[1]
    torch.testing.assert_close(gradients[1], 3 * gradients[0])


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf"), "1", True, None])
def test_an_invalid_scale_of_the_error_signal_is_refused(pool_of: Any, scale: Any) -> None:
    with pool_of("mmi") as pool:
        with pytest.raises(shmbridge.OptionError, match="error_signal_scale is"):
            SprintLoss(pool, error_signal_scale=scale)
        with pytest.raises(shmbridge.OptionError, match="error_signal_scale is"):
            sprint_loss(pool, torch.zeros(1, 1, 10), [1], ["x"], error_signal_scale=scale)


@CRITERIA
def test_training_reduces_the_loss(files: rasr.Files, pool_of: Any, criterion: str) -> None:
    features, lengths, names = batch(files)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with pool_of(criterion) as pool:
        sequence_loss = SprintLoss(pool)
        losses = []
        for _ in range(12):
            loss = sequence_loss(model(features).log_softmax(-1), lengths, names)
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert losses[-1] < losses[0] - 0.1
