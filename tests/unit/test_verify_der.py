"""The little DER reader: what it finds agrees with pyca/cryptography, and what is no DER is a ValueError."""

from __future__ import annotations

import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pellucid.verify import der
from tests.support.revocation import authority, leaf


def test_elements_are_told_apart() -> None:
    long = b"\x04\x81\x80" + b"x" * 128
    assert [(one.tag, one.content) for one in der.elements(b"\x05\x00" + long)] == [(5, b""), (4, b"x" * 128)]
    assert [one.encoding for one in der.elements(b"\x05\x00" + long)] == [b"\x05\x00", long]
    assert list(der.elements(b"")) == []
    assert [one.tag for one in der.inside(b"\x30\x04\x05\x00\x05\x00")] == [5, 5]


@pytest.mark.parametrize(
    "data",
    [
        b"\x30",
        b"\x30\x01",
        b"\x30\x80",
        b"\x30\x81",
        b"\x30\x81\x7f" + b"x" * 127,  # a length that fits into one byte is written in one
        b"\x30\x85\x00\x00\x00\x00\x01x",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x1f\x01\x00",
        b"\x3f\x81\x01\x00",
        b"\x05\x00\x30\x02\x00",
    ],
    ids=bytes.hex,
)
def test_what_is_no_der_raises_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="DER"):
        list(der.elements(data))


def test_one_element_is_wanted_where_there_are_none_or_two() -> None:
    for data in (b"", b"\x05\x00\x05\x00"):
        with pytest.raises(ValueError, match="where one should be"):
            der.inside(data)
    with pytest.raises(ValueError, match="no element with the tag"):
        der.response_algorithm(b"\x30\x00")


def test_an_issuers_name_and_key_are_those_that_upstream_hashes() -> None:
    issuer = authority().certificate
    identity = der.issuer_identity(leaf().der, issuer.public_bytes(Encoding.DER))
    assert identity.name == leaf().certificate.issuer.public_bytes() == issuer.subject.public_bytes()
    identifier = x509.SubjectKeyIdentifier.from_public_key(issuer.public_key()).digest  # type: ignore[arg-type]
    assert hashlib.sha1(identity.key).digest() == identifier


def test_the_algorithm_of_a_response_is_found() -> None:
    ecdsa_with_sha256 = bytes.fromhex("300a06082a8648ce3d040302")
    assert der.response_algorithm(authority().ocsp_response(leaf())) == ecdsa_with_sha256
