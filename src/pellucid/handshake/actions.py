"""What a handler wants done: values for the carrier, which owns records, keys in use and sockets.

RFC 9846 App. A: "send", "K_send =", "K_recv =" beside the arrows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pellucid.config import CertificateRequestInfo, ClientHelloInfo
from pellucid.crypto.provider import Signer
from pellucid.handshake.states import State
from pellucid.messages.handshake import NewSessionTicket
from pellucid.schedule import TrafficSecret
from pellucid.trace import Direction, Epoch, Role
from pellucid.verify.report import VerifiedPeer
from pellucid.verify.request import PeerVerifier, VerificationRequest


class SendMessage(NamedTuple):
    """Send a handshake message, header included, under the epoch's keys."""

    epoch: Epoch
    raw: bytes


class SendChangeCipherSpec(NamedTuple):
    """Send the dummy change_cipher_spec before the next record (RFC 9846 §E.4)."""


class InstallKeys(NamedTuple):
    """Use this secret's keys from the next record on. The record boundary is here."""

    direction: Direction
    secret: TrafficSecret
    name: str


class TicketIssued(NamedTuple):
    """The server sent a NewSessionTicket (§4.7.1)."""

    ticket: NewSessionTicket


class PeerKeyUpdated(NamedTuple):
    """The peer sent KeyUpdate (§4.7.3). requested: it wants one back before our next application data."""

    generation: int
    requested: bool


@dataclass(frozen=True, slots=True)
class SignatureChecked:
    """Proof that CertificateVerify was right (§4.5.2). Only handshake.authenticate makes one."""

    scheme: int


@dataclass(frozen=True, slots=True)
class FinishedChecked:
    """Proof that the peer's Finished was right (§4.5.3). Only handshake.authenticate makes one."""

    role: Role


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The peer has shown who it is: a chain that was accepted, and possession of its key."""

    peer: VerifiedPeer
    signature: SignatureChecked
    ocsp_response: bytes | None = field(default=None, repr=False)
    scts: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Unauthenticated:
    """A client that was not asked for a certificate, or was free not to send one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Negotiated:
    """What was agreed. Code points as on the wire; group and schemes as used, not as offered.

    signature_scheme: the server's CertificateVerify; client_signature_scheme: the client's, None without one.
    peer: the peer's verified certificates; None for a client without.
    peer_ocsp_response, peer_scts: what the peer stapled to its leaf, as VerificationRequest has them.
    """

    cipher_suite: int
    group: int
    signature_scheme: int
    client_signature_scheme: int | None
    alpn: str | None
    server_name: str | None
    retried: bool
    client_random: bytes
    server_random: bytes
    peer: VerifiedPeer | None
    local_certificates: tuple[bytes, ...] = field(repr=False)
    peer_ocsp_response: bytes | None = field(default=None, repr=False)
    peer_scts: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """The handshake is done. It cannot be built without the proofs. exporter_secret: Hash.length bytes (§7.5)."""

    negotiated: Negotiated
    authentication: Authenticated | Unauthenticated
    finished: FinishedChecked
    exporter_secret: bytes = field(repr=False)


Action = SendMessage | SendChangeCipherSpec | InstallKeys | TicketIssued | PeerKeyUpdated | Complete


def ends_peer_flight(action: Action) -> bool:
    """Return whether the peer can have sent nothing more yet: its next key is due, or our answer to its hello."""
    if isinstance(action, InstallKeys):
        return action.direction is Direction.RECEIVED
    return isinstance(action, SendMessage) and action.epoch is Epoch.INITIAL


# ---- pauses: where the outside world may be slow -----------------------------------------------------------------


class NeedCredential(NamedTuple):
    """Which certificate to show? Answer: a Credential or None."""

    request: ClientHelloInfo | CertificateRequestInfo


class NeedSignature(NamedTuple):
    """Sign CertificateVerify. Answer: bytes."""

    signer: Signer
    scheme: int
    data: bytes


class NeedVerification(NamedTuple):
    """Is the peer's chain to be trusted? Answer: a VerificationReport."""

    verifier: PeerVerifier
    request: VerificationRequest


Need = NeedCredential | NeedSignature | NeedVerification


class Step(NamedTuple):
    """A handler is done: what is known now, where we wait now, and what is to be done."""

    phase: object
    state: State
    actions: list[Action]


class Pause(NamedTuple):
    """A handler needs an answer first. `resume(answer)` goes on where it stopped."""

    need: Need
    resume: Callable[[Any], Result]  # Any: the type of the answer is the need's


Result = Step | Pause
