"""The server's handlers, in the order of the protocol (RFC 9846 §2, App. A.2)."""

from __future__ import annotations

from dataclasses import field
from typing import Final

from pellucid.config import ClientAuthentication, ClientHelloInfo, Credential, ServerConfig
from pellucid.crypto.provider import PENDING, Group, Suite
from pellucid.errors import CertificateRequired, IllegalParameter, InternalError
from pellucid.handshake import cookie as cookies
from pellucid.handshake import negotiate
from pellucid.handshake.actions import (
    Action,
    Authenticated,
    Complete,
    InstallKeys,
    NeedCredential,
    Negotiated,
    Pause,
    Result,
    SendChangeCipherSpec,
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
from pellucid.handshake.certificates import (
    certificate_message,
    client_certificate_extensions,
    decompressed,
    tell_uncompressed,
)
from pellucid.handshake.connected import Connected, on_key_update, secret_name
from pellucid.handshake.cookie import Retry
from pellucid.handshake.core import Context, Handler
from pellucid.handshake.negotiate import ClientOffer
from pellucid.handshake.secrets import (
    ApplicationSecrets,
    HandshakeSecrets,
    application_secrets,
    handshake_secrets,
    tell_shared_secret,
)
from pellucid.handshake.states import ServerState as S
from pellucid.handshake.states import State
from pellucid.limits import MAX_CERTIFICATE_AUTHORITIES
from pellucid.messages import extensions as x
from pellucid.messages.extensions import KeyShareEntry
from pellucid.messages.handshake import (
    HELLO_RETRY_REQUEST_RANDOM,
    Certificate,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    CompressedCertificate,
    EncryptedExtensions,
    Extension,
    Finished,
    ServerHello,
    handshake_message,
)
from pellucid.registry import TLS_1_2, TLS_1_3, ExtensionType, group_name, scheme_name, suite_name
from pellucid.registry import HandshakeType as H
from pellucid.trace import Direction, Epoch, Role
from pellucid.value import internal_value

ServerContext = Context[ServerConfig]


# ---- phases: what is known at that moment ----------------------------------------------------------------------------


@internal_value
class WaitClientHello:
    """peer_address: what cookies are bound to. retry: what we asked for, if we did."""

    peer_address: str
    retry: Retry | None = None


@internal_value
class Selected:
    """Everything chosen before the first secret exists."""

    offer: ClientOffer
    suite: Suite
    group: Group
    alpn: bytes | None
    retried: bool


@internal_value
class Answered:
    """Our flight is sent. server_random: ours; credential, scheme: how we showed who we are."""

    selected: Selected
    server_random: bytes
    credential: Credential
    scheme: int
    handshake: HandshakeSecrets
    application: ApplicationSecrets
    requested: frozenset[int] = field(default=frozenset())


@internal_value
class WaitCertificateVerify:
    answered: Answered
    presented: PresentedCertificates


@internal_value
class WaitFinished:
    answered: Answered
    client: Authenticated | Unauthenticated


# ---- ClientHello -----------------------------------------------------------------------------------------------------


def on_client_hello(context: ServerContext, phase: WaitClientHello, hello: ClientHello, raw: bytes) -> Result:
    """Choose, and answer with ServerHello … Finished, or ask again with HelloRetryRequest (RFC 9846 §4.2)."""
    config = context.config
    offer = negotiate.read_client_hello(hello)
    suite, suite_reason = negotiate.choose_suite(config, hello)
    retry = _retry_answered(context, phase, offer)
    if retry is None:
        group, group_reason = negotiate.choose_group(config, offer)
        if group.code not in offer.shares or config.always_retry:
            return _ask_again(context, phase, offer, suite, group, group_reason, raw)
        context.transcript.choose(suite)
    else:
        suite, group, group_reason = _after_retry(context, retry, offer, suite)
    context.transcript.add(raw)
    selected = Selected(
        offer=offer, suite=suite, group=group, alpn=negotiate.choose_alpn(config, offer), retried=retry is not None
    )
    if context.trace is not None:
        _tell_selection(context, selected, suite_reason, group_reason)
    return _choose_credential(context, selected)


def _retry_answered(context: ServerContext, phase: WaitClientHello, offer: ClientOffer) -> Retry | None:
    """Return the retry that this ClientHello answers, ours or one its cookie tells of; None for a first one."""
    cookie = offer.extensions.get(x.COOKIE)
    if phase.retry is not None:
        if cookie != phase.retry.cookie:
            raise IllegalParameter("the second ClientHello does not echo the cookie", rfc="9846 §4.3.2")
        if cookie is not None and context.config.cookie_key is not None:
            return cookies.unseal(context.config, context.config.cookie_key, cookie, phase.peer_address)
        return phase.retry
    if cookie is None:
        return None
    if context.config.cookie_key is None:
        raise IllegalParameter("a cookie in a first ClientHello", rfc="9846 §4.3.2")
    retry = cookies.unseal(context.config, context.config.cookie_key, cookie, phase.peer_address)
    suite = context.config.suite_table.get(retry.cipher_suite)
    if suite is None:
        raise IllegalParameter("the cookie names a cipher suite that is not enabled here", rfc="9846 §4.3.2")
    # The HelloRetryRequest is made again from what the cookie keeps: a server need not have stored anything.
    context.transcript.restore(suite, retry.client_hello_hash)
    context.transcript.add(_hello_retry_request(offer.hello.legacy_session_id, retry))
    return retry


def _after_retry(context: ServerContext, retry: Retry, offer: ClientOffer, suite: Suite) -> tuple[Suite, Group, str]:
    """Return suite and group of a retried handshake. IllegalParameter if the client changed its mind (§4.2.2)."""
    if ExtensionType.EARLY_DATA in offer.extensions:
        raise IllegalParameter("the second ClientHello has early_data", rfc="9846 §4.2.2")
    if cookies.unchanged_digest(offer.hello, retry.group) != retry.unchanged:
        raise IllegalParameter("the second ClientHello differs where it must not", rfc="9846 §4.2.2")
    if suite.code != retry.cipher_suite:
        raise IllegalParameter("the second ClientHello leads to another cipher suite", rfc="9846 §4.2.4")
    if retry.group is None:
        group, reason = negotiate.choose_group(context.config, offer)
        if group.code not in offer.shares:
            raise IllegalParameter("the second ClientHello lost the share that the first had", rfc="9846 §4.2.2")
        return suite, group, reason
    if tuple(offer.shares) != (retry.group,):
        raise IllegalParameter(
            f"the second ClientHello has other shares than one for {group_name(retry.group)}", rfc="9846 §4.2.2"
        )
    group_asked = context.config.group_table.get(retry.group)
    if group_asked is None:
        raise IllegalParameter("the cookie names a group that is not enabled here", rfc="9846 §4.3.2")
    return suite, group_asked, "asked for in HelloRetryRequest"


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
        selected.group.name,
        group_reason,
        tuple(map(group_name, config.groups)),
        tuple(map(group_name, offer.groups)),
    )
    if offer.alpn or config.alpn:
        alpn = selected.alpn
        context.chose(
            "alpn",
            "none" if alpn is None else alpn.decode("utf-8", "backslashreplace"),
            "one side names no protocol" if alpn is None else "the first of ours that the client offers",
            config.alpn,
            tuple(name.decode("utf-8", "backslashreplace") for name in offer.alpn),
        )


