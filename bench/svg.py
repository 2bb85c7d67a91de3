"""Bar charts as SVG: text, rectangles and two sets of colours, for a light page and for a dark one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

WIDTH, LEFT, RIGHT, TOP = 960, 410, 150, 40
BAR, GAP, ROW_GAP = 13, 2, 11
MOST = 4.0
"""ratios beyond this are cut off, so that one of 20 does not make the others unreadable; their number stands there"""

STYLE = """
:root { --ink: #1d1c1a; --soft: #5b5750; --rule: #c9c4b6; --ours: #3b46b8; --theirs: #a49e8e; --floor: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9e6df; --soft: #aaa69c; --rule: #4a5059; --ours: #a3b0ff; --theirs: #757c88; --floor: #ff9a8f; }
}
text { fill: var(--ink); font: 12px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; }
.title { font-weight: 600; font-size: 13px; }
.soft { fill: var(--soft); font-size: 10px; }
.rule { stroke: var(--rule); }
.floor { stroke: var(--floor); stroke-width: 2; }
.ours { fill: var(--ours); }
.theirs { fill: var(--theirs); }
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: whose it is, how long, what stands at its end; floor: where a mark is set."""

    name: str
    value: float
    text: str
    ours: bool = False
    floor: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Bars that belong together."""

    name: str
    bars: tuple[Bar, ...]


def chart(title: str, rows: Sequence[Row]) -> str:
    """Return a picture of *rows*, one below the other, with a line where the ratio is 1."""
    values = [value for row in rows for bar in row.bars for value in (bar.value, bar.floor or 0)]
    most = min(MOST, max([1.2, *values]))
    scale = (WIDTH - LEFT - RIGHT) / most
    body, y = [], TOP
    for row in rows:
        height = max(1, len(row.bars)) * (BAR + GAP)
        body.append(_text(8, y + height / 2 + 4, row.name))
        for i, bar in enumerate(row.bars):
            body += _bar(bar, y + i * (BAR + GAP), scale, most)
        y += height + ROW_GAP
    one = LEFT + scale
    axis = f'<line class="rule" x1="{one:.1f}" y1="{TOP - 8}" x2="{one:.1f}" y2="{y - ROW_GAP + 4}"/>'
    tick = _text(one, TOP - 12, "1", "soft", "middle")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" '
        f'role="img" aria-label={quoteattr(title)}>\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n'
        + "\n".join([_text(8, 18, title, "title"), axis, tick, *body])
        + "\n</svg>\n"
    )


def _bar(bar: Bar, y: float, scale: float, most: float) -> list[str]:
    length = min(bar.value, most) * scale
    kind = "ours" if bar.ours else "theirs"
    found = [
        _text(LEFT - 6, y + BAR - 3, bar.name, "soft", "end"),
        f'<rect class="{kind}" x="{LEFT}" y="{y:.1f}" width="{max(length, 1):.1f}" height="{BAR}"/>',
        _text(LEFT + length + 6, y + BAR - 3, bar.text + (" →" if bar.value > most else ""), "soft"),
    ]
    if bar.floor is not None:
        x = LEFT + min(bar.floor, most) * scale
        found.append(f'<line class="floor" x1="{x:.1f}" y1="{y - 1:.1f}" x2="{x:.1f}" y2="{y + BAR + 1:.1f}"/>')
    return found


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
