"""torch_loss with RETURNN's torch backend: its values, and a training by RETURNN's engine."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from returnn_env import Returnn

from support.packages import import_or_skip

import_or_skip("torch")
import_or_skip("tree")

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # examples/ is not installed

from examples import rasr  # noqa: E402

DOCUMENTATION = ROOT / "docs" / "returnn.md"

# What the block of the documentation leaves out: the data, and how long to train.
REST = """
import numpy
import torch
from returnn.datasets.map import MapDatasetBase, MapDatasetWrapper

backend = "torch"
task = "train"
device = "cpu"
num_epochs = 4
batch_size = 1000
max_seqs = 2
optimizer = {{"class": "sgd"}}
learning_rate = 0.05
torch_dataloader_opts = {{"num_workers": 1}}
log_verbosity = 4
frames = {frames!r}


class Features(MapDatasetBase):
    def __init__(self):
        super().__init__(data_types={{"data": {{"dim": 40, "shape": (None, 40)}}}})

    def __len__(self):
        return len(frames)

    def get_seq_len(self, seq_idx):
        return list(frames.values())[seq_idx]

    def get_seq_tag(self, seq_idx):
        return list(frames)[seq_idx]

    def __getitem__(self, seq_idx):
        shape = (self.get_seq_len(seq_idx), 40)
        return {{"data": numpy.random.default_rng(seq_idx).normal(size=shape).astype("float32")}}


train = {{"class": MapDatasetWrapper, "map_dataset": Features}}
dev = train
"""


def test_loss_and_gradient_are_those_of_the_pool(returnn: Returnn, in_a_process: Any) -> None:
    names, lengths = returnn.names, returnn.lengths
    posteriors = returnn.sprint_env.posteriors(lengths)
    results = in_a_process(
        "run_torch.py",
        {
            "sprint_opts": returnn.sprint_opts("loop", numInstances=2),
            "posteriors": posteriors.tolist(),
            "lengths": lengths,
            "tags": names,
            "options": {"skipped": "inf", "error_signal_scale": 0.5},
        },
    )
    loss, error_signal = returnn.pool("loop").get_batch_loss_and_error_signal(
        posteriors, np.array(lengths), names
    )
    assert np.isinf(loss).any()  # one is skipped
    for order in ("tbl", "btl", "lbt"):
        np.testing.assert_array_equal(results[f"{order}/loss"], loss)
        np.testing.assert_allclose(results[f"{order}/gradient"], 0.5 * error_signal, rtol=1e-6)
    np.testing.assert_array_equal(results["static/loss"], loss[:1])
    for message, text in zip(
        results["messages"], ("must be a returnn.tensor.Tensor", "a feature dimension", "seq_tag is of type")
    ):
        assert text in message
    assert len(results["messages"]) == 3


def test_the_block_of_the_documentation_trains_with_minimum_error(
    returnn: Returnn, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = rasr.write(tmp_path / "files", rasr.make_task(labels=10, segments=3, frames=30))
    frames = {segment.full_name: segment.frames for segment in files.task.segments[:-1]}
    executable = returnn.sprint_env.executable(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m shmbridge.refsprint.lattice_processor "$@"\n'
    )
    (block,) = [
        block
        for block in re.findall(r"^```python\n(.*?)^```$", DOCUMENTATION.read_text("utf-8"), re.M | re.S)
        if "torch_loss" in block
    ]
    for shown, used in (
        ("/path/to/lattice-processor", executable),
        ("/path/to/me.config", str(files.config("me"))),
        ("Dim(1000,", "Dim(10,"),
    ):
        assert shown in block
        block = block.replace(shown, used)
    config = tmp_path / "returnn.config"
    config.write_text("#!rnn.py\n" + block + REST.format(frames=frames), encoding="utf-8")
    temporary = tmp_path_factory.mktemp("t")  # RETURNN leaves files there, and the names of sockets are short
    done = subprocess.run(
        [sys.executable, "-m", "returnn", str(config)],
        cwd=tmp_path,
        env={**returnn.sprint_env.env, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    losses = [float(loss) for loss in re.findall(r"evaluation: dev: (\S+)", done.stdout)]
    assert len(losses) == 4, done.stdout
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0  # minus an accuracy
