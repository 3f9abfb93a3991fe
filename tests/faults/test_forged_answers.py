"""A Sprint that writes garbage: a ProtocolError, and a new child at the next call.

What one end of a ring makes of each field is shown in tests/ring/test_ring_hostile_peer.py; here it comes
from a real process, through the pool.
"""

from __future__ import annotations

import numpy as np
import pytest

import shmbridge
from support.internals import receive_automaton

TOP = 1 << 64
HUGE = "9" * 5000
# The forgery -> its code, and a part of the error
ANSWERS = {
    "a position": ("f.answer(position=64)", "does not name its own position"),
    "a size of 0": ("f.answer(size=0)", "does not fit"),
    "a size that is not a multiple": ("f.answer(size=100)", "does not fit"),
    "a size beyond what was published": ("f.answer(size=1024)", "does not fit"),
    "a size that wraps": (f"f.answer(size={TOP - 64})", "does not fit"),
    "another size": ("f.answer(size=64)", "is not that of"),
    "a sequence number that was never sent": ("f.answer(sequence=77)", "request 77;"),
    "a sequence number of 2**64 - 1": (f"f.answer(sequence={TOP - 1})", f"request {TOP - 1};"),
    "the second answer first": ("f.answer(sequence=f.sequence + 1)", "the next to be answered is"),
    "an answer that was given before": ("f.answer(sequence=f.sequence - 1)", "the next to be answered is"),
    "an answer twice": ("f.answer(); f.answer()", "the next to be answered is"),
    "an answer to a request of the next batch": (
        "[f.answer(sequence=f.sequence + later) for later in range(4)]",
        "answered request",
    ),
    "an unknown kind": ("f.answer(kind=99)", "unknown kind"),
    "the kind of posteriors": ("f.answer(kind=lib.SHMB_POSTERIORS)", "is of kind"),
    "the kind of automata": ("f.answer(kind=lib.SHMB_AUTOMATON)", "is of kind"),
    "the kind of scores": ("f.answer(kind=lib.SHMB_SCORES)", "is of kind"),
    "features": ("f.answer(kind=lib.SHMB_FEATURES, states=4)", "requested feature scores"),
    "a status": ("f.answer(status=9)", "unknown status"),
    "an unknown dtype": ("f.answer(dtype=9)", "unknown dtype"),
    "another dtype": ("f.answer(dtype=lib.SHMB_UINT32)", "it must be"),
    "a name's length": ("f.answer(name_length=1 << 31)", "name is too long"),
    "other rows": ("f.answer(rows=4)", "it must be"),
    "swapped rows and columns": ("f.answer(rows=4, columns=3)", "it must be"),
    "rows and columns whose product wraps": ("f.answer(rows=1 << 31, columns=1 << 31)", "is not that of"),
    "a failure that is not JSON": ("f.report(b'{')", "cannot be read"),
    "a failure without its fields": ("f.report(b'{}')", "cannot be read"),
    "a failure whose fields are not strings": (
        'f.report(b\'{"exception_type": 1, "message": 2, "traceback": 3}\')',
        "cannot be read",
    ),
    "a failure nested without end": ("f.report(b'[' * 100000)", "cannot be read"),
    "a failure of floats": ("f.answer(status=lib.SHMB_FAILED)", "is not bytes"),
    "a tail that is not a multiple": ("f.tail.value += 1; f.poke()", "tail"),
    "a tail beyond the ring": ("f.tail.value += 1 << 40; f.poke()", "tail"),
    "a tail that wraps": (f"f.tail.value = {TOP - 64}; f.poke()", "tail"),
    "a tail that goes back": ("f.tail.value -= 64; f.poke()", "tail"),
    "padding of the whole ring": (
        "f.answer(kind=lib.SHMB_PADDING, size=RING, publish=False); f.tail.value += RING + 64; f.poke()",
        "tail",
    ),
    "a head beyond what was sent": ("f.head.value += 1 << 20; f.answer()", "head"),
    "a head that goes back": ("f.head.value = 0; f.answer()", "head"),
}
MESSAGES = {
    "not JSON": ("f.json('x' * 100)", "is not valid JSON"),
    "not UTF-8": (r"f.message(struct.pack('<I', 4) + b'\xff' * 4)", "is not valid JSON"),
    "an empty message": ("f.message(bytes(4))", "is not valid JSON"),
    "a length of 4 GB": (r"f.message(b'\xff' * 4)", "4294967295 bytes"),
    "a list": ("f.json('[]')", "is of type list"),
    "an unknown kind": ("""f.json('{"kind": "segment"}')""", "unknown kind"),
    "a kind that is not a string": ("""f.json('{"kind": {}}')""", "unknown kind"),
    "a message of the trainer": ("""f.json('{"kind": "exit"}')""", "message 'exit'"),
    "a field of another type": ("""f.json('{"kind": "dimension", "num_labels": "4"}')""", "labels"),
    "a missing field": ("""f.json('{"kind": "dimension"}')""", "labels"),
    "an invalid number of labels": ("""f.json('{"kind": "dimension", "num_labels": -1}')""", "labels is -1"),
    "a number of 5000 digits": (f"""f.json('{{"kind": "dimension", "num_labels": {HUGE}}}')""", None),
    "a second hello": (
        "protocol.send(f.link._c2p_fd, 'hello', protocol=protocol.PROTOCOL_VERSION, abi=lib.SHMB_ABI)",
        "a second hello",
    ),
    "nested without end": ("f.json('[' * 100000)", "is not valid JSON"),
}
NAMES = ["c/s0", "c/s1", "c/s2"]


