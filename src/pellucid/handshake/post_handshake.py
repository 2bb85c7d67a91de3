"""Post-handshake authentication: a client shows its certificate after the handshake (RFC 9846 §4.7.2). Both sides.

Each request and its answer hang on a fork of the transcript, which ends with the client's Finished of the main
handshake (§4.5): they do not include each other. What has to be waited for stops nobody else.
"""

from __future__ import annotations

from dataclasses import field, replace
from typing import Any

from pellucid.config import ClientAuthentication, ClientConfig, Credential, ServerConfig
from pellucid.errors import CertificateRequired, IllegalParameter, InternalError, UnexpectedMessage, UsageError
from pellucid.handshake.actions import (
    Action,
    AnswerOnly,
    Authenticated,
    CertificateAsked,
    ClientAnswered,
    FinishedChecked,
    Negotiated,
    Pause,
    PauseAside,
    Result,
    SendMessage,
    Step,
    Unauthenticated,
)
from pellucid.handshake.authenticate import (
    PresentedCertificates,
    check_certificate_verify,
    check_finished,
    finished_message,
    read_certificate,
    sign_certificate_verify,
)
from pellucid.handshake.certificate_types import common_client_type
from pellucid.handshake.certificates import certificate_message, decompressed, tell_uncompressed
from pellucid.handshake.connected import Connected
from pellucid.handshake.core import Context
from pellucid.handshake.credentials import Choice, client_credential, read_certificate_request
from pellucid.handshake.negotiate import ClientOffer, suits_request
from pellucid.handshake.server_flight import certificate_request
from pellucid.handshake.states import ClientState as C
from pellucid.handshake.states import ServerState as S
from pellucid.handshake.tickets import Remembered, TicketSource, new_tickets
from pellucid.limits import MAX_OPEN_CERTIFICATE_REQUESTS
from pellucid.messages.handshake import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    CompressedCertificate,
    Finished,
    handshake_message,
)
from pellucid.registry import CertificateType, ExtensionType
from pellucid.registry import HandshakeType as H
from pellucid.trace import Epoch, Role
from pellucid.value import internal_value, positional_value

# ---- the client answers ----------------------------------------------------------------------------------------------


@internal_value
class _Prepared:
    """An answer but for its Finished. shown: what is in it, None for nothing."""

    messages: tuple[bytes, ...]
    shown: Credential | None


def client_state(config: ClientConfig, negotiated: Negotiated) -> C:
    """Return where a client waits after the handshake. Under an external PSK nobody may ask (§4.4.2)."""
    asked = config.post_handshake_auth and negotiated.psk_identity is None
    return C.CONNECTED_PHA if asked else C.CONNECTED


def on_certificate_request(
    context: Context[ClientConfig], phase: Connected, message: CertificateRequest, raw: bytes
) -> Step:
    """Answer with a certificate, or with none (RFC 9846 §4.7.2); at once, or when the credential and signature are in.

    Raises UnexpectedMessage for too many open requests, IllegalParameter for a context that is open already.
    """
    name = message.certificate_request_context
    if name in phase.asked:
        raise IllegalParameter("two CertificateRequests have the same context", rfc="9846 §4.4.2")
    if len(phase.asked) >= MAX_OPEN_CERTIFICATE_REQUESTS:
        raise UnexpectedMessage(
            f"more than {MAX_OPEN_CERTIFICATE_REQUESTS} CertificateRequests are open",
            rfc="9846 §4.7.2",
            code="TLS-MESSAGE-FLOOD",
        )
    info, asked = read_certificate_request(message, phase.client_certificate_type)
    info = replace(info, post_handshake=True)
    if context.closed:
        return Step(phase, phase.state, [CertificateAsked(info)])
    fork = context.fork()
    fork.transcript.add(raw)

    def chosen(choice: Choice | None) -> Result:
        certificate = certificate_message(
            fork, None if choice is None else choice.credential, asked, request_context=name
        )
        fork.transcript.add(certificate)
        if choice is None:
            return Step(_Prepared(messages=(certificate,), shown=None), phase.state, [])

        def signed(signature: bytes) -> Step:
            fork.transcript.add(signature)
            prepared = _Prepared(messages=(certificate, signature), shown=choice.credential)
            return Step(prepared, phase.state, [])

        return sign_certificate_verify(fork, choice.credential, choice.scheme, signed)

    result = client_credential(fork, info, chosen)
    step = _answered(context, fork, replace(phase, asked=phase.asked | {name}), name, result)
    return step._replace(actions=[CertificateAsked(info), *step.actions])


