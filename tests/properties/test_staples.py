"""Whatever a peer staples to its leaf, the verifier answers with a report, and believes only what is true."""

from __future__ import annotations

import functools
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import DecodeError
from pellucid.testing.revocation import wrapped_basic_response
from pellucid.verify import Check, Failure, Outcome, Purpose, RevocationPolicy, VerificationReport, parse_sct
from tests.support.revocation import SERVERS_AND_CLIENTS, authority, leaf, verify
from tests.support.soak import examples

MOST_SECONDS = 1.0


@functools.cache
def staples() -> tuple[bytes, ...]:
    """One of each make: by the issuer, by its delegate, revoked, unknown, with much in it."""
    ca = authority()
    return (
        ca.ocsp_response(leaf()),
        ca.ocsp_response(leaf(), signer=ca.responder(), by_name=True, digest="sha256"),
        ca.ocsp_response(leaf(), status="revoked"),
        ca.ocsp_response(leaf(), status="unknown", critical=True),
    )


def report_on(staple: bytes, purpose: Purpose = Purpose.SERVER_AUTH) -> VerificationReport:
    """Return the report, read to the end, as whoever shows it would."""
    start = time.thread_time()
    report = verify(leaf(), staple, RevocationPolicy(), purpose=purpose)
    report.to_dict()
    assert time.thread_time() - start < MOST_SECONDS
    check = revocation(report)
    assert (check.outcome is Outcome.PASSED) is report.accepted
    assert report.accepted or report.failure in {Failure.BAD_STAPLE, Failure.REVOKED}
    assert report.summary.isprintable() and check.evidence.isprintable()
    return report


def revocation(report: VerificationReport) -> Check:
    (check,) = [check for check in report.checks if check.name == "revocation"]
    return check


def believed_only_as_it_was(report: VerificationReport, staple: bytes) -> None:
    """One bit of a BIT STRING's count of unused bits may change with nobody the wiser: no word that was signed may."""
    if report.accepted or report.failure is Failure.REVOKED:
        assert revocation(report) == revocation(report_on(staple))


@given(which=st.integers(0, 3), where=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255), data=st.data())
@settings(max_examples=examples(120, soak=8_000), deadline=None)
def test_a_changed_byte_in_a_staple_is_reported_and_never_believed(
    which: int, where: float, change: int, data: st.DataObject
) -> None:
    staple = staples()[which]
    at = int(where * len(staple))
    changed = staple[:at] + bytes((staple[at] ^ change,)) + staple[at + 1 :]
    report = report_on(changed, data.draw(st.sampled_from(SERVERS_AND_CLIENTS)))
    believed_only_as_it_was(report, staple)


@given(
    which=st.integers(0, 3),
    start=st.floats(0, 1),
    length=st.integers(0, 400),
    insert=st.binary(max_size=400),
)
@settings(max_examples=examples(100, soak=6_000), deadline=None)
def test_removed_and_inserted_bytes_in_a_staple_are_reported(
    which: int, start: float, length: int, insert: bytes
) -> None:
    staple = staples()[which]
    at = int(start * len(staple))
    changed = staple[:at] + insert + staple[at + length :]
    believed_only_as_it_was(report_on(changed), staple)


@given(st.binary(max_size=2000))
@settings(max_examples=examples(60, soak=4_000), deadline=None)
def test_any_bytes_as_a_staple_are_reported(data: bytes) -> None:
    for staple in (data, wrapped_basic_response(data)):
        assert report_on(staple).failure is Failure.BAD_STAPLE


def _nested(tag: bytes, parts: list[bytes]) -> bytes:
    body = b"".join(parts)
    size = len(body)
    return tag + (bytes((size,)) if size < 0x80 else b"\x82" + size.to_bytes(2, "big")) + body


_BRICKS = st.sampled_from([b"\x30", b"\xa0", b"\xa1", b"\x04", b"\x02", b"\x06", b"\x18", b"\x0a", b"\x03", b"\x80"])


@given(st.recursive(st.binary(max_size=12), lambda inner: st.builds(_nested, _BRICKS, st.lists(inner, max_size=4))))
@settings(max_examples=examples(100, soak=6_000), deadline=None)
def test_nested_garbage_as_a_staple_is_reported(data: bytes) -> None:
    for staple in (data, wrapped_basic_response(data)):
        assert report_on(staple).failure is Failure.BAD_STAPLE


@given(st.binary(max_size=200))
def test_any_bytes_are_an_sct_or_a_decode_error(data: bytes) -> None:
    try:
        parsed = parse_sct(data)
    except DecodeError:
        return
    assert parsed.encode() == data
