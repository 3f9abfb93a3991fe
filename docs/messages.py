"""Collect the messages of all errors and warnings in a source tree, as templates with "…" for each value."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

FIELD = "…"
SLUG = re.compile(r"(?<!\w)\[([a-z][a-z-]+)\]")
_WARNS = {"warn", "warning", "error", "exception", "critical", "_try_to_warn"}
_C_MESSAGE = re.compile(r'PyErr_(?:Format|SetString)\(\s*PyExc_\w+,((?:\s*"(?:[^"\\]|\\.)*")+)')
_C_FIELD = re.compile(r"%[-+ #0]*\d*(?:\.\d+)?[hljzt]*[a-zA-Z]")


class Message(NamedTuple):
    """A template, and its place: "file:line"."""

    text: str
    where: str


def messages(folder: Path) -> list[Message]:
    """Return the messages of all Python and C files in a folder.

    Messages that the same function catches are left out, and so are parts of other messages.
    """
    trees = {path: ast.parse(path.read_text("utf-8")) for path in sorted(folder.rglob("*.py"))}
    makers = {name for tree in trees.values() for name in _makers(tree)}
    found = []
    for path, tree in trees.items():
        for call, text in _Finder(makers).find(tree):
            found.append(Message(text, f"{path.relative_to(folder)}:{call.lineno}"))
    for path in sorted(folder.rglob("*.c")):
        source = path.read_text("utf-8")
        for match in _C_MESSAGE.finditer(source):
            text = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', match[1]))
            line = source.count("\n", 0, match.start()) + 1
            found.append(Message(_C_FIELD.sub(FIELD, text), f"{path.relative_to(folder)}:{line}"))
    with_slug = [message.text for message in found if SLUG.search(message.text)]
    return [
        message
        for message in found
        if words(message.text)
        and (message.text in with_slug or not any(message.text in text for text in with_slug))
    ]


def by_slug(found: list[Message]) -> dict[str, list[str]]:
    """Return the distinct messages of each slug, without the slug."""
    texts: dict[str, dict[str, None]] = {}
    for message in found:
        for slug in SLUG.findall(message.text):
            texts.setdefault(slug, {})[message.text.replace(f"[{slug}]", "").strip()] = None
    return {slug: list(of_slug) for slug, of_slug in texts.items()}


def words(text: str) -> list[str]:
    """Return the fixed words of a text."""
    return re.findall(r"[^\W\d_]{2,}", text)


def _makers(tree: ast.AST) -> Iterator[str]:
    """Yield the functions that turn a message into an error, or that never return.

    A function that adds a slug takes a part of a message, and is not among them.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.returns is not None:
            returns = ast.unparse(node.returns)
            if (returns.endswith("Error") or returns == "NoReturn") and not _adds_slug(node):
                yield node.name


def _adds_slug(function: ast.FunctionDef) -> bool:
    texts = (node.value for node in ast.walk(function) if isinstance(node, ast.Constant))
    return any(isinstance(text, str) and SLUG.search(text) for text in texts)


class _Finder:
    """Walks a file, with the texts that local names hold and the errors that enclosing blocks catch."""

    def __init__(self, makers: set[str]) -> None:
        self._makers = makers
        self._names: dict[str, list[str]] = {}
        self._caught: list[set[str]] = []
        self._found: list[tuple[ast.Call, str]] = []

    def find(self, tree: ast.AST) -> list[tuple[ast.Call, str]]:
        self._visit(tree)
        return self._found

    def _visit(self, node: ast.AST) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            before, self._names = self._names, _texts_of_names(node)
            self._visit_children(node)
            self._names = before
        elif isinstance(node, ast.Try):
            self._caught.append({ast.unparse(h.type) for h in node.handlers if h.type is not None})
            for child in node.body:
                self._visit(child)
            self._caught.pop()
            for child in [*node.handlers, *node.orelse, *node.finalbody]:
                self._visit(child)
        elif isinstance(node, ast.Raise) and self._is_caught(node):
            pass
        else:
            if isinstance(node, ast.Call):
                self._look_at(node)
            self._visit_children(node)

    def _visit_children(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            self._visit(child)

    def _is_caught(self, node: ast.Raise) -> bool:
        name = _name(node.exc)
        return any(name in re.findall(r"\w+", types) for caught in self._caught for types in caught)

    def _look_at(self, call: ast.Call) -> None:
        name = _name(call)
        if name.endswith("Error") or name in _WARNS or name in self._makers:
            for argument in call.args:
                if isinstance(argument, ast.Name):
                    texts = self._names.get(argument.id, [])
                else:
                    texts = _texts(argument, self._names) or []
                self._found += [(call, text) for text in texts]


def _name(node: Optional[ast.AST]) -> str:
    function = node.func if isinstance(node, ast.Call) else node
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _texts_of_names(function: ast.AST) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            texts = _texts(node.value, {})
            if texts:
                names.setdefault(node.targets[0].id, []).extend(texts)
    return names


def _texts(node: ast.AST, names: dict[str, list[str]]) -> Optional[list[str]]:
    """Return all values of a text; None if the expression is not a text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [re.sub(r"%[srd]", FIELD, node.value)]
    if isinstance(node, ast.JoinedStr):
        parts = []
        for value in node.values:
            if isinstance(value, ast.Constant):
                parts.append([str(value.value)])
            else:
                inner = value.value if isinstance(value, ast.FormattedValue) else value
                parts.append(names.get(getattr(inner, "id", ""), [FIELD]))
        return ["".join(choice) for choice in itertools.product(*parts)]
    if isinstance(node, ast.IfExp):
        return (_texts(node.body, names) or []) + (_texts(node.orelse, names) or []) or None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _texts(node.left, names), _texts(node.right, names)
        if left or right:
            return ["".join(pair) for pair in itertools.product(left or [FIELD], right or [FIELD])]
    return None
