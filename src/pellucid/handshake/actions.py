"""What a handler wants done: values for the carrier, which owns records, keys in use and sockets.

RFC 9846 App. A: "send", "K_send =", "K_recv =" beside the arrows.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

from pellucid.config import CertificateRequestInfo, ClientHelloInfo, Credential
from pellucid.crypto.provider import Pending, Signer, Suite
from pellucid.errors import InternalError
from pellucid.handshake.answers import Answering
from pellucid.handshake.states import State
from pellucid.messages.handshake import NewSessionTicket
from pellucid.schedule import TrafficSecret
from pellucid.sessions.client import ClientSession
from pellucid.sessions.server import ServerSession
from pellucid.trace import Direction, Epoch, Role
from pellucid.value import quickly_made
from pellucid.verify.report import VerificationReport, VerifiedPeer
from pellucid.verify.request import PeerVerifier, PendingPart, VerificationRequest, VerifierAnswer


class SendMessage(NamedTuple):
    """Send a handshake message, header included, under the epoch's keys."""

    epoch: Epoch
    raw: bytes


class SendChangeCipherSpec(NamedTuple):
    """Send the dummy change_cipher_spec (RFC 9846 §E.4): before the next record, or at once."""

    at_once: bool


class InstallKeys(NamedTuple):
    """Use this secret's keys from the next record on. The record boundary is here."""

    direction: Direction
    secret: TrafficSecret
    name: str


class OfferEarlyData(NamedTuple):
    """Client: data may be sent under the early keys, which are installed (§4.3.10).

    limit: bytes of it; alpn: the session's protocol, which it is in.
    """

    limit: int
    suite: Suite
    exporter_secret: bytes
    alpn: str | None

    def __repr__(self) -> str:
        return f"OfferEarlyData(limit={self.limit}, suite={self.suite.name}, alpn={self.alpn!r}, <secret hidden>)"


class EndEarlySending(NamedTuple):
    """Client: no more early data. in_the_open: after a retry what follows is plaintext again."""

    in_the_open: bool


class AcceptEarlyData(NamedTuple):
    """Server: application data under the early keys is the client's (§4.3.10). limit: bytes of it."""

    negotiated: Negotiated
    limit: int
    suite: Suite
    exporter_secret: bytes

    def __repr__(self) -> str:
        return f"AcceptEarlyData(limit={self.limit}, suite={self.suite.name}, <secret hidden>)"


class SkipEarlyData(NamedTuple):
    """Server: nobody reads the early data (§4.3.10): drop records until one opens, *limit* bytes at most."""

    limit: int


class AnswerEarly(NamedTuple):
    """Server: our flight is out and the client need not show who it is: data may follow at once (§2.3, half-RTT)."""

    suite: Suite


class LimitRecords(NamedTuple):
    """record_size_limit is negotiated (RFC 8449): the peer's limit on what we send, and ours on what it sends.

    Bytes of TLSInnerPlaintext, 64..2^14+1.
    """

    sending: int
    receiving: int


class TicketIssued(NamedTuple):
    """The server sent a NewSessionTicket (§4.7.1). session: what to keep of it, None for nothing."""

    ticket: NewSessionTicket
    session: ClientSession | None


class PeerKeyUpdated(NamedTuple):
    """The peer sent KeyUpdate (§4.7.3). requested: it wants one back before our next application data."""

    generation: int
    requested: bool


@quickly_made
@dataclass(frozen=True, slots=True)
class SignatureChecked:
    """Proof that CertificateVerify was right (§4.5.2). Only handshake.authenticate makes one."""

    scheme: int


@quickly_made
@dataclass(frozen=True, slots=True)
class FinishedChecked:
    """Proof that the peer's Finished was right (§4.5.3). Only handshake.authenticate makes one."""

    role: Role


@quickly_made
@dataclass(frozen=True, slots=True)
class Authenticated:
    """The peer has shown who it is: a chain that was accepted, and possession of its key."""

    peer: VerifiedPeer
    signature: SignatureChecked
    presented: tuple[bytes, ...] = field(repr=False)
    """the certificates as they were sent, leaf first"""
    ocsp_response: bytes | None = field(default=None, repr=False)
    scts: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Unauthenticated:
    """A client that was not asked for a certificate, or was free not to send one."""


