"""The ClientHello: what is offered, built from the configuration, and again after HelloRetryRequest.

RFC 9846 §4.2.2; GREASE: RFC 8701. A fresh key share for every connection (§4.3.8).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from dataclasses import field, replace
from typing import Final

from pellucid.config import ClientConfig
from pellucid.crypto.provider import KeyExchange, Suite
from pellucid.errors import IllegalParameter, UsageError
from pellucid.handshake.actions import EarlyDataOutcome
from pellucid.handshake.certificate_types import certificate_type_extensions
from pellucid.handshake.certificates import server_certificate_extensions
from pellucid.handshake.negotiate import NULL_COMPRESSION, suits_request
from pellucid.handshake.psk import OfferedPsk, bound_hello
from pellucid.messages import extensions as x
from pellucid.messages.extensions import ClientTicketRequest, KeyShareEntry
from pellucid.messages.handshake import CIPHER_SUITES, EXTENSION, ClientHello, Extension, handshake_message
from pellucid.registry import GREASE_VALUES, TLS_1_2, TLS_1_3, ExtensionType, HandshakeType
from pellucid.schedule import EarlySecret
from pellucid.sessions.client import ClientSession
from pellucid.sessions.psk import RESUMPTION_BINDER, Psk
from pellucid.transcript import Transcript
from pellucid.value import internal_value
from pellucid.verify.names import reference_name


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


_PLACES: Final = 5
"""where RFC 8701's reserved values go: two extensions of their own, suites, groups with their share, versions"""


def _grease(seed: bytes) -> list[int]:
    """Return a reserved value for each place, no two the same: a ClientHello has no type twice."""
    values = list(GREASE_VALUES)
    return [values.pop(byte % len(values)) for byte in seed[:_PLACES]]


_Item = tuple[Extension, bytes]
"""an extension, and the same as it is encoded"""


def _item(extension: Extension) -> _Item:
    return extension, EXTENSION.encode(extension)


class _Prepared:
    """What the hellos of one configuration have in common: one took 21 µs to build, and takes 12.

    By the GREASE value in front, None for none: each is made when it first comes up. It does not hold the
    configuration, which holds it: with the last connection keys and all are gone.
    """

    __slots__ = ("_groups", "_ours", "_suites", "psk_modes", "rest", "signature_algorithms")

    def __init__(self, config: ClientConfig) -> None:
        self._ours = config.suites, config.groups
        self._groups: dict[int | None, _Item] = {}
        self._suites: dict[int | None, tuple[tuple[int, ...], bytes]] = {}
        self.signature_algorithms: tuple[_Item, ...] = ()
        if config.peer_verifier is not None:
            self.signature_algorithms = (_item(x.SIGNATURE_ALGORITHMS.extension(config.signature_schemes)),)
        self.rest = tuple(map(_item, _rest(config)))
        self.psk_modes = _item(x.PSK_KEY_EXCHANGE_MODES.extension(config.psk_modes))

    def suites(self, grease: int | None) -> tuple[tuple[int, ...], bytes]:
        """Return the suites, and the list of them encoded."""
        found = self._suites.get(grease)
        if found is None:
            ours, _ = self._ours
            listed = ours if grease is None else (grease, *ours)
            found = self._suites[grease] = listed, CIPHER_SUITES.encode(listed)
        return found

    def groups(self, grease: int | None) -> _Item:
        found = self._groups.get(grease)
        if found is None:
            _, ours = self._ours
            listed = ours if grease is None else (grease, *ours)
            found = self._groups[grease] = _item(x.SUPPORTED_GROUPS.extension(listed))
        return found


def _prepared(config: ClientConfig) -> _Prepared:
    found = config.memo.get("offer")
    if not isinstance(found, _Prepared):
        found = config.memo["offer"] = _Prepared(config)
    return found


@functools.lru_cache(maxsize=32)
def _versions(grease: int | None) -> _Item:
    return _item(x.SUPPORTED_VERSIONS.extension((TLS_1_3,) if grease is None else (grease, TLS_1_3)))


@functools.lru_cache(maxsize=256)
def _server_name(name: str) -> _Item:
    return _item(x.SERVER_NAME.extension(name))


@functools.lru_cache(maxsize=32)
def _of_its_own(grease: int, data: bytes) -> _Item:
    """Return the extension that is a GREASE value itself."""
    return _item(Extension(grease, data))


@functools.lru_cache(maxsize=16)
def _grease_share(group: int) -> KeyShareEntry:
    return KeyShareEntry(group, b"\0")


_EARLY_DATA: Final = _item(x.EARLY_DATA.extension(True))


