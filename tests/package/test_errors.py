"""Every error can be pickled, copied and deep-copied, with its message and attributes."""

from __future__ import annotations

import contextlib
import copy
import errno
import importlib
import multiprocessing
import pickle
import pkgutil
from typing import Any

import numpy as np
import pytest

import shmbridge
from shmbridge import errors
from shmbridge.parent import BatchResult

LATEST = 60  # seconds; only a hang takes as long

OUTPUT = ["a line", "the last line"]
GONE = {"exit_code": None, "signal_name": "SIGSEGV", "segments": ["c/r/1", "c/r/2"], "last_output": OUTPUT}
# Classes that take more than a message.
ARGUMENTS: dict[type, tuple[tuple[Any, ...], dict[str, Any]]] = {
    errors.FileFormatError: (("lexicon.xml", 3, "it is empty"), {}),
    errors.RemoteError: (
        ("c/r/1", "KeyError", "'x'", "Traceback:\n  line 1\n"),
        {"raised_by": "the callback"},
    ),
    errors.CriterionError: (("Sprint computes no criterion",), {"reported": OUTPUT}),
    errors.PeerGoneError: (("Sprint is gone",), GONE),
    errors.SegmentTimeoutError: (("Sprint gave no answer",), GONE),
    errors.BridgeTimeoutError: (("Sprint was not ready",), {"last_output": OUTPUT}),
    errors.ResourceError: ((errno.ENOSPC, "no room"), {}),
}
COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": lambda error, protocol=protocol: pickle.loads(  # noqa: S301
            pickle.dumps(error, protocol)
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


def error_classes() -> list[type]:
    """Return all classes of the tree, in all modules of the package that can be imported here."""
    for module in pkgutil.walk_packages(shmbridge.__path__, "shmbridge."):
        if not module.name.startswith("shmbridge.torch") and not module.name.endswith("__main__"):
            with contextlib.suppress(ModuleNotFoundError):  # rich is optional
                importlib.import_module(module.name)
    found, new = [], [errors.ShmbridgeError]
    while new:
        found.append(new.pop())
        new += [each for each in found[-1].__subclasses__() if each.__module__.startswith("shmbridge")]
    return sorted(set(found), key=lambda each: each.__name__)


def make(kind: type) -> errors.ShmbridgeError:
    positional, named = ARGUMENTS.get(kind, (("what is wrong",), {}))
    error: errors.ShmbridgeError = kind(*positional, **named)
    error.failed = {"c/r/1": errors.RemoteError("c/r/1", "ValueError", "x", "")}
    error.partial = BatchResult(
        np.array([1.5, np.nan], "f4"), np.ones((3, 2, 4), "f4"), np.array([True, False])
    )
    error.added_by_a_user = {"epoch": 3}  # type: ignore[attr-defined]
    return error


def check_same(error: BaseException, other: BaseException) -> None:
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert repr(other) == repr(error)
    assert other.args == error.args
    if isinstance(error, OSError):
        assert (other.errno, other.strerror) == (error.errno, error.strerror)
    assert vars(other).keys() == vars(error).keys()
    for name, value in vars(error).items():
        found = vars(other)[name]
        if name == "partial":
            for part in ("loss", "error_signal", "skipped"):
                np.testing.assert_array_equal(getattr(found, part), getattr(value, part))
        elif name == "failed":
            assert found.keys() == value.keys()
            for segment in value:
                check_same(found[segment], value[segment])
        else:
            assert found == value


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.__name__)
def test_each_error_survives_with_its_attributes(kind, how):
    error = make(kind)
    check_same(error, COPIES[how](error))
    check_same(error, COPIES[how](COPIES[how](error)))


def test_all_errors_of_the_tree_are_walked():
    assert {kind.__name__ for kind in error_classes()} >= set(errors.__all__)


def test_a_users_class_below_the_tree_survives_whatever_its_constructor_takes():
    error = OwnError(number=5, reason="a reason")
    for copied in COPIES.values():
        check_same(error, copied(error))


class OwnError(errors.PeerGoneError):
    def __init__(self, *, number: int, reason: str) -> None:
        super().__init__(f"{number}: {reason}", exit_code=number)
        self.number = number


def raise_one(kind: type) -> None:
    raise make(kind)


def test_a_worker_of_a_multiprocessing_pool_can_raise_each_error():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for kind in error_classes():
            with pytest.raises(kind) as raised:
                pool.apply_async(raise_one, [kind]).get(LATEST)
            cause, raised.value.__cause__ = raised.value.__cause__, None  # the worker's traceback
            assert "raise_one" in str(cause)
            check_same(make(kind), raised.value)
