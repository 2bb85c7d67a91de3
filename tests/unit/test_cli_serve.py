"""`pellucid serve` as a program: curl and httpx2 against it, how it stops, what it refuses, the development CA."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import http.client
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import h2.connection
import httpx2
import pytest

from pellucid.cli.common import CommandFailed
from pellucid.cli.development_ca import DevelopmentCA, data_directory
from pellucid.cli.main import main
from pellucid.config import ClientConfig, Credential
from pellucid.integrations.ssl_context import SSLContext
from pellucid.net.load import load_trust
from pellucid.net.sync import connect
from pellucid.registry import SignatureScheme as S
from pellucid.testing.ca import CA, DAY, KeyKind
from pellucid.verify.report import CertificateRejected
from tests.support.programs import Pellucid

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and permissions are POSIX's")

APPLICATION = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for _ in range(2):
            message = await receive()
            await send({"type": message["type"] + ".complete"})
        return
    if scope["path"] == "/slow":
        print("started", flush=True)
        await asyncio.sleep(1)
    if scope["path"] == "/never":
        print("started", flush=True)
        await asyncio.sleep(3600)
    if scope["path"] == "/endless":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        print("started", flush=True)
        try:
            while True:
                await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
        finally:
            print("ended", flush=True)
    text = scope["scheme"] + " " + scope["http_version"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": text.encode()})

number = 1
"""


@dataclass
class Running:
    """A server that was started, and what it has said."""

    process: subprocess.Popen[str] | Pellucid
    url: str
    said: list[str] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rstrip("/").rpartition(":")[2])

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)

    def wait_for(self, words: str, lines: list[str]) -> None:
        end = time.monotonic() + 40
        while not any(words in line for line in lines):
            assert time.monotonic() < end, (words, lines)
            time.sleep(0.01)


