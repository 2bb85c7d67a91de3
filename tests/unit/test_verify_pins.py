"""Pins (RFC 7469): what they are, and on which path they are looked for."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pellucid.config import ClientConfig
from pellucid.crypto.certificates import parse_raw_public_key
from pellucid.errors import UsageError
from pellucid.testing.ca import CA, Issued
from pellucid.verify import (
    Failure,
    Outcome,
    Purpose,
    RawPublicKeyVerifier,
    SpkiPins,
    VerificationReport,
    VerificationRequest,
    WebPKIVerifier,
    all_of,
    path_pins,
    spki_pin,
)
from pellucid.verify.pins import parse_pin
from tests.support.pair import Pair, client_config, credential, events_of, server_config
from tests.support.verifying import NAME, check_named, request_for

ROOT = CA("pins")
MIDDLE = ROOT.intermediate()
LEAF = MIDDLE.issue(NAME)
PATH = (LEAF.der, MIDDLE.certificate.public_bytes(Encoding.DER), ROOT.root_der)
WEB = WebPKIVerifier(ROOT.trust)
OTHER = bytes(32)


def verified(pins: SpkiPins, leaf: Issued = LEAF) -> VerificationReport:
    report = all_of(WEB, pins).verify(request_for(leaf))
    assert isinstance(report, VerificationReport)
    return report


@pytest.mark.parametrize("der", PATH, ids=["leaf", "intermediate", "root"])
def test_a_pin_of_any_certificate_of_the_verified_path_will_do(der: bytes) -> None:
    report = verified(SpkiPins([spki_pin(der), OTHER]))
    assert report.accepted
    check = check_named(report, "pinned key")
    assert check.outcome is Outcome.PASSED and spki_pin(der) in check.evidence
    assert path_pins(report) == tuple(map(spki_pin, PATH))


def test_a_pin_of_no_certificate_on_the_path_refuses_and_tells_those_there_are() -> None:
    report = verified(SpkiPins(OTHER))
    assert report.failure is Failure.WRONG_PIN
    assert all(spki_pin(der) in report.summary for der in PATH)


def test_leaf_only_pins_look_at_no_ca() -> None:
    assert verified(SpkiPins(spki_pin(LEAF.der), leaf_only=True)).accepted
    assert verified(SpkiPins(spki_pin(ROOT.root_der), leaf_only=True)).failure is Failure.WRONG_PIN


def test_a_certificate_that_was_sent_and_is_not_on_the_path_does_not_count() -> None:
    """Whoever may send certificates could send the pinned one beside its own (RFC 7469 §2.6: the validated chain)."""
    pinned = CA("pinned").issue("pinned.test")
    evil = Issued(certificate=LEAF.certificate, intermediates=(*LEAF.intermediates, pinned.certificate), key_pem=b"")
    assert verified(SpkiPins(spki_pin(pinned.der)), evil).failure is Failure.WRONG_PIN


def test_the_report_says_whether_a_pin_is_in_reserve() -> None:
    assert "none is in reserve" in check_named(verified(SpkiPins(spki_pin(LEAF.der))), "pinned key").evidence
    assert "reserve" not in check_named(verified(SpkiPins([spki_pin(LEAF.der), OTHER])), "pinned key").evidence


def test_a_raw_public_key_is_pinned_itself() -> None:
    spki = LEAF.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert spki_pin(spki) == spki_pin(LEAF.der)
    raw = RawPublicKeyVerifier(spki)
    request = VerificationRequest(
        leaf=parse_raw_public_key(spki), intermediates=(), purpose=Purpose.SERVER_AUTH, server_name=NAME, now=0.0
    )
    answer = all_of(raw, SpkiPins(spki_pin(spki))).verify(request)
    assert isinstance(answer, VerificationReport) and answer.accepted
    assert "the raw public key" in check_named(answer, "pinned key").evidence


@pytest.mark.program("openssl")
@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048", "ed25519", "ed448"])
def test_a_pin_is_that_of_openssl(kind: str, tmp_path: Path) -> None:
    leaf = ROOT.issue(NAME, key=kind)  # type: ignore[arg-type]
    (tmp_path / "leaf.pem").write_bytes(leaf.certificate_pem)
    key = subprocess.run(
        ["openssl", "x509", "-in", str(tmp_path / "leaf.pem"), "-pubkey", "-noout"], check=True, capture_output=True
    ).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=key, check=True, capture_output=True)
    wanted = "sha256/" + base64.b64encode(hashlib.sha256(der.stdout).digest()).decode()
    assert spki_pin(leaf.certificate_pem) == spki_pin(leaf.der) == spki_pin(key) == spki_pin(key.decode()) == wanted


@pytest.mark.parametrize("form", ["sha256/{}", "sha256//{}", "SHA256/{}", 'pin-sha256="{}"', " sha256/{} "])
def test_pins_are_read_in_the_forms_that_people_write(form: str) -> None:
    for pin in (hashlib.sha256(b"x").digest(), b"\xff" * 32, b"\xfb" + bytes(31)):  # base64 begins with a slash, a plus
        assert parse_pin(form.format(base64.b64encode(pin).decode())) == parse_pin(pin) == pin


@pytest.mark.parametrize(
    "text", ["", "sha1/AAAA", "sha256/", "sha256/AAAA", "sha256/!!!", b"short", "sha256/" + "A" * 44, "A" * 44]
)
def test_what_is_no_pin_is_refused(text: str | bytes) -> None:
    with pytest.raises(UsageError, match="pin"):
        SpkiPins(text)


def test_no_pin_at_all_is_refused() -> None:
    for none in ((), "", ";"):
        with pytest.raises(UsageError, match="no pin"):
            SpkiPins(none)


@pytest.mark.parametrize("data", [b"", b"nothing", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"])
def test_what_has_no_key_has_no_pin(data: bytes | str) -> None:
    with pytest.raises(UsageError):
        spki_pin(data)


def test_several_pins_in_one_text_as_curl_takes_them() -> None:
    two = f"sha256//{base64.b64encode(OTHER).decode()};{spki_pin(LEAF.der)}"
    assert len(SpkiPins(two).pins) == 2


def test_pins_of_a_configuration_demand_beside_the_verifier() -> None:
    good = client_config(requirements=(SpkiPins(spki_pin(credential().chain[0])),))
    Pair.of(good, server_config()).connect()
    pair = Pair.of(client_config(requirements=(SpkiPins(OTHER),)), server_config())
    pair.pump()
    assert "none" in str(events_of(pair.client)[1]) or "not among" in str(events_of(pair.client)[1])
    assert good.session_scope != client_config().session_scope
    assert ClientConfig(requirements=(SpkiPins(OTHER),)).peer_verifier is None  # the roots are still to come
