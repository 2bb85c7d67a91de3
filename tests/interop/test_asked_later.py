"""Authentication after the handshake (RFC 9846 §4.7.2) with peers that we did not write: OpenSSL and GnuTLS."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pellucid import ClientConfig, ServerConfig, TLSError, connect, listen
from pellucid.registry import HandshakeType as H
from pellucid.trace import Direction, MessageTraced, TraceEvent
from tests.interop import confined
from tests.interop.files import HOST, Files
from tests.interop.process import Program, running
from tests.support.needs import need
from tests.support.ports import free_port

TIMEOUT = 20.0


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("later"))


def client_config(files: Files) -> ClientConfig:
    return ClientConfig(trust=files.ca.trust, credentials=(files.credential,), post_handshake_auth=True)


@contextlib.contextmanager
def asking_server(files: Files) -> Iterator[tuple[int, list[Any]]]:
    """Serve one client: greet it, ask who it is, read a line; yield the port, and who it was before and after."""
    found: list[Any] = []
    with listen("127.0.0.1", 0, ServerConfig(credentials=(files.credential,), client_trust=files.ca.trust)) as listener:

        def serve() -> None:
            try:
                with listener.accept(handshake=True, timeout=TIMEOUT) as stream:
                    stream.settimeout(TIMEOUT)
                    found.append(stream.peer)
                    stream.sendall(b"welcome\n")
                    stream.request_client_certificate()
                    stream.sendall(b"who is there?\n")
                    while stream.peer is None:
                        stream.recv()
                    found.append(stream.peer)
                    stream.key_update(request_peer=True)
                    stream.request_client_certificate(required=True)
                    stream.sendall(b"sure?\n")
                    found.append(stream.recv())
                    stream.sendall(b"goodbye\n")
            except TLSError as error:
                found.append(error)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.address[1], found
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def drive(program: Program, found: list[Any], files: Files) -> None:
    """Let a client say two lines, and hold that our server knew it from the first answer on."""
    program.wait_for(rb"who is there")
    program.write(b"I\n")
    program.wait_for(rb"sure")
    program.write(b"yes\n")
    program.wait_for(rb"goodbye")
    assert found[0] is None
    assert found[1].leaf.der == files.credential.chain[0], found
    assert found[2].strip() == b"yes"


@pytest.mark.program("openssl")
def test_openssl_client_answers_our_server(files: Files) -> None:
    with asking_server(files) as (port, found):
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", HOST, "-enable_pha"]
        command += [
            "-CAfile",
            str(files.root),
            "-cert",
            str(files.chain),
            "-key",
            str(files.key),
            "-verify_return_error",
        ]
        with running(command, cwd=files.folder) as program:
            drive(program, found, files)


@pytest.mark.program("gnutls-cli")
def test_gnutls_client_answers_our_server(files: Files) -> None:
    with asking_server(files) as (port, found):
        command = ["gnutls-cli", "--port", str(port), "--x509cafile", str(files.root), "--verify-hostname", HOST]
        command += ["--post-handshake-auth", "--x509certfile", str(files.chain), "--x509keyfile", str(files.key)]
        with running([*command, "127.0.0.1"], cwd=files.folder) as program:
            drive(program, found, files)


@pytest.mark.program("openssl")
def test_our_client_answers_an_openssl_server(files: Files) -> None:
    port = free_port()
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(files.chain), "-key", str(files.key)]
    command += ["-tls1_3", "-CAfile", str(files.root), "-msg"]
    with running(command, cwd=files.folder) as program:
        program.wait_for(rb"ACCEPT")
        with connect("127.0.0.1", port, client_config(files), server_name=HOST, timeout=TIMEOUT) as stream:
            stream.settimeout(TIMEOUT)
            stream.sendall(b"first line\n")
            program.wait_for(rb"first line")
            assert b"<<< TLS 1.3, Handshake [length" in program.stdout
            assert b", CertificateVerify" not in _received(program)
            program.write(b"c\n")  # "send a certificate request"
            program.wait_for(rb">>> TLS 1.3, Handshake \[length [0-9a-f]+\], CertificateRequest")
            program.write(b"who is there\n")
            assert stream.recv() == b"who is there\n"
            stream.sendall(b"second line\n")
            program.wait_for(rb"second line")
            received = _received(program)
            assert b", CertificateVerify" in received
            assert received.count(b", Finished") == 2


def _received(program: Program) -> bytes:
    return b"\n".join(line for line in program.stdout.splitlines() if line.startswith(b"<<<"))


@pytest.mark.program("gnutls-serv")
def test_our_client_answers_a_gnutls_server(files: Files) -> None:
    need(confined.missing())
    command = ["gnutls-serv", "--port", str(confined.PORT), "--echo", "--disable-client-cert"]
    command += ["--x509certfile", str(files.chain), "--x509keyfile", str(files.key), "--x509cafile", str(files.root)]
    with confined.confined(command, cwd=files.folder) as (program, port):
        program.wait_for(rb"IPv4 .*done")
        seen: list[TraceEvent] = []
        with connect(
            "127.0.0.1", port, client_config(files), server_name=HOST, timeout=TIMEOUT, trace=seen.append
        ) as stream:
            stream.settimeout(TIMEOUT)
            seen.clear()
            stream.sendall(b"**REAUTH**\n")
            assert b"Successfully executed" in stream.recv(), program.output()
            messages = [e.message_type for e in seen if isinstance(e, MessageTraced) and e.direction is Direction.SENT]
            assert messages == [H.CERTIFICATE, H.CERTIFICATE_VERIFY, H.FINISHED]
            stream.sendall(b"and on\n")
            assert stream.recv() == b"and on\n"
