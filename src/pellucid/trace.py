"""What can be seen: typed events, the observer's type, and the wrapper that hides secrets.

Events are plain facts, emitted at the seams and nowhere else, each once. They carry no clock: a recorder stamps
what it receives. Nothing here may act on a connection, and nothing of ours but the registry's names is imported.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = [
    "AlertTraced",
    "CertificateDecompressed",
    "ChoiceMade",
    "ClosedTraced",
    "Direction",
    "EarlyDataTraced",
    "Epoch",
    "HandshakeCompleted",
    "KeysInstalled",
    "MessageTraced",
    "Observer",
    "OutsideDrawn",
    "RecordTraced",
    "Role",
    "Secret",
    "SecretDerived",
    "SharedSecretComputed",
    "SignatureTraced",
    "StateChanged",
    "TcpConnectFailed",
    "TcpConnected",
    "TcpConnecting",
    "TcpInfo",
    "TcpPacket",
    "TraceEvent",
    "VerificationTraced",
    "unwatched",
]


class Role(enum.Enum):
    """Which end of a connection."""

    CLIENT = "client"
    SERVER = "server"

    __hash__ = object.__hash__  # there is one of each; Enum's own is a call of Python

    @property
    def peer(self) -> Role:
        return Role.SERVER if self is Role.CLIENT else Role.CLIENT


class Epoch(enum.IntEnum):
    """Which family of keys protects a record (RFC 9846 §7.3): none, early, handshake or application."""

    INITIAL = 0
    EARLY = 1
    HANDSHAKE = 2
    APPLICATION = 3

    __hash__ = int.__hash__  # Enum's own is a call of Python


class Direction(enum.Enum):
    SENT = "sent"
    RECEIVED = "received"


class Secret:
    """Bytes that repr, str, format, JSON, pickle and equality with bytes do not show; `reveal()` returns them."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """Return the secret itself. Whoever calls this answers for where it goes."""
        return self._value

    def fingerprint(self) -> str:
        """Return 16 hex digits of SHA-256 over the secret: enough to compare two, not to use one."""
        return hashlib.sha256(b"pellucid fingerprint" + self._value).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._value)

    def __repr__(self) -> str:
        return f"Secret(<{len(self._value)} bytes hidden>)"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret is not pickled")


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """The base of all events."""


# ---- TCP (net/) --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpConnecting(TraceEvent):
    """A connection attempt starts (RFC 8305). address: "192.0.2.1" or "2001:db8::1"; attempt: from 1."""

    host: str
    address: str
    port: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpConnectFailed(TraceEvent):
    address: str
    port: int
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpInfo:
    """What the kernel tells of a connection (Linux TCP_INFO). Sizes in bytes; a shift is None where not negotiated."""

    rtt_seconds: float
    rtt_variance_seconds: float
    send_mss: int
    receive_mss: int
    path_mtu: int
    congestion_window: int
    """in segments"""
    receive_window: int
    send_window_shift: int | None
    receive_window_shift: int | None
    sack: bool
    timestamps: bool
    ecn: bool
    syn_data: bool
    """TCP Fast Open carried data in the SYN"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpPacket(TraceEvent):
    """One TCP segment of the connection's opening, as captured or as the kernel saved it.

    direction: SENT or RECEIVED, seen from this end. flags: names in the order SYN, ACK, FIN, RST, PSH, ECE, CWR.
    options:   (name, value) as in the header: ("mss", "1460"), ("window scale", "7"), ("SACK permitted", ""), …
    source:    "AF_PACKET" (captured), "TCP_SAVED_SYN" (saved by the kernel).
    """

    direction: Direction
    seconds: float | None
    flags: tuple[str, ...]
    sequence: int
    acknowledgment: int
    window: int
    options: tuple[tuple[str, str], ...]
    source: str
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpConnected(TraceEvent):
    """The TCP handshake is done. seconds: connect() duration on the client, None on the server.

    unavailable: what could not be had of the kernel, each with its reason.
    """

    role: Role
    local_address: str
    local_port: int
    peer_address: str
    peer_port: int
    seconds: float | None
    info: TcpInfo | None
    unavailable: tuple[tuple[str, str], ...] = ()


