"""Any bytes that the peer writes into shared memory cause at most a ProtocolError, never a bad pointer."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ring_pair import HEAD, RECORDS_OFFSET, TAIL, RingPair, address

from shmbridge._native import ffi, lib
from shmbridge.errors import ProtocolError

HERE = Path(__file__).resolve().parent
CAPACITY = 1024
TOP = 1 << 64


def check_refused(ring: RingPair, problem: str, value: int, limit: int) -> None:
    message = re.escape(problem) + r".*" + re.escape(f"(found {value}, expected or limit {limit})")
    for _ in range(2):  # the error is permanent
        with pytest.raises(ProtocolError, match=message):
            ring.consumer.receive()
    assert ring.consumer.used == 0
    assert ring.head == 0


# --- headers

FIT, SIZE, WRONG_SIZE = "does not fit into the published bytes", 320, "is not that of its name and matrix"


@pytest.mark.parametrize(
    ("field", "value", "problem", "limit"),
    [
        ("position", 64, "does not name its own position", 0),
        ("position", TOP - 1, "does not name its own position", 0),
        ("size", 0, FIT, SIZE),
        ("size", 1, FIT, SIZE),
        ("size", 63, FIT, SIZE),
        ("size", 65, FIT, SIZE),
        ("size", SIZE + 1, FIT, SIZE),
        ("size", SIZE + 64, FIT, SIZE),
        ("size", CAPACITY, FIT, SIZE),
        ("size", 1 << 63, FIT, SIZE),
        ("size", TOP - 64, FIT, SIZE),
        ("size", 64, WRONG_SIZE, SIZE),
        ("size", SIZE - 64, WRONG_SIZE, SIZE),
        ("kind", 0, "unknown kind", lib.SHMB_SCORES),
        ("kind", lib.SHMB_SCORES + 1, "unknown kind", lib.SHMB_SCORES),
        ("kind", (1 << 32) - 1, "unknown kind", lib.SHMB_SCORES),
        ("status", lib.SHMB_FAILED + 1, "unknown status", lib.SHMB_FAILED),
        ("status", (1 << 32) - 1, "unknown status", lib.SHMB_FAILED),
        ("dtype", 0, "unknown dtype", lib.SHMB_UINT8),
        ("dtype", lib.SHMB_FLOAT64, "unknown dtype", lib.SHMB_UINT8),
        ("dtype", (1 << 32) - 1, "unknown dtype", lib.SHMB_UINT8),
        ("name_length", 4097, "name is too long", 4096),
        ("name_length", (1 << 32) - 1, "name is too long", 4096),
    ],
)
def test_a_header_with_one_invalid_field_is_refused(ring, field, value, problem, limit):
    ring.must_send(SIZE)
    ring.poke_header(0, **{field: value})
    check_refused(ring, problem, value, limit)


@pytest.mark.parametrize(
    ("rows", "columns", "needed"),
    [
        (0, 0, 64),
        (257, 1, 384),
        (2, 256, 576),
        ((1 << 32) - 1, (1 << 32) - 1, 0),
        (1 << 31, 1 << 31, 0),
        (1 << 30, 1 << 30, 0),
        ((1 << 29), 1 << 30, (1 << 59) + 64),
        ((1 << 32) - 1, 1, (1 << 32) + 64),
    ],
)
def test_a_matrix_that_does_not_match_the_size_of_its_record_is_refused(ring, rows, columns, needed):
    ring.must_send(SIZE)
    ring.poke_header(0, rows=rows, columns=columns)
    check_refused(ring, WRONG_SIZE, SIZE, needed)


def test_a_dtype_of_larger_elements_is_refused(ring):
    ring.must_send(SIZE)
    ring.poke_header(0, dtype=lib.SHMB_FLOAT32)
    check_refused(ring, WRONG_SIZE, SIZE, 64 + 1024)


def test_a_name_that_covers_the_matrix_is_refused(ring):
    ring.must_send(SIZE)
    ring.poke_header(0, name_length=64)
    check_refused(ring, WRONG_SIZE, SIZE, SIZE + 64)


@pytest.mark.parametrize("kind", [lib.SHMB_PADDING, lib.SHMB_POSTERIORS])
def test_a_record_that_extends_beyond_the_ring_is_refused(ring, kind):
    ring.must_send(512)
    ring.must_send(448)
    ring.must_send(64)
    ring.receive(0).release()
    held = ring.receive(1)
    ring.poke(TAIL, 1024 + 64)
    ring.poke_header(960, size=128, columns=64, kind=kind)
    with pytest.raises(ProtocolError, match=r"found 128, expected or limit 64"):
        ring.consumer.receive()
    ring.check(held)


@pytest.mark.parametrize("size", [0, 32, 96, SIZE + 64, TOP - 64])
def test_padding_of_an_invalid_size_is_refused(ring, size):
    ring.must_send(SIZE)
    ring.poke_header(0, kind=lib.SHMB_PADDING, size=size)
    check_refused(ring, FIT, size, SIZE)


def test_a_header_that_changes_after_the_check_has_no_effect(ring):
    ring.must_send(SIZE)
    record = ring.receive(0)
    ring.raw[RECORDS_OFFSET : RECORDS_OFFSET + 64] = b"\xff" * 64
    assert record.matrix.shape == (1, SIZE - 64)
    assert record.sequence == 0
    record.release()
    assert ring.head == SIZE


def test_the_producer_does_not_read_the_header_of_an_open_claim(ring):
    claim = ring.claim(SIZE)
    ring.raw[RECORDS_OFFSET : RECORDS_OFFSET + 64] = b"\xff" * 64
    claim.commit()
    assert ring.tail == SIZE
    assert ring.producer.used == SIZE


# --- positions


@pytest.mark.parametrize(
    "tail", [1, 63, 65, CAPACITY + 64, CAPACITY + 1, 1 << 32, 1 << 63, TOP - 64, TOP - 1]
)
def test_a_tail_outside_the_ring_is_refused(ring, tail):
    ring.poke(TAIL, tail)
    check_refused(ring, "tail is outside the ring", tail, CAPACITY)


@pytest.mark.parametrize("tail", [0, 64, 192])
def test_a_tail_that_goes_backwards_is_refused(ring, tail):
    ring.must_send(128)
    ring.must_send(128)
    record = ring.receive(0)
    for now in (tail, 256):  # the error is permanent, even after the peer restores the tail
        ring.poke(TAIL, now)
        with pytest.raises(ProtocolError, match=f"tail .*found {tail},"):
            ring.consumer.receive()
    ring.check(record)


def test_a_tail_that_overwrites_unreleased_records_is_refused(ring):
    for _ in range(4):
        ring.must_send(256)
    records = [ring.receive(i) for i in range(4)]
    ring.poke(TAIL, 1024 + 64)
    with pytest.raises(ProtocolError, match="found 1088, expected or limit 1024"):
        ring.consumer.receive()
    del records


@pytest.mark.parametrize("head", [1, 63, 256, 320, 1 << 32, 1 << 63, TOP - 64, TOP - 1])
def test_a_head_outside_the_published_records_is_refused(ring, head):
    ring.must_send(192)
    claim = ring.claim(128)
    ring.poke(HEAD, head)
    for _ in range(2):
        with pytest.raises(ProtocolError, match=rf"head .*\(found {head}, expected or limit 192\)"):
            ring.claim(64)
    claim.commit()  # writes only its own record
    assert ring.tail == 320


@pytest.mark.parametrize("head", [0, 64, 128])
def test_a_head_that_goes_backwards_is_refused(ring, head):
    ring.pass_on(192)
    ring.claim(64)
    for now in (head, 192):  # the error is permanent, even after the peer restores the head
        ring.poke(HEAD, now)
        with pytest.raises(ProtocolError, match=f"head .*found {head},"):
            ring.claim(64)


@pytest.mark.parametrize("position", [TAIL, HEAD])
def test_a_wait_returns_if_positions_are_invalid(ring, position):
    ring.poke(position, TOP - 1)
    end = "consumer" if position == TAIL else "producer"
    assert ring.wait(end, 5.0)


# --- random bytes

numbers = st.one_of(
    st.sampled_from([0, 1, 63, 64, 65, 128, 320, 960, 1024, 1088, 4096, 4097, TOP - 64, TOP - 1, 1 << 63]),
    st.integers(0, 20).map(lambda n: n * 64),
    st.integers(0, TOP - 1),
)
small = st.one_of(st.integers(0, 8), st.integers(0, 260), st.integers(0, (1 << 32) - 1))
plausible = st.fixed_dictionaries(
    {},
    optional={
        "position": numbers,
        "size": numbers,
        "sequence": numbers,
        "loss": st.floats(),
        "states": numbers,
        "kind": small,
        "status": small,
        "dtype": small,
        "name_length": small,
        "rows": small,
        "columns": small,
    },
)


def receive_all(ring: RingPair) -> None:
    """Receive until the ring is empty or corrupt; each record must lie within the published bytes."""
    held = []
    while True:
        before = ring.consumer.used
        try:
            record = ring.consumer.receive()
        except ProtocolError as error:
            problem = str(error)
            break
        if record is None:
            return
        begin = address(record.matrix) - ring.base
        assert begin >= 64
        assert begin + record.matrix.nbytes <= ring.capacity
        assert len(record.name) <= 4096
        assert ring.consumer.used - before <= ring.capacity
        assert ring.consumer.used <= ring.capacity
        record.matrix.tobytes()
        held.append(record)
    assert re.search(r"\(found \d+, expected or limit \d+\)", problem)


@settings(max_examples=400, deadline=None)
@given(changes=plausible, tail=st.one_of(st.none(), numbers), held=st.booleans())
def test_no_changed_header_or_tail_leads_to_a_record_outside_the_ring(changes, tail, held):
    ring = RingPair(CAPACITY)
    try:
        for size in (512, 256, 128, 128):
            ring.must_send(size)
        ring.receive(0).release()
        kept = ring.receive(1) if held else None
        ring.poke_header(768 if held else 512, **changes)
        if tail is not None:
            ring.poke(TAIL, tail)
        receive_all(ring)
        if kept is not None:
            ring.check(kept)
    finally:
        ring.close()


@settings(max_examples=400, deadline=None)
@given(header=st.binary(min_size=64, max_size=64), tail=numbers)
def test_no_random_header_leads_to_a_record_outside_the_ring(header, tail):
    ring = RingPair(CAPACITY)
    try:
        ring.raw[RECORDS_OFFSET : RECORDS_OFFSET + 64] = header
        ring.poke(TAIL, tail)
        receive_all(ring)
    finally:
        ring.close()


@settings(max_examples=300, deadline=None)
@given(heads=st.lists(numbers, max_size=6), sizes=st.lists(st.integers(1, 16), min_size=6, max_size=6))
def test_no_head_makes_the_producer_overwrite_an_open_claim(heads, sizes):
    ring = RingPair(CAPACITY)
    try:
        claim = ring.claim(192)
        for head, size in zip(heads, sizes):
            ring.poke(HEAD, head)
            try:
                if not ring.send(size * 64):
                    continue
            except (ProtocolError, BufferError):
                continue
        # Nothing was published before the open claim, so no head can free its space.
        assert bytes(claim.matrix[0]) == bytes(ring.raw[RECORDS_OFFSET + 64 : RECORDS_OFFSET + 192])
        assert ring.tail == 0
    finally:
        ring.close()


@pytest.mark.parametrize("seed", range(3))
def test_a_peer_that_writes_random_bytes_does_not_crash_this_process(seed):
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(HERE / "wild_peer.py"), str(seed)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) > 100


@pytest.mark.parametrize("at", [0, 4, 8, 12, 16, 24, 32, 64])
@pytest.mark.parametrize("garbage", ["00", "ff", "01", "80", "7f"])
def test_an_overwritten_doorbell_does_not_end_the_process(at, garbage):
    done = subprocess.run(
        [sys.executable, str(HERE / "overwritten_doorbell.py"), str(at), garbage * 4],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "alive" in done.stdout


def test_the_header_has_the_layout_of_the_diagram(ring):
    claim = ring.producer.claim(lib.SHMB_AUTOMATON, 2, 3, name=b"abc", sequence=9, dtype=lib.SHMB_UINT32)
    claim.commit(lib.SHMB_SKIPPED, 2.5, 7)
    expected = {
        "position": (0, 0),
        "size": (8, 192),
        "sequence": (16, 9),
        "loss": (24, 2.5),
        "states": (32, 7),
        "kind": (40, lib.SHMB_AUTOMATON),
        "status": (44, lib.SHMB_SKIPPED),
        "dtype": (48, lib.SHMB_UINT32),
        "name_length": (52, 3),
        "rows": (56, 2),
        "columns": (60, 3),
    }
    header, fields = ring.header(0), ffi.typeof("shmb_record_header").fields
    assert {name: (field.offset, getattr(header, name)) for name, field in fields} == expected
    assert ffi.sizeof("shmb_record_header") == lib.SHMB_HEADER_SIZE
    assert ring.tail == 192
