"""Python that recomputes each secret of the key schedule with the standard library alone, to be copied and run.

With secrets revealed the values stand in it; otherwise there are placeholders, and no byte of a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from pellucid.explain.tree import EXTRACT, Node, key_schedule
from pellucid.trace import Secret, SecretDerived, SharedSecretComputed, TraceEvent

__all__ = ["MAX_SECRETS", "Snippet", "bounded", "snippets"]

MAX_SECRETS: Final = 64
"""So many derivations are drawn: a handshake has a dozen, and each KeyUpdate of a peer adds one."""

_INFO: Final = 'info = ({length}).to_bytes(2, "big") + bytes([len(label)]) + label + bytes([len(context)]) + context'


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """The Python of one node.

    name:     the node's. variable: what the result is called in *code*, which prints it in hex.
    runnable: whether *code* runs as it stands and gives *result*; missing: why it does not, a sentence.
    """

    name: str
    variable: str
    code: str = field(repr=False)
    runnable: bool
    missing: str = ""
    result: Secret


def bounded(events: Iterable[TraceEvent]) -> tuple[TraceEvent, ...]:
    """Return *events* without all but the first MAX_SECRETS derivations: the tree of a peer's 10,000 KeyUpdates."""
    kept: list[TraceEvent] = []
    secrets = 0
    for event in events:
        secrets += isinstance(event, SecretDerived)
        if secrets <= MAX_SECRETS or not isinstance(event, SecretDerived):
            kept.append(event)
    return tuple(kept)


def snippets(events: Iterable[TraceEvent], *, reveal: bool) -> tuple[Snippet, ...]:
    """Return the snippet of every node of the key schedule, in the order of its tree; () if there is no tree."""
    events = bounded(events)
    root = key_schedule(events)
    if root is None:
        return ()
    shared = next((event.secret for event in events if isinstance(event, SharedSecretComputed)), None)
    return tuple(_snippet(node, parent, shared, reveal=reveal) for node, parent in _pairs(root, None))


def _pairs(node: Node, parent: Node | None) -> Iterator[tuple[Node, Node | None]]:
    yield node, parent
    for child in node.children:
        yield from _pairs(child, node)


def _snippet(node: Node, parent: Node | None, shared: Secret | None, *, reveal: bool) -> Snippet:
    variable = _variable(node.name)
    if node.method == EXTRACT:
        lines, missing = _extract(node, parent, shared, reveal=reveal)
    else:
        lines, missing = _expand(node, parent, reveal=reveal)
    code = "\n".join(["import hashlib", "import hmac", "", *lines, f"print({variable}.hex())", ""])
    return Snippet(
        name=node.name,
        variable=variable,
        code=code,
        runnable=not missing,
        missing=missing,
        result=node.secret,
    )


def _extract(node: Node, parent: Node | None, shared: Secret | None, *, reveal: bool) -> tuple[list[str], str]:
    """HKDF-Extract(salt, IKM) is HMAC with the salt as its key (RFC 5869 §2.2)."""
    size = len(node.secret)
    missing = "" if reveal else "the secrets are hidden"
    if parent is None:
        lines = [f"salt = bytes({size})"]
    else:
        lines = [f"salt = {_value(parent.secret, parent.name, reveal=reveal)}"]
    if node.takes == "shared secret" and shared is not None:
        lines.append(f"shared_secret = {_value(shared, 'of the key exchange', reveal=reveal)}")
        keying = "shared_secret"
    elif node.takes == "zeros":
        lines.append(f"zeros = bytes({size})")
        keying = "zeros"
        missing = "" if parent is None else missing
    else:
        lines.append('psk = bytes.fromhex("…")  # of the earlier connection, which this trace did not see')
        keying = "psk"
        missing = "the pre-shared key comes from an earlier connection"
    return [*lines, f"{_variable(node.name)} = hmac.digest(salt, {keying}, {_hash(size)})"], missing


def _expand(node: Node, parent: Node | None, *, reveal: bool) -> tuple[list[str], str]:
    """HKDF-Expand-Label (RFC 9846 §7.1), of which one block is enough: no key here is longer than the hash."""
    if parent is None:
        return [], "it comes from nothing that was seen"
    source = _variable(parent.name)
    size = len(parent.secret)
    length = len(node.secret)
    about = f"  # the hash of {node.messages}" if node.messages else ""
    if node.label == "derived":
        about = "  # the hash of nothing"
    if node.label == "resumption":
        about = "  # ticket_nonce"
    context = f'bytes.fromhex("{node.context.hex()}")' if node.context else 'b""'
    cut = "" if length == size else f"[:{length}]"
    return [
        f"{source} = {_value(parent.secret, '', reveal=reveal)}",
        f"label = b{('tls13 ' + node.label)!r}".replace("'", '"'),
        f"context = {context}{about}",
        _INFO.format(length=length),
        f'{_variable(node.name)} = hmac.digest({source}, info + b"\\x01", {_hash(size)}){cut}',
    ], "" if reveal else "the secrets are hidden"


def _value(secret: Secret, name: str, *, reveal: bool) -> str:
    comment = f"  # {name}" if name else ""
    if reveal:
        return f'bytes.fromhex("{secret.reveal().hex()}"){comment}'
    return f'bytes.fromhex("…")  # {len(secret)} bytes{", " + name if name else ""}: hidden'


def _hash(size: int) -> str:
    return '"sha384"' if size == 48 else '"sha256"'


def _variable(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_")
