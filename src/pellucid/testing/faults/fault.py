"""What a fault is: its name, what it breaks, how a victim notices, and the recipe by which a peer commits it."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pellucid.messages.handshake import HEADER_LENGTH, Certificate, CertificateEntry, handshake_message
from pellucid.registry import HandshakeType as H
from pellucid.testing.bent import Edit, Rewrite
from pellucid.testing.faults.conversation import Conversation, Link
from pellucid.testing.faults.mint import Mint, Shown, good
from pellucid.trace import Role

__all__ = ["NOTHING", "Fault", "Kind", "Listening", "Needs", "Recipe", "chain_edit", "protocol_fault"]


class Listening(enum.Enum):
    """Whether connections come about at all."""

    YES = "accepts"
    NOT = "refuses"
    FULL = "drops"


class Kind(enum.Enum):
    """What a fault is in."""

    X509 = "x509"
    PROTOCOL = "protocol"
    TRANSPORT = "transport"


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a victim must be set up with to notice.

    text:    in words.
    config:  changes in its ClientConfig or ServerConfig.
    options: the same for `pellucid get`.
    """

    text: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)  # Any: each field's own type
    options: tuple[str, ...] = ()


NOTHING = Needs()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a peer misbehaves: an honest one, but for what is given here.

    shown:     what it shows as its certificate.
    config:    changes in its own configuration.
    edit:      makes, for each connection, what changes its handshake messages.
    rewrite:   changes what its handshake does next.
    started:   called once a client's first bytes are sent.
    flight:    called once a server's first flight is sent.
    connected: called once its handshake is complete.
    answer:    called for the peer's request, instead of an answer.
    listening: whether it accepts connections.
    link:      called with the connected socket instead of all of this: it does not speak TLS.
    slow:      whether all that it sends comes a byte at a time.
    host:      the name that the victim is to ask for, if another than "localhost".
    """

    shown: Callable[[Mint], Shown] = good
    config: Mapping[str, Any] = field(default_factory=dict)  # Any: each field's own type
    edit: Callable[[Shown], Edit] | None = None
    rewrite: Rewrite | None = None
    started: Callable[[Conversation], None] | None = None
    flight: Callable[[Conversation], None] | None = None
    connected: Callable[[Conversation], None] | None = None
    answer: Callable[[Conversation], None] | None = None
    link: Callable[[Link], None] | None = None
    listening: Listening = Listening.YES
    slow: bool = False
    host: str = "localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to misbehave.

    name:    in kebab-case; those of clients begin with "client-".
    summary: one line.
    side:    who misbehaves.
    code:    the diagnosis at the victim.
    alert:   the AlertDescription that a victim sends that notices; None where it sends none.
    rfc:     the section that is broken, e.g. "9846 §4.2.4"; "" where it is no rule of a specification.
    needs:   what the victim must be set up with to notice.
    """

    name: str
    summary: str
    kind: Kind
    code: str
    rfc: str
    recipe: Recipe = field(repr=False)
    alert: int | None = None
    side: Role = Role.SERVER
    needs: Needs = NOTHING


def protocol_fault(
    name: str,
    summary: str,
    code: str,
    alert: int | None,
    rfc: str,
    edit: Callable[[Shown], Edit] | None = None,
    *,
    shown: Callable[[Mint], Shown] = good,
    config: Mapping[str, Any] = MappingProxyType({}),  # Any: each field's own type
    rewrite: Rewrite | None = None,
    connected: Callable[[Conversation], None] | None = None,
    answer: Callable[[Conversation], None] | None = None,
    link: Callable[[Link], None] | None = None,
    needs: Needs = NOTHING,
) -> Fault:
    """Return a server's fault in the protocol: a row of its tables. The parameters are `Fault`'s and `Recipe`'s."""
    return Fault(
        name=name,
        summary=summary,
        kind=Kind.PROTOCOL,
        code=code,
        alert=alert,
        rfc=rfc,
        recipe=Recipe(
            shown=shown, config=config, edit=edit, rewrite=rewrite, connected=connected, answer=answer, link=link
        ),
        needs=needs,
    )


def chain_edit(recipe: Recipe, shown: Shown) -> Edit:
    """Return what puts the chain of *shown* in the honest one's place, and then does the recipe's own edits."""
    own = None if recipe.edit is None else recipe.edit(shown)

    def edit(kind: int, raw: bytes) -> bytes:
        if kind == H.CERTIFICATE:
            raw = _with_chain(raw, shown.chain)
        return raw if own is None else own(kind, raw)

    return edit


def _with_chain(raw: bytes, chain: tuple[bytes, ...]) -> bytes:
    """Return the Certificate message *raw* with another *chain*; what was stapled to the leaf stays with the leaf."""
    body = Certificate.decode(raw[HEADER_LENGTH:])
    if not body.certificate_list:  # a client that has none to show
        return raw
    stapled = body.certificate_list[0].extensions
    entries = tuple(CertificateEntry(der, () if at else stapled) for at, der in enumerate(chain))
    return handshake_message(dataclasses.replace(body, certificate_list=entries))
