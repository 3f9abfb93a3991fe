"""mkdocs hooks: add pages from outside docs/, list the messages of each slug, check the built site."""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import Abort
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).resolve().parent))
import external
import messages

_ROOT = Path(__file__).resolve().parent.parent
# Pages of the site that are not in docs/.
_PAGES = (
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "examples/demo/README.md",
    "examples/rasr/README.md",
)
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)\s#]+)")
_ENTRY = re.compile(r"^### .+ \{#([a-z-]+)\}$", re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside docs/, under their path in the repository."""
    for path in _PAGES:
        files.append(File.generated(config, path, content=(_ROOT / path).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Translate links between files of the repository into links between pages of the site."""
    of_site = page.file.src_uri
    folder = posixpath.dirname(of_site if of_site in _PAGES else f"docs/{of_site}")

    def translate(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[1]))
        target = target[len("docs/") :] if target.startswith("docs/") else target
        return posixpath.relpath(target, posixpath.dirname(of_site) or ".")

    markdown = _LINK.sub(translate, markdown)
    return _with_messages(markdown) if of_site == "troubleshooting.md" else markdown


def _with_messages(markdown: str) -> str:
    """Add to each entry a folded list of its messages, read from the sources."""
    found = messages.messages(_ROOT / "shmbridge") + messages.messages(_ROOT / "csrc")
    of_slug = messages.by_slug(found)

    def add(entry: re.Match[str]) -> str:
        lines = "".join(f"    {line}\n" for text in of_slug.get(entry[1], []) for line in text.splitlines())
        title = f"Messages that end with `[{entry[1]}]`"
        return f'{entry[0]}\n\n??? quote "{title}"\n    ```text\n{lines}    ```\n'

    return _ENTRY.sub(add, markdown)


def on_post_build(config: Any) -> None:
    """Fail if a page loads anything from the network."""
    found = external.network_resources(Path(config.site_dir))
    if found:
        raise Abort("the site loads from the network:\n" + "\n".join(found))
