"""Callbacks of the ssl-shaped context: certificates by name, and keys from elsewhere, against OpenSSL's `ssl` too."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import pellucid
from pellucid.config import ClientAuthentication, Credential, ServerConfig
from pellucid.errors import AlertReceived
from pellucid.integrations.ssl_context import SSLContext
from pellucid.integrations.ssl_errors import ConfigurationError
from pellucid.registry import HandshakeType
from pellucid.testing.ca import CA
from pellucid.trace import MessageTraced
from tests.support.bios import Wire
from tests.support.ports import free_port

AUTHORITY = CA("callbacks root")
FIRST, SECOND = AUTHORITY.issue("first.test", "localhost"), AUTHORITY.issue("second.test")
KEY = bytes(range(32))


def server(leaf: Any = FIRST, **settings: Any) -> SSLContext:
    return SSLContext(ServerConfig(credentials=(Credential.from_pem(leaf.chain_pem, leaf.key_pem),), **settings))


def client() -> SSLContext:
    return pellucid.create_default_context(cadata=AUTHORITY.root_pem.decode())


def real_server(tmp_path: Path, leaf: Any) -> ssl.SSLContext:
    (tmp_path / "pair.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pair.pem")
    return context


# ---- names ---------------------------------------------------------------------------------------------------------


def test_sni_callback_switches_certificates_as_with_ssl(tmp_path: Path) -> None:
    for default, other in (
        (server(FIRST), server(SECOND)),
        (real_server(tmp_path, FIRST), real_server(tmp_path, SECOND)),
    ):
        seen: list[object] = []

        def choose(
            sslobj: Any, name: str | None, context: Any, ends: Any = (default, other), seen: list[object] = seen
        ) -> None:
            seen.append((name, context is ends[0], sslobj.context is ends[0]))
            if name == "second.test":
                sslobj.context = ends[1]

        default.sni_callback = choose
        assert default.sni_callback is choose
        assert Wire(client(), default, "first.test").shake().client.version() == "TLSv1.3"
        wire = Wire(client(), default, "second.test").shake()
        assert wire.client.getpeercert()["subjectAltName"] == (("DNS", "second.test"),)
        assert wire.server.context is other
        assert seen == [("first.test", True, True), ("second.test", True, True)]
        default.set_servername_callback(None)
        with pytest.raises(ssl.SSLCertVerificationError):
            Wire(client(), default, "second.test").shake()


@pytest.mark.parametrize(
    ("answer", "alert"),
    [
        (ssl.ALERT_DESCRIPTION_ACCESS_DENIED, 49),
        (ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME, 112),
        (RuntimeError("no"), 40),
        ("wrong", 80),
    ],
)
def test_sni_callback_that_refuses_is_what_the_client_hears(
    answer: Any, alert: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    untold: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", untold.append)

    def refuse(_: object, __: object, ___: object) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    other = server()
    other.sni_callback = refuse
    wire = Wire(client(), other)
    with pytest.raises(ssl.SSLError) as caught:
        wire.shake()
    assert isinstance(caught.value, AlertReceived) and caught.value.description == alert
    with pytest.raises(ssl.SSLError, match="callback failed"):
        wire.server.do_handshake()
    assert len(untold) == (0 if isinstance(answer, int) else 1)


def test_sni_callback_sees_no_name_and_each_byte_by_itself() -> None:
    context = SSLContext(int(ssl.PROTOCOL_TLS_CLIENT), dangerous_allow_unverified=True)
    context.load_verify_locations(cadata=AUTHORITY.root_pem.decode())
    context.check_hostname = False
    seen: list[object] = []
    other = server()
    other.sni_callback = lambda _, name, __: seen.append(name)
    wire = Wire(context, other, None)
    with pytest.raises(ssl.SSLWantReadError):
        wire.client.do_handshake()
    for byte in wire.from_client.read():
        assert not seen
        wire.to_server.write(bytes([byte]))
        with pytest.raises(ssl.SSLWantReadError):
            wire.server.do_handshake()
    assert seen == [None]
    assert wire.shake().server.version() == "TLSv1.3"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\x00",
        b"\x15\x03\x03\x00\x02\x01\x00" * 2,
        b"\x16\x03\x01\x00\x05\x02",
    ],
)
def test_sni_callback_is_never_passed_by(data: bytes) -> None:
    other = server()
    other.sni_callback = lambda *_: pytest.fail("there was no ClientHello")
    wire = Wire(client(), other)
    wire.to_server.write(data)
    wire.to_server.write_eof()
    for _ in range(3):
        with pytest.raises(ssl.SSLError) as caught:
            wire.server.do_handshake()
    assert not isinstance(caught.value, ssl.SSLWantReadError)


def test_sni_callback_switch_keeps_the_stricter_client_authentication() -> None:
    asks = {"client_authentication": ClientAuthentication.REQUIRED, "client_trust": AUTHORITY.trust}
    for default, other in ((server(**asks), server(SECOND)), (server(), server(SECOND, **asks))):

        def choose(sslobj: Any, _: object, __: object, other: SSLContext = other) -> None:
            sslobj.context = other

        default.sni_callback = choose
        wire = Wire(client(), default, "second.test")
        with pytest.raises(ssl.SSLError, match="sent no certificate"):
            wire.shake()


def test_sni_callback_switch_believes_the_clients_of_the_switched_context_alone(tmp_path: Path) -> None:
    """As with OpenSSL: each tenant has its own CA of clients, and one's clients are nobody at the other's name."""
    tenants = CA("first tenant"), CA("second tenant")
    ours, theirs = [], []
    for leaf, tenant in zip((FIRST, SECOND), tenants, strict=True):
        asks = {"client_authentication": ClientAuthentication.REQUIRED, "client_trust": tenant.trust}
        ours.append(server(leaf, **asks))
        real = real_server(tmp_path, leaf)
        real.verify_mode = ssl.CERT_REQUIRED
        real.load_verify_locations(cadata=tenant.root_pem.decode())
        theirs.append(real)
    for contexts in (ours, theirs):

        def choose(sslobj: Any, name: str | None, _: object, contexts: list[Any] = contexts) -> None:
            sslobj.context = contexts[name == "second.test"]

        contexts[0].sni_callback = choose
        for number, tenant in enumerate(tenants):
            shown = tenant.issue("a client")
            one = client()
            (tmp_path / "client.pem").write_bytes(shown.chain_pem + shown.key_pem)
            one.load_cert_chain(tmp_path / "client.pem")
            names = ("first.test", "second.test")
            Wire(one, contexts[0], names[number]).shake()
            with pytest.raises(ssl.SSLCertVerificationError):
                Wire(one, contexts[0], names[not number]).shake()


def test_sni_callback_resumes_under_the_switched_context() -> None:
    default, other, one = server(), server(SECOND), client()

    def choose(sslobj: Any, _: object, __: object) -> None:
        sslobj.context = other

    default.sni_callback = choose
    session = Wire(one, default, "second.test").shake().client.session
    again = Wire(one, default, "second.test", session=session).shake()
    assert again.client.session_reused
    assert again.client.getpeercert()["subjectAltName"] == (("DNS", "second.test"),)


def test_sni_callback_leaves_one_record_of_the_handshake() -> None:
    default, other = server(), server(SECOND)
    records: list[Any] = []
    default.on_handshake(records.append)

    def choose(sslobj: Any, _: object, __: object) -> None:
        sslobj.context = other

    default.sni_callback = choose
    Wire(client(), default, "second.test").shake()
    assert len(records) == 1
    messages = [event.message_type for event in records[0].of(MessageTraced)]
    assert messages.count(HandshakeType.CLIENT_HELLO) == 1
    assert HandshakeType.FINISHED in messages


def test_sni_callback_switches_sockets_too() -> None:
    default, other = server(), server(SECOND)

    def choose(sslobj: Any, _: object, __: object) -> None:
        sslobj.context = other

    default.sni_callback = choose
    near, far = socket.socketpair()
    found: list[Any] = []

    def serve() -> None:
        with default.wrap_socket(far, server_side=True) as accepted:
            found.append(accepted.context)
            accepted.sendall(b"hello")

    thread = threading.Thread(target=serve)
    thread.start()
    with client().wrap_socket(near, server_hostname="second.test") as secure:
        assert secure.recv(5) == b"hello"
    thread.join(20)
    assert found == [other]


def test_sni_callback_that_must_be_awaited_refuses_and_says_what_to_use() -> None:
    async def later(*_: object) -> None:
        raise AssertionError

    other = server()
    other.sni_callback = later  # type: ignore[assignment]
    wire = Wire(client(), other)
    with pytest.raises(ssl.SSLError):
        wire.shake()
    with pytest.raises(ssl.SSLError, match="credential_resolver"):
        wire.server.do_handshake()


def test_sni_callback_takes_what_ssl_takes() -> None:
    for context in (client(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)):
        with pytest.raises(ValueError, match="TLS_CLIENT"):
            context.sni_callback = print
    for context in (server(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)):
        with pytest.raises(TypeError):
            context.sni_callback = 3  # type: ignore[assignment]
    wire = Wire(client(), server(), "first.test")
    with pytest.raises(TypeError):
        wire.server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def test_alpn_callback_chooses_of_what_is_offered() -> None:
    other, one = server(), client()
    seen: list[object] = []

    def choose(sslobj: Any, offered: tuple[str, ...], context: Any) -> str | None:
        seen.append((sslobj.server_side, offered, context is other))
        return {"a": "a", "b": None, "c": "not offered"}[offered[0]]

    other.alpn_callback = choose
    assert other.alpn_callback is choose
    other.set_alpn_protocols(["z"])
    assert Wire(one, other).shake().client.selected_alpn_protocol() is None
    assert not seen
    for offered, chosen in ((["a", "b"], "a"), (["b"], None)):
        one.set_alpn_protocols(offered)
        assert Wire(one, other).shake().client.selected_alpn_protocol() == chosen
    one.set_alpn_protocols(["c"])
    with pytest.raises(ssl.SSLError, match="internal_error"):
        Wire(one, other).shake()
    assert seen[0] == (True, ("a", "b"), True)
    with pytest.raises(ConfigurationError):
        one.alpn_callback = choose


# ---- keys ----------------------------------------------------------------------------------------------------------


def key_client(identity: str | None = "me", key: bytes = KEY) -> SSLContext:
    context = SSLContext(int(ssl.PROTOCOL_TLS_CLIENT))
    context.set_psk_client_callback(lambda hint: (identity, key) if hint is None else ("", b""))
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def key_server(keys: dict[str, bytes], seen: list[str] | None = None, *, certificate: bool = False) -> SSLContext:
    context = server() if certificate else SSLContext(int(ssl.PROTOCOL_TLS_SERVER))

    def find(identity: str) -> bytes:
        if seen is not None:
            seen.append(identity)
        return keys.get(identity, b"")

    context.set_psk_server_callback(find, "a hint")
    return context


def test_psk_callbacks_agree_without_a_certificate() -> None:
    seen: list[str] = []
    wire = Wire(key_client(), key_server({"me": KEY}, seen), None).shake()
    assert wire.client.version() == "TLSv1.3"
    assert wire.client.getpeercert() is None
    assert seen == ["me"]
    wire.client.write(b"data")
    wire.move()
    assert wire.server.read() == b"data"


def test_psk_client_alone_believes_no_certificate() -> None:
    with pytest.raises(ssl.SSLError):
        Wire(key_client(), key_server({}, certificate=True), None).shake()
    with pytest.raises(ssl.SSLError):
        Wire(key_client(), key_server({"me": bytes(32)}), None).shake()
    without = key_client(None, b"")
    with pytest.raises(ConfigurationError, match="nobody could be verified"):
        Wire(without, key_server({"me": KEY}), None)
    gone = key_client()
    gone.set_psk_client_callback(None)
    with pytest.raises(ConfigurationError, match="dangerous_allow_unverified"):
        Wire(gone, key_server({"me": KEY}), "localhost")


def test_psk_server_shows_its_certificate_to_whom_it_does_not_know() -> None:
    context = client()
    context.set_psk_client_callback(lambda _: ("stranger", KEY))
    wire = Wire(context, key_server({"me": KEY}, certificate=True)).shake()
    assert wire.client.getpeercert()["subjectAltName"][0] == ("DNS", "first.test")
    with pytest.raises(ssl.SSLError):
        Wire(context, key_server({"me": KEY})).shake()


@pytest.mark.parametrize("answer", [None, ("me",), (3, KEY), ("me", "text"), ("me", b"short"), RuntimeError("no")])
def test_psk_client_callback_that_answers_nonsense_is_told_so(answer: Any) -> None:
    context = SSLContext(int(ssl.PROTOCOL_TLS_CLIENT))

    def wrong(_: object) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    context.set_psk_client_callback(wrong)
    with pytest.raises(ConfigurationError):
        Wire(context, server())


@pytest.mark.parametrize("answer", [None, "text", b"short", RuntimeError("no")])
def test_psk_server_callback_that_answers_nonsense_refuses_the_client(
    answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    untold: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", untold.append)
    context = SSLContext(int(ssl.PROTOCOL_TLS_SERVER))

    def wrong(_: object) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    context.set_psk_server_callback(wrong)
    with pytest.raises(ssl.SSLError, match="internal_error"):
        Wire(key_client(), context, None).shake()
    assert len(untold) == 1


def test_psk_callbacks_are_for_their_side() -> None:
    with pytest.raises(ValueError, match="SERVER"):
        server().set_psk_client_callback(lambda _: ("me", KEY))
    with pytest.raises(ValueError, match="CLIENT"):
        client().set_psk_server_callback(lambda _: KEY)
    with pytest.raises(TypeError):
        client().set_psk_client_callback(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        server().set_psk_server_callback(3)  # type: ignore[arg-type]


@pytest.mark.program("openssl")
def test_psk_callbacks_agree_with_openssl() -> None:
    """OpenSSL's command as the server: one handshake, over a pipe of its own."""
    port = free_port()
    command = [
        "openssl",
        "s_server",
        "-port",
        str(port),
        "-nocert",
        "-psk_identity",
        "me",
        "-psk",
        KEY.hex(),
        "-tls1_3",
    ]
    process = subprocess.Popen(
        [*command, "-quiet", "-naccept", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        plain = None
        for _ in range(200):
            try:
                plain = socket.create_connection(("127.0.0.1", port), timeout=5)
                break
            except ConnectionRefusedError:
                if process.poll() is not None:
                    break
                time.sleep(0.05)
        assert plain is not None, process.communicate()
        with key_client().wrap_socket(plain) as secure:
            assert secure.version() == "TLSv1.3"
            secure.sendall(b"over the key\n")
            assert process.stdout is not None
            assert process.stdout.readline() == b"over the key\n"
    finally:
        process.kill()
        process.communicate()


@pytest.mark.program("openssl")
def test_psk_server_callback_agrees_with_openssl() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-psk_identity", "me", "-psk", KEY.hex()]
        process = subprocess.Popen(
            [*command, "-tls1_3", "-quiet"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            listener.settimeout(20)
            plain, _ = listener.accept()
            seen: list[str] = []
            plain.settimeout(20)
            with key_server({"me": KEY}, seen).wrap_socket(plain, server_side=True) as secure:
                assert secure.version() == "TLSv1.3"
                secure.sendall(b"over the key\n")
                assert process.stdout is not None
                assert process.stdout.readline() == b"over the key\n"
            assert seen == ["me"]
        finally:
            process.kill()
            process.communicate()
