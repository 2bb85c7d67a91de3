"""The ClientHello: what is offered, built from the configuration, and again after HelloRetryRequest.

RFC 9846 §4.2.2; GREASE: RFC 8701. A fresh key share for every connection (§4.3.8).
"""

from __future__ import annotations

from dataclasses import field, replace

from pellucid.config import ClientConfig
from pellucid.crypto.provider import KeyExchange, Suite
from pellucid.handshake.actions import EarlyDataOutcome
from pellucid.handshake.certificate_types import certificate_type_extensions
from pellucid.handshake.certificates import server_certificate_extensions
from pellucid.handshake.negotiate import NULL_COMPRESSION, suits_request
from pellucid.handshake.psk import OfferedPsk, bound_hello
from pellucid.messages import extensions as x
from pellucid.messages.extensions import ClientTicketRequest, KeyShareEntry
from pellucid.messages.handshake import ClientHello, Extension, handshake_message
from pellucid.registry import GREASE_VALUES, TLS_1_2, TLS_1_3, ExtensionType
from pellucid.schedule import EarlySecret
from pellucid.sessions.client import ClientSession
from pellucid.sessions.psk import RESUMPTION_BINDER, Psk
from pellucid.transcript import Transcript
from pellucid.value import internal_value
from pellucid.verify.names import is_ip, normalize_server_name


@internal_value
class Offer:
    """A ClientHello and what only we know of it.

    raw:            the message, header included.
    suites, groups: without GREASE.
    exchanges:      the private halves of the shares sent, by group.
    requested:      extension types that a response may answer.
    psks:           the PSKs offered, in their order.
    early_data:     what becomes of early data; DECLINED, if it is offered, until the server says otherwise.
    reference_name: whom the certificate must name: a host name or an address.
    """

    hello: ClientHello
    raw: bytes = field(repr=False)
    suites: tuple[int, ...]
    groups: tuple[int, ...]
    alpn: tuple[bytes, ...]
    exchanges: dict[int, KeyExchange] = field(repr=False)
    requested: frozenset[int]
    reference_name: str
    psks: tuple[OfferedPsk, ...] = field(default=())
    early_data: EarlyDataOutcome = field(default=EarlyDataOutcome.DISABLED)

    @property
    def offers_early_data(self) -> bool:
        return self.early_data is EarlyDataOutcome.DECLINED


class _Grease:
    """RFC 8701's reserved values for one connection: which, and where."""

    __slots__ = ("_values",)

    def __init__(self, seed: bytes) -> None:
        values = list(GREASE_VALUES)
        # Two different values for the two extensions: a ClientHello has no type twice.
        self._values = [values.pop(byte % len(values)) for byte in seed[:6]]

    def pick(self, place: int) -> int:
        return self._values[place]


def first_offer(config: ClientConfig, server_name: str, session: ClientSession | None = None) -> Offer:
    """Return a fresh offer for *server_name*. session: what to resume.

    Raises UsageError if the name is neither a host name nor an address.
    """
    reference = normalize_server_name(server_name)
    provider = config.provider
    entropy = provider.random(32 + 32 + 64)
    grease = _Grease(entropy[64:70]) if config.grease else None
    exchanges = {code: config.group_table[code].generate() for code in config.initial_shares}
    psks = _psks(config, session)
    early_data = _early_data(config, psks)
    body = _extensions(config, reference, exchanges, grease)
    if psks or config.session_store is not None:
        body.append(x.PSK_KEY_EXCHANGE_MODES.extension(config.psk_modes))
    if early_data is EarlyDataOutcome.DECLINED:
        body.append(x.EARLY_DATA.extension(True))
    if config.permute_extensions:
        body = _permuted(body, entropy[70:])
    if grease is not None:
        body = [Extension(grease.pick(0), b""), *body, Extension(grease.pick(1), b"\0")]
    suites = config.suites if grease is None else (grease.pick(2), *config.suites)
    hello = ClientHello(
        legacy_version=TLS_1_2,
        random=entropy[:32],
        legacy_session_id=entropy[32:64] if config.middlebox_compatibility else b"",
        cipher_suites=suites,
        legacy_compression_methods=NULL_COMPRESSION,
        extensions=tuple(body),
    )
    hello, raw = bound_hello(hello, psks, Transcript()) if psks else (hello, handshake_message(hello))
    return Offer(
        hello=hello,
        raw=raw,
        suites=config.suites,
        groups=config.groups,
        alpn=config.alpn_names,
        exchanges=exchanges,
        requested=suits_request(hello.extensions),
        reference_name=reference,
        psks=psks,
        early_data=early_data,
    )


def _psks(config: ClientConfig, session: ClientSession | None) -> tuple[OfferedPsk, ...]:
    """Return what is offered: the session first, for early data is the first one's (§4.3.10), then external PSKs."""
    offered = []
    suite = None if session is None else config.suite_table.get(session.cipher_suite)
    if session is not None and suite is not None:
        psk = Psk(identity=session.ticket, key=session.psk, hash_name=suite.hash_name, binder_label=RESUMPTION_BINDER)
        age = session.obfuscated_age(config.provider.now())
        early = EarlySecret.extract(suite, psk.key)
        offered.append(OfferedPsk(psk=psk, early=early, session=session, obfuscated_ticket_age=age))
    for psk in config.psks:
        early = EarlySecret.extract(config.suites_by_hash[psk.hash_name], psk.key)
        offered.append(OfferedPsk(psk=psk, early=early, session=None))
    return tuple(offered)


