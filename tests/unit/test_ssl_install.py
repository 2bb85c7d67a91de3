"""`pellucid.install`: programs that know nothing of Pellucid speak TLS by it, and verify; then all is as it was."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pellucid
from pellucid.config import ClientHelloInfo, Credential, ServerConfig
from pellucid.integrations import ssl_install
from pellucid.integrations.ssl_context import SSLContext
from pellucid.registry import is_grease
from pellucid.testing.ca import CA, Issued
from tests.support.needs import need_module

AUTHORITY = CA("install root")
GOOD, STRANGER = AUTHORITY.issue("localhost", "127.0.0.1"), CA("nobody").issue("localhost", "127.0.0.1")

HTTP = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class Service:
    """A server in a thread: its answer to each line, and whether the clients that came were Pellucid's."""

    def __init__(self, leaf: Issued, greeting: bytes, answer: Callable[[bytes], bytes | None]) -> None:
        self.ours: list[bool] = []
        self._credential = Credential.from_pem(leaf.chain_pem, leaf.key_pem)
        self._context = SSLContext(
            ServerConfig(credentials=(self._credential,), credential_resolver=self._look, tickets=0)
        )
        self._greeting, self._answer = greeting, answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _look(self, hello: ClientHelloInfo) -> Credential:
        self.ours.append(any(map(is_grease, hello.cipher_suites)))  # OpenSSL sends no GREASE
        return self._credential

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(plain,), daemon=True).start()

    def _talk(self, plain: socket.socket) -> None:
        with plain, contextlib.suppress(OSError):
            plain.settimeout(20)
            self._answer_lines(plain)

    def _answer_lines(self, plain: socket.socket) -> None:
        with self._context.wrap_socket(plain, server_side=True) as secure, secure.makefile("rb") as lines:
            if self._greeting:
                secure.sendall(self._greeting)
            for line in lines:
                said = self._answer(line)
                if said:
                    secure.sendall(said)
                if said is None or said == HTTP:
                    return

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


def http(line: bytes) -> bytes:
    return b"" if line.strip() else HTTP


def smtp(line: bytes) -> bytes:
    return {b"QUIT": b"221 bye\r\n"}.get(line.split()[0].upper(), b"250 ok\r\n")


def imap(line: bytes) -> bytes:
    tag, command = line.split()[:2]
    told = {b"CAPABILITY": b"* CAPABILITY IMAP4rev1\r\n", b"LOGOUT": b"* BYE\r\n"}.get(command.upper(), b"")
    return told + tag + b" OK done\r\n"


@contextlib.contextmanager
def services(greeting: bytes, answer: Callable[[bytes], bytes | None]) -> Iterator[tuple[Service, Service]]:
    good, stranger = Service(GOOD, greeting, answer), Service(STRANGER, greeting, answer)
    try:
        yield good, stranger
    finally:
        good.close()
        stranger.close()


