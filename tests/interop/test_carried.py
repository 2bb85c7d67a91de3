"""What travels with certificates, with peers that we did not write: OpenSSL, GnuTLS, BoringSSL."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pellucid import ClientConfig, Connection, ServerConfig, TLSError, connect, listen
from pellucid.explain.recorder import Recorder
from pellucid.integrations.certificate_compression import installed
from pellucid.net.load import ocsp_file
from pellucid.registry import CertificateCompressionAlgorithm
from pellucid.registry import HandshakeType as H
from pellucid.trace import MessageTraced
from tests.interop import confined
from tests.interop.files import HOST, Files
from tests.interop.process import running
from tests.support.needs import need, need_module
from tests.support.ports import free_port

TIMEOUT = 20.0


class StaplingFiles(Files):
    """Besides, a good OCSP response for the leaf: staple, DER."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.staple = folder / "staple.der"
        # By name: GnuTLS 3.7 finds the responder in its trust by nothing else; OpenSSL does by its key too.
        self.staple.write_bytes(self.ca.ocsp_response(self.leaf, by_name=True))
        self.stapling = dataclasses.replace(self.credential, ocsp_response=ocsp_file(self.staple))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> StaplingFiles:
    return StaplingFiles(tmp_path_factory.mktemp("carried"))


@contextlib.contextmanager
def our_server(config: ServerConfig) -> Iterator[tuple[int, list[Any]]]:
    """Serve one connection; yield the port, and what comes: its Negotiated, or the error."""

    found: list[Any] = []
    with listen("127.0.0.1", 0, config) as listener:

        def serve() -> None:
            try:
                with listener.accept(handshake=True, timeout=TIMEOUT) as stream:
                    stream.settimeout(TIMEOUT)
                    found.append(stream.negotiated)
                    stream.sendall(b"welcome\n")
                    stream.recv(1)
            except TLSError as error:
                found.append(error)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.address[1], found
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def gnutls_client(files: StaplingFiles, port: int, *more: str) -> str:
    command = ["gnutls-cli", "--port", str(port), "--x509cafile", str(files.root), "--verify-hostname", HOST]
    with running([*command, *more, "127.0.0.1"], cwd=files.folder) as program:
        program.wait_for(rb"welcome")
        program.close_input()
        return program.output()


@pytest.mark.program("gnutls-cli")
def test_gnutls_client_takes_our_staple(files: StaplingFiles) -> None:
    saved = files.folder / "saved.der"
    with our_server(ServerConfig(credentials=(files.stapling,))) as (port, found):
        said = gnutls_client(files, port, "--ocsp", "--save-ocsp", str(saved))
    assert found[0].cipher_suite, found
    assert saved.read_bytes() == files.staple.read_bytes(), said


@pytest.mark.program("gnutls-serv")
def test_gnutls_server_staples_for_us(files: StaplingFiles) -> None:
    need(confined.missing())
    command = ["gnutls-serv", "--port", str(confined.PORT), "--disable-client-cert", "--echo"]
    command += ["--x509certfile", str(files.chain), "--x509keyfile", str(files.key)]
    command += ["--ocsp-response", str(files.staple), "--ignore-ocsp-response-errors"]
    with confined.confined(command, cwd=files.folder) as (program, port):
        program.wait_for(rb"IPv4 .*done")
        config = ClientConfig(trust=files.ca.trust)
        with connect("127.0.0.1", port, config, server_name=HOST, timeout=TIMEOUT) as stream:
            assert stream.negotiated.peer_ocsp_response == files.staple.read_bytes(), program.output()


@pytest.mark.program("openssl")
def test_openssl_server_staples_for_us(files: StaplingFiles) -> None:
    port = free_port()
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(files.chain), "-key", str(files.key)]
    with running([*command, "-tls1_3", "-status_file", str(files.staple)], cwd=files.folder) as program:
        program.wait_for(rb"ACCEPT")
        config = ClientConfig(trust=files.ca.trust)
        with connect("127.0.0.1", port, config, server_name=HOST, timeout=TIMEOUT) as stream:
            assert stream.negotiated.peer_ocsp_response == files.staple.read_bytes(), program.output()


@pytest.mark.program("openssl")
def test_openssl_client_takes_our_staple(files: StaplingFiles) -> None:
    with our_server(ServerConfig(credentials=(files.stapling,))) as (port, found):
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", str(files.root), "-status"]
        with running([*command, "-servername", HOST], cwd=files.folder) as program:
            program.wait_for(rb"OCSP Response Status: successful")
            program.wait_for(rb"welcome")
            program.close_input()
    assert found[0].cipher_suite, found


def test_boringssl_client_takes_our_certificate_compressed_with_brotli(files: StaplingFiles) -> None:
    """Through utls, in memory: of the peers at hand the one that decompresses. Its callers must ask for brotli."""
    need_module("utls")
    need_module("brotli")
    import utls

    brotli = next(one for one in installed() if one.code == CertificateCompressionAlgorithm.BROTLI)
    context = utls.SSLContext(utls.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(str(files.root))
    context.set_fingerprint(utls.Fingerprint(compress_certificate=["brotli"]))
    incoming, outgoing = utls.MemoryBIO(), utls.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=HOST)
    recorder = Recorder()
    config = ServerConfig(credentials=(files.credential,), certificate_compression=(brotli,))
    server = Connection.server(config, trace=recorder)
    for _ in range(4):
        with contextlib.suppress(utls.SSLWantReadError):
            client.do_handshake()
        server.receive_data(outgoing.read())
        incoming.write(server.data_to_send())
        if server.handshake_complete:
            break
    assert server.handshake_complete
    assert client.version() == "TLSv1.3"
    sent: Any = [event.body for event in recorder.of(MessageTraced) if event.message_type == H.COMPRESSED_CERTIFICATE]
    assert [body.algorithm for body in sent] == [brotli.code]
