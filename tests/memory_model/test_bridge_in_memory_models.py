"""Ring and doorbell in all executions that RC11 and ARMv8 allow; mutants of csrc must fail."""

from __future__ import annotations

from functools import partial

import pytest

from support.packages import import_or_skip

z3 = import_or_skip("z3")

from armv8 import armv8  # noqa: E402
from bridge_programs import reused_space, ringer_and_poke, two_ringers  # noqa: E402
from c_atomics import read_functions, read_sources  # noqa: E402
from consistency import find_execution  # noqa: E402
from rc11 import rc11  # noqa: E402

MODELS = {"RC11": rc11, "ARMv8": armv8}
FUNCTIONS = read_functions(read_sources())
# A poke that finds as many tokens as there may be: it adds none.
ALL_TOKENS = {"rounds": 3, "attempts": 1, "max_tokens": 1, "tokens": 1}
SCENARIOS = {
    "two ringers": partial(two_ringers, rounds=3),
    "two ringers of a sleeper that spins": partial(two_ringers, rounds=2, attempts=1, spins=True),
    "a ringer and a poke": partial(ringer_and_poke, rounds=3),
    "a poke that adds no token": partial(ringer_and_poke, **ALL_TOKENS),
    "a poke that adds no token to a sleeper that spins": partial(ringer_and_poke, **ALL_TOKENS, spins=True),
    "space that is used again": reused_space,
}


def find_failure(scenario, model, functions=FUNCTIONS, mistakes=()):
    built = SCENARIOS[scenario](functions, mistakes)
    return find_execution(built.program, MODELS[model], built.fails, or_undefined=True)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_news_is_lost_and_no_record_is_torn(scenario, model):
    steps = find_failure(scenario, model)
    assert steps is None, "\n".join(steps)


COMPLETE = {
    "two ringers": partial(two_ringers, rounds=5, attempts=3),
    "two ringers of a sleeper that spins": partial(two_ringers, rounds=5, attempts=3, spins=True),
    "a ringer and a poke": partial(ringer_and_poke, rounds=5, attempts=3),
}


@pytest.mark.parametrize("scenario", COMPLETE)
def test_on_arm_no_execution_is_longer_than_these_and_none_fails(scenario):
    built = COMPLETE[scenario](FUNCTIONS, ())
    steps = find_execution(
        built.program, armv8, lambda execution: z3.Or(built.fails(execution), built.is_cut_off(execution))
    )
    assert steps is None, "\n".join(steps)


# --- mutants of csrc: the checker reads their orders as it reads those of the code

FENCE = "FENCE(doorbell, memory_order_seq_cst);"
WEAKER_FENCE = "FENCE(doorbell, memory_order_acq_rel);"
RING = "void shmb_doorbell_ring("
ANNOUNCE = "void shmb_doorbell_announce("
POKE = "void shmb_doorbell_poke("
TAKE = "int shmb_doorbell_take_token("


def relaxed(operation):
    """The operation without an order, as a relaxed one."""
    name, _, arguments = operation.partition("(")
    orders = ", memory_order_relaxed" * (2 if "compare" in name else 1)
    return operation, f"{name}_explicit({arguments.removesuffix(')')}{orders})"


ACQUIRE, RELEASE, RELAXED = (f"memory_order_{order}" for order in ("acquire", "release", "relaxed"))
EXCHANGE = relaxed("atomic_exchange(waiting, 0)")
COMPARE = relaxed("atomic_compare_exchange_weak(tokens, &count, left)")
STORE = relaxed("atomic_store(&doorbell->shared->waiting, roles)")
LOAD = relaxed("atomic_load(tokens)")
ADD = relaxed("atomic_fetch_add(tokens, 1)")


def mutate(sources, function, old, new):
    """Return the sources after a replacement in one function."""
    (name,) = (name for name, text in sources.items() if f"\n{function}" in text)
    text = sources[name]
    start = text.index(f"\n{function}")
    end = text.index("\n}", start)
    assert text.count(old, start, end) == 1
    return {**sources, name: text[:start] + text[start:end].replace(old, new) + text[end:]}