def first_offer(config: ClientConfig, server_name: str, session: ClientSession | None = None) -> Offer:
    """Return a fresh offer for *server_name*. session: what to resume.

    Raises UsageError if the name is neither a host name nor an address.
    """
    reference = reference_name(server_name)
    prepared = _prepared(config)
    entropy = config.provider.random(32 + 32 + 64)
    grease = _grease(entropy[64:70]) if config.grease else None
    exchanges = {code: config.group_table[code].generate() for code in config.initial_shares}
    psks = _psks(config, session) if session is not None or config.psks else ()
    early_data = _early_data(config, psks) if config.early_data else EarlyDataOutcome.DISABLED
    body = _extensions(prepared, exchanges, grease)
    if config.send_server_name and reference.address is None:
        body.append(_server_name(reference.text))
    body += prepared.rest
    if psks or config.session_store is not None:
        body.append(prepared.psk_modes)
    if early_data is EarlyDataOutcome.DECLINED:
        body.append(_EARLY_DATA)
    if config.permute_extensions:
        _permute(body, entropy[70:])
    if grease is not None:
        body = [_of_its_own(grease[0], b""), *body, _of_its_own(grease[1], b"\0")]
    suites, encoded_suites = prepared.suites(None if grease is None else grease[2])
    hello = ClientHello(
        TLS_1_2,
        entropy[:32],
        entropy[32:64] if config.middlebox_compatibility else b"",
        suites,
        NULL_COMPRESSION,
        tuple([extension for extension, _ in body]),
    )
    raw = _encoded(hello, encoded_suites, b"".join([encoded for _, encoded in body]))
    if psks:
        hello, raw = bound_hello(hello, psks, Transcript(), raw)
    return Offer(
        hello=hello,
        raw=raw,
        suites=config.suites,
        groups=config.groups,
        alpn=config.alpn_names,
        exchanges=exchanges,
        requested=suits_request(hello.extensions),
        reference_name=reference.text,
        psks=psks,
        early_data=early_data,
    )


def _encoded(hello: ClientHello, suites: bytes, extensions: bytes) -> bytes:
    """Return `handshake_message(hello)`, made of its parts: 1 µs instead of 4.

    suites, extensions: *hello*'s, encoded; of the latter without their length.
    """
    if len(extensions) >= 2**16:
        return handshake_message(hello)  # which says that it is too much
    body = b"".join(
        (
            b"\x03\x03",
            hello.random,
            bytes((len(hello.legacy_session_id),)),
            hello.legacy_session_id,
            suites,
            b"\x01\0",
            len(extensions).to_bytes(2, "big"),
            extensions,
        )
    )
    return (HandshakeType.CLIENT_HELLO << 24 | len(body)).to_bytes(4, "big") + body


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


def _extensions(prepared: _Prepared, exchanges: dict[int, KeyExchange], grease: list[int] | None) -> list[_Item]:
    """Return the first of a hello's extensions, up to the server's name."""
    shares = [KeyShareEntry(code, exchange.public) for code, exchange in exchanges.items()]
    version = group = None
    if grease is not None:
        group, version = grease[3:]
        shares.insert(0, _grease_share(group))
    # New each time: to be kept for the next hello is not for this one.
    key_share = Extension(ExtensionType.KEY_SHARE, x.KEY_SHARES.codec.encode(tuple(shares)))
    return [_versions(version), prepared.groups(group), _item(key_share), *prepared.signature_algorithms]


def _rest(config: ClientConfig) -> Iterator[Extension]:
    """Yield what is in every hello of the configuration, after the server's name."""
    if config.alpn_names:
        yield x.ALPN.extension(config.alpn_names)
    if config.ticket_request is not None:
        yield x.TICKET_REQUEST.extension(ClientTicketRequest(*config.ticket_request))
    if config.signature_algorithms_cert is not None:
        yield x.SIGNATURE_ALGORITHMS_CERT.extension(config.signature_algorithms_cert)
    if config.certificate_authorities:
        yield x.CERTIFICATE_AUTHORITIES.extension(config.certificate_authorities)
    if config.record_size_limit is not None:
        yield x.RECORD_SIZE_LIMIT.extension(config.record_size_limit)
    if config.post_handshake_auth:
        yield x.POST_HANDSHAKE_AUTH.extension(True)
    yield from certificate_type_extensions(config)
    yield from server_certificate_extensions(config)


def _permute(extensions: list[_Item], entropy: bytes) -> None:
    """Put *extensions* in an order that *entropy* picks: Fisher-Yates, two bytes a step."""
    steps = len(extensions)
    numbers = struct.unpack(f">{steps}H", entropy[: 2 * steps].ljust(2 * steps, b"\0"))
    for i in range(steps - 1, 0, -1):
        j = numbers[i] % (i + 1)
        extensions[i], extensions[j] = extensions[j], extensions[i]


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
        share = Extension(
            ExtensionType.KEY_SHARE, x.KEY_SHARES.codec.encode((KeyShareEntry(group, exchanges[group].public),))
        )
        extensions = [share if e.extension_type == ExtensionType.KEY_SHARE else e for e in extensions]
    if cookie is not None:
        extensions.append(Extension(ExtensionType.COOKIE, x.COOKIE.codec.encode(cookie)))
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
    try:
        hello, raw = bound_hello(hello, psks, transcript) if psks else (hello, handshake_message(hello))
    except UsageError:
        if cookie is None:
            raise
        # Without the cookie it fitted: what does not is the server's.
        raise IllegalParameter(
            f"a cookie of {len(cookie)} bytes does not fit into the ClientHello",
            rfc="9846 §4.3.2",
            code="TLS-BAD-RETRY",
        ) from None
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
