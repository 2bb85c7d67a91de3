"""Handshakes whose peer's chain was accepted before: only the verdict is remembered, never the proof of the key."""

from __future__ import annotations

from typing import Any

import pytest

from pellucid import AlertReceived, ClientConfig, Credential, ServerConfig
from pellucid.errors import DecryptError
from pellucid.explain.recorder import Recorder
from pellucid.registry import AlertDescription as A
from pellucid.testing.ca import CA
from pellucid.trace import VerificationTraced
from pellucid.verify import CheckGroup, Outcome, Purpose, WebPKIVerifier
from tests.support.pair import Pair, asking_server_config, authority, client_config, credential, events_of, issued

PURPOSES = pytest.mark.parametrize("purpose", list(Purpose), ids=["server", "client"])


def shown(own: Credential, purpose: Purpose, **changes: Any) -> tuple[ClientConfig, ServerConfig]:
    """Two ends, of which *purpose*'s peer shows *own*, and the other remembers verdicts, as is usual."""
    if purpose is Purpose.SERVER_AUTH:
        changed = changes or {"trust": authority().trust}
        return client_config(**changed), ServerConfig(credentials=(own,), tickets=0)
    return client_config(credentials=(own,)), asking_server_config(**changes)


def thief() -> Credential:
    """The chain of `credential`, which everybody can have, with a key of one's own."""
    return Credential(chain=credential().chain, signer=credential("p256", "thief.test").signer)


def told(recorder: Recorder) -> VerificationTraced:
    (verification,) = [event for event in recorder.events if isinstance(event, VerificationTraced)]
    return verification


@PURPOSES
@pytest.mark.rfc("9846 §4.5.2", "CertificateVerify is proof that the peer has the private key: of every handshake")
def test_a_thief_of_a_remembered_chain_is_refused(purpose: Purpose) -> None:
    client, server = shown(credential(), purpose)
    Pair.of(client, server).connect()
    verifying = client if purpose is Purpose.SERVER_AUTH else server
    assert isinstance(verifying.peer_verifier, WebPKIVerifier) and len(verifying.peer_verifier._verdicts) == 1
    stolen = shown(thief(), purpose)
    pair = Pair.of(*((client, stolen[1]) if purpose is Purpose.SERVER_AUTH else (stolen[0], server)))
    pair.pump()
    judge, other = (pair.client, pair.server) if purpose is Purpose.SERVER_AUTH else (pair.server, pair.client)
    _, error = events_of(judge)
    assert isinstance(error, DecryptError) and error.code == "TLS-BAD-CERTIFICATE-VERIFY"
    assert error.verification is not None and not error.verification.accepted
    assert any(check.name == "remembered verdict" for check in error.verification.checks), "the chain is remembered"
    _, heard = events_of(other)
    assert isinstance(heard, AlertReceived) and heard.description == A.DECRYPT_ERROR
    # And who has the key is let in, as before.
    Pair.of(client, server).connect()


@PURPOSES
def test_the_trace_tells_a_remembered_verdict_with_all_its_checks(purpose: Purpose) -> None:
    client, server = shown(credential(), purpose)
    recorders = [Recorder() for _ in range(3)]
    for recorder in recorders:
        trace = {"client_trace" if purpose is Purpose.SERVER_AUTH else "server_trace": recorder}
        Pair.of(client, server, **trace).connect()
    first, second, third = map(told, recorders)
    for again in (second, third):
        (note,) = [check for check in again.report.checks if check not in first.report.checks]
        assert note.name == "remembered verdict" and "remembered" in note.evidence
        assert set(first.report.checks) < set(again.report.checks)
        assert again.report.outcome(CheckGroup.SIGNATURE) is Outcome.PASSED
        assert again.report.path == first.report.path


def test_a_connection_without_trace_before_explains_itself_when_it_is_read() -> None:
    client, server = shown(credential(), Purpose.SERVER_AUTH)
    pairs = [Pair.of(client, server).connect() for _ in range(2)]
    reports = [pair.client.negotiated.peer.report for pair in pairs]  # type: ignore[union-attr]  # both are connected
    names = [[check.name for check in report.checks] for report in reports]
    assert "remembered verdict" not in names[0] and "remembered verdict" in names[1]
    assert "\n".join(reports[1].lines()).count("remembered: ") == 1
    assert reports[1].to_dict()["accepted"] is True


def test_another_chain_for_the_same_name_is_verified() -> None:
    """An attacker between the two, with a chain of its own, gains nothing by what is remembered of the server."""
    client, server = shown(credential(), Purpose.SERVER_AUTH)
    Pair.of(client, server).connect()
    false = CA("Pair test root").intermediate("Pair test intermediate").issue("pair.test")
    posing = ServerConfig(credentials=(Credential.from_pem(false.chain_pem, false.key_pem),), tickets=0)
    pair = Pair.of(client, posing)
    pair.pump()
    _, error = events_of(pair.client)
    assert error is not None and error.verification is not None and not error.verification.accepted
    # Not with the true intermediates behind the false leaf either.
    mixed = Credential(
        chain=(false.der, *issued().chain_der[1:]), signer=posing.credentials[0].signer, ocsp_response=None
    )
    pair = Pair.of(client, ServerConfig(credentials=(mixed,), tickets=0))
    pair.pump()
    _, error = events_of(pair.client)
    assert error is not None and error.verification is not None and not error.verification.accepted
