"""The server's handlers, in the order of the protocol (RFC 9846 §2, App. A.2)."""

from __future__ import annotations

from dataclasses import field, replace
from typing import Final

from pellucid.config import ClientAuthentication
from pellucid.crypto.provider import Group, Suite
from pellucid.errors import CertificateRequired, IllegalParameter, InternalError, MissingExtension
from pellucid.handshake import cookie as cookies
from pellucid.handshake import negotiate
from pellucid.handshake.actions import (
    Action,
    Authenticated,
    Complete,
    EarlyDataOutcome,
    InstallKeys,
    Negotiated,
    Result,
    Step,
    Unauthenticated,
)
from pellucid.handshake.authenticate import check_certificate_verify, check_finished, read_certificate
from pellucid.handshake.certificates import decompressed, tell_uncompressed
from pellucid.handshake.connected import Connected, on_key_update, secret_name
from pellucid.handshake.cookie import Retry
from pellucid.handshake.core import Handler, Table
from pellucid.handshake.negotiate import ClientOffer
from pellucid.handshake.post_handshake import handlers_of, server_phase
from pellucid.handshake.secrets import resumption_secret, tell_binder_key
from pellucid.handshake.server_flight import (
    Answered,
    Selected,
    ServerContext,
    ShownPsk,
    WaitCertificateVerify,
    WaitClientHello,
    WaitFinished,
    answer_with_psk,
    ask_again,
    choose_credential,
    hello_retry_request,
    negotiated_by,
)
from pellucid.handshake.server_psk import NO_PSK, Choice, SelectedPsk, choose_psk, external_hashes, verify_binder
from pellucid.handshake.states import SERVER_ARROWS, State
from pellucid.handshake.states import ServerState as S
from pellucid.handshake.tickets import (
    TicketSource,
    client_of,
    new_tickets,
    remembered_client,
    tell_tickets,
    tickets_to_send,
)
from pellucid.messages import extensions as x
from pellucid.messages.handshake import (
    Certificate,
    CertificateVerify,
    ClientHello,
    CompressedCertificate,
    EndOfEarlyData,
    Finished,
)
from pellucid.registry import ExtensionType, PskKeyExchangeMode, group_name, suite_name
from pellucid.registry import HandshakeType as H
from pellucid.trace import Direction, Role
from pellucid.value import internal_value

# ---- ClientHello -----------------------------------------------------------------------------------------------------


@internal_value
class _Heard:
    """A ClientHello, and what is chosen whatever follows. retry: the HelloRetryRequest that it answers."""

    offer: ClientOffer
    raw: bytes = field(repr=False)
    suite: Suite
    suite_reason: str
    alpn: bytes | None
    retry: Retry | None


def on_client_hello(context: ServerContext, phase: WaitClientHello, hello: ClientHello, raw: bytes) -> Result:
    """Choose, and answer with ServerHello … Finished, or ask again with HelloRetryRequest (RFC 9846 §4.2)."""
    config = context.config
    offer = negotiate.read_client_hello(hello)
    suite, suite_reason = negotiate.choose_suite(config, hello, external_hashes(config, offer))
    heard = _Heard(
        offer=offer,
        raw=raw,
        suite=suite,
        suite_reason=suite_reason,
        alpn=negotiate.choose_alpn(config, offer),
        retry=_retry_answered(context, phase, offer),
    )
    if x.OFFERED_PSKS.extension_type not in offer.extensions:
        return _exchange_keys(context, phase, heard, NO_PSK)
    return choose_psk(
        context, offer, suite, heard.alpn, phase.psk, lambda psk: _exchange_keys(context, phase, heard, psk)
    )


