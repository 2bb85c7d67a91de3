"""What a WebPKIVerifier gives up when told to, and what it never gives up with it."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from pellucid.errors import UsageError
from pellucid.testing.ca import CA, DAY, Extra, Issued, new_key
from pellucid.verify import Failure, Outcome, Purpose, Strictness, VerificationReport, WebPKIVerifier
from tests.support.verifying import NAME, ca_without, check_named, request_for, with_serial, without

AUTHORITY = CA("strictness")
NAMELESS = WebPKIVerifier(AUTHORITY.trust, strictness=Strictness(dangerous_skip_name_check=True))


@pytest.mark.parametrize("server_name", [NAME, "other.test", "192.0.2.1", None])
@pytest.mark.parametrize(
    "leaf",
    [
        AUTHORITY.issue(NAME),
        AUTHORITY.issue(common_name="no names"),
        AUTHORITY.issue("*.server.test", "192.0.2.7"),
        AUTHORITY.intermediate(purposes=("server",)).issue(NAME),
        AUTHORITY.intermediate(key="ed25519").issue(NAME),
    ],
)
def test_without_the_name_check_any_name_will_do_and_the_report_says_so(leaf: Issued, server_name: str | None) -> None:
    report = NAMELESS.verify(request_for(leaf, server_name))
    assert report.accepted and not report.dangerous
    assert "NAME NOT CHECKED" in report.summary
    check = check_named(report, "subject alternative name")
    assert check.outcome is Outcome.NOT_CHECKED and "dangerous_skip_name_check" in check.evidence


@pytest.mark.parametrize(
    ("leaf", "failure"),
    [
        (CA("another").issue(NAME), Failure.UNKNOWN_CA),
        (AUTHORITY.issue(NAME, purposes=("client",)), Failure.WRONG_PURPOSE),
        (AUTHORITY.intermediate(purposes=("client",)).issue(NAME), Failure.WRONG_PURPOSE),
        (AUTHORITY.intermediate(permitted=("corp.test",)).issue(NAME), Failure.CONSTRAINT),
        (AUTHORITY.issue(NAME, ca=True), Failure.WRONG_PURPOSE),
    ],
)
def test_without_the_name_check_everything_else_is_still_checked(leaf: Issued, failure: Failure) -> None:
    report = NAMELESS.verify(request_for(leaf, None))
    assert not report.accepted and report.failure is failure


def test_without_the_name_check_clients_are_judged_as_before() -> None:
    leaf = AUTHORITY.issue("client", purposes=("client",))
    assert NAMELESS.verify(request_for(leaf, None, purpose=Purpose.CLIENT_AUTH)).accepted
    for_servers = AUTHORITY.issue("client", purposes=("server",))
    report = NAMELESS.verify(request_for(for_servers, None, purpose=Purpose.CLIENT_AUTH))
    assert report.failure is Failure.WRONG_PURPOSE


def test_with_the_name_check_a_name_is_demanded() -> None:
    with pytest.raises(UsageError, match="without the server's name"):
        WebPKIVerifier(AUTHORITY.trust).verify(request_for(AUTHORITY.issue(NAME), None))


def test_sessions_are_not_shared_by_verifiers_of_different_strictness() -> None:
    assert NAMELESS.session_identity != WebPKIVerifier(AUTHORITY.trust).session_identity


def test_strictness_is_a_value_and_nothing_that_looks_like_one() -> None:
    with pytest.raises(UsageError, match="Strictness"):
        WebPKIVerifier(AUTHORITY.trust, strictness={"dangerous_skip_name_check": True})  # type: ignore[arg-type]


# ---- what may be demanded beside -------------------------------------------------------------------------------------


def judged(leaf: Issued, authority: CA = AUTHORITY, name: str | None = NAME, **how: Any) -> VerificationReport:
    return WebPKIVerifier(authority.trust, strictness=Strictness(**how)).verify(request_for(leaf, name))


def lasting(seconds: int) -> Issued:
    start = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - DAY
    return AUTHORITY.issue(NAME, not_before=start, not_after=start + datetime.timedelta(seconds=seconds))


def test_a_lifetime_counts_both_ends() -> None:
    """398 days are 398 · 86,400 seconds, the last one counted (RFC 5280 §4.1.2.5, CA/Browser Forum BR 6.3.2)."""
    most = 398 * 86_400
    assert judged(lasting(most - 1), max_lifetime_days=398).accepted
    report = judged(lasting(most), max_lifetime_days=398)
    assert report.failure is Failure.POLICY
    assert "399 days; at most 398" in check_named(report, "lifetime").evidence
    assert judged(lasting(most)).accepted


def test_a_leaf_that_does_not_say_what_it_is_for() -> None:
    silent = AUTHORITY.issue(NAME, purposes=None)
    assert judged(silent).accepted
    assert judged(silent, require_extended_key_usage=True).failure is Failure.POLICY
    assert judged(AUTHORITY.issue(NAME), require_extended_key_usage=True).accepted


@pytest.mark.parametrize("where", ["leaf", "intermediate", "root"])
def test_an_rsa_key_that_is_too_short_anywhere_on_the_path(where: str) -> None:
    def kind(place: str) -> Any:
        return "rsa2048" if place == where else "p256"

    root = CA(key=kind("root"))
    leaf = root.intermediate(key=kind("intermediate")).issue(NAME, key=kind("leaf"))
    assert judged(leaf, root, min_rsa_bits=2048).accepted
    report = judged(leaf, root, min_rsa_bits=3072)
    assert report.failure is Failure.WEAK_KEY and "at least 3072" in report.summary


def test_scts_are_counted_one_for_each_log() -> None:
    leaf = AUTHORITY.issue(NAME)

    def sct(log: int) -> bytes:
        return b"\0" + bytes([log]) * 32 + bytes(8) + b"\0\0" + b"\4\3\0\0"

    def count(*logs: int) -> VerificationReport:
        request = dataclasses.replace(request_for(leaf), scts=tuple(map(sct, logs)))
        return WebPKIVerifier(AUTHORITY.trust, strictness=Strictness(min_scts=2)).verify(request)

    assert count(1, 2).accepted and count(1, 2, 3).accepted
    for few in ((), (1,), (1, 1, 1)):
        report = count(*few)
        assert report.failure is Failure.POLICY and "counted, not verified" in report.summary


def test_embedded_scts_count_too_and_a_log_counts_once() -> None:
    def sct(log: int) -> bytes:
        return b"\0" + bytes([log]) * 32 + bytes(8) + b"\0\0" + b"\4\3\0\0"

    def embedded(*logs: int) -> Issued:
        entries = b"".join(len(sct(log)).to_bytes(2, "big") + sct(log) for log in logs)
        listed = len(entries).to_bytes(2, "big") + entries
        oid = x509.PrecertificateSignedCertificateTimestamps.oid
        wrapped = (
            b"\x04" + (len(listed).to_bytes(1, "big") if len(listed) < 128 else b"\x81" + bytes([len(listed)])) + listed
        )
        return AUTHORITY.issue(NAME, extra=[Extra(value=x509.UnrecognizedExtension(oid, wrapped))])

    assert judged(embedded(1, 2), min_scts=2).accepted
    assert judged(embedded(1, 1), min_scts=2).failure is Failure.POLICY
    request = dataclasses.replace(request_for(embedded(1)), scts=(sct(1),))
    strict = WebPKIVerifier(AUTHORITY.trust, strictness=Strictness(min_scts=2))
    assert strict.verify(request).failure is Failure.POLICY
    assert strict.verify(dataclasses.replace(request, scts=(sct(2),))).accepted


NOT_CRITICAL = Extra(value=x509.BasicConstraints(True, None), critical=False)


@pytest.mark.parametrize(
    ("authority", "words"),
    [
        (CA(extra=[NOT_CRITICAL]), "basicConstraints of a CA is not critical"),
        (CA(usage=None), "no keyUsage"),
        (ca_without(x509.SubjectKeyIdentifier), "no subjectKeyIdentifier"),
    ],
)
def test_cas_that_broke_under_python_3_13_pass_unless_conformance_is_demanded(authority: CA, words: str) -> None:
    for leaf in (authority.issue(NAME), authority.intermediate().issue(NAME)):
        assert judged(leaf, authority).accepted
        report = judged(leaf, authority, conforming_issuers=True)
        assert report.failure is Failure.POLICY and words in report.summary


def test_leaves_that_broke_under_python_3_13_pass_unless_conformance_is_demanded() -> None:
    whole = AUTHORITY.issue(NAME)
    bare = Issued(
        certificate=without(whole.certificate, AUTHORITY, x509.AuthorityKeyIdentifier), intermediates=(), key_pem=b""
    )
    assert judged(bare).accepted
    assert "no authorityKeyIdentifier" in judged(bare, conforming_issuers=True).summary
    assert judged(AUTHORITY.issue(NAME), conforming_issuers=True).accepted
    assert judged(AUTHORITY.intermediate().issue(NAME), conforming_issuers=True).accepted


@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # pyca/cryptography's, of those that are not positive
@pytest.mark.parametrize(
    ("serial", "usual", "words"),
    [
        (b"\0", True, "not positive"),
        (b"\1", True, ""),
        (b"\x7f" * 20, True, ""),
        (b"\x7f" * 21, True, "21 octets"),
        (b"\xff", False, ""),
    ],
    ids=["zero", "one", "20 octets", "21 octets", "negative"],
)
def test_serial_numbers(serial: bytes, usual: bool, words: str) -> None:
    leaf = with_serial(AUTHORITY.issue(NAME), AUTHORITY, serial)
    assert judged(leaf).accepted is usual
    if usual:
        report = judged(leaf, conforming_issuers=True)
        assert report.accepted is not bool(words) and words in "\n".join(report.lines())


# ---- what may be given up --------------------------------------------------------------------------------------------

CRITICAL = [
    x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
    x509.AuthorityKeyIdentifier.from_issuer_public_key(AUTHORITY.private_key.public_key()),
    x509.AuthorityInformationAccess(
        [x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier("http://o.test/"))]
    ),
]


@pytest.mark.parametrize("value", CRITICAL, ids=lambda value: type(value).__name__)
def test_extensions_marked_critical_pass_where_either_will_do(value: x509.ExtensionType) -> None:
    leaf = AUTHORITY.issue(NAME, extra=[Extra(value=value, critical=True)])
    assert judged(leaf).failure is Failure.CONSTRAINT
    assert judged(leaf, allow_any_criticality=True).accepted


def test_a_ca_with_a_critical_key_identifier_passes_where_either_will_do() -> None:
    key = new_key("p256")
    identifier = Extra(value=x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=True)
    authority = CA(key=key, extra=[identifier])
    leaf = authority.issue(NAME)
    assert not judged(leaf, authority).accepted
    assert judged(leaf, authority, allow_any_criticality=True).accepted
    unknown = Extra(value=x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"x"), critical=True)
    assert not judged(AUTHORITY.issue(NAME, extra=[unknown]), allow_any_criticality=True).accepted


def test_a_leaf_that_is_a_ca_passes_where_it_may_be_one() -> None:
    for usage in (("digital_signature",), ("digital_signature", "key_cert_sign")):
        leaf = AUTHORITY.issue(NAME, ca=True, usage=usage)  # type: ignore[arg-type]
        assert judged(leaf).failure is Failure.WRONG_PURPOSE
        report = judged(leaf, allow_ca_leaf=True)
        assert report.accepted and "allow_ca_leaf" in "\n".join(report.lines())
    signing = AUTHORITY.issue(NAME, usage=("digital_signature", "key_cert_sign"))
    assert not judged(signing).accepted and judged(signing, allow_ca_leaf=True).accepted
    assert not judged(CA().issue(NAME, ca=True), allow_ca_leaf=True).accepted


def test_a_leaf_for_encipherment_passes_where_it_may() -> None:
    leaf = AUTHORITY.issue(NAME, usage=("key_encipherment",))
    assert judged(leaf).failure is Failure.WRONG_PURPOSE
    assert judged(leaf, allow_leaf_without_digital_signature=True).accepted


def test_a_leaf_for_any_purpose_passes_where_any_counts() -> None:
    anything = Extra(value=x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]))
    leaf = AUTHORITY.issue(NAME, extra=[anything])
    assert judged(leaf).failure is Failure.WRONG_PURPOSE
    assert judged(leaf, allow_any_purpose_leaf=True).accepted
    assert not judged(AUTHORITY.issue(NAME, purposes=("client",)), allow_any_purpose_leaf=True).accepted


@pytest.mark.parametrize(
    "leaf",
    [
        AUTHORITY.issue(NAME, purposes=("client",)),
        AUTHORITY.intermediate(purposes=("client",)).issue(NAME),
        AUTHORITY.intermediate(purposes=("client",), key="ed25519").issue(NAME),
    ],
)
def test_without_the_purpose_check_any_purpose_will_do(leaf: Issued) -> None:
    assert judged(leaf).failure is Failure.WRONG_PURPOSE
    report = judged(leaf, dangerous_skip_purpose=True)
    assert report.accepted and "dangerous_skip_purpose" in "\n".join(report.lines())
    assert judged(leaf, name="other.test", dangerous_skip_purpose=True).failure is Failure.WRONG_NAME


AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize("key", ["p256", "ed25519"])
def test_without_the_dates_what_was_valid_once_is(key: Any) -> None:
    root = CA(key=key, not_before=AGO, not_after=AGO + 400 * DAY)
    middle = root.intermediate(key=key, not_before=AGO + 100 * DAY, not_after=AGO + 300 * DAY)
    leaf = middle.issue(NAME, not_before=AGO + 150 * DAY, not_after=AGO + 200 * DAY)
    assert judged(leaf, root).failure is Failure.EXPIRED
    report = judged(leaf, root, dangerous_skip_dates=True)
    assert report.accepted
    given_up = [check for check in report.checks if check.name == "dates"]
    assert len(given_up) == 3 and all("dangerous_skip_dates" in check.evidence for check in given_up)
    assert judged(leaf, root, "other.test", dangerous_skip_dates=True).failure is Failure.WRONG_NAME
    future = root.issue(NAME, not_before=AGO + 20_000 * DAY, not_after=AGO + 20_001 * DAY)
    assert not judged(future, root, dangerous_skip_dates=True).accepted, "no moment at which all of the path was valid"


def test_every_strictness_is_a_session_of_its_own() -> None:
    changes: list[dict[str, Any]] = [
        {one.name: 3072 if one.name == "min_rsa_bits" else 2 if one.name in {"min_scts", "max_lifetime_days"} else True}
        for one in dataclasses.fields(Strictness)
    ]
    identities = {
        WebPKIVerifier(AUTHORITY.trust, strictness=Strictness(**change)).session_identity for change in changes
    }
    assert len(identities) == len(changes) >= 12


@pytest.mark.parametrize(
    "wrong", [{"min_rsa_bits": 1024}, {"min_rsa_bits": 9000}, {"min_scts": -1}, {"max_lifetime_days": 0}]
)
def test_what_cannot_be_demanded_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Strictness(**wrong)  # type: ignore[arg-type]


def test_every_relaxation_that_lets_others_pose_says_that_it_is_dangerous() -> None:
    """What only narrows, and what only widens the forms of certificates that name their peer, does not."""
    assert {one.name for one in dataclasses.fields(Strictness) if one.name.startswith("dangerous_")} == {
        "dangerous_skip_name_check",
        "dangerous_skip_purpose",
        "dangerous_skip_dates",
    }
    harmless = Strictness(
        allow_any_criticality=True,
        allow_ca_leaf=True,
        allow_leaf_without_digital_signature=True,
        allow_any_purpose_leaf=True,
    )
    lax = WebPKIVerifier(AUTHORITY.trust, strictness=harmless)
    for leaf in (
        CA().issue(NAME),
        AUTHORITY.issue("other.test"),
        AUTHORITY.issue(NAME, not_after=AGO + DAY, not_before=AGO),
    ):
        assert not lax.verify(request_for(leaf)).accepted
