"""A short soak with fixed seeds, and a fault that the soak must find."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from soak import FailedError, soak_pools, soak_ring

SEED = 17  # its first rounds include all four kinds


@pytest.mark.skipif(
    shutil.which("make") is None or shutil.which("cc") is None, reason="no C compiler or make"
)
def test_rings_of_random_sizes_pass_every_record():
    assert soak_ring(SEED, 2.0, lambda _: None)["records"] > 0


def test_pools_survive_kills_pauses_and_forks(tmp_path):
    kinds = set()
    end = soak_pools(
        [f"--seed={SEED}", "--rounds=4", "--steps=20"], tmp_path, lambda step: kinds.add(step["kind"])
    )
    assert kinds == {"calm", "strict", "fatal", "lossy"}
    for count in ("answered", "skipped", "failed", "restarts", "kills", "pauses", "forks"):
        assert end["counts"][count] > 0, end


def test_one_wrong_number_is_found(tmp_path):
    with pytest.raises(
        FailedError, match=r"the error signal is wrong at 1 places(.|\n)*FAILED: seed 17, round 0"
    ):
        soak_pools([f"--seed={SEED}", "--rounds=1", "--spoil=0.01"], tmp_path, lambda _: None)