@quickly_made
@dataclass(frozen=True, slots=True)
class PskChecked:
    """Proof that the peer has the PSK: by its binder at the server, by its Finished at the client (§4.3.11).

    peer: who showed a certificate when the PSK was made, None for a client without and for an external PSK.
    """

    peer: VerifiedPeer | None


class EarlyDataOutcome(enum.Enum):
    """What became of early data, and why (§4.3.10). The values are stable."""

    ACCEPTED = "accepted"
    DISABLED = "disabled here"
    NO_SESSION = "there was no session to resume"
    NOT_ALLOWED = "the session does not allow it"
    NOT_OFFERED = "the client did not offer it"
    RETRIED = "the server asked again with HelloRetryRequest"
    NOT_RESUMED = "the session was not resumed"
    DECLINED = "the server declined it"
    OTHER_PROTOCOL = "another application protocol than the session's"
    OTHER_SUITE = "another cipher suite than the session's"
    TICKET_AGE = "the ticket's age does not fit"
    REPLAYED = "the ClientHello was seen before, or may have been"
    TOO_LONG = "there was more of it than the session allows"


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class Negotiated:
    """What was agreed. Code points as on the wire; group and schemes as used, not as offered.

    group:            None where a PSK was used without a key exchange (psk_ke).
    signature_scheme: the server's CertificateVerify, of the full handshake that a session began with; None with an
                      external PSK. client_signature_scheme: the client's, None without one.
    server_certificate_type, client_certificate_type: CertificateType of what they showed (RFC 7250), when a resumed
                      session began too; None where they showed nothing.
    peer:             the peer's verified certificates; None for a client without, and with an external PSK.
    resumed:          a session was resumed: no certificate was sent.
    psk_identity:     the external PSK used, else None.
    early_data:       what became of 0-RTT, and why.
    authenticated_at: when the handshake was made that the resumed session began with, seconds since 1970; else None.
    peer_ocsp_response, peer_scts: what the peer stapled to its leaf, as VerificationRequest has them.
    peer_certificates: the peer's certificates as it sent them, leaf first; its verified path is in peer.chain.
    """

    cipher_suite: int
    group: int | None
    signature_scheme: int | None
    client_signature_scheme: int | None
    alpn: str | None
    server_name: str | None
    retried: bool
    client_random: bytes
    server_random: bytes
    peer: VerifiedPeer | None
    local_certificates: tuple[bytes, ...] = field(repr=False)
    server_certificate_type: int | None = None
    client_certificate_type: int | None = None
    resumed: bool = False
    psk_identity: bytes | None = None
    early_data: EarlyDataOutcome = EarlyDataOutcome.DISABLED
    authenticated_at: float | None = None
    peer_ocsp_response: bytes | None = field(default=None, repr=False)
    peer_scts: tuple[bytes, ...] = field(default=(), repr=False)
    peer_certificates: tuple[bytes, ...] = field(default=(), repr=False)


@quickly_made
@dataclass(frozen=True, slots=True)
class Complete:
    """The handshake is done. It cannot be built without the proofs. exporter_secret: Hash.length bytes (§7.5)."""

    negotiated: Negotiated
    authentication: Authenticated | Unauthenticated | PskChecked
    finished: FinishedChecked
    exporter_secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientAnswered:
    """Server: an answer to a CertificateRequest is complete (§4.7.2). It cannot be built without the proofs.

    request_context: which request was answered; authentication: Unauthenticated where the client declined.
    """

    request_context: bytes
    authentication: Authenticated | Unauthenticated
    finished: FinishedChecked


class CertificateAsked(NamedTuple):
    """Client: a CertificateRequest came after the handshake (§4.7.2)."""

    request: CertificateRequestInfo


class AnswerOnly(NamedTuple):
    """Server: from here on, or no longer, the messages of one answer must follow each other, without data (§4.7.2)."""

    begins: bool


class PauseAside(NamedTuple):
    """Ask for what *need* names, and go on with everything else meanwhile: data, tickets, KeyUpdates.

    resume: (phase at that time, answer) → step.
    """

    need: Need
    resume: Callable[[Any, Any], Step]  # Any: each phase and answer has its own type


