"""What an examination found: plain facts, no judgement. None where nothing is known, with the reason in `unknown`."""

from __future__ import annotations

from dataclasses import dataclass, field

from pellucid.verify.report import VerificationReport

__all__ = [
    "AlpnFacts",
    "CertificateFacts",
    "ChainFacts",
    "ClientCertificateFacts",
    "Compressed",
    "CompressionFacts",
    "EarlyDataFacts",
    "Facts",
    "Failed",
    "Flight",
    "GroupFacts",
    "KeyUpdateFacts",
    "NameFacts",
    "NegotiatedFacts",
    "Offered",
    "RawPublicKeyFacts",
    "ResumptionFacts",
    "RetryFacts",
    "StapleFacts",
    "TicketFacts",
    "Timing",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Why something could not be had: the diagnosis (`explain.diagnose`) in short. kind: the exception's name."""

    code: str
    title: str
    message: str
    kind: str
    phase: str
    alert: str | None
    cause: str
    remedy: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """What one side sent before the other answered. bytes: of records, headers included; seconds: from the TCP
    connection (or the end of the preamble) to its end, at this side."""

    sender: str
    messages: tuple[str, ...]
    size: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds. connect: name resolution and TCP; preamble: STARTTLS, None without; handshake: ClientHello sent to the
    server's Finished read. round_trip: as the kernel measured it when TCP connected."""

    connect: float
    preamble: float | None
    handshake: float
    round_trip: float | None
    flights: tuple[Flight, ...]

    @property
    def sent(self) -> int:
        return sum(flight.size for flight in self.flights if flight.sender == "client")

    @property
    def received(self) -> int:
        return sum(flight.size for flight in self.flights if flight.sender == "server")


@dataclass(frozen=True, slots=True, kw_only=True)
class NegotiatedFacts:
    """What a client with everything on offer gets. Names as IANA has them."""

    cipher_suite: str
    group: str | None
    signature_scheme: str | None
    alpn: str | None
    certificate_type: str
    record_size_limit: int | None
    """the server's (RFC 8449); None: it does not know the extension"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """One certificate as the server sent it. Times: seconds since 1970. sha256: of its DER, in hexadecimal."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    key: str
    signed_with: str
    serial: str
    not_before: float
    not_after: float
    sha256: str
    size: int
    self_issued: bool
    embedded_scts: bool
    must_staple: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainFacts:
    """The certificates sent, leaf first, and what became of their verification.

    needless: how many of those sent are not on the verified path below its root. bytes: of the Certificate message.
    """

    certificates: tuple[CertificateFacts, ...]
    report: VerificationReport = field(repr=False)
    needless: int
    size: int
    names_matched: bool
    seconds_left: float | None
    """until the first certificate sent and needed ends; None where no path was accepted"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StapleFacts:
    """The OCSP response stapled to the leaf. outcome, evidence: of the check of it; size 0: none came."""

    size: int
    outcome: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What the server accepts of a kind of thing, found by offering ever fewer.

    accepted:   in the order in which the server picked them.   refused: what it did not take.
    unknown:    what could not be tried.
    preference: whose order counts: "server", "client", "mixed", or None where that cannot be told.
    ending:     how it refused what was left: the name of an alert, "closed", "ignored"; None where nothing was left.
    """

    accepted: tuple[str, ...]
    refused: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    preference: str | None = None
    ending: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFacts:
    """A group the server accepts. bits: classical strength; post_quantum: whether it resists a quantum computer."""

    name: str
    bits: int
    post_quantum: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryFacts:
    """HelloRetryRequest (RFC 9846 §4.2.4).

    asks_for:  the groups that it asks for where the client has sent no share of them, and shakes hands with then.
    fails_for: the accepted groups with which it does not.   cookie: whether it wants a cookie echoed, and its size.
    always:    whether even a client that has sent a share it likes is asked again.
    """

    asks_for: tuple[str, ...]
    fails_for: tuple[str, ...]
    unknown: tuple[str, ...]
    cookie: bool
    cookie_size: int
    always: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketFacts:
    """A NewSessionTicket (RFC 9846 §4.7.1). lifetime: seconds; size: of the ticket; max_early_data: bytes, 0: none."""

    lifetime: int
    size: int
    max_early_data: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumptionFacts:
    """tickets: after a full handshake.   resumed: whether a second connection was; None: not tried.

    key_exchange: whether it had a fresh key exchange (psk_dhe_ke).   psk_ke: whether the server does without one.
    ticket_again: whether a ticket that was used is taken once more.
    tickets_on_resumption: how many came after a resumption.
    """

    tickets: tuple[TicketFacts, ...]
    resumed: bool | None = None
    key_exchange: bool | None = None
    psk_ke: bool | None = None
    ticket_again: bool | None = None
    tickets_on_resumption: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyDataFacts:
    """offered: bytes of 0-RTT data that tickets allow. accepted: None: none was sent. again: whether the same
    bytes were accepted a second time. reason: what became of it, in words."""

    offered: int
    accepted: bool | None = None
    again: bool | None = None
    reason: str = "none was sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlpnFacts:
    """Application protocols (RFC 7301). unknown: what happens to a client none of whose protocols is spoken: the name
    of an alert, "ignored", "closed", or None where that was not found out."""

    offered: tuple[str, ...]
    accepted: tuple[str, ...]
    unknown: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """The server's certificates in one algorithm. size: bytes."""

    algorithm: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionFacts:
    """Certificate compression (RFC 8879). size: of what was compressed, bytes; None where nothing was."""

    tried: tuple[str, ...]
    accepted: tuple[Compressed, ...]
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUpdateFacts:
    """RFC 9846 §4.7.3. outcome: "answered": it changed its key too when asked to; "accepted": ours was taken, and it
    had nothing to say with a new key; "ignored": it answered with its old key, which it must not; "refused". detail:
    the alert, what was said to it, or why nothing is known."""

    outcome: str | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NameFacts:
    """Server names (RFC 6066 §3). unknown_name, no_name: "same certificate", "another certificate", "closed" or an
    alert's name; None: not tried."""

    unknown_name: str | None
    no_name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificateFacts:
    """requested: in the handshake; required: None where that was not seen. authorities: how many are named."""

    requested: bool
    required: bool | None
    authorities: int
    schemes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawPublicKeyFacts:
    """RFC 7250. supported: None where it was not found out; sha256: of the SubjectPublicKeyInfo."""

    supported: bool | None
    sha256: str | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything. What the first handshake did not get as far as is None; unknown: what else failed: question → why."""

    address: tuple[str, int] | None = None
    failed: Failed | None = None
    timing: Timing | None = None
    refused: Failed | None = None
    """the diagnosis of certificates that were refused"""
    afterwards: Failed | None = None
    """how a connection broke after its handshake, for no reason that the other facts tell"""
    negotiated: NegotiatedFacts | None = None
    chain: ChainFacts | None = None
    staple: StapleFacts | None = None
    scts: int = 0
    suites: Offered | None = None
    groups: Offered | None = None
    group_details: tuple[GroupFacts, ...] = ()
    schemes: Offered | None = None
    retry: RetryFacts | None = None
    resumption: ResumptionFacts | None = None
    early_data: EarlyDataFacts | None = None
    alpn: AlpnFacts | None = None
    compression: CompressionFacts | None = None
    key_update: KeyUpdateFacts | None = None
    names: NameFacts | None = None
    client_certificate: ClientCertificateFacts | None = None
    raw_public_key: RawPublicKeyFacts | None = None
    unknown: tuple[tuple[str, str], ...] = field(default=())
    connections: int = 0
    seconds: float = 0.0
