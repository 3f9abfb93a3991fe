"""docs/options.md lists each option of a pool, with its default."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import shmbridge

PAGE = Path(__file__).resolve().parents[2] / "docs" / "options.md"


def documented_defaults() -> dict[str, str]:
    """The first two columns of the first table."""
    table = PAGE.read_text("utf-8").split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", table, flags=re.MULTILINE)
    return {name: default.strip("`") for name, default in rows}


def test_the_page_has_each_option_with_its_default_in_order():
    parameters = inspect.signature(shmbridge.SprintInstancePool).parameters.values()
    actual = [
        (option.name, "required" if option.default is option.empty else repr(option.default))
        for option in parameters
    ]
    assert list(documented_defaults().items()) == actual
