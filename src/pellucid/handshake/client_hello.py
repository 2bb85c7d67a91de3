"""The client's first half: ClientHello, HelloRetryRequest, ServerHello, up to the keys (RFC 9846 §4.2)."""

from __future__ import annotations

from pellucid.config import ClientConfig
from pellucid.crypto.provider import KeyExchange, Suite
from pellucid.errors import (
    IllegalParameter,
    InternalError,
    MissingExtension,
    UnexpectedMessage,
)
from pellucid.handshake import negotiate
from pellucid.handshake.actions import (
    Action,
    EarlyDataOutcome,
    EndEarlySending,
    InstallKeys,
    OfferEarlyData,
    PskChecked,
    Result,
    SendChangeCipherSpec,
    SendMessage,
    Step,
)
from pellucid.handshake.core import Context
from pellucid.handshake.offer import Offer, retried_offer
from pellucid.handshake.psk import OfferedPsk
from pellucid.handshake.secrets import (
    HandshakeSecrets,
    early_secrets,
    handshake_secrets,
    tell_binder_key,
    tell_early_secret,
    tell_shared_secret,
)
from pellucid.handshake.states import ClientState as C
from pellucid.handshake.tickets import recall_peer, server_of
from pellucid.messages import extensions as x
from pellucid.messages.extensions import KeyShareEntry
from pellucid.messages.handshake import (
    ServerHello,
)
from pellucid.registry import PskKeyExchangeMode, group_name, suite_name
from pellucid.schedule import EarlySecret
from pellucid.trace import Direction, Epoch
from pellucid.value import internal_value

ClientContext = Context[ClientConfig]


# ---- phases: what is known at that moment ----------------------------------------------------------------------------


@internal_value
class WaitServerHello:
    offer: Offer
    retry: ServerHello | None = None
    """the HelloRetryRequest that the offer answers"""
    retry_group: int | None = None
    recalled: PskChecked | None = None
    """the session's server, if it was judged again already"""


@internal_value
class Keyed:
    """ServerHello is in: keys protect what follows."""

    offer: Offer
    hello: ServerHello
    group: int | None
    retried: bool
    suite: Suite
    secrets: HandshakeSecrets
    psk: OfferedPsk | None
    """what the server selected"""
    early_data: EarlyDataOutcome
    """DECLINED: offered and not answered yet"""
    recalled: PskChecked | None
    """as in WaitServerHello"""


# ---- ClientHello -----------------------------------------------------------------------------------------------------


def begin(context: ClientContext, offer: Offer) -> Step:
    """Send the ClientHello (RFC 9846 §4.2.2)."""
    context.transcript.add(offer.raw)
    if context.trace is not None:
        _tell_offer(context, offer)
    return Step(WaitServerHello(offer=offer), C.WAIT_SH, [SendMessage(Epoch.INITIAL, offer.raw)])


def begin_early_data(context: ClientContext, offer: Offer) -> Result:
    """Let early data follow the ClientHello, under the first PSK's keys (RFC 9846 §4.3.10).

    With `reverify_on_resumption` the session's server is judged first: what is sent early is for one that is trusted
    now. Raises CertificateRejected.
    """
    first = offer.psks[0]
    session = first.session
    if session is None:
        raise InternalError("early data is offered with the first PSK's session alone")

    def go_on(recalled: PskChecked | None) -> Step:
        if context.trace is not None:
            # That of the session, as long as the server has not taken another PSK, or none.
            tell_early_secret(context, first.early)
            tell_binder_key(context, first.early, first.psk.binder_label)
        secrets = early_secrets(context, first.early, offer.raw)
        actions: list[Action] = []
        if context.config.middlebox_compatibility:
            actions.append(SendChangeCipherSpec(at_once=True))  # §E.4: right after the ClientHello, once
        actions.append(InstallKeys(Direction.SENT, secrets.client, "client_early_traffic_secret"))
        actions.append(OfferEarlyData(session.max_early_data_size, first.early.suite, secrets.exporter, session.alpn))
        return Step(WaitServerHello(offer=offer, recalled=recalled), C.WAIT_SH, actions)

    if not context.config.reverify_on_resumption:
        return go_on(None)
    return recall_peer(context, server_of(session), offer.reference_name, go_on)