# ---- TLS (connection, handshake, record) -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordTraced(TraceEvent):
    """One record, header included in *size*. content_type: the inner one; sequence: None for plaintext.

    raw:    the record as it stands on the wire, header included: what an eavesdropper sees.
    opened: False for a protected record that could not be: early data that is skipped, or one that was changed. What
            is inside is not known then: its outer type and the size of its ciphertext are told.
    Only emitted when asked for.
    """

    direction: Direction
    epoch: Epoch
    content_type: int
    size: int
    content_size: int
    padding_size: int
    sequence: int | None
    raw: bytes = field(repr=False, default=b"")
    opened: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageTraced(TraceEvent):
    """One whole handshake message (RFC 9846 §4). raw: with its 4-byte header; body: the decoded value."""

    direction: Direction
    epoch: Epoch
    message_type: int
    raw: bytes = field(repr=False)
    body: object = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateDecompressed(TraceEvent):
    """What the peer's CompressedCertificate stood for (RFC 8879 §4). Sizes of the message's body, in bytes.

    algorithm: its code point; name: as the algorithm calls itself. body: the Certificate.
    """

    algorithm: int
    name: str
    compressed_size: int
    size: int
    body: object = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged(TraceEvent):
    """The state machine took an arrow (RFC 9846 App. A). cause: the message's name, or what we did."""

    role: Role
    old: str
    new: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceMade(TraceEvent):
    """One choice and why. what: "version", "cipher_suite", "group", "signature_scheme", "alpn", "credential", …"""

    what: str
    chosen: str
    reason: str
    local: tuple[str, ...] = ()
    peer: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyDataTraced(TraceEvent):
    """0-RTT data of the application went out, or came and was accepted (RFC 9846 §4.3.10): it may be replayed."""

    direction: Direction
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSecretComputed(TraceEvent):
    """(EC)DHE or KEM output (RFC 9846 §7.4): both public values, and the secret that never travelled."""

    group: int
    local_public: bytes
    peer_public: bytes
    secret: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretDerived(TraceEvent):
    """One step of the key schedule (RFC 9846 §7.1).

    name:    "early_secret", "client_handshake_traffic_secret", …; parent: the name of the secret it comes from.
    method:  "HKDF-Extract" or "Derive-Secret".
    label:   as on the wire, without "tls13 ": "c hs traffic"; "" for an extract.
    context: the transcript hash that went in, b"" if none; messages: what that hash covers.
    keylog:  RFC 9850's label where the key log has one, else "".
    """

    name: str
    parent: str | None
    method: str
    label: str
    context: bytes
    messages: str
    secret: Secret
    keylog: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysInstalled(TraceEvent):
    """Record protection in one direction changes (RFC 9846 §7.3). generation: 0, then 1 more with each KeyUpdate."""

    direction: Direction
    epoch: Epoch
    generation: int
    cipher_suite: int
    secret_name: str
    key: Secret
    iv: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideDrawn(TraceEvent):
    """What a connection took from outside, so that it can be had again; only `explain.recording` tells of it.

    what: "random", "now" (seconds since 1970, a big-endian double), "public" (a key share of ours), "shared_secret"
          (of a key exchange; empty: the peer's share was refused), "signature", "session" (empty: there was none),
          "ticket" or "first use" (of 0-RTT: 1 or 0).
    """

    what: str
    value: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationTraced(TraceEvent):
    """The verdict on the peer's certificates. report: a pellucid.verify.VerificationReport."""

    report: object


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureTraced(TraceEvent):
    """CertificateVerify was made or checked (RFC 9846 §4.5.2), or Finished (§4.5.3).

    what: "CertificateVerify" or "Finished"; signer: whose it is; valid: the outcome; scheme: 0 for Finished.
    """

    what: str
    signer: Role
    scheme: int
    valid: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeCompleted(TraceEvent):
    """Both Finished are sent and checked. client_random: the key log's index; group: None in psk_ke.

    resumed: a session was; authenticated_at: when its certificates were verified, seconds since 1970; else None.
    """

    role: Role
    cipher_suite: int
    group: int | None
    alpn: str | None
    server_name: str | None
    client_random: bytes
    resumed: bool = False
    authenticated_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertTraced(TraceEvent):
    """An alert. Of one that we sent: reason says why, code is the diagnosis's where the alert alone does not tell."""

    direction: Direction
    epoch: Epoch
    description: int
    reason: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedTraced(TraceEvent):
    """One direction ended without an error alert, of which AlertTraced tells.

    how:     "close_notify", "truncated", "reset" (the transport's), "silence" (nobody waited any longer).
    partial: where it was truncated: bytes of a record or message that was not all there.
    """

    direction: Direction
    how: str
    partial: int = 0


Observer = Callable[[TraceEvent], None]


def unwatched(event: TraceEvent) -> None:
    """Stand for no observer at all where None would ask the configuration for one: it has been asked."""
