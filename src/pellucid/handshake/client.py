"""The client's handlers, in the order of the protocol (RFC 9846 §2, App. A.1); those of the hellos: client_hello.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pellucid.config import CertificateRequestInfo, Credential
from pellucid.errors import (
    DecodeError,
    IllegalParameter,
    InternalError,
)
from pellucid.handshake.actions import (
    Action,
    Authenticated,
    Complete,
    EarlyDataOutcome,
    EndEarlySending,
    FinishedChecked,
    InstallKeys,
    Negotiated,
    PskChecked,
    Result,
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
from pellucid.handshake.certificate_types import CertificateTypes, types_answered
from pellucid.handshake.certificates import certificate_message, decompressed, tell_uncompressed
from pellucid.handshake.client_hello import ClientContext, Keyed, on_hello_retry_request, on_server_hello
from pellucid.handshake.connected import Connected, on_key_update, on_new_session_ticket, secret_name
from pellucid.handshake.core import Handler, Table
from pellucid.handshake.credentials import Choice, client_credential, read_certificate_request
from pellucid.handshake.post_handshake import client_state, handlers_of
from pellucid.handshake.record_size import client_limits
from pellucid.handshake.secrets import (
    ApplicationSecrets,
    application_secrets,
    resumption_secret,
)
from pellucid.handshake.states import CLIENT_ARROWS, State
from pellucid.handshake.states import ClientState as C
from pellucid.handshake.tickets import ClientResumption, Remembered, recall_peer, server_of
from pellucid.messages import extensions as x
from pellucid.messages.handshake import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    CompressedCertificate,
    EncryptedExtensions,
    EndOfEarlyData,
    Finished,
    handshake_message,
)
from pellucid.registry import CertificateType
from pellucid.registry import HandshakeType as H
from pellucid.sessions.client import ClientSession
from pellucid.trace import Direction, Epoch, Role
from pellucid.value import positional_value

# ---- phases: what is known at that moment ----------------------------------------------------------------------------


@positional_value
class WaitCertificate:
    keyed: Keyed
    alpn: bytes | None
    early_data: EarlyDataOutcome
    types: CertificateTypes
    request: CertificateRequestInfo | None = None
    asked: x.Extensions = x.NO_EXTENSIONS
    """what came with the request"""


@positional_value
class WaitCertificateVerify:
    wait: WaitCertificate
    presented: PresentedCertificates


@positional_value
class WaitFinished:
    wait: WaitCertificate
    server: Authenticated | PskChecked


@positional_value
class WaitResumedFinished:
    """session: what the PSK stands for; its server is recalled when its Finished has come."""

    wait: WaitCertificate
    session: ClientSession


# ---- EncryptedExtensions, CertificateRequest -------------------------------------------------------------------------


def on_encrypted_extensions(context: ClientContext, phase: Keyed, message: EncryptedExtensions, raw: bytes) -> Step:
    """Take what the server answers under protection (RFC 9846 §4.4.1)."""
    offer = phase.offer
    decoded = x.decode_extensions(x.M.EE, message.extensions, requested=offer.requested)
    alpn = decoded.get(x.ALPN_SELECTED)
    if alpn is not None and alpn not in offer.alpn:
        raise IllegalParameter(
            "the server chose an application protocol that was not offered",
            rfc="7301 §3.2",
            code="TLS-ALPN-NOT-OFFERED",
        )
    context.transcript.add(raw)
    if context.trace is not None and offer.alpn:
        chosen = "none" if alpn is None else alpn.decode("utf-8", "backslashreplace")
        reason = "the server does not answer ALPN" if alpn is None else "the server's choice of those offered"
        context.chose("alpn", chosen, reason, tuple(name.decode() for name in offer.alpn))
    early_data, actions = _early_data_answered(context, phase, alpn, answered=x.EARLY_DATA.extension_type in decoded)
    limits = client_limits(context, decoded)
    if limits is not None:
        actions.insert(0, limits)
    psk = phase.psk
    types = types_answered(context, decoded, certificates=psk is None)
    wait = WaitCertificate(phase, alpn, early_data, types)
    if psk is None:
        return Step(wait, C.WAIT_CERT_CR, actions)

    if psk.session is None:
        return Step(WaitFinished(wait, PskChecked(None)), C.WAIT_FINISHED, actions)
    return Step(WaitResumedFinished(wait, psk.session), C.WAIT_FINISHED, actions)


def _early_data_answered(
    context: ClientContext, phase: Keyed, alpn: bytes | None, *, answered: bool
) -> tuple[EarlyDataOutcome, list[Action]]:
    """Return what has become of early data, and the change of keys if it was declined (RFC 9846 §4.3.10).

    IllegalParameter if it was accepted with another PSK, suite or protocol than it was sent with.
    """
    offer, psk = phase.offer, phase.psk
    if answered:
        if psk is None or psk.session is None or psk is not offer.psks[0]:
            raise IllegalParameter(
                "early data is accepted without the first PSK", rfc="9846 §4.3.11", code="TLS-EARLY-DATA"
            )
        if psk.session.cipher_suite != phase.suite.code:
            raise IllegalParameter(
                "early data is accepted with another cipher suite", rfc="9846 §4.3.10", code="TLS-EARLY-DATA"
            )
        if psk.session.alpn != (None if alpn is None else alpn.decode("utf-8", "backslashreplace")):
            raise IllegalParameter(
                "early data is accepted with another application protocol", rfc="9846 §4.3.10", code="TLS-EARLY-DATA"
            )
        outcome = EarlyDataOutcome.ACCEPTED
    else:
        outcome = phase.early_data
    if context.trace is not None and (offer.offers_early_data or outcome is EarlyDataOutcome.RETRIED):
        context.chose("early_data", "accepted" if answered else "rejected", outcome.value)
    if answered or outcome is not EarlyDataOutcome.DECLINED:
        return outcome, []
    keys = InstallKeys(Direction.SENT, phase.secrets.client, "client_handshake_traffic_secret")
    return outcome, [EndEarlySending(in_the_open=False), keys]


def on_certificate_request(
    context: ClientContext, phase: WaitCertificate, message: CertificateRequest, raw: bytes
) -> Step:
    """Note what the server accepts from a client (RFC 9846 §4.4.2). Answered after the server's Finished."""
    if message.certificate_request_context:
        raise IllegalParameter("certificate_request_context is not empty in the handshake", rfc="9846 §4.4.2")
    request, decoded = read_certificate_request(message, phase.types.client)
    context.transcript.add(raw)
    return Step(replace(phase, request=request, asked=decoded), C.WAIT_CERT, [])


