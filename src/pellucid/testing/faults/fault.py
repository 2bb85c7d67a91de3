"""What a fault is: what it is called, what it breaks, how a victim notices, and the recipe by which a peer commits it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pellucid.testing.bent import Edit, Rewrite
from pellucid.testing.faults.conversation import Conversation, Link
from pellucid.testing.faults.mint import Mint, Shown, good
from pellucid.trace import Role

__all__ = ["Fault", "Kind", "Needs", "Recipe"]


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
    flight:    called once its first flight is sent.
    connected: called once its handshake is complete.
    answer:    called for the peer's request, instead of an answer.
    link:      called with the connected socket instead of all of this: it does not speak TLS.
    host:      the name that the victim is to ask for, if another than "localhost".
    """

    shown: Callable[[Mint], Shown] = good
    config: Mapping[str, Any] = field(default_factory=dict)  # Any: each field's own type
    edit: Callable[[], Edit] | None = None
    rewrite: Rewrite | None = None
    flight: Callable[[Conversation], None] | None = None
    connected: Callable[[Conversation], None] | None = None
    answer: Callable[[Conversation], None] | None = None
    link: Callable[[Link], None] | None = None
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
