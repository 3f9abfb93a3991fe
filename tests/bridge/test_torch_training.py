"""SprintLoss in a trainer: with autocast, data loaders, several ranks and torch.compile."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing.resource_tracker
import subprocess
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import shmbridge
from support.packages import import_or_skip
from support.sprint_env import SprintEnv

torch = import_or_skip("torch")

from shmbridge.torch import SprintLoss, sprint_loss  # noqa: E402 - requires torch

FEATURES = 5


@pytest.fixture(scope="module", autouse=True)
def context() -> None:
    """Start the resource tracker, which stays alive, before a test counts processes."""
    multiprocessing.resource_tracker.ensure_running()


@pytest.fixture(scope="module")
def shared(module_sprint_env: SprintEnv) -> Iterator[shmbridge.SprintInstancePool]:
    with module_sprint_env.pool("loop", num_instances=2) as pool:
        yield pool


class Corpus(torch.utils.data.Dataset):  # type: ignore[misc]
    """A data set of random features; `criterion`, if any, is called in the worker."""

    def __init__(self, names: Any, lengths: Any, criterion: Any = None) -> None:
        self.names, self.lengths, self.criterion = names, lengths, criterion

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Any:
        if self.criterion is not None:
            self.criterion(torch.zeros(3, 1, 4), [3], ["kórpus/rec/one"])
        generator = torch.Generator().manual_seed(index)
        return torch.randn(self.lengths[index], FEATURES, generator=generator), self.names[index]


def collate(items: Any) -> Any:
    features = torch.nn.utils.rnn.pad_sequence([features for features, _ in items])
    return features, torch.tensor([len(features) for features, _ in items]), [name for _, name in items]


# --- autocast


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("given", ["logits", "log-probs", "rounded log-probs"])
def test_under_autocast_the_gradients_equal_those_of_float32_up_to_rounding(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool, dtype: Any, given: str
) -> None:
    names, lengths = module_sprint_env.NAMES, module_sprint_env.frames(module_sprint_env.NAMES)
    features, _, _ = collate([Corpus(names, lengths)[index] for index in range(len(names))])
    torch.manual_seed(0)
    network = torch.nn.Linear(FEATURES, 4)
    loss = sprint_loss(shared, network(features), lengths, names, from_logits=True)
    loss.backward()
    expected = network.weight.grad.clone()
    network.zero_grad()
    scaler = torch.amp.GradScaler("cpu", init_scale=128.0)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.0)
    with torch.autocast("cpu", dtype):
        logits = network(features)
        assert logits.dtype == dtype
        if given == "logits":
            rounded = sprint_loss(shared, logits, lengths, names, from_logits=True)
        else:
            log_probs = logits.log_softmax(-1)  # float32 under autocast
            if given == "rounded log-probs":
                log_probs = log_probs.to(dtype)
            rounded = sprint_loss(shared, log_probs, lengths, names)
        assert rounded.dtype == torch.float32
    scaler.scale(rounded).backward()
    scaler.unscale_(optimiser)
    torch.testing.assert_close(rounded, loss, rtol=2e-2, atol=0)
    torch.testing.assert_close(network.weight.grad, expected, rtol=0, atol=3e-2)
    assert expected.abs().max() > 0.1


# --- data loaders


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_data_loader_may_start_workers_while_a_pool_is_open(sprint_env: SprintEnv, start: str) -> None:
    names, lengths = sprint_env.NAMES, sprint_env.frames(sprint_env.NAMES)
    network = torch.nn.Linear(FEATURES, 4)
    with sprint_env.pool("loop", num_instances=2) as pool:
        criterion = SprintLoss(pool)
        loader = torch.utils.data.DataLoader(
            Corpus(names, lengths),
            batch_size=3,
            num_workers=2,
            collate_fn=collate,
            multiprocessing_context=start,
            persistent_workers=start == "spawn",  # importing torch takes long
        )
        for _ in range(2):
            for features, loaded_lengths, loaded_names in loader:
                criterion(network(features).log_softmax(-1), loaded_lengths, loaded_names).backward()
        assert pool.stats().segments == 2 * len(names)
        sprint_env.check(pool, names)


def test_in_a_forked_worker_the_loss_raises_and_the_trainer_continues(sprint_env: SprintEnv) -> None:
    names, lengths = sprint_env.NAMES, sprint_env.frames(sprint_env.NAMES)
    with sprint_env.pool("loop") as pool:
        loader = torch.utils.data.DataLoader(
            Corpus(names, lengths, SprintLoss(pool)), num_workers=1, multiprocessing_context="fork"
        )
        with pytest.raises(shmbridge.UsageError, match=r"\[forked\]"):
            next(iter(loader))
        sprint_env.check(pool, names)


def test_a_pool_cannot_be_sent_to_a_spawned_worker(sprint_env: SprintEnv) -> None:
    names, lengths = sprint_env.NAMES, sprint_env.frames(sprint_env.NAMES)
    with sprint_env.pool("loop") as pool:
        loader = torch.utils.data.DataLoader(
            Corpus(names, lengths, SprintLoss(pool)), num_workers=1, multiprocessing_context="spawn"
        )
        with pytest.raises(shmbridge.UsageError, match=r"\[not-picklable\]"):
            next(iter(loader))
        sprint_env.check(pool, names)


# --- models that contain the loss


class Model(torch.nn.Module):  # type: ignore[misc]
    """A network whose output is its loss."""

    def __init__(self, pool: shmbridge.SprintInstancePool) -> None:
        super().__init__()
        self.network = torch.nn.Linear(FEATURES, 4)
        self.criterion = SprintLoss(pool)

    def forward(self, features: Any, lengths: Any, segment_names: Any) -> Any:
        return self.criterion(self.network(features).log_softmax(-1), lengths, segment_names)


def test_an_averaged_model_uses_the_same_pool(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    names, lengths = module_sprint_env.NAMES, module_sprint_env.frames(module_sprint_env.NAMES)
    features, _, _ = collate([Corpus(names, lengths)[index] for index in range(len(names))])
    model = Model(shared)
    average = torch.optim.swa_utils.AveragedModel(model)  # makes a deep copy
    average.update_parameters(model)
    assert average.module.criterion.pool is shared
    assert average.module.network.weight is not model.network.weight
    assert average(features, lengths, names) == model(features, lengths, names)


def test_the_state_dict_of_a_model_can_be_saved_and_the_model_itself_cannot(
    shared: shmbridge.SprintInstancePool,
) -> None:
    model = Model(shared)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    assert list(torch.load(file)) == ["network.weight", "network.bias"]
    with pytest.raises(shmbridge.UsageError, match="leave it out of what is saved"):
        torch.save(model, io.BytesIO())


# --- several ranks


def test_two_ranks_with_a_pool_each_compute_the_gradient_of_the_whole_batch(sprint_env: SprintEnv) -> None:
    names, lengths = sprint_env.NAMES, sprint_env.frames(sprint_env.NAMES)
    settings = {
        "store": str(sprint_env.path / "store"),
        "names": names,
        "lengths": lengths,
        "dimension": FEATURES,
    }
    environment = {**sprint_env.env, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    with contextlib.ExitStack() as stack:
        ranks = []
        for rank in range(2):
            command = sprint_env.trainer_command(
                "ddp_rank", sprint_env.options("loop"), rank=rank, **settings
            )
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
            )
            stack.callback(process.kill)
            ranks.append(stack.enter_context(process))
        outputs = [process.communicate() for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], outputs
    (loss_0, gradient_0), (loss_1, gradient_1) = (json.loads(out) for out, _ in outputs)
    assert gradient_0 == gradient_1

    torch.manual_seed(0)
    network = torch.nn.Linear(FEATURES, 4)
    features, _, _ = collate([Corpus(names, lengths)[index] for index in range(len(names))])
    with sprint_env.pool("loop") as pool:
        loss = SprintLoss(pool)(network(features).log_softmax(-1), lengths, names)
    loss.backward()
    assert (loss_0 + loss_1) / 2 == pytest.approx(loss.item(), rel=1e-5)
    np.testing.assert_allclose(gradient_0, network.weight.grad.numpy(), rtol=1e-4, atol=1e-5)


# --- torch.compile


def test_in_a_compiled_step_the_loss_is_a_graph_break_with_the_same_result(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    names, lengths = module_sprint_env.NAMES, module_sprint_env.frames(module_sprint_env.NAMES)
    features, _, _ = collate([Corpus(names, lengths)[index] for index in range(len(names))])
    torch.manual_seed(0)
    network = torch.nn.Linear(FEATURES, 4)
    criterion = SprintLoss(shared)

    def step(features: Any) -> Any:
        return 2 * criterion(network(features).log_softmax(-1), lengths, names)

    expected = step(features)
    expected.backward()
    gradient = network.weight.grad.clone()
    network.zero_grad()
    torch.compiler.reset()
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    compiled = torch.compile(step, backend=backend)
    for _ in range(2):
        network.zero_grad()
        loss = compiled(features)
        loss.backward()
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(network.weight.grad, gradient)
    assert len(graphs) == 2  # one before the loss, one after it
    torch.compiler.reset()


def test_torch_rejects_a_full_graph_with_our_reason(
    module_sprint_env: SprintEnv, shared: shmbridge.SprintInstancePool
) -> None:
    torch.compiler.reset()
    compiled = torch.compile(
        lambda x: sprint_loss(shared, x, [3], ["kórpus/rec/one"]), backend="eager", fullgraph=True
    )
    with pytest.raises(torch._dynamo.exc.Unsupported, match="another process"):
        compiled(torch.zeros(3, 1, 4))
    torch.compiler.reset()
