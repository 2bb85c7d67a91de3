"""The server's first flight: HelloRetryRequest, or ServerHello … Finished (RFC 9846 §4.2.3-§4.5.3)."""

from __future__ import annotations

import functools
from dataclasses import field, replace
from typing import Final

from pellucid.config import ClientAuthentication, ClientHelloInfo, Credential, ServerConfig
from pellucid.crypto.provider import Group, Suite
from pellucid.handshake import cookie as cookies
from pellucid.handshake import negotiate
from pellucid.handshake.actions import (
    AcceptEarlyData,
    Action,
    AnswerEarly,
    Authenticated,
    EarlyDataOutcome,
    InstallKeys,
    LimitRecords,
    Negotiated,
    PskChecked,
    Result,
    SendChangeCipherSpec,
    SendMessage,
    SkipEarlyData,
    Step,
    Unauthenticated,
)
from pellucid.handshake.authenticate import (
    PresentedCertificates,
    finished_message,
    sign_certificate_verify,
)
from pellucid.handshake.certificate_types import (
    choose_client_type,
    chosen_type_extensions,
    later_client_type,
    types_accepted,
)
from pellucid.handshake.certificates import certificate_message, client_certificate_extensions
from pellucid.handshake.connected import secret_name
from pellucid.handshake.cookie import Retry
from pellucid.handshake.core import Context
from pellucid.handshake.credentials import Choice as CredentialChoice
from pellucid.handshake.credentials import choices_of, server_credential
from pellucid.handshake.negotiate import ClientOffer
from pellucid.handshake.record_size import server_limits
from pellucid.handshake.secrets import (
    ApplicationSecrets,
    HandshakeSecrets,
    application_secrets,
    early_secrets,
    handshake_secrets,
    tell_shared_secret,
)
from pellucid.handshake.server_psk import NO_PSK, Choice, SelectedPsk, decide_early_data
from pellucid.handshake.states import ServerState as S
from pellucid.handshake.tickets import client_of, recall_peer, tickets_to_send
from pellucid.limits import MAX_CERTIFICATE_AUTHORITIES, MAX_SKIPPED_EARLY_DATA
from pellucid.messages import extensions as x
from pellucid.messages.extensions import KeyShareEntry
from pellucid.messages.handshake import (
    HELLO_RETRY_REQUEST_RANDOM,
    CertificateRequest,
    ClientHello,
    EncryptedExtensions,
    Extension,
    ServerHello,
    handshake_message,
)
from pellucid.registry import TLS_1_2, TLS_1_3, CertificateType, ExtensionType
from pellucid.registry import HandshakeType as H
from pellucid.schedule import EarlySecret
from pellucid.trace import Direction, Epoch, Role
from pellucid.value import internal_value

ServerContext = Context[ServerConfig]

_TLS_1_3_SELECTED: Final = x.SELECTED_VERSION.extension(TLS_1_3)


# ---- phases: what is known at that moment ----------------------------------------------------------------------------


@internal_value
class WaitClientHello:
    """peer_address: what cookies are bound to. retry: what we asked for, if we did.

    early_data: the ClientHello before the retry offered it.
    psk:        what was chosen of it; its binder was not checked.
    first:      that ClientHello.
    """

    peer_address: str
    retry: Retry | None = None
    early_data: bool = False
    psk: Choice = NO_PSK
    first: ClientHello | None = None


@internal_value
class Selected:
    """Everything chosen before the first secret exists.

    raw:   the ClientHello that is answered. group: None in psk_ke.
    psk:   what is used, or why none is.
    no_early_data: what it means if this ClientHello offers none: NOT_OFFERED, or RETRIED.
    first: the first ClientHello, where this one answers a retry of this connection.
    """

    offer: ClientOffer
    raw: bytes = field(repr=False)
    suite: Suite
    group: Group | None
    alpn: bytes | None
    retried: bool
    psk: Choice
    no_early_data: EarlyDataOutcome
    peer_address: str
    first: ClientHello | None


@internal_value
class ShownCredential:
    credential: Credential
    scheme: int

    @property
    def resumes(self) -> bool:
        return False


@internal_value
class ShownPsk:
    """proof: that the client has it too, and whom it stands for."""

    psk: SelectedPsk
    proof: PskChecked

    @property
    def resumes(self) -> bool:
        """Whether it is of a ticket, not an external PSK."""
        return self.psk.session is not None


