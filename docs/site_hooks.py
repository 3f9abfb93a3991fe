"""What mkdocs does beyond its configuration: pages from outside of docs/, and a look at what was built."""

from __future__ import annotations

import importlib.util
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import Abort
from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).resolve().parent.parent
# Pages that belong to a folder of the repository and are pages of the site as well.
_ELSEWHERE = ("benchmarks/README.md", "examples/demo/README.md", "examples/rasr/README.md")
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)\s#]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from elsewhere, under their path in the repository."""
    for path in _ELSEWHERE:
        files.append(File.generated(config, path, content=(_ROOT / path).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links that hold in the repository, which has the pages of docs/ in a folder, into the site's."""
    of_site = page.file.src_uri
    folder = posixpath.dirname(of_site if of_site in _ELSEWHERE else f"docs/{of_site}")

    def translate(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[1]))
        target = target[len("docs/") :] if target.startswith("docs/") else target
        return posixpath.relpath(target, posixpath.dirname(of_site) or ".")

    return _LINK.sub(translate, markdown)


def on_post_build(config: Any) -> None:
    """Fail where a page would load anything from elsewhere."""
    spec = importlib.util.spec_from_file_location("external", Path(__file__).with_name("external.py"))
    if spec is None or spec.loader is None:
        raise Abort("docs/external.py cannot be loaded")
    external = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(external)
    found = external.loaded_from_elsewhere(Path(config.site_dir))
    if found:
        raise Abort("the site would load from elsewhere:\n" + "\n".join(found))