def _answered(
    context: Context[ClientConfig], fork: Context[ClientConfig], phase: Connected, name: bytes, result: Result
) -> Step:
    """Send the answer, all of it at once: its messages are consecutive on the wire (§4.7.2). Or wait aside.

    phase: the present one. The base key of Finished is the secret that the answer is sent under (§4.5).
    """
    if isinstance(result, Pause):
        need, resume = result
        return Step(
            phase,
            phase.state,
            [PauseAside(need, lambda present, answer: _answered(context, fork, present, name, resume(answer)))],
        )
    prepared = result.phase
    if not isinstance(prepared, _Prepared):
        raise InternalError("an answer to a CertificateRequest was prepared, and is none")
    phase = replace(phase, asked=phase.asked - {name})
    if context.closed:  # while we waited
        return Step(phase, phase.state, [])
    shown = prepared.shown
    if phase.resumption is not None and shown is not None:
        resumption = replace(
            phase.resumption, local_certificates=shown.chain, local_certificate_type=shown.certificate_type
        )
        phase = replace(phase, resumption=resumption)
    finished = finished_message(phase.sending, fork.transcript.digest())
    messages = (*prepared.messages, finished)
    return Step(phase, phase.state, [SendMessage(Epoch.APPLICATION, message) for message in messages])


# ---- the server asks -------------------------------------------------------------------------------------------------


@internal_value
class Request:
    """An open CertificateRequest. requested: extension types that the answer may have; required: none is no answer."""

    name: bytes
    raw: bytes = field(repr=False)
    requested: frozenset[int]
    required: bool


@internal_value
class Answer:
    """An answer as far as it has come. client: None until its chain is judged; finished: None until that is in.

    context: whose transcript is the answer's.
    """

    request: Request
    context: Context[ServerConfig] = field(repr=False)
    presented: PresentedCertificates | None
    client: Authenticated | Unauthenticated | None
    finished: FinishedChecked | None = field(default=None)


@positional_value
class Asking(Connected):
    """CONNECTED, at a server that may ask for a certificate.

    requests: open, oldest first.   made: how many there were ever.
    reading:  the answer whose messages are coming; None between answers.
    unjudged: answers that are complete, but for the verdict on their chains.
    certificate_type: what the client is asked to show (RFC 7250).
    source:   what tickets for an authenticated client are made of; None where it gets none.
    """

    requests: tuple[Request, ...] = ()
    made: int = 0
    reading: Answer | None = None
    unjudged: tuple[Answer, ...] = ()
    source: TicketSource | None = None
    certificate_type: int = CertificateType.X509


def server_phase(
    context: Context[ServerConfig],
    offer: ClientOffer,
    negotiated: Negotiated,
    connected: Connected,
    source: TicketSource | None,
) -> Connected:
    """Return *connected*, or what it is where the client's certificate may be asked for."""
    config = context.config
    offered = ExtensionType.POST_HANDSHAKE_AUTH in offer.extensions
    kind = common_client_type(config, offer.extensions)
    why = obstacle(config, negotiated) or ("" if offered else NOT_OFFERED) or ("" if kind is not None else _NO_TYPE)
    if context.trace is not None and (offered or config.peer_verifier is not None):
        context.chose(
            "post_handshake_auth", "none" if why else "possible", why or "the client offers it, and there is a verifier"
        )
    if why or kind is None:
        return connected
    if config.post_handshake_digest is None:
        source = None  # a ticket could not be bound to the verifier
    return Asking(connected.state, connected.sending, connected.receiving, source=source, certificate_type=kind)


NOT_OFFERED = "the client does not offer it"
_NO_TYPE = "the client has no type of certificate that is accepted here"


def obstacle(config: ServerConfig, negotiated: Negotiated) -> str:
    """Return why no client can be asked for a certificate after this handshake; "" if those can that offer it."""
    if config.peer_verifier is None:
        return "there is neither client_trust nor a verifier"
    if negotiated.psk_identity is not None:
        return "an external PSK authenticates (RFC 9846 §4.4.2)"
    return ""


