"""Sessions: what is kept of a handshake for the next one, in tickets and in the client's store (RFC 9846 §4.7.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any

from pellucid.config import ClientConfig, ServerConfig
from pellucid.crypto.certificates import valid_until
from pellucid.crypto.provider import Suite
from pellucid.errors import UsageError
from pellucid.handshake.actions import (
    Action,
    Authenticated,
    Negotiated,
    PskChecked,
    Result,
    SendMessage,
    Unauthenticated,
    judged,
)
from pellucid.handshake.certificate_types import parse_end_entity
from pellucid.handshake.core import Context
from pellucid.handshake.negotiate import ClientOffer
from pellucid.limits import MAX_ISSUED_TICKET, MAX_TICKET, MAX_TICKET_LIFETIME_SECONDS, MAX_TICKETS_PER_HANDSHAKE
from pellucid.messages import extensions as x
from pellucid.messages.handshake import Extension, NewSessionTicket, handshake_message
from pellucid.registry import CertificateType
from pellucid.schedule import resumption_psk
from pellucid.sessions.client import ClientSession
from pellucid.sessions.server import ServerSession
from pellucid.trace import Epoch, Role, VerificationTraced
from pellucid.value import internal_value
from pellucid.verify.report import VerificationReport, remembered_peer, verified_peer
from pellucid.verify.request import Purpose, VerificationRequest


@internal_value
class Remembered:
    """The certificates or the raw public key that a peer showed when the session began, and when that was.

    presented: () for none.   verified: False for what a dangerous verifier let pass.
    """

    presented: tuple[bytes, ...] = field(default=())
    path: tuple[bytes, ...] = field(default=())
    certificate_type: int = field(default=CertificateType.X509)
    authenticated_at: float
    signature_scheme: int | None = field(default=None)
    ocsp_response: bytes | None = field(default=None)
    scts: tuple[bytes, ...] = field(default=())
    verified: bool = field(default=True)

    def valid_until(self) -> float:
        """Return when the first certificate of the path ends, seconds since 1970."""
        if self.certificate_type != CertificateType.X509 or not self.path:
            return float("inf")
        return min(map(valid_until, self.path))


def recall_peer(
    context: Context[Any], remembered: Remembered, server_name: str | None, then: Callable[[PskChecked], Result]
) -> Result:
    """Go on with the proof of a resumption, and who the peer was. With `reverify_on_resumption` it is judged again.

    server_name: whom the certificate must name; None for a client's.
    Raises CertificateRejected if the verifier no longer accepts it (attack E8).
    """
    if not remembered.presented:
        return then(PskChecked(None))
    leaf = parse_end_entity(context.provider, remembered.certificate_type, remembered.presented[0])
    verifier = context.config.peer_verifier
    if not context.config.reverify_on_resumption or verifier is None:
        return then(PskChecked(remembered_peer(leaf, remembered.path, remembered.authenticated_at)))
    request = VerificationRequest(
        leaf=leaf,
        intermediates=remembered.presented[1:],
        purpose=Purpose.SERVER_AUTH if context.role is Role.CLIENT else Purpose.CLIENT_AUTH,
        server_name=server_name,
        now=context.provider.now(),
        scts=remembered.scts,
        # What was stapled then was good then, and the peer staples nothing now: CRLs are asked, it is not.
        status_requested=False,
        port=context.port,
    )

    def judge(report: VerificationReport) -> Result:
        if context.trace is not None:
            context.trace(VerificationTraced(report=report))
        return then(PskChecked(verified_peer(leaf, report)))

    return judged(verifier, request, judge)


# ---- the client's ----------------------------------------------------------------------------------------------------


@internal_value
class ClientResumption:
    """What a client needs for making a session of a ticket. secret: the resumption secret, Hash.length bytes."""

    suite: Suite
    secret: bytes = field(repr=False)
    alpn: str | None
    peer: Remembered
    local_certificates: tuple[bytes, ...]
    local_certificate_type: int


def client_session(
    context: Context[ClientConfig], resumption: ClientResumption, ticket: NewSessionTicket, max_early_data_size: int
) -> ClientSession | None:
    """Return what is kept of *ticket*; None if it is of no use: without a lifetime, or the certificates have ended, or
    too long for a ClientHello to have room for it, whatever else has to be in that.

    It ends with the first of: the ticket's lifetime, seven days, the certificates' end (§4.7.1).
    """
    now = context.provider.now()
    lifetime = min(ticket.ticket_lifetime, MAX_TICKET_LIFETIME_SECONDS)
    ends = resumption.peer.valid_until()
    if now + lifetime > ends:
        lifetime = int(ends - now)
    if lifetime <= 0 or len(ticket.ticket) > MAX_ISSUED_TICKET:
        return None
    peer = resumption.peer
    return ClientSession(
        ticket=ticket.ticket,
        psk=_psk(context, resumption.suite, resumption.secret, ticket.ticket_nonce),
        cipher_suite=resumption.suite.code,
        received_at=now,
        lifetime_seconds=lifetime,
        age_add=ticket.ticket_age_add,
        max_early_data_size=max_early_data_size,
        alpn=resumption.alpn,
        signature_scheme=peer.signature_scheme or 0,
        authenticated_at=peer.authenticated_at,
        leaf=peer.presented[0] if peer.presented else b"",
        intermediates=peer.presented[1:],
        path=peer.path,
        certificate_type=peer.certificate_type,
        ocsp_response=peer.ocsp_response,
        scts=peer.scts,
        local_certificates=resumption.local_certificates,
        local_certificate_type=resumption.local_certificate_type,
    )


def _psk(context: Context[Any], suite: Suite, secret: bytes, nonce: bytes) -> bytes:
    """Return the PSK of a ticket with this *nonce* (§4.7.1). secret: the resumption secret."""
    psk = resumption_psk(suite, secret, nonce)
    if context.trace is not None:
        context.derived(
            f"resumption_psk_{nonce[:8].hex()}",
            psk,
            parent="resumption_secret",
            label="resumption",
            method="HKDF-Expand-Label",
            context=nonce,
        )
    return psk


def server_of(session: ClientSession) -> Remembered:
    """Return the server that *session* remembers."""
    return Remembered(
        presented=(session.leaf, *session.intermediates) if session.leaf else (),
        path=session.path,
        certificate_type=session.certificate_type,
        authenticated_at=session.authenticated_at,
        signature_scheme=session.signature_scheme or None,
        ocsp_response=session.ocsp_response,
        scts=session.scts,
    )


# ---- the server's ----------------------------------------------------------------------------------------------------


def client_of(session: ServerSession) -> Remembered:
    """Return the client that *session* remembers."""
    return Remembered(
        presented=session.client_presented,
        path=session.client_chain,
        certificate_type=session.client_certificate_type,
        authenticated_at=session.authenticated_at,
        signature_scheme=session.client_signature_scheme,
    )


def remembered_client(context: Context[Any], client: Authenticated | Unauthenticated | PskChecked) -> Remembered:
    """Return what a ticket remembers of the client of a handshake that began now."""
    now = context.provider.now()
    if not isinstance(client, Authenticated):
        return Remembered(authenticated_at=now)
    return Remembered(
        presented=client.presented,
        path=client.peer.chain,
        certificate_type=client.peer.certificate_type,
        authenticated_at=now,
        signature_scheme=client.signature.scheme,
        verified=not client.peer.report.dangerous,
    )


@internal_value
class TicketSource:
    """What a server makes a connection's tickets of. secret: the resumption secret; sent: how many there were so far.

    authenticated_at: when the handshake was made that the session began with.
    """

    suite: Suite
    secret: bytes = field(repr=False)
    negotiated: Negotiated
    authenticated_at: float
    sent: int


def tickets_to_send(config: ServerConfig, offer: ClientOffer, *, resumed: bool) -> int:
    """Return how many tickets follow the handshake: as the client asks within our bound (RFC 9149 §3), else as
    configured; none for a client that could not use them (§4.3.9). resumed: by a ticket, not by an external PSK."""
    modes = offer.extensions.get(x.PSK_KEY_EXCHANGE_MODES) or ()
    if config.session_store is None or not set(modes) & set(config.psk_modes):
        return 0
    request = offer.extensions.get(x.TICKET_REQUEST)
    if request is None:
        return config.tickets_on_resumption if resumed else config.tickets
    wanted: int = request.resumption_count if resumed else request.new_session_count
    return min(wanted, MAX_TICKETS_PER_HANDSHAKE)


def tell_tickets(context: Context[ServerConfig], offer: ClientOffer, sent: int, *, resumed: bool) -> None:
    """Report how many tickets follow the handshake, and why so many."""
    config = context.config
    if config.session_store is None:
        return
    modes = offer.extensions.get(x.PSK_KEY_EXCHANGE_MODES) or ()
    if not set(modes) & set(config.psk_modes):
        why = "the client offers no PSK key exchange mode that is taken here"
    elif context.closed:
        why = "this end has closed"
    elif offer.extensions.get(x.TICKET_REQUEST) is not None:
        why = f"the client asks for so many, of which {MAX_TICKETS_PER_HANDSHAKE} are the most"
    else:
        why = "the configuration says so for resumptions" if resumed else "the configuration says so"
    context.chose("tickets", str(sent) if sent else "none", why)


def ticket_nonce(number: int) -> bytes:
    """Return what tells the *number*-th ticket of a connection from the others (§4.7.1)."""
    return number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")


def _unfit(client: Remembered, lifetime: int) -> str | None:
    """Return why no ticket stands for *client*, or None."""
    if not client.verified:
        return "nobody verified the client, and it is not remembered as one that was"
    if sum(map(len, (*client.path, *client.presented))) > MAX_TICKET // 2:
        return "the client's certificates are too long for a ticket"
    return "the client's certificates end, or were verified too long ago" if lifetime <= 0 else None


def new_tickets(
    context: Context[ServerConfig], source: TicketSource, client: Remembered, count: int, *, binding: bytes
) -> list[Action]:
    """Return *count* NewSessionTicket messages, each for a PSK of its own (§4.7.1).

    client: whom the session stands for, and since when: resuming does not renew that.
    binding: the digest of the client authentication by which *client* is known (attack E7).
    """
    config, provider = context.config, context.provider
    store = config.session_store
    now = provider.now()
    ends = min(client.authenticated_at + MAX_TICKET_LIFETIME_SECONDS, client.valid_until())
    lifetime = min(config.ticket_lifetime_seconds, int(ends - now))
    why_not = _unfit(client, lifetime)
    if why_not is not None and context.trace is not None:
        context.chose("tickets", "none", why_not)
    if store is None or why_not is not None:
        return []
    extensions: tuple[Extension, ...] = ()
    if config.max_early_data:
        extensions = (x.MAX_EARLY_DATA_SIZE.extension(config.max_early_data),)
    messages: list[Action] = []
    for number in range(source.sent, source.sent + count):
        nonce = ticket_nonce(number)
        age_add = int.from_bytes(provider.random(4), "big")
        session = ServerSession(
            cipher_suite=source.suite.code,
            psk=_psk(context, source.suite, source.secret, nonce),
            issued_at=now,
            lifetime_seconds=lifetime,
            age_add=age_add,
            authenticated_at=client.authenticated_at,
            server_name=source.negotiated.server_name,
            alpn=source.negotiated.alpn,
            binding=binding,
            max_early_data_size=config.max_early_data,
            server_certificate_type=source.negotiated.server_certificate_type,
            client_chain=client.path,
            client_presented=client.presented,
            client_certificate_type=client.certificate_type,
            client_signature_scheme=client.signature_scheme,
        )
        try:
            issued = store.issue(session, now)
        except UsageError as error:  # too large to be useful, as its interface has it
            if context.trace is not None:
                context.chose("tickets", "none", error.reason)
            break
        ticket = NewSessionTicket(lifetime, age_add, nonce, issued, extensions)
        messages.append(SendMessage(Epoch.APPLICATION, handshake_message(ticket)))
    return messages
