"""What can be taken away of a connection: files in the formats of `explain`, each with what it is good for."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from pellucid.explain.jsonl import write_jsonl
from pellucid.explain.pcapng import write_pcapng
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
    note_without_secrets: str = ""


def _pcapng(view: View) -> bytes:
    file = io.BytesIO()
    write_pcapng(view.recorder, file, secrets=view.reveal)
    return file.getvalue()


def _json(view: View) -> bytes:
    return json.dumps(document(view), indent=2, ensure_ascii=True).encode() + b"\n"


def _jsonl(view: View) -> bytes:
    file = io.StringIO()
    write_jsonl(view.recorder, file, reveal=view.reveal)
    return file.getvalue().encode()


def _text(view: View) -> bytes:
    return text(view).encode()


KINDS: Final[Mapping[str, _Kind]] = {
    "pcapng": _Kind(
        "application/x-pcapng",
        _pcapng,
        "Packets (pcapng)",
        "Opens already decrypted in Wireshark: whoever has the file can read this connection.",
        "What went over the wire, for Wireshark: encrypted, as everybody on the way saw it.",
    ),
    "json": _Kind(JSON, _json, "Page (JSON)", "What this page says, for programs."),
    "jsonl": _Kind(
        "application/jsonl",
        _jsonl,
        "Events (JSON Lines)",
        "Every event of the connection and its secrets, for programs.",
        "Every event of the connection, for programs.",
    ),
    "txt": _Kind(TEXT, _text, "Text", "What this page says, for people: what curl gets."),
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
        Link(label=one.label, url=f"/connection.{kind}?connection={connection_id}", note=_note(one, secrets=secrets))
        for kind, one in KINDS.items()
    )


def _note(kind: _Kind, *, secrets: bool) -> str:
    return kind.note if secrets or not kind.note_without_secrets else kind.note_without_secrets
