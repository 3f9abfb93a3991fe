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
from shmbridge.torch import SprintLoss  # noqa: E402 - requires torch

FEATURES = 5
CRITERIA = pytest.mark.parametrize("criterion", ["mmi", "me"])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> rasr.Files:
    return rasr.write(tmp_path_factory.mktemp("lattices"), rasr.make_task(labels=10, segments=3, frames=30))


@pytest.fixture
def pool_of(files: rasr.Files) -> Callable[[str], shmbridge.SprintInstancePool]:
    command = [sys.executable, "-m", "shmbridge.refsprint.lattice_processor"]
    return lambda criterion: shmbridge.SprintInstancePool(command, **files.options(criterion))


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
@pytest.mark.parametrize("from_logits", [False, True])
def test_the_gradient_is_that_of_the_loss(
    files: rasr.Files, pool_of: Any, criterion: str, from_logits: bool
) -> None:
    features, lengths, names = batch(files)
    model = network()
    with pool_of(criterion) as pool:
        criterion_of = SprintLoss(pool, reduction="sum", from_logits=from_logits)

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
