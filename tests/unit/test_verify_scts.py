"""Signed certificate timestamps: parsed, shown in the report, and owned to be unverified (RFC 6962 §3.2, §3.3)."""

from __future__ import annotations

import json

import pytest
from cryptography import x509

from pellucid.errors import DecodeError
from pellucid.testing.ca import Extra
from pellucid.verify import CheckGroup, Outcome, VerificationReport, parse_sct, parse_sct_list
from tests.support.revocation import HOST, authority, leaf, verify

LOG = bytes(range(32))
MOMENT = 1_700_000_000_123


def sct(version: int = 0, log_id: bytes = LOG, extensions: bytes = b"", signature: bytes = b"sig") -> bytes:
    return (
        bytes((version,))
        + log_id
        + MOMENT.to_bytes(8, "big")
        + len(extensions).to_bytes(2, "big")
        + extensions
        + b"\x04\x03"
        + len(signature).to_bytes(2, "big")
        + signature
    )


def sct_list(*items: bytes) -> bytes:
    body = b"".join(len(item).to_bytes(2, "big") + item for item in items)
    return len(body).to_bytes(2, "big") + body


@pytest.mark.rfc("6962 §3.2", "a SignedCertificateTimestamp has version, log ID, timestamp, extensions and signature")
def test_an_sct_is_parsed_into_its_parts() -> None:
    parsed = parse_sct(sct(extensions=b"ext"))
    assert (parsed.version, parsed.log_id, parsed.timestamp) == (0, LOG, MOMENT)
    assert (parsed.extensions, parsed.hash_algorithm, parsed.signature_algorithm) == (b"ext", 4, 3)
    assert parsed.signature == b"sig"
    assert parsed.encode() == sct(extensions=b"ext")


def test_every_cut_of_an_sct_raises_decode_error() -> None:
    whole = sct(extensions=b"ext")
    for length in range(len(whole)):
        with pytest.raises(DecodeError):
            parse_sct(whole[:length])
    with pytest.raises(DecodeError):
        parse_sct(whole + b"\0")
    with pytest.raises(DecodeError, match="version 2"):
        parse_sct(sct(version=1))


@pytest.mark.rfc("6962 §3.3", "a SignedCertificateTimestampList holds one SCT or more, each opaque")
def test_a_list_is_split_and_its_items_are_left_opaque() -> None:
    assert parse_sct_list(sct_list(sct(), b"x")) == (sct(), b"x")
    for wrong in (b"", b"\0\0", sct_list(b""), sct_list(sct())[:-1], sct_list(sct()) + b"\0", b"\0\x03\0\x02x"):
        with pytest.raises(DecodeError):
            parse_sct_list(wrong)


def transparency(report: VerificationReport) -> str | None:
    found = [check for check in report.checks if check.name == "certificate transparency"]
    if not found:
        return None
    assert [check.outcome for check in found] == [Outcome.NOT_CHECKED] and found[0].group is CheckGroup.VALIDITY
    return found[0].evidence


def test_the_report_exposes_scts_and_says_that_nobody_checked_them() -> None:
    sent = (sct(), b"garbage", sct(version=7), sct(log_id=bytes(32)))
    for report in (verify(leaf(), scts=sent), verify(leaf(), authority().ocsp_response(leaf()), scts=sent)):
        assert report.accepted and report.serialized_scts == sent
        assert [one.log_id for one in report.scts] == [LOG, bytes(32)]
        assert transparency(report) == (
            "SCTs: 4 came with the handshake (2 of them cannot be read), 0 are in the leaf; no list of logs is kept"
        )
        data = json.loads(json.dumps(report.to_dict()))
        assert data["scts"][0] == {"log_id": LOG.hex(), "timestamp": MOMENT}
        later = report.with_check(report.checks[0])
        assert later.serialized_scts == sent and later.scts == report.scts


def test_without_scts_there_is_nothing_to_say() -> None:
    report = verify(leaf())
    assert report.scts == () and transparency(report) is None and report.to_dict()["scts"] == []


def test_scts_in_the_leaf_are_counted() -> None:
    body = sct_list(sct(), sct())
    octets = b"\x04" + (bytes((len(body),)) if len(body) < 128 else b"\x81" + bytes((len(body),))) + body
    embedded = x509.UnrecognizedExtension(x509.PrecertificateSignedCertificateTimestamps.oid, octets)
    report = verify(authority().issue(HOST, extra=[Extra(value=embedded)]))
    assert report.accepted and report.scts == ()
    assert "0 came with the handshake, 2 are in the leaf" in (transparency(report) or "")


def test_a_refused_report_has_them_too() -> None:
    report = verify(leaf(), authority().ocsp_response(leaf(), status="revoked"), scts=(sct(),))
    assert not report.accepted and len(report.scts) == 1