@internal_value
class Answered:
    """Our flight is sent.

    shown:      how we showed who we are: by a certificate, or by the PSK.
    early_data: what becomes of early data.
    requested:  the extension types that the client's certificates may answer.
    client_certificate_type: what the client was asked to show.
    """

    selected: Selected
    server_random: bytes
    shown: ShownCredential | ShownPsk
    early_data: EarlyDataOutcome
    handshake: HandshakeSecrets
    application: ApplicationSecrets
    requested: frozenset[int] = field(default=frozenset())
    client_certificate_type: int = field(default=CertificateType.X509)


@internal_value
class WaitCertificateVerify:
    answered: Answered
    presented: PresentedCertificates


@internal_value
class WaitFinished:
    answered: Answered
    client: Authenticated | Unauthenticated | PskChecked


# ---- HelloRetryRequest -----------------------------------------------------------------------------------------------


def ask_again(
    context: ServerContext,
    phase: WaitClientHello,
    offer: ClientOffer,
    suite: Suite,
    group: Group | None,
    reason: str,
    *,
    psk: Choice,
    raw: bytes,
) -> Step:
    """Answer with a HelloRetryRequest (RFC 9846 §4.2.4). psk: of those offered, one that can be used."""
    config = context.config
    context.transcript.add(raw)
    wanted = None if group is None or group.code in offer.shares else group.code
    retry = Retry(
        cipher_suite=suite.code,
        group=wanted,
        client_hello_hash=context.transcript.replace_by_message_hash(suite),
        unchanged=cookies.unchanged_digest(offer.hello, wanted),
        cookie=None,
        psk=isinstance(psk, SelectedPsk),
    )
    if config.cookie_key is not None:
        cookie = cookies.seal(config, config.cookie_key, retry, phase.peer_address)
        retry = replace(retry, cookie=cookie)
    request = hello_retry_request(offer.hello.legacy_session_id, retry)
    context.transcript.add(request)
    if context.trace is not None:
        asked = "a cookie" if group is None or retry.group is None else group.name
        context.chose("retry", asked, reason if retry.group is not None else "every client has to show its address")
    actions: list[Action] = [SendMessage(Epoch.INITIAL, request)]
    if offer.hello.legacy_session_id:  # §E.4: whoever sent one gets a change_cipher_spec
        actions.append(SendChangeCipherSpec(at_once=True))
    early_data = ExtensionType.EARLY_DATA in offer.extensions
    if early_data:
        actions.append(SkipEarlyData(MAX_SKIPPED_EARLY_DATA))
    waits = replace(phase, retry=retry, early_data=early_data, psk=psk, first=offer.hello)
    return Step(waits, S.START, actions)


def hello_retry_request(session_id: bytes, retry: Retry) -> bytes:
    extensions = [_TLS_1_3_SELECTED]
    if retry.group is not None:
        extensions.append(x.SELECTED_GROUP.extension(retry.group))
    if retry.cookie is not None:
        extensions.append(Extension(ExtensionType.COOKIE, x.COOKIE.codec.encode(retry.cookie)))
    return _server_hello(HELLO_RETRY_REQUEST_RANDOM, session_id, retry.cipher_suite, tuple(extensions))


def _server_hello(random: bytes, session_id: bytes, suite: int, extensions: tuple[Extension, ...]) -> bytes:
    """Return `server_hello`, made of its parts: 1 µs instead of 4."""
    try:
        encoded = b"".join([(code << 16 | len(body)).to_bytes(4, "big") + body for code, body in extensions])
        chosen = suite.to_bytes(2, "big") + b"\0" + len(encoded).to_bytes(2, "big")
    except OverflowError:
        return server_hello(random, session_id, suite, extensions)  # which says what is wrong
    length = len(session_id)
    if len(random) != 32 or length > 32:
        return server_hello(random, session_id, suite, extensions)
    head = (H.SERVER_HELLO << 24 | 40 + length + len(encoded)).to_bytes(4, "big")
    return b"".join((head, b"\x03\x03", random, length.to_bytes(1, "big"), session_id, chosen, encoded))


def server_hello(random: bytes, session_id: bytes, suite: int, extensions: tuple[Extension, ...]) -> bytes:
    """Return the message, header included (RFC 9846 §4.2.3)."""
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


