"""The client's handlers, in the order of the protocol (RFC 9846 §2, App. A.1)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pellucid.config import CertificateRequestInfo, ClientConfig, Credential
from pellucid.crypto.provider import PENDING, Suite
from pellucid.errors import (
    DecodeError,
    IllegalParameter,
    InternalError,
    MissingExtension,
    UnexpectedMessage,
)
from pellucid.handshake import negotiate
from pellucid.handshake.actions import (
    Action,
    Authenticated,
    Complete,
    FinishedChecked,
    InstallKeys,
    NeedCredential,
    Negotiated,
    Pause,
    Result,
    SendChangeCipherSpec,
    SendMessage,
    Step,
)
from pellucid.handshake.authenticate import (
    PresentedCertificates,
    check_certificate_verify,
    check_finished,
    finished_message,
    read_certificate,
    sign_certificate_verify,
)
from pellucid.handshake.certificates import certificate_message, decompressed, tell_uncompressed
from pellucid.handshake.connected import Connected, on_key_update, on_new_session_ticket, secret_name
from pellucid.handshake.core import Context, Handler
from pellucid.handshake.offer import Offer, retried_offer
from pellucid.handshake.secrets import (
    ApplicationSecrets,
    HandshakeSecrets,
    application_secrets,
    handshake_secrets,
    tell_shared_secret,
)
from pellucid.handshake.states import ClientState as C
from pellucid.handshake.states import State
from pellucid.messages import extensions as x
from pellucid.messages.handshake import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    CompressedCertificate,
    EncryptedExtensions,
    Finished,
    ServerHello,
)
from pellucid.registry import HandshakeType as H
from pellucid.registry import group_name, suite_name
from pellucid.trace import Direction, Epoch, Role
from pellucid.value import internal_value

ClientContext = Context[ClientConfig]


# ---- phases: what is known at that moment ----------------------------------------------------------------------------


@internal_value
class WaitServerHello:
    offer: Offer
    retry: ServerHello | None = None
    """the HelloRetryRequest that the offer answers"""
    retry_group: int | None = None


@internal_value
class Keyed:
    """ServerHello is in: keys protect what follows."""

    offer: Offer
    hello: ServerHello
    group: int
    retried: bool
    suite: Suite
    secrets: HandshakeSecrets


@internal_value
class WaitCertificate:
    keyed: Keyed
    alpn: bytes | None
    request: CertificateRequestInfo | None = None
    asked: x.Extensions = x.NO_EXTENSIONS
    """what came with the request"""


@internal_value
class WaitCertificateVerify:
    wait: WaitCertificate
    presented: PresentedCertificates


@internal_value
class WaitFinished:
    wait: WaitCertificate
    server: Authenticated


# ---- ClientHello -----------------------------------------------------------------------------------------------------


def begin(context: ClientContext, offer: Offer) -> Step:
    """Send the ClientHello (RFC 9846 §4.2.2)."""
    context.transcript.add(offer.raw)
    return Step(WaitServerHello(offer=offer), C.WAIT_SH, [SendMessage(Epoch.INITIAL, offer.raw)])


# ---- HelloRetryRequest, ServerHello ----------------------------------------------------------------------------------


def on_hello_retry_request(context: ClientContext, phase: WaitServerHello, hello: ServerHello, raw: bytes) -> Step:
    """Offer again, as the server asks (RFC 9846 §4.2.4). A second request is unexpected_message."""
    if phase.retry is not None:
        # The table allows one arrow for both; that it is taken once only is known from the phase.
        raise _second_retry()
    offer = phase.offer
    negotiate.check_server_version(hello)
    negotiate.check_server_hello_fields(hello, offer.hello.legacy_session_id, offer.suites)
    decoded = x.decode_extensions(x.M.HRR, hello.extensions, requested=offer.requested)
    group = decoded.get(x.SELECTED_GROUP)
    cookie = decoded.get(x.COOKIE)
    if group is not None:
        if group not in offer.groups:
            raise IllegalParameter(
                f"HelloRetryRequest asks for {group_name(group)}, which was not offered", rfc="9846 §4.3.8"
            )
        if group in offer.exchanges:
            raise IllegalParameter(
                f"HelloRetryRequest asks for {group_name(group)}, whose share was sent", rfc="9846 §4.3.8"
            )
    elif cookie is None:
        raise IllegalParameter("HelloRetryRequest would change nothing", rfc="9846 §4.2.4")
    suite = context.config.suite_table[hello.cipher_suite]
    context.transcript.replace_by_message_hash(suite)
    context.transcript.add(raw)
    second = retried_offer(context.config, offer, group, cookie)
    context.transcript.add(second.raw)
    if context.trace is not None:
        asked = "a cookie" if group is None else group_name(group)
        context.chose("retry", asked, "the server asked for it in HelloRetryRequest")
    actions: list[Action] = [SendMessage(Epoch.INITIAL, second.raw)]
    if context.config.middlebox_compatibility:
        actions.insert(0, SendChangeCipherSpec())
    return Step(WaitServerHello(offer=second, retry=hello, retry_group=group), C.WAIT_SH, actions)


def _second_retry() -> UnexpectedMessage:
    return UnexpectedMessage("a second HelloRetryRequest", rfc="9846 §4.2.4")


def on_server_hello(context: ClientContext, phase: WaitServerHello, hello: ServerHello, raw: bytes) -> Step:
    """Finish the key exchange; from here on all is protected (RFC 9846 §4.2.3)."""
    offer, retry = phase.offer, phase.retry
    negotiate.check_server_version(hello, retried=retry is not None)
    negotiate.check_server_hello_fields(hello, offer.hello.legacy_session_id, offer.suites)
    decoded = x.decode_extensions(x.M.SH, hello.extensions, requested=offer.requested)
    if retry is not None and hello.cipher_suite != retry.cipher_suite:
        raise IllegalParameter(
            f"ServerHello has {suite_name(hello.cipher_suite)}, HelloRetryRequest had {suite_name(retry.cipher_suite)}",
            rfc="9846 §4.2.4",
        )
    share = decoded.get(x.KEY_SHARE)
    if share is None:
        raise MissingExtension("ServerHello has no key_share", rfc="9846 §4.2.3")
    exchange = offer.exchanges.get(share.group)
    if exchange is None:
        raise IllegalParameter(
            f"ServerHello has a share for {group_name(share.group)}, for which none was sent", rfc="9846 §4.3.8"
        )
    if phase.retry_group is not None and share.group != phase.retry_group:
        raise IllegalParameter("ServerHello has another group than HelloRetryRequest", rfc="9846 §4.3.8")
    suite = context.config.suite_table[hello.cipher_suite]
    shared_secret = exchange.finish(share.key_exchange)
    context.transcript.choose(suite)
    context.transcript.add(raw)
    if context.trace is not None:
        _tell_server_hello(context, offer, suite, share.group, retried=retry is not None)
        tell_shared_secret(context, share.group, exchange.public, share.key_exchange, shared_secret)
    secrets = handshake_secrets(context, suite, shared_secret)
    keyed = Keyed(offer=offer, hello=hello, group=share.group, retried=retry is not None, suite=suite, secrets=secrets)
    actions: list[Action] = []
    if context.config.middlebox_compatibility and retry is None:
        actions.append(SendChangeCipherSpec())
    actions.append(InstallKeys(Direction.RECEIVED, secrets.server, "server_handshake_traffic_secret"))
    actions.append(InstallKeys(Direction.SENT, secrets.client, "client_handshake_traffic_secret"))
    return Step(keyed, C.WAIT_EE, actions)


def _tell_server_hello(context: ClientContext, offer: Offer, suite: Suite, group: int, *, retried: bool) -> None:
    context.chose("version", "TLS 1.3", "the only one offered", ("TLS 1.3",))
    context.chose(
        "cipher_suite", suite.name, "the server's choice of those offered", tuple(map(suite_name, offer.suites))
    )
    reason = "the server asked for it" if retried else "the server's choice of the shares sent"
    context.chose("group", group_name(group), reason, tuple(map(group_name, offer.groups)))


# ---- EncryptedExtensions, CertificateRequest -------------------------------------------------------------------------


def on_encrypted_extensions(context: ClientContext, phase: Keyed, message: EncryptedExtensions, raw: bytes) -> Step:
    """Take what the server answers under protection (RFC 9846 §4.4.1)."""
    offer = phase.offer
    decoded = x.decode_extensions(x.M.EE, message.extensions, requested=offer.requested)
    alpn = decoded.get(x.ALPN_SELECTED)
    if alpn is not None and alpn not in offer.alpn:
        raise IllegalParameter("the server chose an application protocol that was not offered", rfc="7301 §3.2")
    context.transcript.add(raw)
    if context.trace is not None and offer.alpn:
        chosen = "none" if alpn is None else alpn.decode("utf-8", "backslashreplace")
        reason = "the server does not answer ALPN" if alpn is None else "the server's choice of those offered"
        context.chose("alpn", chosen, reason, tuple(name.decode() for name in offer.alpn))
    return Step(WaitCertificate(keyed=phase, alpn=alpn), C.WAIT_CERT_CR, [])


def on_certificate_request(
    context: ClientContext, phase: WaitCertificate, message: CertificateRequest, raw: bytes
) -> Step:
    """Note what the server accepts from a client (RFC 9846 §4.4.2). Answered after the server's Finished."""
    if message.certificate_request_context:
        raise IllegalParameter("certificate_request_context is not empty in the handshake", rfc="9846 §4.4.2")
    decoded = x.decode_extensions(x.M.CR, message.extensions)
    schemes = decoded.get(x.SIGNATURE_ALGORITHMS)
    if schemes is None:
        raise MissingExtension("CertificateRequest has no signature_algorithms", rfc="9846 §4.4.2")
    context.transcript.add(raw)
    authorities = decoded.get(x.CERTIFICATE_AUTHORITIES) or ()
    request = CertificateRequestInfo(signature_schemes=schemes, authorities=authorities)
    return Step(replace(phase, request=request, asked=decoded), C.WAIT_CERT, [])