# ---- HelloRetryRequest -----------------------------------------------------------------------------------------------


def _ask_again(
    context: ServerContext,
    phase: WaitClientHello,
    offer: ClientOffer,
    suite: Suite,
    group: Group,
    reason: str,
    raw: bytes,
) -> Step:
    config = context.config
    context.transcript.add(raw)
    wanted = None if group.code in offer.shares else group.code
    retry = Retry(
        cipher_suite=suite.code,
        group=wanted,
        client_hello_hash=context.transcript.replace_by_message_hash(suite),
        unchanged=cookies.unchanged_digest(offer.hello, wanted),
        cookie=None,
    )
    if config.cookie_key is not None:
        cookie = cookies.seal(config, config.cookie_key, retry, phase.peer_address)
        retry = Retry(retry.cipher_suite, retry.group, retry.client_hello_hash, retry.unchanged, cookie)
    request = _hello_retry_request(offer.hello.legacy_session_id, retry)
    context.transcript.add(request)
    if context.trace is not None:
        asked = "a cookie" if retry.group is None else group.name
        context.chose("retry", asked, reason if retry.group is not None else "every client has to show its address")
    actions: list[Action] = [SendMessage(Epoch.INITIAL, request)]
    if config.middlebox_compatibility and offer.hello.legacy_session_id:
        actions.append(SendChangeCipherSpec())
    return Step(WaitClientHello(peer_address=phase.peer_address, retry=retry), S.START, actions)


