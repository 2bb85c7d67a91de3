"""Whatever comes from an HTTP server, or stands in a certificate as an address: read, or refused with a reason."""

from __future__ import annotations

import ipaddress
import time

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import UsageError
from pellucid.net.eyeballs import Address
from pellucid.net.issuer_fetch import IssuerFetcher, NotFetched, is_public
from pellucid.testing.ca import CA
from pellucid.verify import SpkiPins, spki_pin
from pellucid.verify.supplied import certificates_in_reply
from tests.support.soak import examples

ONE, OTHER = CA("fetched").certificate, CA("also fetched").certificate
FORMS = (
    ONE.public_bytes(Encoding.DER),
    ONE.public_bytes(Encoding.PEM),
    pkcs7.serialize_certificates([ONE, OTHER], Encoding.DER),
)


@settings(max_examples=examples(100, soak=2_000), deadline=None)
@given(
    form=st.sampled_from(FORMS),
    flips=st.lists(st.tuples(st.integers(0, 2**16), st.integers(1, 255)), max_size=4),
    cut=st.none() | st.integers(0, 2**12),
)
def test_a_spoilt_reply_is_read_or_refused_and_nothing_else(
    form: bytes, flips: list[tuple[int, int]], cut: int | None
) -> None:
    data = bytearray(form)
    for at, mask in flips:
        data[at % len(data)] ^= mask
    try:
        found = certificates_in_reply(bytes(data[:cut]))
    except ValueError:
        return
    assert 1 <= len(found) <= 16 and all(isinstance(one, bytes) for one in found)


@settings(max_examples=examples(100, soak=2_000), deadline=None)
@given(st.text(max_size=80) | st.text("htp:/@[]?#%.0123456789afx\r\n ", max_size=40).map(lambda text: f"http://{text}"))
def test_no_address_leads_inwards(url: str) -> None:
    asked: list[bytes] = []

    def resolve(name: bytes, port: int) -> list[Address] | OSError:
        asked.append(name)
        assert port == 80 and b"\r" not in name and b"\n" not in name
        return [Address(2, ("127.0.0.1", port))]

    with pytest.raises(NotFetched):
        IssuerFetcher(resolve=resolve).fetch(url, time.monotonic() + 30)


@settings(max_examples=examples(100, soak=2_000), deadline=None)
@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_what_is_public_is_nothing_that_python_calls_private(address: object) -> None:
    assert isinstance(address, (ipaddress.IPv4Address, ipaddress.IPv6Address))
    if is_public(str(address)):
        assert address.is_global and not address.is_private and not address.is_loopback and not address.is_link_local


@settings(max_examples=examples(100, soak=2_000), deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=80))
def test_what_is_no_pin_and_no_key_is_refused_by_name(data: bytes | str) -> None:
    for read in (SpkiPins, spki_pin):
        try:
            read(data)
        except UsageError as error:
            assert str(error).isprintable()
        else:
            assert read is SpkiPins and len(data) >= 32
