"""The drawings as files of their own, with their style inside: what the documents show is drawn by the page's code."""

from __future__ import annotations

import re
from typing import Final

from pellucid.errors import InternalError
from pellucid.web.html import Markup
from pellucid.web.view import STATIC

__all__ = ["picture"]

_COLOURS: Final = re.compile(r"^:root \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_DARK: Final = re.compile(
    r"^@media \(prefers-color-scheme: dark\) \{\n  :root \{\n(.*?)^  \}", re.MULTILINE | re.DOTALL
)
_DRAWING: Final = re.compile(r"^/\* drawing: .*?\*/\n(.*?)^/\* end of the drawing \*/", re.MULTILINE | re.DOTALL)


def picture(svg: Markup) -> str:
    """Return *svg* as a file: its colours follow the reader's scheme, light or dark."""
    size = re.search(r'viewBox="0 0 (\d+) (\d+)"', svg)
    if size is None:
        raise InternalError("a drawing says how large it is")
    width, height = size.groups()
    sheet = f'<rect class="sheet" x="0" y="0" width="{width}" height="{height}" rx="12"/>'
    head, found, rest = svg.partition("</desc>")
    head = head.replace("<svg ", f'<svg width="{width}" height="{height}" ', 1)
    return f"{head}{found}\n<style>\n{_style()}</style>\n{sheet}{rest}\n".replace("<g ", "\n<g ")


def _style() -> str:
    css = (STATIC / "page.css").read_text(encoding="utf-8")
    blocks = [pattern.search(css) for pattern in (_COLOURS, _DARK, _DRAWING)]
    light, dark, drawing = (block.group(1) if block else "" for block in blocks)
    if not (light and dark and drawing):
        raise InternalError("page.css has the colours, light and dark, and the marks around the style of the drawings")
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", drawing)) | {"--sheet"}
    return (
        f":root {{ {_chosen(light, used)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {_chosen(dark, used)} }} }}\n"
        f"{drawing}.drawing > .sheet {{ stroke: none; }}\n"
    )


def _chosen(block: str, used: set[str]) -> str:
    lines = [line.strip() for line in block.splitlines()]
    return " ".join(line for line in lines if line.partition(":")[0] in used)
