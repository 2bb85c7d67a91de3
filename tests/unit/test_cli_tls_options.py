"""The options of `pellucid get` and `serve` that are about TLS alone: revocation, PSKs, record sizes, asking later."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest

from pellucid import Connection, RevocationPolicy, ServerConfig
from pellucid.cli.common import CommandFailed
from pellucid.cli.tls_options import client_changes, server_changes
from pellucid.config import Credential
from pellucid.messages import extensions as x
from pellucid.messages.handshake import ClientHello
from pellucid.registry import ExtensionType as E
from pellucid.sessions.psk import ExternalPsk
from pellucid.testing.ca import CA
from pellucid.trace import MessageTraced, Role, TraceEvent
from pellucid.verify import spki_pin
from tests.unit.test_cli_get import AUTHORITY, Get, Server, get, server  # noqa: F401
from tests.unit.test_cli_serve import Serve, home, serve  # noqa: F401

KEY = bytes(range(32)).hex()
posix = pytest.mark.skipif(os.name != "posix", reason="the server is stopped by signals")


def options(**given: object) -> dict[str, object]:
    names = ("crlfile", "pinnedpubkey", "psk", "psk_identity", "record_size_limit", "client_ca")
    return {
        **dict.fromkeys(names),
        **dict.fromkeys(("cert_status", "reverify", "post_handshake_auth"), False),
        **given,
    }


def test_nothing_is_changed_without_an_option() -> None:
    assert client_changes(options()) == {
        "record_size_limit": None,
        "reverify_on_resumption": False,
        "post_handshake_auth": False,
    }
    assert server_changes(options()) == {"record_size_limit": None}


def test_options_become_configuration(tmp_path: Path) -> None:
    crl = tmp_path / "crl.der"
    crl.write_bytes(AUTHORITY.crl())
    changes = client_changes(
        options(
            crlfile=str(crl), cert_status=True, reverify=True, post_handshake_auth=True, psk=KEY, record_size_limit=99
        )
    )
    assert changes == {
        "record_size_limit": 99,
        "reverify_on_resumption": True,
        "post_handshake_auth": True,
        "external_psks": (ExternalPsk.plain(b"Client_identity", bytes.fromhex(KEY), role=Role.CLIENT),),
        "revocation": RevocationPolicy(crls=(crl.read_bytes(),), require_staple=True),
    }
    changes = server_changes(options(psk=KEY, psk_identity="key 7", crlfile=str(crl), client_ca="ca.pem"))
    assert changes["external_psks"] == (ExternalPsk.plain(b"key 7", bytes.fromhex(KEY), role=Role.SERVER),)
    assert changes["revocation"] == RevocationPolicy(crls=(crl.read_bytes(),))


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ({"psk": "xyz"}, 2, "hex"),
        ({"psk": "00" * 15}, 2, "at least 16"),
        ({"psk": KEY, "psk_identity": "n" * 70_000}, 2, "identity"),
        ({"psk_identity": "name"}, 2, "--psk"),
        ({"crlfile": "/nonexistent", "client_ca": "x"}, 82, "nonexistent"),
        ({"crlfile": __file__, "client_ca": "x"}, 82, "CRL"),
    ],
)
def test_option_that_cannot_be_says_why(given: dict[str, object], code: int, words: str) -> None:
    for changes in (client_changes, server_changes):
        with pytest.raises(CommandFailed, match=words) as caught:
            changes(options(**given))
        assert caught.value.code == code
        assert KEY not in str(caught.value)


def test_crlfile_of_a_server_needs_clients_that_are_asked() -> None:
    with pytest.raises(CommandFailed, match="--client-ca"):
        server_changes(options(crlfile="crl.pem"))


# ---- get -----------------------------------------------------------------------------------------------------------


def credential(authority: CA, *, staple: bool = False) -> tuple[Credential, bytes]:
    """A credential for localhost, and the CRL that lists it."""
    leaf = authority.issue("localhost")
    made = Credential.from_pem(leaf.chain_pem, leaf.key_pem)
    if staple:
        made = dataclasses.replace(made, ocsp_response=authority.ocsp_response(leaf))
    return made, authority.crl(leaf)


def test_get_refuses_what_a_crl_lists_and_what_no_crl_covers(get: Get, tmp_path: Path) -> None:  # noqa: F811
    listed, crl = credential(AUTHORITY)
    fine, _ = credential(AUTHORITY)
    (tmp_path / "crl.der").write_bytes(crl)
    (tmp_path / "other.der").write_bytes(CA("another").crl())
    for shown, file, code, words in (
        (fine, "crl.der", 0, ""),
        (listed, "crl.der", 60, "revoked"),
        (fine, "other.der", 60, "no CRL"),
    ):
        with Server(ServerConfig(credentials=(shown,))) as server:  # noqa: F811
            result = get(server.url, "--crlfile", tmp_path / file)
        assert result.code == code, result.err
        assert words in result.err
    assert get("https://localhost/", "--crlfile", tmp_path / "none").code == 82


def test_get_refuses_a_server_whose_key_is_not_pinned(get: Get, tmp_path: Path) -> None:  # noqa: F811
    shown, _ = credential(AUTHORITY)
    pin, other = spki_pin(shown.chain[0]).replace("/", "//", 1), "sha256//" + "A" * 43 + "="
    (tmp_path / "leaf.der").write_bytes(shown.chain[0])
    root = spki_pin(AUTHORITY.root_der).replace("/", "//", 1)
    with Server(ServerConfig(credentials=(shown,))) as server:  # noqa: F811
        for pins in (pin, f"{other};{pin}", tmp_path / "leaf.der"):
            assert get(server.url, "--pinnedpubkey", pins).code == 0
        for pins in (other, root):
            result = get(server.url, "--pinnedpubkey", pins)
            assert result.code == 90 and "X509-PIN-MISMATCH" in result.err, result.err
    for wrong in ("sha256//AAAA", tmp_path / "none", tmp_path):
        assert get("https://localhost/", "--pinnedpubkey", wrong).code == 2
    with Server(ServerConfig(credentials=(credential(CA("stranger"))[0],))) as server:
        assert get(server.url, "--pinnedpubkey", pin).code == 60


def test_get_demands_a_staple_with_cert_status(get: Get) -> None:  # noqa: F811
    for staple in (True, False):
        shown, _ = credential(AUTHORITY, staple=staple)
        with Server(ServerConfig(credentials=(shown,))) as server:  # noqa: F811
            result = get(server.url, "--cert-status")
        assert result.code == (0 if staple else 60), result.err
        assert staple or ("do without: no --cert-status" in result.err and "hint: " not in result.err)


class Watched(Server):
    """A server whose connections are observed."""

    def __init__(self, config: ServerConfig) -> None:
        self.seen: list[TraceEvent] = []
        super().__init__(dataclasses.replace(config, trace=lambda: self.seen.append))

    def hello(self) -> ClientHello:
        body = next(event.body for event in self.seen if isinstance(event, MessageTraced))
        assert isinstance(body, ClientHello)
        return body


def test_get_says_in_its_hello_what_the_options_ask_for(get: Get) -> None:  # noqa: F811
    shown, _ = credential(AUTHORITY)
    with Watched(ServerConfig(credentials=(shown,))) as server:  # noqa: F811
        assert get(server.url, "--record-size-limit", "4000", "--post-handshake-auth").code == 0
        assert get(server.url, "--record-size-limit", "63").code == 2
    sent = {one.extension_type: one.extension_data for one in server.hello().extensions}
    assert sent[E.RECORD_SIZE_LIMIT] == (4000).to_bytes(2, "big")
    assert sent[E.POST_HANDSHAKE_AUTH] == b""
    # RFC 9113 §9.2.3: there is no post-handshake authentication in HTTP/2
    assert x.ALPN.codec.decode_all(sent[x.ALPN.extension_type], "alpn") == (b"http/1.1",)


class Asking(Server):
    """A server that asks for the client's certificate when the request is in, and answers with whose it was."""

    def _one(self, sock: object, connection: Connection) -> None:
        send = connection.send_data

        def ask(data: bytes) -> None:
            connection.request_client_certificate()
            sock.sendall(connection.data_to_send())  # type: ignore[attr-defined]
            while connection.peer is None:
                connection.receive_data(sock.recv(2**16))  # type: ignore[attr-defined]
                connection.next_event()
            name = connection.peer.leaf.der.hex()[:40].encode()
            send(b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n" + name)

        connection.send_data = ask  # type: ignore[method-assign,assignment]
        super()._one(sock, connection)  # type: ignore[arg-type]


def test_get_shows_its_certificate_when_it_is_asked_after_the_request(get: Get, tmp_path: Path) -> None:  # noqa: F811
    leaf = AUTHORITY.issue("client.test", purposes=("client",))
    (tmp_path / "client.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
    shown, _ = credential(AUTHORITY)
    with Asking(ServerConfig(credentials=(shown,), client_trust=AUTHORITY.trust)) as server:  # noqa: F811
        result = get(server.url, "--post-handshake-auth", "--cert", tmp_path / "client.pem")
    assert result.code == 0, (result.err, server.errors)
    assert result.out.decode() == leaf.der.hex()[:40]


# ---- serve, and get against it ---------------------------------------------------------------------------------------


@posix
def test_get_and_serve_know_each_other_by_a_psk(get: Get, serve: Serve, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "page").write_text("here")
    with serve(tmp_path / "site", "--psk", KEY, "--psk-identity", "k7") as running:
        url = running.url + "page"
        known = get(url, "-v", "--psk", KEY, "--psk-identity", "k7", trust=False)
        assert known.code == 0, known.err
        assert known.out == b"here"
        assert "  psk  " in known.err
        assert "EncryptedExtensions" in known.err and "CertificateVerify" not in known.err
        wrong = get(url, "--psk", KEY[::-1], "--psk-identity", "k7", trust=False)
        assert wrong.code == 35, wrong.err
        assert "hint: the server has another key by this name" in wrong.err
        other = get(url, "--psk", KEY, "--psk-identity", "k8", trust=False)
        assert other.code == 35, other.err  # it trusts no CA: a certificate would be of no use
        assert "hint: the server does not know the key by this name" in other.err


@posix
def test_serve_refuses_clients_that_a_crl_lists(serve: Serve, get: Get, tmp_path: Path) -> None:  # noqa: F811
    authority = CA("serve's clients")
    (tmp_path / "ca.pem").write_bytes(authority.root_pem)
    server_leaf = AUTHORITY.issue("localhost")
    (tmp_path / "server.pem").write_bytes(server_leaf.chain_pem + server_leaf.key_pem)
    listed, fine = (authority.issue(f"{name}.test", purposes=("client",)) for name in ("listed", "fine"))
    for name, leaf in (("listed", listed), ("fine", fine)):
        (tmp_path / f"{name}.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
    (tmp_path / "crl.der").write_bytes(authority.crl(listed))
    (tmp_path / "page").write_text("here")
    arguments = ("--client-ca", tmp_path / "ca.pem", "--crlfile", tmp_path / "crl.der", "--record-size-limit", "2000")
    with serve(tmp_path, "--cert", tmp_path / "server.pem", *arguments) as running:
        assert get(running.url + "page", "--cert", tmp_path / "fine.pem").out == b"here"
        refused = get(running.url + "page", "--cert", tmp_path / "listed.pem")
        assert refused.code == 58, refused.err
        assert "certificate_revoked" in refused.err


@posix
@pytest.mark.program("openssl")
def test_openssl_takes_the_same_key(serve: Serve, tmp_path: Path) -> None:  # noqa: F811
    with serve(tmp_path, "--psk", KEY) as running:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{running.port}", "-tls1_3", "-psk", KEY]
        done = subprocess.run(command, input=b"", capture_output=True, timeout=30, check=False)
        assert b"Reused, TLSv1.3" in done.stdout, (done.stdout[-2000:], done.stderr)
        assert b"no peer certificate available" in done.stdout
