"""Compute torch_loss with RETURNN's torch backend, and store loss and gradient.

    python run_torch.py TASK.json RESULTS.npz

A separate program, because RETURNN changes PyTorch for the whole process.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import returnn.frontend as rf
import torch
from returnn.tensor import Dim, Tensor

import shmbridge
from shmbridge.returnn import torch_loss


def main(task_path: str, results_path: str) -> None:
    with open(task_path, encoding="utf-8") as file:
        task = json.load(file)
    rf.select_backend_torch()
    posteriors = np.array(task["posteriors"], np.float32)  # (time,batch,label)
    lengths = torch.tensor(task["lengths"], dtype=torch.int32)
    batch = Dim(len(lengths), name="batch")
    time = Dim(Tensor("time", dims=[batch], dtype="int32", raw_tensor=lengths))
    labels = Dim(posteriors.shape[2], name="labels", kind=Dim.Types.Feature)
    tags = Tensor("seq_tag", dims=[batch], dtype="string", raw_tensor=np.array(task["tags"]))
    options = {"spatial_dim": time, "sprint_opts": task["sprint_opts"], **task["options"]}

    results: dict[str, Any] = {}
    orders = {"tbl": [time, batch, labels], "btl": [batch, time, labels], "lbt": [labels, batch, time]}
    for name, dims in orders.items():
        axes = [[time, batch, labels].index(dim) for dim in dims]
        raw = torch.from_numpy(posteriors.transpose(axes).copy()).requires_grad_()
        log_probs = Tensor(
            "log_probs", dims=dims, dtype="float32", feature_dim_axis=dims.index(labels), raw_tensor=raw
        )
        loss = torch_loss(log_probs, tags, **options)
        assert loss.dims == (batch,), loss
        loss.raw_tensor.sum().backward()
        results[f"{name}/loss"] = loss.raw_tensor.detach().numpy()
        results[f"{name}/gradient"] = raw.grad.permute(*np.argsort(axes).tolist()).numpy()

    first = int(lengths[0])  # a static number of frames
    static = Dim(first, name="static")
    one = Dim(1, name="one")
    raw = torch.from_numpy(posteriors[None, :first, 0])
    log_probs = Tensor("log_probs", dims=[one, static, labels], dtype="float32", raw_tensor=raw)
    log_probs.feature_dim = labels
    tag = Tensor("seq_tag", dims=[one], dtype="string", raw_tensor=np.array(task["tags"][:1]))
    results["static/loss"] = torch_loss(
        log_probs, tag, **{**options, "spatial_dim": static}
    ).raw_tensor.numpy()

    log_probs = Tensor("x", dims=[batch, labels], dtype="float32", raw_tensor=torch.zeros(len(lengths), 4))
    messages = []
    for wrong in ((raw, tags), (log_probs, tags), (log_probs, tags.raw_tensor)):
        try:
            torch_loss(*wrong, **options)
        except shmbridge.BatchError as error:
            messages.append(str(error))
    np.savez(results_path, messages=messages, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
