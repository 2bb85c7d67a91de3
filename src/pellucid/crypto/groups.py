"""Key-exchange groups over pyca/cryptography, KEM-shaped (RFC 9846 §4.3.8, §7.4).

Shares are checked for length and form before the library sees them: it accepts compressed points (attack D2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x448, x25519

from pellucid.crypto.provider import Group, KeyExchange
from pellucid.errors import IllegalParameter
from pellucid.registry import NamedGroup


def _refuse(name: str, why: str) -> IllegalParameter:
    return IllegalParameter(f"the peer's {name} key share is {why}", rfc="9846 §4.3.8.2", code="TLS-BAD-KEY-SHARE")


def _check_length(name: str, share: bytes, length: int) -> None:
    if len(share) != length:
        raise _refuse(name, f"{len(share)} bytes long, not {length}")


# ---- (EC)DHE -----------------------------------------------------------------------------------------------------


class _X25519:
    __slots__ = ("_private", "public")
    name: Final = "x25519"

    def __init__(self) -> None:
        self._private = x25519.X25519PrivateKey.generate()
        self.public = self._private.public_key().public_bytes_raw()

    def finish(self, peer: bytes) -> bytes:
        _check_length(self.name, peer, 32)
        try:
            return self._private.exchange(x25519.X25519PublicKey.from_public_bytes(peer))
        except ValueError:
            raise _refuse(self.name, "a point of small order (RFC 7748 §6.1)") from None


class _X448:
    __slots__ = ("_private", "public")
    name: Final = "x448"

    def __init__(self) -> None:
        self._private = x448.X448PrivateKey.generate()
        self.public = self._private.public_key().public_bytes_raw()

    def finish(self, peer: bytes) -> bytes:
        _check_length(self.name, peer, 56)
        try:
            return self._private.exchange(x448.X448PublicKey.from_public_bytes(peer))
        except ValueError:
            raise _refuse(self.name, "a point of small order (RFC 7748 §6.2)") from None


class _Nist:
    __slots__ = ("_curve", "_length", "_private", "name", "public")

    def __init__(self, name: str, curve: ec.EllipticCurve) -> None:
        self.name = name
        self._curve = curve
        self._length = 1 + 2 * ((curve.key_size + 7) // 8)
        self._private = ec.generate_private_key(curve)
        numbers = self._private.public_key().public_numbers()
        width = self._length // 2
        self.public = b"\x04" + numbers.x.to_bytes(width, "big") + numbers.y.to_bytes(width, "big")

    def finish(self, peer: bytes) -> bytes:
        _check_length(self.name, peer, self._length)
        if peer[0] != 4:
            raise _refuse(self.name, "not an uncompressed point")
        try:
            return self._private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(self._curve, peer))
        except ValueError:
            raise _refuse(self.name, "not a point on the curve") from None


def _dhe(code: int, length: int, bits: int, generate: Callable[[], KeyExchange], name: str) -> Group:
    def respond(peer: bytes) -> tuple[bytes, bytes]:
        exchange = generate()
        return exchange.public, exchange.finish(peer)

    return Group(
        code=code,
        name=name,
        client_length=length,
        server_length=length,
        bits=bits,
        post_quantum=False,
        generate=generate,
        respond=respond,
    )


# ---- hybrids: draft-ietf-tls-ecdhe-mlkem --------------------------------------------------------------------------

_KEM = type[mlkem.MLKEM768PrivateKey] | type[mlkem.MLKEM1024PrivateKey]
_KEMPublic = type[mlkem.MLKEM768PublicKey] | type[mlkem.MLKEM1024PublicKey]


class _HybridExchange:
    """A client's half of a hybrid: shares and secrets concatenated in one order (attack D6)."""

    __slots__ = ("_ciphertext_length", "_dhe", "_kem", "_kem_first", "name", "public")

    def __init__(self, name: str, dhe: KeyExchange, kem: _KEM, ciphertext_length: int, *, kem_first: bool) -> None:
        self.name = name
        self._dhe = dhe
        self._kem = kem.generate()
        self._ciphertext_length = ciphertext_length
        self._kem_first = kem_first
        key = self._kem.public_key().public_bytes_raw()
        self.public = key + dhe.public if kem_first else dhe.public + key

    def finish(self, peer: bytes) -> bytes:
        split = self._ciphertext_length if self._kem_first else len(peer) - self._ciphertext_length
        if split < 0 or len(peer) <= self._ciphertext_length:
            raise _refuse(self.name, f"{len(peer)} bytes long")
        first, second = peer[:split], peer[split:]
        ciphertext, share = (first, second) if self._kem_first else (second, first)
        shared = self._dhe.finish(share)  # checks the share's length, and with it the whole's
        try:
            kem_shared = self._kem.decapsulate(ciphertext)
        except ValueError:
            raise _refuse(self.name, "not a ciphertext of its KEM") from None
        return kem_shared + shared if self._kem_first else shared + kem_shared