def may_follow(phase: object) -> bool:
    """Whether a certificate may be asked for in *phase*: then the handshake's transcript is needed on."""
    return isinstance(phase, Asking) or (isinstance(phase, Connected) and phase.state is C.CONNECTED_PHA)


def request(context: Context[ServerConfig], phase: object, negotiated: Negotiated, *, required: bool) -> Step:
    """Ask for the client's certificate (RFC 9846 §4.7.2). required: an answer without one ends the connection.

    Raises UsageError where that is impossible, and while MAX_OPEN_CERTIFICATE_REQUESTS are open.
    """
    config = context.config
    if not isinstance(phase, Asking):
        why = obstacle(config, negotiated) or f"{NOT_OFFERED}, or {_NO_TYPE}"
        raise UsageError(f"no certificate can be asked for: {why}")
    reading = () if phase.reading is None else (phase.reading,)
    if len((*phase.requests, *reading, *phase.unjudged)) >= MAX_OPEN_CERTIFICATE_REQUESTS:
        raise UsageError(f"{MAX_OPEN_CERTIFICATE_REQUESTS} CertificateRequests are open already")
    # Unpredictable, so that nobody who has the client's key for a moment can answer in advance; unique in any case.
    name = context.provider.random(28) + phase.made.to_bytes(4, "big")
    message = certificate_request(config, name)
    raw = handshake_message(message)
    required = required or config.client_authentication is ClientAuthentication.REQUIRED
    made = Request(name=name, raw=raw, requested=suits_request(message.extensions), required=required)
    state = S.WAIT_PHA if phase.state is S.CONNECTED else phase.state
    phase = replace(phase, state=state, requests=(*phase.requests, made), made=phase.made + 1)
    return Step(phase, state, [SendMessage(Epoch.APPLICATION, raw)])


def last_request(phase: object) -> bytes:
    """Return the context of the request that was made last."""
    if not isinstance(phase, Asking) or not phase.requests:
        raise InternalError("there is no CertificateRequest")
    return phase.requests[-1].name


def on_certificate(context: Context[ServerConfig], phase: Asking, message: Certificate, raw: bytes) -> Step:
    """Take the client's certificates, or that it has none; the rest of the answer follows at once (§4.7.2).

    Raises IllegalParameter for an answer to no open request, CertificateRequired where none is no answer.
    """
    asked = next((one for one in phase.requests if one.name == message.certificate_request_context), None)
    if asked is None:
        raise IllegalParameter("a Certificate that answers no open CertificateRequest", rfc="9846 §4.5.1")
    if context.trace is not None and raw[0] == H.CERTIFICATE:
        tell_uncompressed(context)
    fork = context.fork()
    fork.transcript.add(asked.raw)
    presented = read_certificate(fork, message, asked.requested, phase.certificate_type, request_context=asked.name)
    fork.transcript.add(raw)
    if presented is None and asked.required:
        raise CertificateRequired("the client answered without a certificate", rfc="9846 §4.5.1.3")
    state = S.WAIT_PHA_FINISHED if presented is None else S.WAIT_PHA_CV
    client = Unauthenticated() if presented is None else None
    reading = Answer(request=asked, context=fork, presented=presented, client=client)
    remaining = tuple(one for one in phase.requests if one is not asked)
    return Step(replace(phase, state=state, requests=remaining, reading=reading), state, [AnswerOnly(begins=True)])


def on_compressed_certificate(
    context: Context[ServerConfig], phase: Asking, message: CompressedCertificate, raw: bytes
) -> Step:
    """The same, compressed. The transcript has it as it was sent (RFC 8879 §4)."""
    return on_certificate(context, phase, decompressed(context, message), raw)


def on_certificate_verify(
    context: Context[ServerConfig], phase: Asking, message: CertificateVerify, raw: bytes
) -> Step:
    """Check the client's signature and chain. Where the verifier takes its time, Finished is read meanwhile."""
    answer, verifier = phase.reading, context.config.peer_verifier
    if answer is None or answer.presented is None or verifier is None:
        raise InternalError("a CertificateVerify without a Certificate, or without a verifier")
    result = check_certificate_verify(
        answer.context,
        Role.CLIENT,
        answer.presented,
        message,
        verifier,
        None,
        lambda client: Step(client, S.WAIT_PHA_FINISHED, []),
    )
    answer.context.transcript.add(raw)
    phase = replace(phase, state=S.WAIT_PHA_FINISHED)
    if isinstance(result, Pause):
        need, resume = result
        aside = PauseAside(need, lambda present, report: _judged(context, present, answer.request, resume(report)))
        return Step(phase, phase.state, [aside])
    return _judged(context, phase, answer.request, result)


