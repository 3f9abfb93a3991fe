"""The package as a whole: its names, its imports, and the modules that it must not use."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import shmbridge
from shmbridge import errors

PACKAGE = Path(shmbridge.__file__).parent


def test_every_error_of_the_tree_is_public_and_drawn_in_its_picture():
    classes = [
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    ]
    assert sorted(classes) == sorted(errors.__all__)
    for name in classes:
        assert name in errors.__doc__
        assert issubclass(getattr(errors, name), shmbridge.ShmbridgeError)


def test_the_child_loads_no_module_of_the_parent_and_no_framework():
    code = (
        "import sys, numpy; before = set(sys.modules); import sprint_entry; "
        "bad = [m for m in set(sys.modules) - before if m.startswith(('shmbridge.parent', 'posix_ipc', "
        "'shmbridge.refsprint', 'subprocess', 'torch', 'returnn'))]; sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_torch_the_error_names_the_package_to_install():
    code = "import sys; sys.modules['torch'] = None; import shmbridge.torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot import PyTorch" in done.stderr
    assert "pip install torch" in done.stderr


@pytest.mark.parametrize("module", ["shmbridge", "sprint_entry", "shmbridge.refsprint"])
@pytest.mark.parametrize("platform", ["darwin", "win32", "freebsd14"])
def test_on_another_system_the_import_says_so_in_one_sentence(module, platform):
    code = f"import sys; sys.platform = {platform!r}; import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: shmbridge needs Linux")
    assert platform in last


def test_on_another_system_the_build_says_so_in_one_sentence():
    code = "import sys, runpy; sys.platform = 'darwin'; runpy.run_path('setup.py')"
    root = PACKAGE.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "shmbridge needs Linux, because it uses futexes and pidfds; this system is darwin\n"


def test_child_and_parent_and_refsprint_do_not_import_each_other():
    for room, others in {
        "child": ("parent", "refsprint"),
        "parent": ("child", "refsprint"),
        "refsprint": ("child", "parent"),
    }.items():
        for path in (PACKAGE / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = ["." * node.level + (node.module or "")]
                for name in names:
                    assert not any(
                        name.startswith((f"shmbridge.{other}", f"..{other}")) for other in others
                    ), f"{path} imports {name}"


def test_the_package_uses_neither_pickle_nor_eval_nor_a_shell():
    for path in [*PACKAGE.rglob("*.py"), PACKAGE.parent / "sprint_entry.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                modules = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not modules & {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle"}, path
            if isinstance(node, ast.Call):
                called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                owner = getattr(getattr(node.func, "value", None), "id", "")
                assert called not in {"eval", "exec"}, path
                assert (owner, called) not in {("os", "system"), ("os", "popen"), ("pickle", "loads")}, path
                for keyword in node.keywords:
                    off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                    assert off or keyword.arg not in ("shell", "allow_pickle"), path