def _hello_retry_request(session_id: bytes, retry: Retry) -> bytes:
    extensions = [x.SELECTED_VERSION.extension(TLS_1_3)]
    if retry.group is not None:
        extensions.append(x.SELECTED_GROUP.extension(retry.group))
    if retry.cookie is not None:
        extensions.append(x.COOKIE.extension(retry.cookie))
    return _server_hello(HELLO_RETRY_REQUEST_RANDOM, session_id, retry.cipher_suite, tuple(extensions))


def _server_hello(random: bytes, session_id: bytes, suite: int, extensions: tuple[Extension, ...]) -> bytes:
    return handshake_message(
        ServerHello(
            legacy_version=TLS_1_2,
            random=random,
            legacy_session_id_echo=session_id,
            cipher_suite=suite,
            legacy_compression_method=0,
            extensions=extensions,
        )
    )


# ---- our credential --------------------------------------------------------------------------------------------------


def _choose_credential(context: ServerContext, selected: Selected) -> Result:
    config, offer = context.config, selected.offer

    def chosen(credential: Credential | None) -> Result:
        reason = "the resolver's answer"
        if credential is None:
            credential, reason = negotiate.choose_credential(config, offer)
        elif not isinstance(credential, Credential):
            raise InternalError("the answer to NeedCredential is a Credential or None")
        scheme = negotiate.signature_scheme(config.verifier_table, credential, offer.signature_schemes)
        if scheme is None:
            raise negotiate.no_scheme(offer.signature_schemes)
        if context.trace is not None:
            context.chose("credential", ", ".join(credential.names) or credential.leaf.key_algorithm, reason)
            context.chose(
                "signature_scheme",
                scheme_name(scheme),
                "the first that its key can make and the client accepts",
                tuple(map(scheme_name, credential.signer.schemes)),
                tuple(map(scheme_name, offer.signature_schemes)),
            )
        return _answer(context, selected, credential, scheme)

    if config.credential_resolver is None:
        return chosen(None)
    request = ClientHelloInfo(
        server_name=offer.server_name,
        alpn=offer.alpn,
        cipher_suites=offer.hello.cipher_suites,
        groups=offer.groups,
        signature_schemes=offer.signature_schemes,
    )
    answer = config.credential_resolver(request)
    if answer is PENDING:
        return Pause(NeedCredential(request), chosen)
    return chosen(answer)


# ---- ServerHello … Finished ------------------------------------------------------------------------------------------


def _answer(context: ServerContext, selected: Selected, credential: Credential, scheme: int) -> Result:
    transcript, offer, group = context.transcript, selected.offer, selected.group
    peer_share = offer.shares[group.code]
    public, shared_secret = group.respond(peer_share)
    server_random = context.provider.random(32)
    extensions = (x.SELECTED_VERSION.extension(TLS_1_3), x.KEY_SHARE.extension(KeyShareEntry(group.code, public)))
    hello = _server_hello(server_random, offer.hello.legacy_session_id, selected.suite.code, extensions)
    transcript.add(hello)
    if context.trace is not None:
        tell_shared_secret(context, group.code, public, peer_share, shared_secret)
    secrets = handshake_secrets(context, selected.suite, shared_secret)
    actions: list[Action] = [SendMessage(Epoch.INITIAL, hello)]
    if context.config.middlebox_compatibility and offer.hello.legacy_session_id and not selected.retried:
        actions.append(SendChangeCipherSpec())
    actions.append(InstallKeys(Direction.SENT, secrets.server, "server_handshake_traffic_secret"))
    actions.append(InstallKeys(Direction.RECEIVED, secrets.client, "client_handshake_traffic_secret"))

    flight = [_encrypted_extensions(context, selected, credential)]
    requested: frozenset[int] = frozenset()
    asks = context.config.client_authentication is not ClientAuthentication.NONE
    if asks:
        request = _certificate_request(context.config)
        requested = negotiate.suits_request(request.extensions)
        flight.append(handshake_message(request))
    flight.append(certificate_message(context, credential, offer.extensions))
    for message in flight:
        transcript.add(message)

    def signed(verify: bytes) -> Step:
        transcript.add(verify)
        finished = finished_message(secrets.server, transcript.digest())
        transcript.add(finished)
        application = application_secrets(context, secrets)
        actions.extend(SendMessage(Epoch.HANDSHAKE, message) for message in (*flight, verify, finished))
        actions.append(InstallKeys(Direction.SENT, application.server, secret_name(Role.SERVER, 0)))
        answered = Answered(
            selected=selected,
            server_random=server_random,
            credential=credential,
            scheme=scheme,
            handshake=secrets,
            application=application,
            requested=requested,
        )
        if asks:
            return Step(answered, S.WAIT_CERT, actions)
        return Step(WaitFinished(answered=answered, client=Unauthenticated()), S.WAIT_FINISHED, actions)

    return sign_certificate_verify(context, credential, scheme, signed)


