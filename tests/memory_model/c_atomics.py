"""The atomic operations of csrc, with their memory orders, as they are written there."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from memory_order import Order

CSRC = Path(__file__).resolve().parents[2] / "csrc"
FILES = ("doorbell.c", "ring.c", "wait.c")

_ORDERS = {
    "relaxed": Order.RELAXED,
    "acquire": Order.ACQUIRE,
    "release": Order.RELEASE,
    "acq_rel": Order.ACQ_REL,
    "seq_cst": Order.SEQ_CST,
}
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_FUNCTION = re.compile(r"^(?:static )?[\w ]+?[ *](\w+)\([^;{}]*?\) \{\n(.*?)^\}", re.DOTALL | re.MULTILINE)
_FENCE = re.compile(r"\bFENCE\(\w+, memory_order_(\w+)\);")
_OPERATION = re.compile(
    r"\b(?:atomic_(\w+?)(_explicit)?|(memcpy|syscall|publish|any_news|shmb_\w+|load_\w+))\("
)
_MASKED = re.compile(r"_explicit|,\s*memory_order_\w+|FENCE\(\w+, memory_order_\w+\);")


@dataclass(frozen=True)
class Operation:
    """An atomic operation, or a call.

    Attributes:
        name: for example "load waiting", or the name of the function.
        order: of an atomic operation.
        fence: the order of the fence before it, if any.
    """

    name: str
    order: Optional[Order]
    fence: Optional[Order]


class Function:
    """The operations of a C function, in the order of its text."""

    def __init__(self, name: str, body: str) -> None:
        self.name = name
        self.body = body
        self.operations = list(_operations(body))

    @property
    def shape(self) -> list[str]:
        """The operations without their orders and fences."""
        return [operation.name for operation in self.operations if operation.name != "end"]

    @property
    def digest(self) -> str:
        """A hash of the text without its orders, fences, comments and layout."""
        tokens = re.findall(r"\w+|[^\w\s]", _MASKED.sub("", self.body))
        return hashlib.sha256(" ".join(tokens).encode()).hexdigest()[:16]

    def order(self, name: str) -> Order:
        """Return the order of an atomic operation."""
        order = self._find(name).order
        assert order is not None, f"{self.name}: {name} is not atomic"
        return order

    def fence_before(self, name: str) -> Optional[Order]:
        """Return the order of the fence before an operation, or before the "end", or None."""
        if name == "end" and self.operations[-1].name != name:
            return None
        return self._find(name).fence

    def _find(self, name: str) -> Operation:
        found = [operation for operation in self.operations if operation.name == name]
        assert len(found) == 1, f"{self.name} has {len(found)} operations {name!r}: {self.shape}"
        return found[0]


def read_sources() -> dict[str, str]:
    """Return the text of each file."""
    return {name: (CSRC / name).read_text("utf-8") for name in FILES}


def read_functions(sources: dict[str, str]) -> dict[str, Function]:
    """Return the functions of the files by their names."""
    functions = {}
    for text in sources.values():
        for match in _FUNCTION.finditer(_COMMENT.sub("", text)):
            functions[match[1]] = Function(match[1], match[2])
    return functions


def _operations(body: str) -> list[Operation]:
    found = []
    fence = None
    for match in re.finditer(f"{_FENCE.pattern}|{_OPERATION.pattern}", body):
        if match[1]:
            fence = _ORDERS[match[1]]
            continue
        _, kind, explicit, called = match.groups()
        if kind == "init":
            continue
        assert kind != "thread_fence", "use FENCE, which ThreadSanitizer understands"
        arguments = _arguments(body, match.end())
        order = None
        name = called
        if kind:
            target = re.findall(r"\w+", arguments[0])[-1]
            if "?" in arguments[0]:  # the role decides between the lines of the ring
                target = "own line"
            name = f"{kind} {target}"
            order = _ORDERS[arguments[-1].rpartition("memory_order_")[2]] if explicit else Order.SEQ_CST
        found.append(Operation(name, order, fence))
        fence = None
    if fence is not None:
        found.append(Operation("end", None, fence))
    return found


def _arguments(text: str, start: int) -> list[str]:
    """Return the arguments of a call whose parenthesis opens before `start`."""
    depth, arguments = 1, [""]
    for character in text[start:]:
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            break
        if character == "," and depth == 1:
            arguments.append("")
        else:
            arguments[-1] += character
    return [argument.strip() for argument in arguments]
