"""Two processes exchange records through wraps, full rings and sleeps; every byte is checked."""

from __future__ import annotations

import time

import pytest
from ring_peer import with_peer

SPIN, SLEEP = 50_000, 0
OTHER_WAY = {"source": "drain", "drain": "source"}


def finish(process):
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert out.startswith("done")
    return int(out.split()[1])


@pytest.mark.parametrize(
    ("mode", "spin_ns", "count"),
    [
        ("stream", SPIN, 100_000),
        ("stream", SLEEP, 100_000),
        ("ping_pong", SPIN, 50_000),
        ("ping_pong", SLEEP, 25_000),
        ("source", SPIN, 50_000),
        ("drain", SLEEP, 50_000),
    ],
)
def test_every_record_arrives_whole_and_in_order(mode, spin_ns, count):
    with with_peer(OTHER_WAY.get(mode, mode), count, spin_ns) as (partner, process):
        try:
            getattr(partner, mode)()
        except (AssertionError, TimeoutError) as error:
            process.kill()
            raise AssertionError(f"{error}; output of the peer: {process.communicate()}") from error
        peer_waits = finish(process)
        if mode != "drain":
            assert partner.sent == count
        if mode != "source":
            assert partner.received == count
    if mode == "ping_pong":
        assert partner.n_waits + peer_waits > 0


def test_each_release_wakes_a_sleeping_producer():
    """The consumer releases only while the producer sleeps, so that every wake-up is needed."""
    with with_peer("source", 300, SLEEP) as (partner, process):
        while partner.received < 300:
            record = partner.try_receive()
            if record is None:
                partner.wait(for_room=False)
                continue
            if partner.received % 30 == 0:
                time.sleep(0.01)  # until the ring is full
        finish(process)


def test_views_of_records_outlive_the_sending_process():
    with with_peer("source", 3, SLEEP) as (partner, process):
        records = []
        while len(records) < 3:
            record = partner.try_receive()
            if record is None:
                partner.wait(for_room=False)
            else:
                records.append(record)
        copies = [record.matrix.copy() for record in records]
        finish(process)
    del partner
    for record, copy in zip(records, copies):
        assert (record.matrix == copy).all()
