"""Arrays that are kept until the interpreter ends.

Other ends of what they view: tests/bridge/test_in_place.py, tests/ring/test_ring_views.py.
"""

from __future__ import annotations

import pytest

SPRINT = "init().run_control_loop(callback=callback)"
# As in tests/sprints/trainer_with_kept_arrays.py.
HOW = [
    "with the pool open",
    "with the pool closed",
    "with an exception",
    "with Sprint dead",
    "with a thread that reads on",
]


@pytest.mark.parametrize("how", HOW)
def test_arrays_can_be_read_while_the_interpreter_ends(sprint_env, how):
    with sprint_env.trainer_file("trainer_with_kept_arrays", sprint_env.scripted(SPRINT), how=how) as trainer:
        said, _ = trainer.communicate()
        # A thread that runs to the end keeps the module's globals, so that they are never deleted.
        assert said.splitlines() == ['"at exit"', '"at the very end"'][: 1 if "thread" in how else 2]
        assert trainer.returncode == (1 if "exception" in how else 0)
