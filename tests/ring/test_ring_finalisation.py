"""The interpreter exits cleanly while claims, records and arrays still exist."""

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
expecting.expect_allocation()
in_place = np.empty((3, 4), np.float32)
assert expecting.holds(in_place)
open_claim = ring.producer.claim(lib.SHMB_ERROR_SIGNAL, 5, 6, sequence=8)
open_claim.expect_allocation()
"""

EXITS = {
    "with all of them in a module": "",
    "with all of them in an uncollected cycle": """
gc.disable()
cycle = [ring, record, claim, view, matrix, in_place, open_claim]
cycle.append(cycle)
del ring, record, claim, view, matrix, in_place, expecting, open_claim, cycle
""",
    "with all of them in an object that uses them late": """
class Late:
    kept = ring, record, claim, view, matrix, in_place, expecting, open_claim
    def __del__(self, kept=kept):
        claim.commit()
        assert view.size and matrix.size and in_place.size
sys.late = Late()
""",
    "with all of them in a running thread": """
done = threading.Event()
def go_on(kept=(ring, record, claim, view, matrix, in_place, open_claim)):
    another = ring.producer.claim(lib.SHMB_ERROR_SIGNAL, 7, 7, sequence=9)
    another.expect_allocation()
    done.set()
    threading.Event().wait()
threading.Thread(target=go_on, daemon=True).start()
done.wait()
""",
    "after an atexit handler used them": """
@atexit.register
def use():
    claim.commit()
    expecting.commit()
    assert np.empty((5, 6), np.float32).ctypes.data == open_claim.matrix.ctypes.data
    assert ring.receive(1) is not None
""",
    "by SystemExit": "raise SystemExit(0)",
}


@pytest.mark.parametrize("how", EXITS)
def test_python_exits_cleanly(how):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "PYTHONMALLOC": "debug"}
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", BEGINNING + EXITS[how]],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
