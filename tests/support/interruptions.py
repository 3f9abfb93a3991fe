"""Ctrl-C at a chosen point of shmbridge: right before an instruction after which CPython handles signals.

CPython 3.10 and later handles signals after calls of C functions, at the entry of Python functions, and at
jumps backwards. So a signal that arrives before such an instruction raises there, and nowhere else.
"""

from __future__ import annotations

import _thread
import dis
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, NamedTuple, Optional

import shmbridge

__all__ = ["Point", "interrupt", "record", "signal_tracer"]

_PACKAGE = os.path.dirname(shmbridge.__file__) + os.sep
_ENTRY = -1  # in the place of an instruction
_Trace = Callable[[FrameType, str, Any], Any]


class Point(NamedTuple):
    """The n-th time that an instruction is executed, or that a function is entered (instruction -1)."""

    file: str
    function: str
    line: int
    instruction: int
    occurrence: int


class _Signal(int):
    # CPython handles no signals after reading an attribute: first the trace function returns.
    arrives = property(_thread.interrupt_main)


_SIGINT = _Signal(signal.SIGINT)
_lines: dict[CodeType, dict[int, int]] = {}


def _lines_of(code: CodeType) -> dict[int, int]:
    """Return the offsets of the instructions after which CPython handles signals, with their lines."""
    found = _lines.get(code)
    if found is None:
        found, line = {_ENTRY: code.co_firstlineno}, code.co_firstlineno
        for instruction in dis.get_instructions(code):
            if instruction.starts_line is not None:
                line = instruction.starts_line
            if instruction.opname.startswith(("CALL", "JUMP_BACKWARD", "JUMP_ABSOLUTE")):
                found[instruction.offset] = line
        _lines[code] = found
    return found


def signal_tracer(is_due: Callable[[CodeType, int], bool]) -> _Trace:
    """Return a trace function that lets SIGINT arrive at the first point that is due.

    Args:
        is_due: is called with the code and the instruction of each point.
    """

    def in_function(frame: FrameType, _event: str, _argument: Any) -> Optional[_Trace]:
        if frame.f_lasti in _lines_of(frame.f_code) and is_due(frame.f_code, frame.f_lasti):
            sys.settrace(None)
            _SIGINT.arrives  # noqa: B018
            return None
        return in_function

    def enter(frame: FrameType, _event: str, _argument: Any) -> Optional[_Trace]:
        code = frame.f_code
        if not code.co_filename.startswith(_PACKAGE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if is_due(code, _ENTRY):
            sys.settrace(None)
            _SIGINT.arrives  # noqa: B018
            return None
        return in_function

    return enter


def _place(code: CodeType) -> tuple[str, str]:
    return code.co_filename[len(_PACKAGE) :], getattr(code, "co_qualname", code.co_name)


def record(call: Callable[[], object], occurrences: int) -> list[Point]:
    """Make the call, and return the points that it passes, each at most this often."""
    counts: Counter[tuple[CodeType, int]] = Counter()
    points: list[Point] = []

    def note(code: CodeType, instruction: int) -> bool:
        counts[code, instruction] += 1
        if counts[code, instruction] <= occurrences:
            line = _lines_of(code)[instruction]
            points.append(Point(*_place(code), line, instruction, counts[code, instruction]))
        return False

    sys.settrace(signal_tracer(note))
    try:
        call()
    finally:
        sys.settrace(None)
    return points


def interrupt(call: Callable[[], object], point: Point) -> Optional[bool]:
    """Make the call, with a Ctrl-C at the point.

    Returns:
        Whether KeyboardInterrupt came out of the call; None if the call did not pass the point.
    """
    seen = 0
    handled = raised = False

    def is_due(code: CodeType, instruction: int) -> bool:
        nonlocal seen
        seen += instruction == point.instruction and _place(code) == (point.file, point.function)
        return seen == point.occurrence

    def handle(_number: int, _frame: Any) -> None:
        nonlocal handled
        handled = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handle)
    try:
        try:
            sys.settrace(signal_tracer(is_due))
            call()
        finally:
            sys.settrace(None)
    except KeyboardInterrupt:
        raised = True
    finally:
        signal.signal(signal.SIGINT, before)
    return raised if handled else None