# ---- the server's Certificate, CertificateVerify, Finished -----------------------------------------------------------


def on_certificate(context: ClientContext, phase: WaitCertificate, message: Certificate, raw: bytes) -> Step:
    """Count and parse the server's certificates (RFC 9846 §4.5.1). They are judged once its signature is in."""
    if context.trace is not None and raw[0] == H.CERTIFICATE:
        tell_uncompressed(context)
    presented = read_certificate(context, message, phase.keyed.offer.requested, phase.types.server)
    if presented is None:
        raise DecodeError("the server's certificate_list is empty", rfc="9846 §4.5.1.3", code="TLS-EMPTY-CERTIFICATE")
    context.transcript.add(raw)
    return Step(WaitCertificateVerify(phase, presented), C.WAIT_CV, [])


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
        return Step(WaitFinished(phase.wait, server), C.WAIT_FINISHED, [])

    reference = phase.wait.keyed.offer.reference_name
    return check_certificate_verify(context, Role.SERVER, phase.presented, message, verifier, reference, verified)


def on_finished(
    context: ClientContext, phase: WaitFinished | WaitResumedFinished, message: Finished, raw: bytes
) -> Result:
    """Check the server's Finished, answer with our own flight (RFC 9846 §4.5.3)."""
    keyed = phase.wait.keyed
    proof = check_finished(context, Role.SERVER, keyed.secrets.server, context.transcript.digest(), message)
    context.transcript.add(raw)
    secrets = application_secrets(context, keyed.secrets)
    if isinstance(phase, WaitFinished):
        return _answer(context, phase, proof, secrets)

    def recalled(server: PskChecked) -> Result:
        return _answer(context, WaitFinished(phase.wait, server), proof, secrets)

    if keyed.recalled is not None and phase.wait.early_data is EarlyDataOutcome.ACCEPTED:
        return recalled(keyed.recalled)  # as it was judged before anything was sent early
    # Not before now: an alert under early keys would be lost on a server that declined early data. Whoever declined it
    # is judged at this time, as a server that was offered none is.
    return recall_peer(context, server_of(phase.session), keyed.offer.reference_name, recalled)


def _answer(context: ClientContext, phase: WaitFinished, proof: FinishedChecked, secrets: ApplicationSecrets) -> Result:
    if phase.wait.request is None:
        return _second_flight(context, phase, proof, secrets, None, None, _end_of_early_data(context, phase.wait))
    return _with_client_certificate(context, phase, proof, secrets, phase.wait.request)


def _end_of_early_data(context: ClientContext, wait: WaitCertificate) -> list[Action]:
    """Return EndOfEarlyData and the change to the handshake keys, if early data was accepted (RFC 9846 §4.6)."""
    if wait.early_data is not EarlyDataOutcome.ACCEPTED:
        return []
    raw = handshake_message(EndOfEarlyData())
    context.transcript.add(raw)
    return [
        EndEarlySending(in_the_open=False),
        SendMessage(Epoch.EARLY, raw),
        InstallKeys(Direction.SENT, wait.keyed.secrets.client, "client_handshake_traffic_secret"),
    ]


