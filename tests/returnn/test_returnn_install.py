"""install() and uninstall(), in any order of imports, with RETURNN versions that lack something."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from typing import Any

import pytest
from returnn_env import Returnn

import shmbridge
import shmbridge.returnn
from shmbridge.parent.options import Options
from shmbridge.parent.returnn_options import RETURNN_NAMES
from support.sprint_env import SprintEnv

METHODS = ("get_batch_loss_and_error_signal", "get_automata_for_batch", "get_free_instance")


def pool_class() -> Any:
    from returnn.sprint.error_signals import SprintInstancePool

    return SprintInstancePool


def methods() -> list[Any]:
    return [getattr(pool_class(), name) for name in METHODS]


@pytest.fixture(autouse=True)
def _not_installed_afterwards() -> Any:
    assert not shmbridge.returnn.is_installed()
    yield
    shmbridge.returnn.uninstall()


def test_uninstall_restores_what_install_replaced() -> None:
    before = methods()
    others = {name: value for name, value in vars(pool_class()).items() if name not in METHODS}
    shmbridge.returnn.install()
    assert shmbridge.returnn.is_installed()
    assert not set(methods()) & set(before)
    assert {name: value for name, value in vars(pool_class()).items() if name not in METHODS} == others
    shmbridge.returnn.uninstall()
    assert methods() == before
    assert not shmbridge.returnn.is_installed()


def test_installing_twice_is_like_installing_once() -> None:
    before = methods()
    shmbridge.returnn.install()
    shmbridge.returnn.install()
    shmbridge.returnn.uninstall()
    assert methods() == before


def test_uninstalling_without_installing_does_nothing() -> None:
    before = methods()
    shmbridge.returnn.uninstall()
    assert methods() == before


def test_uninstalling_ends_the_children_and_installing_again_starts_others(returnn: Returnn) -> None:
    pool = returnn.pool("loop")
    names = returnn.sprint_env.NAMES[:2]
    returnn.check(pool, names)
    pids = returnn.sprint_env.sprint_pids()
    shmbridge.returnn.uninstall()
    returnn.sprint_env.wait_gone(pids)
    shmbridge.returnn.install(ring_size=1 << 20, env=returnn.sprint_env.env)
    returnn.check(pool, names)
    assert returnn.sprint_env.sprint_pids() != pids


def test_a_pool_created_before_install_uses_shmbridge_too(sprint_env: SprintEnv, returnn: Returnn) -> None:
    shmbridge.returnn.uninstall()
    pool = returnn.pool("loop")
    shmbridge.returnn.install(ring_size=1 << 20, env=sprint_env.env)
    returnn.check(pool, sprint_env.NAMES[:2])


BEFORE_OR_AFTER = {
    "RETURNN first": """
        from returnn.sprint.error_signals import SprintInstancePool
        import shmbridge.returnn
        shmbridge.returnn.install()
        """,
    "shmbridge first": """
        import shmbridge.returnn
        shmbridge.returnn.install()
        from returnn.sprint.error_signals import SprintInstancePool
        """,
    "through RETURNN's old module name": """
        import returnn
        import shmbridge.returnn
        from returnn.SprintErrorSignals import SprintInstancePool
        shmbridge.returnn.install()
        """,
}


@pytest.mark.parametrize("order", BEFORE_OR_AFTER)
def test_the_order_of_imports_does_not_matter(order: str) -> None:
    lines = [line.strip() for line in BEFORE_OR_AFTER[order].splitlines()]
    lines.append("print(SprintInstancePool.get_batch_loss_and_error_signal.__module__)")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == "shmbridge.returnn.pool", done.stderr


def test_importing_does_not_import_returnn() -> None:
    code = "import sys, shmbridge.returnn; sys.exit('returnn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- incompatible versions of RETURNN


def test_without_returnn_the_error_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "returnn", None)
    with pytest.raises(shmbridge.UsageError, match="pip install returnn dm-tree"):
        shmbridge.returnn.install()


@pytest.mark.parametrize("name", ["get_global_instance", *METHODS])
def test_a_returnn_without_one_of_the_methods_is_rejected_and_left_unchanged(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    import returnn

    monkeypatch.delattr(pool_class(), name)
    before = dict(vars(pool_class()))
    with pytest.raises(shmbridge.UsageError) as raised:
        shmbridge.returnn.install()
    assert name in str(raised.value)
    assert returnn.__version__ in str(raised.value)
    assert dict(vars(pool_class())) == before
    assert not shmbridge.returnn.is_installed()


def test_a_returnn_with_other_parameters_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_automata_for_batch(self: Any, tags: Any, more: Any) -> None:
        raise AssertionError("must not be called")

    monkeypatch.setattr(pool_class(), "get_automata_for_batch", get_automata_for_batch)
    with pytest.raises(shmbridge.UsageError, match=r"get_automata_for_batch\(self, tags, more\) != "):
        shmbridge.returnn.install()
    assert pool_class().get_automata_for_batch is get_automata_for_batch


@pytest.mark.parametrize("missing", ["lock", "sprint_opts", "max_num_instances"])
def test_a_returnn_whose_pools_lack_an_attribute_is_rejected(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    original = pool_class().__init__

    def without(self: Any, sprint_opts: Any) -> None:
        original(self, sprint_opts)
        delattr(self, missing)

    monkeypatch.setattr(pool_class(), "__init__", without)
    with pytest.raises(shmbridge.UsageError, match=f"has no attribute '{missing}'"):
        shmbridge.returnn.install()
    assert not shmbridge.returnn.is_installed()


def test_a_returnn_whose_constructor_reads_options_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    def eager(self: Any, sprint_opts: Any) -> None:
        sprint_opts["sprintExecPath"]

    monkeypatch.setattr(pool_class(), "__init__", eager)
    with pytest.raises(shmbridge.UsageError, match="KeyError: 'sprintExecPath'"):
        shmbridge.returnn.install()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("returnn.sprint.error_signals", "SprintInstancePool"),
        ("returnn.util.basic", "eval_shell_str"),
        ("returnn.config", "get_global_config"),
    ],
)
def test_a_returnn_without_one_of_the_names_is_rejected(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    __import__(module)
    monkeypatch.delattr(sys.modules[module], name)
    with pytest.raises(shmbridge.UsageError, match=f"'{module}' has no attribute '{name}'"):
        shmbridge.returnn.install()


def test_a_returnn_without_the_module_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "returnn.sprint.error_signals", None)
    with pytest.raises(shmbridge.UsageError, match=r"returnn\.sprint\.error_signals"):
        shmbridge.returnn.install()


# --- options of install()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"numInstances": 2}, "sprint_opts"),
        ({"num_instances": 2}, "sprint_opts"),
        ({"ringsize": 2}, "no option 'ringsize'; did you mean 'ring_size'"),
        ({"verbose": True}, "its options are ring_size, num_labels"),
        ({"ring_size": 0}, "ring_size is 0"),
        ({"start_timeout": "long"}, "start_timeout is 'long'"),
    ],
)
def test_wrong_options_are_rejected_and_nothing_is_installed(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(shmbridge.OptionError, match=expected):
        shmbridge.returnn.install(**options)
    assert not shmbridge.returnn.is_installed()


def test_install_has_all_options_that_have_no_name_in_returnn_with_their_defaults() -> None:
    parameters = inspect.signature(shmbridge.returnn.install).parameters
    options = {field.name: field.default for field in dataclasses.fields(Options)}
    assert {name: parameter.default for name, parameter in parameters.items() if name != "unknown"} == {
        name: default for name, default in options.items() if name not in RETURNN_NAMES.values()
    }


def test_options_of_install_apply_to_all_pools_and_sprint_opts_takes_precedence(returnn: Returnn) -> None:
    names, lengths = returnn.sprint_env.NAMES[:1], returnn.sprint_env.frames(returnn.sprint_env.NAMES[:1])
    posteriors = returnn.sprint_env.posteriors(lengths)
    shmbridge.returnn.install(ring_size=1 << 20, env=returnn.sprint_env.env, num_labels=5)
    with pytest.raises(shmbridge.BatchError, match="4 labels; the option num_labels is 5"):
        returnn.pool("loop").get_batch_loss_and_error_signal(posteriors, lengths, names)
    returnn.check(returnn.pool("loop", num_labels=4), names)


# --- Sprint's output

PROGRAM = """
import sys
import numpy as np
import shmbridge.returnn
{before}
shmbridge.returnn.install(ring_size=1 << 20)
{after}
from returnn.sprint.error_signals import SprintInstancePool
opts = dict(sprintExecPath=sys.argv[1], sprintConfigStr=sys.argv[2], usePythonSegmentOrder=False)
pool = SprintInstancePool(opts)
pool.get_automata_for_batch([sys.argv[3]])
{end}
"""
SETUPS = {
    "logging is not configured": ("", "", 1),
    "configured before": ("import logging; logging.basicConfig(stream=sys.stdout, level='INFO')", "", 1),
    "configured after": ("", "import logging; logging.basicConfig(stream=sys.stdout, level='INFO')", 1),
    "configured to be quiet": ("import logging; logging.basicConfig(stream=sys.stdout)", "", 0),
}


@pytest.mark.parametrize("setup", SETUPS)
def test_sprints_output_is_printed_once(returnn: Returnn, setup: str) -> None:
    before, after, times = SETUPS[setup]
    code = PROGRAM.format(before=before, after=after, end="shmbridge.returnn.uninstall()")
    options = returnn.sprint_opts("loop")
    done = subprocess.run(
        [sys.executable, "-c", code, options["sprintExecPath"], options["sprintConfigStr"], returnn.names[0]],
        capture_output=True,
        text=True,
        check=False,
        env=returnn.sprint_env.env,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("stand-in for nn-trainer") == times, done.stdout