def _judged(context: Context[ServerConfig], phase: Asking, asked: Request, result: Result) -> Step:
    """Note who the client is; its answer is complete if Finished was right already."""
    client = result.phase if isinstance(result, Step) else None
    if not isinstance(client, Authenticated):
        raise InternalError("the verdict on a client is another question")
    if phase.reading is not None and phase.reading.request is asked:
        return Step(replace(phase, reading=replace(phase.reading, client=client)), phase.state, [])
    for answer in phase.unjudged:
        if answer.request is asked and answer.finished is not None:
            phase = replace(phase, unjudged=tuple(one for one in phase.unjudged if one is not answer))
            return _completed(context, phase, asked, client, answer.finished, [])
    raise InternalError("the verdict on a client that did not answer")


def on_finished(context: Context[ServerConfig], phase: Asking, message: Finished, raw: bytes) -> Step:
    """Check the answer's Finished: its base key is the secret that it came under (RFC 9846 §4.5, §4.5.3)."""
    answer = phase.reading
    if answer is None:
        raise InternalError("a Finished that ends no answer")
    proof = check_finished(context, Role.CLIENT, phase.receiving, answer.context.transcript.digest(), message)
    open_requests = bool(phase.requests)
    phase = replace(phase, state=S.WAIT_PHA if open_requests else S.CONNECTED, reading=None)
    ends = AnswerOnly(begins=False)
    if answer.client is None:
        phase = replace(phase, unjudged=(*phase.unjudged, replace(answer, finished=proof)))
        return Step(phase, phase.state, [ends])
    return _completed(context, phase, answer.request, answer.client, proof, [ends])


def _completed(
    context: Context[ServerConfig],
    phase: Asking,
    asked: Request,
    client: Authenticated | Unauthenticated,
    proof: FinishedChecked,
    actions: list[Action],
) -> Step:
    """Tell who the client is; a ticket that says so follows (§4.7.1)."""
    if context.trace is not None:
        known = isinstance(client, Authenticated)
        why = "it proved its key, asked after the handshake" if known else "asked after the handshake, it has none"
        context.chose("client_certificate", "accepted" if known else "none", why)
    actions.append(ClientAnswered(request_context=asked.name, authentication=client, finished=proof))
    source, digest = phase.source, context.config.post_handshake_digest
    if isinstance(client, Authenticated) and source is not None and digest is not None and not context.closed:
        remembered = Remembered(
            presented=client.presented,
            path=client.peer.chain,
            certificate_type=client.peer.certificate_type,
            # The keys are as old as the handshake: to show a certificate does not renew them (attack E25).
            authenticated_at=source.authenticated_at,
            signature_scheme=client.signature.scheme,
            verified=not client.peer.report.dangerous,
        )
        tickets = new_tickets(context, source, remembered, 1, binding=digest)
        phase = replace(phase, source=replace(source, sent=source.sent + len(tickets)))
        actions += tickets
        if context.trace is not None:
            sent = "sent" if tickets else "none"
            context.chose("ticket", sent, "what is resumed with it is the client that has just shown who it is")
    return Step(phase, phase.state, actions)


def handlers_of(role: Role) -> dict[tuple[Any, int], Any]:  # Any: as core.Handler, whose phases and bodies differ
    """Return this file's handlers, by state and message."""
    if role is Role.CLIENT:
        return {(C.CONNECTED_PHA, H.CERTIFICATE_REQUEST): on_certificate_request}
    return {
        (S.WAIT_PHA, H.CERTIFICATE): on_certificate,
        (S.WAIT_PHA, H.COMPRESSED_CERTIFICATE): on_compressed_certificate,
        (S.WAIT_PHA_CV, H.CERTIFICATE_VERIFY): on_certificate_verify,
        (S.WAIT_PHA_FINISHED, H.FINISHED): on_finished,
    }
