"""What the ssl-shaped context negotiates: taken where TLS 1.3 has it or loses nothing, else refused with a reason."""

from __future__ import annotations

import copy
import pickle
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

import pellucid
from pellucid.config import ClientAuthentication, ClientConfig, Credential, ServerConfig
from pellucid.integrations.ssl_context import SSLContext
from pellucid.integrations.ssl_errors import ConfigurationError
from pellucid.integrations.ssl_object import SSLObject
from pellucid.integrations.ssl_socket import SSLSocket
from pellucid.registry import SignatureScheme
from pellucid.testing.ca import CA
from tests.support.bios import Wire

AUTHORITY = CA("settings root")
LEAF = AUTHORITY.issue("localhost")
CREDENTIAL = Credential.from_pem(LEAF.chain_pem, LEAF.key_pem)
CLIENT, SERVER = int(ssl.PROTOCOL_TLS_CLIENT), int(ssl.PROTOCOL_TLS_SERVER)


def client() -> SSLContext:
    return pellucid.create_default_context(cadata=AUTHORITY.root_pem.decode())


def server(**settings: Any) -> SSLContext:
    return SSLContext(ServerConfig(credentials=(CREDENTIAL,), **settings))


# ---- ciphers -------------------------------------------------------------------------------------------------------

IN_USE = [  # what libraries and programs set
    "DEFAULT",
    "DEFAULT:!aNULL:!eNULL:!MD5",
    "HIGH:!aNULL",
    "DEFAULT@SECLEVEL=1",
    "ALL:@STRENGTH",
    "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:ECDH+AESGCM:DH+AESGCM:RSA+AESGCM:!aNULL:!eNULL:!MD5:!DSS",
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256",
    "@SECLEVEL=2:ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:DHE+AES:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM",
]


@pytest.mark.parametrize("text", IN_USE)
def test_cipher_string_of_older_versions_changes_nothing_as_with_ssl(text: str) -> None:
    context, real = client(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    before = context.get_ciphers()
    real.set_ciphers(text)
    context.set_ciphers(text)
    assert context.get_ciphers() == before
    assert Wire(context, server()).shake().client.version() == "TLSv1.3"


@pytest.mark.parametrize("text", ["", "nonsense", "TLS_NONSENSE", "!ALL"])
def test_cipher_string_that_selects_nothing_is_an_ssl_error(text: str) -> None:
    for context in (client(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)):
        with pytest.raises(ssl.SSLError):
            context.set_ciphers(text)


@pytest.mark.parametrize("text", ["AES128-SHA", "ECDHE-RSA-AES128-SHA256:AES256-SHA", "AES128-SHA256:!AESGCM"])
def test_cipher_string_of_nothing_but_cbc_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"TLS 1\.3 does not have"):
        client().set_ciphers(text)


def test_cipher_names_of_this_version_are_used_wherever_they_stand() -> None:
    context = client()
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256:TLS_AES_256_GCM_SHA384:HIGH")
    assert [one["name"] for one in context.get_ciphers()] == ["TLS_AES_256_GCM_SHA384"]
    context.set_ciphersuites("TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256")
    described, real = context.get_ciphers(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).get_ciphers()
    assert [one["name"] for one in described] == ["TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"]
    theirs = {one["id"]: one for one in real}
    for one in described:
        assert set(one) == set(theirs[one["id"]])
        assert {name: one[name] for name in ("name", "protocol", "strength_bits", "aead", "kea", "auth")} == {
            name: theirs[one["id"]][name] for name in ("name", "protocol", "strength_bits", "aead", "kea", "auth")
        }
    with pytest.raises(ConfigurationError, match="AES128-SHA"):
        context.set_ciphersuites("AES128-SHA")


# ---- groups and signatures -----------------------------------------------------------------------------------------


