"""OCSP responses stapled to a leaf: every verdict, for servers' certificates and for clients' (attack F13)."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from pellucid import limits
from pellucid.cli.common import hints_for
from pellucid.integrations.ssl_errors import ssl_error
from pellucid.registry import AlertDescription
from pellucid.testing.ca import CA, DAY, Extra, KeyKind, self_signed
from pellucid.testing.revocation import Answer, Refusal, ocsp_refusal
from pellucid.verify import (
    CertificateRejected,
    CheckGroup,
    Failure,
    Outcome,
    Purpose,
    RevocationPolicy,
    TrustStore,
    VerificationReport,
    WebPKIVerifier,
)
from pellucid.verify import dangerous_accept_any as dangerous
from tests.support.revocation import (
    HOST,
    HOUR,
    NOW,
    SERVERS_AND_CLIENTS,
    ask,
    authority,
    good,
    leaf,
    refused,
    revocation,
    unchecked,
    verify,
)

MUST_ABORT = pytest.mark.rfc(
    "6066 §8", "abort with bad_certificate_status_response if the OCSP response is not satisfactory"
)
UNKNOWN_CRITICAL = Extra(
    value=x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), critical=True
)
KINDS: tuple[KeyKind, ...] = ("p256", "p384", "p521", "rsa2048", "ed25519", "ed448", "mldsa44", "mldsa65", "mldsa87")


# ---- good and revoked ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", SERVERS_AND_CLIENTS)
@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.rfc("9846 §4.5.1.1", "the OCSP response in the CertificateEntry is interpreted as defined in RFC 6960")
def test_a_good_staple_passes_with_its_signer_and_times(purpose: Purpose, digest: str, by_name: bool) -> None:
    staple = authority().ocsp_response(leaf(), digest=digest, by_name=by_name)  # type: ignore[arg-type]
    report = verify(leaf(), staple, purpose=purpose)
    check = good(report, "says good", "signed by its issuer, certificate 1 'Revocation test CA'", "good until", HOST)
    assert check.group is CheckGroup.VALIDITY and check.certificate == 0
    assert report.outcome(CheckGroup.VALIDITY) is Outcome.PASSED
    assert any("passed: revocation: the OCSP response" in line for line in report.lines())


@pytest.mark.parametrize("purpose", SERVERS_AND_CLIENTS)
@pytest.mark.rfc("9846 §6.2", "certificate_revoked")
def test_a_staple_that_says_revoked_refuses_with_reason_and_day(purpose: Purpose) -> None:
    day = datetime.datetime(2026, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
    staple = authority().ocsp_response(leaf(), status="revoked", revoked_at=day, reason=x509.ReasonFlags.key_compromise)
    report = verify(leaf(), staple, purpose=purpose)
    refused(report, Failure.REVOKED, "was revoked on 2026-02-03 04:05:06 UTC (keyCompromise)", "OCSP")
    assert report.alert == AlertDescription.CERTIFICATE_REVOKED


def test_a_staple_that_says_revoked_without_a_reason_refuses() -> None:
    refused(verify(leaf(), authority().ocsp_response(leaf(), status="revoked")), Failure.REVOKED, "was revoked on")


def test_a_revocation_counts_however_old_the_answer_is() -> None:
    staple = authority().ocsp_response(leaf(), status="revoked", this_update=NOW - 30 * DAY, next_update=NOW - 20 * DAY)
    refused(verify(leaf(), staple), Failure.REVOKED)


@pytest.mark.parametrize("kind", KINDS)
def test_staples_signed_with_every_kind_of_key(kind: KeyKind) -> None:
    ca = authority().root.intermediate(f"CA of {kind}", key=kind)
    issued = ca.issue(HOST)
    good(verify(issued, ca.ocsp_response(issued), ca=ca))
    refused(verify(issued, ca.ocsp_response(issued, wrong_signature=True), ca=ca), Failure.BAD_STAPLE, "is wrong")


def test_staples_signed_with_rsassa_pss() -> None:
    ca = CA(key="rsa2048", pss=True)
    issued = ca.issue(HOST)
    good(verify(issued, ca.ocsp_response(issued), ca=ca))
    refused(verify(issued, ca.ocsp_response(issued, wrong_signature=True), ca=ca), Failure.BAD_STAPLE, "is wrong")


@pytest.mark.parametrize("hash_algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
@pytest.mark.parametrize("by", list(ocsp.OCSPResponderEncoding))
def test_staples_that_upstream_makes_are_read(
    hash_algorithm: hashes.HashAlgorithm, by: ocsp.OCSPResponderEncoding
) -> None:
    ca, issued = authority(), leaf()
    builder = ocsp.OCSPResponseBuilder().add_response(
        issued.certificate,
        ca.certificate,
        hash_algorithm,
        ocsp.OCSPCertStatus.GOOD,
        NOW - HOUR,
        NOW + HOUR,
        None,
        None,
    )
    nonce = builder.responder_id(by, ca.certificate).add_extension(x509.OCSPNonce(b"x" * 16), critical=False)
    staple = nonce.sign(ca.private_key, hash_algorithm).public_bytes(Encoding.DER)
    good(verify(issued, staple))


# ---- what is wrong with it -------------------------------------------------------------------------------------------


@MUST_ABORT
@pytest.mark.parametrize("purpose", SERVERS_AND_CLIENTS)
@pytest.mark.parametrize("must_staple", [False, True])
def test_a_staple_about_another_number_is_refused(purpose: Purpose, must_staple: bool) -> None:
    issued = leaf(must_staple=must_staple)
    report = verify(issued, authority().ocsp_response(issued, serial=4711), purpose=purpose)
    refused(report, Failure.BAD_STAPLE, "is about another certificate")
    assert report.alert == AlertDescription.BAD_CERTIFICATE_STATUS_RESPONSE


@MUST_ABORT
@pytest.mark.parametrize("digest", ["sha1", "sha256"])
@pytest.mark.rfc("6960 §3.2", "the certificate identified in the response corresponds to the one in question")
def test_a_staple_about_the_same_number_of_another_issuer_is_refused(digest: str) -> None:
    named_alike = authority().root.intermediate("Revocation test CA")
    for issuer in (CA("Somebody else", key=authority().private_key), named_alike):
        staple = authority().ocsp_response(leaf(), issuer=issuer, digest=digest)  # type: ignore[arg-type]
        if issuer is named_alike:
            refused(verify(leaf(), staple), Failure.BAD_STAPLE, "of another issuer")
        else:
            # The name in a CertID is the leaf's issuer field, which says who issued it: only the key differs from ours.
            good(verify(leaf(), staple))


def test_a_cert_id_with_the_wrong_name_hash_is_another_issuers() -> None:
    ca, issued = authority(), leaf()
    key_hash = x509.SubjectKeyIdentifier.from_public_key(ca.private_key.public_key()).digest
    builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
        b"\0" * 20,
        key_hash,
        issued.certificate.serial_number,
        hashes.SHA1(),
        ocsp.OCSPCertStatus.GOOD,
        NOW - HOUR,
        NOW + HOUR,
        None,
        None,
    )
    signed = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, ca.certificate).sign(ca.private_key, hashes.SHA256())
    refused(verify(issued, signed.public_bytes(Encoding.DER)), Failure.BAD_STAPLE, "of another issuer")


def test_a_cert_id_with_a_hash_that_nobody_uses_is_another_issuers() -> None:
    ca = authority()
    builder = ocsp.OCSPResponseBuilder().add_response(
        *(leaf().certificate, ca.certificate, hashes.SHA224(), ocsp.OCSPCertStatus.GOOD),
        *(NOW - HOUR, NOW + HOUR, None, None),
    )
    signed = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, ca.certificate).sign(ca.private_key, hashes.SHA256())
    refused(verify(leaf(), signed.public_bytes(Encoding.DER)), Failure.BAD_STAPLE, "of another issuer")


@MUST_ABORT
@pytest.mark.rfc("6960 §3.2", "the signature on the response is valid")
def test_a_staple_with_a_wrong_signature_is_refused() -> None:
    staple = authority().ocsp_response(leaf(), wrong_signature=True)
    refused(verify(leaf(), staple), Failure.BAD_STAPLE, "has a signature by the issuer that is wrong")


@pytest.mark.parametrize("kind", ["p256", "rsa2048"])
def test_a_staple_signed_with_sha1_is_refused(kind: KeyKind) -> None:
    ca = CA(key=kind)
    issued = ca.issue(HOST)
    staple = ca.ocsp_response(issued, sha="sha1")
    refused(verify(issued, staple, ca=ca), Failure.BAD_STAPLE, "an algorithm (", "not accepted")


def test_a_staple_with_other_pss_parameters_is_refused() -> None:
    ca = CA(key="rsa2048", pss=True)
    issued = ca.issue(HOST)
    salt, longer = bytes.fromhex("a203020120"), bytes.fromhex("a203020121")
    staple = ca.ocsp_response(issued)
    assert staple.count(salt) == 1
    refused(verify(issued, staple.replace(salt, longer), ca=ca), Failure.BAD_STAPLE, "RSASSA-PSS with parameters")


@MUST_ABORT
@pytest.mark.parametrize("purpose", SERVERS_AND_CLIENTS)
@pytest.mark.parametrize("must_staple", [False, True])
@pytest.mark.rfc("6960 §4.2.2.1", "a response whose nextUpdate is past, or whose thisUpdate is to come, is unreliable")
def test_a_staple_that_is_not_current_is_refused(purpose: Purpose, must_staple: bool) -> None:
    issued, ca = leaf(must_staple=must_staple), authority()
    stale = ca.ocsp_response(issued, this_update=NOW - 9 * DAY, next_update=NOW - 2 * DAY)
    early = ca.ocsp_response(issued, this_update=NOW + DAY, next_update=NOW + 2 * DAY)
    refused(verify(issued, stale, purpose=purpose), Failure.BAD_STAPLE, "is not current: it expired on")
    refused(verify(issued, early, purpose=purpose), Failure.BAD_STAPLE, "is not current: it is of")


def test_clocks_may_differ_by_the_skew_and_no_more() -> None:
    skew = datetime.timedelta(seconds=limits.REVOCATION_CLOCK_SKEW_SECONDS)
    second = datetime.timedelta(seconds=1)
    staple = authority().ocsp_response(leaf(), this_update=NOW, next_update=NOW + DAY)
    for now in (NOW - skew, NOW, NOW + DAY + skew):
        good(verify(leaf(), staple, now=now))
    for now in (NOW - skew - second, NOW + DAY + skew + second):
        refused(verify(leaf(), staple, now=now), Failure.BAD_STAPLE, "is not current")
    exact = RevocationPolicy(clock_skew_seconds=0)
    good(verify(leaf(), staple, exact, now=NOW + DAY))
    refused(verify(leaf(), staple, exact, now=NOW - second), Failure.BAD_STAPLE)


def test_a_staple_without_next_update_is_believed_for_the_maximum_age() -> None:
    age = datetime.timedelta(seconds=limits.REVOCATION_MAX_AGE_SECONDS + limits.REVOCATION_CLOCK_SKEW_SECONDS)
    second = datetime.timedelta(seconds=1)
    staple = authority().ocsp_response(leaf(), this_update=NOW, next_update=None)
    good(verify(leaf(), staple, now=NOW + age), "without the time of the next")
    refused(verify(leaf(), staple, now=NOW + age + second), Failure.BAD_STAPLE, "does not say when the next is due")
    strict = RevocationPolicy(max_age_seconds=60, clock_skew_seconds=0)
    refused(verify(leaf(), staple, strict, now=NOW + datetime.timedelta(seconds=61)), Failure.BAD_STAPLE)


def test_a_staple_that_never_ends_is_read() -> None:
    never = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
    good(verify(leaf(), authority().ocsp_response(leaf(), next_update=never)), "good until 9999-12-31")


@MUST_ABORT
@pytest.mark.parametrize("must_staple", [False, True])
def test_a_staple_that_says_unknown_is_refused(must_staple: bool) -> None:
    issued = leaf(must_staple=must_staple)
    refused(
        verify(issued, authority().ocsp_response(issued, status="unknown")), Failure.BAD_STAPLE, "status is unknown"
    )


@MUST_ABORT
@pytest.mark.parametrize(
    "refusal", ["malformed_request", "internal_error", "try_later", "sig_required", "unauthorized"]
)
def test_a_staple_without_an_answer_is_refused(refusal: Refusal) -> None:
    refused(verify(leaf(), ocsp_refusal(refusal)), Failure.BAD_STAPLE, "has no answer", refusal)


@pytest.mark.rfc("6960 §4.4", "a critical extension that is not recognized makes a response unusable")
def test_a_staple_with_an_unknown_critical_extension_is_refused() -> None:
    ca = authority()
    refused(verify(leaf(), ca.ocsp_response(leaf(), critical=True)), Failure.BAD_STAPLE, "critical extension")
    refused(
        verify(leaf(), ca.ocsp_response(leaf(), extra=[UNKNOWN_CRITICAL])), Failure.BAD_STAPLE, "critical extension"
    )
    harmless = Extra(value=UNKNOWN_CRITICAL.value, critical=False)
    good(verify(leaf(), ca.ocsp_response(leaf(), extra=[harmless])))
    revoked = ca.ocsp_response(leaf(), critical=True, status="revoked")
    refused(verify(leaf(), revoked), Failure.BAD_STAPLE, "critical extension")


# ---- who signed it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", SERVERS_AND_CLIENTS)
@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.rfc("6960 §4.2.2.2", "a response signed by a responder that the issuer designated is accepted")
def test_a_delegated_responder_is_believed(purpose: Purpose, by_name: bool) -> None:
    ca = authority()
    vouched = ca.ocsp_response(leaf(), signer=ca.responder("R"), by_name=by_name)
    check = good(verify(leaf(), vouched, purpose=purpose), "signed by the responder 'R', designated by its issuer")
    assert "not checked" not in check.evidence
    without = ca.ocsp_response(leaf(), signer=ca.responder("R", no_check=False))
    good(
        verify(leaf(), without, purpose=purpose), "'R', designated by its issuer and itself not checked for revocation"
    )
    revoked = ca.ocsp_response(leaf(), signer=ca.responder("R"), status="revoked")
    refused(verify(leaf(), revoked, purpose=purpose), Failure.REVOKED)


@MUST_ABORT
@pytest.mark.rfc(
    "6960 §4.2.2.2", "the delegate's certificate has id-kp-OCSPSigning and is issued directly by the issuer"
)
def test_a_responder_that_may_not_sign_is_refused() -> None:
    ca, long_ago = authority(), NOW - 400 * DAY
    sibling = ca.root.intermediate("Revocation test CA")
    cases = (
        (ca.responder("R", purposes=("server",)), "not for OCSP signing"),
        (ca.responder("R", purposes=("any",)), "not for OCSP signing"),
        (ca.responder("R", purposes=None), "not for OCSP signing"),
        (ca.root.responder("R"), "issuer did not issue"),
        (sibling.responder("R"), "issuer did not issue"),
        (ca.responder("R", not_before=long_ago, not_after=NOW - DAY), "the responder 'R' expired on"),
        (ca.responder("R", not_before=NOW + DAY, not_after=NOW + 2 * DAY), "the responder 'R' is not valid before"),
        (ca.responder("R", usage=("key_encipherment",)), "without digital signature"),
        (ca.responder("R", extra=[UNKNOWN_CRITICAL]), "unknown critical extension"),
        (ca.issue(common_name="R", key=rsa.generate_private_key(65537, 1024), purposes=("ocsp",)), "RSA key of 1024"),
    )
    for responder, words in cases:
        for status in ("good", "revoked"):
            staple = ca.ocsp_response(leaf(), signer=responder, status=status)  # type: ignore[arg-type]
            refused(verify(leaf(), staple), Failure.BAD_STAPLE, "is signed by the responder 'R'", words)


@MUST_ABORT
def test_a_staple_signed_by_a_stranger_is_refused() -> None:
    ca, stranger = authority(), CA("stranger").responder("stranger")
    refused(
        verify(leaf(), ca.ocsp_response(leaf(), signer=stranger)), Failure.BAD_STAPLE, "'stranger'", "did not issue"
    )
    unnamed = ca.ocsp_response(leaf(), signer=ca.responder(), certificates=())
    refused(verify(leaf(), unnamed), Failure.BAD_STAPLE, "neither its issuer nor named")
    other = ca.ocsp_response(leaf(), signer=ca.responder("a"), certificates=[ca.responder("b")])
    refused(verify(leaf(), other), Failure.BAD_STAPLE, "neither its issuer nor named")
    itself = ca.ocsp_response(leaf(), signer=leaf())
    refused(verify(leaf(), itself), Failure.BAD_STAPLE, "not for OCSP signing")


def test_the_root_may_not_answer_for_the_leaf_of_its_intermediate() -> None:
    ca = authority()
    report = verify(leaf(), ca.root.ocsp_response(leaf(), issuer=ca))
    refused(report, Failure.BAD_STAPLE, "neither its issuer nor named")


def test_an_impostor_with_the_responders_name_does_not_hide_the_responder() -> None:
    ca, responder = authority(), authority().responder("R")
    impostors = [CA("x").responder("R") for _ in range(limits.MAX_STAPLE_SIGNERS)]
    behind = ca.ocsp_response(leaf(), signer=responder, by_name=True, certificates=[*impostors[1:], responder])
    good(verify(leaf(), behind), "'R'")
    too_many = ca.ocsp_response(leaf(), signer=responder, by_name=True, certificates=[*impostors, responder])
    refused(verify(leaf(), too_many), Failure.BAD_STAPLE, "'R'")


def test_a_responder_on_a_crl_is_refused() -> None:
    ca, responder = authority(), authority().responder("R", no_check=False)
    staple = ca.ocsp_response(leaf(), signer=responder)
    listed = RevocationPolicy(crls=(ca.crl(responder),), crl_depth="leaf")
    refused(verify(leaf(), staple, listed), Failure.BAD_STAPLE, "'R'", "was revoked on")
    unlisted = RevocationPolicy(crls=(ca.crl(),), crl_depth="leaf")
    check = good(verify(leaf(), staple, unlisted), "'R'")
    assert "not checked" not in check.evidence


# ---- none, and must-staple -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", SERVERS_AND_CLIENTS)
def test_without_a_staple_the_report_says_not_checked(purpose: Purpose) -> None:
    unchecked(verify(leaf(), purpose=purpose), "neither OCSP nor CRLs", "no response was stapled")


@pytest.mark.parametrize("purpose", SERVERS_AND_CLIENTS)
@pytest.mark.rfc("7633 §4.2.2", "a certificate whose TLS feature names status_request is invalid without a staple")
def test_a_must_staple_leaf_without_a_staple_is_refused(purpose: Purpose) -> None:
    issued = leaf(must_staple=True)
    report = verify(issued, purpose=purpose)
    refused(report, Failure.STAPLE_MISSING, "no OCSP response was stapled", "must-staple")
    assert report.alert == AlertDescription.BAD_CERTIFICATE_STATUS_RESPONSE
    good(verify(issued, authority().ocsp_response(issued), purpose=purpose))
    unchecked(verify(issued, None, RevocationPolicy(honour_must_staple=False), purpose=purpose))


@pytest.mark.rfc("7633 §4.2.2", "the features that bind are those that were asked for")
def test_a_must_staple_leaf_that_nobody_asked_for_a_staple_is_accepted() -> None:
    unchecked(verify(leaf(must_staple=True), status_requested=False))
    demanding = RevocationPolicy(require_staple=True)
    refused(verify(leaf(must_staple=True), None, demanding, status_requested=False), Failure.STAPLE_MISSING)


def test_another_tls_feature_demands_no_staple() -> None:
    issued = authority().issue(HOST, extra=[Extra(value=x509.TLSFeature([x509.TLSFeatureType.status_request_v2]))])
    unchecked(verify(issued))


@pytest.mark.parametrize("purpose", SERVERS_AND_CLIENTS)
def test_a_policy_may_demand_a_staple_of_everybody(purpose: Purpose) -> None:
    policy = RevocationPolicy(require_staple=True)
    refused(verify(leaf(), None, policy, purpose=purpose), Failure.STAPLE_MISSING, "the policy demands one")
    good(verify(leaf(), authority().ocsp_response(leaf()), policy, purpose=purpose))


def test_a_refusal_for_another_reason_does_not_ask_about_revocation() -> None:
    report = verify(leaf(), authority().ocsp_response(leaf(), status="revoked"), ca=CA("another"))
    assert report.failure is Failure.UNKNOWN_CA
    (check,) = revocation(report)
    assert check.outcome is Outcome.NOT_CHECKED and "refused for another reason" in check.evidence
    too_many = WebPKIVerifier(authority().trust, max_certificates=1).verify(ask(leaf()))
    unreadable = WebPKIVerifier(authority().trust).verify(dataclasses.replace(ask(leaf()), intermediates=(b"x",)))
    for report, failure in ((too_many, Failure.TOO_LARGE), (unreadable, Failure.MALFORMED)):
        assert report.failure is failure
        (check,) = revocation(report)
        assert check.outcome is Outcome.NOT_CHECKED


def test_edwards_issuers_sign_staples_too() -> None:
    ca = CA("Edwards root", key="ed25519").intermediate("Edwards CA", key="ed448")
    issued = ca.issue(HOST)
    good(verify(issued, ca.ocsp_response(issued), ca=ca), "'Edwards CA'")
    refused(verify(issued, ca.ocsp_response(issued, status="revoked"), ca=ca), Failure.REVOKED)


def test_a_leaf_that_is_trusted_itself_and_its_staple() -> None:
    """Its issuer is believed only if it is itself, or trusted too: keys can be made to fit a given signature."""
    ca, issued = authority(), leaf()
    alone = TrustStore.from_der([issued.der])

    def report_of(
        trust: TrustStore, staple: bytes | None, policy: RevocationPolicy | None = None
    ) -> VerificationReport:
        return WebPKIVerifier(trust, revocation=policy or RevocationPolicy()).verify(ask(issued, staple))

    revoked = ca.ocsp_response(issued, status="revoked")
    unchecked(report_of(alone, revoked), "trusted itself", "proves nothing")
    demanded = RevocationPolicy(require_staple=True)
    refused(report_of(alone, ca.ocsp_response(issued), demanded), Failure.BAD_STAPLE, "proves nothing")
    refused(report_of(alone, None, demanded), Failure.STAPLE_MISSING)
    with_issuer = TrustStore.from_der([issued.der, ca.certificate.public_bytes(Encoding.DER)])
    refused(report_of(with_issuer, revoked), Failure.REVOKED)
    good(report_of(with_issuer, ca.ocsp_response(issued)))
    own = self_signed(HOST)
    itself = CA(HOST, key=own.private_key)
    staple = itself.ocsp_response(own, signer=own, issuer=None)
    pinned = WebPKIVerifier(TrustStore.from_der([own.der]))
    good(pinned.verify(ask(own, staple)), f"signed by its issuer, the leaf '{HOST}'")
    refused(pinned.verify(ask(own, itself.ocsp_response(own, signer=own, status="revoked"))), Failure.REVOKED)


def test_the_dangerous_verifier_shows_a_revocation_and_accepts() -> None:
    staple = authority().ocsp_response(leaf(), status="revoked")
    report = dangerous(authority().trust).verify(ask(leaf(), staple))
    assert report.accepted and report.dangerous and report.failure is Failure.REVOKED
    assert "NOT VERIFIED" in report.summary and "was revoked" in report.summary


def test_what_users_of_ssl_and_of_the_command_line_are_told() -> None:
    def told(report: VerificationReport) -> tuple[int, tuple[str, ...]]:
        error = CertificateRejected(report)
        return ssl_error(error).verify_code, hints_for(error)  # type: ignore[attr-defined]

    revoked = verify(leaf(), authority().ocsp_response(leaf(), status="revoked"))
    assert told(revoked) == (23, ("its CA has withdrawn the certificate: do not go on",))
    bad, missing = verify(leaf(), b"x"), verify(leaf(must_staple=True))
    assert [told(bad)[0], told(missing)[0]] == [74, 73]  # X509_V_ERR_OCSP_VERIFY_FAILED, _NEEDED
    assert "fresh OCSP response" in told(bad)[1][0] and "staple" in told(missing)[1][0]


# ---- several answers, sizes, time ------------------------------------------------------------------------------------


def answer(serial: int | None = None, **changes: object) -> Answer:
    return Answer(
        about=leaf().certificate,
        issuer=authority().certificate,
        this_update=NOW - HOUR,
        next_update=NOW + HOUR,
        serial=serial,
        **changes,  # type: ignore[arg-type]
    )


@pytest.mark.rfc("6960 §4.2.2.3", "a response may have additional SingleResponse elements")
def test_answers_about_others_are_passed_over_and_the_worst_about_the_leaf_counts() -> None:
    ca = authority()
    others = [answer(serial, status="revoked") for serial in range(1, 50)]
    good(verify(leaf(), ca.ocsp_response(leaf(), more=others)))
    good(verify(leaf(), ca.ocsp_response(leaf(), more=[answer(digest="sha256")])))
    for worse, failure in (("revoked", Failure.REVOKED), ("unknown", Failure.BAD_STAPLE)):
        for more in itertools.permutations([answer(status=worse), *others[:2]]):
            assert verify(leaf(), ca.ocsp_response(leaf(), more=more)).failure is failure
    hidden = ca.ocsp_response(leaf(), more=[answer(critical=True)])
    refused(verify(leaf(), hidden), Failure.BAD_STAPLE, "critical extension")
    elsewhere = ca.ocsp_response(leaf(), more=[answer(7, critical=True)])
    good(verify(leaf(), elsewhere))
    none = ca.ocsp_response(leaf(), serial=1, more=others[1:])
    refused(verify(leaf(), none), Failure.BAD_STAPLE, "about 49 other certificates")


def test_a_staple_at_the_size_limit_is_read_and_one_past_it_is_not() -> None:
    ca = CA(key="ed25519")  # whose signatures are all of one size
    issued = ca.issue(HOST)
    rest = len(ca.ocsp_response(issued, extra=[padding(30_000)])) - 30_000
    for size in (limits.MAX_STAPLE, limits.MAX_STAPLE + 1):
        staple = ca.ocsp_response(issued, extra=[padding(size - rest)])
        assert len(staple) == size
        report = verify(issued, staple, ca=ca)
        if size <= limits.MAX_STAPLE:
            good(report)
        else:
            refused(report, Failure.BAD_STAPLE, f"has {size} bytes; {limits.MAX_STAPLE} are allowed")
    refused(verify(issued, staple, RevocationPolicy(max_staple_bytes=0), ca=ca), Failure.BAD_STAPLE, "0 are allowed")


def padding(size: int) -> Extra:
    return Extra(value=x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.2"), b"\x04" * size))


@pytest.mark.no_cover
def test_F13_a_megabyte_of_anything_costs_nothing() -> None:
    for staple in (b"\x30" * 1_000_000, b"\x30\x83\x0f\x42\x3b" + b"\0" * 999_995, b"\0" * 1_000_000):
        start = time.thread_time()
        refused(verify(leaf(), staple), Failure.BAD_STAPLE, "32768 are allowed")
        assert time.thread_time() - start < 0.1


@pytest.mark.no_cover
@pytest.mark.parametrize("same", [False, True])
def test_F13_ten_thousand_answers_take_less_than_two_seconds(same: bool) -> None:
    more = [answer(None if same else serial) for serial in range(1, 10_001)]
    staple = authority().ocsp_response(leaf(), more=more)
    assert len(staple) > 500_000
    start = time.thread_time()
    report = verify(leaf(), staple, RevocationPolicy(max_staple_bytes=2_000_000))
    took = time.thread_time() - start
    good(report)
    assert took < 2


@pytest.mark.no_cover
def test_without_staple_and_crls_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        pytest.fail("revocation was looked at")

    monkeypatch.setattr("pellucid.verify.webpki.revocation_checks", never)
    monkeypatch.setattr("pellucid.verify.webpki.candidates_of", never)
    assert verify(leaf()).accepted


# ---- hostile bytes ---------------------------------------------------------------------------------------------------


@MUST_ABORT
@pytest.mark.parametrize("must_staple", [False, True])
def test_a_staple_cut_short_anywhere_is_refused(must_staple: bool) -> None:
    issued = leaf(must_staple=must_staple)
    staple = authority().ocsp_response(issued)
    for length in range(len(staple)):
        refused(verify(issued, staple[:length]), Failure.BAD_STAPLE, "stapled to the leaf")
    refused(verify(issued, staple + b"\0"), Failure.BAD_STAPLE)


@pytest.mark.parametrize(
    "staple",
    [
        b"",
        b"\x30\x00",
        b"\x30\x03\x0a\x01\x00",  # successful, and nothing in it
        b"\x30\x03\x0a\x01\x63",  # a status that there is none of
        b"\x30\x80" * 5000,
        b"\x30\x82\x0f\xfc" + b"\x30\x80" * 2046,
        b"-----BEGIN OCSP RESPONSE-----",
    ],
)
def test_what_is_no_ocsp_response_is_refused(staple: bytes) -> None:
    refused(verify(leaf(), staple), Failure.BAD_STAPLE, "stapled to the leaf")
