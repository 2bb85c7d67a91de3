"""What Python's ssl and `openssl s_client` make of the certificates that are faulty: they notice the same."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from pellucid.testing.faults import FaultyServer

SAYS = {
    "expired": "certificate has expired",
    "not-yet-valid": "certificate is not yet valid",
    "expired-intermediate": "certificate has expired",
    "clock": "certificate is not yet valid",
    "wrong-name": "Hostname mismatch|hostname mismatch",
    "wildcard-too-deep": "Hostname mismatch|hostname mismatch",
    "unknown-ca": "self-signed certificate in certificate chain",
    "missing-intermediate": "unable to get local issuer certificate|unable to verify the first certificate",
    "self-signed": "self-signed certificate",
    "proxy": "unable to get local issuer certificate|unable to verify the first certificate",
    "bad-signature": "certificate signature failure",
    "wrong-purpose": "unsuitable certificate purpose|unsupported certificate purpose",
    "not-a-ca": "invalid CA certificate",
    "path-too-long": "path length constraint exceeded",
    "name-constraint": "permitted subtree violation",
    "unknown-critical": "unhandled critical extension",
}
"""name → what OpenSSL says"""


@pytest.mark.parametrize("name", SAYS)
def test_standard_library_refuses_the_certificate_for_the_same_reason(name: str) -> None:
    with FaultyServer(name) as server:
        context = ssl.create_default_context(cadata=server.ca_pem.decode())
        sock = socket.create_connection((server.address, server.port), 5)
        with sock, pytest.raises(ssl.SSLCertVerificationError, match=SAYS[name]):
            context.wrap_socket(sock, server_hostname=server.host)


def test_standard_library_still_believes_a_common_name_unless_told_not_to() -> None:
    """RFC 9525 §2 has done away with it; ssl's default has not."""
    with FaultyServer("common-name-only") as server:
        context = ssl.create_default_context(cadata=server.ca_pem.decode())
        assert context.hostname_checks_common_name
        with socket.create_connection((server.address, server.port), 5) as sock:
            context.wrap_socket(sock, server_hostname=server.host).close()
        context.hostname_checks_common_name = False
        sock = socket.create_connection((server.address, server.port), 5)
        with sock, pytest.raises(ssl.SSLCertVerificationError, match="ostname mismatch"):
            context.wrap_socket(sock, server_hostname=server.host)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wrong-finished", "DIGEST_CHECK_FAILED|digest check failed"),
        ("flipped-tag-handshake", "DECRYPTION_FAILED_OR_BAD_RECORD_MAC|decryption failed or bad record mac"),
        ("certificate-verify-other-key", "BAD_SIGNATURE|bad signature"),
        ("second-retry", "UNEXPECTED_MESSAGE|unexpected message"),
        ("missing-certificate-verify", "UNEXPECTED_MESSAGE|unexpected message"),
        ("plain-http", "WRONG_VERSION_NUMBER|wrong version number|HTTP_REQUEST"),
        ("unrecognized-name", "UNRECOGNIZED_NAME|unrecognized name"),
        ("internal-error", "INTERNAL_ERROR|internal error"),
    ],
)
def test_standard_library_meets_the_fault_of_the_protocol(name: str, words: str) -> None:
    with FaultyServer(name) as server:
        context = ssl.create_default_context(cadata=server.ca_pem.decode())
        sock = socket.create_connection((server.address, server.port), 5)
        with sock, pytest.raises(ssl.SSLError, match=words):
            context.wrap_socket(sock, server_hostname=server.host)


@pytest.mark.program("openssl")
@pytest.mark.parametrize(
    ("name", "code"),
    [("expired", 10), ("not-yet-valid", 9), ("self-signed", 18), ("missing-intermediate", 21), ("weak-key", 66)],
)
def test_openssl_s_client_gives_the_same_reason(name: str, code: int, tmp_path: Path) -> None:
    with FaultyServer(name) as server:
        (tmp_path / "ca.pem").write_bytes(server.ca_pem)
        target = ("-connect", f"{server.address}:{server.port}", "-servername", server.host)
        done = subprocess.run(
            ["openssl", "s_client", *target, "-CAfile", str(tmp_path / "ca.pem"), "-verify_hostname", server.host],
            input=b"",
            capture_output=True,
            timeout=20,
            check=False,
        )
    codes = {int(found) for found in re.findall(rb"verify error:num=(\d+)", done.stdout + done.stderr)}
    assert code in codes, done.stdout + done.stderr


@pytest.mark.program("openssl")
def test_openssl_s_client_sees_the_staple_that_says_revoked(tmp_path: Path) -> None:
    with FaultyServer("revoked-staple") as server:
        (tmp_path / "ca.pem").write_bytes(server.ca_pem)
        target = ("-connect", f"{server.address}:{server.port}", "-servername", server.host)
        done = subprocess.run(
            ["openssl", "s_client", *target, "-CAfile", str(tmp_path / "ca.pem"), "-status"],
            input=b"",
            capture_output=True,
            timeout=20,
            check=False,
        )
    assert b"Cert Status: revoked" in done.stdout
