"""Which server is examined, and how: plain values."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pellucid.credential import Credential
from pellucid.errors import UsageError
from pellucid.inspection.starttls import PROTOCOLS, StartTLSProtocol
from pellucid.net.eyeballs import Resolve
from pellucid.trace import Observer
from pellucid.verify.names import normalize_server_name
from pellucid.verify.trust import TrustStore

__all__ = ["DEFAULT_PORT", "Settings", "Target"]

DEFAULT_PORT: Final = 443

# Ports where TLS begins at once and something else than HTTP is spoken inside: what ALPN it has there.
_NOT_HTTP: Final[dict[int, tuple[str, ...]]] = {
    465: (),
    563: ("nntp",),
    636: (),
    853: ("dot",),
    989: (),
    990: ("ftp",),
    992: (),
    993: ("imap",),
    995: ("pop3",),
    5061: (),
    5223: ("xmpp-client",),
    5269: ("xmpp-server",),
    5671: (),
    6514: (),
    6697: ("irc",),
    8883: ("mqtt",),
}
_HTTP: Final = ("h2", "http/1.1", "http/1.0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One server.

    host, port:  who is meant; server_name: whom the certificate must be for, and SNI names.
    starttls:    the protocol that TLS begins in, a name of `starttls.PROTOCOLS`; None: at once.
    connect_host, connect_port, resolve: where to connect to instead, and addresses nobody is asked for.
    alpn:        the application protocols to try, preferred first.
    """

    host: str
    port: int
    server_name: str
    starttls: str | None = None
    connect_host: str
    connect_port: int
    resolve: Resolve | None = field(default=None, repr=False)
    alpn: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        host: str,
        port: int | None = None,
        *,
        server_name: str | None = None,
        starttls: str | None = None,
        connect_to: tuple[str, int] | None = None,
        resolve: Resolve | None = None,
        alpn: tuple[str, ...] | None = None,
    ) -> Target:
        """Return the target. Raises UsageError for a name or port that cannot be, and for an unknown protocol."""
        if starttls is not None and starttls not in PROTOCOLS:
            raise UsageError(f"starttls is one of {', '.join(PROTOCOLS)}, not {starttls!r}")
        protocol = None if starttls is None else PROTOCOLS[starttls]
        if port is None:
            port = DEFAULT_PORT if protocol is None else protocol.port
        if not 0 < port < 2**16:
            raise UsageError(f"there is no port {port}")
        name = server_name or host
        normalize_server_name(name)
        if alpn is None:
            alpn = protocol.alpn if protocol is not None else _NOT_HTTP.get(port, _HTTP)
        where = connect_to or (host, port)
        return cls(
            host=host,
            port=port,
            server_name=name,
            starttls=starttls,
            connect_host=where[0],
            connect_port=where[1],
            resolve=resolve,
            alpn=alpn,
        )

    @staticmethod
    def split(text: str) -> tuple[str, int | None]:
        """Return host and port of "HOST", "HOST:PORT", "[ADDRESS]:PORT", an IPv6 address or an https:// URL.

        Raises UsageError.
        """
        text = text.strip()
        if text.startswith("https://"):  # copied from a browser; what stands behind the host is of no account
            text = re.split("[/?#]", text.removeprefix("https://"), maxsplit=1)[0]
        if not text or any(character.isspace() or character in "/@" for character in text):
            raise UsageError(f"{text!r} is not HOST or HOST:PORT")
        try:
            ipaddress.IPv6Address(text)
        except ValueError:
            host, colon, port = text.rpartition(":") if ":" in text and not text.endswith("]") else (text, "", "")
        else:
            return text, None
        host = host.removeprefix("[").removesuffix("]")
        if not host or (colon and not (port.isdecimal() and port.isascii() and 0 < int(port) < 2**16)):
            raise UsageError(f"{text!r} is not HOST or HOST:PORT")
        return host, int(port) if colon else None

    @property
    def protocol(self) -> StartTLSProtocol | None:
        return None if self.starttls is None else PROTOCOLS[self.starttls]

    @property
    def is_http(self) -> bool:
        """Whether HTTP is spoken inside, as far as the port tells."""
        return self.starttls is None and self.port not in _NOT_HTTP

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How servers are examined.

    trust:        whom to believe; None: the system's roots.
    credentials:  certificates to show where a server asks.
    early_data:   whether a HEAD request may be sent as 0-RTT data, twice; otherwise only what tickets offer is told.
    requests:     whether a harmless request (HEAD, NOOP) may be sent to a server that was verified: some facts need it.
    connections:  to one server at a time, 1 or more.
    connect_timeout, max_seconds: for TCP, preamble and handshake each; for one server in all.
    observer:     called with the question of each connection: who watches it, or None.
    trace_records: whether it sees the records too, and the TCP handshake, of every connection.
    progress:     called with each question as it is asked.
    """

    trust: TrustStore | None = None
    credentials: tuple[Credential, ...] = ()
    early_data: bool = False
    requests: bool = True
    connections: int = 6
    connect_timeout: float = 10.0
    max_seconds: float = 60.0
    observer: Callable[[str], Observer | None] | None = field(default=None, repr=False)
    trace_records: bool = False
    progress: Callable[[str], None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.connections < 1:
            raise UsageError("an examination makes at least one connection at a time")
        if not (self.connect_timeout > 0 and self.max_seconds > 0):
            raise UsageError("a timeout is more than no seconds")