def _tell_offer(context: ClientContext, offer: Offer) -> None:
    config = context.config
    sessions = sum(one.session is not None for one in offer.psks)
    if offer.psks:
        kinds = [*(["a session"] if sessions else []), *(["external"] if len(offer.psks) > sessions else [])]
        context.chose("psk_offer", " and ".join(kinds), "there is a ticket or key for this server")
    elif config.session_store is not None:
        context.chose("psk_offer", "none", "no session with this server is kept")
    elif config.sessions is not None:
        context.chose("psk_offer", "none", "a verifier or resolver has no session_identity: no sessions are kept")
    if config.post_handshake_auth:
        context.chose("post_handshake_auth", "offered", "the configuration lets the server ask for a certificate later")
    if config.ticket_request is not None:
        asked = "{} after a full handshake, {} after a resumption".format(*config.ticket_request)
        context.chose("ticket_request", asked, "the configuration says how many tickets are of use")
    if config.early_data:
        offered = offer.offers_early_data
        why = "the session allows it" if offered else offer.early_data.value
        context.chose("early_data_offer", "offered" if offered else "not offered", why)


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
                f"HelloRetryRequest asks for {group_name(group)}, which was not offered",
                rfc="9846 §4.3.8",
                code="TLS-WRONG-GROUP",
            )
        if group in offer.exchanges:
            raise IllegalParameter(
                f"HelloRetryRequest asks for {group_name(group)}, whose share was sent",
                rfc="9846 §4.3.8",
                code="TLS-POINTLESS-RETRY",
            )
    elif cookie is None:
        raise IllegalParameter("HelloRetryRequest would change nothing", rfc="9846 §4.2.4", code="TLS-POINTLESS-RETRY")
    suite = context.config.suite_table[hello.cipher_suite]
    context.transcript.replace_by_message_hash(suite)
    context.transcript.add(raw)
    second = retried_offer(context.config, offer, group, cookie, suite, context.transcript)
    context.transcript.add(second.raw)
    if context.trace is not None:
        asked = "a cookie" if group is None else group_name(group)
        context.chose("retry", asked, "the server asked for it in HelloRetryRequest")
    actions: list[Action] = [SendMessage(Epoch.INITIAL, second.raw)]
    if offer.offers_early_data:
        actions.insert(0, EndEarlySending(in_the_open=True))
    elif context.config.middlebox_compatibility:
        actions.insert(0, SendChangeCipherSpec(at_once=False))
    waits = WaitServerHello(offer=second, retry=hello, retry_group=group, recalled=phase.recalled)
    return Step(waits, C.WAIT_SH, actions)


def _second_retry() -> UnexpectedMessage:
    return UnexpectedMessage("a second HelloRetryRequest", rfc="9846 §4.2.4", code="TLS-SECOND-RETRY")


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
            code="TLS-SUITE-NOT-OFFERED",
        )
    suite = context.config.suite_table[hello.cipher_suite]
    psk = _selected_psk(offer, suite, decoded.get(x.SELECTED_IDENTITY))
    if psk is None and context.config.peer_verifier is None:
        raise MissingExtension("ServerHello selects no PSK, and no certificate can be verified", rfc="9846 §4.3.11")
    share = decoded.get(x.KEY_SHARE)
    if share is None:
        _check_without_share(context, psk)
        exchange, shared_secret = None, bytes(suite.hash_length)  # psk_ke: zeros (§7.1)
    else:
        exchange = _answered_exchange(context, phase, share, psk)
        shared_secret = exchange.finish(share.key_exchange)
    context.transcript.choose(suite)
    context.transcript.add(raw)
    group = None if share is None else share.group
    if context.trace is not None:
        _tell_server_hello(context, phase, suite, group, psk)
        if share is not None and exchange is not None:
            tell_shared_secret(context, share.group, exchange.public, share.key_exchange, shared_secret)
    early = EarlySecret.extract(suite) if psk is None else psk.early.under(suite)
    secrets = handshake_secrets(context, early, shared_secret)
    early_data, actions = _after_server_hello(context, phase, secrets, psk)
    keyed = Keyed(
        offer=offer,
        hello=hello,
        group=group,
        retried=retry is not None,
        suite=suite,
        secrets=secrets,
        psk=psk,
        early_data=early_data,
        recalled=phase.recalled,
    )
    return Step(keyed, C.WAIT_EE, actions)