Serve = Callable[..., AbstractContextManager[Running]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def serve(tmp_path: Path, home: Path) -> Serve:
    """Start `pellucid serve` on a free port; it is stopped in the end, if it has not been."""
    return starting(Pellucid, tmp_path, home)


def starting(program: Callable[..., subprocess.Popen[str] | Pellucid], folder: Path, home: Path) -> Serve:
    """Return what starts *program* with the arguments of `pellucid`, a cwd and an env, and hears what it says."""
    environment = {name: value for name, value in os.environ.items() if name != "SSLKEYLOGFILE"}
    environment |= {"PELLUCID_HOME": str(home), "COLUMNS": "80"}

    @contextlib.contextmanager
    def start(*arguments: object) -> Iterator[Running]:
        with program("serve", "--port", "0", *map(str, arguments), cwd=folder, env=environment) as process:
            assert process.stdout is not None and process.stderr is not None
            running = Running(process, "")
            threads = [
                threading.Thread(target=lines.extend, args=(source,))
                for lines, source in ((running.said, process.stderr), (running.printed, process.stdout))
            ]
            try:
                for thread in threads:
                    thread.start()
                running.wait_for("https://", running.printed)
                running.url = running.printed[0].strip()
                yield running
            finally:
                process.kill()
                process.wait(10)
                for thread in threads:
                    thread.join(10)

    return start


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("hello")
    (tmp_path / "site" / "big").write_bytes(bytes(range(256)) * 20_000)
    return tmp_path / "site"


def client(root: Path, **config: object) -> SSLContext:
    return SSLContext(ClientConfig(trust=load_trust(root), **config))  # type: ignore[arg-type]


# ---- clients of every kind -----------------------------------------------------------------------------------------


def test_serve_directory_to_httpx_over_both_versions_of_http(serve: Serve, site: Path, home: Path) -> None:
    with serve(site) as server:
        root = home / "ca" / "ca.pem"
        for http2 in (True, False):
            with httpx2.Client(verify=client(root), http2=http2, trust_env=False) as session:
                found = session.get(server.url)
                assert (found.status_code, found.text) == (200, "hello")
                assert found.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
                assert session.get(server.url + "big").content == (site / "big").read_bytes()
                assert session.get(server.url + "none").status_code == 404
                tls = found.extensions["network_stream"].get_extra_info("ssl_object")
                assert tls.version() == "TLSv1.3"

        async def asynchronous() -> None:
            async with httpx2.AsyncClient(verify=client(root), http2=True, trust_env=False) as session:
                found = await asyncio.gather(*[session.get(server.url + "big") for _ in range(5)])
                assert {(one.http_version, len(one.content)) for one in found} == {("HTTP/2", 5_120_000)}

        asyncio.run(asyncio.wait_for(asynchronous(), 30))
        stranger = SSLContext(ClientConfig(trust=CA("nobody").trust))
        with httpx2.Client(verify=stranger, trust_env=False) as session, pytest.raises(httpx2.ConnectError) as caught:
            session.get(server.url)
        assert "unable to get local issuer certificate" in str(caught.value)
        server.wait_for("given up by the client: unknown_ca", server.said)
        assert server.stop() == 0


@pytest.mark.program("curl")
def test_serve_directory_to_curl_as_told(serve: Serve, site: Path, home: Path) -> None:
    with serve(site, "-v") as server:
        server.wait_for(" curl --cacert ", server.said)
        told = next(line for line in server.said if " curl --cacert " in line)
        command = told.split()[1:]
        assert command[0] == "curl" and command[-1] == server.url
        for option, version in (("--http2", "2"), ("--http1.1", "1.1")):
            arguments = [command[0], "-q", "-sS", "--noproxy", "*", option, "-w", " %{http_version}", *command[1:]]
            found = subprocess.run(arguments, capture_output=True, timeout=20, check=False, text=True)
            assert (found.returncode, found.stdout) == (0, f"hello {version}"), found.stderr
        assert server.stop(signal.SIGINT) == 0
    told = "".join(server.said)
    assert told.count("ClientHello") >= 2
    assert "connection 1" in told and "connection 2" in told
    assert server.printed == [f"{server.url}\n"]


def test_serve_directory_to_the_standard_library(serve: Serve, site: Path, home: Path) -> None:
    with serve(site) as server:
        context = ssl.create_default_context(cafile=home / "ca" / "ca.pem")
        for name in ("localhost", "127.0.0.1"):
            connection = http.client.HTTPSConnection(name, server.port, context=context, timeout=10)
            with contextlib.closing(connection):
                connection.request("GET", "/")
                assert connection.getresponse().read() == b"hello"


def test_serve_application_finishes_running_requests_when_stopped(serve: Serve, tmp_path: Path, home: Path) -> None:
    (tmp_path / "module.py").write_text(APPLICATION)
    with serve("module:app") as server:
        context = client(home / "ca" / "ca.pem")
        found: list[str] = []

        def request() -> None:
            with httpx2.Client(verify=context, http2=True, trust_env=False) as session:
                found.append(session.get(server.url + "slow").text)

        thread = threading.Thread(target=request)
        thread.start()
        server.wait_for("started", server.printed)
        assert server.stop() == 0
        thread.join(10)
    assert found == ["https 2"]


@pytest.mark.parametrize("http2", [True, False])
@pytest.mark.parametrize("hurry", [False, True])
def test_serve_request_that_does_not_end_is_ended_after_the_time_of_grace_or_a_second_signal(
    serve: Serve, tmp_path: Path, home: Path, http2: bool, hurry: bool
) -> None:
    (tmp_path / "module.py").write_text(APPLICATION)
    with serve("module:app", "--grace", "60" if hurry else "0.2") as server:
        context = client(home / "ca" / "ca.pem")
        ended: list[object] = []

        def request() -> None:
            try:
                with httpx2.Client(verify=context, http2=http2, trust_env=False, timeout=20) as session:
                    ended.append(session.get(server.url + "never").status_code)
            except httpx2.HTTPError as error:
                ended.append(error)

        thread = threading.Thread(target=request)
        thread.start()
        server.wait_for("started", server.printed)
        if hurry:
            server.process.send_signal(signal.SIGTERM)
            server.process.send_signal(signal.SIGTERM)  # the same one: it ends nothing
            time.sleep(0.7)
            assert server.process.poll() is None
        assert server.stop() == 0
        thread.join(20)
    assert len(ended) == 1 and ended != [200]
    assert "Traceback" not in "".join(server.said)


@pytest.mark.parametrize("http2", [True, False])
def test_serve_stops_at_once_though_clients_keep_their_connections(
    serve: Serve, site: Path, home: Path, http2: bool
) -> None:
    with serve(site) as server:
        context = client(home / "ca" / "ca.pem")
        with httpx2.Client(verify=context, http2=http2, trust_env=False) as session:
            assert session.get(server.url).text == "hello"
            started = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - started < 4
    assert "Traceback" not in "".join(server.said)


def test_get_shows_the_headers_that_http2_carried(
    serve: Serve, site: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(site) as server, pytest.raises(SystemExit) as caught:
        main(["get", "-v", "--cacert", str(home / "ca" / "ca.pem"), server.url])
    said = capsys.readouterr().err
    assert not caught.value.code
    assert "> GET / HTTP/2" in said and "> user-agent: " in said and "> connection:" not in said, said


@pytest.mark.parametrize("directory", [True, False])
def test_serve_answer_before_the_end_of_the_request_leaves_the_connection_whole(
    serve: Serve, site: Path, tmp_path: Path, home: Path, directory: bool
) -> None:
    (tmp_path / "module.py").write_text(APPLICATION)
    with serve(site if directory else "module:app") as server:
        context = client(home / "ca" / "ca.pem")
        with httpx2.Client(verify=context, http2=True, trust_env=False) as session:
            for size in (1, 1_000_000):
                response = session.post(server.url, content=bytes(size))
                assert (response.status_code, response.http_version) == (405 if directory else 200, "HTTP/2")
        assert server.stop() == 0
    assert "Traceback" not in "".join(server.said)


@pytest.mark.parametrize("whole", [True, False], ids=["connection", "stream"])
def test_serve_request_whose_client_has_gone_is_ended(serve: Serve, tmp_path: Path, home: Path, whole: bool) -> None:
    (tmp_path / "module.py").write_text(APPLICATION)
    with serve("module:app") as server:
        context = client(home / "ca" / "ca.pem", alpn=("h2",))
        peer = h2.connection.H2Connection()
        peer.initiate_connection()
        named = [(":method", "GET"), (":path", "/endless"), (":scheme", "https"), (":authority", "localhost")]
        peer.send_headers(1, named, end_stream=True)
        with context.wrap_socket(
            socket.create_connection(("127.0.0.1", server.port)), server_hostname="localhost"
        ) as stream:
            stream.sendall(peer.data_to_send())
            server.wait_for("started", server.printed)
            stream.recv(10)
            if not whole:
                peer.reset_stream(1)
                stream.sendall(peer.data_to_send())
                server.wait_for("ended", server.printed)
        server.wait_for("ended", server.printed)
        assert server.stop() == 0
    assert "Traceback" not in "".join(server.said)


def test_serve_application_that_does_not_start_is_told(tmp_path: Path, home: Path) -> None:
    (tmp_path / "module.py").write_text(
        """async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
"""
    )
    ended = subprocess.run(
        [sys.executable, "-m", "pellucid", "serve", "--port", "0", "module:app"],
        cwd=tmp_path, env={**os.environ, "PELLUCID_HOME": str(home)}, capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "no database" in ended.stderr and "internal error" not in ended.stderr


def test_serve_asks_clients_for_certificates(serve: Serve, site: Path, tmp_path: Path, home: Path) -> None:
    authority = CA("clients")
    (tmp_path / "clients.pem").write_bytes(authority.root_pem)
    leaf = authority.issue("somebody", purposes=("client",))
    credential = Credential.from_pem(leaf.chain_pem, leaf.key_pem)
    with serve(site, "--client-ca", "clients.pem", "--keylog", "keys") as server:
        root = home / "ca" / "ca.pem"
        with httpx2.Client(verify=client(root, credentials=(credential,)), trust_env=False) as session:
            assert session.get(server.url).text == "hello"
        with httpx2.Client(verify=client(root), trust_env=False) as session, pytest.raises(httpx2.HTTPError):
            session.get(server.url)
        server.wait_for("refused (certificate_required)", server.said)
    assert "CLIENT_TRAFFIC_SECRET_0 " in (tmp_path / "keys").read_text()
    with (
        serve(site, "--client-ca", "clients.pem", "--client-auth", "optional") as server,
        httpx2.Client(verify=client(root), trust_env=False) as session,
    ):
        assert session.get(server.url).text == "hello"


def test_serve_staples_the_ocsp_response_of_a_file(serve: Serve, site: Path, tmp_path: Path) -> None:
    authority = CA("stapling")
    leaf = authority.issue("localhost", "127.0.0.1")
    (tmp_path / "own.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
    first, second = (authority.ocsp_response(leaf, digest=digest) for digest in ("sha1", "sha256"))
    staple = tmp_path / "staple.der"
    staple.write_bytes(first)
    with serve(site, "--cert", "own.pem", "--ocsp", "staple.der") as server:
        config = ClientConfig(trust=authority.trust)
        for seconds, response in enumerate((first, second), 1):
            staple.write_bytes(response)
            os.utime(staple, (seconds, seconds))
            with connect("127.0.0.1", server.port, config, timeout=10) as stream:
                assert stream.negotiated.peer_ocsp_response == response


def test_serve_slow_handshake_holds_nobody_up(serve: Serve, site: Path, home: Path) -> None:
    with serve(site) as server:
        silent = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(20)]
        try:
            for sock in silent:
                sock.sendall(b"\x16\x03\x01")
            started = time.monotonic()
            with httpx2.Client(verify=client(home / "ca" / "ca.pem"), trust_env=False) as session:
                assert session.get(server.url).text == "hello"
            assert time.monotonic() - started < 3
        finally:
            for sock in silent:
                sock.close()
        assert server.stop() == 0


def test_serve_certificate_from_files_and_pkcs12(serve: Serve, site: Path, tmp_path: Path) -> None:
    authority = CA("own")
    leaf = authority.issue("localhost")
    (tmp_path / "ca.pem").write_bytes(authority.root_pem)
    (tmp_path / "cert.pem").write_bytes(leaf.chain_pem)
    (tmp_path / "key.pem").write_bytes(leaf.key_pem)
    (tmp_path / "both.p12").write_bytes(_pkcs12(leaf.chain_pem, leaf.key_pem, b"pass"))
    for arguments in (["--cert", "cert.pem", "--key", "key.pem"], ["--cert", "both.p12", "--pass", "pass"]):
        with serve(site, *arguments) as server:
            with httpx2.Client(verify=client(tmp_path / "ca.pem"), trust_env=False) as session:
                assert session.get(server.url).text == "hello"
            assert "".join(server.said) == ""


def test_serve_of_several_certificates_shows_one_that_the_client_can_verify(
    serve: Serve, site: Path, tmp_path: Path
) -> None:
    authority = CA("several")
    kinds: dict[str, KeyKind] = {"ecdsa": "p256", "rsa": "rsa2048"}
    for name, kind in kinds.items():
        leaf = authority.issue("localhost", key=kind)
        (tmp_path / f"{name}.pem").write_bytes(leaf.chain_pem)
        (tmp_path / f"{name}.key").write_bytes(leaf.key_pem)
    certificates = ("--cert", "ecdsa.pem", "--cert", "rsa.pem")
    with serve(site, *certificates, "--key", "ecdsa.key", "--key", "rsa.key") as server:
        port = int(server.url.rsplit(":", 1)[1].strip("/"))
        for schemes in ((S.RSA_PSS_RSAE_SHA256,), (S.ECDSA_SECP256R1_SHA256,), (S.ED25519, S.RSA_PSS_RSAE_SHA256)):
            config = ClientConfig(
                trust=authority.trust,
                signature_schemes=schemes,
                signature_algorithms_cert=(S.ECDSA_SECP256R1_SHA256,),
                alpn=("http/1.1",),
            )
            with connect("localhost", port, config) as stream:
                assert stream.negotiated is not None
                assert stream.negotiated.signature_scheme == schemes[-1]


def _pkcs12(chain: bytes, key: bytes, password: bytes) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        load_pem_private_key,
        pkcs12,
    )

    certificate = x509.load_pem_x509_certificate(chain)
    private_key = load_pem_private_key(key, None)
    return pkcs12.serialize_key_and_certificates(
        b"name",
        private_key,
        certificate,
        None,
        BestAvailableEncryption(password),  # type: ignore[arg-type]
    )


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run `pellucid serve`, which must end at once; give its exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PELLUCID_HOME", str(home))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("asyncio.run", _never)

    def run(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            main(["serve", "--port", "0", *map(str, arguments)])
        captured = capsys.readouterr()
        assert captured.out == ""
        return int(caught.value.code or 0), captured.err

    return run


def _never(coroutine: object) -> None:
    raise AssertionError("the server was started")


def test_serve_refuses_pairs_that_nobody_would_accept(
    refused: Callable[..., tuple[int, str]], site: Path, tmp_path: Path
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    authority = CA("own")
    for name, leaf in {
        "old": authority.issue("localhost", not_before=now - 9 * DAY, not_after=now - DAY),
        "new": authority.issue("localhost", not_before=now + DAY, not_after=now + 9 * DAY),
        "good": authority.issue("localhost"),
    }.items():
        (tmp_path / f"{name}.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
        (tmp_path / f"{name}.key").write_bytes(leaf.key_pem)
    (tmp_path / "good.p12").write_bytes(_pkcs12((tmp_path / "good.pem").read_bytes(), leaf.key_pem, b"x"))
    for arguments, words in (
        (["--cert", "old.pem"], "expired on"),
        (["--cert", "new.pem"], "not valid before"),
        (["--cert", "good.pem", "--key", "old.key"], "does not belong to the certificate"),
        (["--cert", "none.pem"], "cannot read none.pem"),
        (["--cert", "good.p12"], "hint: give the private key's password"),
        (["--cert", "good.p12", "--key", "good.key"], "holds its key itself"),
    ):
        code, said = refused(site, *arguments)
        assert (code, words in said) == (58, True), said


def test_serve_refuses_what_it_cannot_serve(
    refused: Callable[..., tuple[int, str]], site: Path, tmp_path: Path
) -> None:
    (tmp_path / "served.py").write_text(APPLICATION)
    (tmp_path / "served_broken.py").write_text("def broken(:")
    leaf = CA("own").issue("localhost")
    (tmp_path / "own.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
    for arguments, code, words in (
        (["nothing"], 2, "neither a directory nor MODULE:APP"),
        ([site / "index.html"], 2, "neither a directory nor MODULE:APP"),
        (["no_such_module_here:app"], 2, "cannot import"),
        (["served_broken:app"], 2, "cannot import 'served_broken': SyntaxError"),
        (["served:nothing"], 2, "has no 'nothing'"),
        (["served:number"], 2, "cannot be called"),
        ([site, "--key", "key.pem"], 2, "--cert"),
        ([site, "--client-auth", "optional"], 2, "--client-ca"),
        ([site, "--ocsp", "staple.der"], 2, "--cert"),
        ([site, "--cert", "own.pem", "--cert", "own.pem", "--ocsp", "staple.der"], 2, "it answers for one"),
        ([site, "--cert", "own.pem", "--cert", "own.pem", "--key", "key.pem"], 2, "once for each --cert"),
        ([site, "--cert", "own.pem", "--ocsp", "none.der"], 26, "cannot read none.der"),
        ([site, "--client-ca", "none.pem"], 77, "cannot read none.pem"),
        ([site, "--host", "nowhere.invalid"], 6, "nowhere.invalid"),
        ([site, "--host", "192.0.2.1"], 7, "not an address of this machine"),
    ):
        found, said = refused(*arguments)
        assert (found, words in said) == (code, True), said
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, said = refused(site, "--port", taken.getsockname()[1])
        assert (code, "another program listens there" in said) == (7, True)


# ---- the development CA --------------------------------------------------------------------------------------------


def test_devcert_root_is_made_once_and_its_key_is_the_owners(tmp_path: Path) -> None:
    first = DevelopmentCA.open(tmp_path)
    again = DevelopmentCA.open(tmp_path)
    assert (first.created, again.created) == (True, False)
    assert first.authority.root_der == again.authority.root_der
    assert stat.S_IMODE((tmp_path / "ca" / "ca-key.pem").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca"]
    names = again.credential("example.test", "192.0.2.1").names
    assert names == ("localhost", "example.test", "127.0.0.1", "::1", "192.0.2.1")
    assert again.credential().leaf.der != again.credential().leaf.der


def test_devcert_root_that_ends_soon_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = DevelopmentCA.open(tmp_path)
    monkeypatch.setattr("pellucid.cli.development_ca._RENEW_DAYS", 10_000)
    second = DevelopmentCA.open(tmp_path)
    assert second.created
    assert first.authority.root_der != second.authority.root_der


def test_devcert_many_starting_at_once_use_one_root(tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(DevelopmentCA.open(tmp_path).authority.root_der)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 8
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("path", "mode", "words"),
    [
        ("ca/ca-key.pem", 0o640, "others may read"),
        ("ca/ca.pem", 0o666, "others may change"),
        ("ca", 0o777, "may change"),
    ],
)
def test_devcert_files_open_to_others_are_refused(tmp_path: Path, path: str, mode: int, words: str) -> None:
    DevelopmentCA.open(tmp_path)
    (tmp_path / path).chmod(mode)
    with pytest.raises(CommandFailed, match=words) as caught:
        DevelopmentCA.open(tmp_path)
    assert caught.value.code == 58
    assert "chmod" in caught.value.hints[0]


def test_devcert_broken_or_foreign_files_are_refused(tmp_path: Path) -> None:
    DevelopmentCA.open(tmp_path / "one")
    DevelopmentCA.open(tmp_path / "two")
    key = tmp_path / "one" / "ca" / "ca-key.pem"
    key.write_bytes((tmp_path / "two" / "ca" / "ca-key.pem").read_bytes())
    with pytest.raises(CommandFailed, match="does not belong"):
        DevelopmentCA.open(tmp_path / "one")
    key.write_text("nonsense")
    with pytest.raises(CommandFailed, match="cannot be used"):
        DevelopmentCA.open(tmp_path / "one")
    key.unlink()
    with pytest.raises(CommandFailed, match="incomplete"):
        DevelopmentCA.open(tmp_path / "one")


def test_devcert_place_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PELLUCID_HOME", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert data_directory() == tmp_path / "pellucid"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert data_directory() == Path("/home/somebody/.local/share/pellucid")
    monkeypatch.setenv("PELLUCID_HOME", "/elsewhere")
    assert data_directory() == Path("/elsewhere")


def test_devcert_certificate_is_one_that_our_verifier_accepts(tmp_path: Path) -> None:
    authority = DevelopmentCA.open(tmp_path)
    server = SSLContext(_server(authority.credential()))
    trusting = client(authority.certificate_path)
    left, right = socket.socketpair()
    thread = threading.Thread(target=lambda: server.wrap_socket(right, server_side=True).close())
    thread.start()
    with trusting.wrap_socket(left, server_hostname="::1") as sock:
        assert sock.version() == "TLSv1.3"
        assert not isinstance(sock.report, CertificateRejected)
    thread.join(10)


def _server(credential: Credential):  # type: ignore[no-untyped-def]
    from pellucid.config import ServerConfig

    return ServerConfig(credentials=(credential,))