def run(tmp_path: Path, script: str, *arguments: object, prelude: str = "import pellucid; pellucid.install()") -> str:
    """Run *script* after *prelude*, with our root as the system's; return what it printed."""
    root = tmp_path / "root.pem"
    root.write_bytes(AUTHORITY.root_pem)
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(script))
    runner = f"{prelude}\nimport runpy, sys\nsys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    environment = {**os.environ, "SSL_CERT_FILE": str(root), "REQUESTS_CA_BUNDLE": str(root), "NO_PROXY": "*"}
    done = subprocess.run(
        [sys.executable, "-c", runner, str(path), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


PROGRAMS: dict[str, tuple[tuple[str, ...], str]] = {
    "urllib": (
        (),
        """
        import sys, urllib.request, urllib.error
        print(urllib.request.urlopen(f"https://localhost:{sys.argv[1]}/").read())
        try:
            urllib.request.urlopen(f"https://localhost:{sys.argv[2]}/")
        except urllib.error.URLError as error:
            print(type(error.reason).__name__)
        """,
    ),
    "http.client": (
        (),
        """
        import http.client, sys
        for port in sys.argv[1:]:
            connection = http.client.HTTPSConnection("localhost", int(port))
            try:
                connection.request("GET", "/")
                print(connection.getresponse().read())
            except OSError as error:
                print(type(error).__name__)
            connection.close()
        """,
    ),
    "requests": (
        ("requests",),
        """
        import sys, requests
        print(requests.get(f"https://localhost:{sys.argv[1]}/").content)
        try:
            requests.get(f"https://localhost:{sys.argv[2]}/")
        except requests.exceptions.SSLError as error:
            print(type(error.args[0].reason.args[0]).__name__)
        """,
    ),
    "urllib3": (
        ("urllib3",),
        """
        import os, sys, urllib3
        pool = urllib3.PoolManager(retries=False, ca_certs=os.environ["SSL_CERT_FILE"])
        print(pool.request("GET", f"https://localhost:{sys.argv[1]}/").data)
        try:
            pool.request("GET", f"https://localhost:{sys.argv[2]}/")
        except urllib3.exceptions.SSLError as error:
            print(type(error.args[0]).__name__)
        """,
    ),
    "httpx": (
        ("httpx",),
        """
        import sys, httpx
        print(httpx.get(f"https://localhost:{sys.argv[1]}/").content)
        try:
            httpx.get(f"https://localhost:{sys.argv[2]}/")
        except httpx.ConnectError as error:
            print("CertificateRejected" if "CA" in str(error) else error)
        """,
    ),
    "httpx2": (
        ("httpx2",),
        """
        import asyncio, sys, httpx2
        async def main():
            async with httpx2.AsyncClient() as client:
                print((await client.get(f"https://localhost:{sys.argv[1]}/")).content)
                try:
                    await client.get(f"https://localhost:{sys.argv[2]}/")
                except httpx2.ConnectError as error:
                    print("CertificateRejected" if "CA" in str(error) else error)
        asyncio.run(main())
        """,
    ),
    "aiohttp": (
        ("aiohttp",),
        """
        import asyncio, sys, aiohttp
        async def main():
            async with aiohttp.ClientSession() as session:
                async with session.get(f"https://localhost:{sys.argv[1]}/") as response:
                    print(await response.read())
                try:
                    await session.get(f"https://localhost:{sys.argv[2]}/")
                except aiohttp.ClientConnectorCertificateError as error:
                    print(type(error.certificate_error).__name__)
        asyncio.run(main())
        """,
    ),
    "asyncio": (
        (),
        """
        import asyncio, ssl, sys
        async def main():
            for port in sys.argv[1:]:
                try:
                    reader, writer = await asyncio.open_connection("localhost", int(port), ssl=True)
                    writer.write(b"GET / HTTP/1.1\\r\\n\\r\\n")
                    print((await reader.read())[-2:])
                    writer.close()
                except ssl.SSLCertVerificationError as error:
                    print(type(error).__name__)
        asyncio.run(main())
        """,
    ),
    "smtplib": (
        (),
        """
        import smtplib, ssl, sys
        for port in sys.argv[1:]:
            try:
                with smtplib.SMTP_SSL("localhost", int(port)) as mail:
                    print(mail.noop()[1])
            except ssl.SSLCertVerificationError as error:
                print(type(error).__name__)
        """,
    ),
    "imaplib": (
        (),
        """
        import imaplib, ssl, sys
        for port in sys.argv[1:]:
            try:
                with imaplib.IMAP4_SSL("localhost", int(port)) as mail:
                    print(mail.noop()[0].lower().encode())
            except ssl.SSLCertVerificationError as error:
                print(type(error).__name__)
        """,
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_install_unmodified_program_speaks_by_pellucid_and_verifies(name: str, tmp_path: Path) -> None:
    modules, script = PROGRAMS[name]
    for module in modules:
        need_module(module)
    greeting, answer = {"smtplib": (b"220 hi\r\n", smtp), "imaplib": (b"* OK hi\r\n", imap)}.get(name, (b"", http))
    with services(greeting, answer) as (good, stranger):
        printed = run(tmp_path, script, good.port, stranger.port)
        assert printed.splitlines() == ["b'ok'", "CertificateRejected"]
        assert good.ours and all(good.ours)
        assert all(stranger.ours)


SERVER = """
import http.server, ssl, sys, threading, urllib.request
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
asked = []
context.sni_callback = lambda sslobj, name, context: asked.append((type(sslobj).__name__, name))
context.set_ciphers("ECDHE+AESGCM")
context.minimum_version = ssl.TLSVersion.TLSv1_2
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever).start()
with urllib.request.urlopen(f"https://localhost:{server.server_port}/") as answer:
    print(answer.read(), asked)
print(context.session_stats()["accept_good"], isinstance(server.socket, ssl.SSLSocket))
server.shutdown()
server.server_close()
"""


def test_install_unmodified_server_serves_by_pellucid(tmp_path: Path) -> None:
    (tmp_path / "pair.pem").write_bytes(GOOD.chain_pem + GOOD.key_pem)
    printed = run(tmp_path, SERVER, tmp_path / "pair.pem")
    assert printed.splitlines() == ["b'ok' [('SSLSocket', 'localhost')]", "1 True"]


UNVERIFIED = """
import sys, requests, urllib3, aiohttp, asyncio, ssl, urllib.request
urllib3.disable_warnings()
port = sys.argv[1]
async def get():
    async with aiohttp.ClientSession() as session, session.get(f"https://localhost:{port}/", ssl=False) as response:
        return await response.read()
for action in (
    lambda: requests.get(f"https://localhost:{port}/", verify=False).content,
    lambda: asyncio.run(get()),
    lambda: urllib.request.urlopen(f"https://localhost:{port}/", context=ssl._create_unverified_context()).read(),
):
    try:
        print(action())
    except Exception as error:
        print("dangerous_allow_unverified" in str(error))
print("BEGIN CERTIFICATE" in ssl.get_server_certificate(("localhost", int(port))))
"""


@pytest.mark.parametrize(("allowed", "outcome"), [("False", "True"), ("True", "b'ok'")])
def test_install_turning_verification_off_is_refused_unless_it_is_allowed(
    allowed: str, outcome: str, tmp_path: Path
) -> None:
    for module in ("requests", "aiohttp"):
        need_module(module)
    with services(b"", http) as (_, stranger):
        prelude = f"import pellucid; pellucid.install(dangerous_allow_unverified={allowed})"
        printed = run(tmp_path, UNVERIFIED, stranger.port, prelude=prelude)
        assert printed.splitlines() == [outcome, outcome, outcome, "True"]


def test_install_after_the_libraries_and_beside_truststore(tmp_path: Path) -> None:
    """What was imported before has references of its own, and contexts that it made."""
    for module in ("requests", "aiohttp", "truststore"):
        need_module(module)
    script = PROGRAMS["aiohttp"][1]
    preludes = (
        "import aiohttp, requests, pellucid; pellucid.install()",
        "import truststore; truststore.inject_into_ssl(); import aiohttp, pellucid; pellucid.install()",
        "import pellucid, aiohttp; pellucid.install(); import truststore; pellucid.uninstall(); pellucid.install()",
    )
    for prelude in preludes:
        with services(b"", http) as (good, stranger):
            printed = run(tmp_path, script, good.port, stranger.port, prelude=prelude)
            assert printed.splitlines() == ["b'ok'", "CertificateRejected"], prelude
            assert all(good.ours), prelude


# ---- in this process -----------------------------------------------------------------------------------------------


class Kept:
    """What stands in `ssl`: within a class, for names of modules are replaced."""

    names = ("SSLContext", "create_default_context", "_create_stdlib_context", "_create_default_https_context")
    names = (*names, "get_server_certificate", "_create_unverified_context")

    def __init__(self) -> None:
        self.now = {name: getattr(ssl, name) for name in self.names}


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = Kept().now
    yield
    assert Kept().now == before
    assert ssl_install._installation._now is None


def test_installed_blocks_nest_and_all_is_restored() -> None:
    real = [ssl.SSLContext]
    elsewhere = ModuleType("tests_elsewhere")
    elsewhere.named = ssl.SSLContext  # type: ignore[attr-defined]
    elsewhere.made = ssl.create_default_context  # type: ignore[attr-defined]
    sys.modules["tests_elsewhere"] = elsewhere
    try:
        with pellucid.installed():
            outer = [ssl.SSLContext]
            assert issubclass(outer[0], SSLContext) and elsewhere.named is outer[0]
            assert isinstance(ssl.create_default_context(), SSLContext)
            with pellucid.installed(dangerous_allow_unverified=True):
                assert ssl.SSLContext is not outer[0] and elsewhere.named is ssl.SSLContext
                elsewhere.later = ssl.SSLContext  # type: ignore[attr-defined]
                context = ssl._create_unverified_context()
                assert context.verify_mode is ssl.CERT_NONE
            assert ssl.SSLContext is outer[0] is elsewhere.later
            pellucid.install()
            pellucid.install()
        assert ssl.SSLContext is outer[0]
        pellucid.uninstall()
        pellucid.uninstall()
        assert real[0] is ssl.SSLContext is elsewhere.named is elsewhere.later
        assert elsewhere.made is ssl.create_default_context
    finally:
        del sys.modules["tests_elsewhere"]


def test_installed_program_that_has_its_own_idea_of_https_keeps_it() -> None:
    with pellucid.installed():
        ssl._create_default_https_context = ssl._create_unverified_context
        with pellucid.installed(dangerous_allow_unverified=True):
            assert ssl._create_default_https_context is ssl._create_unverified_context
        assert ssl._create_default_https_context is ssl._create_unverified_context
    ssl._create_default_https_context = ssl.create_default_context


def test_installed_leaves_what_somebody_else_put_there() -> None:
    with pellucid.installed():
        theirs = type("Theirs", (ssl.SSLContext,), {})
        ssl.SSLContext = theirs  # type: ignore[misc]
        https = ssl._create_default_https_context
        ssl._create_default_https_context = ssl._create_unverified_context
    assert ssl.SSLContext is theirs
    assert ssl._create_default_https_context is ssl._create_unverified_context
    ssl.SSLContext = SSLContext.__mro__[-3]  # type: ignore[misc]
    ssl._create_default_https_context = ssl.create_default_context
    assert https is not ssl.create_default_context


def test_installed_real_contexts_from_before_stay_what_they_are() -> None:
    real = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ours = SSLContext()
    with pellucid.installed():
        assert isinstance(real, ssl.SSLContext) and isinstance(ours, ssl.SSLContext)
        assert not isinstance(real, SSLContext)
        real.check_hostname = False
        real.verify_mode = ssl.CERT_NONE
        real.minimum_version = real.maximum_version = ssl.TLSVersion.TLSv1_2
        real.options |= ssl.OP_NO_TICKET
        real.verify_flags |= ssl.VERIFY_X509_STRICT
        assert (real.verify_mode, real.maximum_version) == (ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2)
        assert real.options & ssl.OP_NO_TICKET and real.verify_flags & ssl.VERIFY_X509_STRICT
        made = ssl.create_default_context(cadata=AUTHORITY.root_pem.decode())
    assert isinstance(made, ssl.SSLContext)  # as code asks that was not patched


def test_installed_class_can_be_derived_from_as_ssl_can() -> None:
    with pellucid.installed():

        class Mine(ssl.SSLContext):
            def __new__(cls, *_: Any) -> Any:
                made = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
                made.post_handshake_auth = True
                return made

            def __init__(self, label: str) -> None:
                self.label = label

            @property
            def verify_mode(self) -> ssl.VerifyMode:  # type: ignore[override]
                return super().verify_mode

        mine = Mine("x")
        assert (mine.label, mine.protocol, mine.post_handshake_auth) == ("x", ssl.PROTOCOL_TLS_SERVER, True)
        assert mine.verify_mode is ssl.CERT_NONE
        assert isinstance(mine, ssl.SSLContext) and issubclass(Mine, ssl.SSLContext)
        assert not isinstance(ssl.create_default_context(), Mine)


def test_installed_in_many_threads_ends_as_it_began() -> None:
    def work() -> None:
        for turn in range(5):
            with pellucid.installed(dangerous_allow_unverified=bool(turn % 2)):
                assert isinstance(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), SSLContext)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
