"""Find what the pages of a built site load from the network: scripts, styles, fonts, pictures, frames.

Links that a reader may follow do not count.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Optional

_LOADED = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src", "srcset"),
    "input": ("src",),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "track": ("src",),
    "use": ("href", "xlink:href"),
    "video": ("src", "poster"),
}
_LINKS = {
    "canonical",
    "prev",
    "next",
    "alternate",
    "author",
    "license",
    "edit",
}  # their <link> loads nothing
_NETWORK = re.compile(r"(?:^|[\s,])(?:https?:)?//", re.IGNORECASE)
_STYLE = re.compile(r"""(?:url\(|@import)\s*['"]?\s*(?:https?:)?//[^'")\s;]*""", re.IGNORECASE)


def network_resources(site: Path) -> list[str]:
    """Return what the pages and styles of a site load from the network, as "page: tag attribute=value"."""
    found = []
    for page in sorted(site.rglob("*")):
        name = page.relative_to(site).as_posix()
        if page.suffix in (".html", ".svg"):
            reader = _Reader()
            reader.feed(page.read_text("utf-8"))
            found += [f"{name}: {problem}" for problem in reader.found]
        elif page.suffix == ".css":
            found += [f"{name}: {match}" for match in _STYLE.findall(page.read_text("utf-8"))]
    return found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        """Check what the tag loads, and its style."""
        self._in_style = tag == "style"
        given = {name: value or "" for name, value in attrs}
        self.found += _STYLE.findall(given.get("style", ""))
        if tag == "link" and _LINKS.intersection(given.get("rel", "").split()):
            return
        for name in _LOADED.get(tag, ()):
            if _NETWORK.search(given.get(name, "")):
                self.found.append(f"<{tag} {name}={given[name]!r}>")

    def handle_endtag(self, tag: str) -> None:
        """End a <style>."""
        self._in_style = False

    def handle_data(self, data: str) -> None:
        """Check the text of a <style>."""
        if self._in_style:
            self.found += _STYLE.findall(data)
