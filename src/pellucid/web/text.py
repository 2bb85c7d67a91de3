"""The page as plain text, for curl: at most 80 columns."""

from __future__ import annotations

from pellucid.explain.ladder import FIELDS, ladder
from pellucid.explain.text import plain
from pellucid.web.view import View

__all__ = ["text"]


def text(view: View) -> str:
    """Return the connection as lines of text."""
    return "\n".join(map(plain, ladder(view.recorder.events, width=80, detail=FIELDS, meanings=True))) + "\n"