def _exchange_keys(context: ServerContext, phase: WaitClientHello, heard: _Heard, psk: Choice) -> Result:
    """Choose the group, or none where a PSK makes do without; then answer."""
    config, offer, suite = context.config, heard.offer, heard.suite
    group: Group | None = None
    group_reason = "the PSK is used without a key exchange (psk_ke)"
    exchanges = not (isinstance(psk, SelectedPsk) and psk.mode == PskKeyExchangeMode.PSK_KE)
    if heard.retry is None:
        if exchanges:
            group, group_reason = negotiate.choose_group(config, offer)
        if config.always_retry or (group is not None and group.code not in offer.shares):
            return ask_again(context, phase, offer, suite, group, group_reason, psk=psk, raw=heard.raw)
        context.transcript.choose(suite)
    else:
        _check_same_psk(phase, heard.retry, offer)
        found, group_reason = _after_retry(context, heard.retry, offer, suite)
        group = found if exchanges else None
    if isinstance(psk, SelectedPsk):
        verify_binder(context, offer, psk, heard.raw)
    context.transcript.add(heard.raw)
    selected = Selected(
        offer=offer,
        raw=heard.raw,
        suite=suite,
        group=group,
        alpn=heard.alpn,
        retried=heard.retry is not None,
        psk=psk,
        no_early_data=EarlyDataOutcome.RETRIED if phase.early_data else EarlyDataOutcome.NOT_OFFERED,
        peer_address=phase.peer_address,
        first=phase.first,
    )
    if context.trace is not None:
        _tell_selection(context, selected, heard.suite_reason, group_reason)
    if isinstance(psk, SelectedPsk):
        return answer_with_psk(context, selected, psk)
    if not offer.signature_schemes:
        raise MissingExtension("ClientHello has no signature_algorithms, and no PSK is used", rfc="9846 §4.3.3")
    return choose_credential(context, selected)


def _retry_answered(context: ServerContext, phase: WaitClientHello, offer: ClientOffer) -> Retry | None:
    """Return the retry that this ClientHello answers, ours or one its cookie tells of; None for a first one."""
    cookie = offer.extensions.get(x.COOKIE)
    if phase.retry is not None:
        if cookie != phase.retry.cookie:
            raise IllegalParameter(
                "the second ClientHello does not echo the cookie", rfc="9846 §4.3.2", code="TLS-BAD-RETRY"
            )
        if cookie is not None and context.config.cookie_key is not None:
            return cookies.unseal(context.config, context.config.cookie_key, cookie, phase.peer_address)
        return phase.retry
    if cookie is None:
        return None
    if context.config.cookie_key is None:
        raise IllegalParameter("a cookie in a first ClientHello", rfc="9846 §4.3.2", code="TLS-BAD-RETRY")
    retry = cookies.unseal(context.config, context.config.cookie_key, cookie, phase.peer_address)
    suite = context.config.suite_table.get(retry.cipher_suite)
    if suite is None:
        raise IllegalParameter(
            "the cookie names a cipher suite that is not enabled here", rfc="9846 §4.3.2", code="TLS-BAD-RETRY"
        )
    # The HelloRetryRequest is made again from what the cookie keeps: a server need not have stored anything.
    context.transcript.restore(suite, retry.client_hello_hash)
    context.transcript.add(hello_retry_request(offer.hello.legacy_session_id, retry))
    return retry


def _check_same_psk(phase: WaitClientHello, retry: Retry, offer: ClientOffer) -> None:
    """Raise IllegalParameter if the second ClientHello lost the PSK that was going to be used (§4.2.2).

    MissingExtension if it has none at all. A server that only has the cookie does not know which one it was.
    """
    offered = offer.extensions.get(x.OFFERED_PSKS)
    if retry.psk and offered is None:
        raise MissingExtension(
            "the second ClientHello dropped a PSK that can be used", rfc="9846 §4.2.2", code="TLS-BAD-RETRY"
        )
    chosen = phase.psk.psk.identity if isinstance(phase.psk, SelectedPsk) else None
    if chosen is not None and offered is not None and chosen not in {one.identity for one in offered.identities}:
        raise IllegalParameter(
            "the second ClientHello dropped the PSK that can be used", rfc="9846 §4.2.2", code="TLS-BAD-RETRY"
        )


