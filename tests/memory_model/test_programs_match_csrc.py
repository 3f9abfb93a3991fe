"""The programs of tests/memory_model are those of csrc. Needs no solver."""

from __future__ import annotations

import pytest
from c_atomics import read_functions, read_sources

# What was modelled: the operations of each function, and a digest of its text without orders and fences.
MODELLED = {
    "shmb_doorbell_poke": (["load tokens", "fetch_add tokens", "syscall"], "35d86017d74a7ae3"),
    "shmb_doorbell_ring": (["load waiting", "exchange waiting", "shmb_doorbell_poke"], "f189da29c3d28187"),
    "shmb_doorbell_take_token": (["load tokens", "compare_exchange_weak tokens"], "c83d838a8f214c2b"),
    "shmb_doorbell_announce": (["store waiting"], "58ddf3ad9760e723"),
    "shmb_doorbell_sleep": (["shmb_doorbell_take_token", "syscall"], "7147e0f29c75fae0"),
    "publish": (["store own line", "shmb_doorbell_ring"], "d45d4f688b721913"),
    "finished_position": ([], "ec5b3291cc53b82f"),
    "load_head": (["load head"], "3cf6e08198c109d2"),
    "load_tail": (["load tail"], "b1c7130da3eb3019"),
    "shmb_ring_has_news": (["load tail", "load head"], "3717571bf962cbbb"),
    "shmb_ring_commit": (["publish"], "ca876e81ba05342f"),
    "receive": (["load_tail", "memcpy"], "de824a456143b7ac"),
    "release_in_order": (["publish"], "083b702c2592746e"),
    "shmb_ring_release": ([], "af07fcc29c792876"),
    "any_news": (["shmb_ring_has_news"], "98bb8a72fc3f478d"),
    "shmb_sleep": (
        [
            "shmb_doorbell_waits",
            "shmb_doorbell_announce",
            "any_news",
            "shmb_doorbell_sleep",
            "shmb_doorbell_announce",
        ],
        "e0aea861dde6705e",
    ),
}


def find_changes(sources):
    """Return the functions that differ from what was modelled."""
    functions = read_functions(sources)
    found = {name: (functions[name].shape, functions[name].digest) for name in MODELLED}
    return {name: what for name, what in found.items() if what != MODELLED[name]}


def test_the_programs_are_those_of_csrc():
    changed = find_changes(read_sources())
    assert not changed, "compare bridge_programs.py with these functions, then change MODELLED"


@pytest.mark.parametrize(
    ("file", "old", "new", "function"),
    [
        (
            "doorbell.c",
            "atomic_exchange(waiting, 0) != 0",
            "atomic_exchange(waiting, 0) == 0",
            "shmb_doorbell_ring",
        ),
        ("doorbell.c", "atomic_fetch_add(tokens, 1)", "atomic_store(tokens, 1)", "shmb_doorbell_poke"),
        ("ring.c", "    set(&end->published, position);\n", "", "publish"),
        ("wait.c", "    shmb_doorbell_announce(doorbell, 0);\n", "", "shmb_sleep"),
    ],
)
def test_a_change_of_csrc_is_noticed(file, old, new, function):
    sources = read_sources()
    assert sources[file].count(old) == 1
    assert list(find_changes({**sources, file: sources[file].replace(old, new)})) == [function]
