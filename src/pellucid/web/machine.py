"""The state machine, drawn from the tables that the driver obeys (RFC 9846 App. A), with the path taken lit up.

`boxes_and_edges` reads the tables, `taken` the trace, `machine` draws. The page's end saw its own changes of state;
the peer's follow from the messages it was sent.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from pellucid.handshake.states import CLIENT, SERVER, Arrow, ClientState, ServerState
from pellucid.registry import handshake_type_name
from pellucid.trace import Direction, MessageTraced, Role, StateChanged, TraceEvent
from pellucid.web.html import Markup, h

__all__ = ["Edge", "Hop", "boxes_and_edges", "machine", "taken"]

_FOLLOWED: Final = 64
"""So many messages of the peer's are followed, and changes of state lit up: a peer decides how many there are."""


class Edge(NamedTuple):
    """An arrow between two boxes. labels: what is received on it, or what the end does itself."""

    source: str
    target: str
    labels: tuple[str, ...]


class Hop(NamedTuple):
    """A step that was taken. cause: the message, or what the end did."""

    source: str
    target: str
    cause: str


_OWN: Final = {
    Role.CLIENT: {("START", "WAIT_SH"): "sends ClientHello"},
    Role.SERVER: {
        ("RECVD_CH", "START"): "sends HelloRetryRequest",
        ("RECVD_CH", "NEGOTIATED"): "chooses",
        ("NEGOTIATED", "WAIT_EOED"): "takes early data",
        ("NEGOTIATED", "WAIT_FLIGHT2"): "sends its flight",
        ("WAIT_FLIGHT2", "WAIT_CERT"): "had sent CertificateRequest",
        ("CONNECTED", "WAIT_PHA"): "sends CertificateRequest",
    },
}
"""What an end does of its own accord: the tables tell of what is received."""

_TABLES: Final[dict[Role, tuple[Arrow, ...]]] = {Role.CLIENT: CLIENT, Role.SERVER: SERVER}
_STATES: Final[dict[Role, type[enum.StrEnum]]] = {Role.CLIENT: ClientState, Role.SERVER: ServerState}


def boxes_and_edges(role: Role) -> tuple[tuple[str, ...], tuple[Edge, ...]]:
    """Return the boxes of one end in order, and the arrows between them, each pair of boxes once."""
    labels: dict[tuple[str, str], dict[str, None]] = {}
    for row in _TABLES[role]:
        for target in row.leads_to:
            chain = _chain(role, row, target.value)
            for index, pair in enumerate(itertools.pairwise(chain)):
                labels.setdefault(pair, {})
                if index == 0:
                    labels[pair][handshake_type_name(row.receives)] = None
    for pair, label in _OWN[role].items():
        labels[pair] = {label: None, **labels.get(pair, {})}
    used = {name for pair in labels for name in pair}
    boxes = tuple(state.value for state in _STATES[role] if state.value in used)
    return boxes, tuple(Edge(source, target, tuple(names)) for (source, target), names in labels.items())


def _chain(role: Role, row: Arrow, target: str) -> tuple[str, ...]:
    """Return the boxes from a row's state to *target*, those that nobody waits in included.

    A box that is passed on the way out of *target* is not passed on the way into it; one that stays where it was has
    come no further than the first.
    """
    if target == row.state.value:
        return (target, *(box.value for box in row.via[:1]), target)
    ahead = {box for other in _TABLES[role] if other.state.value == target for box in other.via}
    return (row.state.value, *(box.value for box in row.via if box not in ahead), target)


# ---- the path ----------------------------------------------------------------------------------------------------


def taken(events: Iterable[TraceEvent], role: Role, *, recorder: Role) -> tuple[Hop, ...]:
    """Return the steps that *role* took, as its own trace tells or, for the recorder's peer, as the messages show."""
    events = tuple(events)
    if role is recorder:
        changes = [event for event in events if isinstance(event, StateChanged) and event.role is role][:_FOLLOWED]
        return tuple(hop for change in changes for hop in _hops(role, change.old, change.new, change.cause))
    sent = [e.message_type for e in events if isinstance(e, MessageTraced) and e.direction is Direction.SENT]
    start = _TABLES[role][0].state.value
    if not any(isinstance(event, MessageTraced) for event in events):
        return ()
    begun = [hop for hop in _hops(role, "START", start, "sends ClientHello") if role is Role.CLIENT]
    return (*begun, *_walk(role, start, tuple(sent[:_FOLLOWED])))


def _walk(role: Role, state: str, received: tuple[int, ...]) -> tuple[Hop, ...]:
    """Return the longest path from *state* that takes *received* in order."""
    best: tuple[Hop, ...] = ()
    if not received:
        return best
    for row in _TABLES[role]:
        if (row.state.value, row.receives) != (state, received[0]):
            continue
        for target in row.leads_to:
            path = (
                *_hops(role, state, target.value, handshake_type_name(received[0])),
                *_walk(role, target.value, received[1:]),
            )
            if len(path) > len(best):
                best = path
    return best


