"""Faults planted into the parent's real code: what the simulation must find.

Each one replaces a piece of a file's text. The functions of the running code then get the code of the changed
text, until the context manager exits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any


@dataclasses.dataclass(frozen=True)
class Fault:
    """A planted fault.

    Attributes:
        what: what the code does wrong then.
        module: of shmbridge.parent.
        old, new: the text, and what it becomes.
    """

    what: str
    module: str
    old: str
    new: str


@contextlib.contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """Run the block with the fault in the code."""
    module = importlib.import_module(f"shmbridge.parent.{fault.module}")
    path = str(module.__file__)
    text = Path(path).read_text("utf-8")
    if text.count(fault.old) != 1:
        raise LookupError(f"{fault.module}.py has this text {text.count(fault.old)} times: {fault.old!r}")
    codes = dict(_codes(compile(text.replace(fault.old, fault.new), path, "exec"), ""))
    before = [(each, each.__code__) for each in _functions(module) if each.__qualname__ in codes]
    for function, _ in before:
        function.__code__ = codes[function.__qualname__]
    try:
        yield
    finally:
        for function, code in before:
            function.__code__ = code


def _codes(code: CodeType, prefix: str) -> Iterator[tuple[str, CodeType]]:
    """Yield the code of each function and method, with its qualified name."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield prefix + constant.co_name, constant
            yield from _codes(constant, f"{prefix}{constant.co_name}.")


def _functions(owner: Any) -> Iterator[FunctionType]:
    """Yield the functions and methods that a module or class defines."""
    module = getattr(owner, "__module__", owner.__name__)
    for value in list(vars(owner).values()):
        member = value.fget if isinstance(value, property) else value
        if inspect.isclass(member) and member.__module__ == module:
            yield from _functions(member)
        elif (
            inspect.isfunction(member) and member.__module__ == module and not hasattr(member, "__wrapped__")
        ):
            yield member


FAULTS = (
    Fault(
        "it sleeps without the rings that must have room",
        "scheduler",
        "if wanting_room:",
        "if False:",
    ),
    Fault(
        "it sleeps at the rings of a child that has ended",
        "scheduler",
        "        self._receivers = None  # it keeps",
        "        # it keeps",
    ),
    Fault(
        "close in another thread wakes nobody",
        "scheduler",
        "        self._watcher.poke()",
        "        pass",
    ),
    Fault(
        "a batch that is left goes on",
        "scheduler",
        "            batch.cancel()\n            raise",
        "            raise",
    ),
    Fault(
        "a claim whose filling fails stays open",
        "scheduler",
        "            claim.abort()\n            raise",
        "            self.leak = claim\n            raise",
    ),
    Fault(
        "requests of a dead child are queued in the reverse order",
        "request_queue",
        "for _, request in reversed(unanswered)",
        "for _, request in unanswered",
    ),
    Fault(
        "retries are not counted",
        "request_queue",
        "request.retries += died_at",
        "pass",
    ),
    Fault(
        "requests of a dead child are queued behind the others",
        "request_queue",
        "self.extendleft(",
        "self.extend(",
    ),
    Fault(
        "answers that lie in the ring at a death are not read",
        "child",
        "progress = (exited and self._drain()) or progress",
        "pass",
    ),
    Fault(
        "the time of the user counts as Sprint's",
        "child",
        "None if waits_for_user else self._timeout",
        "self._timeout",
    ),
    Fault(
        "a Sprint that broke the protocol is not ended",
        "child",
        "        self._process.kill()\n        self._end(error)",
        "        pass",
    ),
    Fault(
        "a closed child keeps its requests",
        "child",
        "        self.in_flight.clear()",
        "        pass",
    ),
    Fault(
        "the message that a child has no room is dropped",
        "control_messages",
        'child.no_room = (message["sequence"], message["released"])',
        "pass",
    ),
    Fault(
        "a request behind an open claim is awaited",
        "waits",
        "if claim is not None and claim[0] < oldest:",
        "if False:",
    ),
    Fault(
        "an answer for which there is no room is awaited",
        "waits",
        "if child.no_room is None:",
        "if True:",
    ),
    Fault(
        "results that nobody has asked for make no room",
        "in_place_request",
        "return not self.awaited and self.result is not None and self.result.copy_out()",
        "return False",
    ),
    Fault(
        "children receive no second segment, nor the first",
        "placement",
        "len(child.in_flight) < _MAX_IN_FLIGHT",
        "0 < len(child.in_flight) < _MAX_IN_FLIGHT",
    ),
    Fault(
        "a child that died at work is not replaced",
        "supervisor",
        "(dead.died_working or slot.consecutive_failures <= limit)",
        "not dead.died_working",
    ),
    Fault(
        "Ctrl-C between receiving an answer and delivering it loses the answer",
        "child",
        "        except BaseException:  # Ctrl-C, or a copy of the user's\n            self._fail_lost()",
        "        except BaseException:\n            pass",
    ),
    Fault(
        "Ctrl-C while an event is handled loses the event",
        "child",
        "            process.has_events = True\n            raise\n        return progress or",
        "            raise\n        return progress or",
    ),
    Fault(
        "Ctrl-C after a message was taken loses the message",
        "control_messages",
        "            _process(child, message, timeout)\n            messages.mark_read(message)",
        "            messages.mark_read(message)\n            _process(child, message, timeout)",
    ),
    Fault(
        "Ctrl-C before a request is sent leaves it in flight",
        "child",
        "                in_flight.discard(entry)\n",
        "",
    ),
    Fault(
        "Ctrl-C before the try leaves a request in flight",
        "child",
        "        try:\n            (in_flight.append if was_idle else in_flight.add)(entry)\n",
        "        (in_flight.append if was_idle else in_flight.add)(entry)\n        try:\n",
    ),
    Fault(
        "Ctrl-C at a start leaves the Sprint",
        "supervisor",
        "uninterrupted(self._start_first)",
        "self._start_first()",
    ),
    Fault(
        "Ctrl-C at a restart leaves the Sprint",
        "supervisor",
        "uninterrupted(lambda: self._start_next(slot))",
        "self._start_next(slot)",
    ),
)
