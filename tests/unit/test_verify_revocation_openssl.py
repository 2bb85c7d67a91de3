"""OCSP responses and CRLs that OpenSSL made are read, and OpenSSL reads those that the test CA makes."""

from __future__ import annotations

import datetime
import functools
import subprocess
from pathlib import Path

import pytest

from pellucid.testing.ca import CA, Issued, private_key_pem
from pellucid.verify import Failure, RevocationPolicy
from tests.support.revocation import HOST, NOW, good, refused, verify

pytestmark = pytest.mark.program("openssl")

CONFIG = """
[ca]
default_ca = it
[it]
database = {folder}/index.txt
crlnumber = {folder}/number
default_md = sha256
default_crl_days = 7
crl_extensions = crl
[crl]
authorityKeyIdentifier = keyid
"""


@functools.cache
def authority() -> CA:
    return CA("OpenSSL root", key="rsa2048").intermediate("OpenSSL CA", key="rsa2048")


@functools.cache
def leaf() -> Issued:
    return authority().issue(HOST)


def openssl(folder: Path, *arguments: str | Path) -> str:
    done = subprocess.run(
        ["openssl", *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of a CA: its certificate and key, a responder's, the leaf, and the index of what it issued."""
    ca, responder = authority(), authority().responder()
    itself = Issued(certificate=ca.certificate, intermediates=(), key_pem=b"")
    for name, data in {
        "ca.pem": itself.certificate_pem,
        "ca.key": private_key_pem(ca.private_key),
        "root.pem": ca.root_pem,
        "responder.pem": responder.certificate_pem,
        "responder.key": responder.key_pem,
        "leaf.pem": leaf().certificate_pem,
        "number": b"01\n",
        "index.txt.attr": b"unique_subject = no\n",
    }.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "ca.cnf").write_text(CONFIG.format(folder=tmp_path))
    index(tmp_path, revoked=False)
    return tmp_path


def index(folder: Path, *, revoked: bool) -> None:
    serial = f"{leaf().certificate.serial_number:X}"
    serial = serial if len(serial) % 2 == 0 else f"0{serial}"
    day = (NOW - datetime.timedelta(days=1)).strftime("%y%m%d%H%M%SZ")
    state = ("R", "350101000000Z", f"{day},keyCompromise") if revoked else ("V", "350101000000Z", "")
    (folder / "index.txt").write_text("\t".join((*state, serial, "unknown", f"/CN={HOST}")) + "\n")


def answered(folder: Path, signer: str, digest: str) -> bytes:
    openssl(folder, "ocsp", f"-{digest}", "-issuer", "ca.pem", "-cert", "leaf.pem", "-no_nonce", "-reqout", "request")
    responder = ("-rsigner", f"{signer}.pem", "-rkey", f"{signer}.key", "-CA", "ca.pem", "-ndays", "7")
    openssl(folder, "ocsp", "-index", "index.txt", *responder, "-reqin", "request", "-respout", "response")
    return (folder / "response").read_bytes()


@pytest.mark.parametrize("signer", ["ca", "responder"])
@pytest.mark.parametrize("digest", ["sha1", "sha256"])
def test_an_ocsp_response_of_openssl_is_read(folder: Path, signer: str, digest: str) -> None:
    good(verify(leaf(), answered(folder, signer, digest), ca=authority()))
    index(folder, revoked=True)
    report = verify(leaf(), answered(folder, signer, digest), ca=authority())
    refused(report, Failure.REVOKED, "(keyCompromise)")
    (folder / "index.txt").write_text("")
    refused(verify(leaf(), answered(folder, signer, digest), ca=authority()), Failure.BAD_STAPLE, "status is unknown")


def test_a_crl_of_openssl_is_read(folder: Path) -> None:
    for revoked in (False, True):
        index(folder, revoked=revoked)
        keys = ("-cert", "ca.pem", "-keyfile", "ca.key")
        openssl(folder, "ca", "-gencrl", "-config", "ca.cnf", *keys, "-out", "crl.pem")
        policy = RevocationPolicy(crls=((folder / "crl.pem").read_bytes(),), crl_depth="leaf")
        report = verify(leaf(), None, policy, ca=authority())
        if revoked:
            refused(report, Failure.REVOKED, "(keyCompromise)")
        else:
            good(report, "is not on the CRL of 'OpenSSL CA'")


@pytest.mark.parametrize("status", ["good", "revoked", "unknown"])
def test_openssl_reads_the_ocsp_responses_of_the_test_ca(folder: Path, status: str) -> None:
    ca = authority()
    for signer in (None, ca.responder()):
        (folder / "response").write_bytes(ca.ocsp_response(leaf(), status=status, signer=signer))  # type: ignore[arg-type]
        told = openssl(
            *(folder, "ocsp", "-issuer", "ca.pem", "-cert", "leaf.pem", "-respin", "response"),
            *("-CAfile", "root.pem", "-verify_other", "ca.pem", "-no_nonce"),
        )
        assert "Response verify OK" in told and f"leaf.pem: {status}" in told


def test_openssl_reads_the_crls_of_the_test_ca(folder: Path) -> None:
    (folder / "crl").write_bytes(authority().crl(leaf()))
    told = openssl(folder, "crl", "-inform", "DER", "-in", "crl", "-CAfile", "ca.pem", "-noout", "-text")
    assert "verify OK" in told and f"{leaf().certificate.serial_number:X}" in told.replace(":", "").upper()
