"""Determinism: a provider whose entropy, time and private keys come from a script; all else is the real provider's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x448, x25519

from pellucid.crypto import groups
from pellucid.crypto.provider import CryptoProvider, Group, KeyExchange, Suite
from pellucid.crypto.pyca import PYCA
from pellucid.registry import NamedGroup as G
from pellucid.schedule import TrafficSecret
from pellucid.trace import Epoch

_CURVES: dict[int, tuple[str, ec.EllipticCurve]] = {
    G.SECP256R1: ("secp256r1", ec.SECP256R1()),
    G.SECP384R1: ("secp384r1", ec.SECP384R1()),
    G.SECP521R1: ("secp521r1", ec.SECP521R1()),
}


def exchange_with(group: int, private_key: bytes) -> KeyExchange:
    """Return our own KeyExchange of a (EC)DHE *group* with this private key: `finish` is the code under test.

    private_key: as RFC 7748 encodes it, or a big-endian integer for the NIST curves.
    """
    if group == G.X25519:
        made = object.__new__(groups._X25519)
        made._private = x25519.X25519PrivateKey.from_private_bytes(private_key)
        made.public = made._private.public_key().public_bytes_raw()
        return made
    if group == G.X448:
        x448_made = object.__new__(groups._X448)
        x448_made._private = x448.X448PrivateKey.from_private_bytes(private_key)
        x448_made.public = x448_made._private.public_key().public_bytes_raw()
        return x448_made
    name, curve = _CURVES[group]
    nist = groups._Nist(name, curve)
    nist._private = ec.derive_private_key(int.from_bytes(private_key, "big"), curve)
    numbers = nist._private.public_key().public_numbers()
    width = nist._length // 2
    nist.public = b"\x04" + numbers.x.to_bytes(width, "big") + numbers.y.to_bytes(width, "big")
    return nist


def hybrid_with(group: int, dhe_private_key: bytes, kem_seed: bytes) -> KeyExchange:
    """Return our own hybrid KeyExchange with these private keys. kem_seed: 64 bytes, d and z (FIPS 203)."""
    dhe, kem, ciphertext_length, kem_first = {
        G.X25519MLKEM768: (G.X25519, mlkem.MLKEM768PrivateKey, 1088, True),
        G.SECP256R1MLKEM768: (G.SECP256R1, mlkem.MLKEM768PrivateKey, 1088, False),
        G.SECP384R1MLKEM1024: (G.SECP384R1, mlkem.MLKEM1024PrivateKey, 1568, False),
    }[group]
    exchange = exchange_with(dhe, dhe_private_key)
    made = groups._HybridExchange("hybrid", exchange, kem, ciphertext_length, kem_first=kem_first)
    made._kem = kem.from_seed_bytes(kem_seed)
    key = made._kem.public_key().public_bytes_raw()
    made.public = key + exchange.public if kem_first else exchange.public + key
    return made


def scripted_group(group: Group, private_keys: Iterable[bytes]) -> Group:
    """Return *group*, whose fresh keys are these, one after the other; one more than there are is an error."""
    keys: Iterator[bytes] = iter(private_keys)

    def generate() -> KeyExchange:
        key = next(keys, None)
        if key is None:
            raise AssertionError(f"the script has no more {group.name} keys")
        return exchange_with(group.code, key)

    def respond(peer: bytes) -> tuple[bytes, bytes]:
        exchange = generate()
        return exchange.public, exchange.finish(peer)

    return dataclasses.replace(group, generate=generate, respond=respond)


def scripted_random(*values: bytes) -> Callable[[int], bytes]:
    """Return a source that gives *values*, one a call; a call of another length, or one too many, is an error."""
    left = list(values)

    def random(length: int) -> bytes:
        if not left or len(left[0]) != length:
            raise AssertionError(
                f"{length} random bytes are asked for; the script has {[len(value) for value in left]}"
            )
        return left.pop(0)

    return random


_STARTED = PYCA.now()


def fixed_provider(
    *random_bytes: bytes,
    now: float | None = None,
    private_keys: Mapping[int, Iterable[bytes]] | None = None,
    provider: CryptoProvider = PYCA,
) -> CryptoProvider:
    """Return *provider* with scripted entropy, clock and private keys.

    random_bytes: what each call of `random` gives; without any, the provider's own entropy stays.
    """
    scripts = private_keys or {}
    # One moment for all that is made with it: cookies hold whole seconds, and a test may cross one.
    return dataclasses.replace(
        provider,
        random=scripted_random(*random_bytes) if random_bytes else provider.random,
        now=(lambda: _STARTED) if now is None else lambda: now,
        groups=tuple(
            scripted_group(group, scripts[group.code]) if group.code in scripts else group for group in provider.groups
        ),
    )


def suite(code: int) -> Suite:
    """Return the default provider's suite with this code point."""
    return next(suite for suite in PYCA.suites if suite.code == code)


def traffic_secret(code: int, value: bytes, epoch: Epoch = Epoch.APPLICATION) -> TrafficSecret:
    return TrafficSecret(suite=suite(code), epoch=epoch, value=value)