def test_groups_are_set_and_told_with_their_other_names() -> None:
    context = client()
    context.set_groups("?kyber_of_tomorrow:P-256:x25519")
    assert context.get_groups() == ["secp256r1", "x25519"]
    assert context.get_groups(include_aliases=True) == ["secp256r1", "P-256", "prime256v1", "x25519"]
    for name in ("prime256v1", b"prime256v1"):
        context.set_ecdh_curve(name)  # type: ignore[arg-type]
        assert Wire(context, server()).shake().client.group() == "secp256r1"
    with pytest.raises(TypeError):
        context.set_groups(3)  # type: ignore[arg-type]
    assert context.get_groups() == ["secp256r1"]


def test_server_sigalgs_are_what_servers_sign_with_and_clients_accept() -> None:
    rsa = AUTHORITY.issue("localhost", key="rsa2048")
    both = (CREDENTIAL, Credential.from_pem(rsa.chain_pem, rsa.key_pem))
    signing = SSLContext(ServerConfig(credentials=both))
    assert Wire(client(), signing).shake().client.server_sigalg() == "ecdsa_secp256r1_sha256"
    accepting = client()
    accepting.set_server_sigalgs("RSA-PSS+SHA256:ECDSA+SHA256")
    accepted = accepting.config(server_side=False).signature_schemes
    assert accepted[0] == SignatureScheme.RSA_PSS_RSAE_SHA256
    signing.set_server_sigalgs("rsa_pss_rsae_sha384")
    assert Wire(client(), signing).shake().client.server_sigalg() == "rsa_pss_rsae_sha384"
    with pytest.raises(ssl.SSLError):
        Wire(accepting, signing).shake()


def test_client_sigalgs_are_what_clients_sign_with_and_servers_accept(tmp_path: Path) -> None:
    leaf = AUTHORITY.issue("client", key="rsa2048")
    (tmp_path / "pair.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
    signing = client()
    signing.load_cert_chain(tmp_path / "pair.pem")
    asking = server(client_authentication=ClientAuthentication.REQUIRED, client_trust=AUTHORITY.trust)
    signing.set_client_sigalgs("rsa_pss_rsae_sha512:rsa_pss_rsae_sha256")
    assert Wire(signing, asking).shake().server.client_sigalg() == "rsa_pss_rsae_sha512"
    asking.set_client_sigalgs("rsa_pss_rsae_sha256")
    assert Wire(signing, asking).shake().server.client_sigalg() == "rsa_pss_rsae_sha256"
    asking.set_client_sigalgs("ecdsa_secp256r1_sha256")
    with pytest.raises(ssl.SSLError):
        Wire(signing, asking).shake()


# ---- versions and options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", list(ssl.TLSVersion))
def test_minimum_version_below_is_met_and_reads_as_what_is_spoken(version: ssl.TLSVersion) -> None:
    context = client()
    context.minimum_version = version
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3


def test_maximum_version_below_is_refused() -> None:
    for context in (client(), server()):
        context.maximum_version = ssl.TLSVersion.TLSv1_3
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.MINIMUM_SUPPORTED):
            with pytest.raises(ConfigurationError, match=r"only TLS 1\.3"):
                context.maximum_version = version
        for number in (1, 99):
            with pytest.raises(ValueError, match="Unsupported"):
                context.minimum_version = number


def test_options_that_libraries_set_are_taken() -> None:
    context = client()
    before = context.options
    context.options |= ssl.OP_ALL | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET | ssl.OP_SINGLE_ECDH_USE
    assert context.options == before | ssl.OP_NO_TICKET
    context.options &= ~ssl.OP_NO_SSLv3  # a permission: SSLv3 is not spoken all the same
    assert context.options & ssl.OP_NO_SSLv3
    context.options |= 0x4  # OP_LEGACY_SERVER_CONNECT
    context.options = 0
    assert context.options & ssl.OP_NO_TLSv1_2 and not context.options & ssl.OP_NO_TICKET


@pytest.mark.parametrize("option", [int(ssl.OP_NO_TLSv1_3), 0x80, 0x200000, 0x400, 1 << 40])
def test_option_that_cannot_be_had_is_refused_with_a_reason(option: int) -> None:
    context = client()
    before = context.options
    with pytest.raises(ConfigurationError, match="option"):
        context.options |= option
    assert context.options == before


