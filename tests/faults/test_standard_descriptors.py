"""Standard input, output or error of the trainer are closed, as those of some daemons."""

from __future__ import annotations

import pytest

TRAINER = """
out = os.dup(1)  # 3 or higher
def tell(what):
    os.write(out, json.dumps(what).encode() + b"\\n")
for descriptor in CLOSED:
    os.close(descriptor)
def is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
with shmbridge.SprintInstancePool(**OPTIONS) as pool:
    for _ in range(2):
        loss, _ = pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4), np.float32), [3], ["c/s1"])
        tell([loss.tolist(), [number for number in CLOSED if is_open(number)]])
        os.kill(pool.stats().children[0].pid, signal.SIGKILL)
tell("closed")
"""


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]], ids=str)
def test_a_pool_leaves_closed_standard_descriptors_closed(sprint_env, closed):
    options = sprint_env.scripted("init().run_control_loop(callback=callback)", max_restarts=1)
    with sprint_env.trainer(f"CLOSED = {closed}\n" + TRAINER, options) as trainer:
        for _ in range(2):
            assert sprint_env.said(trainer) == [[1.5], []]
        assert sprint_env.said(trainer) == "closed"
        assert trainer.wait() == 0