def _hops(role: Role, old: str, new: str, cause: str) -> list[Hop]:
    chain: tuple[str, ...] = (old, new)
    for row in _TABLES[role]:
        names = {target.value for target in row.leads_to}
        if row.state.value == old and new in names and handshake_type_name(row.receives) == cause:
            chain = _chain(role, row, new)
    own = _OWN[role]
    pairs = list(itertools.pairwise(chain))
    return [Hop(a, b, cause if index == 0 else own.get((a, b), "")) for index, (a, b) in enumerate(pairs)]


# ---- the drawing -------------------------------------------------------------------------------------------------

_BOX: Final = (150, 30)
_STEP: Final = 66
_LANE: Final = 16
_LANE_BACK: Final = 64
"""from one arrow back to the next: room for what is written at the nearer"""
_BESIDE: Final = 132
"""from the boxes to the nearest arrow that passes some of them: room for what is written at the others"""
_WIDTH: Final = 458
_MIDDLE: Final = 225
_FOOT: Final = 22
"""below the last box: what is written at it may be longer than it is high"""


class _Place(NamedTuple):
    x: int
    y: int

    @property
    def right(self) -> int:
        return self.x + _BOX[0] // 2

    @property
    def left(self) -> int:
        return self.x - _BOX[0] // 2

    @property
    def bottom(self) -> int:
        return self.y + _BOX[1]

    @property
    def middle(self) -> int:
        return self.y + _BOX[1] // 2


def machine(role: Role, hops: Sequence[Hop] = (), *, name: str = "machine", everything: bool = False) -> Markup:
    """Return the drawing of one end's machine as SVG.

    hops: what was taken.   name: prefix of the ids in it.   everything: the boxes of post-handshake authentication,
    which hardly anybody speaks, are drawn although nobody was there.
    """
    boxes, edges = boxes_and_edges(role)
    visited = {box for hop in hops for box in (hop.source, hop.target)}
    boxes = tuple(box for box in boxes if everything or "PHA" not in box or box in visited)
    edges = tuple(edge for edge in edges if edge.source in boxes and edge.target in boxes)
    places = {box: _Place(_MIDDLE, 12 + index * _STEP) for index, box in enumerate(boxes)}
    lit: dict[tuple[str, str], set[str]] = {}
    for hop in hops:
        lit.setdefault((hop.source, hop.target), set()).add(hop.cause)
    lanes = _lanes([edge for edge in edges if abs(_span(boxes, edge)) > 1 or _span(boxes, edge) < 0], boxes)
    height = 12 + len(boxes) * _STEP - (_STEP - _BOX[1]) + _FOOT
    drawn = sorted(edges, key=lambda edge: (edge.source, edge.target) in lit)
    ahead = [edge for edge in lanes if _span(boxes, edge) > 0]
    busy = _Busy(
        leaving=frozenset(edge.source for edge in ahead),
        arriving=frozenset(edge.target for edge in ahead),
        looping=frozenset(edge.source for edge in edges if edge.source == edge.target),
    )
    arrows = [_arrow(edge, places, lanes.get(edge, 0), busy, lit=lit.get((edge.source, edge.target))) for edge in drawn]
    last = hops[-1].target if hops else None
    return h(
        "svg",
        {
            "class": "drawing machine",
            "viewBox": f"0 0 {_WIDTH} {height}",
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-desc",
            "xmlns": "http://www.w3.org/2000/svg",
        },
        h("title", {"id": f"{name}-title"}, f"State machine of the {role.value}"),
        h("desc", {"id": f"{name}-desc"}, _told(role, hops)),
        [wire for wire, _words in arrows],
        [_box(box, places[box], lit=box in visited, last=box == last) for box in boxes],
        [words for _wire, words in arrows],
    )


def _told(role: Role, hops: Sequence[Hop]) -> str:
    if not hops:
        return f"The states of a {role.value}, from START to CONNECTED, and what leads from one to the next."
    steps = ", ".join(f"{hop.target} ({hop.cause})" if hop.cause else hop.target for hop in hops)
    return f"The path taken: {hops[0].source}, {steps}."


def _span(boxes: Sequence[str], edge: Edge) -> int:
    return boxes.index(edge.target) - boxes.index(edge.source)


