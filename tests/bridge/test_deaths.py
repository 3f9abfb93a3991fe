"""Sprint dies at every stage, in every way: unanswered segments fail, or a new child answers them.

A stage is reached by replacing the function of Sprint's side that stands there: it dies at its first call for
the segment that is marked, as often as the mark says.
"""

import collections
import textwrap

import numpy as np
import pytest

import shmbridge

# Each stage replaces a function, `before` or `after` which (or half-way through which) Sprint dies.
STAGES = {
    "before its hello": "if due('start'): die()",
    "after its hello": "late = lambda: due('start') and die()",
    "waiting": """
        import shmbridge.channel
        wait = shmbridge.channel.Channel.wait
        def dying_wait(self, **arguments):
            if len(ASKED) == 5 and due('c/s2'):
                die()
            return wait(self, **arguments)
        shmbridge.channel.Channel.wait = dying_wait
    """,
    "reading a record": """
        import shmbridge.child.inbox
        to_request = shmbridge.child.inbox.Inbox._to_request
        def dying_to_request(self, record):
            if due(record.name.decode()):
                die()
            return to_request(self, record)
        shmbridge.child.inbox.Inbox._to_request = dying_to_request
    """,
    "in the criterion": """
        def in_criterion(name):
            if due(name):
                die()
    """,
    "half-way through the error signal": """
        import shmbridge.child.request as request
        def dying_copyto(target, source, **more):
            half = len(target) // 2
            target[:half] = source[:half]
            if due(ASKED[-1]):
                die()
            target[half:] = source[half:]
        request.np = type("np", (), {**vars(np), "copyto": staticmethod(dying_copyto)})
        lands = False
    """,
    "between commit and doorbell": """
        import shmbridge.child.link as link
        of_child = link.Channel.of_child
        def silent_channel(memory, geometry, own, peer):
            # Commits ring nobody's doorbell but its own, until the line behind that which it is to die at.
            global parents_bell
            parents_bell = peer
            return of_child(memory, geometry, own=own, peer=own)
        link.Channel.of_child = silent_channel
        import shmbridge.child.request as request
        drop_views = request.ParentSegment._drop_views
        def dying_drop_views(self):
            if due(self.name):
                die()
            parents_bell.poke()
            drop_views(self)
        request.ParentSegment._drop_views = dying_drop_views
    """,
}
WAYS_TO_DIE = {
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGSEGV": "os.kill(os.getpid(), signal.SIGSEGV)",
    "SIGABRT": "os.abort()",
    "exit code 7": "os._exit(7)",
}
SPRINT = """
import signal, time
MARK = {mark!r}
ASKED = []
lands = True
late = lambda: None
in_criterion = lambda name: None

def due(what):
    # Whether it is to die here; that is then one time less.
    try:
        with open(MARK) as file:
            wanted, times = file.read().split()
    except FileNotFoundError:
        return False
    if wanted != what:
        return False
    if times == "1":
        os.unlink(MARK)
    else:
        with open(MARK + ".new", "w") as file:
            file.write(wanted + " " + str(int(times) - 1))
        os.replace(MARK + ".new", MARK)  # another child may be reading it
    print("its last words", flush=True)
    return True

def die():
    {die}

{stage}

def callback(command, **arguments):
    if command != "calculate_criterion":
        return {{"version": "v", "get_orthography_by_segment_name": "word "}}[command]
    ASKED.append(arguments["segment_name"])
    in_criterion(ASKED[-1])
    with open({log!r}, "a") as log:
        print(ASKED[-1], file=log)
    make = np.asfortranarray if lands else np.ascontiguousarray
    return float(arguments["posteriors"].sum()), make(2 * arguments["posteriors"])

control = init()
late()
control.run_control_loop(callback=callback)
"""
NAMES = [f"c/s{index}" for index in range(5)]


