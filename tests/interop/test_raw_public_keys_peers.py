"""Raw public keys with GnuTLS, in both roles and of both ends. OpenSSL has them from 3.2 on."""

from __future__ import annotations

from pathlib import Path

import pytest

from pellucid import ClientConfig, Credential, RawPublicKeyVerifier, ServerConfig, connect
from pellucid.config import ClientAuthentication
from pellucid.crypto.certificates import RawPublicKey
from pellucid.errors import AlertReceived
from pellucid.registry import CertificateType
from pellucid.testing.ca import CA
from pellucid.verify import CertificateRejected, WebPKIVerifier, either
from tests.interop import confined
from tests.interop.process import running
from tests.interop.test_carried import HOST, TIMEOUT, our_server
from tests.support.needs import need

X509, RAW = CertificateType.X509, CertificateType.RAW_PUBLIC_KEY
PRIORITY = "NORMAL:-VERS-ALL:+VERS-TLS1.3"
SERVER_RAW, CLIENT_RAW = ":+CTYPE-SRV-RAWPK", ":+CTYPE-CLI-RAWPK"


class Keys:
    """Two keys: the server's and the client's, each as a certificate and by itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = CA("Raw interop root")
        self.root = folder / "root.pem"
        self.root.write_bytes(self.ca.root_pem)
        self.own = {}
        for name, kind in (("server", "p256"), ("client", "ed25519")):
            leaf = self.ca.issue(HOST, key=kind, purposes=("server", "client"))  # type: ignore[arg-type]
            credential = Credential.from_pem(leaf.chain_pem, leaf.key_pem)
            self.own[name] = credential
            (folder / f"{name}.pem").write_bytes(leaf.chain_pem)
            (folder / f"{name}-key.pem").write_bytes(leaf.key_pem)
            public = credential.as_raw_public_key().leaf
            assert isinstance(public, RawPublicKey)
            (folder / f"{name}-public.pem").write_text(public.pem)

    def raw(self, name: str) -> Credential:
        return self.own[name].as_raw_public_key()

    def verifier(self, name: str) -> RawPublicKeyVerifier:
        return RawPublicKeyVerifier(self.raw(name).chain)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("raw"))


def gnutls_client(keys: Keys, port: int, priority: str, *more: str) -> str:
    # GnuTLS' client has no file of keys to trust: it believes what it saw before, or with --insecure whatever comes.
    command = [
        "gnutls-cli",
        "--port",
        str(port),
        "--priority",
        PRIORITY + priority,
        "--insecure",
        "--sni-hostname",
        HOST,
    ]
    with running([*command, *more, "127.0.0.1"], cwd=keys.folder) as program:
        program.wait_for(rb"welcome")
        program.close_input()
        return program.output()


@pytest.mark.program("gnutls-cli")
def test_gnutls_client_takes_our_key(keys: Keys) -> None:
    credentials = (keys.raw("server"), keys.own["server"])
    with our_server(ServerConfig(credentials=credentials)) as (port, found):
        said = gnutls_client(keys, port, SERVER_RAW)
    assert found[0].server_certificate_type == RAW, said
    assert "Raw Public Key" in said or "raw public key" in said.lower(), said


@pytest.mark.program("gnutls-cli")
def test_gnutls_client_without_raw_keys_takes_our_certificate(keys: Keys) -> None:
    credentials = (keys.raw("server"), keys.own["server"])
    with our_server(ServerConfig(credentials=credentials)) as (port, found):
        said = gnutls_client(keys, port, "", "--x509cafile", str(keys.root))
    assert found[0].server_certificate_type == X509, said


@pytest.mark.program("gnutls-cli")
def test_gnutls_client_is_known_by_its_key(keys: Keys) -> None:
    config = ServerConfig(
        credentials=(keys.raw("server"),),
        client_authentication=ClientAuthentication.REQUIRED,
        client_certificate_types=(RAW,),
        verifier=keys.verifier("client"),
    )
    own = ("--rawpkkeyfile", "client-key.pem", "--rawpkfile", "client-public.pem")
    with our_server(config) as (port, found):
        said = gnutls_client(keys, port, SERVER_RAW + CLIENT_RAW, *own)
    assert found[0].client_certificate_type == RAW, said
    assert found[0].peer.leaf.der == keys.raw("client").chain[0]


@pytest.mark.program("gnutls-cli")
def test_gnutls_client_with_another_key_is_refused(keys: Keys) -> None:
    config = ServerConfig(
        credentials=(keys.raw("server"),),
        client_authentication=ClientAuthentication.OPTIONAL,
        client_certificate_types=(RAW,),
        verifier=keys.verifier("client"),
    )
    own = ("--rawpkkeyfile", "server-key.pem", "--rawpkfile", "server-public.pem")
    command = ["gnutls-cli", "--priority", PRIORITY + SERVER_RAW + CLIENT_RAW, "--insecure", *own, "127.0.0.1"]
    with our_server(config) as (port, found), running([*command, "--port", str(port)], cwd=keys.folder) as program:
        program.wait_for(rb"Certificate is bad")
    assert isinstance(found[0], CertificateRejected)


def gnutls_server(keys: Keys, *more: str) -> list[str]:
    need(confined.missing())
    command = ["gnutls-serv", "--port", str(confined.PORT), "--echo", "--priority", PRIORITY + SERVER_RAW + CLIENT_RAW]
    own = ["--rawpkkeyfile", str(keys.folder / "server-key.pem"), "--rawpkfile", str(keys.folder / "server-public.pem")]
    return [*command, *own, *more]


@pytest.mark.program("gnutls-serv")
def test_gnutls_server_is_known_by_its_key(keys: Keys) -> None:
    command = gnutls_server(keys, "--disable-client-cert")
    with confined.confined(command, cwd=keys.folder) as (program, port):
        program.wait_for(rb"IPv4 .*done")
        trust = WebPKIVerifier(keys.ca.trust)
        for config in (
            ClientConfig(verifier=keys.verifier("server"), server_certificate_types=(RAW,)),
            ClientConfig(verifier=either(trust, keys.verifier("server")), server_certificate_types=(RAW, X509)),
        ):
            for resumed in (False, True):
                with connect("127.0.0.1", port, config, server_name=HOST, timeout=TIMEOUT) as stream:
                    stream.sendall(b"hello\n")
                    assert stream.recv(6) == b"hello\n", program.output()
                    assert stream.negotiated.resumed is resumed
                    assert stream.negotiated.server_certificate_type == RAW
                    assert stream.negotiated.peer is not None
                    assert stream.negotiated.peer.leaf.der == keys.raw("server").chain[0]
        wrong = ClientConfig(verifier=keys.verifier("client"), server_certificate_types=(RAW,))
        with pytest.raises(CertificateRejected, match="is not the one that is trusted"):
            connect("127.0.0.1", port, wrong, server_name=HOST, timeout=TIMEOUT)


@pytest.mark.program("gnutls-serv")
def test_gnutls_server_takes_our_key(keys: Keys) -> None:
    command = gnutls_server(keys, "--require-client-cert")
    with confined.confined(command, cwd=keys.folder) as (program, port):
        program.wait_for(rb"IPv4 .*done")
        config = ClientConfig(
            verifier=keys.verifier("server"),
            server_certificate_types=(RAW,),
            credentials=(keys.raw("client"),),
            sessions=None,
        )
        with connect("127.0.0.1", port, config, server_name=HOST, timeout=TIMEOUT) as stream:
            stream.sendall(b"hello\n")
            assert stream.recv(6) == b"hello\n", program.output()
            assert stream.negotiated.client_certificate_type == RAW
        nobody = ClientConfig(verifier=keys.verifier("server"), server_certificate_types=(RAW,), sessions=None)
        with (
            connect("127.0.0.1", port, nobody, server_name=HOST, timeout=TIMEOUT) as stream,
            pytest.raises(AlertReceived),
        ):
            stream.recv(1)
