"""The ClientHello: what is offered, built from the configuration, and again after HelloRetryRequest.

RFC 9846 §4.2.2; GREASE: RFC 8701. A fresh key share for every connection (§4.3.8).
"""

from __future__ import annotations

from dataclasses import field

from pellucid.config import ClientConfig
from pellucid.crypto.provider import KeyExchange
from pellucid.handshake.certificates import server_certificate_extensions
from pellucid.handshake.negotiate import NULL_COMPRESSION, suits_request
from pellucid.messages import extensions as x
from pellucid.messages.extensions import KeyShareEntry
from pellucid.messages.handshake import ClientHello, Extension, handshake_message
from pellucid.registry import GREASE_VALUES, TLS_1_2, TLS_1_3, ExtensionType
from pellucid.value import internal_value
from pellucid.verify.names import is_ip, normalize_server_name


@internal_value
class Offer:
    """A ClientHello and what only we know of it.

    raw:            the message, header included.
    suites, groups: without GREASE.
    exchanges:      the private halves of the shares sent, by group.
    requested:      extension types that a response may answer.
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


class _Grease:
    """RFC 8701's reserved values for one connection: which, and where."""

    __slots__ = ("_values",)

    def __init__(self, seed: bytes) -> None:
        values = list(GREASE_VALUES)
        # Two different values for the two extensions: a ClientHello has no type twice.
        self._values = [values.pop(byte % len(values)) for byte in seed[:6]]

    def pick(self, place: int) -> int:
        return self._values[place]


def first_offer(config: ClientConfig, server_name: str) -> Offer:
    """Return a fresh offer for *server_name*. Raises UsageError if that is neither a host name nor an address."""
    reference = normalize_server_name(server_name)
    provider = config.provider
    entropy = provider.random(32 + 32 + 64)
    grease = _Grease(entropy[64:70]) if config.grease else None
    exchanges = {code: config.group_table[code].generate() for code in config.initial_shares}
    body = _extensions(config, reference, exchanges, grease)
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
    return Offer(
        hello=hello,
        raw=handshake_message(hello),
        suites=config.suites,
        groups=config.groups,
        alpn=config.alpn_names,
        exchanges=exchanges,
        requested=suits_request(hello.extensions),
        reference_name=reference,
    )


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
        x.SIGNATURE_ALGORITHMS.extension(config.signature_schemes),
        x.KEY_SHARES.extension(shares),
    ]
    if config.send_server_name and not is_ip(reference):
        built.append(x.SERVER_NAME.extension(reference))
    if config.alpn_names:
        built.append(x.ALPN.extension(config.alpn_names))
    built += server_certificate_extensions(config)
    return built


def _permuted(extensions: list[Extension], entropy: bytes) -> list[Extension]:
    """Return *extensions* in an order that *entropy* picks: Fisher-Yates, two bytes a step."""
    order = list(extensions)
    for i in range(len(order) - 1, 0, -1):
        j = int.from_bytes(entropy[2 * i : 2 * i + 2], "big") % (i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def retried_offer(config: ClientConfig, offer: Offer, group: int | None, cookie: bytes | None) -> Offer:
    """Return the offer that answers a HelloRetryRequest: the same but for key_share and cookie (RFC 9846 §4.2.2)."""
    exchanges = offer.exchanges
    extensions = list(offer.hello.extensions)
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
    return Offer(
        hello=hello,
        raw=handshake_message(hello),
        suites=offer.suites,
        groups=offer.groups,
        alpn=offer.alpn,
        exchanges=exchanges,
        requested=offer.requested,
        reference_name=offer.reference_name,
    )
