"""What a cell asks of either end, and the shape of a peer. Plain data; names are those of `names`."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.interop.certificates import CredentialFiles
from tests.interop.exchange import Purpose, Turn, http_turns


class Role(enum.Enum):
    """Whose: the peer's."""

    CLIENT = "client"
    SERVER = "server"


class Refusal(enum.Enum):
    """Why there is to be no conversation."""

    NO_CERTIFICATE = "the client shows no certificate, the server requires one"
    OTHER_NAME = "the server's certificate is for another name"


class Ticket(enum.Enum):
    """What becomes of the first conversation's ticket in the second. The last two are for our end to bring about."""

    GOOD = "the session is resumed"
    BAD = "the server cannot make anything of it: a full handshake"


class EarlyData(enum.Enum):
    """What becomes of 0-RTT data. All but the first are for our end to bring about, or for HelloRetryRequest."""

    ACCEPTED = "it is accepted"
    REJECTED = "it is rejected, and said again after the handshake"
    REPLAYED = "it is accepted once: the same bytes on a second connection are not"


@dataclass(frozen=True, slots=True)
class PskSpec:
    """An external PSK for TLS 1.3 with SHA-256, as it is (RFC 9846 §4.3.11). key_exchange: psk_dhe_ke, else psk_ke."""

    key_exchange: bool
    identity: str = "pellucid-interop"
    key: bytes = field(default=bytes(range(64, 96)), repr=False)


