"""The trainer ends at any stage, in any way: its Sprints end by themselves, and nothing is left behind.

The stage is reached by replacing the function of the trainer's side that stands there: it ends the process at
its first call. A fork of the trainer (a data loader, say) lives on meanwhile, with all that it inherited.
"""

from __future__ import annotations

import os
import signal
import textwrap

import pytest

# Each calls last_moment() at its stage. `go()` starts the pool, sends a batch, and closes.
STAGES = {
    "starting": """
        with internals.in_place_of_start_wait(last_moment):
            go()
    """,
    "waiting": """
        go(while_waiting=last_moment)
    """,
    "copying a batch": """
        def dying_copy(target, source, two_threads):
            target[: len(target) // 2] = source[: len(target) // 2]
            last_moment()
        pool = shmbridge.SprintInstancePool(**OPTIONS)
        pool.get_batch_loss(POSTERIORS, LENGTHS, NAMES, None, copy_in=dying_copy, copy_out=None)
    """,
    "in-place claim open": """
        pool = shmbridge.SprintInstancePool(**OPTIONS)
        claim = pool.claim("c/s1", 4, 3)
        claim.posteriors[:2] = -1
        last_moment()
    """,
    "result held": """
        pool = shmbridge.SprintInstancePool(**OPTIONS)
        claim = pool.claim("c/s1", 4, 3)
        claim.posteriors[:] = -1
        error_signal = claim.send().result().error_signal
        last_moment()
    """,
    "closing": """
        with internals.before_each_exit_wait(last_moment):
            go()
    """,
    # Ctrl-C in a batch leads there, while Sprint computes.
    "closing behind Ctrl-C": """
        def interrupt():
            wait_for_sprint()
            raise KeyboardInterrupt
        with internals.before_each_exit_wait(last_moment):
            go(while_waiting=interrupt)
    """,
}
ENDS = {
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)",
    "exit": "os._exit(3)",
}
TRAINER = """
from support import internals

POSTERIORS, LENGTHS, NAMES = -np.ones((50, 2, 7), np.float32), [50, 40], ["c/s1", "c/s2"]
PIDS = []
noting = internals.after_each_spawn(PIDS.append)
noting.__enter__()

def wait_for_sprint():
    while WAIT_FOR and not os.path.exists(WAIT_FOR):
        time.sleep(0.005)

def last_moment(*_, **__):
    wait_for_sprint()
    fork = os.fork()
    if fork == 0:
        sys.stdin.read()
        os._exit(0)
    say([fork, PIDS])
    {end}

def go(while_waiting=None):
    with shmbridge.SprintInstancePool(**OPTIONS) as pool:
        def hook():
            if while_waiting is not None and pool.stats().children[0].in_flight:
                while_waiting()
        with internals.before_each_sleep(pool, hook):
            pool.get_batch_loss_and_error_signal(POSTERIORS, LENGTHS, NAMES)

{stage}
"""
QUICK_SPRINT = "init().run_control_loop(callback=callback)"


def trainer_that_ends(sprint_env, stage, end, sprint=QUICK_SPRINT, wait_for="", **more):
    """Run it to its end, see that its Sprints end too, and then let the fork end."""
    text = TRAINER.format(stage=textwrap.dedent(STAGES[stage]), end=ENDS[end])
    text = f"import time\nWAIT_FOR = {str(wait_for)!r}\n" + text
    with sprint_env.trainer(text, sprint_env.scripted(sprint, num_instances=2, **more)) as trainer:
        fork, pids = sprint_env.said(trainer)
        assert len(pids) == 2
        trainer.wait()
        try:
            sprint_env.wait_gone(pids)
            os.kill(fork, 0)  # it lives
        finally:
            trainer.stdin.close()
            for pid in sprint_env.sprint_pids():
                os.kill(pid, signal.SIGKILL)
        sprint_env.wait_gone([fork])


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("stage", STAGES)
def test_the_sprints_of_a_trainer_that_ends_end_too(sprint_env, stage, end):
    trainer_that_ends(sprint_env, stage, end)


# What Sprint does meanwhile. None of these comes back to Python code of ours.
BUSY = {
    "computes in C with the GIL": """
        import itertools
        def busy(command, **arguments):
            if command == "calculate_criterion":
                open({mark!r}, "w").close()
                sum(itertools.repeat(0))
            return callback(command, **arguments)
        init().run_control_loop(callback=busy)
    """,
    "loops in Python": """
        def busy(command, **arguments):
            if command == "calculate_criterion":
                open({mark!r}, "w").close()
                while True:
                    pass
            return callback(command, **arguments)
        init().run_control_loop(callback=busy)
    """,
    "reads its models between init and the first segment": """
        import itertools
        control = init()
        open({mark!r}, "w").close()
        sum(itertools.repeat(0))
    """,
}


@pytest.mark.parametrize("busy", BUSY)
@pytest.mark.parametrize("stage", ["waiting", "closing behind Ctrl-C"])
def test_the_sprints_end_though_they_are_busy_for_ever(sprint_env, stage, busy):
    mark = sprint_env.path / "busy"
    trainer_that_ends(
        sprint_env, stage, "SIGKILL", textwrap.dedent(BUSY[busy]).format(mark=str(mark)), wait_for=mark
    )
