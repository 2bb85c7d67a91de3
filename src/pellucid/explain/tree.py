"""The key schedule as the tree it is: every secret, what it came from and by which label (RFC 9846 §7.1, §7.3)."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pellucid.crypto.provider import Suite
from pellucid.crypto.pyca import PYCA
from pellucid.explain.reveal import Shown
from pellucid.explain.text import Line, Span, cells, line, shortened
from pellucid.messages.handshake import ServerHello
from pellucid.registry import ExtensionType
from pellucid.schedule import Prf
from pellucid.trace import KeysInstalled, MessageTraced, Secret, SecretDerived, SharedSecretComputed, TraceEvent

__all__ = ["Node", "key_schedule", "tree_lines"]

EXPAND: Final = "HKDF-Expand-Label"
EXTRACT: Final = "HKDF-Extract"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One derived value.

    method:   "HKDF-Extract", "Derive-Secret" or "HKDF-Expand-Label".
    label:    as on the wire, without "tls13 "; "" for an extract.
    takes:    what an extract mixes in: "zeros", "PSK", "shared secret"; "" else.
    messages: what the transcript hash in *context* covers, "" where there is none.
    """

    name: str
    method: str
    label: str
    takes: str = ""
    context: bytes = b""
    messages: str = ""
    secret: Secret
    children: tuple[Node, ...] = ()

    def walk(self) -> Iterable[Node]:
        """Yield this node and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def to_dict(self, shown: Shown) -> dict[str, object]:
        """Return the tree for JSON."""
        return {
            "name": self.name,
            "method": self.method,
            "label": self.label,
            "takes": self.takes,
            "messages": self.messages,
            "context": self.context.hex(),
            "secret": shown.to_dict(self.secret),
            "children": [child.to_dict(shown) for child in self.children],
        }


def key_schedule(events: Iterable[TraceEvent], suites: Sequence[Suite] = PYCA.suites) -> Node | None:
    """Return the tree of one connection's trace, None if no secret was derived.

    Keys and IVs are those that were installed; the Finished keys, which the trace does not tell of, are derived here.
    """
    events = tuple(events)
    derived = _of_the_psk_in_use([event for event in events if isinstance(event, SecretDerived)])
    installed = {event.secret_name: event for event in events if isinstance(event, KeysInstalled)}
    resumed = any(_selects_psk(event) for event in events)
    mixed = "shared secret" if any(isinstance(event, SharedSecretComputed) for event in events) else "zeros"
    by_code = {suite.code: suite for suite in suites}

    def build(step: SecretDerived) -> Node:
        children = [build(other) for other in derived if other.parent == step.name]
        if (keys := installed.get(step.name)) is not None:
            children[:0] = _leaves(step, keys, by_code.get(keys.cipher_suite))
        takes = ""
        if step.method == EXTRACT:
            takes = {"handshake_secret": mixed, "early_secret": "PSK" if resumed else "zeros"}.get(step.name, "zeros")
        return Node(
            name=step.name,
            method=step.method,
            label=step.label,
            takes=takes,
            context=step.context,
            messages=step.messages,
            secret=step.secret,
            children=tuple(children),
        )

    root = next((step for step in derived if step.parent is None), None)
    return None if root is None else build(root)


def _of_the_psk_in_use(derived: list[SecretDerived]) -> list[SecretDerived]:
    """Return the steps without those of a session that was offered with early data, and not taken."""
    roots = [index for index, step in enumerate(derived) if step.parent is None]
    if len(roots) < 2:
        return derived
    first, last = derived[roots[0]], derived[roots[-1]]
    if not hmac.compare_digest(first.secret.reveal(), last.secret.reveal()):
        return derived[roots[-1] :]
    return [step for index, step in enumerate(derived) if index not in roots[1:]]


def _selects_psk(event: TraceEvent) -> bool:
    """Whether *event* is a ServerHello that takes up a pre-shared key (RFC 9846 §4.3.11)."""
    if not isinstance(event, MessageTraced) or not isinstance(event.body, ServerHello):
        return False
    return any(code == ExtensionType.PRE_SHARED_KEY for code, _data in event.body.extensions)


def _leaves(step: SecretDerived, keys: KeysInstalled, suite: Suite | None) -> list[Node]:
    leaves = [
        Node(name=f"{step.name} key", method=EXPAND, label="key", secret=keys.key),
        Node(name=f"{step.name} iv", method=EXPAND, label="iv", secret=keys.iv),
    ]
    if suite is not None and "handshake" in step.name:
        value = Prf(suite, step.secret.reveal()).expand_label(b"finished", b"", suite.hash_length)
        leaves.append(Node(name=f"{step.name} finished", method=EXPAND, label="finished", secret=Secret(value)))
    return leaves


# ---- the picture -------------------------------------------------------------------------------------------------

_MEANINGS: Final = {
    "key": "encrypts and seals each record",
    "iv": "makes each record's nonce",
    "finished": "seals the handshake as a whole",
    "exp master": "for keys of the application's own",
}


def tree_lines(root: Node, width: int, shown: Shown) -> list[Line]:
    """Return the tree in lines, the trunk from top to bottom as the RFC draws it, fingerprints at the right."""
    lines: list[Line] = []
    trunk: Node | None = root
    salt = ""
    while trunk is not None:
        how = f"HKDF-Extract({salt or '0'}, {trunk.takes})"
        lines += _row((Span("  "), Span(trunk.name, "strong"), Span(f"  = {how}", "muted")), trunk, width, shown, "  ")
        onward = next((child for child in trunk.children if child.label == "derived"), None)
        following = None if onward is None else next((c for c in onward.children if c.method == EXTRACT), None)
        branches = [child for child in trunk.children if child is not onward]
        lines += _branches(branches, "  ", width, shown, open_end=onward is not None)
        if onward is not None:
            content = (Span("  │ ", "muted"), Span('"derived"', "name"), Span("  the salt of the next step", "muted"))
            lines += _row(content, onward, width, shown, "  │ ")
            lines.append(line(Span("  ▼", "muted")))
        trunk, salt = following, "derived"
    return lines


def _branches(nodes: list[Node], prefix: str, width: int, shown: Shown, *, open_end: bool) -> list[Line]:
    lines: list[Line] = []
    hashed = b""
    for index, node in enumerate(nodes):
        last = index == len(nodes) - 1 and not open_end
        below = prefix + ("   " if last else "│  ")
        if node.messages and node.context != hashed:
            hashed = node.context
            lines.append(
                line(Span(f"{prefix}│ with the hash of {node.messages}: {shortened(hashed, whole=0)}", "muted"))
            )
        content = [Span(prefix + ("└─ " if last else "├─ "), "muted"), Span(f'"{node.label}"', "name"), Span("  ")]
        if node.label in {"key", "iv", "finished"}:
            content.append(Span(_MEANINGS[node.label], "muted"))
        else:
            content.append(Span(node.name, "strong"))
        lines += _row(tuple(content), node, width, shown, below)
        lines += _branches(list(node.children), below, width, shown, open_end=False)
    return lines


def _row(content: Line, node: Node, width: int, shown: Shown, below: str) -> list[Line]:
    """Return the row with the fingerprint at the right, and the secret itself beneath if it is to be shown."""
    fingerprint = node.secret.fingerprint()
    blanks = max(1, width - 2 - len(fingerprint) - sum(cells(span.text) for span in content))
    rows = [line(*content, " " * blanks, Span(fingerprint, "value"))]
    if shown.reveal:
        rows.append(line(Span(f"{below}  ", "muted"), Span(node.secret.reveal().hex(), "secret")))
    return rows
