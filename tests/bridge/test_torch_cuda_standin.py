"""Tests that need the counts of the stand-in for CUDA, and tests that it delays work as a device does."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest

from support.packages import import_or_skip
from support.sprint_env import SprintEnv

torch = import_or_skip("torch")

if "cuda_kernels" not in sys.modules:
    pytest.skip("needs the stand-in for CUDA: make test-cuda", allow_module_level=True)

from cuda_kernels import Counts, counts  # noqa: E402 - a plugin of the stand-in

from shmbridge.torch import sprint_loss  # noqa: E402

pytestmark = pytest.mark.cuda


def test_a_copy_is_not_visible_before_its_stream_is_synchronized() -> None:
    source = torch.ones(1000, device="cuda")
    target = torch.zeros(1000, pin_memory=True)
    torch.cuda._sleep(100_000_000)
    target.copy_(source, non_blocking=True)
    assert (target == 0).all()
    torch.cuda.current_stream().synchronize()
    assert (target == 1).all()


def test_streams_do_not_wait_for_each_other() -> None:
    values = torch.zeros(1000, device="cuda")
    torch.cuda.synchronize()
    other = torch.cuda.Stream()
    with torch.cuda.stream(other):
        torch.cuda._sleep(100_000_000)
        values.fill_(1)
    assert (values.cpu() == 0).all()
    torch.cuda.current_stream().wait_stream(other)
    assert (values.cpu() == 1).all()


def read_counts() -> dict[str, int]:
    return {name: getattr(counts, name) for name, _ in Counts._fields_}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_matrices_are_copied_from_and_to_pinned_memory_only(sprint_env: SprintEnv, dtype: Any) -> None:
    frames, n_segments = 2000, 3
    lengths, names = [frames] * n_segments, [f"c/s{i}" for i in range(n_segments)]
    with sprint_env.scripted_pool(
        "init().run_control_loop(callback=callback)", use_python_segment_order=False
    ) as pool:
        log_probs = torch.ones(frames, n_segments, 4, device="cuda", dtype=dtype).requires_grad_()
        before = read_counts()
        sprint_loss(pool, log_probs, lengths, names)
        after = read_counts()
    assert after["to_host_pinned"] - before["to_host_pinned"] == n_segments
    assert after["to_device_pinned"] - before["to_device_pinned"] == n_segments
    assert after["to_host_pageable"] == before["to_host_pageable"]


def test_all_registered_memory_is_unregistered(sprint_env: SprintEnv) -> None:
    with sprint_env.pool("loop", num_instances=2) as pool:
        names = sprint_env.NAMES
        lengths = sprint_env.frames(names)
        before = read_counts()
        sprint_loss(pool, torch.zeros(max(lengths), len(names), 4, device="cuda"), lengths, names)
        assert read_counts()["registered"] == before["registered"] + 2
    del pool
    gc.collect()
    after = read_counts()
    assert after["registered"] == after["unregistered"]
