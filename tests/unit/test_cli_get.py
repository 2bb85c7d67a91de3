"""`pellucid get` against servers that behave, misbehave and lie: what it writes, what it tells, how it exits."""

from __future__ import annotations

import contextlib
import datetime
import gzip
import hashlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pellucid.cli.development_ca import DevelopmentCA
from pellucid.cli.main import main
from pellucid.config import ClientAuthentication, Credential, ServerConfig
from pellucid.connection import Connection
from pellucid.crypto.signatures import PrivateKeySigner
from pellucid.errors import TLSError
from pellucid.events import NEED_DATA, ApplicationData, CloseNotify, HandshakeComplete
from pellucid.testing.ca import CA, DAY, Issued
from tests.support.ports import free_port

AUTHORITY = CA("get root")
LEAF = AUTHORITY.issue("localhost", "127.0.0.1")
CLIENT_LEAF = AUTHORITY.issue("a client", purposes=("client",))


def credential(leaf: Issued) -> Credential:
    return Credential.from_pem(leaf.chain_pem, leaf.key_pem)


SERVER = ServerConfig(credentials=(credential(LEAF),))


def response(body: bytes = b"hello\n", *headers: str, status: str = "200 OK", length: bool = True) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


@dataclass
class Server:
    """An HTTPS server that answers each connection's request with the next of *answers*, the last one for ever."""

    config: ServerConfig = SERVER
    answers: list[bytes] = field(default_factory=lambda: [response()])
    close_notify: bool = True
    requests: list[bytes] = field(default_factory=list)
    handshakes: int = 0
    errors: list[str] = field(default_factory=list)

    def __enter__(self) -> Server:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"https://localhost:{self.port}/"
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(20)
        assert not self.thread.is_alive()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with sock:
                sock.settimeout(10)
                try:
                    self._one(sock, Connection.server(self.config))
                except (TLSError, OSError) as error:
                    self.errors.append(f"{type(error).__name__}: {error}")

    def _one(self, sock: socket.socket, connection: Connection) -> None:
        request = b""
        while True:
            data = sock.recv(2**16)
            try:
                connection.receive_data(data)
                while (event := connection.next_event()) is not NEED_DATA:
                    if isinstance(event, HandshakeComplete):
                        self.handshakes += 1
                    elif isinstance(event, ApplicationData):
                        request += event.data
                    elif isinstance(event, CloseNotify):
                        return
            finally:
                sock.sendall(connection.data_to_send())
            head, end, body = request.partition(b"\r\n\r\n")
            length = next(
                (int(one[15:]) for one in head.lower().split(b"\r\n") if one.startswith(b"content-length:")), 0
            )
            if end and len(body) >= length:
                self.requests.append(request)
                connection.send_data(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
                if self.close_notify:
                    connection.close()
                sock.sendall(connection.data_to_send())
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(2**16):
                    pass
                return


@dataclass(frozen=True)
class Result:
    code: int
    out: bytes
    err: str


Get = Callable[..., Result]


@pytest.fixture
def get(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> Get:
    """Run `pellucid get` in this process. It trusts AUTHORITY unless told otherwise."""
    for name in [*os.environ]:
        if name.lower().endswith("_proxy") or name in {"SSLKEYLOGFILE", "NO_COLOR"}:
            monkeypatch.delenv(name)
    root = tmp_path / "root.pem"
    root.write_bytes(AUTHORITY.root_pem)

    def run(*arguments: object, trust: bool = True) -> Result:
        with pytest.raises(SystemExit) as caught:
            main(["get", *(["--cacert", str(root)] if trust else []), *map(str, arguments)])
        out, err = capsysbinary.readouterr()
        return Result(int(caught.value.code or 0), out, err.decode())

    return run


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


# ---- what is fetched -----------------------------------------------------------------------------------------------


def test_get_writes_the_body_to_standard_output_and_nothing_else(get: Get, server: Server) -> None:
    assert get(server.url) == Result(0, b"hello\n", "")
    lines = server.requests[0].split(b"\r\n")
    assert lines[0] == b"GET / HTTP/1.1"
    assert b"host: localhost:%d" % server.port in [line.lower() for line in lines]
    assert not any(line.lower().startswith(b"accept-encoding") for line in lines)
    assert server.errors == []


def test_get_request_options_are_sent(get: Get, server: Server, tmp_path: Path) -> None:
    (tmp_path / "form").write_bytes(b"c=3\r\n")
    get(server.url + "a?b=c", "-d", "a=1", "-d", f"@{tmp_path / 'form'}", "-H", "X-Kind: test", "-H", "Accept:")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert body == b"a=1&c=3"
    assert b"x-kind: test" in head.lower()
    assert b"content-type: application/x-www-form-urlencoded" in head.lower()
    assert b"\r\naccept:" not in head.lower()
    get(server.url, "-X", "DELETE", "-d", "{}", "-H", "Content-Type: application/json")
    assert server.requests[1].startswith(b"DELETE / ")
    assert server.requests[1].lower().count(b"content-type") == 1


def test_get_head_and_include_print_the_headers(get: Get, server: Server) -> None:
    server.answers = [response(b"hello\n", "X-One: 1")]
    found = get(server.url, "-i")
    assert found.out.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"X-One: 1\r\n" in found.out
    assert found.out.endswith(b"\r\n\r\nhello\n")
    server.answers = [b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"]
    found = get(server.url, "-I")
    assert found.out.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert server.requests[-1].startswith(b"HEAD ")


def test_get_output_file_gets_the_body_without_a_bar_where_nobody_looks(
    get: Get, server: Server, tmp_path: Path
) -> None:
    server.answers = [response(bytes(300_000))]
    assert get(server.url, "-o", tmp_path / "body") == Result(0, b"", "")
    assert (tmp_path / "body").read_bytes() == bytes(300_000)
    found = get(server.url, "-o", tmp_path / "none" / "body")
    assert found.code == 23
    assert "cannot write" in found.err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_get_output_file_without_room_exits_with_23(get: Get, server: Server) -> None:
    found = get(server.url, "-o", "/dev/full")
    assert (found.code, "cannot write /dev/full" in found.err) == (23, True)


def test_get_compressed_bodies_are_asked_for_and_decompressed_only_on_demand(get: Get, server: Server) -> None:
    packed = gzip.compress(b"text " * 1000)
    server.answers = [response(packed, "Content-Encoding: gzip")]
    assert get(server.url).out == packed
    assert get(server.url, "--compressed").out == b"text " * 1000
    assert b"accept-encoding: gzip" in server.requests[1].lower()


def test_get_redirects_are_followed_when_asked_and_authorization_stays_at_home(get: Get, server: Server) -> None:
    with Server() as other:
        server.answers = [
            response(b"", "Location: /second", status="302 Found"),
            response(b"", f"Location: {other.url}x", status="302 Found"),
        ]
        found = get(server.url, "-L", "-H", "Authorization: secret")
        assert found == Result(0, b"hello\n", "")
        assert [b"secret" in one for one in server.requests] == [True, True]
        assert [b"secret" in one for one in other.requests] == [False]
    server.answers = [response(b"moved", "Location: /second", status="302 Found")]
    assert get(server.url).out == b"moved"
    found = get(server.url, "-L", "--max-redirs", 2)
    assert found.code == 47
    assert "too many redirects" in found.err


def test_get_redirect_to_plain_http_is_refused(get: Get, server: Server) -> None:
    server.answers = [response(b"", "Location: http://localhost:1/", status="302 Found")]
    found = get(server.url, "-L")
    assert found.code == 47
    assert "away from HTTPS" in found.err


def test_get_fail_leaves_the_body_out_and_exits_with_22(get: Get, server: Server) -> None:
    server.answers = [response(b"gone", status="404 Not Found")]
    assert get(server.url) == Result(0, b"gone", "")
    found = get(server.url, "-f")
    assert (found.code, found.out) == (22, b"")
    assert "404 Not Found" in found.err


def test_get_json_tells_of_the_response_and_the_connection(get: Get, server: Server) -> None:
    found = json.loads(get(server.url, "--json").out)
    assert (found["schema"], found["status"], found["http_version"]) == (1, 200, "HTTP/1.1")
    assert found["body"] == {"bytes": 6, "sha256": hashlib.sha256(b"hello\n").hexdigest(), "file": None}
    tls = found["tls"]
    assert (tls["cipher_suite"], tls["group"]) == ("TLS_AES_128_GCM_SHA256", "X25519MLKEM768")
    assert tls["server_address"] == ["127.0.0.1", server.port]
    assert tls["verification"]["groups"]["name matches"] == "passed"


def test_get_verbose_draws_the_handshake_on_standard_error(get: Get, server: Server) -> None:
    found = get(server.url, "-v", "-H", "Authorization: hidden")
    assert found.out == b"hello\n"
    for word in ("ClientHello", "CertificateVerify", "Finished", "> GET / HTTP/1.1", "< HTTP/1.1 200 OK"):
        assert word in found.err
    assert "hidden" not in found.err


def test_get_silent_says_nothing(get: Get, server: Server) -> None:
    assert get(server.url, "-s", trust=False) == Result(60, b"", "")


def test_get_keylog_is_written_by_option_and_by_environment(
    get: Get, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get(server.url, "--keylog", tmp_path / "one")
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "two"))
    get(server.url)
    for name in ("one", "two"):
        assert "SERVER_TRAFFIC_SECRET_0 " in (tmp_path / name).read_text()


# ---- where it connects to, and with what ---------------------------------------------------------------------------


def test_get_resolve_and_connect_to_choose_the_address(get: Get) -> None:
    leaf = AUTHORITY.issue("service.example")
    with Server(ServerConfig(credentials=(credential(leaf),))) as server:
        port = server.port
        url = f"https://service.example:{port}/"
        assert get(url, "--resolve", f"service.example:{port}:127.0.0.1").code == 0
        assert get(url, "--resolve", f"*:{port}:[::1],127.0.0.1").code == 0
        assert get("https://service.example/", "--connect-to", f"::127.0.0.1:{port}").code == 0
        assert get("https://service.example/", "--connect-to", f"service.example:443:localhost:{port}").code == 0
        assert server.requests[3].lower().count(b"host: service.example\r\n") == 1
    for wrong in ("x", "a:b:c", "a:1"):
        found = get(url, "--resolve", wrong)
        assert (found.code, "HOST:PORT:ADDR" in found.err) == (2, True)
    assert get(url, "--connect-to", "a:b").code == 2


def test_get_algorithms_are_the_ones_asked_for(get: Get, server: Server) -> None:
    found = get(
        server.url, "--json", "--groups", "P-256,x25519", "--suites", "TLS_CHACHA20_POLY1305_SHA256", "--sigalgs",
        "ecdsa_secp256r1_sha256",
    )  # fmt: skip
    tls = json.loads(found.out)["tls"]
    assert tls["cipher_suite"] == "TLS_CHACHA20_POLY1305_SHA256"
    assert tls["signature_scheme"] == "ecdsa_secp256r1_sha256"
    assert get(server.url, "--groups", "nonsense").code == 2


def test_get_proxy_of_the_environment_is_used(get: Get, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        thread = threading.Thread(target=_proxy, args=(listener, seen))
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
        found = get(server.url)
        thread.join(20)
    assert found == Result(0, b"hello\n", "")
    assert seen[0].startswith(b"CONNECT localhost:%d HTTP/1.1" % server.port)


def test_get_proxy_over_https_carries_tls_in_tls(get: Get, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from pellucid.integrations.ssl_context import SSLContext

    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        thread = threading.Thread(target=_proxy, args=(listener, seen, SSLContext(SERVER)))
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"https://localhost:{listener.getsockname()[1]}")
        found = get(server.url, "--json")
        thread.join(20)
    assert found.code == 0, found.err
    assert json.loads(found.out)["tls"]["server_name"] == "localhost"
    assert seen[0].startswith(b"CONNECT ")


def _proxy(listener: socket.socket, seen: list[bytes], context: ssl.SSLContext | None = None) -> None:
    """Be an HTTP proxy for one connection, over TLS with *context*."""
    sock, _ = listener.accept()
    sock.settimeout(10)
    if context is not None:
        sock = context.wrap_socket(sock, server_side=True)
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(1000)
    seen.append(head)
    port = int(head.split()[1].rpartition(b":")[2])
    with sock, socket.create_connection(("127.0.0.1", port), timeout=10) as server:
        sock.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        back = threading.Thread(target=_pump, args=(server, sock))
        back.start()
        _pump(sock, server)
        back.join(10)


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(2**16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return  # one of the two has gone, which ends the tunnel


def test_get_client_certificate_is_shown_from_pem_and_refusals_are_told(get: Get, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_bytes(CLIENT_LEAF.chain_pem)
    (tmp_path / "key.pem").write_bytes(CLIENT_LEAF.key_pem)
    (tmp_path / "both.pem").write_bytes(CLIENT_LEAF.chain_pem + CLIENT_LEAF.key_pem)
    (tmp_path / "other.pem").write_bytes(LEAF.key_pem)
    config = replace(SERVER, client_authentication=ClientAuthentication.REQUIRED, client_trust=AUTHORITY.trust)
    with Server(config) as server:
        assert get(server.url, "--cert", tmp_path / "cert.pem", "--key", tmp_path / "key.pem").code == 0
        found = get(server.url, "--cert", tmp_path / "both.pem", "--json")
        assert json.loads(found.out)["tls"]["client_certificate"] is True
        found = get(server.url)
        assert (found.code, "certificate_required" in found.err) == (58, True)
        found = get(server.url, "--cert", tmp_path / "cert.pem", "--key", tmp_path / "other.pem")
        assert (found.code, "does not belong" in found.err) == (58, True)
        found = get(server.url, "--cert", tmp_path / "none.pem")
        assert (found.code, "none.pem" in found.err) == (58, True)


# ---- what is refused -----------------------------------------------------------------------------------------------


class FlippingSigner(PrivateKeySigner):
    """Signs, and then flips a bit of the signature's last byte."""

    def sign(self, scheme: int, data: bytes) -> bytes:
        signature = bytearray(super().sign(scheme, data))
        signature[-1] ^= 1
        return bytes(signature)


def _expired() -> Issued:
    now = datetime.datetime.now(datetime.UTC)
    return AUTHORITY.issue("localhost", not_before=now - 30 * DAY, not_after=now - 3 * DAY)


def _flipping() -> Credential:
    good = credential(LEAF)
    assert isinstance(good.signer, PrivateKeySigner)
    return Credential(chain=good.chain, signer=FlippingSigner(good.signer.key, good.signer.schemes))


@pytest.mark.parametrize(
    ("make", "code", "wrong", "right", "words"),
    [
        (
            lambda: credential(AUTHORITY.issue("other.example", "third.example")),
            60,
            "name matches",
            ("certificate valid", "signed by a trusted CA", "CertificateVerify correct"),
            "hint: the certificate is for: other.example, third.example",
        ),
        (
            lambda: credential(_expired()),
            60,
            "certificate valid",
            ("name matches", "signed by a trusted CA", "CertificateVerify correct"),
            "renew the certificate",
        ),
        (
            lambda: credential(CA("unknown").issue("localhost")),
            60,
            "signed by a trusted CA",
            ("certificate valid", "name matches", "CertificateVerify correct"),
            "--cacert",
        ),
        (
            _flipping,
            35,
            "CertificateVerify correct",
            ("certificate valid", "name matches", "signed by a trusted CA"),
            "CertificateVerify",
        ),
    ],
    ids=["wrong-name", "expired", "unknown-ca", "flipped-byte"],
)
def test_get_refused_server_is_shown_check_by_check_and_sent_nothing(
    get: Get, make: Callable[[], Credential], code: int, wrong: str, right: tuple[str, ...], words: str
) -> None:
    with Server(ServerConfig(credentials=(make(),))) as server:
        found = get(server.url)
        as_json = json.loads(get(server.url, "--json").out)
    assert found.code == code
    assert found.out == b""
    assert f" | ✘ {wrong} · " in found.err
    for group in right:
        assert f" | ✔ {group} · " in found.err
    assert words in found.err
    assert (server.requests, server.handshakes) == ([], 0)
    assert all("AlertReceived" in error for error in server.errors) and len(server.errors) == 2
    assert as_json["error"]["exit_code"] == code
    assert as_json["error"]["verification"]["groups"][wrong] == "failed"


def test_get_evidence_from_a_certificate_cannot_write_to_the_terminal(get: Get) -> None:
    leaf = CA("evil\x1b[2J\nCA").issue("localhost")
    with Server(ServerConfig(credentials=(credential(leaf),))) as server:
        found = get(server.url)
    assert found.code == 60
    assert "\x1b" not in found.err


def test_get_truncated_body_exits_with_56(get: Get) -> None:
    cut = response(b"only half", length=False)
    with Server(answers=[cut], close_notify=False) as server:
        found = get(server.url)
        assert (found.code, found.out) == (56, b"only half")
        assert "close_notify" in found.err
    with Server(answers=[response(b"x" * 10)[:-3]]) as server:
        assert get(server.url).code == 56


def test_get_cannot_connect_or_resolve(get: Get) -> None:
    port = free_port()
    found = get(f"https://127.0.0.1:{port}/")
    assert (found.code, "refused" in found.err) == (7, True)
    assert get("https://nowhere.invalid/", "--connect-timeout", 5).code in {6, 28}


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH\r\n", b"\x15\x03\x03\x00\x02\x02\x28"])
def test_get_server_that_does_not_shake_hands_exits_with_35(get: Get, greeting: bytes) -> None:
    def greet() -> None:
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(10)
            if greeting[:1] != b"S":
                sock.recv(2**16)
            sock.sendall(greeting)
            if greeting:
                sock.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):  # the client has closed, as it should
                    while sock.recv(2**16):
                        pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet)
        thread.start()
        found = get(f"https://127.0.0.1:{listener.getsockname()[1]}/", "--connect-timeout", 10)
        thread.join(10)
    assert found.code == 35, found.err


def test_get_time_limits_exit_with_28(get: Get, server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        started = time.monotonic()
        assert get(url, "--connect-timeout", 0.2).code == 28
        assert get(url, "--max-time", 0.2).code == 28
        assert time.monotonic() - started < 5
    server.answers = [response(b"x" * 10)[:-3]]
    assert get(server.url, "-m", 5).code == 56


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["http://localhost/"], 2, "https://localhost/"),
        (["ftp://localhost/"], 2, "not an https:// URL"),
        (["https://"], 2, "not an https:// URL"),
        (["https://localhost:99999/"], 2, "no port 99999"),
        (["https://localhost:0/"], 2, "no port 0"),
        (["https://localhost/", "-H", "nonsense"], 2, "NAME: VALUE"),
        (["https://localhost/", "-d", "@/no/such/file"], 26, "cannot read"),
        (["https://localhost/", "--cacert", "/no/such/file"], 77, "cannot read"),
        (["https://localhost/", "--key", "x"], 2, "--cert"),
        (["https://localhost/", "--keylog", "/no/such/dir/x"], 23, "key log"),
    ],
)
def test_get_wrong_arguments_are_told(get: Get, arguments: list[str], code: int, words: str) -> None:
    found = get(*arguments)
    assert (found.code, words in found.err) == (code, True), found.err


# ---- the program itself --------------------------------------------------------------------------------------------


def program(*arguments: object, **keywords: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-W", "error", "-m", "pellucid", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=30, check=False, **keywords)


def test_get_as_a_program_ends_quietly_when_its_reader_has_gone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_bytes(AUTHORITY.root_pem)
    server.answers = [response(bytes(5_000_000))]
    command = [sys.executable, "-m", "pellucid", "get", "--cacert", str(tmp_path / "root.pem"), server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        told = process.stderr.read().decode()
        assert process.wait(20) == 23
    assert "Traceback" not in told and "Exception ignored" not in told


@pytest.mark.program("openssl")
@pytest.mark.parametrize("version", ["-tls1_3", "-tls1_2"])
def test_get_from_openssl(version: str, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_bytes(LEAF.chain_pem)
    (tmp_path / "key.pem").write_bytes(LEAF.key_pem)
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.root_pem)
    command = ["openssl", "s_server", version, "-www", "-accept", "127.0.0.1:0", "-cert", "cert.pem", "-key", "key.pem"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if line.startswith(b"ACCEPT"))
            port = int(line.rpartition(b":")[2])
            found = program("get", f"https://localhost:{port}/", "--cacert", tmp_path / "ca.pem")
        finally:
            process.terminate()
            process.wait(10)
    if version == "-tls1_3":
        assert (found.returncode, found.stderr) == (0, b"")
        assert b"TLS_AES_256_GCM_SHA384" in found.stdout
    else:
        assert found.returncode == 35
        assert b"does not speak TLS 1.3" in found.stderr


def test_certificate_of_the_development_ca_is_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, get: Get
) -> None:
    monkeypatch.setenv("PELLUCID_HOME", str(tmp_path))
    development = DevelopmentCA.open(tmp_path)
    with Server(ServerConfig(credentials=(development.credential(),))) as server:
        refused = get(server.url)
        assert refused.code == 60
        assert f"development CA issued it, as it says: --cacert {development.certificate_path}" in refused.err
        assert get("--cacert", development.certificate_path, server.url, trust=False).code == 0
    with Server(ServerConfig(credentials=(credential(CA("another").issue("localhost")),))) as server:
        assert "development CA" not in get(server.url).err