# ---- our second flight -----------------------------------------------------------------------------------------------


def _with_client_certificate(
    context: ClientContext,
    phase: WaitFinished,
    proof: FinishedChecked,
    secrets: ApplicationSecrets,
    request: CertificateRequestInfo,
) -> Result:
    def chosen(choice: Choice | None) -> Result:
        raw = certificate_message(context, None if choice is None else choice.credential, phase.wait.asked)
        context.transcript.add(raw)
        actions: list[Action] = [SendMessage(Epoch.HANDSHAKE, raw)]
        if choice is None:
            return _second_flight(context, phase, proof, secrets, None, None, actions)
        credential, scheme, _ = choice

        def signed(signature: bytes) -> Step:
            context.transcript.add(signature)
            actions.append(SendMessage(Epoch.HANDSHAKE, signature))
            return _second_flight(context, phase, proof, secrets, credential, scheme, actions)

        return sign_certificate_verify(context, credential, scheme, signed)

    return client_credential(context, request, chosen)


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
    session = keyed.psk.session if keyed.psk is not None else None
    remembered = _remembered_server(context, phase.server, session)
    negotiated = _negotiated(phase, remembered, credential, scheme)
    actions += [
        SendMessage(Epoch.HANDSHAKE, finished),
        InstallKeys(Direction.SENT, secrets.client, secret_name(Role.CLIENT, 0)),
        InstallKeys(Direction.RECEIVED, secrets.server, secret_name(Role.SERVER, 0)),
        Complete(negotiated, phase.server, proof, secrets.exporter),
    ]
    resumption = None
    peer = negotiated.peer
    if context.config.session_store is not None and not (peer is not None and peer.report.dangerous):
        # A peer that nobody verified is not remembered as one that was.
        secret = resumption_secret(context, secrets)
        resumption = ClientResumption(
            suite=keyed.suite,
            secret=secret,
            alpn=negotiated.alpn,
            peer=remembered,
            local_certificates=negotiated.local_certificates,
            local_certificate_type=negotiated.client_certificate_type or CertificateType.X509,
        )
    state = client_state(context.config, negotiated)
    connected = Connected(state, secrets.client, secrets.server, False, resumption, frozenset(), wait.types.client)
    return Step(connected, state, actions)


def _negotiated(
    phase: WaitFinished, remembered: Remembered, credential: Credential | None, scheme: int | None
) -> Negotiated:
    """Return what was agreed. credential: what we have just shown, with what scheme; None: nothing, or a PSK."""
    wait, keyed = phase.wait, phase.wait.keyed
    session = keyed.psk.session if keyed.psk is not None else None
    own, own_type = ((), None) if credential is None else (credential.chain, credential.certificate_type)
    if session is not None:
        own, own_type = session.local_certificates, session.local_certificate_type
    return Negotiated(
        cipher_suite=keyed.suite.code,
        group=keyed.group,
        signature_scheme=remembered.signature_scheme,
        client_signature_scheme=scheme,
        server_certificate_type=remembered.certificate_type if remembered.presented else None,
        client_certificate_type=own_type if own else None,
        alpn=None if wait.alpn is None else wait.alpn.decode("utf-8", "backslashreplace"),
        server_name=keyed.offer.reference_name,
        retried=keyed.retried,
        client_random=keyed.offer.hello.random,
        server_random=keyed.hello.random,
        peer=phase.server.peer,
        local_certificates=own,
        resumed=session is not None,
        psk_identity=keyed.psk.psk.identity if keyed.psk is not None and session is None else None,
        early_data=wait.early_data,
        authenticated_at=None if session is None else session.authenticated_at,
        peer_ocsp_response=remembered.ocsp_response,
        peer_scts=remembered.scts,
        peer_certificates=remembered.presented,
    )


def _remembered_server(
    context: ClientContext, server: Authenticated | PskChecked, session: ClientSession | None
) -> Remembered:
    """Return what a session keeps of the server: of this handshake, or of the one that the session began with."""
    if session is not None:
        return server_of(session)
    if not isinstance(server, Authenticated):
        return Remembered(authenticated_at=context.provider.now())
    return Remembered(
        presented=server.presented,
        path=server.peer.chain,
        certificate_type=server.peer.certificate_type,
        authenticated_at=context.provider.now(),
        signature_scheme=server.signature.scheme,
        ocsp_response=server.ocsp_response,
        scts=server.scts,
    )


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
    (C.CONNECTED_PHA, H.NEW_SESSION_TICKET): on_new_session_ticket,
    (C.CONNECTED_PHA, H.KEY_UPDATE): on_key_update,
    **handlers_of(Role.CLIENT),
}

TABLE: Final = Table(CLIENT_ARROWS, HANDLERS)
