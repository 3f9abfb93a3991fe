"""The size of the shared memory cannot be changed: a missing page would end a process with SIGBUS."""

from __future__ import annotations


def test_sprint_cannot_truncate_the_shared_memory(sprint_env):
    # In a process of its own: without the seals it ends with SIGBUS.
    with sprint_env.trainer_file("trainer_of_two_batches", sprint_env.sprint_file("resizing", {})) as trainer:
        assert sprint_env.said(trainer) == [1.5, 1.5]
        assert trainer.wait() == 0
    refused = ["PermissionError"] * 2
    seen = {what: result for what, result in sprint_env.seen().items() if what != "orthographies"}
    assert seen == dict.fromkeys(seen, refused)
    assert len(seen) == 5