# ---- the server's Certificate, CertificateVerify, Finished -----------------------------------------------------------


def on_certificate(context: ClientContext, phase: WaitCertificate, message: Certificate, raw: bytes) -> Step:
    """Count and parse the server's certificates (RFC 9846 §4.5.1). They are judged once its signature is in."""
    if context.trace is not None and raw[0] == H.CERTIFICATE:
        tell_uncompressed(context)
    presented = read_certificate(context, message, phase.keyed.offer.requested)
    if presented is None:
        raise DecodeError("the server's certificate_list is empty", rfc="9846 §4.5.1.3")
    context.transcript.add(raw)
    return Step(WaitCertificateVerify(wait=phase, presented=presented), C.WAIT_CV, [])


def on_compressed_certificate(
    context: ClientContext, phase: WaitCertificate, message: CompressedCertificate, raw: bytes
) -> Step:
    """The same, compressed. The transcript has it as it was sent (RFC 8879 §4)."""
    return on_certificate(context, phase, decompressed(context, message), raw)


def on_certificate_verify(
    context: ClientContext, phase: WaitCertificateVerify, message: CertificateVerify, raw: bytes
) -> Result:
    """Check the signature and the chain (RFC 9846 §4.5.2, §4.5.1.3)."""
    verifier = context.config.peer_verifier
    if verifier is None:
        raise InternalError("a client without a verifier has come as far as CertificateVerify")

    def verified(server: Authenticated) -> Step:
        context.transcript.add(raw)
        return Step(WaitFinished(wait=phase.wait, server=server), C.WAIT_FINISHED, [])

    reference = phase.wait.keyed.offer.reference_name
    return check_certificate_verify(context, Role.SERVER, phase.presented, message, verifier, reference, verified)