class Mortal:
    def __init__(self, sprint_env, stage, death):
        self.sprint_env = sprint_env
        self.stage = stage
        self.death = death
        self.mark = sprint_env.path / "mark"
        self.log = sprint_env.path / "log"
        self.log.touch()
        self.posteriors = -np.random.default_rng(0).random((6, len(NAMES), 4)).astype(np.float32)
        self.lengths = np.full(len(NAMES), 6, np.int32)

    def pool(self, **more):
        stage = textwrap.dedent(STAGES[self.stage])
        body = SPRINT.format(mark=str(self.mark), log=str(self.log), die=WAYS_TO_DIE[self.death], stage=stage)
        return self.sprint_env.scripted_pool(body, **more)

    def plan(self, times):
        self.mark.write_text(f"{'start' if 'hello' in self.stage else 'c/s2'} {times}")

    def run(self, pool):
        return pool.get_batch_loss_and_error_signal(self.posteriors, self.lengths, NAMES)

    def check(self, answer, indices=None):
        loss, error_signal = answer
        indices = list(range(len(NAMES)) if indices is None else indices)
        np.testing.assert_allclose(loss[indices], self.posteriors.sum(axis=(0, 2))[indices], rtol=1e-5)
        np.testing.assert_array_equal(error_signal[:, indices], 2 * self.posteriors[:, indices])

    def check_error(self, error):
        if self.death == "exit code 7":
            assert (error.exit_code, error.signal_name) == (7, None)
            assert "exited with code 7" in str(error)
        else:
            assert (error.exit_code, error.signal_name) == (None, self.death)
            assert f"was ended by {self.death}" in str(error)
        assert error.last_output[-1] == "its last words"


@pytest.fixture(params=WAYS_TO_DIE)
def death(request):
    return request.param


IN_FLIGHT = [stage for stage in STAGES if "hello" not in stage and stage != "waiting"]


@pytest.mark.parametrize("stage", IN_FLIGHT)
def test_without_restarts_the_error_is_complete_and_the_next_batch_is_answered(sprint_env, stage, death):
    mortal = Mortal(sprint_env, stage, death)
    mortal.plan(1)
    with mortal.pool() as pool:
        with pytest.raises(shmbridge.PeerGoneError) as caught:
            mortal.run(pool)
        mortal.check_error(caught.value)
        partial = caught.value.partial
        assert partial is not None
        loss, error_signal = partial
        answered = np.flatnonzero(~np.isnan(loss))
        mortal.check((loss, error_signal), answered)
        # What was committed before the death has been answered, whether or not a doorbell rang.
        committed = 3 if stage == "between commit and doorbell" else 2
        assert answered.tolist() == list(range(committed))
        assert caught.value.segments[0] == NAMES[committed]
        mortal.check(mortal.run(pool))


@pytest.mark.parametrize("num_instances", [1, 2])
@pytest.mark.parametrize("stage", IN_FLIGHT)
def test_with_restarts_each_segment_is_answered_exactly_once(sprint_env, stage, num_instances):
    mortal = Mortal(sprint_env, stage, "SIGKILL")
    with mortal.pool(max_restarts=2, num_instances=num_instances) as pool:
        mortal.plan(1 if stage == "between commit and doorbell" else 2)
        mortal.check(mortal.run(pool))
        assert (pool.stats().segments, pool.stats().failed) == (len(NAMES), 0)
        if stage != "between commit and doorbell":  # the last answer may come before the death is noticed
            assert pool.stats().restarts == 2
    times = collections.Counter(mortal.log.read_text().split())
    # Sprint calculates a segment again only if its answer was lost.
    lost = {"half-way through the error signal": 3}.get(stage, 1)
    assert times == {**dict.fromkeys(NAMES, 1), "c/s2": lost}


def test_the_death_of_an_idle_sprint_fails_no_segment(sprint_env, death):
    mortal = Mortal(sprint_env, "waiting", death)
    with mortal.pool(
        max_restarts=1
    ) as pool:  # 1, because it may be noticed only when the next batch is under way
        (pid,) = sprint_env.sprint_pids()
        mortal.plan(1)
        mortal.check(mortal.run(pool))
        sprint_env.wait_gone([pid])
        mortal.check(mortal.run(pool))
        assert (pool.stats().segments, pool.stats().failed, pool.stats().restarts) == (10, 0, 1)


def test_a_death_before_the_hello_is_an_error_of_the_constructor(sprint_env, death):
    mortal = Mortal(sprint_env, "before its hello", death)
    mortal.plan(1)
    with pytest.raises(shmbridge.PeerGoneError) as caught:
        mortal.pool()
    mortal.check_error(caught.value)
    assert caught.value.segments == ()
    with mortal.pool() as pool:
        mortal.check(mortal.run(pool))


@pytest.mark.parametrize("max_restarts", [0, 1])
def test_a_death_right_after_the_hello_is_noticed_by_the_first_batch_at_the_latest(
    sprint_env, death, max_restarts
):
    mortal = Mortal(sprint_env, "after its hello", death)
    mortal.plan(1)
    try:
        pool = mortal.pool(max_restarts=max_restarts)
    except shmbridge.PeerGoneError as error:  # it was dead before its hello was read
        mortal.check_error(error)
        return
    with pool:
        try:
            mortal.check(mortal.run(pool))
        except shmbridge.PeerGoneError as error:
            assert max_restarts == 0
            mortal.check_error(error)
            mortal.check(mortal.run(pool))
