"""A CA for tests of revocation, and one way to ask a verifier about what it issued."""

from __future__ import annotations

import datetime
import functools
from typing import Any

from pellucid.crypto.certificates import parse_certificate
from pellucid.testing.ca import CA, Issued
from pellucid.verify import (
    Check,
    Failure,
    Outcome,
    Purpose,
    RevocationPolicy,
    VerificationReport,
    VerificationRequest,
    WebPKIVerifier,
)
from pellucid.verify.report import ALERTS

HOST = "server.example.com"
NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
HOUR = datetime.timedelta(hours=1)
SERVERS_AND_CLIENTS = (Purpose.SERVER_AUTH, Purpose.CLIENT_AUTH)


@functools.cache
def authority() -> CA:
    """An intermediate CA under a root of its own, made once a session."""
    return CA("Revocation test root").intermediate("Revocation test CA")


@functools.cache
def leaf(*, must_staple: bool = False) -> Issued:
    return authority().issue(HOST, must_staple=must_staple)


def ask(
    issued: Issued,
    staple: bytes | None = None,
    *,
    purpose: Purpose = Purpose.SERVER_AUTH,
    now: datetime.datetime | None = None,
    **more: Any,
) -> VerificationRequest:
    """Return what a verifier is asked. now: default: the moment of the call."""
    now = now or datetime.datetime.now(datetime.UTC)
    return VerificationRequest(
        leaf=parse_certificate(issued.der),
        intermediates=issued.chain_der[1:],
        purpose=purpose,
        server_name=HOST if purpose is Purpose.SERVER_AUTH else None,
        now=now.timestamp(),
        ocsp_response=staple,
        **more,
    )


def verify(
    issued: Issued,
    staple: bytes | None = None,
    policy: RevocationPolicy | None = None,
    *,
    ca: CA | None = None,
    **more: Any,
) -> VerificationReport:
    """Return the report on *issued*, trusting the root of *ca* (default: `authority`)."""
    trust = (ca or authority()).trust
    return WebPKIVerifier(trust, revocation=policy or RevocationPolicy()).verify(ask(issued, staple, **more))


def revocation(report: VerificationReport) -> tuple[Check, ...]:
    """Return the checks of revocation in *report*; there is always one."""
    checks = tuple(check for check in report.checks if check.name == "revocation")
    assert checks, report.lines()
    assert all(check.evidence and "\n" not in check.evidence for check in checks)
    return checks


def good(report: VerificationReport, *words: str) -> Check:
    """The peer is accepted, and its leaf is known not to be revoked, for a reason that has *words*."""
    assert report.accepted, report.lines()
    passed = [check for check in revocation(report) if check.outcome is Outcome.PASSED and check.certificate == 0]
    assert passed, report.lines()
    for word in words:
        assert word in passed[0].evidence, passed[0].evidence
    return passed[0]


def unchecked(report: VerificationReport, *words: str) -> None:
    """The peer is accepted, and the report owns that nobody knows whether it was revoked."""
    assert report.accepted, report.lines()
    assert {check.outcome for check in revocation(report)} == {Outcome.NOT_CHECKED}
    for word in words:
        assert word in revocation(report)[0].evidence


def refused(report: VerificationReport, failure: Failure, *words: str) -> None:
    """The peer is refused for *failure*, with its alert and a summary that has *words*; the rest of it was right."""
    assert not report.accepted
    assert report.failure is failure, report.lines()
    assert report.alert == ALERTS[failure]
    assert report.path == () and "\n" not in report.summary
    for word in words:
        assert word in report.summary, report.summary
    failed = [check for check in report.checks if check.outcome is Outcome.FAILED]
    assert {check.name for check in failed} == {"revocation"}, report.lines()
    assert failed[0].group.value == "certificate valid"