def batch(pool, names=NAMES):
    posteriors = np.ones((3, len(names), 4), np.float32)
    return pool.get_batch_loss_and_error_signal(posteriors, [3] * len(names), names)


def check(pool):
    loss, error_signal = batch(pool)
    assert (loss == 1.5).all()
    assert (error_signal == 2).all()


def forger_pool(sprint_env, mark, **more):
    return shmbridge.SprintInstancePool(**sprint_env.sprint_file("forger", {"mark": mark}, **more))


@pytest.fixture(scope="module")
def forged(module_sprint_env):
    """One pool for all tests: each forgery ends its child, and the next call restarts it."""
    mark = module_sprint_env.path / "forge"
    with forger_pool(module_sprint_env, mark) as pool:
        yield pool, mark


def forge(pool, mark, what, expected):
    check(pool)
    mark.write_text(what)
    with pytest.raises(shmbridge.ProtocolError, match=expected):
        # If the first batch is complete before the pool reads the forgery, the second one raises.
        _ = batch(pool), batch(pool)
    check(pool)


@pytest.mark.parametrize("what", ANSWERS)
def test_a_forged_answer_is_a_protocol_error_and_a_new_sprint_continues(forged, what):
    forge(*forged, *ANSWERS[what])


@pytest.mark.parametrize("what", MESSAGES)
def test_a_forged_control_message_is_a_protocol_error_and_a_new_sprint_continues(forged, what):
    forge(*forged, *MESSAGES[what])


@pytest.mark.parametrize("end", ["os._exit(4)", "os.close(f.link._c2p_fd); signal.pause()"])
def test_a_truncated_control_message_counts_as_the_end_of_sprint(forged, end):
    pool, mark = forged
    check(pool)
    mark.write_text(f"f.message(struct.pack('<I', 100) + b'{{'); {end}")
    with pytest.raises(shmbridge.PeerGoneError) as caught:
        batch(pool)
    assert caught.value.segments == ("c/s0", "c/s1")
    check(pool)


def test_a_stalled_control_message_does_not_block(forged):
    pool, mark = forged
    check(pool)
    mark.write_text("f.message(struct.pack('<I', 100) + b'{'); f.answer(); f.answer(sequence=f.sequence + 1)")
    loss, _ = batch(pool, NAMES[:2])
    assert (loss == 1.5).all()


def test_after_a_protocol_error_max_restarts_new_sprints_are_started(module_sprint_env):
    """As after a death, unanswered segments are resent, and each is answered once."""
    mark = module_sprint_env.path / "forge-again"
    with forger_pool(module_sprint_env, mark, max_restarts=1, num_instances=2) as pool:
        mark.write_text("f.answer(kind=99)")
        check(pool)
        assert (pool.stats().segments, pool.stats().failed, pool.stats().restarts) == (3, 0, 1)


@pytest.mark.parametrize("max_restarts", [0, 1])
def test_an_invalid_position_found_by_a_claim_does_not_hang_earlier_segments(module_sprint_env, max_restarts):
    """The claim reads no answers; the sent segments must still raise."""
    mark, forged = module_sprint_env.path / "forge-head", module_sprint_env.path / f"forged-{max_restarts}"
    with forger_pool(module_sprint_env, mark, max_restarts=max_restarts) as pool:
        mark.write_text(f"f.head.value += 1 << 20; open({str(forged)!r}, 'w').close()")
        claim = pool.claim(NAMES[0], 3, 4)
        claim.posteriors[:] = 1
        earlier = claim.send()
        module_sprint_env.wait_until(forged.exists, "the position is forged")
        if max_restarts == 0:
            for call in (lambda: pool.claim(NAMES[1], 3, 4), earlier.result):
                with pytest.raises(shmbridge.ProtocolError, match="head"):
                    call()
        else:
            later = pool.claim(NAMES[1], 3, 4)
            assert earlier.result().loss == 1.5
            later.posteriors[:] = 1
            assert later.send().result().loss == 1.5
        check(pool)


def test_automata_with_more_states_than_can_be_numbered_are_a_protocol_error(module_sprint_env):
    body = """
        def exporting(command, **arguments):
            if command == "version":
                return "v"
            return 2**31, 1, np.zeros(3, np.uint32), np.zeros(1, np.float32)

        init().run_control_loop(callback=exporting)
        """
    with module_sprint_env.scripted_pool(body) as pool:
        assert pool.get_automata_for_batch(["c/s0"])[2].tolist() == [[0], [2**31 - 1]]
        with pytest.raises(shmbridge.ProtocolError, match="4294967296 states"):
            pool.get_automata_for_batch(["c/s0", "c/s1"])


class Changing:
    """A record of an automaton whose states Sprint overwrites after each read."""

    states = 1
    status = 0

    def __init__(self):
        self._matrix = np.zeros((4, 1), np.uint32)

    @property
    def matrix(self):
        matrix = self._matrix.copy()
        self._matrix[0] += 1
        return matrix


def test_an_automaton_does_not_change_after_its_check():
    assert receive_automaton(Changing())[0].tolist() == [0]
