"""The page as JSON, for programs."""

from __future__ import annotations

from typing import Final

from pellucid.explain.sentences import describe
from pellucid.web.view import View

__all__ = ["SCHEMA", "document"]

SCHEMA: Final = 1
"""The number of the JSON's shape: it grows when a program that reads it would have to change."""


def document(view: View) -> dict[str, object]:
    """Return the connection as values that JSON has."""
    steps = [{"seconds": round(seconds, 6), "sentence": describe(event)} for seconds, event in view.recorder.recorded]
    return {"schema": SCHEMA, "secrets_revealed": view.reveal, "steps": steps}
