"""What `Connection.next_event` returns. h11's manner: one object a thing that happened, NEED_DATA when nothing did."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from pellucid.config import CertificateRequestInfo
from pellucid.handshake.actions import (
    NeedCredential,
    NeedFirstUse,
    NeedSignature,
    NeedTicket,
    NeedVerification,
    Negotiated,
)
from pellucid.messages.handshake import NewSessionTicket
from pellucid.verify.report import VerifiedPeer

__all__ = [
    "NEED_DATA",
    "PAUSES",
    "ApplicationData",
    "CertificateRequested",
    "CloseNotify",
    "CredentialNeeded",
    "EarlyData",
    "EarlyDataAccepted",
    "Event",
    "FirstUseNeeded",
    "HandshakeComplete",
    "KeyUpdated",
    "NeedData",
    "PeerAuthenticated",
    "SignatureNeeded",
    "TicketNeeded",
    "TicketReceived",
    "VerificationNeeded",
]


class NeedData(enum.Enum):
    """Nothing more happened: feed `receive_data`."""

    NEED_DATA = "NEED_DATA"


NEED_DATA: Final = NeedData.NEED_DATA


class HandshakeComplete(NamedTuple):
    """Both Finished are sent and checked: application data may flow."""

    negotiated: Negotiated


class ApplicationData(NamedTuple):
    """Bytes of the application, authenticated, in order; never empty."""

    data: bytes


class EarlyDataAccepted(NamedTuple):
    """Server: 0-RTT data of the client follows as EarlyData, at most *limit* bytes (RFC 9846 §4.3.10).

    It may be a replay of somebody's, for all that is known. negotiated: what will have been agreed once the client's
    Finished is in.
    """

    negotiated: Negotiated
    limit: int


class EarlyData(NamedTuple):
    """0-RTT bytes of the application: the client's, but perhaps sent again by somebody else (RFC 9846 §8)."""

    data: bytes


class TicketReceived(NamedTuple):
    """The server sent a NewSessionTicket (RFC 9846 §4.7.1)."""

    ticket: NewSessionTicket


class KeyUpdated(NamedTuple):
    """The peer went to its next key (RFC 9846 §4.7.3). generation: its KeyUpdates so far."""

    generation: int


class CertificateRequested(NamedTuple):
    """Client: the server asks for a certificate after the handshake (RFC 9846 §4.7.2).

    The configuration's credentials or resolver answer it; where one says PENDING, CredentialNeeded or SignatureNeeded
    follows. Whether the server takes the answer is not told (§F.1.2).
    """

    request: CertificateRequestInfo


class PeerAuthenticated(NamedTuple):
    """Server: the client answered `request_client_certificate` (RFC 9846 §4.7.2).

    peer: who it is; None if it declined, which takes nothing from what was known of it before.
    request_context: what `request_client_certificate` returned.
    certificates: its certificates as it sent them, leaf first.
    """

    peer: VerifiedPeer | None
    request_context: bytes
    certificates: tuple[bytes, ...] = ()


class CloseNotify(NamedTuple):
    """The peer will send no more (RFC 9846 §6.1). Our direction stays open until `close`."""


class CredentialNeeded(NamedTuple):
    """The configuration's resolver answers later: `resume(credential)`, or None for "no certificate"."""

    need: NeedCredential

    @property
    def answer(self) -> Awaitable[object] | None:
        return self.need.answer


class SignatureNeeded(NamedTuple):
    """The signer answers later: `resume(signature)`."""

    need: NeedSignature

    @property
    def answer(self) -> Awaitable[object] | None:
        return self.need.answer


class TicketNeeded(NamedTuple):
    """The store of sessions answers later: `resume(session)`, or None for a ticket that stands for nothing."""

    need: NeedTicket

    @property
    def answer(self) -> Awaitable[object] | None:
        return self.need.answer


class FirstUseNeeded(NamedTuple):
    """The replay guard answers later: `resume(True)` if the key was never seen, else `resume(False)`."""

    need: NeedFirstUse

    @property
    def answer(self) -> Awaitable[object] | None:
        return self.need.answer


class VerificationNeeded(NamedTuple):
    """The verifier answers later: `resume(report)`."""

    need: NeedVerification

    @property
    def answer(self) -> Awaitable[object] | None:
        return self.need.answer


Event = (
    HandshakeComplete
    | ApplicationData
    | EarlyDataAccepted
    | EarlyData
    | TicketReceived
    | KeyUpdated
    | CertificateRequested
    | PeerAuthenticated
    | CloseNotify
    | CredentialNeeded
    | SignatureNeeded
    | VerificationNeeded
    | TicketNeeded
    | FirstUseNeeded
)

PAUSES: Final[dict[type, Callable[[Any], Event]]] = {  # Any: each event takes its own need
    NeedCredential: CredentialNeeded,
    NeedSignature: SignatureNeeded,
    NeedVerification: VerificationNeeded,
    NeedTicket: TicketNeeded,
    NeedFirstUse: FirstUseNeeded,
}
"""kind of need → the event that tells of it"""
