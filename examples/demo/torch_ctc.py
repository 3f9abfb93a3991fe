"""A PyTorch network trained with SprintLoss on the data of the demonstration.

    python -m examples.demo.torch_ctc      # from the root of the repository, with the extra `torch`

What to look at is `train`: the rest is a small network. Sprint is the stand-in refsprint.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from shmbridge import ShmbridgeError, SprintInstancePool
from shmbridge.torch import SprintLoss

from . import data, sprint

EPOCHS = 4
STRIDE = 3  # frames of 10 ms to 30 ms


def network(bands: int, labels: int) -> torch.nn.Module:
    """Logits (batch,label,ceil(time / 3)) of log-mel features (batch,band,time)."""
    return torch.nn.Sequential(
        torch.nn.Conv1d(bands, 96, 11, stride=STRIDE, padding=5),
        torch.nn.ReLU(),
        torch.nn.Conv1d(96, 160, 7, padding=3),
        torch.nn.ReLU(),
        torch.nn.Conv1d(160, labels, 1),
    )


def train(corpus: data.Corpus, pool: SprintInstancePool) -> None:
    """Train on the training set, and say the loss per segment of each epoch, in training and held out."""
    model = network(corpus.train[0].features.shape[1], len(corpus.labels))
    criterion = SprintLoss(pool, batch_first=True, from_logits=True)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)

    def loss_of(batch: data.Batch) -> torch.Tensor:
        features = torch.from_numpy(batch.features).permute(1, 2, 0)
        lengths = -(-torch.from_numpy(batch.lengths) // STRIDE)
        return criterion(model(features).transpose(1, 2), lengths, batch.names)

    rng = np.random.default_rng(1)
    for epoch in range(1, EPOCHS + 1):
        losses = []
        for batch in data.batches(corpus.train, 8, rng):
            loss = loss_of(batch)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            losses.append(loss.item())
        with torch.no_grad():
            held_out = [
                loss_of(batch).item()
                for segments in corpus.held_out.values()
                for batch in data.batches(segments, 8)
            ]
        print(f"epoch {epoch}: training {np.mean(losses):.2f}, held out {np.mean(held_out):.2f}", flush=True)


def main() -> int:
    """Train, and return the exit code."""
    torch.manual_seed(1)
    torch.set_num_threads(1)  # so small a network gains nothing, and Sprint wants the cores
    try:
        with SprintInstancePool(
            sprint_exec_path=sprint.executable(None), sprint_config=sprint.config(()), num_instances=2
        ) as pool:
            train(data.load(), pool)
    except (ShmbridgeError, data.DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
