"""The full-sum loss, forward and backward, compared with torch.nn.CTCLoss: `python -m benchmarks.full_sum`.

The environment needs torch. All take turns, so that drift affects all alike.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from shmbridge import Automata
from shmbridge.refsprint.automaton import build_automaton
from shmbridge.refsprint.orthography import Edge, Lattice
from shmbridge.torch import full_sum_loss


def main() -> None:
    """Measure, and print the median of each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_sum", description=__doc__)
    for name, default in (("batch", 50), ("frames", 300), ("labels", 80), ("targets", 60), ("repeat", 15)):
        parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    targets = rng.integers(0, options.labels - 1, (options.batch, options.targets))
    torch.manual_seed(0)
    log_probs = torch.randn(options.frames, options.batch, options.labels).log_softmax(-1).requires_grad_()
    lengths = [options.frames] * options.batch
    automata = _ctc_automata(targets.tolist(), options.labels - 1)
    ctc = torch.nn.CTCLoss(blank=options.labels - 1, reduction="sum")
    sizes = torch.tensor(lengths), torch.full((options.batch,), options.targets)
    losses: dict[str, Callable[[], torch.Tensor]] = {
        "torch.nn.CTCLoss": lambda: ctc(log_probs, torch.from_numpy(targets), *sizes),
        "full_sum_loss, native": lambda: full_sum_loss(log_probs, lengths, automata, reduction="sum"),
        "full_sum_loss, torch": lambda: full_sum_loss(
            log_probs, lengths, automata, reduction="sum", backend="torch"
        ),
    }
    durations: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(1 + options.repeat):
        for name, compute in losses.items():
            log_probs.grad = None
            start = time.perf_counter()
            compute().backward()
            durations[name].append(time.perf_counter() - start)
    reference = float(np.median(durations["torch.nn.CTCLoss"][1:]))
    print(f"{torch.get_num_threads()} threads, median of {options.repeat}, after one to warm up")
    for name, values in durations.items():
        median = float(np.median(values[1:]))
        print(f"{name:24}{1e3 * median:8.1f} ms   {median / reference:.2f}")


def _ctc_automata(targets: list[list[int]], blank: int) -> Automata:
    """Return the CTC automata of these labels as one."""
    edges, weights, ends, states = [], [], [], 0
    for index, labels in enumerate(targets):
        chain = tuple(Edge(i, i + 1, (label,), 0.0) for i, label in enumerate(labels))
        part = build_automaton(Lattice(len(labels) + 1, chain, ()), blank).export()
        sources, arrivals, emissions = part.edges.reshape(3, -1).astype(np.int64)
        edges.append(
            np.stack([sources + states, arrivals + states, emissions, np.full(part.num_edges, index)])
        )
        weights.append(part.weights)
        ends.append((states, states + part.num_states - 1))
        states += part.num_states
    return Automata(
        np.concatenate(edges, axis=1).astype(np.uint32),
        np.concatenate(weights),
        np.array(ends, np.uint32).T,
    )


if __name__ == "__main__":
    main()
