"""What programs written for `ssl` look for on its objects: texts of errors, `_sslobj`, chains, constructors, states."""

from __future__ import annotations

import errno
import select
import socket
import ssl
import struct
import threading
from pathlib import Path

import pytest

from pellucid import errors
from pellucid.errors import AlertReceived, BadRecordMac, HandshakeFailure, InternalError, TruncatedStream, UsageError
from pellucid.integrations.ssl_context import SSLContext
from pellucid.integrations.ssl_errors import ssl_error
from pellucid.integrations.ssl_object import SSLObject
from pellucid.integrations.ssl_socket import SSLSocket
from pellucid.testing.ca import CA
from tests.unit.test_ssl_context import CLIENT, SERVER, Wire, contexts
from tests.unit.test_ssl_context_libraries import pair

# ---- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason", "text"),
    [
        (AlertReceived(48), "TLSV1_ALERT_UNKNOWN_CA", "tlsv1 alert unknown ca"),
        (AlertReceived(40), "SSLV3_ALERT_HANDSHAKE_FAILURE", "sslv3 alert handshake failure"),
        (AlertReceived(116), "TLSV13_ALERT_CERTIFICATE_REQUIRED", "tlsv13 alert certificate required"),
        (BadRecordMac("it does not open"), "DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "it does not open"),
        (HandshakeFailure("none"), "NO_SUITABLE_SIGNATURE_ALGORITHM", "no suitable signature algorithm: none"),
        (errors.DecodeError("cut", rfc="9846 §4"), "DECODE_ERROR", "decode error: cut (RFC 9846 §4)"),
        (InternalError("a signer failed"), "INTERNAL_ERROR", "internal error: a signer failed"),
        (TruncatedStream(), "UNEXPECTED_EOF_WHILE_READING", "EOF occurred in violation of protocol"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isupper() else "",
)
def test_error_has_openssl_name_and_both_texts(error: errors.TLSError, reason: str, text: str) -> None:
    twin = ssl_error(error)
    assert isinstance(twin, ssl.SSLError) and isinstance(twin, type(error))
    assert (twin.reason, twin.library) == (reason, "SSL")
    assert str(twin).startswith(f"[SSL: {reason}] ") and text in str(twin)
    assert twin.words == error.reason and twin.words in str(twin)
    assert twin.args == (twin.errno, str(twin))


def test_error_of_the_caller_has_no_openssl_name() -> None:
    twin = ssl_error(UsageError("not now"))
    assert isinstance(twin, ssl.SSLError)
    assert (str(twin), twin.reason, twin.library) == ("not now", "not now", None)


def test_error_of_a_peer_without_tls_is_the_wrong_version_number() -> None:
    """urllib3 looks for these words to tell that a proxy was addressed by the wrong scheme."""
    wire = Wire(*contexts())
    wire.client._incoming.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ssl.SSLError, match="wrong version number") as caught:
        wire.client.do_handshake()
    assert caught.value.reason == "WRONG_VERSION_NUMBER"
    assert "plain HTTP" in str(caught.value)
    assert caught.value.report.code == "PEER-PLAIN-HTTP"  # type: ignore[attr-defined]


def test_error_untrusted_has_openssl_number_and_message() -> None:
    client = SSLContext()
    client.load_verify_locations(cadata=CA("nobody's").root_pem.decode("ascii"))
    wire = Wire(client, contexts()[1])
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed") as caught:
        wire.shake()
    assert (caught.value.verify_code, caught.value.reason) == (20, "CERTIFICATE_VERIFY_FAILED")
    assert caught.value.verify_message == "unable to get local issuer certificate"


def test_error_address_mismatch_has_its_own_number() -> None:
    wire = Wire(*contexts(), name="192.0.2.1")
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch, certificate is not valid") as caught:
        wire.shake()
    assert caught.value.verify_code == 64


# ---- objects -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SSLObject, SSLSocket])
def test_objects_have_no_public_constructor(kind: type) -> None:
    with pytest.raises(TypeError, match="public constructor"):
        kind(ssl.MemoryBIO())


def test_classes_of_ones_own_are_what_the_context_makes() -> None:
    class Object(SSLObject):
        pass

    class Socket(SSLSocket):
        pass

    client, server = contexts()
    client.sslobject_class, server.sslsocket_class = Object, Socket  # type: ignore[assignment]
    assert type(client.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")) is Object
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with server.wrap_socket(listener, server_side=True) as wrapped:
            assert type(wrapped) is Socket
            accepted: list[SSLSocket] = []
            thread = threading.Thread(target=lambda: accepted.append(wrapped.accept()[0]))
            thread.start()
            with client.wrap_socket(socket.create_connection(address), server_hostname="localhost"):
                thread.join(10)
            assert type(accepted[0]) is Socket
            accepted[0].close()


def test_sslobj_has_the_facts_and_the_chains_as_certificates() -> None:
    wire = Wire(*contexts())
    wire.shake()
    handle = wire.client._sslobj
    assert handle.owner is wire.client and handle.context is wire.client.context
    assert handle.cipher() == wire.client.cipher() and handle.selected_alpn_protocol() is None
    leaf, root = handle.get_verified_chain()
    assert [leaf] == handle.get_unverified_chain()
    assert {leaf, *handle.get_unverified_chain()} == {leaf} and leaf != root
    assert leaf.public_bytes(2) == wire.client.getpeercert(True)
    assert ssl.PEM_cert_to_DER_cert(leaf.public_bytes()) == leaf.public_bytes(2)
    assert leaf.get_info() == wire.client.getpeercert() and "CN=" in repr(root)
    with pytest.raises(ValueError, match="format"):
        leaf.public_bytes(3)
    assert wire.client.get_verified_chain() == [leaf.public_bytes(2), root.public_bytes(2)]
    assert wire.client.get_unverified_chain() == [leaf.public_bytes(2)]
    assert wire.server.get_unverified_chain() == wire.server.get_verified_chain() == []


def test_object_read_fills_buffers_of_any_shape_and_size() -> None:
    wire = Wire(*contexts())
    wire.shake()
    for piece in (b"one", b"two", b"three"):
        wire.server.write(piece)
    wire.move()
    buffer = bytearray(8)
    assert wire.client.read(-1, buffer) == 8 and buffer == b"onetwoth"
    assert wire.client.pending() == 3
    assert wire.client.read(2, memoryview(buffer)[2:]) == 2 and buffer == b"onrewoth"
    assert wire.client.read(0) == b"" and wire.client.read(10, bytearray()) == 0
    assert wire.client.read(100) == b"e"
    with pytest.raises(ssl.SSLWantReadError, match=r"The operation did not complete \(read\)"):
        wire.client.read(1, buffer)
    with pytest.raises(ValueError, match="negative"):
        wire.client.read(-1)


def test_object_read_gathers_and_cuts_what_came() -> None:
    wire = Wire(*contexts())
    wire.shake()
    for piece in (b"one", b"two", b"three"):
        wire.server.write(piece)
    wire.move()
    assert [wire.client.read(2), wire.client.read(4), wire.client.read(4), wire.client.read(9)] == [
        b"on",
        b"etwo",
        b"thre",
        b"e",
    ]


def test_object_reads_on_after_its_own_close_notify() -> None:
    """As OpenSSL: a server that has closed still gets what its client was sending."""
    wire = Wire(*contexts())
    wire.shake()
    for piece in (b"one", b"two"):
        wire.client.write(piece)
    with pytest.raises(ssl.SSLWantReadError):
        wire.server.unwrap()
    wire.move()
    assert wire.server.read(3) == b"one" and wire.server.read(100) == b"two"
    wire.client.write(b"three")
    wire.move()
    with pytest.raises(ssl.SSLWantReadError):
        wire.server.unwrap()
    assert wire.client.read(100) == b""
    wire.client.write(b"four")
    with pytest.raises(ssl.SSLWantReadError):
        wire.server.unwrap()  # who calls it again does not want what came: "three"
    wire.client.unwrap()
    wire.move()
    assert wire.server.read(100) == b"four"
    wire.server.unwrap()
    for call in (wire.server.read, lambda: wire.server.read(5, bytearray(5))):
        with pytest.raises(ssl.SSLZeroReturnError):
            call()


def test_object_unwrap_leaves_what_follows_in_the_buffer() -> None:
    wire = Wire(*contexts())
    wire.shake()
    with pytest.raises(ssl.SSLWantReadError):
        wire.server.unwrap()
    wire.server._outgoing.write(b"in the open")
    wire.move()
    wire.client.unwrap()
    wire.client.unwrap()
    assert wire.client._incoming.read() == b"in the open"


# ---- sockets: never in plaintext -----------------------------------------------------------------------------------


def test_socket_unwrap_reads_on_after_the_close_notify() -> None:
    with pair() as (one, other):
        thread = threading.Thread(target=other.unwrap)
        with one._core:
            one._tls.close()
        socket.socket.sendall(one, one._tls.take() + b"in the open")
        thread.start()
        thread.join(10)
        assert other.recv(5) == b"in th"
        buffer = bytearray(10)
        assert other.recv_into(buffer) == 6 and buffer[:6] == b"e open"
        socket.socket.sendall(one, b"and more")
        other.setblocking(True)
        assert other.recv_into(buffer) == 8


@pytest.mark.parametrize("server_side", [False, True])
def test_socket_refuses_what_was_sent_and_left_behind_before_tls(server_side: bool) -> None:
    """CVE-2023-40217: a reset makes a socket look unconnected while data waits in it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
        peer.close()
        context = SSLContext(SERVER) if server_side else SSLContext(CLIENT)
        name = None if server_side else "localhost"
        with pytest.raises(ssl.SSLError, match="before TLS handshake with data") as caught:
            context.wrap_socket(accepted, server_side=server_side, server_hostname=name)
        assert caught.value.library is None and caught.value.errno == errno.ENOTCONN


def test_socket_between_connecting_and_the_handshake_reads_and_sends_nothing_in_plaintext() -> None:
    with SSLContext(CLIENT).wrap_socket(socket.socket(), server_hostname="localhost") as one:
        for call in (
            lambda: one.recv(10),
            lambda: one.recv_into(bytearray(10)),
            lambda: one.recvfrom(10),
            lambda: one.recvfrom_into(bytearray(10)),
            lambda: one.send(b"secret"),
            lambda: one.sendall(b"secret"),
            lambda: one.sendto(b"secret", ("127.0.0.1", 9)),
            one.getpeercert,
            one.do_handshake,
        ):
            with pytest.raises(OSError) as caught:
                call()  # type: ignore[no-untyped-call]
            assert caught.value.errno == errno.ENOTCONN
        for call in (one.read, lambda: one.write(b"secret")):
            with pytest.raises(ValueError, match="closed or unwrapped"):
                call()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            one.setblocking(False)
            one.do_handshake_on_connect = False
            assert one.connect_ex(listener.getsockname()) in (0, errno.EINPROGRESS)
            accepted, _ = listener.accept()
            with accepted:
                accepted.sendall(b"in the open")
                one.setblocking(True)
                with pytest.raises(ssl.SSLError):
                    one.recv(100)


def test_socket_closed_says_so() -> None:
    with pair() as (one, _other):
        one.close()
        assert (one.version(), one.cipher(), one._sslobj, one.pending()) == (None, None, None, 0)
        assert one.negotiated is not None  # what was agreed on stays known
        for call in (one.read, lambda: one.write(b"x")):
            with pytest.raises(ValueError, match="closed or unwrapped"):
                call()
        with pytest.raises(OSError) as caught:
            one.recv(1)
        assert caught.value.errno == errno.EBADF


def test_socket_sendfile_leaves_the_file_behind_what_was_sent(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    with pair() as (one, other), (tmp_path / "file").open("rb") as file:
        assert one.sendfile(file, 2, 5) == 5
        assert other.recv(100) == b"23456" and file.tell() == 7
        with (tmp_path / "file").open(encoding="ascii") as text, pytest.raises(ValueError, match="binary"):
            one.sendfile(text)  # type: ignore[arg-type]
        one.setblocking(False)
        with pytest.raises(ValueError, match="non-blocking"):
            one.sendfile(file)


def test_socket_send_takes_all_of_the_data_where_it_may_wait() -> None:
    """As OpenSSL: programs of ssl's age do not look at what send returns."""
    with pair() as (one, other):
        data = bytes(range(256)) * 4096
        sent: list[int] = []
        thread = threading.Thread(target=lambda: sent.append(one.send(data)))
        thread.start()
        found = b""
        while len(found) < len(data):
            found += other.recv(2**16)
        thread.join(10)
        assert sent == [len(data)] and found == data
        assert one.send(b"") == 0
        one.setblocking(False)
        with pytest.raises(ssl.SSLWantWriteError):
            while True:
                assert one.send(data) <= 2**18


# ---- sockets: what select sees -------------------------------------------------------------------------------------


def readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 5)[0])


