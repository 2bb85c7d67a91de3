"""Resumption and early data from the command line: `get` and `serve` together, and each against others (attack E17)."""

# ruff: noqa: F401, F811 - fixtures of others
from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import h11
import pytest

from pellucid.cli.main import main
from pellucid.config import ClientConfig, ServerConfig
from pellucid.errors import TLSError
from pellucid.handshake.actions import EarlyDataOutcome
from pellucid.net.listener import listen
from pellucid.net.load import load_trust
from pellucid.net.sync import Stream, connect
from pellucid.sessions import MemorySessionStore, TicketKeys
from tests.support.ports import free_port
from tests.unit.test_cli_get import LEAF, Get, credential, get
from tests.unit.test_cli_serve import Running, Serve, home, serve
from tests.unit.test_net_early import HeldBack

APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for _ in range(2):
            message = await receive()
            await send({"type": message["type"] + ".complete"})
        return
    early = scope["extensions"]["pellucid"]["early_data"]
    header = [value.decode() for name, value in scope["headers"] if name == b"early-data"]
    print(scope["method"], scope["path"], scope["http_version"], early, header, flush=True)
    if scope["path"] == "/no":
        status = 425 if early or header else 200
    else:
        status = 200
    text = f"{scope['method']} {early} {header}".encode()
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})
"""


Ask = Callable[..., tuple[int, bytes, str]]


@dataclass
class Server:
    """HTTP/1.1 over a listener of ours: what came, whether it came early, and what is answered, the last for ever."""

    config: ServerConfig
    answers: list[bytes] = field(default_factory=lambda: [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi\n"])
    seen: list[tuple[bytes, bool, bool]] = field(default_factory=list)
    """the request, whether all of it came early, whether the connection was resumed"""
    errors: list[Exception] = field(default_factory=list)

    def __enter__(self) -> Server:
        self.listener = listen("127.0.0.1", 0, self.config)
        self.port = self.listener.address[1]
        self.url = f"https://localhost:{self.port}/"
        self.thread = threading.Thread(
            target=self.listener.serve,
            args=(self._handle,),
            kwargs={"on_error": lambda _stream, error: self.errors.append(error)},
            daemon=True,
        )
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()
        self.thread.join(10)

    def _handle(self, stream: Stream) -> None:
        stream.timeout = 10
        while True:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                data = stream.recv()
                if not data:
                    return
                request += data
            self.seen.append((request, stream.early_bytes_read == len(request), stream.negotiated.resumed))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            stream.sendall(answer)
            if b"Connection: close" in answer:
                return


def config(**changes: object) -> ServerConfig:
    return replace(
        ServerConfig(credentials=(credential(LEAF),), alpn=("http/1.1",), max_early_data=16_384),
        **changes,  # type: ignore[arg-type]
    )


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


# ---- get ---------------------------------------------------------------------------------------------------------


def test_get_second_time_resumes_without_certificates(get: Get, sessions: Path) -> None:
    with Server(config()) as server:
        first = get(server.url, "--session-file", sessions, "-v")
        second = get(server.url, "--session-file", sessions, "-v")
    assert (first.code, first.out) == (second.code, second.out) == (0, b"hi\n")
    assert "CertificateVerify" in first.err
    assert "no session was resumed: no session with this server is kept" in first.err
    assert "CertificateVerify" not in second.err
    assert "Certificate" not in second.err
    assert "psk          a ticket of an earlier connection" in second.err
    assert "Pre-shared key: resumption, because the server knows the ticket." in second.err
    assert "It resumed a session" in second.err
    assert "were verified at 20" in second.err
    assert [resumed for _, _, resumed in server.seen] == [False, True]
    assert stat.S_IMODE(os.stat(sessions).st_mode) == 0o600


def test_get_json_tells_of_resumption_since_when_and_why_not(get: Get, sessions: Path) -> None:
    with Server(config()) as server:
        first = json.loads(get(server.url, "--session-file", sessions, "--json").out)["tls"]
        second = json.loads(get(server.url, "--session-file", sessions, "--json").out)["tls"]
    assert first["resumed"] is False
    assert first["authenticated_at"] is None
    assert first["resumption"] == "no session with this server is kept"
    assert second["resumed"] is True
    assert second["authenticated_at"].startswith("20")
    assert second["resumption"] == "the server knows the ticket"
    assert second["early_data"] is None
    assert second["verification"]["accepted"] is True


def test_get_keeps_the_ticket_of_a_connection_that_the_server_closes(get: Get, sessions: Path) -> None:
    closing = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nhi\n"
    with Server(config(tickets=1), answers=[closing]) as server:
        for _ in range(4):
            assert get(server.url, "--session-file", sessions, "--early-data").code == 0
    assert [(early, resumed) for _, early, resumed in server.seen] == [(False, False)] + [(True, True)] * 3


def test_get_early_data_travels_with_the_client_hello(get: Get, sessions: Path) -> None:
    with Server(config()) as server:
        get(server.url, "--session-file", sessions)
        result = get(server.url, "--session-file", sessions, "--early-data", "-v")
        told = json.loads(get(server.url, "--session-file", sessions, "--early-data", "--json").out)["tls"]
    assert result.out == b"hi\n"
    (first, early, resumed), (second, *_), _ = server.seen
    assert (early, resumed) == (False, False)
    assert b"early-data" not in first
    assert server.seen[1][1:] == (True, True)
    assert b"early-data: 1\r\n" in second
    assert f"├─ early data ─────────────────────────── {len(second)} bytes · 🔒 early-data keys ─▶│" in result.err
    assert "EndOfEarlyData" in result.err
    assert f"{len(second)} bytes went early: accepted" in result.err
    assert told["early_data"] == {"sent": len(second), "accepted": True, "too_early": False, "reason": "accepted"}
    # Before the server has said a word.
    assert result.err.index("├─ early data") < result.err.index("ServerHello")


@pytest.mark.rfc("8470 §4", "only safe methods are sent in early data")
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(("-d", "a=b"), "POST is not a safe method"), (("-X", "DELETE"), "DELETE is not a safe method"),
     (("-X", "GET", "-d", "a=b"), "the request has a body")],
)  # fmt: skip
def test_get_sends_no_unsafe_request_early(get: Get, sessions: Path, arguments: tuple[str, ...], reason: str) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nhi\n"
    with Server(config(), answers=[answer]) as server:
        get(server.url, "--session-file", sessions)
        result = get(server.url, "--session-file", sessions, "--early-data", "-v", *arguments)
    assert f"nothing went early: {reason}" in result.err
    assert server.seen[1][1:] == (False, True)
    assert b"early-data" not in server.seen[1][0]


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_get_sends_other_safe_methods_early(get: Get, sessions: Path, method: str) -> None:
    answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    with Server(config(), answers=[answer]) as server:
        get(server.url, "--session-file", sessions)
        assert get(server.url, "--session-file", sessions, "--early-data", "-X", method).code == 0
    assert server.seen[1][0].startswith(method.encode())
    assert server.seen[1][1]


@pytest.mark.rfc("8470 §4", "what was rejected as early data is sent again as though the connection was new")
@pytest.mark.rfc("9846 §4.3.10", "after a rejection the application sends again, if it is for the same protocol")
def test_get_rejected_early_data_is_sent_again_by_http(get: Get, sessions: Path) -> None:
    keys = TicketKeys()
    with Server(config(sessions=keys)) as server:
        get(server.url, "--session-file", sessions)
        server.listener._config = config(sessions=keys, max_early_data=0)
        result = get(server.url, "--session-file", sessions, "--early-data", "-v")
        assert result.out == b"hi\n"
    assert len(server.seen) == 2
    request, early, resumed = server.seen[1]
    assert (early, resumed) == (False, True)
    assert b"early-data: 1" in request
    assert "Early data: rejected, because the server declined it." in result.err
    assert f"{len(request)} bytes went early: the server declined it" in result.err


def test_get_rejected_early_data_for_another_protocol_is_made_anew(get: Get, sessions: Path) -> None:
    keys = TicketKeys()
    with Server(config(sessions=keys, alpn=("other", "http/1.1"))) as server:
        get(server.url, "--session-file", sessions)
        # The session is of http/1.1; now the server speaks no protocol by name.
        server.listener._config = config(sessions=keys, alpn=())
        result = get(server.url, "--session-file", sessions, "--early-data", "--json")
    assert result.code == 0
    requests = [request for request, _, _ in server.seen]
    assert len(requests) == 2
    assert b"early-data" not in requests[1]
    assert json.loads(result.out)["tls"]["alpn"] is None


@pytest.mark.rfc("8470 §5.2", "a request that was too early is made again, not in early data")
@pytest.mark.parametrize("closing", [False, True])
def test_get_too_early_is_asked_again_without_early_data(get: Get, sessions: Path, closing: bool) -> None:
    close = b"Connection: close\r\n" if closing else b""
    late = b"HTTP/1.1 425 Too Early\r\n" + close + b"Content-Length: 5\r\n\r\nnope\n"
    with Server(config()) as server:
        get(server.url, "--session-file", sessions)
        server.answers[:0] = [late]
        result = get(server.url, "--session-file", sessions, "--early-data", "-v")
    assert (result.code, result.out) == (0, b"hi\n")
    (_, first, second) = server.seen
    assert first[1] and b"early-data: 1" in first[0]
    assert not second[1] and b"early-data" not in second[0]
    assert "the server found it too early (425), and it was asked again" in result.err


def test_get_425_without_early_data_is_an_answer_like_others(get: Get, sessions: Path) -> None:
    late = b"HTTP/1.1 425 Too Early\r\nContent-Length: 5\r\n\r\nnope\n"
    with Server(config(), answers=[late]) as server:
        result = get(server.url, "--session-file", sessions, "--early-data", "--fail")
    assert result.code == 22
    assert len(server.seen) == 1


def test_get_redirect_to_the_same_host_goes_over_the_connection_that_is_there(get: Get, sessions: Path) -> None:
    redirect = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"
    with Server(config()) as server:
        get(server.url, "--session-file", sessions)
        server.answers[:0] = [redirect]
        assert get(server.url, "--session-file", sessions, "--early-data", "-L").out == b"hi\n"
    assert [early for _, early, _ in server.seen] == [False, True, False]
    assert b"early-data" not in server.seen[2][0]


def test_get_request_longer_than_the_session_allows_goes_on_after_the_handshake(get: Get, sessions: Path) -> None:
    with Server(config(max_early_data=40)) as server:
        get(server.url, "--session-file", sessions)
        result = get(server.url, "--session-file", sessions, "--early-data", "-v")
    assert result.out == b"hi\n"
    assert server.seen[1][1:] == (False, True)
    assert "nothing went early" in result.err


def test_get_early_data_offers_the_protocols_of_all_other_connections(get: Get, sessions: Path) -> None:
    with Server(config(alpn=("h2", "http/1.1"))) as server:
        for _ in range(2):
            result = get(server.url, "--session-file", sessions, "--early-data", "--post-handshake-auth")
            assert (result.code, result.out) == (0, b"hi\n")
    assert [early for _, early, _ in server.seen] == [False, True]


def test_get_early_data_without_a_session_file_is_a_mistake(get: Get) -> None:
    assert get("https://localhost:1/", "--early-data").code == 2


def test_get_session_file_that_others_can_read_is_refused(get: Get, sessions: Path) -> None:
    sessions.touch(mode=0o644)
    os.chmod(sessions, 0o644)
    result = get("https://localhost:1/", "--session-file", sessions)
    assert result.code == 26
    assert "others may open it" in result.err
    assert f"chmod 600 {sessions}" in result.err


# ---- serve -------------------------------------------------------------------------------------------------------


@pytest.fixture
def app(tmp_path: Path) -> str:
    (tmp_path / "application.py").write_text(APPLICATION)
    return "application:app"


@dataclass
class Visitor:
    """Comes to a server of the command again and again, with sessions of its own."""

    running: Running
    alpn: str
    config: ClientConfig

    @classmethod
    def to(cls, running: Running, home: Path, alpn: str = "http/1.1") -> Visitor:
        trust = load_trust(str(home / "ca" / "ca.pem"))
        visitor = cls(running, alpn, ClientConfig(trust=trust, alpn=(alpn,), sessions=MemorySessionStore()))
        with connect("localhost", running.port, visitor.config) as stream:
            stream.timeout = 10
            assert stream.wait_for_ticket()
        return visitor

    def connect(self, early: bytes) -> Stream:
        stream = connect("localhost", self.running.port, self.config, early_data=early)
        stream.timeout = 10
        return stream


def answer(stream: Stream, client: h11.Connection) -> tuple[int, bytes]:
    """Return the status and body of one HTTP/1.1 response."""
    status, body = 0, b""
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA:
            client.receive_data(stream.recv())
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return status, body


def request(client: h11.Connection, method: str, path: str, body: bytes = b"", *headers: tuple[str, str]) -> bytes:
    fields = [("Host", "localhost"), *headers, *([("Content-Length", str(len(body)))] if body else [])]
    parts = [h11.Request(method=method, target=path, headers=fields), *([h11.Data(data=body)] if body else [])]
    return b"".join(client.send(part) or b"" for part in (*parts, h11.EndOfMessage()))


@pytest.mark.rfc("8470 §5.1", "the application is told that a request came early")
def test_serve_application_sees_that_a_request_came_early(serve: Serve, app: str, home: Path) -> None:
    with serve(app, "--early-data") as running:
        visitor = Visitor.to(running, home)
        client = h11.Connection(h11.CLIENT)
        with visitor.connect(request(client, "GET", "/early")) as stream:
            assert stream.early_data is EarlyDataOutcome.ACCEPTED
            assert answer(stream, client) == (200, b"GET True ['1']")
            client.start_next_cycle()
            stream.sendall(request(client, "GET", "/late"))
            assert answer(stream, client) == (200, b"GET False []")
        running.wait_for("/late", running.printed)
    assert "GET /early 1.1 True ['1']" in "".join(running.printed)


def test_serve_answers_early_data_before_the_handshake_is_complete(serve: Serve, app: str, home: Path) -> None:
    with serve(app, "--early-data") as running:
        visitor = Visitor.to(running, home)
        early = request(h11.Connection(h11.CLIENT), "GET", "/early")
        with HeldBack(running.port, visitor.config, early) as client:
            assert client.read(b"GET True ['1']")


@pytest.mark.rfc("8470 §5.2", "what is not safe is answered 425, and the exchange goes on")
def test_serve_refuses_an_unsafe_early_request_and_takes_it_later(serve: Serve, app: str, home: Path) -> None:
    with serve(app, "--early-data") as running:
        visitor = Visitor.to(running, home)
        client = h11.Connection(h11.CLIENT)
        with visitor.connect(request(client, "POST", "/order", b"one")) as stream:
            status, body = answer(stream, client)
            assert status == 425
            assert b"too early" in body
            client.start_next_cycle()
            stream.sendall(request(client, "POST", "/order", b"one"))
            assert answer(stream, client) == (200, b"POST False []")
        running.wait_for("/order", running.printed)
    assert "".join(running.printed).count("/order") == 1


def test_serve_refuses_an_unsafe_request_whose_body_comes_later(serve: Serve, app: str, home: Path) -> None:
    with serve(app, "--early-data") as running:
        visitor = Visitor.to(running, home)
        client = h11.Connection(h11.CLIENT)
        whole = request(client, "POST", "/order", b"0123456789")
        with visitor.connect(whole[:-5]) as stream:
            stream.sendall(whole[-5:])
            assert answer(stream, client)[0] == 425
            client.start_next_cycle()
            stream.sendall(request(client, "GET", "/next"))
            assert answer(stream, client)[0] == 200


@pytest.mark.rfc("8470 §3", "a request is early if its header section is")
def test_serve_request_whose_header_section_ends_late_is_not_early(serve: Serve, app: str, home: Path) -> None:
    with serve(app, "--early-data") as running:
        visitor = Visitor.to(running, home)
        client = h11.Connection(h11.CLIENT)
        whole = request(client, "POST", "/order")
        with visitor.connect(whole[:-2]) as stream:
            stream.sendall(whole[-2:])
            assert answer(stream, client) == (200, b"POST False []")


def test_serve_early_and_late_request_that_arrive_together_are_told_apart(serve: Serve, app: str, home: Path) -> None:
    with serve(app, "--early-data") as running:
        visitor = Visitor.to(running, home)
        client = h11.Connection(h11.CLIENT)
        early = request(client, "GET", "/one")
        second = h11.Connection(h11.CLIENT)
        with HeldBack(running.port, visitor.config, early) as held:
            assert held.read(b"GET True ['1']")
            held.connection.send_data(request(second, "POST", "/two", b"x"))
            held.socket.sendall(held.connection.data_to_send())
            assert held.read(b"POST False []")


@pytest.mark.rfc("8470 §5.1", "an unsafe request that was early on its way here is refused, handshake or not")
def test_serve_refuses_an_unsafe_request_that_a_gateway_marked(serve: Serve, app: str, home: Path) -> None:
    with serve(app, "--early-data") as running:
        visitor = Visitor.to(running, home)
        client = h11.Connection(h11.CLIENT)
        with visitor.connect(b"") as stream:
            stream.sendall(request(client, "POST", "/order", b"", ("Early-Data", "1")))
            assert answer(stream, client)[0] == 425
            client.start_next_cycle()
            stream.sendall(request(client, "GET", "/page", b"", ("Early-Data", "1")))
            assert answer(stream, client) == (200, b"GET False ['1']")


def test_serve_without_the_option_takes_no_early_data(serve: Serve, tmp_path: Path, home: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("hello")
    with serve("site") as running:
        visitor = Visitor.to(running, home)
        with visitor.connect(b"GET / HTTP/1.1\r\n\r\n") as stream:
            assert stream.negotiated.resumed
            assert stream.early_data is EarlyDataOutcome.NOT_ALLOWED


# ---- both --------------------------------------------------------------------------------------------------------


@pytest.fixture
def both(
    serve: Serve, app: str, home: Path, sessions: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> Iterator[Ask]:
    with serve(app, "--early-data") as running:

        def ask(path: str, *arguments: object) -> tuple[int, bytes, str]:
            common = ["--cacert", str(home / "ca" / "ca.pem"), "--session-file", str(sessions)]
            with pytest.raises(SystemExit) as left:
                main(["get", f"{running.url}{path}", *common, *map(str, arguments)])
            out, err = capsysbinary.readouterr()
            return int(left.value.code or 0), out, err.decode()

        yield ask


@pytest.mark.parametrize("http", [(), ("--http1.1",)], ids=["HTTP/2", "HTTP/1.1"])
def test_get_and_serve_speak_early(both: Ask, http: tuple[str, ...]) -> None:
    version = "1.1" if http else "2"
    assert both("", *http)[:2] == (0, b"GET False []")
    for _ in range(2):
        code, out, err = both("", "--early-data", "-v", *http)
        assert (code, out) == (0, b"GET True ['1']")
        assert "bytes went early: accepted" in err
        assert f"HTTP/{version}" in err
    code, out, err = both("no", "--early-data", "-v", *http)
    assert (code, out) == (0, b"GET False []")
    assert "too early (425)" in err
    code, out, err = both("", "--early-data", "-v", "-d", "x", *http)
    assert (code, out) == (0, b"POST False []")
    assert "POST is not a safe method" in err


@pytest.mark.rfc("9846 §4.7.1", "a server that is started anew has other ticket keys")
def test_serve_started_anew_does_not_resume_what_was_before(
    serve: Serve, app: str, home: Path, sessions: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    port = free_port()
    facts = []
    for count in (2, 1):
        with serve(app, "--early-data", "--port", port) as running:
            for _ in range(count):
                with pytest.raises(SystemExit):
                    main(["get", running.url, "--cacert", str(home / "ca" / "ca.pem"), "--session-file", str(sessions),
                          "--early-data", "--json"])  # fmt: skip
                facts.append(json.loads(capsysbinary.readouterr().out)["tls"])
            assert running.stop() == 0
    assert [tls["resumed"] for tls in facts] == [False, True, False]
    assert [tls["early_data"]["accepted"] for tls in facts] == [False, True, False]
    assert facts[2]["early_data"]["sent"] > 0
    assert facts[2]["early_data"]["reason"] == "the session was not resumed"
    assert "full handshake" in facts[2]["resumption"]


def test_serve_stops_while_a_client_holds_its_handshake_back(serve: Serve, app: str, home: Path) -> None:
    with serve(app, "--early-data", "--grace", "0.5") as running:
        visitor = Visitor.to(running, home)
        early = request(h11.Connection(h11.CLIENT), "GET", "/early")
        with HeldBack(running.port, visitor.config, early) as client, contextlib.suppress(TLSError):
            assert client.read(b"GET True ['1']")
            assert running.stop() == 0
