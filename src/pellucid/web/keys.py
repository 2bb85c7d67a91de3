"""The key schedule as a graph, from the shared secret to the keys (RFC 9846 §7.1, §7.3), and the Python of each node.

The trunk goes down on the left, what hangs on it stands at the right: a secret a row, its keys beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from pellucid.explain.snippets import Snippet
from pellucid.explain.text import shortened
from pellucid.explain.tree import EXTRACT, Node
from pellucid.web.html import Child, Markup, h

__all__ = ["LEAVES", "graph", "key_list", "node_id"]

LEAVES: Final = {
    "key": "encrypts and seals each record",
    "iv": "makes each record's nonce",
    "finished": "seals the handshake as a whole",
}
"""The labels of what a traffic secret becomes, and what it is for."""

_MEANINGS: Final = {
    **LEAVES,
    "derived": "the salt of the next step down the trunk",
    "c e traffic": "protects the client's early data",
    "e exp master": "for keys of the application's own, of early data",
    "ext binder": "proves that the client knows the external key it offers",
    "res binder": "proves that the client knows the session it offers",
    "c hs traffic": "protects the rest of the client's handshake",
    "s hs traffic": "protects the rest of the server's handshake",
    "c ap traffic": "protects what the client's application says",
    "s ap traffic": "protects what the server's application says",
    "exp master": "for keys of the application's own",
    "res master": "from which sessions to resume later get their keys",
    "resumption": "the key of one ticket: with it a later connection starts",
    "traffic upd": "the next generation, after a KeyUpdate",
}
_EXTRACTS: Final = {
    "early_secret": "where the schedule starts: from a pre-shared key, or from zeros if there is none",
    "handshake_secret": "the shared secret comes in: from here on nobody else can follow",
    "main_secret": "the root of everything that protects the application's data",
}


def node_id(name: str) -> str:
    """Return the id of a node's entry in the list."""
    return "key-" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _epoch(node: Node) -> str:
    """Return the class that colours a node as its epoch's messages are."""
    if "handshake_traffic" in node.name:
        return "ep-handshake"
    if "application_traffic" in node.name:
        return "ep-application"
    return "ep-early" if "early_traffic" in node.name or node.label in {"c e traffic", "e exp master"} else "ep-none"


# ---- the graph ---------------------------------------------------------------------------------------------------

_TRUNK: Final = (14, 158)
_BRANCH: Final = (250, 286)
_LEAF: Final = (68, 8)
_ROW: Final = 50
_HEIGHT: Final = 38
_INDENT: Final = 16
_DEEPEST: Final = 4


class _Row(NamedTuple):
    """above: how many rows higher its parent stands, 0 for what hangs on the trunk."""

    node: Node
    depth: int
    above: int


def graph(root: Node, *, name: str = "keys", values: bool = True) -> Markup:
    """Return the drawing of the tree as SVG. values: whether fingerprints stand in it."""
    parts: list[Markup] = []
    y = 14
    trunk: Node | None = root
    while trunk is not None:
        onward = next((child for child in trunk.children if child.label == "derived"), None)
        rows = [row for child in trunk.children if child is not onward for row in _rows(child)]
        parts.append(_stage(trunk, y, values=values))
        for index, row in enumerate(rows):
            parts.append(_branch(row, y + index * _ROW, y, values=values))
        following = None if onward is None else next((c for c in onward.children if c.method == EXTRACT), None)
        next_y = y + max(len(rows) * _ROW, 2 * _ROW) + 22
        if onward is not None and following is not None:
            parts.append(_derived(onward, y, next_y))
        trunk, y = following, next_y
    width = _BRANCH[0] + _BRANCH[1] + 3 * (_LEAF[0] + _LEAF[1]) + 14
    return h(
        "svg",
        {
            "class": "drawing keys",
            "viewBox": f"0 0 {width} {y - 22}",
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-desc",
            "xmlns": "http://www.w3.org/2000/svg",
        },
        h("title", {"id": f"{name}-title"}, "The key schedule"),
        h("desc", {"id": f"{name}-desc"}, _told(root)),
        parts,
    )


def _told(root: Node) -> str:
    told = []
    for node in root.walk():
        leaves = [child.label for child in node.children if child.label in LEAVES]
        if node.label not in LEAVES and node.label != "derived":
            told.append(node.name + (f" (with {', '.join(leaves)})" if leaves else ""))
    return f"From the shared secret to the keys: {', '.join(told)}. The list after the drawing has each with its label."


def _rows(node: Node, depth: int = 0, above: int = 0) -> Iterator[_Row]:
    yield _Row(node, depth, above)
    below = 1
    for child in node.children:
        if child.label not in LEAVES:
            rows = list(_rows(child, min(depth + 1, _DEEPEST), below))
            below += len(rows)
            yield from rows


