"""A trainer that writes garbage: Sprint reports the violation and exits, without other effects."""

from __future__ import annotations

import ctypes
import struct

import numpy as np
import pytest

import shmbridge
from shmbridge import protocol
from shmbridge._native import ffi, lib
from shmbridge.memory import PAGE
from support.internals import change_control_messages, children, in_place_of_start_wait

SPRINT = "init().run_control_loop(callback=callback)"
TOP = 1 << 64


class Forger:
    """The trainer's end of a pool with one child, and its forgeries."""

    def __init__(self, pool):
        (self.child,) = children(pool)
        memory = self.child.memory
        self.raw = (ctypes.c_ubyte * memory.size).from_address(memory.address)

    def line(self, offset):
        return ctypes.c_uint64.from_buffer(self.raw, offset)

    tail = property(lambda self: self.line(PAGE))
    head = property(lambda self: self.line(PAGE + 256 + 128))

    def poke(self):
        """Ring Sprint's doorbell, at the beginning of the memory."""
        pointer = lib.shmb_doorbell_open(self.child.memory.pointer, 0, 0)
        lib.shmb_doorbell_poke(pointer)
        lib.shmb_doorbell_free(pointer)

    def request(self, name=b"c/s1", publish=True, **changes):
        """Send valid posteriors of shape (3, 4), except for the changes."""
        fields = {
            "position": self.tail.value, "size": 192, "sequence": 1, "loss": 0.0, "states": 0,
            "kind": lib.SHMB_POSTERIORS, "status": 0, "dtype": lib.SHMB_FLOAT32,
            "name_length": len(name), "rows": 3, "columns": 4, **changes,
        }  # fmt: skip
        at = 2 * PAGE + self.tail.value
        self.raw[at : at + 64] = ffi.buffer(ffi.new("shmb_record_header *", fields))[:]
        self.raw[at + 64 : at + 64 + len(name)] = name
        if publish:
            self.tail.value += 192
            self.poke()

    def spoil(self, line, value):
        line.value = value
        self.poke()

    def message(self, data):
        self.child.send_raw_control_bytes(data)


REQUESTS = {
    "a position": (lambda f: f.request(position=64), "does not name its own position"),
    "a size of 0": (lambda f: f.request(size=0), "does not fit"),
    "a size that wraps": (lambda f: f.request(size=TOP - 64), "does not fit"),
    "another size": (lambda f: f.request(size=128), "is not that of"),
    "an unknown kind": (lambda f: f.request(kind=99), "unknown kind"),
    "the kind of answers": (lambda f: f.request(kind=lib.SHMB_ERROR_SIGNAL), "of kind 3"),
    "scores": (lambda f: f.request(kind=lib.SHMB_SCORES), "of kind 7"),
    "an unknown dtype": (lambda f: f.request(dtype=9), "unknown dtype"),
    "a name's length": (lambda f: f.request(name_length=5000), "name is too long"),
    "a name that is not UTF-8": (lambda f: f.request(name=b"\xff\xfe"), "not UTF-8"),
    "a matrix whose size wraps": (lambda f: f.request(rows=1 << 31, columns=1 << 31), "is not that of"),
    "a tail that is not a multiple": (lambda f: f.spoil(f.tail, 1), "tail"),
    "a tail beyond the ring": (lambda f: f.spoil(f.tail, 1 << 40), "tail"),
    "a tail that wraps": (lambda f: f.spoil(f.tail, TOP - 64), "tail"),
    "a head beyond what was sent": (lambda f: (f.spoil(f.head, 1 << 40), f.request()), "head"),
    "a control message of Sprint's": (
        lambda f: f.message(protocol.encode("dimension", num_labels=4)),
        "unexpected message",
    ),
    "a second hello": (
        lambda f: f.message(protocol.encode("hello", protocol=1, abi=1)),
        "unexpected message",
    ),
    "a message of 4 GB": (lambda f: f.message(b"\xff" * 4), "4294967295 bytes"),
    "a message that is not JSON": (lambda f: f.message(struct.pack("<I", 2) + b"{x"), "is not valid JSON"),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_sprint_reports_the_violation_and_exits(sprint_env, what, sprint_log):
    forged, expected = REQUESTS[what]
    with sprint_env.scripted_pool(SPRINT) as pool:
        forger = Forger(pool)
        (pid,) = sprint_env.sprint_pids()
        forged(forger)
        forger.child.wait_for_exit()
        assert expected in "\n".join(sprint_log())
        assert forger.child.death().signal_name is None
        sprint_env.wait_gone([pid])
        # The forger only writes to the child: the pool continues with a new one.
        loss, _ = pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4), np.float32), [3], ["c/s1"])
        assert loss[0] == 1.5


HELLOS = {
    "another version": ({"protocol": 99}, "protocol version 99"),
    "another layout": ({"abi": 99}, "abi version 99"),
    "rings larger than the memory": ({"posteriors_size": 1 << 30}, "it must have 1074798592"),
    "rings of partial pages": ({"posteriors_size": 100_000}, "ring_size is 100000 bytes"),
    "rings beyond every bound": ({"error_signals_size": 1 << 62}, "ring_size is 4611686018427387904 bytes"),
    "rings of negative size": ({"error_signals_size": -(1 << 20)}, "ring_size is -1048576 bytes"),
    "a size that is not a number": ({"error_signals_size": "1"}, "error_signals_size in the parent's hello"),
}


@pytest.mark.parametrize("what", HELLOS)
def test_an_invalid_hello_is_refused_with_its_value(sprint_env, what):
    changes, expected = HELLOS[what]
    with pytest.raises(shmbridge.PeerGoneError, match=expected) as caught, change_control_messages(**changes):
        sprint_env.scripted_pool(SPRINT)
    assert caught.value.exit_code == 1


def test_a_sprint_whose_pool_was_closed_before_its_hello_exits_with_0(sprint_env, sprint_log):
    with in_place_of_start_wait(lambda: None):
        pool = sprint_env.scripted_pool(SPRINT)
        pool.close()
    assert children(pool)[0].death().exit_code == 0
    assert not any("Traceback" in line for line in sprint_log())
