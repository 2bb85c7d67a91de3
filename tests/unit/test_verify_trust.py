"""TrustStore: from memory, frozen, combined; what cannot be parsed is counted."""

from __future__ import annotations

import dataclasses

import pytest

from pellucid.errors import UsageError
from pellucid.testing.ca import CA
from pellucid.verify import TrustStore, WebPKIVerifier
from pellucid.verify.trust import certificates_in_pem


@pytest.fixture(scope="module")
def one() -> CA:
    return CA("one")


@pytest.fixture(scope="module")
def two() -> CA:
    return CA("two")


def test_pem_with_comments_and_both_line_endings_is_read(one: CA, two: CA) -> None:
    text = b"# comment\n" + one.root_pem + b"\nOne: two\r\n" + two.root_pem.replace(b"\n", b"\r\n") + b"trailer"
    trust = TrustStore.from_pem(text)
    assert trust.roots == (one.root_der, two.root_der)
    assert trust == TrustStore.from_der([one.root_der, two.root_der]) == TrustStore.from_pem(text.decode())
    assert trust.origin == "explicit" and trust.skipped == ()
    assert len(trust) == 2 and trust


def test_duplicates_stand_once(one: CA) -> None:
    assert len(TrustStore.from_der([one.root_der, one.root_der])) == 1


def test_unusable_roots_are_skipped_and_counted(one: CA) -> None:
    broken = b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"
    trust = TrustStore.from_pem(broken + one.root_pem + broken, origin="here")
    assert trust.roots == (one.root_der,)
    assert len(trust.skipped) == 2 and "certificate 1 of here" in trust.skipped[0]
    assert repr(trust) == "TrustStore(1 roots, 2 skipped, here)"


@pytest.mark.parametrize("data", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_no_usable_root_is_a_usage_error(data: bytes) -> None:
    with pytest.raises(UsageError, match="no usable root"):
        TrustStore.from_pem(data)
    with pytest.raises(UsageError, match="no usable root"):
        TrustStore.from_der([data] if data else [])


def test_private_keys_in_a_bundle_are_not_certificates(one: CA) -> None:
    assert certificates_in_pem(one.issue("x.test").key_pem) == []


def test_stores_combine_in_order_and_name_their_origins(one: CA, two: CA) -> None:
    left = TrustStore.from_der([one.root_der], origin="a")
    right = TrustStore.from_der([two.root_der, one.root_der, b"junk"], origin="b")
    both = left | right
    assert both.roots == (one.root_der, two.root_der)
    assert both.origin == "a + b" and len(both.skipped) == 1
    assert (both | left).origin == "a + b"
    assert (left | TrustStore.empty(origin="a")) == left


def test_empty_store_trusts_nobody() -> None:
    empty = TrustStore.empty()
    assert not empty and len(empty) == 0 and empty.store is None and empty.authorities == ()


def test_store_is_frozen_and_parsed_once(one: CA, two: CA) -> None:
    trust = one.trust | two.trust
    with pytest.raises(dataclasses.FrozenInstanceError):
        trust.roots = ()
    assert trust.store is trust.store
    assert one.root_der in trust and b"" not in trust
    assert trust.authorities == (one.name.public_bytes(), two.name.public_bytes())
    assert trust.with_subject(two.name.public_bytes()) == (two.certificate,)
    assert trust.with_subject(b"") == ()
    assert WebPKIVerifier(trust).authorities == trust.authorities
    assert WebPKIVerifier(trust).trust is trust
    assert one.root_der.hex() not in repr(trust)