def test_socket_leaves_what_was_not_asked_for_where_select_sees_it() -> None:
    with pair() as (one, other):
        for piece in (b"first", b"second", b"third"):
            one.sendall(piece)
        assert other.recv(5) == b"first" and other.pending() == 0
        assert readable(other) and other.recv(100) == b"second"
        assert readable(other) and other.recv(2**16) == b"third"


def test_socket_that_does_not_wait_leaves_a_close_notify_where_select_sees_it() -> None:
    """ftplib's server of CPython's tests waits for it so, and the client for the answer."""
    with pair() as (one, other):
        one.sendall(b"all")
        one.close()
        other.setblocking(False)
        assert readable(other) and other.recv(2**16) == b"all"
        assert readable(other) and other.recv(2**16) == b""


def test_socket_handshake_takes_nothing_that_follows_it() -> None:
    left, right = socket.socketpair()
    with left, right:
        thread = threading.Thread(target=lambda: talk(left))
        thread.start()
        with SSLContext(SERVER).wrap_socket(right, server_side=True) as server:
            thread.join(10)
            assert server.pending() == 0
            assert readable(server) and server.recv(100) == b"at once"


def talk(plain: socket.socket) -> None:
    with SSLContext(CLIENT).wrap_socket(plain, server_hostname="localhost", do_handshake_on_connect=False) as client:
        client.do_handshake()
        client.sendall(b"at once")


def test_socket_reads_much_with_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    with pair() as (one, other):
        data = bytes(40_000)
        one.sendall(data)
        wanted = other._tls.wanted

        def counted(size: int) -> int:
            calls.append(size)
            return wanted(size)

        monkeypatch.setattr(other._tls, "wanted", counted)
        found = b""
        while len(found) < len(data):
            found += other.recv(2**17)
        assert found == data and len(calls) <= 3
