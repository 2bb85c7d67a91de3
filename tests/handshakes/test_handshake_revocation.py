"""Revocation through whole handshakes: both ends' certificates, what the peer is told, what the trace says in words.

How a staple travels is no matter here: `Stapling` puts it into the request that the verifier is asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from pellucid import AlertReceived, ClientConfig, Credential, HandshakeComplete, RevocationPolicy, ServerConfig
from pellucid.explain.recorder import Recorder
from pellucid.explain.sentences import describe
from pellucid.registry import AlertDescription as A
from pellucid.testing.ca import Issued
from pellucid.trace import AlertTraced, VerificationTraced
from pellucid.verify import (
    CertificateRejected,
    Failure,
    Outcome,
    Purpose,
    VerificationReport,
    VerificationRequest,
    WebPKIVerifier,
)
from tests.support.pair import (
    NAME,
    Chunking,
    Pair,
    asking_server_config,
    authority,
    client_config,
    events_of,
    server_config,
)


class Stapling:
    """The WebPKI verifier over `authority`, told that *staple* came with the leaf."""

    def __init__(self, staple: bytes | None, policy: RevocationPolicy | None = None) -> None:
        self._inner = WebPKIVerifier(authority().trust, revocation=policy or RevocationPolicy())
        self._staple = staple

    def verify(self, request: VerificationRequest) -> VerificationReport:
        return self._inner.verify(dataclasses.replace(request, ocsp_response=self._staple))

    @property
    def authorities(self) -> Sequence[bytes]:
        return self._inner.authorities


def ends(purpose: Purpose, issued: Issued, **changes: object) -> tuple[ClientConfig, ServerConfig]:
    """The two ends, of which one shows *issued* and the other verifies it as *changes* say."""
    credential = Credential.from_pem(issued.chain_pem, issued.key_pem)
    if purpose is Purpose.SERVER_AUTH:
        return client_config(**changes), server_config(credentials=(credential,))
    return client_config(credentials=(credential,)), asking_server_config(request_ocsp=True, **changes)


def refusal(pair: Pair, purpose: Purpose) -> CertificateRejected:
    """Shake hands; return the verifying end's error, which the other end must have heard of."""
    pair.pump()
    verifying, other = (pair.client, pair.server) if purpose is Purpose.SERVER_AUTH else (pair.server, pair.client)
    _, error = events_of(verifying)
    assert isinstance(error, CertificateRejected)
    pair.pump()
    _, heard = events_of(other)
    assert isinstance(heard, AlertReceived)
    assert heard.description == error.alert
    return error


@pytest.fixture(params=list(Purpose), ids=["server", "client"])
def purpose(request: pytest.FixtureRequest) -> Purpose:
    """Whose certificate it is."""
    chosen: Purpose = request.param
    return chosen


@pytest.mark.rfc("9846 §6.2", "certificate_revoked")
def test_a_certificate_on_a_crl_ends_the_handshake_with_certificate_revoked(
    purpose: Purpose, chunking: Chunking
) -> None:
    issued = authority().issue(NAME)
    policy = RevocationPolicy(crls=(authority().crl(issued), authority().root.crl()))
    error = refusal(Pair.of(*ends(purpose, issued, revocation=policy), chunking=chunking), purpose)
    assert error.alert == A.CERTIFICATE_REVOKED
    report = error.verification
    assert isinstance(report, VerificationReport) and report.failure is Failure.REVOKED
    assert "was revoked on" in str(error) and "✘ certificate valid · revocation" in error.__notes__[0]
    other = authority().issue(NAME)
    Pair.of(*ends(purpose, other, revocation=policy), chunking=chunking).connect()


@pytest.mark.rfc("9846 §6.2", "bad_certificate_status_response: an invalid or unacceptable OCSP response")
def test_a_bad_staple_ends_the_handshake_with_bad_certificate_status_response(
    purpose: Purpose, chunking: Chunking
) -> None:
    issued = authority().issue(NAME)
    for staple in (authority().ocsp_response(issued, serial=1), b"garbage", b""):
        pair = Pair.of(*ends(purpose, issued, verifier=Stapling(staple)), chunking=chunking)
        error = refusal(pair, purpose)
        assert error.alert == A.BAD_CERTIFICATE_STATUS_RESPONSE
        assert isinstance(error.verification, VerificationReport) and error.verification.failure is Failure.BAD_STAPLE


@pytest.mark.rfc("7633 §4.2.2", "a certificate whose TLS feature names status_request is invalid without a staple")
def test_must_staple_without_a_staple_ends_the_handshake(purpose: Purpose, chunking: Chunking) -> None:
    issued = authority().issue(NAME, must_staple=True)
    pair = Pair.of(*ends(purpose, issued, verifier=Stapling(None)), chunking=chunking)
    assert refusal(pair, purpose).alert == A.BAD_CERTIFICATE_STATUS_RESPONSE
    good = Stapling(authority().ocsp_response(issued))
    Pair.of(*ends(purpose, issued, verifier=good), chunking=chunking).connect()


def traced(purpose: Purpose, issued: Issued, staple: bytes | None) -> tuple[VerificationReport, str, Recorder]:
    recorder = Recorder()
    client, server = ends(purpose, issued, verifier=Stapling(staple))
    observed = {"client_trace" if purpose is Purpose.SERVER_AUTH else "server_trace": recorder}
    Pair.of(client, server, **observed).pump()  # type: ignore[arg-type]
    (event,) = recorder.of(VerificationTraced)
    assert isinstance(event.report, VerificationReport)
    return event.report, describe(event), recorder


def test_the_trace_says_in_words_whether_it_was_revoked(purpose: Purpose) -> None:
    issued = authority().issue(NAME)
    report, told, _ = traced(purpose, issued, authority().ocsp_response(issued))
    assert report.accepted
    assert "is believed" in told and "It is not revoked: the OCSP response stapled to the leaf" in told
    report, told, _ = traced(purpose, issued, None)
    assert report.accepted
    assert "Whether it was revoked was not checked: neither OCSP nor CRLs were consulted" in told
    report, told, recorder = traced(purpose, issued, authority().ocsp_response(issued, status="revoked"))
    assert not report.accepted
    assert "is refused: the leaf" in told and "was revoked on" in told
    (alert,) = recorder.of(AlertTraced)
    assert "withdrawn by its issuer" in describe(alert)
    _, told, recorder = traced(purpose, issued, b"garbage")
    assert "is refused: the OCSP response stapled to the leaf cannot be parsed" in told
    (alert,) = recorder.of(AlertTraced)
    assert "without a good answer on whether it was revoked" in describe(alert)


def test_the_report_of_a_completed_handshake_has_the_evidence(purpose: Purpose, chunking: Chunking) -> None:
    issued = authority().issue(NAME)
    verifier = Stapling(authority().ocsp_response(issued))
    pair = Pair.of(*ends(purpose, issued, verifier=verifier), chunking=chunking)
    pair.pump()
    event = (pair.client if purpose is Purpose.SERVER_AUTH else pair.server).next_event()
    assert isinstance(event, HandshakeComplete) and event.negotiated.peer is not None
    report = event.negotiated.peer.report
    (check,) = [check for check in report.checks if check.name == "revocation"]
    assert check.outcome is Outcome.PASSED and "says good" in check.evidence
