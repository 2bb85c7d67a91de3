"""What can be taken away of a connection: files in the formats of `explain`, each with what it is good for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from pellucid.web.answers import JSON, TEXT, Answer
from pellucid.web.document import document
from pellucid.web.text import text
from pellucid.web.view import Link, View

__all__ = ["KINDS", "download", "links"]


class _Kind(NamedTuple):
    content_type: str
    make: Callable[[View], bytes]
    label: str
    note: str


def _json(view: View) -> bytes:
    return json.dumps(document(view), indent=2, ensure_ascii=True).encode() + b"\n"


def _text(view: View) -> bytes:
    return text(view).encode()


KINDS: Final[Mapping[str, _Kind]] = {
    "json": _Kind(JSON, _json, "JSON", "What this page says, for programs."),
    "txt": _Kind(TEXT, _text, "Text", "What this page says, for people; `curl` gets it too."),
}
"""the name after the dot → how it is made"""


def download(kind: str, view: View) -> Answer:
    """Return the file *kind* of the view's connection, as it is now."""
    one = KINDS[kind]
    disposition = f'attachment; filename="connection.{kind}"'.encode()
    return Answer(content_type=one.content_type, body=one.make(view), headers=((b"content-disposition", disposition),))


def links(connection_id: str, *, secrets: bool) -> tuple[Link, ...]:
    """Return what the page links to. secrets: whether the files have the connection's secrets in them."""
    return tuple(
        Link(label=one.label, url=f"/connection.{kind}?connection={connection_id}", note=one.note)
        for kind, one in KINDS.items()
    )