def choose_credential(context: ServerContext, selected: Selected) -> Result:
    """Answer with a certificate (RFC 9846 §4.5.1.2)."""
    offer = selected.offer
    choices = choices_of(context.config)
    reasons = choices.reasons(offer) if context.trace is None else None
    before = None if reasons is None else choices.find(reasons)
    if before is not None:
        return _answer_with_certificate(context, selected, _shown(before))
    asked = ClientHelloInfo(
        server_name=offer.server_name,
        alpn=offer.alpn,
        cipher_suites=offer.hello.cipher_suites,
        groups=offer.groups,
        signature_schemes=offer.signature_schemes,
        certificate_signature_schemes=offer.extensions.get(x.SIGNATURE_ALGORITHMS_CERT),
        authorities=offer.extensions.get(x.CERTIFICATE_AUTHORITIES) or (),
        certificate_types=types_accepted(offer.extensions),
        supported_versions=offer.extensions.get(x.SUPPORTED_VERSIONS) or (),
        key_shares=tuple(offer.shares),
        hello=selected.first or offer.hello,
        peer_address=selected.peer_address,
    )

    def chosen(choice: CredentialChoice) -> Result:
        if reasons is not None:
            choices.keep(reasons, choice)
        return _answer_with_certificate(context, selected, _shown(choice))

    return server_credential(context, asked, chosen)


def _shown(choice: CredentialChoice) -> ShownCredential:
    return ShownCredential(credential=choice.credential, scheme=choice.scheme)


# ---- ServerHello … Finished ------------------------------------------------------------------------------------------


def _answer_with_certificate(context: ServerContext, selected: Selected, shown: ShownCredential) -> Result:
    asks = context.config.client_authentication is not ClientAuthentication.NONE
    hello = selected.offer.extensions
    client_type = choose_client_type(context, hello) if asks else later_client_type(context.config, hello)
    begun = _begin(context, selected, EarlySecret.extract(selected.suite), None)
    skipping = ExtensionType.EARLY_DATA in selected.offer.extensions
    early_data = EarlyDataOutcome.NOT_RESUMED if skipping else selected.no_early_data
    _tell_early_data(context, early_data)
    begun.actions.append(InstallKeys(Direction.RECEIVED, begun.secrets.client, "client_handshake_traffic_secret"))
    if skipping:
        begun.actions.append(SkipEarlyData(MAX_SKIPPED_EARLY_DATA))
    types = chosen_type_extensions(hello, server=shown.credential.certificate_type, client=client_type)
    flight = [_encrypted_extensions(context, selected, shown, begun.limits, types)]
    requested: frozenset[int] = frozenset()
    if asks:
        request = certificate_request(context.config)
        requested = negotiate.suits_request(request.extensions)
        flight.append(handshake_message(request))
    flight.append(certificate_message(context, shown.credential, selected.offer.extensions))
    for message in flight:
        context.transcript.add(message)

    def signed(verify: bytes) -> Step:
        context.transcript.add(verify)
        flight.append(verify)
        application = _finish_flight(context, begun, flight)
        answered = Answered(
            selected=selected,
            server_random=begun.server_random,
            shown=shown,
            early_data=early_data,
            handshake=begun.secrets,
            application=application,
            requested=requested,
            client_certificate_type=client_type or CertificateType.X509,
        )
        if asks:
            return Step(answered, S.WAIT_CERT, begun.actions)
        begun.actions.append(AnswerEarly(selected.suite))
        return Step(WaitFinished(answered=answered, client=Unauthenticated()), S.WAIT_FINISHED, begun.actions)

    return sign_certificate_verify(context, shown.credential, shown.scheme, signed)


def answer_with_psk(context: ServerContext, selected: Selected, psk: SelectedPsk) -> Result:
    """Answer with the PSK alone: no certificate on either side (RFC 9846 §2.2); perhaps early data is taken."""

    def recalled(proof: PskChecked) -> Result:
        shown = ShownPsk(psk=psk, proof=proof)
        if ExtensionType.EARLY_DATA not in selected.offer.extensions:
            return _psk_flight(context, selected, shown, selected.no_early_data)
        return decide_early_data(
            context, selected.offer, selected.suite, psk, lambda outcome: _psk_flight(context, selected, shown, outcome)
        )

    session = psk.session
    if session is None or not session.client_presented:
        return recalled(PskChecked(None))
    return recall_peer(context, client_of(session), None, recalled)


