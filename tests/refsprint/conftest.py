"""The fixture that runs refsprint."""

from __future__ import annotations

from pathlib import Path

import pytest
from refsprint_env import RefsprintEnv


@pytest.fixture
def sprint_env(tmp_path: Path) -> RefsprintEnv:
    """A directory with a corpus and a lexicon, and a method that runs refsprint on them."""
    return RefsprintEnv(tmp_path)
