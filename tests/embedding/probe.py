"""A module in the place of sprint_entry: records each call, and misbehaves as the environment specifies.

PROBE in the environment is JSON: {"misbehave": {call: how}, "ask": [[command, {keyword: value}], ...]}.
run_control_loop passes the commands of "ask" to Sprint's callback. A value may name one of POSTERIORS.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from recorder import record

LABELS = 8
PROBE = json.loads(os.environ["PROBE"])
MISBEHAVE = PROBE.get("misbehave", {})


def log_posteriors(frames: int) -> Any:
    """Return log posteriors (label,time), the same for each call."""
    logits = np.random.default_rng(frames).normal(size=(frames, LABELS)).astype(np.float32)
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).T


def _unaligned(matrix: Any) -> Any:
    return np.frombuffer(b"x" + matrix.T.tobytes(), "u1")[1:].view("f4").reshape(matrix.shape, order="F")


GOOD = log_posteriors(5)
POSTERIORS: dict[str, Callable[[], Any]] = {
    "good": lambda: GOOD,
    "in C order": GOOD.copy,
    "float64": lambda: GOOD.astype(np.float64),
    "for a short segment": lambda: GOOD[:, :1],
    "float16": lambda: GOOD.astype(np.float16),
    "int32": lambda: GOOD.astype(np.int32),
    "a list": GOOD.tolist,
    "of one dimension": lambda: GOOD[0],
    "of three dimensions": lambda: GOOD[None],
    "in another byte order": lambda: GOOD.astype(">f4"),
    "unaligned": lambda: _unaligned(GOOD),
    "with a NaN first": lambda: (
        np.asfortranarray(np.where(np.arange(GOOD.size) == 0, np.nan, GOOD.ravel()))
        .reshape(GOOD.shape)
        .astype(np.float32)
    ),
    "without frames": lambda: GOOD[:, :0],
    "of another width": lambda: GOOD[:-1],
}


def _raise(error: BaseException) -> Any:
    raise error


def _one_and_raise() -> Iterator[str]:
    yield "corpus/rec/one"
    raise OSError("on purpose")


# Replacements for the normal result of a call.
DEEDS: dict[str, Callable[[], Any]] = {
    "raises OSError": lambda: _raise(OSError("on purpose")),
    "raises SystemExit(7)": lambda: _raise(SystemExit(7)),
    "raises SystemExit(None)": lambda: _raise(SystemExit(None)),
    "raises SystemExit('text')": lambda: _raise(SystemExit("on purpose")),
    "raises KeyboardInterrupt": lambda: _raise(KeyboardInterrupt("on purpose")),
    "returns None": lambda: None,
    "returns 1": lambda: 1,
    "returns -1": lambda: -1,
    "returns a str": lambda: "on purpose",
    "returns a list": lambda: [1],
    "returns a list of matrices": lambda: [np.zeros((LABELS, 3), np.float32)],
    "returns float16": lambda: GOOD.astype(np.float16),
    "returns a float64 vector": lambda: np.arange(LABELS) / 4,
    "returns a float16 vector": lambda: np.zeros(LABELS, np.float16),
    "returns an int32 vector": lambda: np.zeros(LABELS, np.int32),
    "returns a longer vector": lambda: np.zeros(LABELS + 1, np.float32),
    "returns 0": lambda: 0,
    "returns an object": object,
    "yields bytes": lambda: [b"corpus/rec/one"],
    "yields an int": lambda: [7],
    "yields None": lambda: [None],
    "yields an unknown name": lambda: ["corpus/rec/nowhere"],
    "yields nothing": lambda: [],
    "yields one and raises OSError": _one_and_raise,
}


def _call(name: str, arguments: dict[str, Any], answer: Callable[[], Any]) -> Any:
    record(name, **arguments)
    return DEEDS.get(MISBEHAVE.get(name, ""), answer)()


def entry(name: str, answer: Callable[..., Any] = lambda **_: None) -> Callable[..., Any]:
    """Return the function that Sprint calls by that name. It accepts any keywords, or misbehaves."""
    how = MISBEHAVE.get(name)
    if how == "is missing":
        raise AttributeError(name)
    if how == "takes no argument":
        return lambda: record(name)
    if how == "requires another argument":
        return lambda *, another, **arguments: record(name, another=another, **arguments)
    return lambda **arguments: _call(name, arguments, lambda: answer(**arguments))


def _ask(callback: Callable[..., Any]) -> None:
    for command, keywords in PROBE.get("ask", []):
        made = {
            key: POSTERIORS[value]()
            if key == "posteriors"
            else value.encode()
            if key == "as bytes"
            else value
            for key, value in keywords.items()
        }
        if "as bytes" in made:
            made["orthography"] = made.pop("as bytes")
        try:
            answer = callback(command, **made)
        except Exception as error:
            record("raised", error=type(error).__name__)
        else:
            record("answered", answer=answer)
            if isinstance(answer, tuple) and isinstance(answer[1], np.ndarray):
                record("error signal", values=answer[1].T.ravel().tolist())


class _Object:
    """The object that init or SprintNnPythonLayer returns."""

    def __init__(self, **answers: Callable[..., Any]) -> None:
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return entry(name, self._answers.get(name, lambda **_: None))


def _new_control(**_: Any) -> _Object:
    return _Object(
        run_control_loop=_ask,
        get_feature_buffer_size=lambda: -1,
        get_scores=lambda time: np.arange(time, time + LABELS, dtype=np.float32),
    )


def _new_layer(**_: Any) -> _Object:
    return _Object(
        isTrainable=lambda: True,
        getNumberOfFreeParameters=lambda: 11,
        forward=lambda input: log_posteriors(input[0].shape[1]),  # noqa: A006 - Sprint's name
        backpropagate=lambda errorSignalIn: (np.zeros((1, errorSignalIn.shape[1]), np.float32),),  # noqa: N803
    )


def __getattr__(name: str) -> Any:
    answers = {
        "init": _new_control,
        "SprintNnPythonLayer": _new_layer,
        "getSegmentList": lambda segmentList, **_: iter(segmentList),  # noqa: N803
    }
    if name not in answers:
        raise AttributeError(name)
    return entry(name, answers[name])


if MISBEHAVE.get("module") == "raises ImportError":
    raise ImportError("on purpose")