def test_diffie_hellman_parameters_are_read_and_of_no_use(tmp_path: Path) -> None:
    (tmp_path / "dh.pem").write_text("-----BEGIN DH PARAMETERS-----\nMA==\n-----END DH PARAMETERS-----\n")
    context = server()
    context.load_dh_params(tmp_path / "dh.pem")
    with pytest.raises(FileNotFoundError):
        context.load_dh_params(tmp_path / "none.pem")
    (tmp_path / "dh.pem").write_text("something else")
    with pytest.raises(ssl.SSLError, match="no DH parameters"):
        context.load_dh_params(tmp_path / "dh.pem")


# ---- the class -----------------------------------------------------------------------------------------------------


def test_context_is_copied_and_pickled_as_little_as_that_of_ssl() -> None:
    for context in (client(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)):
        for action in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot pickle 'SSLContext' object"):
                action(context)


def test_context_subclass_overrides_what_it_likes() -> None:
    class Object(SSLObject):
        label = "mine"

    class Mine(SSLContext):
        sslobject_class = Object  # type: ignore[assignment]

        def __init__(self, label: str) -> None:
            super().__init__(ClientConfig(trust=AUTHORITY.trust))
            self.label = label

        def wrap_bio(self, *arguments: Any, **settings: Any) -> Any:
            self.label += "!"
            return super().wrap_bio(*arguments, **settings)

    mine = Mine("a")
    wire = Wire(mine, server()).shake()
    assert (mine.label, wire.client.label, wire.client.context) == ("a!", "mine", mine)
    assert SSLContext.sslsocket_class is SSLSocket
    assert isinstance(wire.client, ssl.SSLObject) and isinstance(wire.client, Object)
    mine.sslobject_class = ssl.SSLObject  # type: ignore[assignment]
    with pytest.raises(ConfigurationError, match="sslobject_class"):
        Wire(mine, server())


def test_context_subclass_without_our_constructor_works_as_with_ssl() -> None:
    for base in (SSLContext, ssl.SSLContext):

        class Mine(base):  # type: ignore[valid-type,misc]
            def __init__(self, protocol: int) -> None:
                self.known = protocol

        mine = Mine(ssl.PROTOCOL_TLS_CLIENT)
        assert (mine.protocol, mine.verify_mode, mine.get_ca_certs()) == (
            ssl.PROTOCOL_TLS_CLIENT,
            ssl.CERT_REQUIRED,
            [],
        )
        mine.load_verify_locations(cadata=AUTHORITY.root_pem.decode())
        assert Wire(mine, server()).shake().client.version() == "TLSv1.3"


def test_context_of_a_source_has_what_the_source_has_now() -> None:
    class Source:
        current = ServerConfig(credentials=(CREDENTIAL,))

    source = Source()
    context = SSLContext(source)
    context.set_alpn_protocols(["h2"])
    one = client()
    one.set_alpn_protocols(["h2"])
    first = Wire(one, context).shake()
    assert first.client.selected_alpn_protocol() == "h2"
    other = AUTHORITY.issue("localhost")
    source.current = ServerConfig(credentials=(Credential.from_pem(other.chain_pem, other.key_pem),))
    second = Wire(one, context).shake()
    assert (first.client.getpeercert(True), second.client.getpeercert(True)) == (LEAF.der, other.der)
    assert second.client.selected_alpn_protocol() == "h2"
    source.current = ServerConfig(
        credentials=(CREDENTIAL,),
        client_authentication=ClientAuthentication.REQUIRED,
        client_trust=AUTHORITY.trust,
    )
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.get_ca_certs(True) == [AUTHORITY.root_der]
    with pytest.raises(ssl.SSLError):
        Wire(one, context).shake()


@pytest.mark.parametrize("name", [".localhost", b".k\xc3\xb6nig.test"])
def test_socket_given_with_an_impossible_name_is_closed(name: str | bytes) -> None:
    context = SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    sock = socket.socket()
    with pytest.raises(UnicodeError):
        context.wrap_socket(sock, server_hostname=name)
    assert sock.fileno() == -1