Action = (
    SendMessage
    | SendChangeCipherSpec
    | InstallKeys
    | LimitRecords
    | OfferEarlyData
    | EndEarlySending
    | AcceptEarlyData
    | SkipEarlyData
    | AnswerEarly
    | TicketIssued
    | PeerKeyUpdated
    | Complete
    | ClientAnswered
    | CertificateAsked
    | AnswerOnly
    | PauseAside
)


def ends_peer_flight(action: Action) -> bool:
    """Return whether the peer can have sent nothing more yet: its next key is due, or our answer to its hello."""
    if isinstance(action, InstallKeys):
        return action.direction is Direction.RECEIVED
    return isinstance(action, SendMessage) and action.epoch is Epoch.INITIAL


# ---- pauses: where the outside world may be slow -----------------------------------------------------------------
#
# answer: what is to be awaited, where what was asked gave an awaitable; None: it said PENDING.


class NeedCredential(NamedTuple):
    """Which certificate to show? Answer: a Credential or None."""

    request: ClientHelloInfo | CertificateRequestInfo
    answer: Answering | None = None


class NeedTicket(NamedTuple):
    """What does this ticket stand for? Answer: a ServerSession or None."""

    ticket: bytes
    answer: Answering | None = None


class NeedFirstUse(NamedTuple):
    """Was early data with this key never accepted before? Answer: bool."""

    key: bytes
    issued_at: float
    answer: Answering | None = None


class NeedSignature(NamedTuple):
    """Sign CertificateVerify. Answer: bytes."""

    signer: Signer
    scheme: int
    data: bytes
    answer: Answering | None = None


class NeedVerification(NamedTuple):
    """Is the peer's chain to be trusted? Answer: a VerificationReport."""

    verifier: PeerVerifier
    request: VerificationRequest
    answer: Answering | None = None


Need = NeedCredential | NeedSignature | NeedVerification | NeedTicket | NeedFirstUse


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

A = TypeVar("A")


_AT_ONCE: Final = frozenset({bytes, bool, type(None), Credential, ServerSession, VerificationReport})
"""What most are answered with: whether it is an awaitable need not be asked, which takes 1 µs."""


def answered(
    ask: Callable[[], A | Pending | Awaitable[A]],
    need: Callable[[Answering | None], Need],
    then: Callable[[A], Result],
) -> Result:
    """Ask, and go on with the answer; pause where it is PENDING, or has to be awaited."""
    answer = ask()
    if type(answer) in _AT_ONCE:
        return then(answer)  # type: ignore[arg-type]  # none of these is PENDING, or to be awaited
    if isinstance(answer, Pending):
        return Pause(need(None), then)
    if inspect.isawaitable(answer):
        return Pause(need(Answering(ask, answer)), then)
    return then(answer)


def judged(
    verifier: PeerVerifier, request: VerificationRequest, then: Callable[[VerificationReport], Result]
) -> Result:
    """Ask *verifier*, and go on with its report; pause while it, or a part of it, needs time.

    A combination of verifiers may need several pauses: each is for the part that is to be answered for.
    """
    first: list[VerifierAnswer] = [verifier.verify(request)]
    if type(first[0]) is VerificationReport:
        return then(first[0])  # at once, as most verifiers answer

    def ask() -> VerifierAnswer:
        return first.pop() if first else verifier.verify(request)

    return _judged(ask, verifier, request, then)


def _judged(
    ask: Callable[[], VerifierAnswer],
    verifier: PeerVerifier,
    request: VerificationRequest,
    then: Callable[[VerificationReport], Result],
) -> Result:
    def go_on(answer: object) -> Result:
        if type(answer) is VerificationReport:
            return then(answer)
        if isinstance(answer, PendingPart):
            part = answer
            return Pause(NeedVerification(part.verifier, part.request), lambda report: told(part, report))
        if inspect.isawaitable(answer):  # an `async def` that returned what another one gave it
            following: VerifierAnswer = answer
            return _judged(lambda: following, verifier, request, then)
        return then(_a_report(answer))

    def told(part: PendingPart, report: object) -> Result:
        known = _a_report(report)
        return _judged(lambda: part.then(known), verifier, request, then)

    return answered(ask, lambda answer: NeedVerification(verifier, request, answer), go_on)


def _a_report(answer: object) -> VerificationReport:
    if not isinstance(answer, VerificationReport):
        raise InternalError("the answer to NeedVerification is a VerificationReport")
    return answer