def on_finished(context: ClientContext, phase: WaitFinished, message: Finished, raw: bytes) -> Result:
    """Check the server's Finished, answer with our own flight (RFC 9846 §4.5.3)."""
    keyed = phase.wait.keyed
    proof = check_finished(context, Role.SERVER, keyed.secrets.server, context.transcript.digest(), message)
    context.transcript.add(raw)
    secrets = application_secrets(context, keyed.secrets)
    if phase.wait.request is None:
        return _second_flight(context, phase, proof, secrets, None, None, [])
    return _with_client_certificate(context, phase, proof, secrets, phase.wait.request)


# ---- our second flight -----------------------------------------------------------------------------------------------


def _with_client_certificate(
    context: ClientContext,
    phase: WaitFinished,
    proof: FinishedChecked,
    secrets: ApplicationSecrets,
    request: CertificateRequestInfo,
) -> Result:
    def chosen(credential: Credential | None) -> Result:
        scheme = None
        if credential is not None:
            if not isinstance(credential, Credential):
                raise InternalError("the answer to NeedCredential is a Credential or None")
            scheme = negotiate.signature_scheme(context.config.verifier_table, credential, request.signature_schemes)
        if credential is None or scheme is None:
            credential = None
        if context.trace is not None:
            why = "asked for by the server" if credential is not None else "none fits what the server accepts"
            context.chose("client_certificate", "sent" if credential is not None else "none", why)
        raw = certificate_message(context, credential, phase.wait.asked)
        context.transcript.add(raw)
        actions: list[Action] = [SendMessage(Epoch.HANDSHAKE, raw)]
        if credential is None or scheme is None:
            return _second_flight(context, phase, proof, secrets, None, None, actions)

        def signed(signature: bytes) -> Step:
            context.transcript.add(signature)
            actions.append(SendMessage(Epoch.HANDSHAKE, signature))
            return _second_flight(context, phase, proof, secrets, credential, scheme, actions)

        return sign_certificate_verify(context, credential, scheme, signed)

    resolver = context.config.credential_resolver
    if resolver is None:
        return chosen(choose_client_credential(context.config, request))
    answer = resolver(request)
    if answer is PENDING:
        return Pause(NeedCredential(request), chosen)
    return chosen(answer)


