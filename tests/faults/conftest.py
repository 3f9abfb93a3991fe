"""What Sprint reads, trainers as processes, and the watch for what is left behind: those of tests/bridge."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

# Not `import conftest`: there are several of that name.
_path = Path(__file__).resolve().parents[1] / "bridge" / "conftest.py"
_spec = importlib.util.spec_from_file_location("bridge_fixtures", _path)
_fixtures = importlib.util.module_from_spec(_spec)
sys.modules["bridge_fixtures"] = _fixtures
_spec.loader.exec_module(_fixtures)
sprint_env = _fixtures.sprint_env
module_sprint_env = _fixtures.module_sprint_env
_watch_over_the_test = _fixtures._watch_over_the_test
sprint_log = _fixtures.sprint_log