# "The certificate is for another name" in the clients' words.
_OTHER_NAME: Final = (
    r"(?i)hostname mismatch|subject name mismatch|name in the certificate does not match|not valid for name"
    r"|is valid for \S+, not|no alternative certificate subject name matches"
    r"|no subject alternative DNS name matching|altname_invalid"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """How to serve on 127.0.0.1. Empty tuples: as the program does by default.

    ca:                    whom to believe about clients.
    client_authentication: "none", "optional" or "required".
    cookie:                demand one of every client, in a HelloRetryRequest.
    connections:           how many there will be; facts are those of the last one.
    ticket, early_data:    what is to become of them on the last one.
    retries:               the client's first group is not among *groups*.
    workdir:               a directory of this cell's own.
    tickets:               after a full handshake; None: as the program does by default.
    staple:                an OCSP response for the leaf, DER. These two are for `inspection`.
    """

    workdir: Path
    ca: Path
    credential: CredentialFiles
    suites: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    alpn: tuple[str, ...] = ()
    client_authentication: str = "none"
    cookie: bool = False
    purpose: Purpose = Purpose.HELLO
    connections: int = 1
    ticket: Ticket | None = None
    early_data: EarlyData | None = None
    retries: bool = False
    psk: PskSpec | None = None
    tickets: int | None = None
    staple: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSpec:
    """How to connect to 127.0.0.1:*port*, and what to say there. key_shares: () leaves it to the program.

    connections: how often, one after the other, with the same words; the session of one is offered in the next. What
                 is reported is the last one.
    early_data:  what is said first goes in 0-RTT on the last one, and this is to become of it.
    again:       the server takes 0-RTT data, but does not answer it: say it again after the handshake.
    """

    workdir: Path
    ca: Path
    port: int
    turns: tuple[Turn, ...]
    server_name: str = "localhost"
    credential: CredentialFiles | None = None
    suites: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    key_shares: tuple[str, ...] = ()
    alpn: tuple[str, ...] = ()
    middlebox_compatibility: bool = True
    purpose: Purpose = Purpose.HELLO
    connections: int = 1
    ticket: Ticket | None = None
    early_data: EarlyData | None = None
    again: bool = False
    psk: PskSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What one end says was negotiated. None: it does not say.

    alpn:               "" for none.
    client_certificate: whether the client showed one.
    key_updates:        how many the other end sent.
    resumed:            whether a ticket was used.
    early_data:         whether 0-RTT data was accepted.
    psk:                whether an external PSK was used.
    """

    suite: str | None = None
    group: str | None = None
    alpn: str | None = None
    retried: bool | None = None
    client_certificate: bool | None = None
    key_updates: int | None = None
    resumed: bool | None = None
    early_data: bool | None = None
    psk: bool | None = None

    @classmethod
    def from_lines(cls, text: str) -> Facts:
        """Return the facts in lines `suite=…`, `group=…`, … as our own programs print them; the last one counts."""
        found = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
        updates = found.get("key_updates")

        def yes(name: str) -> bool | None:
            return None if name not in found else found[name] == "1"

        return cls(
            suite=found.get("suite") or None,
            group=found.get("group") or None,
            alpn=found.get("alpn"),
            client_certificate=yes("client_certificate"),
            key_updates=None if updates is None else int(updates),
            resumed=yes("resumed"),
            early_data=yes("early_data"),
            psk=yes("psk"),
        )


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that accepts connections. facts, output: to be asked after the conversation. pid: unless it is ours.

    replay: sends it once more what came in 0-RTT, and returns why that was not accepted.
    """

    port: int
    facts: Callable[[], Facts] = field(repr=False, default=Facts)
    output: Callable[[], str] = field(repr=False, default=str)
    refusal: Callable[[], str] | None = field(repr=False, default=None)
    replay: Callable[[], str] | None = field(repr=False, default=None)
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class ClientDone:
    """A client's conversation that went as its turns say."""

    facts: Facts
    output: str = field(repr=False, default="")


class Peer:
    """A TLS implementation that is not ours, through the programs it comes with or a small one of our own.

    Where a certificate is required and none is shown, it sends, as a server, no_certificate_alert or, if
    refuses_over_http, a response that says so.

    lacks: feature → reason, for what it cannot do in a role. A feature is "suite:…", "group:…", "credential:…"
    (as a server: has; as a client: verifies; of clients' certificates the other way round), "client-credential:…" (as
    a client: has; as a server: verifies), "alpn:h2", "alpn:http/1.1", "client-authentication", "retry", "cookie",
    "cookie-only", "key-update:initiate", "key-update:answer", "key-update:cross", "large", "resume",
    "resume:client-authentication", "early-data", "early-data:accepted", "early-data:rejected" (as a server: where a
    ticket's age is wrong), "early-data:retry", "early-data:replayed", "psk:psk_dhe_ke", "psk:psk_ke", or "role" for a
    role it does not have at all.

    silent_about: the facts of `Facts` that it does not tell in a role, where the others have to.
    answers_early_data: whether the server answers what came in 0-RTT.
    """

    name: str = ""
    demands_cookies = False
    refuses_over_http = False
    no_certificate_alert = "certificate_required"
    answers_early_data = True

    def silent_about(self, role: Role) -> frozenset[str]:
        return frozenset()

    def limits(self, role: Role) -> Mapping[str, str]:
        """Return what `lacks` does, and what goes without saying."""
        limits = dict(self.lacks(role))
        if role is Role.SERVER and not self.demands_cookies:
            for feature in ("cookie", "cookie-only"):
                limits.setdefault(
                    feature, "of the peers only openssl s_server and wolfSSL can be told to demand a cookie"
                )
        if role is Role.SERVER:
            limits.setdefault("early-data:replayed", "whether a replay is found is the server's affair, not ours")
        for feature in ("ours:bad-ticket", "ours:early-data"):
            limits.setdefault(feature, "only Pellucid's end does this on purpose")
        return limits

    def version(self) -> str:
        """Return the implementation's name and version, as it says itself."""
        raise NotImplementedError

    def missing(self) -> str | None:
        """Return why the peer cannot be used on this machine, with what to install; None if it can."""
        raise NotImplementedError

    def prepare(self, purpose: Purpose) -> None:
        """Build what has to be built for *purpose*; a cell's time does not run meanwhile."""

    def lacks(self, role: Role) -> Mapping[str, str]:
        return {}

    def retry(self, role: Role) -> tuple[str, str]:
        """Return two groups: the client shares the first, the server takes the second only."""
        return ("x25519", "secp256r1")

    def turns(self, role: Role, purpose: Purpose) -> tuple[Turn, ...]:
        """Return the conversation that this peer can have in *role*."""
        return http_turns(purpose)

    def refused_turns(self) -> tuple[Turn, ...]:
        """Return what a client does that expects to be refused: listen, so that nothing else can go wrong."""
        return (Turn(b"", b"never", raw=True),)

    def refusal_words(self, refusal: Refusal, role: Role, alert: str) -> str:
        """Return a pattern of what this end, with this *role* of its own, says when it refuses or is refused.

        alert: what a client without a certificate is told. Servers are not asked: the client's words are enough.
        """
        if role is Role.SERVER:
            return ""
        if refusal is Refusal.NO_CERTIFICATE:
            return "(?i)" + alert.replace("_", ".{0,5}")  # certificate_required, "Certificate is required", …
        return _OTHER_NAME

    def serve(self, spec: ServerSpec) -> contextlib.AbstractContextManager[RunningServer]:
        raise NotImplementedError

    def request(self, spec: ClientSpec) -> ClientDone:
        raise NotImplementedError
