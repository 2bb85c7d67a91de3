"""The switches of verification: what `ssl` allows is allowed where it was asked for by name, and nowhere else."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Any

import pytest

import pellucid
from pellucid.config import ClientConfig, Credential, ServerConfig
from pellucid.integrations.ssl_context import SSLContext
from pellucid.integrations.ssl_errors import ConfigurationError
from pellucid.testing.ca import CA
from pellucid.verify.report import CertificateRejected
from pellucid.verify.webpki import dangerous_accept_any
from tests.support.bios import Wire

AUTHORITY = CA("switches root")
LEAF = AUTHORITY.issue("localhost")
STRANGER = CA("nobody trusts this").issue("localhost")


def server(leaf: Any = LEAF) -> SSLContext:
    return SSLContext(ServerConfig(credentials=(Credential.from_pem(leaf.chain_pem, leaf.key_pem),)))


def client(*, allowed: bool = True) -> SSLContext:
    context = SSLContext(int(ssl.PROTOCOL_TLS_CLIENT), dangerous_allow_unverified=allowed)
    context.load_verify_locations(cadata=AUTHORITY.root_pem.decode())
    return context


@pytest.mark.parametrize(("name", "value"), [("check_hostname", False), ("verify_mode", ssl.CERT_NONE)])
def test_switch_without_permission_raises_and_says_how(name: str, value: object) -> None:
    context = client(allowed=False)
    with pytest.raises(ConfigurationError, match="dangerous_allow_unverified=True"):
        setattr(context, name, value)
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)


def pem(crl: bytes) -> bytes:
    return b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(crl) + b"-----END X509 CRL-----\n"


def outcomes(context: Any) -> list[object]:
    """What happens to the two switches, in every order that differs."""
    found: list[object] = []
    steps: list[tuple[str, Any]] = [
        ("verify_mode", ssl.CERT_NONE),
        ("check_hostname", False),
        ("verify_mode", ssl.CERT_NONE),
        ("verify_mode", ssl.CERT_OPTIONAL),
        ("verify_mode", ssl.CERT_NONE),
        ("check_hostname", True),
        ("verify_mode", 7),
        ("verify_mode", "x"),
        ("verify_mode", 1),
    ]
    for name, value in steps:
        try:
            setattr(context, name, value)
        except (TypeError, ValueError) as error:
            found.append(TypeError if isinstance(error, TypeError) else ValueError)
        found.append((context.check_hostname, context.verify_mode))
    return found


def test_switches_with_permission_turn_as_those_of_ssl() -> None:
    assert outcomes(client()) == outcomes(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    with pytest.raises(ValueError, match="Cannot set verify_mode to CERT_NONE when check_hostname is enabled"):
        client().verify_mode = ssl.CERT_NONE


def test_check_hostname_off_the_chain_is_verified_and_the_name_is_not() -> None:
    context = client()
    context.check_hostname = False
    wire = Wire(context, server(), "another.name").shake()
    assert wire.client.getpeercert()["subjectAltName"] == (("DNS", "localhost"),)
    assert not wire.client.report.dangerous
    assert Wire(context, server(), None).shake().server.version() == "TLSv1.3"
    with pytest.raises(CertificateRejected):
        Wire(context, server(STRANGER)).shake()


def test_check_hostname_off_without_a_name_sends_none_and_resumes_nothing() -> None:
    context = client()
    context.check_hostname = False
    asked: list[str | None] = []
    other = server()
    other.sni_callback = lambda _, name, __: asked.append(name)
    session = Wire(context, other, None).shake().client.session
    assert not session.has_ticket
    assert asked == [None]


def test_cert_none_accepts_anybody_and_reports_it() -> None:
    context = client()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    wire = Wire(context, server(STRANGER)).shake()
    assert wire.client.getpeercert() == {}
    assert wire.client.getpeercert(True) == STRANGER.der
    assert wire.client.report.dangerous
    assert not wire.client.session.has_ticket  # nobody is remembered as verified who was not


def test_name_is_demanded_where_it_is_checked() -> None:
    for context in (client(), ssl.create_default_context()):
        with pytest.raises(ValueError, match="server_hostname"):
            context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="")
    with pytest.raises(ValueError, match="check_hostname requires server_hostname"):
        client().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())


def test_protocol_contexts_trust_nobody_until_told_as_in_ssl() -> None:
    empty = SSLContext(int(ssl.PROTOCOL_TLS_CLIENT))
    assert empty.get_ca_certs(True) == ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).get_ca_certs(True) == []
    with pytest.raises(CertificateRejected):
        Wire(empty, server()).shake()


def test_protocol_tls_verifies_unless_unverified_is_allowed() -> None:
    safe = SSLContext(protocol=int(ssl.PROTOCOL_TLS))
    assert (safe.protocol, safe.check_hostname, safe.verify_mode) == (ssl.PROTOCOL_TLS, True, ssl.CERT_REQUIRED)
    as_ssl = SSLContext(int(ssl.PROTOCOL_TLS), dangerous_allow_unverified=True)
    with pytest.warns(DeprecationWarning):
        real = ssl.SSLContext(ssl.PROTOCOL_TLS)
    assert (as_ssl.check_hostname, as_ssl.verify_mode) == (real.check_hostname, real.verify_mode)
    assert Wire(as_ssl, server(STRANGER), None).shake().client.report.dangerous


@pytest.mark.parametrize("protocol", [-1, 99, "PROTOCOL_TLSv1", "PROTOCOL_TLSv1_2"])
def test_other_protocols_are_a_value_error(protocol: int | str) -> None:
    number = int(getattr(ssl, protocol)) if isinstance(protocol, str) else protocol
    with pytest.raises(ValueError, match="PROTOCOL_TLS_CLIENT"):
        SSLContext(number)
    with pytest.raises(TypeError):
        SSLContext(ClientConfig(trust=AUTHORITY.trust), protocol=int(ssl.PROTOCOL_TLS_CLIENT))


def test_default_context_is_what_ssl_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root.pem"
    root.write_bytes(AUTHORITY.root_pem)
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    for made in (
        pellucid.create_default_context(cafile=root),
        pellucid.create_default_context(capath=tmp_path),
        pellucid.create_default_context(cadata=AUTHORITY.root_pem.decode()),
        pellucid.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=AUTHORITY.root_der),
    ):
        real = ssl.create_default_context(cafile=root)
        assert made.get_ca_certs(True) == [AUTHORITY.root_der] == real.get_ca_certs(True)
        for name in ("verify_mode", "check_hostname", "protocol", "keylog_filename", "num_tickets"):
            assert getattr(made, name) == getattr(real, name), name
        assert Wire(made, server()).shake().client.version() == "TLSv1.3"
    serving, real = (
        pellucid.create_default_context(ssl.Purpose.CLIENT_AUTH),
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH),
    )
    for name in ("verify_mode", "check_hostname", "protocol", "num_tickets"):
        assert getattr(serving, name) == getattr(real, name), name
    with pytest.raises(TypeError):
        pellucid.create_default_context("server")  # type: ignore[arg-type]
    assert "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_text()


def test_default_context_of_the_system_has_its_roots() -> None:
    assert len(pellucid.create_default_context().get_ca_certs(True)) > 20


def test_crl_flags_ask_the_crls_that_were_loaded(tmp_path: Path) -> None:
    issuing = CA("with a list")
    good, bad = issuing.issue("localhost"), issuing.issue("localhost")
    crl = pem(issuing.crl(bad))
    (tmp_path / "crl.pem").write_bytes(crl)
    (tmp_path / "root.pem").write_bytes(issuing.root_pem + crl)
    context = SSLContext(int(ssl.PROTOCOL_TLS_CLIENT))
    context.load_verify_locations(cadata=issuing.root_pem.decode())
    assert Wire(context, server(bad)).shake().client.version() == "TLSv1.3"  # CRLs are asked for, or are not
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    with pytest.raises(ConfigurationError, match="load_verify_locations"):
        Wire(context, server(good))
    context.load_verify_locations(tmp_path / "crl.pem")
    assert context.cert_store_stats() == {"x509": 1, "crl": 1, "x509_ca": 1}
    assert Wire(context, server(good)).shake().client.version() == "TLSv1.3"
    with pytest.raises(CertificateRejected, match="revoked"):
        Wire(context, server(bad)).shake()
    both = pellucid.create_default_context(cafile=tmp_path / "root.pem")
    both.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    assert both.cert_store_stats() == {"x509": 1, "crl": 1, "x509_ca": 1}
    with pytest.raises(CertificateRejected, match="revoked"):
        Wire(both, server(bad)).shake()
    text = SSLContext(int(ssl.PROTOCOL_TLS_CLIENT))
    text.load_verify_locations(cadata=crl.decode())
    assert text.cert_store_stats() == {"x509": 0, "crl": 1, "x509_ca": 0}


@pytest.mark.parametrize("strict", [False, True])
def test_strict_flag_asks_of_cas_what_ssl_asks(strict: bool) -> None:
    lax = CA("without key usage", usage=None)
    serving = server(lax.issue("localhost"))
    for kind in (SSLContext, ssl.SSLContext):
        context = kind(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=lax.root_pem.decode())
        if strict:
            context.verify_flags |= ssl.VERIFY_X509_STRICT
            with pytest.raises(ssl.SSLCertVerificationError):
                Wire(context, serving).shake()
        else:
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            assert Wire(context, serving).shake().client.version() == "TLSv1.3"


def test_strict_flag_of_a_server_is_for_its_clients(tmp_path: Path) -> None:
    lax = CA("of clients", usage=None)
    mine = lax.issue("client")
    (tmp_path / "pair.pem").write_bytes(mine.chain_pem + mine.key_pem)
    one, serving = client(), server()
    one.load_cert_chain(tmp_path / "pair.pem")
    serving.load_verify_locations(cadata=lax.root_pem.decode())
    serving.verify_mode = ssl.CERT_REQUIRED
    assert Wire(one, serving).shake().server.getpeercert() is not None
    serving.verify_flags |= ssl.VERIFY_X509_STRICT
    with pytest.raises(CertificateRejected):
        Wire(one, serving).shake()
    own = SSLContext(ClientConfig(verifier=dangerous_accept_any()))
    with pytest.raises(ConfigurationError, match="conforming_issuers"):
        own.verify_flags |= ssl.VERIFY_X509_STRICT


def test_verify_flags_keep_what_can_be_kept() -> None:
    context = SSLContext(int(ssl.PROTOCOL_TLS_CLIENT))
    always = context.verify_flags
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # what programs do against the default of Python 3.13
    context.verify_flags = ssl.VERIFY_X509_STRICT
    assert context.verify_flags == always | ssl.VERIFY_X509_STRICT
    context.verify_flags = ssl.VERIFY_DEFAULT
    assert context.verify_flags == always


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({}, TypeError),
        ({"cafile": 3.5}, TypeError),
        ({"cadata": 3.5}, TypeError),
        ({"cadata": "é"}, TypeError),
        ({"cafile": "/nonexistent/file"}, FileNotFoundError),
        ({"cadata": "nothing"}, ssl.SSLError),
        ({"cadata": b"nothing"}, ssl.SSLError),
    ],
)
def test_roots_that_are_none_raise_what_ssl_raises(arguments: dict[str, Any], kind: type[Exception]) -> None:
    for context in (SSLContext(int(ssl.PROTOCOL_TLS_CLIENT)), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)):
        with pytest.raises(kind):
            context.load_verify_locations(**arguments)
