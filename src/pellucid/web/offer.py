"""What the client offered, and what was chosen of it and why. A client is known by how it offers (JA4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from pellucid.explain.ja4 import Ja4, ja4
from pellucid.explain.sentences import choice_name
from pellucid.explain.text import escaped
from pellucid.messages.handshake import ClientHello
from pellucid.registry import ExtensionType as E
from pellucid.registry import NamedGroup as G
from pellucid.registry import (
    extension_name,
    group_name,
    is_grease,
    scheme_name,
    suite_name,
    version_name,
)
from pellucid.trace import ChoiceMade, MessageTraced, TraceEvent
from pellucid.web.html import Child, Markup, h

__all__ = ["Offer", "choices", "offer_of", "offered"]

POST_QUANTUM: Final = frozenset(
    {G.X25519MLKEM768, G.SECP256R1MLKEM768, G.SECP384R1MLKEM1024, G.MLKEM768, G.MLKEM1024, 0x0200, 0x6399}
)
"""The groups that hold against a quantum computer; 0x6399 is the draft's X25519Kyber768."""

_MAX_LISTED: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What stands in a ClientHello, as lists of names in the order sent; GREASE is among them."""

    ja4: Ja4
    versions: tuple[str, ...]
    suites: tuple[str, ...]
    extensions: tuple[str, ...]
    groups: tuple[str, ...]
    shares: tuple[str, ...]
    schemes: tuple[str, ...]
    protocols: tuple[str, ...]
    grease: int
    post_quantum: tuple[str, ...]
    """the groups with a share that a quantum computer does not break"""

    def lists(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return the lists with their headings."""
        return (
            ("extensions", self.extensions),
            ("versions", self.versions),
            ("cipher suites", self.suites),
            ("groups", self.groups),
            ("key shares", self.shares),
            ("signature schemes", self.schemes),
            ("protocols", self.protocols),
        )

    def to_dict(self) -> dict[str, object]:
        """Return the offer for JSON."""
        return {
            **self.ja4.to_dict(),
            "grease_values": self.grease,
            "post_quantum_shares": list(self.post_quantum),
            **{heading.replace(" ", "_"): list(names) for heading, names in self.lists()},
        }


def offer_of(events: Iterable[TraceEvent]) -> Offer | None:
    """Return what the first ClientHello offers, None if there was none. Never raises: what breaks off is short."""
    hello = next(
        (e.body for e in events if isinstance(e, MessageTraced) and isinstance(e.body, ClientHello)),
        None,
    )
    if hello is None:
        return None
    bodies = dict(reversed(hello.extensions))
    groups = _u16s(bodies.get(E.SUPPORTED_GROUPS, b"")[2:])
    shares = _shares(bodies.get(E.KEY_SHARE, b"")[2:])
    versions = _u16s(bodies.get(E.SUPPORTED_VERSIONS, b"")[1:])
    schemes = _u16s(bodies.get(E.SIGNATURE_ALGORITHMS, b"")[2:])
    kinds = [code for code, _data in hello.extensions]
    everything = [*hello.cipher_suites, *kinds, *groups, *versions, *schemes, *(group for group, _size in shares)]
    return Offer(
        ja4=ja4(hello),
        versions=_named(version_name, versions),
        suites=_named(suite_name, hello.cipher_suites),
        extensions=_named(extension_name, kinds),
        groups=_named(group_name, groups),
        shares=tuple(f"{_name(group_name, group)}: {_bytes(size)}" for group, size in shares),
        schemes=_named(scheme_name, schemes),
        protocols=_protocols(bodies.get(E.APPLICATION_LAYER_PROTOCOL_NEGOTIATION, b"")[2:]),
        grease=sum(map(is_grease, everything)),
        post_quantum=tuple(group_name(group) for group, _size in shares if group in POST_QUANTUM),
    )


def _u16s(data: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data) - 1, 2))


def _shares(data: bytes) -> list[tuple[int, int]]:
    found = []
    at = 0
    while at + 4 <= len(data):
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        found.append((int.from_bytes(data[at : at + 2], "big"), size))
        at += 4 + size
    return found


def _protocols(data: bytes) -> tuple[str, ...]:
    found = []
    at = 0
    while at < len(data):
        name = data[at + 1 : at + 1 + data[at]]
        found.append(
            f"GREASE (0x{name.hex()})"
            if len(name) == 2 and is_grease(int.from_bytes(name, "big"))
            else escaped(name.decode("utf-8", "backslashreplace"))
        )
        at += 1 + data[at]
    return tuple(found)


def _bytes(size: int) -> str:
    return f"{size} byte{'' if size == 1 else 's'}"


def _named(name: Callable[[int], str], codes: Iterable[int]) -> tuple[str, ...]:
    return tuple(_name(name, code) for code in codes)


def _name(name: Callable[[int], str], code: int) -> str:
    told = name(code)
    return told if f"0x{code:04x}" in told else f"{told} (0x{code:04x})"


# ---- the drawing -------------------------------------------------------------------------------------------------


def offered(offer: Offer) -> Markup:
    """Return what was offered: the fingerprint, what stands out, the lists."""
    quantum = (
        f"It sent a post-quantum key share: {', '.join(offer.post_quantum)}."
        if offer.post_quantum
        else "It sent no post-quantum key share: who records this today may read it when there are quantum computers."
    )
    grease = (
        f"It mixes in {offer.grease} GREASE values (RFC 8701), which mean nothing: servers must learn to ignore them."
        if offer.grease
        else "It sends no GREASE (RFC 8701)."
    )
    return h(
        "div",
        {"class": "offer"},
        h(
            "dl",
            {"class": "ja4"},
            h("div", h("dt", "JA4"), h("dd", h("code", {"id": "ja4"}, offer.ja4.fingerprint))),
            h(
                "div",
                h("dt", "JA4_r"),
                h("dd", h("details", h("summary", "Open the raw form"), h("code", offer.ja4.raw))),
            ),
        ),
        h("p", h("strong", quantum), " ", grease),
        h("div", {"class": "lists"}, [_list(heading, names) for heading, names in offer.lists() if names]),
    )


def _list(heading: str, names: tuple[str, ...]) -> Markup:
    shown: list[Child] = [
        h("li", {"class": "grease" if name.startswith("GREASE") else None}, name) for name in names[:_MAX_LISTED]
    ]
    if len(names) > _MAX_LISTED:
        shown.append(h("li", f"and {len(names) - _MAX_LISTED} more"))
    return h("details", h("summary", f"{len(names)} {heading}"), h("ol", shown))


def choices(events: Iterable[TraceEvent]) -> Markup | None:
    """Return what was chosen and why, as a table; None if nothing was."""
    made = [event for event in events if isinstance(event, ChoiceMade)]
    if not made:
        return None
    rows = [
        h(
            "tr",
            h("th", {"scope": "row"}, choice_name(event.what)),
            h("td", h("b", event.chosen), h("span", {"class": "why"}, event.reason)),
        )
        for event in made[:_MAX_LISTED]
    ]
    head = h("tr", h("th", {"scope": "col"}, "question"), h("th", {"scope": "col"}, "answer, and why"))
    return h(
        "table",
        {"class": "choices"},
        h("caption", {"class": "away"}, "What was chosen, and why"),
        h("thead", head),
        h("tbody", rows),
    )
