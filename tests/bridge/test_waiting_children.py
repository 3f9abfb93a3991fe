"""Children that wait for room, or whose parent has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.sprint_env import SprintEnv


def test_a_child_that_waits_for_room_sleeps_although_another_segment_is_in_the_ring(
    sprint_env: SprintEnv,
) -> None:
    sprint = "init().run_control_loop(callback=callback)"
    # The ring holds three answers.
    with sprint_env.scripted_pool(sprint, use_python_segment_order=False, ring_size=1 << 16) as pool:

        def send() -> Any:
            claimed = pool.claim("c/s1", 1200, 4)
            claimed.posteriors[:] = 1
            return claimed.send()

        held = [send().result() for _ in range(3)]
        further = [send() for _ in range(2)]
        (pid,) = sprint_env.sprint_pids()
        # One uninterrupted sleep: a child that polls would not be asleep in every sample.
        sprint_env.wait_until(lambda: sleeps_on(pid), "the child sleeps")
        for result in held:
            result.release()
        for claimed in further:
            claimed.result().release()


def sleeps_on(pid: int) -> bool:
    """Return whether the main thread is asleep and uses no processor time in 50 samples."""

    def look() -> tuple[str, ...]:
        fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/task/{pid}/status").read_text()
        switches = [line for line in status.splitlines() if "ctxt_switches" in line]
        return fields[0], *switches

    first = look()
    return first[0] == "S" and all(look() == first for _ in range(50))


def test_when_the_trainer_is_killed_a_sprint_that_hangs_at_its_exit_also_ends(
    sprint_env: SprintEnv,
) -> None:
    hangs = sprint_env.path / "hangs"
    sprint = f"""
    init().run_control_loop(callback=callback)
    open({str(hangs)!r}, "w").close()
    threading.Event().wait()
    """
    body = """
    pool = shmbridge.SprintInstancePool(**OPTIONS)
    pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4)), [3], ["c/s1"])
    pool.close()
    """
    with sprint_env.trainer(body, sprint_env.scripted(sprint, exit_timeout=3600)) as trainer:
        sprint_env.wait_until(hangs.exists, "Sprint hangs")
        pids = sprint_env.sprint_pids()
        assert len(pids) == 1
        trainer.kill()
        trainer.wait()
        sprint_env.wait_gone(pids)
