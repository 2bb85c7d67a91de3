"""Peers believed without a CA: one certificate, some keys, and what is checked all the same."""

from __future__ import annotations

import datetime
import hashlib
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pellucid.config import ClientAuthentication, ClientConfig, ServerConfig
from pellucid.crypto.certificates import parse_raw_public_key
from pellucid.errors import UsageError
from pellucid.testing.ca import CA, DAY, Extra, Issued, self_signed
from pellucid.verify import (
    AllowCertificate,
    AllowKeys,
    Failure,
    Outcome,
    Purpose,
    VerificationReport,
    VerificationRequest,
    WebPKIVerifier,
    any_of,
    spki_pin,
)
from tests.support.pair import Pair, client_config, credential, events_of, issued, server_config
from tests.support.verifying import NAME, check_named, request_for

LEAF = self_signed(NAME)
AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
EXPIRED = self_signed(NAME, not_before=AGO, not_after=AGO + DAY)
FINGERPRINT = hashlib.sha256(LEAF.der).hexdigest()


@pytest.mark.parametrize(
    "form",
    [
        LEAF.der,
        LEAF.certificate_pem,
        LEAF.certificate_pem.decode(),
        hashlib.sha256(LEAF.der).digest(),
        FINGERPRINT,
        FINGERPRINT.upper(),
        ":".join(FINGERPRINT[i : i + 2] for i in range(0, 64, 2)).upper(),
        f"sha256:{FINGERPRINT}",
    ],
    ids=range(8),
)
def test_the_one_certificate_is_allowed_and_no_other(form: bytes | str) -> None:
    only = AllowCertificate(form)
    assert only.verify(request_for(LEAF)).accepted
    refused = only.verify(request_for(self_signed(NAME)))
    assert refused.failure is Failure.NOT_ALLOWED and refused.presented
    assert only == AllowCertificate(LEAF.der)


@pytest.mark.parametrize(
    "form",
    ["", "12:34", b"x", "ab" * 31, LEAF.certificate_pem * 2, b"-----BEGIN CERTIFICATE-----"],
    ids=range(6),
)
def test_what_is_no_certificate_is_not_allowed(form: bytes | str) -> None:
    with pytest.raises(UsageError):
        AllowCertificate(form)


def test_name_and_dates_are_checked_unless_given_up_by_name() -> None:
    assert AllowCertificate(LEAF.der).verify(request_for(LEAF, "other.test")).failure is Failure.WRONG_NAME
    unnamed = AllowCertificate(LEAF.der, check_name=False)
    report = unnamed.verify(request_for(LEAF, "other.test"))
    assert report.accepted and check_named(report, "subject alternative name").outcome is Outcome.NOT_CHECKED
    assert unnamed.verify(request_for(LEAF, None)).accepted

    assert AllowCertificate(EXPIRED.der).verify(request_for(EXPIRED)).failure is Failure.EXPIRED
    report = AllowCertificate(EXPIRED.der, check_dates=False).verify(request_for(EXPIRED))
    assert report.accepted and "expired on" in check_named(report, "dates").evidence


def test_hosts_stand_for_the_names_in_the_certificate() -> None:
    only = AllowCertificate(LEAF.der, hosts=("Router.Lan", "192.0.2.1"))
    assert only.verify(request_for(LEAF, "router.lan")).accepted
    assert only.verify(request_for(LEAF, "192.0.2.1")).accepted
    assert only.verify(request_for(LEAF)).failure is Failure.WRONG_NAME
    for wrong in ({"hosts": ()}, {"hosts": "router.lan"}, {"hosts": ("a",), "check_name": False}, {"hosts": ("a b",)}):
        with pytest.raises(UsageError):
            AllowCertificate(LEAF.der, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("leaf", "failure"),
    [
        (self_signed(NAME, purposes=("client",)), Failure.WRONG_PURPOSE),
        (self_signed(NAME, usage=("key_encipherment",)), Failure.WRONG_PURPOSE),
        (
            CA().issue(
                NAME,
                extra=[Extra(value=x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"x"), critical=True)],
            ),
            Failure.UNSUPPORTED,
        ),
    ],
)
def test_what_the_certificate_is_for_is_checked_whoever_issued_it(leaf: Issued, failure: Failure) -> None:
    for verifier in (AllowCertificate(leaf.der, check_name=False), AllowKeys(spki_pin(leaf.der), check_name=False)):
        assert verifier.verify(request_for(leaf)).failure is failure


