"""What the stand-in for CUDA can tell that a device cannot, and that it is no more patient than one."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest

from support.packages import import_or_skip

torch = import_or_skip("torch")

if "cuda_kernels" not in sys.modules:
    pytest.skip("wants the stand-in for CUDA: make test-cuda", allow_module_level=True)

from cuda_kernels import Counts, counts  # noqa: E402 - only there

from shmbridge.torch import sprint_loss  # noqa: E402

pytestmark = pytest.mark.cuda


def test_who_does_not_wait_for_a_copy_sees_what_was_there_before() -> None:
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


def made() -> dict[str, int]:
    return {name: getattr(counts, name) for name, _ in Counts._fields_}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_matrices_are_copied_from_and_to_pinned_memory_alone(sprint_env: Any, dtype: Any) -> None:
    frames, n_segments = 2000, 3
    lengths, names = [frames] * n_segments, [f"c/s{i}" for i in range(n_segments)]
    with sprint_env.scripted_pool(
        "init().run_control_loop(callback=callback)", use_python_segment_order=False
    ) as pool:
        log_probs = torch.ones(frames, n_segments, 4, device="cuda", dtype=dtype).requires_grad_()
        before = made()
        sprint_loss(pool, log_probs, lengths, names)
        after = made()
    assert after["to_host_pinned"] - before["to_host_pinned"] == n_segments
    assert after["to_device_pinned"] - before["to_device_pinned"] == n_segments
    assert after["to_host_pageable"] == before["to_host_pageable"]


def test_all_that_was_registered_is_unregistered(sprint_env: Any) -> None:
    with sprint_env.pool("loop", num_instances=2) as pool:
        names = sprint_env.NAMES
        lengths = sprint_env.frames(names)
        before = made()
        sprint_loss(pool, torch.zeros(max(lengths), len(names), 4, device="cuda"), lengths, names)
        assert made()["registered"] == before["registered"] + 2
    del pool
    gc.collect()
    after = made()
    assert after["registered"] == after["unregistered"]