def _hybrid(
    code: int,
    name: str,
    dhe: Group,
    kem: tuple[_KEM, _KEMPublic, int, int],
    *,
    kem_first: bool,
) -> Group:
    kem_private, kem_public, key_length, ciphertext_length = kem

    def generate() -> KeyExchange:
        return _HybridExchange(name, dhe.generate(), kem_private, ciphertext_length, kem_first=kem_first)

    def respond(peer: bytes) -> tuple[bytes, bytes]:
        _check_length(name, peer, key_length + dhe.client_length)
        split = key_length if kem_first else dhe.client_length
        first, second = peer[:split], peer[split:]
        key, share = (first, second) if kem_first else (second, first)
        public, shared = dhe.respond(share)
        try:
            kem_shared, ciphertext = kem_public.from_public_bytes(key).encapsulate()
        except ValueError:
            # FIPS 203 §7.2: an encapsulation key that is not reduced modulo q.
            raise _refuse(name, "not a valid encapsulation key of its KEM") from None
        if kem_first:
            return ciphertext + public, kem_shared + shared
        return public + ciphertext, shared + kem_shared

    return Group(
        code=code,
        name=name,
        client_length=key_length + dhe.client_length,
        server_length=ciphertext_length + dhe.server_length,
        bits=dhe.bits,
        post_quantum=True,
        generate=generate,
        respond=respond,
    )


# ---- ML-KEM alone: draft-ietf-tls-mlkem -----------------------------------------------------------------------------


class _KemExchange:
    """A client's encapsulation key, and the private half of it."""

    __slots__ = ("_ciphertext_length", "_kem", "name", "public")

    def __init__(self, name: str, kem: _KEM, ciphertext_length: int) -> None:
        self.name = name
        self._kem = kem.generate()
        self._ciphertext_length = ciphertext_length
        self.public = self._kem.public_key().public_bytes_raw()

    def finish(self, peer: bytes) -> bytes:
        _check_length(self.name, peer, self._ciphertext_length)
        try:
            return self._kem.decapsulate(peer)
        except ValueError:
            raise _refuse(self.name, "not a ciphertext of its KEM") from None


def _kem_alone(code: int, name: str, bits: int, kem: tuple[_KEM, _KEMPublic, int, int]) -> Group:
    kem_private, kem_public, key_length, ciphertext_length = kem

    def generate() -> KeyExchange:
        return _KemExchange(name, kem_private, ciphertext_length)

    def respond(peer: bytes) -> tuple[bytes, bytes]:
        _check_length(name, peer, key_length)
        try:
            shared, ciphertext = kem_public.from_public_bytes(peer).encapsulate()
        except ValueError:
            # FIPS 203 §7.2: an encapsulation key that is not reduced modulo q.
            raise _refuse(name, "not a valid encapsulation key of its KEM") from None
        return ciphertext, shared

    return Group(
        code=code,
        name=name,
        client_length=key_length,
        server_length=ciphertext_length,
        bits=bits,
        post_quantum=True,
        generate=generate,
        respond=respond,
    )


# ---- the groups ------------------------------------------------------------------------------------------------------

_MLKEM768: Final = (mlkem.MLKEM768PrivateKey, mlkem.MLKEM768PublicKey, 1184, 1088)
_MLKEM1024: Final = (mlkem.MLKEM1024PrivateKey, mlkem.MLKEM1024PublicKey, 1568, 1568)

X25519: Final = _dhe(NamedGroup.X25519, 32, 128, _X25519, "x25519")
X448: Final = _dhe(NamedGroup.X448, 56, 224, _X448, "x448")
SECP256R1: Final = _dhe(NamedGroup.SECP256R1, 65, 128, lambda: _Nist("secp256r1", ec.SECP256R1()), "secp256r1")
SECP384R1: Final = _dhe(NamedGroup.SECP384R1, 97, 192, lambda: _Nist("secp384r1", ec.SECP384R1()), "secp384r1")
SECP521R1: Final = _dhe(NamedGroup.SECP521R1, 133, 256, lambda: _Nist("secp521r1", ec.SECP521R1()), "secp521r1")
X25519MLKEM768: Final = _hybrid(NamedGroup.X25519MLKEM768, "X25519MLKEM768", X25519, _MLKEM768, kem_first=True)
SECP256R1MLKEM768: Final = _hybrid(
    NamedGroup.SECP256R1MLKEM768, "SecP256r1MLKEM768", SECP256R1, _MLKEM768, kem_first=False
)
SECP384R1MLKEM1024: Final = _hybrid(
    NamedGroup.SECP384R1MLKEM1024, "SecP384r1MLKEM1024", SECP384R1, _MLKEM1024, kem_first=False
)

GROUPS: Final = (
    X25519MLKEM768,
    X25519,
    SECP256R1,
    SECP384R1,
    SECP521R1,
    X448,
    SECP256R1MLKEM768,
    SECP384R1MLKEM1024,
)

MLKEM768: Final = _kem_alone(NamedGroup.MLKEM768, "MLKEM768", 192, _MLKEM768)
MLKEM1024: Final = _kem_alone(NamedGroup.MLKEM1024, "MLKEM1024", 256, _MLKEM1024)
KEMS_ALONE: Final = (MLKEM768, MLKEM1024)
"""No classical secret stands behind these, so the default provider does not hold them. Whoever has to use them replaces
its groups: `dataclasses.replace(PYCA, groups=(*PYCA.groups, MLKEM1024))`."""