@pytest.mark.parametrize("ca", [True, False, None])
def test_a_self_signed_certificate_may_be_a_ca(ca: bool | None) -> None:
    leaf = self_signed(NAME, ca=ca)
    assert AllowCertificate(leaf.der).verify(request_for(leaf)).accepted


def test_keys_are_allowed_in_any_certificate_and_raw() -> None:
    first, again = self_signed(NAME), CA().issue(NAME)
    verifier = AllowKeys([spki_pin(first.der), spki_pin(again.der)])
    assert verifier.verify(request_for(first)).accepted and verifier.verify(request_for(again)).accepted
    refused = verifier.verify(request_for(LEAF))
    assert refused.failure is Failure.NOT_ALLOWED and spki_pin(LEAF.der) in refused.summary
    spki = first.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    request = VerificationRequest(
        leaf=parse_raw_public_key(spki),
        intermediates=(),
        purpose=Purpose.SERVER_AUTH,
        server_name=NAME,
        now=time.time(),
    )
    report = verifier.verify(request)
    assert report.accepted and report.path == (spki,)
    assert not AllowCertificate(first.der).verify(request).accepted


def test_a_key_of_small_order_is_never_allowed() -> None:
    """Anybody can sign for it (attack D25)."""
    identity = bytes.fromhex("302a300506032b6570032100") + b"\1" + bytes(31)
    request = VerificationRequest(
        leaf=parse_raw_public_key(identity), intermediates=(), purpose=Purpose.SERVER_AUTH, server_name=NAME, now=0.0
    )
    assert AllowKeys(hashlib.sha256(identity).digest()).verify(request).failure is Failure.WEAK_KEY


def test_a_name_is_demanded_of_whoever_asks() -> None:
    with pytest.raises(UsageError, match="without the server's name"):
        AllowCertificate(LEAF.der).verify(request_for(LEAF, None))
    with pytest.raises(UsageError, match="client"):
        AllowCertificate(LEAF.der).verify(request_for(LEAF, NAME, purpose=Purpose.CLIENT_AUTH))


def test_sessions_are_bound_to_certificate_keys_and_demands() -> None:
    verifiers = [
        AllowCertificate(LEAF.der),
        AllowCertificate(EXPIRED.der),
        AllowCertificate(LEAF.der, check_name=False),
        AllowCertificate(LEAF.der, check_dates=False),
        AllowCertificate(LEAF.der, hosts=("a.test",)),
        AllowKeys(spki_pin(LEAF.der)),
        AllowKeys([spki_pin(LEAF.der), bytes(32)]),
        AllowKeys(spki_pin(LEAF.der), check_name=False),
    ]
    assert len({one.session_identity for one in verifiers}) == len(verifiers)


def test_beside_the_web_pki_one_certificate_more_is_believed() -> None:
    ca = CA()
    verifier = any_of(WebPKIVerifier(ca.trust), AllowCertificate(LEAF.der))
    for leaf in (LEAF, ca.issue(NAME)):
        report = verifier.verify(request_for(leaf))
        assert isinstance(report, VerificationReport) and report.accepted
    report = verifier.verify(request_for(self_signed(NAME)))
    assert isinstance(report, VerificationReport) and report.failure is Failure.SELF_SIGNED


@pytest.mark.parametrize("mode", [ClientAuthentication.REQUIRED, ClientAuthentication.OPTIONAL])
def test_a_server_lists_the_keys_of_its_clients(mode: ClientAuthentication) -> None:
    mine = credential("p256", "client.test")
    listed = AllowKeys(spki_pin(mine.chain[0]))

    def server(verifier: AllowKeys) -> ServerConfig:
        return server_config(client_authentication=mode, verifier=verifier)

    client: ClientConfig = client_config(credentials=(mine,))
    pair = Pair.of(client, server(listed))
    pair.connect()
    peer = pair.server.peer
    assert peer is not None and peer.leaf.der == mine.chain[0]
    stranger = Pair.of(client, server(AllowKeys(spki_pin(issued().der))))
    stranger.pump()
    error = events_of(stranger.server)[1]
    assert error is not None and "none of the 1 keys allowed" in str(error)