def _stage(node: Node, y: int, *, values: bool) -> Markup:
    """Draw one stage of the trunk, and what is mixed in there."""
    x, width = _TRUNK
    mixed = {"zeros": "0", "PSK": "PSK", "shared secret": "shared secret"}.get(node.takes, node.takes)
    below = f"{node.secret.fingerprint()[:12]}…" if values else f"HKDF-Extract, {len(node.secret)} bytes"
    return h(
        "g",
        {"class": "node trunk", "data-node": node_id(node.name)},
        h("rect", {"x": x, "y": y, "width": width, "height": _HEIGHT, "rx": 8}),
        h("text", {"class": "name", "x": x + width // 2, "y": y + 16, "text-anchor": "middle"}, node.name),
        h("text", {"class": "about", "x": x + width // 2, "y": y + 30, "text-anchor": "middle"}, below),
        h(
            "g",
            {"class": "shared" if node.takes == "shared secret" else "mixed"},
            h("rect", {"x": x + 44, "y": y + _HEIGHT + 14, "width": width - 44, "height": 22, "rx": 11}),
            h("text", {"x": x + 44 + (width - 44) // 2, "y": y + _HEIGHT + 29, "text-anchor": "middle"}, mixed),
            h(
                "path",
                {"class": "wire", "fill": "none", "d": f"M{x + 101} {y + _HEIGHT + 14}v-7"},
            ),
            h("path", {"class": "head", "d": f"M{x + 101} {y + _HEIGHT + 1}l-4 7h8z"}),
        ),
    )


def _derived(node: Node, y: int, next_y: int) -> Markup:
    """Draw the way down the trunk."""
    x = _TRUNK[0] + 22
    return h(
        "g",
        {"class": "node derived", "data-node": node_id(node.name)},
        h("path", {"class": "wire", "fill": "none", "d": f"M{x} {y + _HEIGHT}V{next_y - 7}"}),
        h("path", {"class": "head", "d": f"M{x} {next_y - 1}l-4 -8h8z"}),
        h("text", {"class": "label", "x": x + 8, "y": next_y - 12}, '"derived"'),
    )


def _branch(row: _Row, y: int, stage_y: int, *, values: bool) -> Markup:
    """Draw one secret at the right, the wire to it, and its keys."""
    node, depth, above = row
    x, width = _BRANCH[0] + depth * _INDENT, _BRANCH[1] - depth * _INDENT
    middle = y + _HEIGHT // 2
    if depth:
        wire = f"M{x - 8} {y - above * _ROW + _HEIGHT}V{middle - 6}q0 6 6 6h2"
    elif y == stage_y:
        wire = f"M{_TRUNK[0] + _TRUNK[1]} {middle}H{x - 1}"
    else:
        turn = _TRUNK[0] + _TRUNK[1] + 30
        wire = f"M{_TRUNK[0] + _TRUNK[1]} {stage_y + _HEIGHT // 2}H{turn - 8}q8 0 8 8V{middle - 8}q0 8 8 8H{x - 1}"
    hashed = f", {shortened(node.context, whole=0, head=3, tail=0)}" if values and node.messages else ""
    about = f'"{node.label}"' + (f" · {node.messages}" if node.messages else "")
    leaves = [child for child in node.children if child.label in LEAVES]
    return h(
        "g",
        {"class": f"node branch {_epoch(node)}"},
        h("path", {"class": "wire", "fill": "none", "d": wire}),
        h(
            "g",
            {"data-node": node_id(node.name)},
            h("title", f"{node.name}{hashed}"),
            h("rect", {"x": x, "y": y, "width": width, "height": _HEIGHT, "rx": 8}),
            h("text", {"class": "name", "x": x + 11, "y": y + 16}, node.name),
            h("text", {"class": "about", "x": x + 11, "y": y + 30}, about),
        ),
        [
            h(
                "g",
                {"class": "leaf", "data-node": node_id(leaf.name)},
                h("path", {"class": "wire", "fill": "none", "d": f"M{left - _LEAF[1]} {middle}h{_LEAF[1]}"}),
                h("rect", {"x": left, "y": y + 7, "width": _LEAF[0], "height": _HEIGHT - 14, "rx": 12}),
                h("text", {"x": left + _LEAF[0] // 2, "y": middle + 4, "text-anchor": "middle"}, leaf.label),
            )
            for left, leaf in _placed(leaves, x + width)
        ],
    )


def _placed(leaves: list[Node], right: int) -> list[tuple[int, Node]]:
    return [(right + _LEAF[1] + index * sum(_LEAF), leaf) for index, leaf in enumerate(leaves)]


# ---- the list ----------------------------------------------------------------------------------------------------


def key_list(root: Node, snippets: tuple[Snippet, ...], *, reveal: bool) -> Markup:
    """Return every node with its label, its context and its Python; the secrets themselves only if *reveal*."""
    code = {snippet.name: snippet for snippet in snippets}
    return h("ol", {"class": "keylist"}, [_entry(node, code[node.name], reveal=reveal) for node in root.walk()])


def _entry(node: Node, snippet: Snippet, *, reveal: bool) -> Markup:
    meaning = _EXTRACTS.get(node.name) or _MEANINGS.get(node.label, "")
    facts: list[tuple[str, Child]] = [("made by", node.method)]
    if node.label:
        facts.append(("label", h("code", f"tls13 {node.label}")))
    if node.takes:
        facts.append(("mixes in", node.takes))
    if node.messages:
        facts.append(("context", [f"the hash of {node.messages}: ", h("code", node.context.hex())]))
    elif node.context:
        hashed = "ticket_nonce: " if node.label == "resumption" else "the hash of nothing: "
        facts.append(("context", [hashed, h("code", node.context.hex())]))
    facts.append(("fingerprint", h("code", node.secret.fingerprint())))
    if reveal:
        facts.append(("value", h("code", {"class": "secret"}, node.secret.reveal().hex())))
    return h(
        "li",
        {"class": f"key {_epoch(node)}" + (" leafkey" if node.label in LEAVES else "")},
        h(
            "details",
            {"id": node_id(node.name)},
            h(
                "summary",
                h("span", {"class": "keyname"}, node.name),
                " ",
                h("span", {"class": "meaning"}, meaning),
            ),
            h("dl", {"class": "facts"}, [h("div", h("dt", term), h("dd", told)) for term, told in facts]),
            h("p", {"class": "quiet"}, f"Not to be run as it stands: {snippet.missing}.") if snippet.missing else None,
            h(
                "pre",
                {"class": "code", "tabindex": 0, "role": "group", "aria-label": f"Python that computes {node.name}"},
                h("code", snippet.code),
            ),
        ),
    )
