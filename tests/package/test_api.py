"""The public API: names, help and types."""

from __future__ import annotations

import importlib.util
import inspect
import os
import pydoc
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import shmbridge
from shmbridge import errors

ROOT = Path(shmbridge.__file__).resolve().parents[1]

# The types that methods of a pool return, and that their methods return.
HELD = {
    "Automata",
    "BatchHandle",
    "BatchResult",
    "ChildStatistics",
    "CompletedSegment",
    "PoolStatistics",
    "SegmentClaim",
    "SegmentResult",
    "SentSegment",
}
POOLS = {"SprintInstancePool", "SprintSubprocessInstance"}


def test_all_lists_exactly_the_public_names():
    assert sorted(shmbridge.__all__) == sorted({*errors.__all__, *HELD, *POOLS})
    for name in shmbridge.__all__:
        assert getattr(shmbridge, name).__doc__
        assert getattr(shmbridge, name).__name__ == name


def test_a_star_import_has_all_names():
    names: dict[str, object] = {}
    exec("from shmbridge import *", names)  # noqa: S102
    assert set(shmbridge.__all__) <= set(names)


def test_what_the_methods_return_is_public():
    """Each class of shmbridge that a return annotation names can be imported from shmbridge."""
    for name in HELD | POOLS:
        for method, value in inspect.getmembers(getattr(shmbridge, name)):
            if method.startswith("_") and method not in ("__enter__", "__copy__"):
                continue
            function = value.fget if isinstance(value, property) else value
            returns = getattr(function, "__annotations__", {}).get("return", "")
            for word in re.findall(r"[A-Z]\w+", str(returns)):
                owner = sys.modules.get(getattr(function, "__module__", ""))
                if getattr(getattr(owner, word, None), "__module__", "").startswith("shmbridge.parent"):
                    assert word in shmbridge.__all__, f"{name}.{method} returns {returns}"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'Dispatcher'"):
        _ = shmbridge.Dispatcher


@pytest.mark.parametrize("name", sorted(POOLS))
def test_help_shows_each_option_with_its_default(name):
    text = pydoc.render_doc(getattr(shmbridge, name), renderer=pydoc.plaintext)
    parameters = inspect.signature(getattr(shmbridge, name)).parameters
    assert len(parameters) > 10
    for option, parameter in parameters.items():
        assert parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        assert re.search(rf"\b{option}: '[^']+'{re.escape(default)}", text), option
    for option in inspect.signature(shmbridge.SprintInstancePool).parameters:
        assert re.search(rf"^ +(\| +)?{option}: \w", shmbridge.SprintInstancePool.__doc__, re.M), option


# --- a type checker on a user's code

RIGHT = """
import numpy as np
import shmbridge

with shmbridge.SprintInstancePool(
    "nn-trainer", ["--config=training.config"], num_instances=2, segment_timeout=60, env={"A": "b"}
) as pool:
    result = pool.get_batch_loss_and_error_signal(np.zeros((3, 1, 4), np.float32), [3], ["c/r/s"])
    loss, error_signal = result
    mean: float = float(loss.mean())
    skipped: list[bool] = result.skipped.tolist()
    edges, weights, ends = pool.get_automata_for_batch(["c/r/s"])
    with pool.claim("c/r/s", num_frames=3, num_labels=4) as claim:
        claim.posteriors[:] = -1
        sent: shmbridge.SentSegment = claim.send()
    if sent.done():
        with sent.result(timeout=1.0) as segment:
            total: float = segment.loss + float(segment.error_signal.sum())
try:
    pool.get_automata_for_batch(["c/r/s"])
except shmbridge.ShmbridgeError as error:
    names: list[str] = list(error.failed)
    print(error.partial)
pool = shmbridge.SprintInstancePool.from_returnn({"sprintExecPath": "nn-trainer"})
"""
WRONG = {
    "a misspelt option": 'shmbridge.SprintInstancePool("nn-trainer", num_instance=2)',
    "a number as a text": 'shmbridge.SprintInstancePool("nn-trainer", num_instances="2")',
    "a timeout as a text": 'shmbridge.SprintInstancePool("nn-trainer", segment_timeout="1 min")',
    "a third positional argument": 'shmbridge.SprintInstancePool("nn-trainer", "", {"verbose": True})',
    "no executable": "shmbridge.SprintInstancePool(num_instances=2)",
    "an environment of numbers": 'shmbridge.SprintInstancePool("nn-trainer", env={"A": 1})',
    "a result of a claim": 'shmbridge.SprintInstancePool("nn-trainer").claim("c", 1, 2).result()',
    "an unknown attribute": 'shmbridge.SprintInstancePool("nn-trainer").stats().segmets',
}
HEAD = "import shmbridge\n"


def errors_by_line(output: str) -> set[int]:
    return {int(number) for number in re.findall(r"users_code\.py:(\d+)(?::\d+)?\s*[:-] error", output)}


def run_checker(command: list[str], folder: Path, text: str) -> str:
    (folder / "users_code.py").write_text(text, encoding="utf-8")
    path = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    done = subprocess.run(
        [*command, "users_code.py"],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(ROOT), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "users_code.py" in done.stdout or done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=["mypy", "basedpyright"])
def checker(request, tmp_path_factory):
    """Return a function that checks a program and returns the output."""
    folder = tmp_path_factory.mktemp("types")
    if request.param == "mypy":
        if importlib.util.find_spec("mypy") is None:
            pytest.skip("mypy is not installed")
        command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent"]
    else:
        found = shutil.which("basedpyright", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        if found is None:
            pytest.skip("basedpyright is not installed")
        command = [found, "--pythonpath", sys.executable, "--level", "error"]
    return lambda text: run_checker(command, folder, text)


def test_the_code_of_the_docs_passes_type_checks(checker):
    output = checker(RIGHT)
    assert errors_by_line(output) == set(), output


def test_type_checkers_find_wrong_options_and_uses(checker):
    output = checker(HEAD + "\n".join(WRONG.values()) + "\n")
    missed = set(range(2, 2 + len(WRONG))) - errors_by_line(output)
    assert not missed, [list(WRONG)[number - 2] for number in missed]
