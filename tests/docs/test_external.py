"""`make docs` fails if a page loads anything from the network. Links do not count."""

from __future__ import annotations

import external
import pytest


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.html", '<script src="https://cdn.example/x.js"></script>'),
        ("a.html", '<script async src="//cdn.example/x.js"></script>'),
        ("a.html", '<link rel="stylesheet" href="https://fonts.example/css?family=Roboto">'),
        ("a.html", '<link rel="preconnect" href="https://fonts.example" crossorigin>'),
        ("a.html", '<img src="HTTP://example/x.png">'),
        ("a.html", '<img src="x.png" srcset="y.png 1x, https://example/z.png 2x">'),
        ("a.html", "<style>@import 'https://example/x.css';</style>"),
        ("a.html", '<p style="background: url(//example/x.png)">'),
        ("deep/a.css", "@font-face {src: url('https://example/x.woff2')}"),
        ("a.svg", '<svg><image href="https://example/x.png"/></svg>'),
    ],
)
def test_a_resource_from_the_network_is_found(name, content, tmp_path):
    page = tmp_path / name
    page.parent.mkdir(exist_ok=True)
    page.write_text(content)
    (found,) = external.network_resources(tmp_path)
    assert found.startswith(f"{name}: ")


def test_links_and_own_files_are_not_reported(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="https://example">x</a> <script src="../assets/x.js"></script> <img src="x.png">'
        '<link rel="canonical" href="https://example"> <style>p {background: url(x.png)}</style>'
        '<p>@import "https://example"</p> <img src="data:image/svg+xml,%3Csvg xmlns=\'http://www.w3.org\'%3E">'
    )
    (tmp_path / "a.css").write_text("p {background: url('data:image/svg+xml,<svg xmlns=\"http://w3\">')}")
    assert external.network_resources(tmp_path) == []
