"""Config strings, `key:value,key:value`: how the parent's settings reach the child through Sprint."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .errors import OptionError

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0", "none", ""}


def parse(text: str) -> dict[str, str]:
    """Parse a config string. A value may contain ':'; empty items are passed over.

    Raises:
        OptionError: an item has no key, no ':', or a key that was there before with another value.
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
    """The config string of these settings, in their order.

    Raises:
        OptionError: a key or value cannot be written: it contains ',', a line break, a NUL or what no
            argument of a process can hold, or a key ':', or a key is no str.
    """
    items = []
    for key, value in config.items():
        text = str(value)
        is_key = isinstance(key, str) and key and ":" not in key and _is_writable(key)
        if not is_key or not _is_writable(text):
            raise OptionError(
                f"{key!r}: {text!r} cannot be written into a config string: "
                "a key is a str without ':', and neither takes ',', a line break, NUL or a lone surrogate"
                " [control-config]"
            )
        items.append(f"{key}:{text}")
    return ",".join(items)


def _is_writable(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return not any(c in text for c in ",\n\0")


def get_int(config: Mapping[str, str], key: str, needed_by: str) -> int:
    """The integer at the key.

    Raises:
        OptionError: there is none; `needed_by` says in the message what needs it.
    """
    if key not in config:
        raise OptionError(
            f"the config string has no {key!r}, which {needed_by} needs; it has {sorted(config)} [no-parent]"
        )
    try:
        return int(config[key])
    except ValueError:
        raise OptionError(
            f"{key!r} in the config string is {config[key]!r}, not an integer [no-parent]"
        ) from None


def get_bool(config: Mapping[str, str], key: str) -> bool:
    """The truth value at the key; False where it is missing.

    Raises:
        OptionError: the value is neither a yes nor a no.
    """
    value = config.get(key, "").strip().lower()
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise OptionError(f"{key!r} in the config string is {config[key]!r}; it takes True or False [no-parent]")
