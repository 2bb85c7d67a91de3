"""The authenticated cookie of a HelloRetryRequest (RFC 9846 §4.3.2): what a server must know again, kept by the client.

Sealed with AES-256-GCM under the server's key and a random nonce, bound to the peer's address, short-lived: another
connection, even on another server with the same key, can go on from it (attack C6).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pellucid.config import ServerConfig
from pellucid.errors import DecodeError, IllegalParameter
from pellucid.handshake.negotiate import unchanged_part
from pellucid.messages.handshake import ClientHello
from pellucid.wire import WireStruct, fixed, opaque, u8, u16, u32, wire, wire_struct

_NONCE_LENGTH = 12
_FUTURE_SECONDS = 5  # two servers' clocks


@wire_struct
class _Sealed(WireStruct):
    """issued: seconds since 1970, modulo 2^32. group: 0 where none was asked for."""

    version: int = wire(u8)
    issued: int = wire(u32)
    cipher_suite: int = wire(u16)
    group: int = wire(u16)
    psk: int = wire(u8)
    client_hello_hash: bytes = wire(opaque(32, 64))
    unchanged: bytes = wire(fixed(32))


@dataclass(frozen=True, slots=True)
class Retry:
    """What a HelloRetryRequest asked of the client, and the hash of the ClientHello it answered."""

    cipher_suite: int
    group: int | None
    client_hello_hash: bytes
    unchanged: bytes
    """digest of what a second ClientHello may not change"""
    cookie: bytes | None
    psk: bool
    """whether the first ClientHello had a PSK that can be used: the second has one too"""


def unchanged_digest(hello: ClientHello, group: int | None) -> bytes:
    """Return a digest of what the second ClientHello must repeat (RFC 9846 §4.2.2). group: asked for a share of."""
    return hashlib.sha256(unchanged_part(hello, shares=group is None)).digest()


def seal(config: ServerConfig, key: bytes, retry: Retry, peer_address: str) -> bytes:
    """Return the cookie for *retry*, good for this peer and `cookie_lifetime_seconds`."""
    sealed = _Sealed(
        version=2,
        issued=int(config.provider.now()) % 2**32,
        cipher_suite=retry.cipher_suite,
        group=retry.group or 0,
        psk=retry.psk,
        client_hello_hash=retry.client_hello_hash,
        unchanged=retry.unchanged,
    )
    nonce = config.provider.random(_NONCE_LENGTH)
    return nonce + config.provider.cookie_aead(key).encrypt(nonce, sealed.encode(), peer_address.encode())


def unseal(config: ServerConfig, key: bytes, cookie: bytes, peer_address: str) -> Retry:
    """Return what the cookie keeps. Raises IllegalParameter if it is not ours, another peer's, or too old."""
    nonce, body = cookie[:_NONCE_LENGTH], cookie[_NONCE_LENGTH:]
    refused = IllegalParameter("the cookie is not one of ours for this peer", rfc="9846 §4.3.2", code="TLS-BAD-RETRY")
    if len(nonce) != _NONCE_LENGTH:
        raise refused
    try:
        sealed = _Sealed.decode(config.provider.cookie_aead(key).decrypt(nonce, body, peer_address.encode()))
    except (config.provider.tag_error, DecodeError):
        raise refused from None
    age = config.provider.now() - sealed.issued
    if not -_FUTURE_SECONDS <= age <= config.cookie_lifetime_seconds:
        raise IllegalParameter("the cookie has expired", rfc="9846 §4.3.2", code="TLS-BAD-RETRY")
    return Retry(
        cipher_suite=sealed.cipher_suite,
        group=sealed.group or None,
        client_hello_hash=sealed.client_hello_hash,
        unchanged=sealed.unchanged,
        cookie=cookie,
        psk=bool(sealed.psk),
    )
