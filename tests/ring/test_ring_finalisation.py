"""Python ends while it still has claims, records and arrays: nothing goes wrong, and nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BEGINNING = """
import atexit, gc, sys, threading
import numpy as np
from ring_pair import RingPair
from shmbridge._native import lib

ring = RingPair(1 << 14)
ring.must_send(256)
record = ring.receive(0)
claim = ring.claim(256)
view = record.matrix[0, 3:]
matrix = claim.matrix.T
expecting = ring.producer.claim(lib.SHMB_ERROR_SIGNAL, 3, 4, sequence=7)
expecting.expect_landing()
landed = np.empty((3, 4), np.float32)
assert expecting.holds(landed)
open_claim = ring.producer.claim(lib.SHMB_ERROR_SIGNAL, 5, 6, sequence=8)
open_claim.expect_landing()
"""

ENDS = {
    "with all of them in its modules": "",
    "in a cycle, not collected": """
gc.disable()
cycle = [ring, record, claim, view, matrix, landed, open_claim]
cycle.append(cycle)
del ring, record, claim, view, matrix, landed, expecting, open_claim, cycle
""",
    "where no module is cleared": """
class Late:
    kept = ring, record, claim, view, matrix, landed, expecting, open_claim
    def __del__(self, kept=kept):
        claim.commit()
        assert view.size and matrix.size and landed.size
sys.late = Late()
""",
    "in a thread that goes on": """
done = threading.Event()
def go_on(kept=(ring, record, claim, view, matrix, landed, open_claim)):
    another = ring.producer.claim(lib.SHMB_ERROR_SIGNAL, 7, 7, sequence=9)
    another.expect_landing()
    done.set()
    threading.Event().wait()
threading.Thread(target=go_on, daemon=True).start()
done.wait()
""",
    "and they are used at exit": """
@atexit.register
def use():
    claim.commit()
    expecting.commit()
    assert np.empty((5, 6), np.float32).ctypes.data == open_claim.matrix.ctypes.data
    assert ring.receive(1) is not None
""",
    "by an exception": "raise SystemExit(0)",
}


@pytest.mark.parametrize("how", ENDS)
def test_python_ends_well(how):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "PYTHONMALLOC": "debug"}
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", BEGINNING + ENDS[how]],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
