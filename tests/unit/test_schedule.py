"""The key schedule's pieces that RFC 8448's traces do not reach: long outputs, other hashes, exporters, key updates."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from pellucid.crypto.pyca import PYCA
from pellucid.errors import UsageError
from pellucid.schedule import EarlySecret, Prf, TrafficSecret, export_keying_material, hkdf_label
from pellucid.trace import Epoch
from tests.support.pair import Pair

SUITES = list(PYCA.suites)
HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384()}


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
@pytest.mark.parametrize("key_length", [0, 1, 32, 48, 64, 65, 128, 129, 300])
def test_hmac_equals_the_standard_librarys(suite: Any, key_length: int) -> None:
    key = bytes(range(256))[:key_length] + bytes(max(0, key_length - 256))
    ours = Prf(suite, key)
    for data in (b"", b"data", bytes(1000)):
        assert ours.hmac(data) == hmac.digest(key, data, suite.hash_name)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
@pytest.mark.parametrize("length", [0, 1, 12, 16, 32, 33, 48, 49, 96, 97, 1000, 255 * 32])
@pytest.mark.rfc("9846 §7.1", "HKDF-Expand-Label and its HkdfLabel structure")
def test_expand_label_equals_another_hkdf(suite: Any, length: int) -> None:
    secret, label, context = bytes(range(48)), b"some label", b"context"
    algorithm = HASHES[suite.hash_name]
    info = length.to_bytes(2, "big") + b"\x10tls13 some label" + b"\x07context"
    assert hkdf_label(label, context, length) == info
    ours = Prf(suite, secret).expand_label(label, context, length)
    assert len(ours) == length
    if length:
        assert ours == HKDFExpand(algorithm, length, info).derive(secret)


def test_expand_label_keeps_its_bounds() -> None:
    prf = Prf(SUITES[0], bytes(32))
    assert len(prf.expand_label(b"x" * 249, bytes(255), 32)) == 32
    for label, context, length in (
        (b"", b"", 32),
        (b"x" * 250, b"", 32),
        (b"x", bytes(256), 32),
        (b"x", b"", 255 * 32 + 1),
        (b"x", b"", 65536),
        (b"x", b"", -1),
    ):
        with pytest.raises(UsageError):
            prf.expand_label(label, context, length)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
@pytest.mark.rfc("9846 §7.1", "the three stages are HKDF-Extract chained by Derive-Secret(., 'derived', '')")
def test_stages_equal_another_hkdf(suite: Any) -> None:
    algorithm, size = HASHES[suite.hash_name], suite.hash_length
    empty = hashlib.new(suite.hash_name).digest()

    def derived(secret: bytes) -> bytes:
        info = size.to_bytes(2, "big") + b"\x0dtls13 derived" + bytes((size,)) + empty
        return HKDFExpand(algorithm, size, info).derive(secret)

    psk, shared = b"a pre-shared key", b"a shared secret"
    early = EarlySecret.extract(suite, psk)
    assert early.value == HKDF.extract(algorithm, bytes(size), psk)
    handshake = early.handshake(shared)
    assert handshake.value == HKDF.extract(algorithm, derived(early.value), shared)
    assert handshake.main().value == HKDF.extract(algorithm, derived(handshake.value), bytes(size))


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
@pytest.mark.rfc("9846 §7.2", "the next traffic secret is HKDF-Expand-Label(., 'traffic upd', '', Hash.length)")
def test_key_update_derives_the_next_secret(suite: Any) -> None:
    first = TrafficSecret(suite=suite, epoch=Epoch.APPLICATION, value=bytes(suite.hash_length))
    second = first.next()
    size = suite.hash_length
    info = size.to_bytes(2, "big") + b"\x11tls13 traffic upd\x00"
    assert second.value == HKDFExpand(HASHES[suite.hash_name], size, info).derive(first.value)
    assert (second.generation, second.next().generation) == (1, 2)
    assert len({first.keys().key, second.keys().key, second.next().keys().key}) == 3
    assert len(first.keys().key) == suite.key_length
    assert len(first.keys().iv) == 12


@pytest.mark.rfc("9846 §7.5", "exporters: the same on both ends, different for label, context and length")
def test_exporters_agree_and_depend_on_everything() -> None:
    pair = Pair.of().connect()
    seen = {}
    for label, context, length in (
        (b"a", b"", 32),
        (b"b", b"", 32),
        (b"a", b"c", 32),
        (b"a", b"", 33),
        (b"a", b"", 64),
    ):
        value = pair.client.export_keying_material(label, context, length)
        assert value == pair.server.export_keying_material(label, context, length)
        assert len(value) == length
        seen[value[:32]] = (label, context, length)
    assert len(seen) == 5
    with pytest.raises(UsageError):
        pair.client.export_keying_material(b"a", b"", 255 * 32 + 1)


@pytest.mark.rfc("9846 §7.5", "TLS-Exporter is two Expand-Labels over hashes of nothing and of the context")
def test_exporter_equals_its_definition() -> None:
    suite, secret = SUITES[1], bytes(range(48))
    empty, context = hashlib.sha384(b"").digest(), hashlib.sha384(b"context").digest()
    inner = HKDFExpand(hashes.SHA384(), 48, b"\x00\x30\x0btls13 label" + b"\x30" + empty).derive(secret)
    outer = HKDFExpand(hashes.SHA384(), 20, b"\x00\x14\x0etls13 exporter" + b"\x30" + context).derive(inner)
    assert export_keying_material(suite, secret, b"label", b"context", 20) == outer


def test_secrets_are_not_shown() -> None:
    early = EarlySecret.extract(SUITES[0], b"p" * 32)
    traffic = early.client_early_traffic_secret(bytes(32))
    for thing in (early, early.handshake(b"s"), early.handshake(b"s").main(), traffic, traffic.keys()):
        shown = repr(thing)
        for value in (getattr(thing, "value", b"\0\0\0\0"), getattr(thing, "key", b"\0\0\0\0")):
            assert value.hex()[:8] not in shown and repr(value)[2:10] not in shown
