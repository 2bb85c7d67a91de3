"""The report, the proof and the error; limits on what a peer may make us do; the verifier that accepts anything."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from pellucid import limits, verify
from pellucid.crypto.certificates import parse_certificate
from pellucid.errors import InternalError, PeerError
from pellucid.registry import AlertDescription
from pellucid.testing.ca import CA, CA_USAGE, Extra, Issued, new_key, self_signed
from pellucid.verify import (
    CertificateRejected,
    Check,
    CheckGroup,
    Failure,
    Outcome,
    PeerVerifier,
    Purpose,
    TrustStore,
    VerificationReport,
    VerificationRequest,
    VerifiedPeer,
    WebPKIVerifier,
    dangerous_accept_any,
    verified_peer,
)
from pellucid.verify.report import LazyChecks

HOST = "server.example.com"
MAX_VERIFICATION_SECONDS = 2.0  # what the counts and sizes that are allowed come to, at the very worst


@pytest.fixture(scope="module")
def ca() -> CA:
    return CA()


def ask(issued: Issued, name: str = HOST, intermediates: tuple[bytes, ...] | None = None) -> VerificationRequest:
    return VerificationRequest(
        leaf=parse_certificate(issued.der),
        intermediates=issued.chain_der[1:] if intermediates is None else intermediates,
        purpose=Purpose.SERVER_AUTH,
        server_name=name,
        now=datetime.datetime.now(datetime.UTC).timestamp(),
    )


def certificate_verify(outcome: Outcome) -> Check:
    return Check(
        group=CheckGroup.SIGNATURE,
        name="CertificateVerify",
        outcome=outcome,
        evidence="the signature over the transcript",
        certificate=0,
        failure=Failure.BAD_SIGNATURE if outcome is Outcome.FAILED else None,
    )


def test_all_four_groups_are_recorded_with_evidence(ca: CA) -> None:
    report = WebPKIVerifier(ca.trust).verify(ask(ca.intermediate().issue(HOST)))
    groups = report.by_group()
    assert list(groups) == list(CheckGroup)
    assert groups[CheckGroup.SIGNATURE] == ()
    assert report.outcome(CheckGroup.SIGNATURE) is Outcome.NOT_CHECKED
    done = report.with_check(certificate_verify(Outcome.PASSED))
    assert done.accepted and done.path == report.path
    assert all(done.outcome(group) is Outcome.PASSED for group in CheckGroup)
    assert all(check.evidence and "\n" not in check.evidence for check in done.checks)
    evidence = " ".join(check.evidence for check in done.checks)
    assert HOST in evidence and "'Pellucid test root'" in evidence and "certificate 1" in evidence
    names = {check.name for check in done.checks}
    assert names >= {
        "version",
        "key strength",
        "key usage",
        "purpose",
        "dates",
        "revocation",
        "trusted root",
        "verdict",
    }


def test_failed_certificate_verify_makes_it_a_refusal_with_decrypt_error(ca: CA) -> None:
    report = WebPKIVerifier(ca.trust).verify(ask(ca.issue(HOST))).with_check(certificate_verify(Outcome.FAILED))
    assert not report.accepted
    assert report.alert == AlertDescription.DECRYPT_ERROR
    assert report.failure is Failure.BAD_SIGNATURE and report.path == ()
    revoked = dataclasses.replace(
        certificate_verify(Outcome.FAILED), group=CheckGroup.VALIDITY, failure=Failure.REVOKED
    )
    report = WebPKIVerifier(ca.trust).verify(ask(ca.issue(HOST))).with_check(revoked)
    assert report.alert == AlertDescription.CERTIFICATE_REVOKED and report.failure is Failure.REVOKED


def test_a_later_check_never_turns_a_refusal(ca: CA) -> None:
    report = WebPKIVerifier(ca.trust).verify(ask(ca.issue(HOST), "other.example"))
    for outcome in (Outcome.PASSED, Outcome.FAILED):
        later = report.with_check(certificate_verify(outcome))
        assert not later.accepted and later.failure is Failure.WRONG_NAME
        assert later.checks[-1].name == "CertificateVerify"


def test_checks_of_an_accepted_report_are_computed_when_first_read_and_once() -> None:
    calls = itertools.count()
    explanation = LazyChecks(lambda: (next(calls), (certificate_verify(Outcome.PASSED),))[1])
    report = VerificationReport(accepted=True, summary="x", explanation=explanation)
    assert report.accepted and report.with_check(certificate_verify(Outcome.PASSED)).accepted
    repr(report)
    assert next(calls) == 0
    assert len(report.checks) == 1 and len(report.with_check(certificate_verify(Outcome.PASSED)).checks) == 2
    assert next(calls) == 2


def test_report_is_json(ca: CA) -> None:
    for name in (HOST, "other.example"):
        report = WebPKIVerifier(ca.trust).verify(ask(ca.issue(HOST), name))
        data = json.loads(json.dumps(report.to_dict()))
        assert data["accepted"] is (name == HOST)
        assert data["failure"] == (None if name == HOST else "wrong-name")
        assert data["alert"] == (None if name == HOST else "bad_certificate")
        assert set(data["groups"]) == {group.value for group in CheckGroup}
        assert data["checks"][0].keys() == {"group", "name", "outcome", "evidence", "certificate", "failure"}


def test_rejection_is_one_line_with_the_checks_in_its_notes(ca: CA) -> None:
    report = WebPKIVerifier(ca.trust).verify(ask(self_signed(HOST)))
    error = CertificateRejected(report)
    assert isinstance(error, PeerError) and isinstance(error, OSError)
    assert error.alert == AlertDescription.UNKNOWN_CA and error.verification is report
    assert str(error).startswith("unknown_ca: ") and "\n" not in str(error)
    assert "✘ signed by a trusted CA · trusted root" in error.__notes__[0]


def test_proof_is_made_from_an_accepted_report_alone(ca: CA) -> None:
    request = ask(ca.issue(HOST))
    report = WebPKIVerifier(ca.trust).verify(request)
    peer = verified_peer(request.leaf, report)
    assert peer.leaf is request.leaf and peer.chain == report.path and peer.report is report
    for change in (lambda: setattr(peer, "leaf", None), lambda: delattr(peer, "chain")):
        with pytest.raises(AttributeError):
            change()
    with pytest.raises(InternalError):
        VerifiedPeer(object(), request.leaf, report)
    with pytest.raises(InternalError):
        verified_peer(ask(ca.issue(HOST)).leaf, report)
    with pytest.raises(CertificateRejected):
        verified_peer(request.leaf, WebPKIVerifier(ca.trust).verify(ask(ca.issue(HOST), "other.example")))


# Attack F3, F4: limits


@pytest.mark.rfc("9846 §6.2", "bad_certificate")
def test_F3_certificate_count_at_the_limit_and_one_past_it(ca: CA) -> None:
    issued = ca.issue(HOST)
    verifier = WebPKIVerifier(ca.trust)
    filler = (ca.root_der,) * (limits.MAX_CERTIFICATES - 1)
    assert verifier.verify(ask(issued, intermediates=filler)).accepted
    report = verifier.verify(ask(issued, intermediates=(*filler, b"never parsed")))
    assert report.failure is Failure.TOO_LARGE and report.alert == AlertDescription.BAD_CERTIFICATE
    assert not verifier.verify(ask(issued, intermediates=(b"",) * 10_000)).accepted


def test_F3_certificate_bytes_at_the_limit_and_one_past_it(ca: CA) -> None:
    issued = ca.issue(HOST)
    verifier = WebPKIVerifier(ca.trust)
    room = limits.MAX_CERTIFICATE_LIST - len(issued.der)
    at_limit = verifier.verify(ask(issued, intermediates=(b"x" * room,)))
    assert at_limit.failure is Failure.MALFORMED
    past = verifier.verify(ask(issued, intermediates=(b"x" * (room + 1),)))
    assert past.failure is Failure.TOO_LARGE


def test_F4_intermediates_that_sign_each_other_are_refused_in_time(ca: CA) -> None:
    key = new_key("p256")
    name = "pathological"
    same = tuple(CA(name, key=key).root_der for _ in range(9))
    leaf = CA(name, key=key).issue(HOST)
    assert seconds(WebPKIVerifier(ca.trust), ask(leaf, intermediates=same)) < MAX_VERIFICATION_SECONDS
    keys = [new_key("rsa4096") for _ in range(2)]
    large = tuple(CA(name, key=keys[n % 2]).root_der for n in range(9))
    leaf = CA(name, key=keys[0]).issue(HOST)
    assert seconds(WebPKIVerifier(ca.trust), ask(leaf, intermediates=large)) < MAX_VERIFICATION_SECONDS
    slow = tuple(CA(name, key=new_key("mldsa87")).root_der for _ in range(9))
    assert seconds(WebPKIVerifier(ca.trust), ask(leaf, intermediates=slow)) < MAX_VERIFICATION_SECONDS


def test_F4_every_intermediate_issued_by_every_other_is_refused_in_time(ca: CA) -> None:
    three = [CA(f"node {n}") for n in range(3)]
    crossed = [
        CA(f"node {child}", key=three[child].private_key, parent=three[parent]).certificate
        for child, parent in itertools.permutations(range(3), 2)
    ]
    sent = tuple(Issued(certificate=one, intermediates=(), key_pem=b"").der for one in crossed)
    took = seconds(WebPKIVerifier(ca.trust), ask(three[0].issue(HOST), intermediates=sent))
    assert took < MAX_VERIFICATION_SECONDS


def test_F4_name_constraints_times_names_are_refused_in_time(ca: CA) -> None:
    constrained = ca.intermediate(excluded=[f"h{n}.example.net" for n in range(1200)])
    issued = constrained.issue(HOST, *(f"n{n}.example.com" for n in range(1200)))
    assert len(issued.der) + len(issued.chain_der[1]) < limits.MAX_CERTIFICATE_LIST
    assert seconds(WebPKIVerifier(ca.trust), ask(issued, "other.example")) < MAX_VERIFICATION_SECONDS


def test_intermediate_with_a_huge_key_is_not_used(ca: CA) -> None:
    numbers = rsa.RSAPublicNumbers(65537, (1 << 16383) + 1)
    stand_in = CA("huge", key="rsa2048")
    huge = ca.issue("huge", common_name="huge", public_key=numbers.public_key(), ca=True, usage=CA_USAGE, purposes=None)
    identifier = Extra(value=x509.AuthorityKeyIdentifier.from_issuer_public_key(numbers.public_key()))
    issued = stand_in.issue(HOST, extra=[identifier])
    report = WebPKIVerifier(ca.trust).verify(ask(issued, intermediates=(huge.der,)))
    assert not report.accepted
    assert report.failure is Failure.WEAK_KEY and "16384 bits" in report.summary


def seconds(verifier: PeerVerifier, request: VerificationRequest) -> float:
    start = time.thread_time()
    report = verifier.verify(request)
    assert not report.accepted
    assert report.checks
    return time.thread_time() - start


# Attack F24: verification is never off by accident


def test_F24_only_a_name_that_says_dangerous_accepts_anything() -> None:
    loose = [name for name in verify.__all__ if "accept" in name.lower() or "insecure" in name.lower()]
    assert loose == ["dangerous_accept_any"]


def test_F24_dangerous_verifier_accepts_and_still_shows_every_check(ca: CA) -> None:
    verifier = dangerous_accept_any()
    request = ask(self_signed("other.example"))
    report = verifier.verify(request)
    assert report.accepted and report.dangerous and report.alert is None
    assert report.failure is Failure.SELF_SIGNED and "NOT VERIFIED" in report.summary
    assert {check.failure for check in report.checks} >= {Failure.SELF_SIGNED, Failure.WRONG_NAME}
    assert verified_peer(request.leaf, report).chain == (request.leaf.der,)
    assert list(verifier.authorities) == []
    assert not report.with_check(certificate_verify(Outcome.FAILED)).accepted
    good = dangerous_accept_any(ca.trust).verify(ask(ca.issue(HOST)))
    assert good.accepted and not good.dangerous
    too_many = ask(ca.issue(HOST), intermediates=(b"",) * 20)
    assert dangerous_accept_any(TrustStore.empty()).verify(too_many).accepted


def test_refusal_for_a_wrong_name_leaves_the_trust_group_passed() -> None:
    """What is wrong is said where it is wrong: the CA is as trusted as before."""
    authority = CA()
    request = VerificationRequest(
        leaf=parse_certificate(authority.issue("right.example").der),
        intermediates=(),
        purpose=Purpose.SERVER_AUTH,
        server_name="wrong.example",
        now=time.time(),
    )
    report = WebPKIVerifier(authority.trust).verify(request)
    assert report.failure is Failure.WRONG_NAME
    assert report.outcome(CheckGroup.NAME) is Outcome.FAILED
    assert report.outcome(CheckGroup.TRUST) is Outcome.PASSED
    assert report.outcome(CheckGroup.VALIDITY) is Outcome.PASSED
