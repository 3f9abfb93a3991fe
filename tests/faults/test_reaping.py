"""Other code of the trainer takes the exit status of Sprint: it is unknown, and never that of a success."""

from __future__ import annotations

import pytest

QUICK = "init().run_control_loop(callback=callback)"

TAKERS = {
    "SIGCHLD is ignored": """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
""",
    "a signal handler waits": """
def take(*_):
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, take)
""",
    "a thread waits": """
def take():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            pass
threading.Thread(target=take, daemon=True).start()
""",
}

KILLED = """
with shmbridge.SprintInstancePool(**OPTIONS) as pool:
    for _ in range(5):
        claim = pool.claim("c/s1", 3, 4)
        claim.posteriors[:] = 1
        pid = pool.stats().children[0].pid
        os.kill(pid, signal.SIGSTOP)
        sent = claim.send()
        os.kill(pid, signal.SIGKILL)
        try:
            sent.result()
        except shmbridge.PeerGoneError as error:
            say([error.exit_code, error.signal_name, str(error)])
        else:
            say("there was a result")
say("closed")
"""


def check(exit_code, signal_name, message, taker):
    assert exit_code is None
    assert signal_name in (None, "SIGKILL")
    assert signal_name is None or taker != "SIGCHLD is ignored"
    expected = "took its exit status: SIGCHLD is ignored" if signal_name is None else "was ended by SIGKILL"
    assert expected in message


@pytest.mark.parametrize("taker", TAKERS)
def test_a_killed_sprint_is_never_reported_as_exited(sprint_env, taker):
    with sprint_env.trainer(TAKERS[taker] + KILLED, sprint_env.scripted(QUICK)) as trainer:
        for _ in range(5):
            check(*sprint_env.said(trainer), taker)
        assert sprint_env.said(trainer) == "closed"


SCORING = """
import numpy
scorer = init(sprint_unit="PythonFeatureScorer")
scorer.init(input_dim=3, output_dim=5)
for number in range(3):
    scorer.add_feature(feature=numpy.zeros(3, numpy.float32), time=0)
    scorer.compute(num_frames=1)
    scorer.get_scores(time=0)
    scorer.reset(num_frames=1)
os.kill(os.getpid(), 9)
"""
SERVED = """
with shmbridge.SprintInstancePool(**OPTIONS) as pool:
    try:
        pool.serve_scores(lambda segment: np.zeros((len(segment), 5)))
    except shmbridge.PeerGoneError as error:
        say([error.exit_code, error.signal_name, str(error)])
    else:
        say("as if the corpus were done")
"""


@pytest.mark.parametrize("taker", TAKERS)
def test_a_recogniser_that_is_killed_has_not_finished_its_corpus(sprint_env, taker):
    options = sprint_env.scripted(SCORING, use_python_segment_order=False)
    with sprint_env.trainer(TAKERS[taker] + SERVED, options) as trainer:
        check(*sprint_env.said(trainer), taker)


AT_ONCE = """
for _ in range(10):
    try:
        shmbridge.SprintInstancePool("/bin/true", ring_size=65536)
    except shmbridge.PeerGoneError as error:
        say([error.exit_code, error.signal_name])
say(sum(name.startswith("shmbridge") for name in (thread.name for thread in threading.enumerate())))
"""


@pytest.mark.parametrize("taker", TAKERS)
def test_a_sprint_that_ends_at_once_is_gone(sprint_env, taker):
    with sprint_env.trainer(TAKERS[taker] + AT_ONCE, {}) as trainer:
        for _ in range(10):
            exit_code, signal_name = sprint_env.said(trainer)
            assert exit_code in (None, 0)
            assert exit_code is None or taker != "SIGCHLD is ignored"
            assert signal_name is None
        assert sprint_env.said(trainer) == 0
