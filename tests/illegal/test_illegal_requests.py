"""CertificateRequests that must not be: oid_filters that break their own rules (RFC 9846 §4.3.5)."""

from __future__ import annotations

from typing import Any

import pytest

from pellucid.messages import extensions as x
from pellucid.messages.extensions import OIDFilter
from pellucid.registry import AlertDescription as A
from pellucid.registry import HandshakeType as H
from tests.illegal.evil import (
    asking_server,
    changing_extensions,
    client_with_certificate,
    connected,
    evil_server,
    good_client,
    refused,
)

KEY_USAGE, EXTENDED = bytes.fromhex("0603551d0f"), bytes.fromhex("0603551d25")
OTHER = bytes.fromhex("06032a0304")
ANY = bytes.fromhex("06 04 55 1d 25 00")
CLIENT_AUTH = bytes.fromhex("06082b06010505070302")


def asking_for(*filters: tuple[bytes, bytes]) -> Any:
    extension = x.OID_FILTERS.extension(tuple(OIDFilter(oid, value) for oid, value in filters))
    return evil_server(
        asking_server(), edit=changing_extensions(H.CERTIFICATE_REQUEST, lambda extensions: [*extensions, extension])
    )


@pytest.mark.rfc("9846 §4.3.5", "an OID does not appear more than once in the filters")
@pytest.mark.parametrize("oid", [KEY_USAGE, OTHER])
@pytest.mark.parametrize("chunk", [1, None])
def test_an_oid_twice_is_illegal_parameter(oid: bytes, chunk: int | None) -> None:
    server = asking_for((oid, bytes.fromhex("03020780")), (OTHER[:-1] + b"\5", b""), (oid, bytes.fromhex("03020780")))
    refused(good_client(client_with_certificate()), server, A.ILLEGAL_PARAMETER, chunk=chunk)


@pytest.mark.rfc("9846 §4.3.5", "anyExtendedKeyUsage is not used in the request")
@pytest.mark.parametrize("purposes", [ANY, CLIENT_AUTH + ANY])
@pytest.mark.parametrize("chunk", [1, None])
def test_any_extended_key_usage_is_illegal_parameter(purposes: bytes, chunk: int | None) -> None:
    server = asking_for((EXTENDED, b"\x30" + bytes((len(purposes),)) + purposes))
    refused(good_client(client_with_certificate()), server, A.ILLEGAL_PARAMETER, chunk=chunk)


@pytest.mark.rfc("9846 §4.3.5", "values are in DER")
@pytest.mark.parametrize(
    ("oid", "value"),
    [
        (KEY_USAGE, ""),
        (KEY_USAGE, "03"),
        (KEY_USAGE, "0300"),  # not even the count of unused bits
        (KEY_USAGE, "030107"),  # unused bits of no byte
        (KEY_USAGE, "03020880"),
        (KEY_USAGE, "03030780"),  # cut
        (KEY_USAGE, "0302078000"),  # more behind it
        (KEY_USAGE, "04020780"),
        (KEY_USAGE, "0381020780"),  # a long length where a short one does
        (KEY_USAGE, "0380"),
        (KEY_USAGE, "0382000207 80"),
        (KEY_USAGE, "0383000002 0780"),
        (EXTENDED, "30"),
        (EXTENDED, "3001"),
        (EXTENDED, "300206"),
        (EXTENDED, "300402020780"),  # an INTEGER
        (EXTENDED, "3003060500"),
        (EXTENDED, "310a" + CLIENT_AUTH.hex()),
        (EXTENDED, "300a" + CLIENT_AUTH.hex() + "00"),
    ],
)
def test_values_that_are_not_the_extensions_are_decode_error(oid: bytes, value: str) -> None:
    for client in (client_with_certificate(), None):  # whether there is a certificate to hold against it or not
        refused(good_client(client), asking_for((oid, bytes.fromhex(value))), A.DECODE_ERROR)


@pytest.mark.rfc("9846 §4.3.5", "unrecognized certificate extension OIDs are ignored and skipped")
@pytest.mark.parametrize("chunk", [1, 100, None])
def test_extensions_that_are_not_recognized_are_passed_over(chunk: int | None) -> None:
    server = asking_for((OTHER, b"no DER at all"), (b"\xff", b""), (KEY_USAGE, bytes.fromhex("03020780")))
    connected(good_client(client_with_certificate()), server, chunk=chunk)
    assert server.negotiated is not None and server.negotiated.peer is not None


def test_no_filters_are_none() -> None:
    server = asking_for()
    connected(good_client(client_with_certificate()), server)
    assert server.negotiated is not None and server.negotiated.peer is not None