def _early_data(config: ClientConfig, psks: tuple[OfferedPsk, ...]) -> EarlyDataOutcome:
    """Return DECLINED, what it is until the server says otherwise, if early data is offered; else why it is not."""
    session = psks[0].session if psks else None
    if not config.early_data:
        return EarlyDataOutcome.DISABLED
    if session is None:
        return EarlyDataOutcome.NO_SESSION
    if not session.max_early_data_size:
        return EarlyDataOutcome.NOT_ALLOWED
    if session.alpn is not None and session.alpn not in config.alpn:
        return EarlyDataOutcome.OTHER_PROTOCOL
    return EarlyDataOutcome.DECLINED


def _extensions(
    config: ClientConfig, reference: str, exchanges: dict[int, KeyExchange], grease: _Grease | None
) -> list[Extension]:
    shares = tuple(KeyShareEntry(code, exchange.public) for code, exchange in exchanges.items())
    groups = config.groups
    versions: tuple[int, ...] = (TLS_1_3,)
    if grease is not None:
        groups = (grease.pick(3), *groups)
        shares = (KeyShareEntry(grease.pick(3), b"\0"), *shares)
        versions = (grease.pick(4), *versions)
    built = [
        x.SUPPORTED_VERSIONS.extension(versions),
        x.SUPPORTED_GROUPS.extension(groups),
        x.KEY_SHARES.extension(shares),
    ]
    if config.peer_verifier is not None:
        built.append(x.SIGNATURE_ALGORITHMS.extension(config.signature_schemes))
    if config.send_server_name and not is_ip(reference):
        built.append(x.SERVER_NAME.extension(reference))
    if config.alpn_names:
        built.append(x.ALPN.extension(config.alpn_names))
    if config.ticket_request is not None:
        built.append(x.TICKET_REQUEST.extension(ClientTicketRequest(*config.ticket_request)))
    if config.signature_algorithms_cert is not None:
        built.append(x.SIGNATURE_ALGORITHMS_CERT.extension(config.signature_algorithms_cert))
    if config.certificate_authorities:
        built.append(x.CERTIFICATE_AUTHORITIES.extension(config.certificate_authorities))
    if config.record_size_limit is not None:
        built.append(x.RECORD_SIZE_LIMIT.extension(config.record_size_limit))
    if config.post_handshake_auth:
        built.append(x.POST_HANDSHAKE_AUTH.extension(True))
    built += certificate_type_extensions(config)
    built += server_certificate_extensions(config)
    return built


def _permuted(extensions: list[Extension], entropy: bytes) -> list[Extension]:
    """Return *extensions* in an order that *entropy* picks: Fisher-Yates, two bytes a step."""
    order = list(extensions)
    for i in range(len(order) - 1, 0, -1):
        j = int.from_bytes(entropy[2 * i : 2 * i + 2], "big") % (i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def retried_offer(
    config: ClientConfig, offer: Offer, group: int | None, cookie: bytes | None, suite: Suite, transcript: Transcript
) -> Offer:
    """Return the offer that answers a HelloRetryRequest (RFC 9846 §4.2.2).

    It is the same but for key_share and cookie, without early data, and with the PSKs of the suite's hash bound anew.
    transcript: the first ClientHello's hash and the HelloRetryRequest.
    """
    exchanges = offer.exchanges
    gone = (ExtensionType.PRE_SHARED_KEY, ExtensionType.EARLY_DATA)
    extensions = [e for e in offer.hello.extensions if e.extension_type not in gone]
    if group is not None:
        exchanges = {group: config.group_table[group].generate()}
        share = x.KEY_SHARES.extension((KeyShareEntry(group, exchanges[group].public),))
        extensions = [share if e.extension_type == ExtensionType.KEY_SHARE else e for e in extensions]
    if cookie is not None:
        extensions.append(x.COOKIE.extension(cookie))
    hello = ClientHello(
        legacy_version=offer.hello.legacy_version,
        random=offer.hello.random,
        legacy_session_id=offer.hello.legacy_session_id,
        cipher_suites=offer.hello.cipher_suites,
        legacy_compression_methods=offer.hello.legacy_compression_methods,
        extensions=tuple(extensions),
    )
    now = config.provider.now()
    psks = tuple(_aged(one, now) for one in offer.psks if one.psk.hash_name == suite.hash_name)
    hello, raw = bound_hello(hello, psks, transcript) if psks else (hello, handshake_message(hello))
    return Offer(
        hello=hello,
        raw=raw,
        suites=offer.suites,
        groups=offer.groups,
        alpn=offer.alpn,
        exchanges=exchanges,
        requested=offer.requested & suits_request(hello.extensions),
        reference_name=offer.reference_name,
        psks=psks,
        early_data=EarlyDataOutcome.RETRIED if offer.offers_early_data else offer.early_data,
    )


def _aged(offered: OfferedPsk, now: float) -> OfferedPsk:
    """Return *offered* with the ticket's age at this time (§4.2.2)."""
    if offered.session is None:
        return offered
    return replace(offered, obfuscated_ticket_age=offered.session.obfuscated_age(now))
