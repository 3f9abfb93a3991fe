"""The checker decides the classic litmus tests as RC11 and ARMv8 do."""

from __future__ import annotations

import pytest

from support.packages import import_or_skip

import_or_skip("z3")

import litmus  # noqa: E402
from armv8 import armv8  # noqa: E402
from concurrent_program import Program  # noqa: E402
from consistency import find_execution  # noqa: E402
from memory_order import Order  # noqa: E402
from rc11 import rc11  # noqa: E402


@pytest.mark.parametrize("test", litmus.ALL, ids=lambda test: test.name)
def test_both_models_have_the_known_verdicts(test):
    verdicts = {}
    for name, model in (("rc11", rc11), ("armv8", armv8)):
        program = Program()
        outcome = test.build(program)
        verdicts[name] = find_execution(program, model, outcome) is not None
    assert verdicts == {"rc11": test.rc11, "armv8": test.armv8}


def test_the_list_has_the_classic_families():
    families = {test.name.partition("+")[0] for test in litmus.ALL}
    assert families >= {"SB", "MP", "LB", "IRIW", "CoRR", "2", "S", "R", "WRC", "RWC", "ISA2", "Z6.U"}


@pytest.mark.parametrize(
    ("store", "load", "is_race"),
    [
        (Order.RELEASE, Order.ACQUIRE, False),
        (Order.RELAXED, Order.ACQUIRE, True),
        (Order.RELEASE, Order.RELAXED, True),
    ],
)
def test_plain_accesses_race_in_rc11_unless_they_are_ordered(store, load, is_race):
    program = Program()
    writer, reader = program.thread(), program.thread()
    writer.store("x", 1, Order.PLAIN)
    writer.store("y", 1, store)
    flag = reader.load("y", load)
    with reader.when(flag.is_(1)):
        reader.load("x", Order.PLAIN)
    assert (find_execution(program, rc11, False, or_undefined=True) is not None) == is_race
