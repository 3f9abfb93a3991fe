"""Config strings, `key:value,key:value`: the parent's settings, which Sprint passes to the child."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from typing import Optional

from .errors import OptionError

# The keys that the child reads. Any other key is left to the user's own Sprint module.
KEYS = (
    "c2p_fd",
    "p2c_fd",
    "shm_fd",
    "bell_fd",
    "parent_pidfd",
    "minPythonControlVersion",
    "quiet",
    "verbose",
)

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0", "none", ""}


def parse(text: str) -> dict[str, str]:
    """Parse a config string. A value may contain ':'; empty items are ignored.

    Raises:
        OptionError: an item is not key:value, or a key occurs twice with different values.
    """
    config: dict[str, str] = {}
    for item in text.split(","):
        if not item.strip():
            continue
        key, colon, value = item.partition(":")
        key = key.strip()
        if not colon or not key:
            raise OptionError(
                f"the config string {text!r} has an item {item!r} that is not key:value [no-parent]"
            )
        if config.setdefault(key, value) != value:
            raise OptionError(
                f"the config string {text!r} has {key!r} twice, with different values [no-parent]"
            )
    return config


def compose(config: Mapping[str, object]) -> str:
    """Return the config string of these settings, in their order.

    Raises:
        OptionError: a key is not a non-empty str without ':', or a key or value contains ',', a line break,
            a NUL, a character that cannot be passed to a process, or something that Sprint would replace.
    """
    items = []
    for key, value in config.items():
        text = str(value)
        is_key = isinstance(key, str) and key and ":" not in key and _is_writable(key)
        if not is_key or not _is_writable(text):
            raise OptionError(
                f"{key!r}: {text!r} cannot be written into a config string; the key must be a str "
                "without ':', and neither may contain ',', a line break, NUL or a lone surrogate"
                " [control-config]"
            )
        replaced = find_replaced(key) or find_replaced(text)
        if replaced is not None:
            raise OptionError(
                f"{key!r}: {text!r} cannot be written into a config string; it must not contain "
                f"{replaced!r}, which Sprint replaces in its options [control-config]"
            )
        items.append(f"{key}:{text}")
    return ",".join(items)


def find_replaced(text: str) -> Optional[str]:
    """Return the beginning of what Sprint would replace in the value of an option, or None.

    These are references, arithmetic, and RASR's cache manager. They cannot be escaped.
    """
    return next((sign for sign in ("$(", "$[", "`cf ") if sign in text), None)


def _is_writable(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return not any(c in text for c in ",\n\0")


def get_int(config: Mapping[str, str], key: str) -> int:
    """Return the integer at the key.

    Raises:
        OptionError: the key is missing, or its value is not an integer.
    """
    if key not in config:
        raise OptionError(
            f"the config string has no {key!r}, only {sorted(config)}; "
            "do not set pymod-config: shmbridge sets it [no-parent]"
        )
    try:
        return int(config[key])
    except ValueError:
        raise OptionError(
            f"{key!r} in the config string is {config[key]!r}; it must be an integer [no-parent]"
        ) from None


def get_bool(config: Mapping[str, str], key: str) -> bool:
    """Return the truth value at the key; False if the key is missing.

    Raises:
        OptionError: the value is neither true nor false.
    """
    value = config.get(key, "").strip().lower()
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise OptionError(
        f"{key!r} in the config string is {config[key]!r}; it must be True or False [no-parent]"
    )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the known word that is most like `word`, or "" if none is."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.8)
    return f"; did you mean {close[0]!r}?" if close else ""