def _psk_flight(context: ServerContext, selected: Selected, shown: ShownPsk, early_data: EarlyDataOutcome) -> Step:
    accepted = early_data is EarlyDataOutcome.ACCEPTED
    offered = ExtensionType.EARLY_DATA in selected.offer.extensions
    _tell_early_data(context, early_data)
    early = early_secrets(context, shown.psk.early, selected.raw) if accepted else None
    begun = _begin(context, selected, shown.psk.early, shown.psk)
    if early is not None:
        begun.actions.append(InstallKeys(Direction.RECEIVED, early.client, "client_early_traffic_secret"))
    else:
        begun.actions.append(InstallKeys(Direction.RECEIVED, begun.secrets.client, "client_handshake_traffic_secret"))
        if offered and not selected.retried:
            begun.actions.append(SkipEarlyData(MAX_SKIPPED_EARLY_DATA))
    session, hello, types = shown.psk.session, selected.offer.extensions, []
    if session is not None:  # who accepts raw public keys alone takes silence for X.509, even where none is sent
        later = later_client_type(context.config, hello)
        types = chosen_type_extensions(hello, server=session.server_certificate_type, client=later)
    message = _encrypted_extensions(context, selected, shown, begun.limits, types, early_data=accepted)
    context.transcript.add(message)
    application = _finish_flight(context, begun, [message])
    answered = Answered(
        selected=selected,
        server_random=begun.server_random,
        shown=shown,
        early_data=early_data,
        handshake=begun.secrets,
        application=application,
    )
    begun.actions.append(AnswerEarly(selected.suite))
    waits = WaitFinished(answered=answered, client=shown.proof)
    if early is None or session is None:
        return Step(waits, S.WAIT_FINISHED, begun.actions)
    limit = session.max_early_data_size
    agreed = negotiated_by(answered, shown.proof)
    begun.actions.append(AcceptEarlyData(agreed, limit, selected.suite, early.exporter))
    return Step(waits, S.WAIT_EOED, begun.actions)


def _tell_early_data(context: ServerContext, outcome: EarlyDataOutcome) -> None:
    if context.trace is not None and outcome is not EarlyDataOutcome.NOT_OFFERED:
        accepted = outcome is EarlyDataOutcome.ACCEPTED
        context.chose("early_data", "accepted" if accepted else "rejected", outcome.value)


@internal_value
class _Begun:
    """ServerHello is made, and our handshake keys are installed after it."""

    server_random: bytes
    secrets: HandshakeSecrets
    limits: LimitRecords | None
    actions: list[Action]


def _begin(context: ServerContext, selected: Selected, early: EarlySecret, psk: SelectedPsk | None) -> _Begun:
    """Make the ServerHello and the handshake secrets (RFC 9846 §4.2.3)."""
    offer, group = selected.offer, selected.group
    extensions = [_TLS_1_3_SELECTED]
    shared_secret = bytes(selected.suite.hash_length)  # psk_ke: zeros (§7.1)
    if group is not None:
        peer_share = offer.shares[group.code]
        public, shared_secret = group.respond(peer_share)
        share = x.KEY_SHARE.codec.encode(KeyShareEntry(group.code, public))  # new each time: not to be kept
        extensions.append(Extension(ExtensionType.KEY_SHARE, share))
    if psk is not None:
        extensions.append(x.SELECTED_IDENTITY.extension(psk.index))
    server_random = context.provider.random(32)
    hello = _server_hello(server_random, offer.hello.legacy_session_id, selected.suite.code, tuple(extensions))
    context.transcript.add(hello)
    if context.trace is not None and group is not None:
        tell_shared_secret(context, group.code, public, peer_share, shared_secret)
    secrets = handshake_secrets(context, early, shared_secret)
    actions: list[Action] = [SendMessage(Epoch.INITIAL, hello)]
    if offer.hello.legacy_session_id and not selected.retried:
        actions.append(SendChangeCipherSpec(at_once=True))
    actions.append(InstallKeys(Direction.SENT, secrets.server, "server_handshake_traffic_secret"))
    limits = server_limits(context, offer.extensions)
    if limits is not None:  # EncryptedExtensions, which says so, is under the limit itself (RFC 8449 §4)
        actions.append(limits)
    return _Begun(server_random=server_random, secrets=secrets, limits=limits, actions=actions)


def _finish_flight(context: ServerContext, begun: _Begun, flight: list[bytes]) -> ApplicationSecrets:
    """Append Finished to the *flight*, which is in the transcript; our next record is application data's."""
    finished = finished_message(begun.secrets.server, context.transcript.digest())
    context.transcript.add(finished)
    application = application_secrets(context, begun.secrets)
    begun.actions.extend(SendMessage(Epoch.HANDSHAKE, message) for message in (*flight, finished))
    begun.actions.append(InstallKeys(Direction.SENT, application.server, secret_name(Role.SERVER, 0)))
    return application


