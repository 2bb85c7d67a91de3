"""A message's bytes in hex with each field marked, and the table that explains them. Works without JavaScript.

Both bear numbers: `data-f` of a piece of hex is its leaf's, of a row the first and last leaf it covers; page.js lights
them up together. What is too much for a page is cut and counted: a peer decides how long its messages are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pellucid.explain.spans import FieldSpan
from pellucid.web.html import Markup, h

__all__ = ["MAX_BYTES", "Budget", "octets"]

MAX_BYTES: Final = 8192
"""So many bytes of one message are drawn."""
_MAX_FIELDS: Final = 600
_TINTS: Final = 4
_BARE_BYTES: Final = 512
_WIDE, _NARROW = 16, 8


@dataclass(slots=True)
class Budget:
    """What one page may still draw. fields: rows of tables; messages: whose bytes are drawn at all; octets: bytes."""

    fields: int = 3000
    messages: int = 100
    octets: int = 100_000

    def take(self, fields: int, size: int) -> tuple[int, int]:
        """Return how many of a message's fields and bytes may be drawn, and take them."""
        granted = min(fields, _MAX_FIELDS, self.fields)
        drawn = min(size, MAX_BYTES if granted else _BARE_BYTES, self.octets)
        self.fields -= granted
        self.octets -= drawn
        self.messages -= 1
        return granted, drawn


def octets(raw: bytes, spans: tuple[FieldSpan, ...], name: str, budget: Budget) -> Markup:
    """Return hex and table. name: what it is, for those who cannot see it."""
    granted, size = budget.take(len(spans), len(raw))
    drawn = spans[:granted]
    leaves = [span for span in drawn if span.leaf]
    notes = []
    if size < len(raw):
        notes.append(f"{len(raw) - size} more bytes are not drawn here.")
    if granted < len(spans):
        notes.append(f"{len(spans) - granted} more fields are not explained here.")
    return h(
        "div",
        {"class": "octets"},
        h(
            "div",
            {"class": "dump", "tabindex": 0, "role": "group", "aria-label": f"The bytes of {name} in hexadecimal"},
            [_gutter(size, per, kind) for per, kind in ((_WIDE, "wide"), (_NARROW, "narrow"))],
            h("div", {"class": "hex"}, _hex(raw[:size], leaves)),
            [_ascii(raw[:size], per, kind) for per, kind in ((_WIDE, "wide"), (_NARROW, "narrow"))],
        ),
        h("p", {"class": "quiet"}, " ".join(notes)) if notes else None,
        _table(drawn, name) if drawn else None,
    )


def _gutter(size: int, per: int, kind: str) -> Markup:
    offsets = "\n".join(f"{at:04x}" for at in range(0, size, per))
    return h("pre", {"class": f"gutter {kind}", "aria-hidden": "true"}, offsets)


def _ascii(data: bytes, per: int, kind: str) -> Markup:
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "·" for byte in data)
    lines = "\n".join(text[at : at + per] for at in range(0, len(text), per))
    return h("pre", {"class": f"ascii {kind}", "aria-hidden": "true"}, lines)


def _hex(data: bytes, leaves: list[FieldSpan]) -> list[Markup]:
    pieces: list[Markup] = []
    at = 0
    for index, leaf in enumerate(leaves):
        part = data[leaf.offset : leaf.offset + leaf.length]
        at = leaf.offset + leaf.length
        if part:
            kind = "len" if leaf.name == "length" else f"t{index % _TINTS}"
            pieces.append(h("span", {"class": kind, "data-f": index}, part.hex(" ") + " "))
    if rest := data[at:]:
        pieces.append(h("span", {"class": "rest"}, rest.hex(" ")))
    return pieces


def _table(spans: tuple[FieldSpan, ...], name: str) -> Markup:
    rows = []
    leaf = 0
    above: list[FieldSpan] = []
    for index, span in enumerate(spans):
        del above[span.depth :]
        inside = 1
        if not span.leaf:
            inside = 0
            for other in spans[index + 1 :]:
                if other.depth <= span.depth:
                    break
                inside += other.leaf
        # What a length is for, or what stands in the row above, is not said again and again.
        said = span.depth > 0 and (span.name == "length" or (bool(above) and above[-1].meaning == span.meaning))
        rows.append(_row(span, leaf, leaf + max(inside, 1) - 1, said=said))
        above.append(span)
        leaf += span.leaf
    return h(
        "table",
        {"class": "fields"},
        h("caption", {"class": "away"}, f"The fields of {name}"),
        h("thead", h("tr", h("th", {"scope": "col"}, "field"), h("th", {"scope": "col"}, "what it says"))),
        h("tbody", rows),
    )


def _row(span: FieldSpan, first: int, last: int, *, said: bool) -> Markup:
    end = span.offset + span.length
    where = f"{span.offset:04x}" if span.length == 1 else f"{span.offset:04x}–{end - 1:04x}"
    return h(
        "tr",
        {"data-f": f"{first}-{last}", "class": f"d{min(span.depth, 8)}" + (" leaf" if span.leaf else "")},
        h("th", {"scope": "row"}, h("span", {"class": "fieldname"}, span.name), h("span", {"class": "where"}, where)),
        h(
            "td",
            h("span", {"class": "value"}, span.value),
            None if said else h("span", {"class": "meaning"}, span.meaning, " ", _cited(span.rfc)),
        ),
    )


def _cited(rfc: str) -> Markup | None:
    return h("span", {"class": "rfc"}, f"RFC {rfc}" if rfc[:1].isdigit() else rfc) if rfc else None