def _lanes(edges: Sequence[Edge], boxes: Sequence[str]) -> dict[Edge, int]:
    """Give each arrow that passes others a lane beside the column, the shorter the nearer; forward right, back left."""
    lanes: dict[Edge, int] = {}
    for edge in sorted(edges, key=lambda edge: abs(_span(boxes, edge))):
        low, high = sorted((boxes.index(edge.source), boxes.index(edge.target)))
        side = _span(boxes, edge) > 0
        taken_lanes = set()
        for other, lane in lanes.items():
            ends = sorted((boxes.index(other.source), boxes.index(other.target)))
            if (_span(boxes, other) > 0) is side and ends[0] <= high and low <= ends[1]:
                taken_lanes.add(lane)
        lanes[edge] = next(lane for lane in range(len(edges) + 1) if lane not in taken_lanes)
    return lanes


class _Busy(NamedTuple):
    """The boxes at whose right side an arrow leaves that passes others, one arrives, one comes back at once."""

    leaving: frozenset[str]
    arriving: frozenset[str]
    looping: frozenset[str]


def _arrow(
    edge: Edge, places: dict[str, _Place], lane: int, busy: _Busy, *, lit: set[str] | None
) -> tuple[Markup, Markup]:
    """Return the arrow, and what is written at it: that is drawn last, over the arrows of others.

    lit: what it was taken for; None if it was not.
    """
    source, target = places[edge.source], places[edge.target]
    lines = _lines(edge.labels)
    if edge.source == edge.target:
        x, y = source.right, source.middle
        y += -8 if edge.source in busy.leaving else 6 if edge.source in busy.arriving else 0
        path = f"M{x} {y - 7}h14a7 7 0 0 1 0 14h-9"
        first = y + 4 if edge.source in busy.arriving else y + 4 - 6 * (len(lines) - 1)
        head, words = (x + 1, y + 7, "left"), (x + 25, first, "start")
    elif 0 < target.y - source.y <= _STEP:
        path = f"M{source.x} {source.bottom}V{target.y - 6}"
        middle = (source.bottom + target.y) // 2 + 3 - 6 * (len(lines) - 1)
        head, words = (target.x, target.y - 1, "down"), (source.x + 9, middle, "start")
    elif target.y > source.y:
        x = source.right + _BESIDE + _LANE * lane
        path = f"M{source.right} {source.middle + 5}H{x - 8}q8 0 8 8V{target.middle - 13}q0 8 -8 8H{target.right + 6}"
        below = edge.source in busy.leaving & (busy.arriving | busy.looping)
        first = source.middle + 17 if below else source.middle - 2 - 12 * (len(lines) - 1)
        head, words = (target.right + 1, target.middle - 5, "left"), (source.right + _BESIDE - 8, first, "end")
    else:
        x = source.left - 20 - _LANE_BACK * lane
        path = f"M{source.left} {source.middle - 5}H{x + 8}q-8 0 -8 -8V{target.middle + 13}q0 -8 8 -8H{target.left - 6}"
        middle = (source.middle + target.middle) // 2 + 4 - 6 * (len(lines) - 1)
        head, words = (target.left - 1, target.middle + 5, "right"), (x - 6, middle, "end")
    kind = "edge" if lit is None else "edge lit"
    told = lit if lit and lit & set(edge.labels) else set(edge.labels)
    wire = h(
        "g",
        {"class": kind},
        h("path", {"class": "wire", "d": path, "fill": "none"}),
        h("path", {"class": "head", "d": _HEADS[head[2]].format(head[0], head[1])}),
    )
    texts = [
        h(
            "text",
            {
                "class": "lit" if lit is not None and label in told else None,
                "x": words[0],
                "y": words[1] + 12 * index,
                "text-anchor": words[2],
            },
            part,
        )
        for index, (part, label) in enumerate(lines)
    ]
    return wire, h("g", {"class": kind}, texts)


_HEADS: Final = {"down": "M{} {}l-4 -8h8z", "left": "M{} {}l8 -4v8z", "right": "M{} {}l-8 -4v8z"}


def _lines(labels: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return what is written at an arrow, in lines that are short, each with the label it is of."""
    if len(labels) == 1:
        words = labels[0].rsplit(" ", 1) if len(labels[0]) > 20 else [labels[0]]
        return [(word, labels[0]) for word in words]
    shown = [label if index == 0 else f"or {label}" for index, label in enumerate(labels)]
    if len(labels) > 1 and labels[1] == f"Compressed{labels[0]}":
        shown[1] = "or compressed"
    return list(zip(shown, labels, strict=True))


def _box(name: str, place: _Place, *, lit: bool, last: bool) -> Markup:
    return h(
        "g",
        {"class": "box" + (" lit" if lit else "") + (" last" if last else "")},
        h("rect", {"x": place.left, "y": place.y, "width": _BOX[0], "height": _BOX[1], "rx": 7}),
        h("text", {"x": place.x, "y": place.middle + 4, "text-anchor": "middle"}, name),
    )