def _after_retry(context: ServerContext, retry: Retry, offer: ClientOffer, suite: Suite) -> tuple[Group | None, str]:
    """Return the group of a retried handshake, None where the client offers none.

    Raises IllegalParameter if the client changed its mind (§4.2.2).
    """
    if ExtensionType.EARLY_DATA in offer.extensions:
        raise IllegalParameter("the second ClientHello has early_data", rfc="9846 §4.2.2", code="TLS-BAD-RETRY")
    if cookies.unchanged_digest(offer.hello, retry.group) != retry.unchanged:
        raise IllegalParameter(
            "the second ClientHello differs where it must not", rfc="9846 §4.2.2", code="TLS-BAD-RETRY"
        )
    if suite.code != retry.cipher_suite:
        raise IllegalParameter(
            "the second ClientHello leads to another cipher suite", rfc="9846 §4.2.4", code="TLS-BAD-RETRY"
        )
    if retry.group is None:
        if not offer.groups:
            return None, "the client offers no group"
        group, reason = negotiate.choose_group(context.config, offer)
        if group.code not in offer.shares:
            raise IllegalParameter(
                "the second ClientHello lost the share that the first had", rfc="9846 §4.2.2", code="TLS-BAD-RETRY"
            )
        return group, reason
    if tuple(offer.shares) != (retry.group,):
        raise IllegalParameter(
            f"the second ClientHello has other shares than one for {group_name(retry.group)}",
            rfc="9846 §4.3.8",
            code="TLS-BAD-RETRY",
        )
    group_asked = context.config.group_table.get(retry.group)
    if group_asked is None:
        raise IllegalParameter(
            "the cookie names a group that is not enabled here", rfc="9846 §4.3.2", code="TLS-BAD-RETRY"
        )
    return group_asked, "asked for in HelloRetryRequest"


def _tell_selection(context: ServerContext, selected: Selected, suite_reason: str, group_reason: str) -> None:
    offer, config = selected.offer, context.config
    context.chose("version", "TLS 1.3", "the only one spoken here", ("TLS 1.3",))
    context.chose(
        "cipher_suite",
        selected.suite.name,
        suite_reason,
        tuple(map(suite_name, config.suites)),
        tuple(map(suite_name, offer.hello.cipher_suites)),
    )
    context.chose(
        "group",
        "none" if selected.group is None else selected.group.name,
        group_reason,
        tuple(map(group_name, config.groups)),
        tuple(map(group_name, offer.groups)),
    )
    if isinstance(selected.psk, SelectedPsk):
        resumed = selected.psk.session is not None
        why = "the ticket is ours, for a connection like this one" if resumed else "the client has the key"
        context.chose("psk", "resumption" if resumed else "external PSK", why)
        tell_binder_key(context, selected.psk.early, selected.psk.psk.binder_label)
    elif config.session_store is not None or config.psks:
        context.chose("psk", "none", selected.psk)
    if offer.alpn or config.alpn:
        alpn = selected.alpn
        context.chose(
            "alpn",
            "none" if alpn is None else alpn.decode("utf-8", "backslashreplace"),
            "one side names no protocol" if alpn is None else "the first of ours that the client offers",
            config.alpn,
            tuple(name.decode("utf-8", "backslashreplace") for name in offer.alpn),
        )


# ---- the client's Certificate, CertificateVerify, Finished -----------------------------------------------------------


def on_certificate(context: ServerContext, phase: Answered, message: Certificate, raw: bytes) -> Step:
    """Take the client's certificates, or that it has none (RFC 9846 §4.5.1.3)."""
    if context.trace is not None and raw[0] == H.CERTIFICATE:
        tell_uncompressed(context)
    presented = read_certificate(context, message, phase.requested, phase.client_certificate_type)
    context.transcript.add(raw)
    if presented is not None:
        return Step(WaitCertificateVerify(answered=phase, presented=presented), S.WAIT_CV, [])
    if context.config.client_authentication is ClientAuthentication.REQUIRED:
        raise CertificateRequired("the client sent no certificate", rfc="9846 §4.5.1.3")
    if context.trace is not None:
        context.chose("client_certificate", "none", "the client sent none, and it is optional")
    return Step(WaitFinished(answered=phase, client=Unauthenticated()), S.WAIT_FINISHED, [])


def on_compressed_certificate(
    context: ServerContext, phase: Answered, message: CompressedCertificate, raw: bytes
) -> Step:
    """The same, compressed. The transcript has it as it was sent (RFC 8879 §4)."""
    return on_certificate(context, phase, decompressed(context, message), raw)