SMALL = {
    "two ringers": partial(two_ringers, rounds=2, attempts=1),
    "a ringer and a poke": partial(ringer_and_poke, rounds=2, attempts=1),
}
FULL = "a poke that adds no token"
FULL_AND_SPINS = "a poke that adds no token to a sleeper that spins"
MUTANTS = {
    "the ringer has no fence": (RING, FENCE, "", "two ringers", "RC11"),
    "the ringer has no fence, on ARM": (RING, FENCE, "", "two ringers", "ARMv8"),
    "the ringer's fence is weaker": (RING, FENCE, WEAKER_FENCE, "two ringers", "RC11"),
    "the sleeper has no fence": (ANNOUNCE, FENCE, "", "two ringers", "RC11"),
    "the sleeper's fence is weaker": (ANNOUNCE, FENCE, WEAKER_FENCE, "two ringers", "RC11"),
    "a poke has no fence": (POKE, FENCE, "", FULL, "RC11"),
    "a poke has no fence, on ARM": (POKE, FENCE, "", FULL, "ARMv8"),
    "a poke's fence is weaker": (POKE, FENCE, WEAKER_FENCE, FULL, "RC11"),
    "a token is taken without a fence": (TAKE, FENCE, "", FULL_AND_SPINS, "RC11"),
    "a token is taken without a fence, on ARM": (TAKE, FENCE, "", FULL_AND_SPINS, "ARMv8"),
    "a token is taken with a weaker fence": (
        TAKE, FENCE, WEAKER_FENCE, FULL_AND_SPINS, "RC11",
    ),
    "a tail is published without release": ("static void publish(", RELEASE, RELAXED, "two ringers", "RC11"),
    "a tail is published without release, on ARM": (
        "static void publish(", RELEASE, RELAXED, "two ringers", "ARMv8",
    ),
    "a head is published without release": (
        "static void publish(", RELEASE, RELAXED, "space that is used again", "RC11",
    ),
    "a tail is loaded without acquire": ("static int load_tail(", ACQUIRE, RELAXED, "two ringers", "RC11"),
    "a tail is loaded without acquire, on ARM": (
        "static int load_tail(", ACQUIRE, RELAXED, "space that is used again", "ARMv8",
    ),
    "a head is loaded without acquire": (
        "static int load_head(", ACQUIRE, RELAXED, "space that is used again", "RC11",
    ),
}  # fmt: skip


def find_in_mutant(scenario, model, functions, mistakes=()):
    built = (SMALL.get(scenario) or SCENARIOS[scenario])(functions, mistakes)
    return find_execution(built.program, MODELS[model], built.fails, or_undefined=True)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("scenario", SMALL)
def test_a_sleeper_can_be_woken(scenario, model):
    built = SMALL[scenario](FUNCTIONS, ())
    assert find_execution(built.program, MODELS[model], z3.Or(built.woken)) is not None


@pytest.mark.parametrize("name", MUTANTS)
def test_a_weaker_order_is_found(name):
    function, old, new, scenario, model = MUTANTS[name]
    functions = read_functions(mutate(read_sources(), function, old, new))
    assert find_in_mutant(scenario, model, functions) is not None


MISTAKES = {
    "checks before announcing": "two ringers",
    "does not check again": "two ringers",
    "publishes before writing": "two ringers",
    "rings before publishing": "two ringers",
    "does not wake": "two ringers",
    "wakes before adding": "two ringers",
    "releases before reading": "space that is used again",
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("model", MODELS)
def test_a_step_at_the_wrong_place_is_found(mistake, model):
    assert find_in_mutant(MISTAKES[mistake], model, FUNCTIONS, [mistake]) is not None


# These orders are stronger than the protocol needs, because fences do their work. All can be relaxed at once.
NOT_NEEDED = [
    (RING, *EXCHANGE),
    (TAKE, *COMPARE),
    (ANNOUNCE, *STORE),
    (POKE, *LOAD),
    (POKE, *ADD),
    ("int shmb_ring_has_news(", f"tail, {ACQUIRE}", f"tail, {RELAXED}"),
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_orders_that_are_stronger_than_needed_are_known(scenario):
    sources = read_sources()
    for change in NOT_NEEDED:
        sources = mutate(sources, *change)
    assert find_in_mutant(scenario, "RC11", read_functions(sources)) is None