def choose_client_credential(config: ClientConfig, request: CertificateRequestInfo) -> Credential | None:
    """Return the first credential that the server can check, one of its CAs' before others (RFC 9846 §4.5.1.2)."""
    usable = [
        credential
        for credential in config.credentials
        if negotiate.signature_scheme(config.verifier_table, credential, request.signature_schemes) is not None
    ]
    if request.authorities:
        for credential in usable:
            if credential.issuers & frozenset(request.authorities):
                return credential
    return usable[0] if usable else None


def _second_flight(
    context: ClientContext,
    phase: WaitFinished,
    proof: FinishedChecked,
    secrets: ApplicationSecrets,
    credential: Credential | None,
    scheme: int | None,
    actions: list[Action],
) -> Step:
    wait, keyed = phase.wait, phase.wait.keyed
    finished = finished_message(keyed.secrets.client, context.transcript.digest())
    context.transcript.add(finished)
    negotiated = Negotiated(
        cipher_suite=keyed.suite.code,
        group=keyed.group,
        signature_scheme=phase.server.signature.scheme,
        client_signature_scheme=scheme,
        alpn=None if wait.alpn is None else wait.alpn.decode("utf-8", "backslashreplace"),
        server_name=keyed.offer.reference_name,
        retried=keyed.retried,
        client_random=keyed.offer.hello.random,
        server_random=keyed.hello.random,
        peer=phase.server.peer,
        local_certificates=() if credential is None else credential.chain,
        peer_ocsp_response=phase.server.ocsp_response,
        peer_scts=phase.server.scts,
    )
    actions += [
        SendMessage(Epoch.HANDSHAKE, finished),
        InstallKeys(Direction.SENT, secrets.client, secret_name(Role.CLIENT, 0)),
        InstallKeys(Direction.RECEIVED, secrets.server, secret_name(Role.SERVER, 0)),
        Complete(negotiated=negotiated, authentication=phase.server, finished=proof, exporter_secret=secrets.exporter),
    ]
    connected = Connected(C.CONNECTED, sending=secrets.client, receiving=secrets.server)
    return Step(connected, C.CONNECTED, actions)


HANDLERS: Final[dict[tuple[State, int], Handler]] = {
    (C.WAIT_SH, H.HELLO_RETRY_REQUEST): on_hello_retry_request,
    (C.WAIT_SH, H.SERVER_HELLO): on_server_hello,
    (C.WAIT_EE, H.ENCRYPTED_EXTENSIONS): on_encrypted_extensions,
    (C.WAIT_CERT_CR, H.CERTIFICATE_REQUEST): on_certificate_request,
    (C.WAIT_CERT_CR, H.CERTIFICATE): on_certificate,
    (C.WAIT_CERT_CR, H.COMPRESSED_CERTIFICATE): on_compressed_certificate,
    (C.WAIT_CERT, H.CERTIFICATE): on_certificate,
    (C.WAIT_CERT, H.COMPRESSED_CERTIFICATE): on_compressed_certificate,
    (C.WAIT_CV, H.CERTIFICATE_VERIFY): on_certificate_verify,
    (C.WAIT_FINISHED, H.FINISHED): on_finished,
    (C.CONNECTED, H.NEW_SESSION_TICKET): on_new_session_ticket,
    (C.CONNECTED, H.KEY_UPDATE): on_key_update,
}
