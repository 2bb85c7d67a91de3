"""SSLContext, its objects and its sockets: the contract that asyncio, trio, anyio, http.client and httpcore rely on."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path
from typing import Any

import pytest

from pellucid.config import ClientAuthentication, ClientConfig, Credential, ServerConfig
from pellucid.crypto.provider import PENDING
from pellucid.errors import AlertReceived, PeerError, TLSError, TruncatedStream
from pellucid.explain.recorder import Recorder
from pellucid.integrations.ssl_context import SSLContext
from pellucid.integrations.ssl_errors import ConfigurationError
from pellucid.integrations.ssl_object import SSLObject
from pellucid.testing.ca import CA
from pellucid.verify.report import CertificateRejected, CheckGroup, Outcome
from pellucid.verify.webpki import dangerous_accept_any

AUTHORITY = CA("ssl-shaped root")
LEAF = AUTHORITY.issue("localhost", "127.0.0.1")
CREDENTIAL = Credential.from_pem(LEAF.chain_pem, LEAF.key_pem)
SERVER = ServerConfig(credentials=(CREDENTIAL,))
CLIENT = ClientConfig(trust=AUTHORITY.trust)
FORGETFUL = ClientConfig(trust=AUTHORITY.trust, sessions=None)


def contexts(**server: Any) -> tuple[SSLContext, SSLContext]:
    return SSLContext(CLIENT), SSLContext(ServerConfig(credentials=(CREDENTIAL,), **server))


# ---- settings ------------------------------------------------------------------------------------------------------

NEWER = {  # public names of Python 3.13 to 3.15
    "get_groups",
    "num_tickets",
    "security_level",
    "set_ciphersuites",
    "set_client_sigalgs",
    "set_groups",
    "set_psk_client_callback",
    "set_psk_server_callback",
    "set_server_sigalgs",
}


@pytest.mark.parametrize("name", sorted({name for name in dir(ssl.SSLContext) if not name.startswith("_")} | NEWER))
def test_context_every_public_name_is_ours(name: str) -> None:
    owner = next(kind for kind in SSLContext.__mro__ if name in vars(kind))
    assert owner.__module__.startswith("pellucid."), f"{name} falls through to OpenSSL's context"


def test_context_is_an_ssl_context_even_after_the_module_is_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    context = SSLContext(CLIENT)
    original = ssl.SSLContext
    assert isinstance(context, original)
    assert isinstance(context, SSLContext)
    monkeypatch.setattr(ssl, "SSLContext", type("Injected", (original,), {}))
    assert isinstance(context, ssl.SSLContext)


REFUSED = {
    "minimum_version": 99,
    "maximum_version": ssl.TLSVersion.TLSv1_2,
    "verify_mode": ssl.CERT_NONE,
    "check_hostname": False,
    "options": ssl.OP_NO_TLSv1_3,
    "verify_flags": 0x40,  # VERIFY_ALLOW_PROXY_CERTS, from Python 3.10 on
    "hostname_checks_common_name": True,
    "num_tickets": 2,
    "sni_callback": print,
}


@pytest.mark.parametrize("name", REFUSED)
def test_context_setting_that_cannot_be_honoured_raises_and_changes_nothing(name: str) -> None:
    context = SSLContext(CLIENT)
    before = getattr(context, name)
    with pytest.raises(ConfigurationError) as caught:
        setattr(context, name, REFUSED[name])
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, ssl.SSLError)
    assert len(str(caught.value)) > 20
    assert getattr(context, name) == before


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("set_ciphers", "AES128-SHA"),
        ("set_ciphers", ""),
        ("set_ecdh_curve", "brainpoolP256r1"),
        ("set_groups", "x25519:nonsense"),
        ("set_server_sigalgs", "rsa_pkcs1_md5"),
        ("set_npn_protocols", ["h2"]),
        ("set_servername_callback", print),
        ("set_psk_server_callback", print),
        ("set_alpn_protocols", [""]),
        ("set_alpn_protocols", ["x" * 256]),
    ],
)
def test_context_call_that_cannot_be_honoured_raises_and_changes_nothing(name: str, argument: object) -> None:
    context = SSLContext(CLIENT)
    with pytest.raises(ConfigurationError):
        getattr(context, name)(argument)
    assert context.config(server_side=False) == CLIENT


def test_context_settings_that_are_so_already_are_taken() -> None:
    context = SSLContext(CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True
    context.verify_flags |= ssl.VERIFY_X509_TRUSTED_FIRST
    context.post_handshake_auth = False
    context.sni_callback = None
    assert context.protocol == ssl.PROTOCOL_TLS_CLIENT
    assert context.config(server_side=False) == CLIENT


def test_context_chosen_algorithms_are_those_that_are_negotiated() -> None:
    client, server = contexts()
    client.set_ciphers("TLS_CHACHA20_POLY1305_SHA256")
    client.set_groups("secp256r1")
    client.set_alpn_protocols(["b", "a"])
    server.set_alpn_protocols(["a"])
    one, _ = shaken(client, server)
    assert one.cipher() == ("TLS_CHACHA20_POLY1305_SHA256", "TLSv1.3", 256)
    assert one.group() == "secp256r1"
    assert one.selected_alpn_protocol() == "a"
    assert [cipher["name"] for cipher in client.get_ciphers()] == ["TLS_CHACHA20_POLY1305_SHA256"]


def test_context_own_verifier_decides_alone_and_lets_the_flags_be_set() -> None:
    context = SSLContext(ClientConfig(verifier=dangerous_accept_any()))
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    one, _ = shaken(context, SSLContext(SERVER), name="not.its.name")
    assert one.getpeercert() == {}
    assert one.getpeercert(True) == LEAF.der
    assert one.report is not None and one.report.dangerous


def test_context_of_one_side_refuses_the_other() -> None:
    with pytest.raises(ConfigurationError, match="client only"):
        SSLContext(CLIENT).wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    with pytest.raises(ConfigurationError, match="server only"):
        SSLContext(SERVER).wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    with pytest.raises(ConfigurationError, match="server_hostname"):
        SSLContext(CLIENT).wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
    with pytest.raises(ConfigurationError, match="load_cert_chain"):
        SSLContext().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    with pytest.raises(ConfigurationError, match="only TLS"):
        SSLContext(int(ssl.PROTOCOL_TLSv1_2))


def test_context_loads_files_as_programs_do_with_ssl(tmp_path: Path) -> None:
    chain, key, root = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "root.pem"
    chain.write_bytes(LEAF.chain_pem)
    key.write_bytes(LEAF.key_pem)
    root.write_bytes(AUTHORITY.root_pem)
    server = SSLContext(int(ssl.PROTOCOL_TLS_SERVER))
    assert (server.verify_mode, server.check_hostname) == (ssl.CERT_NONE, False)
    server.load_cert_chain(chain, key)
    server.load_verify_locations(str(root))
    server.verify_mode = ssl.CERT_REQUIRED
    client = SSLContext()
    client.load_verify_locations(cadata=AUTHORITY.root_pem.decode())
    client.load_cert_chain(str(chain), str(key), password="not needed")
    one, other = shaken(client, server)
    assert one.getpeercert() == other.getpeercert()
    assert client.get_ca_certs(binary_form=True) == [AUTHORITY.root_der]
    assert client.cert_store_stats() == {"x509": 1, "crl": 0, "x509_ca": 1}


def test_context_der_roots_follow_one_another(tmp_path: Path) -> None:
    second = CA("second")
    context = SSLContext()
    context.load_verify_locations(cadata=AUTHORITY.root_der + second.root_der)
    assert context.get_ca_certs(binary_form=True) == [AUTHORITY.root_der, second.root_der]
    with pytest.raises(ConfigurationError):
        context.load_verify_locations(cadata=b"not DER")
    with pytest.raises(FileNotFoundError):
        context.load_verify_locations(tmp_path / "none.pem")
    with pytest.raises(FileNotFoundError):
        context.load_cert_chain(tmp_path / "none.pem")


def test_context_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chain.pem").write_bytes(LEAF.chain_pem)
    (tmp_path / "key.pem").write_bytes(AUTHORITY.issue("localhost").key_pem)
    with pytest.raises(ConfigurationError, match="does not belong"):
        SSLContext().load_cert_chain(tmp_path / "chain.pem", tmp_path / "key.pem")


def test_context_keylog_has_the_secrets_of_its_connections(tmp_path: Path) -> None:
    client, server = contexts()
    client.keylog_filename = tmp_path / "keys"  # type: ignore[assignment]
    shaken(client, server)
    labels = [line.split()[0] for line in (tmp_path / "keys").read_text().splitlines()]
    assert "CLIENT_TRAFFIC_SECRET_0" in labels
    with pytest.raises(OSError, match="No such file"):
        client.keylog_filename = tmp_path / "none" / "keys"  # type: ignore[assignment]


# ---- objects -------------------------------------------------------------------------------------------------------


class Wire:
    """Two SSLObjects and the four buffers between them."""

    def __init__(self, client: SSLContext, server: SSLContext, name: str | bytes = "localhost") -> None:
        self.to_client, self.from_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.to_server, self.from_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(self.to_client, self.from_client, False, name)
        self.server = server.wrap_bio(self.to_server, self.from_server, True)

    def move(self) -> bool:
        """Carry what was sent to the other side; return whether there was anything."""
        forth, back = self.from_client.read(), self.from_server.read()
        self.to_server.write(forth)
        self.to_client.write(back)
        return bool(forth or back)

    def shake(self) -> None:
        moved = True
        while moved:
            for end in (self.client, self.server):
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
            moved = self.move()


def shaken(client: SSLContext, server: SSLContext, name: str | bytes = "localhost") -> tuple[SSLObject, SSLObject]:
    wire = Wire(client, server, name)
    wire.shake()
    return wire.client, wire.server


@pytest.fixture
def wire() -> Wire:
    wire = Wire(*contexts())
    wire.shake()
    return wire


def test_object_wants_to_read_as_a_stdlib_error_with_its_number() -> None:
    client = SSLContext(CLIENT).wrap_bio(ssl.MemoryBIO(), outgoing := ssl.MemoryBIO(), server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError) as caught:
        client.do_handshake()
    assert caught.value.errno == ssl.SSL_ERROR_WANT_READ
    assert caught.value.__class__ is ssl.SSLWantReadError  # redis-py looks it up in a table
    assert isinstance(caught.value, TLSError)
    assert outgoing.pending > 200
    assert (
        client.version() is client.cipher() is client.selected_alpn_protocol() is client.get_channel_binding() is None
    )
    with pytest.raises(ValueError, match="handshake"):
        client.getpeercert()


def test_object_host_name_may_be_bytes() -> None:
    one, _ = shaken(*contexts(), name=b"localhost")
    assert one.server_hostname == "localhost"


def test_object_tells_what_was_agreed_on(wire: Wire) -> None:
    one, other = wire.client, wire.server
    assert one.version() == other.version() == "TLSv1.3"
    assert one.cipher() == other.cipher() == ("TLS_AES_128_GCM_SHA256", "TLSv1.3", 128)
    assert other.shared_ciphers() == [other.cipher()]
    assert one.shared_ciphers() is one.compression() is one.client_sigalg() is None
    assert (one.session_reused, one.server_side, other.server_side) == (False, False, True)
    assert one.group() == "X25519MLKEM768"
    assert one.server_sigalg() == "ecdsa_secp256r1_sha256"
    assert one.get_channel_binding("tls-exporter") == other.get_channel_binding("tls-exporter")
    assert one.get_channel_binding() is None
    with pytest.raises(ValueError, match="nonsense"):
        one.get_channel_binding("nonsense")
    assert other.getpeercert() is None
    certificate = one.getpeercert()
    assert isinstance(certificate, dict)
    assert certificate["subjectAltName"] == (("DNS", "localhost"), ("IP Address", "127.0.0.1"))
    assert certificate["issuer"] == ((("commonName", "ssl-shaped root"),),)
    assert ssl.cert_time_to_seconds(certificate["notAfter"]) == LEAF.certificate.not_valid_after_utc.timestamp()
    assert one.get_verified_chain() == [LEAF.der, AUTHORITY.root_der]
    assert one.report is not None and one.report.outcome(CheckGroup.NAME) is Outcome.PASSED


def test_object_certificate_dictionary_equals_that_of_the_standard_library(tmp_path: Path, wire: Wire) -> None:
    path = tmp_path / "leaf.pem"
    path.write_bytes(LEAF.certificate_pem)
    assert wire.client.getpeercert() == ssl._ssl._test_decode_cert(str(path))  # type: ignore[attr-defined]


def test_object_reads_what_was_written_in_pieces_and_into_buffers(wire: Wire) -> None:
    assert wire.client.write(b"hello world") == 11
    assert wire.client.write(memoryview(b"!")) == 1
    assert wire.client.write(b"") == 0
    wire.move()
    assert wire.server.read(5) == b"hello"
    assert wire.server.pending() == 7
    buffer = bytearray(4)
    assert wire.server.read(2, buffer) == 2
    assert wire.server.read(1000, buffer) == 4
    assert buffer == b"orld"
    assert wire.server.read() == b"!"
    with pytest.raises(ssl.SSLWantReadError):
        wire.server.read()


def test_object_large_write_is_taken_whole(wire: Wire) -> None:
    """trio and anyio do not look at how much was: what was left out would be lost."""
    data = bytes(range(256)) * 4096
    assert wire.client.write(memoryview(data).cast("I")) == len(data)
    wire.move()
    received = b""
    with contextlib.suppress(ssl.SSLWantReadError):
        while True:
            received += bytes(wire.server.read(100_000))  # type: ignore[arg-type]
    assert received == data


def test_object_close_notify_ends_reading_and_unwrap_waits_for_it(wire: Wire) -> None:
    wire.server.write(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        wire.server.unwrap()
    wire.move()
    assert wire.client.read() == b"last"
    assert wire.client.read() == b""
    assert wire.client.read(1, bytearray(1)) == 0
    wire.client.unwrap()
    wire.move()
    wire.server.unwrap()
    with pytest.raises(ssl.SSLZeroReturnError):
        wire.server.write(b"more")


def test_object_data_before_a_truncation_is_read_then_the_error_comes(wire: Wire) -> None:
    wire.server.write(b"half of it")
    wire.move()
    wire.to_client.write_eof()
    assert wire.client.read() == b"half of it"
    for _ in range(2):
        with pytest.raises(ssl.SSLEOFError) as caught:
            wire.client.read()
        assert isinstance(caught.value, TruncatedStream)
        assert caught.value.errno == ssl.SSL_ERROR_EOF


def test_object_truncated_handshake_is_an_eof_error() -> None:
    client = SSLContext(CLIENT).wrap_bio(incoming := ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    incoming.write_eof()
    with pytest.raises(ssl.SSLEOFError):
        client.do_handshake()


@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_object_tampered_record_is_an_ssl_error_with_an_alert(wire: Wire, size: int) -> None:
    wire.server.write(b"x" * 100)
    data = bytearray(wire.from_server.read())
    data[-1] ^= 1
    with pytest.raises(ssl.SSLError, match="bad_record_mac") as caught:
        for at in range(0, len(data), size):
            wire.to_client.write(data[at : at + size])
            with contextlib.suppress(ssl.SSLWantReadError):
                wire.client.read()
    assert isinstance(caught.value, PeerError)
    wire.move()
    with pytest.raises(ssl.SSLError) as told:
        wire.server.read()
    assert isinstance(told.value, AlertReceived)


def test_object_wrong_name_is_both_classes_with_report_notes_and_alert() -> None:
    wire = Wire(*contexts(), name="other.example")
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        wire.shake()
    error = caught.value
    assert isinstance(error, CertificateRejected)
    assert isinstance(error, TLSError)
    assert error.verify_code == 62
    assert error.errno == ssl.SSL_ERROR_SSL
    assert error.verify_message == "Hostname mismatch, certificate is not valid for 'other.example'."
    assert "localhost" in str(error)
    assert error.verification is wire.client.report
    assert any("✘ name matches" in note for note in error.__notes__)
    wire.move()
    with pytest.raises(ssl.SSLError, match="bad_certificate"):
        wire.server.do_handshake()


def test_object_server_sends_its_alert_before_it_fails() -> None:
    client, server = contexts(client_authentication=ClientAuthentication.REQUIRED, client_trust=AUTHORITY.trust)
    wire = Wire(client, server)
    with pytest.raises(ssl.SSLError, match="no certificate"):
        for _ in range(5):
            for end in (wire.client, wire.server):
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
            wire.move()
    with pytest.raises(ssl.SSLError, match="certificate_required"):
        wire.client.read()


def test_object_pending_signature_is_answered_or_refused() -> None:
    class Slow:
        schemes = CREDENTIAL.signer.schemes

        def sign(self, scheme: int, data: bytes) -> Any:
            return PENDING

    config = ServerConfig(credentials=(Credential(chain=CREDENTIAL.chain, signer=Slow()),))
    answered = SSLContext(
        config,
        answer=lambda pause: CREDENTIAL.signer.sign(pause.need.scheme, pause.need.data),  # type: ignore[union-attr]
    )
    one, _ = shaken(SSLContext(CLIENT), answered)
    assert one.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLError):
        shaken(SSLContext(FORGETFUL), SSLContext(config))

    def broken(_: object) -> object:
        raise RuntimeError("no")

    with pytest.raises(ssl.SSLError):
        shaken(SSLContext(FORGETFUL), SSLContext(config, answer=broken))


def test_object_trace_is_the_observer_of_its_connection() -> None:
    client, server = SSLContext(ClientConfig(trust=AUTHORITY.trust, trace=Recorder)), SSLContext(SERVER)
    one, _ = shaken(client, server)
    two, other = shaken(client, server)
    assert isinstance(one.trace, Recorder) and isinstance(two.trace, Recorder)
    assert one.trace is not two.trace
    assert len(one.trace) > 10
    assert other.trace is None
