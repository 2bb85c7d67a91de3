"""What every peer looks like: a stack makes pairs, a client and a server that talk through memory.

A handshake is four turns: client, server, client, server. A turn runs one end as far as it gets. Whoever measures may
time the turns of either end apart.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pellucid.testing.ca import CA, Issued, KeyKind

AES_128 = "TLS_AES_128_GCM_SHA256"
AES_256 = "TLS_AES_256_GCM_SHA384"
CHACHA = "TLS_CHACHA20_POLY1305_SHA256"
SUITES = {AES_128: 0x1301, AES_256: 0x1302, CHACHA: 0x1303}
X25519 = "x25519"
HYBRID = "X25519MLKEM768"
GROUPS = {X25519: 0x001D, HYBRID: 0x11EC}

NOT_INSTALLED = "not installed"


class Certificates:
    """A root, intermediates and a leaf for localhost.

    intermediates: how many, one above the other; the chain that is sent has one certificate more.
    roots:         how many the client trusts; the one that matters is in the middle of them.
    """

    def __init__(self, key: KeyKind = "p256", *, intermediates: int = 1, roots: int = 1) -> None:
        self.root = CA("bench root")
        issuer = self.root
        for i in range(intermediates):
            issuer = issuer.intermediate(f"bench intermediate {i}")
        self.leaf: Issued = issuer.issue("localhost", key=key)
        others = [CA(f"another root {i}").root_pem for i in range(roots - 1)]
        middle = len(others) // 2
        self.roots_pem: bytes = b"".join((*others[:middle], self.root.root_pem, *others[middle:]))


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """What a stack is asked to do.

    resume: hand out tickets, and resume with the last one in every pair but the first.   early: bytes of 0-RTT data
            that each such pair sends.
    cached: may the client remember verdicts on chains? Off unless asked for, as no other peer does.
    name:   whom the client wants to reach.   roots_pem: whom it trusts; None: the certificates' roots.
    """

    suite: str = AES_128
    group: str = X25519
    resume: bool = False
    early: int = 0
    cached: bool = False
    name: str = "localhost"
    roots_pem: bytes | None = None


PLAIN = How()


class Pair(Protocol):
    """A client and a server, not yet connected."""

    def client_turn(self) -> None: ...
    def server_turn(self) -> None: ...
    def server_bytes(self) -> bytes:
        """Return what the server has sent and the client has not read; it stays there."""
        ...

    def completed(self) -> None:
        """Raise unless both ends are connected."""
        ...

    def take_ticket(self) -> None:
        """Have the client read the ticket and keep its session for the stack's next pair."""
        ...

    def send(self, data: bytes) -> None:
        """Client to server: seal, carry, open all of it."""
        ...

    def ping_pong(self, data: bytes) -> None:
        """Client to server, and what came back to the client."""
        ...


class Stack(Protocol):
    """A peer with its configuration."""

    name: str
    how: How

    @classmethod
    def version(cls) -> str:
        """Return what it is made of."""
        ...

    @classmethod
    def lacks(cls, how: How) -> str:
        """Return why it cannot do that, or nothing."""
        ...

    def __init__(self, certificates: Certificates, how: How = PLAIN) -> None: ...
    def pair(self) -> Pair: ...


class NotAsAskedError(RuntimeError):
    """A peer did something else than what it was to be measured with."""


def handshake(pair: Pair) -> None:
    """The four turns of a full handshake."""
    pair.client_turn()
    pair.server_turn()
    pair.client_turn()
    pair.server_turn()
    pair.completed()


def resumed(pair: Pair) -> None:
    """The same, and the ticket for the next one."""
    handshake(pair)
    pair.take_ticket()


@contextmanager
def file_of(data: bytes) -> Iterator[str]:
    """Give a file with *data*, for who reads keys from files alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.pem"
        path.write_bytes(data)
        yield str(path)
