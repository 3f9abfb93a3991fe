"""Standard input, output or error of the trainer are closed, as those of some daemons."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]], ids=str)
def test_a_pool_leaves_closed_standard_descriptors_closed(sprint_env, closed):
    options = sprint_env.scripted("init().run_control_loop(callback=callback)", max_restarts=1)
    with sprint_env.trainer_file("trainer_with_closed_descriptors", options, closed=closed) as trainer:
        for _ in range(2):
            assert sprint_env.said(trainer) == [[1.5], []]
        assert sprint_env.said(trainer) == "closed"
        assert trainer.wait() == 0