def on_certificate_verify(
    context: ServerContext, phase: WaitCertificateVerify, message: CertificateVerify, raw: bytes
) -> Result:
    """Check the client's signature and chain. One that is not trusted is never taken for none (attack F22)."""
    verifier = context.config.peer_verifier
    if verifier is None:
        raise InternalError("a server without a verifier has asked for a certificate")

    def verified(client: Authenticated) -> Step:
        context.transcript.add(raw)
        return Step(WaitFinished(answered=phase.answered, client=client), S.WAIT_FINISHED, [])

    return check_certificate_verify(context, Role.CLIENT, phase.presented, message, verifier, None, verified)


def on_end_of_early_data(context: ServerContext, phase: WaitFinished, message: EndOfEarlyData, raw: bytes) -> Step:
    """The client's early data has come to its end; its Finished is under the handshake keys (RFC 9846 §4.6)."""
    context.transcript.add(raw)
    keys = InstallKeys(Direction.RECEIVED, phase.answered.handshake.client, "client_handshake_traffic_secret")
    return Step(phase, S.WAIT_FINISHED, [keys])


def on_finished(context: ServerContext, phase: WaitFinished, message: Finished, raw: bytes) -> Step:
    """Check the client's Finished; the handshake is complete, and tickets follow (RFC 9846 §4.5.3, §4.7.1)."""
    answered = phase.answered
    proof = check_finished(context, Role.CLIENT, answered.handshake.client, context.transcript.digest(), message)
    context.transcript.add(raw)
    negotiated = negotiated_by(answered, phase.client)
    application = answered.application
    tickets, source = _tickets(context, phase, negotiated)
    actions: list[Action] = [
        InstallKeys(Direction.RECEIVED, application.client, secret_name(Role.CLIENT, 0)),
        Complete(negotiated, phase.client, proof, application.exporter),
        *tickets,
    ]
    connected = Connected(S.CONNECTED, application.server, application.client)
    return Step(server_phase(context, answered.selected.offer, negotiated, connected, source), S.CONNECTED, actions)


def _tickets(
    context: ServerContext, phase: WaitFinished, negotiated: Negotiated
) -> tuple[list[Action], TicketSource | None]:
    """Return the NewSessionTickets (§4.7.1), and what more could be made of."""
    selected, shown = phase.answered.selected, phase.answered.shown
    count = 0 if context.closed else tickets_to_send(context.config, selected.offer, resumed=shown.resumes)
    if not count:
        if context.trace is not None:
            tell_tickets(context, selected.offer, 0, resumed=shown.resumes)
        return [], None
    binding = context.config.client_authentication_digest
    if isinstance(shown, ShownPsk) and shown.psk.session is not None:
        # Whom the session is for was found by the rules that its ticket was bound to (attack E7).
        client, binding = client_of(shown.psk.session), shown.psk.session.binding
    else:
        client = remembered_client(context, phase.client)
    secret = resumption_secret(context, phase.answered.application)
    source = TicketSource(
        suite=selected.suite,
        secret=secret,
        negotiated=negotiated,
        authenticated_at=client.authenticated_at,
        sent=0,
    )
    messages = new_tickets(context, source, client, count, binding=binding)
    if messages and context.trace is not None:
        tell_tickets(context, selected.offer, len(messages), resumed=shown.resumes)
    if context.config.peer_verifier is None:
        return messages, None  # nobody can be asked for a certificate, and no more tickets follow
    return messages, replace(source, sent=len(messages))


HANDLERS: Final[dict[tuple[State, int], Handler]] = {
    (S.START, H.CLIENT_HELLO): on_client_hello,
    (S.WAIT_EOED, H.END_OF_EARLY_DATA): on_end_of_early_data,
    (S.WAIT_CERT, H.CERTIFICATE): on_certificate,
    (S.WAIT_CERT, H.COMPRESSED_CERTIFICATE): on_compressed_certificate,
    (S.WAIT_CV, H.CERTIFICATE_VERIFY): on_certificate_verify,
    (S.WAIT_FINISHED, H.FINISHED): on_finished,
    (S.CONNECTED, H.KEY_UPDATE): on_key_update,
    (S.WAIT_PHA, H.KEY_UPDATE): on_key_update,
    **handlers_of(Role.SERVER),
}

TABLE: Final = Table(SERVER_ARROWS, HANDLERS)