def _selected_psk(offer: Offer, suite: Suite, index: int | None) -> OfferedPsk | None:
    """Return the PSK that the server selected. IllegalParameter if it cannot be one (§4.3.11)."""
    if index is None:
        return None
    if index >= len(offer.psks):
        raise IllegalParameter(
            f"selected_identity is {index}, offered were {len(offer.psks)}", rfc="9846 §4.3.11", code="TLS-BAD-PSK"
        )
    psk = offer.psks[index]
    if psk.psk.hash_name != suite.hash_name:
        raise IllegalParameter(
            f"the PSK selected is not for {suite.hash_name}, the suite's hash", rfc="9846 §4.3.11", code="TLS-BAD-PSK"
        )
    return psk


def _check_without_share(context: ClientContext, psk: OfferedPsk | None) -> None:
    if psk is None:
        raise MissingExtension("ServerHello has no key_share", rfc="9846 §4.2.3")
    if PskKeyExchangeMode.PSK_KE not in context.config.psk_modes:
        raise IllegalParameter("ServerHello has no key_share, and psk_ke was not offered", rfc="9846 §4.3.11")


def _answered_exchange(
    context: ClientContext, phase: WaitServerHello, share: KeyShareEntry, psk: OfferedPsk | None
) -> KeyExchange:
    """Return our half of the exchange that the server's share answers. IllegalParameter if there is none (§4.3.8)."""
    if psk is not None and PskKeyExchangeMode.PSK_DHE_KE not in context.config.psk_modes:
        raise IllegalParameter("ServerHello has a key_share, and psk_dhe_ke was not offered", rfc="9846 §4.3.9")
    exchange = phase.offer.exchanges.get(share.group)
    if exchange is None:
        raise IllegalParameter(
            f"ServerHello has a share for {group_name(share.group)}, for which none was sent",
            rfc="9846 §4.3.8",
            code="TLS-WRONG-GROUP",
        )
    if phase.retry_group is not None and share.group != phase.retry_group:
        raise IllegalParameter(
            "ServerHello has another group than HelloRetryRequest", rfc="9846 §4.3.8", code="TLS-WRONG-GROUP"
        )
    return exchange


def _after_server_hello(
    context: ClientContext, phase: WaitServerHello, secrets: HandshakeSecrets, psk: OfferedPsk | None
) -> tuple[EarlyDataOutcome, list[Action]]:
    """Return what becomes of early data, and the change of keys that goes with it.

    While early data is still under way our keys stay its own: it ends with EndOfEarlyData, or when it is declined.
    """
    offer = phase.offer
    actions: list[Action] = [InstallKeys(Direction.RECEIVED, secrets.server, "server_handshake_traffic_secret")]
    if offer.offers_early_data and psk is not None:
        return EarlyDataOutcome.DECLINED, actions
    keys = InstallKeys(Direction.SENT, secrets.client, "client_handshake_traffic_secret")
    if offer.offers_early_data:
        return EarlyDataOutcome.NOT_RESUMED, [*actions, EndEarlySending(in_the_open=False), keys]
    if context.config.middlebox_compatibility and phase.retry is None:
        actions.insert(0, SendChangeCipherSpec(at_once=False))
    return offer.early_data, [*actions, keys]


def _tell_server_hello(
    context: ClientContext, phase: WaitServerHello, suite: Suite, group: int | None, psk: OfferedPsk | None
) -> None:
    offer = phase.offer
    context.chose("version", "TLS 1.3", "the only one offered", ("TLS 1.3",))
    context.chose(
        "cipher_suite", suite.name, "the server's choice of those offered", tuple(map(suite_name, offer.suites))
    )
    if psk is not None:
        resumed = psk.session is not None
        why = "the server knows the ticket" if resumed else "the server knows the key"
        context.chose("psk", "resumption" if resumed else "external PSK", why)
        if not offer.offers_early_data or psk is not offer.psks[0]:
            tell_binder_key(context, psk.early, psk.psk.binder_label)
    elif offer.psks:
        context.chose("psk", "none", "the server took none of those offered: a full handshake")
    reason = "the server's choice of the shares sent" if phase.retry is None else "the server asked for it"
    if group is None:
        context.chose("group", "none", "the PSK is used without a key exchange (psk_ke)")
    else:
        context.chose("group", group_name(group), reason, tuple(map(group_name, offer.groups)))
