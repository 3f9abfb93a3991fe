"""Without a large package, the tests that need it are skipped, and the last line of the run reports it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Of two files: one needs torch as a whole, the other has one test that does.
RUN = f"""
import sys
import pytest
sys.modules["torch"] = None  # as if it were not installed
sys.exit(pytest.main([
    "-p", "no:cacheprovider", "-k", "torch",
    "{HERE}/bridge/test_torch_loss.py", "{HERE}/refsprint/test_refsprint_ctc.py",
]))
"""


def test_a_test_that_needs_torch_is_skipped_without_it_and_the_last_lines_say_how_to_run_it():
    command = [sys.executable, "-c", RUN]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=HERE.parent)
    reason = r"test_torch_loss\.py:\d+: torch is not installed; `make test FULL=1` installs it"
    assert re.search(reason, done.stdout)
    assert "Left out: 7 for lack of torch (a file counts as one). `make test FULL=1`" in done.stdout
    assert " passed" not in done.stdout
    assert " failed" not in done.stdout