def _encrypted_extensions(context: ServerContext, selected: Selected, credential: Credential) -> bytes:
    extensions = []
    offer = selected.offer
    if offer.server_name is not None and negotiate.covers(credential.names, offer.server_name):
        extensions.append(x.SERVER_NAME_ACK.extension(True))
    if selected.alpn is not None:
        extensions.append(x.ALPN_SELECTED.extension(selected.alpn))
    if selected.group.code != context.config.groups[0]:
        # There is one we like better: the client may share it next time (§4.3.7).
        extensions.append(x.SUPPORTED_GROUPS.extension(context.config.groups))
    return handshake_message(EncryptedExtensions(tuple(extensions)))


def _certificate_request(config: ServerConfig) -> CertificateRequest:
    extensions = [x.SIGNATURE_ALGORITHMS.extension(config.signature_schemes)]
    authorities = () if config.peer_verifier is None else tuple(config.peer_verifier.authorities)
    # A long list of CAs helps nobody and may be refused: leave it out then (§4.3.4 does not demand it).
    if authorities and sum(map(len, authorities)) <= MAX_CERTIFICATE_AUTHORITIES // 2:
        extensions.append(x.CERTIFICATE_AUTHORITIES.extension(authorities))
    extensions += client_certificate_extensions(config)
    return CertificateRequest(b"", tuple(extensions))


# ---- the client's Certificate, CertificateVerify, Finished -----------------------------------------------------------


def on_certificate(context: ServerContext, phase: Answered, message: Certificate, raw: bytes) -> Step:
    """Take the client's certificates, or that it has none (RFC 9846 §4.5.1.3)."""
    if context.trace is not None and raw[0] == H.CERTIFICATE:
        tell_uncompressed(context)
    presented = read_certificate(context, message, phase.requested)
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


def on_finished(context: ServerContext, phase: WaitFinished, message: Finished, raw: bytes) -> Step:
    """Check the client's Finished; the handshake is complete (RFC 9846 §4.5.3)."""
    answered = phase.answered
    proof = check_finished(context, Role.CLIENT, answered.handshake.client, context.transcript.digest(), message)
    context.transcript.add(raw)
    selected, client = answered.selected, phase.client
    authenticated = client if isinstance(client, Authenticated) else None
    negotiated = Negotiated(
        cipher_suite=selected.suite.code,
        group=selected.group.code,
        signature_scheme=answered.scheme,
        client_signature_scheme=None if authenticated is None else authenticated.signature.scheme,
        alpn=None if selected.alpn is None else selected.alpn.decode("utf-8", "backslashreplace"),
        server_name=selected.offer.server_name,
        retried=selected.retried,
        client_random=selected.offer.hello.random,
        server_random=answered.server_random,
        peer=None if authenticated is None else authenticated.peer,
        local_certificates=answered.credential.chain,
        peer_ocsp_response=None if authenticated is None else authenticated.ocsp_response,
        peer_scts=() if authenticated is None else authenticated.scts,
    )
    application = answered.application
    actions: list[Action] = [
        InstallKeys(Direction.RECEIVED, application.client, secret_name(Role.CLIENT, 0)),
        Complete(negotiated=negotiated, authentication=client, finished=proof, exporter_secret=application.exporter),
    ]
    connected = Connected(S.CONNECTED, sending=application.server, receiving=application.client)
    return Step(connected, S.CONNECTED, actions)


HANDLERS: Final[dict[tuple[State, int], Handler]] = {
    (S.START, H.CLIENT_HELLO): on_client_hello,
    (S.WAIT_CERT, H.CERTIFICATE): on_certificate,
    (S.WAIT_CERT, H.COMPRESSED_CERTIFICATE): on_compressed_certificate,
    (S.WAIT_CV, H.CERTIFICATE_VERIFY): on_certificate_verify,
    (S.WAIT_FINISHED, H.FINISHED): on_finished,
    (S.CONNECTED, H.KEY_UPDATE): on_key_update,
}