def negotiated_by(answered: Answered, client: Authenticated | Unauthenticated | PskChecked) -> Negotiated:
    """Return what is agreed once the client's Finished is right."""
    selected, shown = answered.selected, answered.shown
    peer = None if isinstance(client, Unauthenticated) else client.peer
    scheme = client_scheme = server_type = None
    chain: tuple[bytes, ...] = ()
    session = None
    if isinstance(shown, ShownCredential):
        scheme, chain, server_type = shown.scheme, shown.credential.chain, shown.credential.certificate_type
        client_scheme = client.signature.scheme if isinstance(client, Authenticated) else None
    else:
        session = shown.psk.session
        if session is not None:
            client_scheme, server_type = session.client_signature_scheme, session.server_certificate_type
    return Negotiated(
        cipher_suite=selected.suite.code,
        group=None if selected.group is None else selected.group.code,
        signature_scheme=scheme,
        client_signature_scheme=client_scheme,
        server_certificate_type=server_type,
        client_certificate_type=None if peer is None else peer.certificate_type,
        alpn=None if selected.alpn is None else selected.alpn.decode("utf-8", "backslashreplace"),
        server_name=selected.offer.server_name,
        retried=selected.retried,
        client_random=selected.offer.hello.random,
        server_random=answered.server_random,
        peer=peer,
        local_certificates=chain,
        resumed=session is not None,
        psk_identity=shown.psk.psk.identity if isinstance(shown, ShownPsk) and session is None else None,
        early_data=answered.early_data,
        authenticated_at=None if session is None else session.authenticated_at,
        peer_ocsp_response=client.ocsp_response if isinstance(client, Authenticated) else None,
        peer_scts=client.scts if isinstance(client, Authenticated) else (),
        peer_certificates=client.presented if isinstance(client, Authenticated) else (),
    )


def _encrypted_extensions(
    context: ServerContext,
    selected: Selected,
    shown: ShownCredential | ShownPsk,
    limits: LimitRecords | None,
    types: list[Extension],
    *,
    early_data: bool = False,
) -> bytes:
    extensions = list(types)
    offer = selected.offer
    name = offer.server_name
    # RFC 6066 §3: not on resumption.
    if isinstance(shown, ShownCredential) and name is not None and negotiate.covers(shown.credential.names, name):
        extensions.append(x.SERVER_NAME_ACK.extension(True))
    if selected.alpn is not None:
        extensions.append(x.ALPN_SELECTED.extension(selected.alpn))
    if limits is not None:
        extensions.append(x.RECORD_SIZE_LIMIT.extension(limits.receiving))
    if early_data:
        extensions.append(x.EARLY_DATA.extension(True))
    if x.TICKET_REQUEST.extension_type in offer.extensions and context.config.session_store is not None:
        expected = tickets_to_send(context.config, offer, resumed=shown.resumes)
        extensions.append(x.EXPECTED_TICKETS.extension(expected))
    if selected.group is not None and selected.group.code != context.config.groups[0]:
        # There is one we like better: the client may share it next time (§4.3.7).
        extensions.append(x.SUPPORTED_GROUPS.extension(context.config.groups))
    return _encrypted_extensions_message(tuple(extensions))


@functools.lru_cache(maxsize=64)
def _encrypted_extensions_message(extensions: tuple[Extension, ...]) -> bytes:
    return handshake_message(EncryptedExtensions(extensions))


def certificate_request(config: ServerConfig, request_context: bytes = b"") -> CertificateRequest:
    """Return what asks for a client's certificate (RFC 9846 §4.4.2). request_context: b"" in the handshake."""
    extensions = [x.SIGNATURE_ALGORITHMS.extension(config.signature_schemes)]
    if config.signature_algorithms_cert is not None:
        extensions.append(x.SIGNATURE_ALGORITHMS_CERT.extension(config.signature_algorithms_cert))
    authorities = config.certificate_authorities
    if authorities is None and config.peer_verifier is not None:
        authorities = tuple(config.peer_verifier.authorities)
        # A long list of CAs helps nobody and may be refused: leave it out then (§4.3.4 does not demand it).
        if sum(map(len, authorities)) > MAX_CERTIFICATE_AUTHORITIES // 2:
            authorities = ()
    if authorities:
        extensions.append(x.CERTIFICATE_AUTHORITIES.extension(authorities))
    extensions += client_certificate_extensions(config)
    return CertificateRequest(request_context, tuple(extensions))
