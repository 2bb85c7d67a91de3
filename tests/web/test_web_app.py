"""The page as an application: over our own server with clients of ours, and called directly with what is hostile."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import h2.connection
import httpx2
import pytest
from hyperframe.frame import DataFrame, Frame, GoAwayFrame

from pellucid.config import ClientConfig
from pellucid.explain.recorder import Recorder
from pellucid.integrations.asgi import EXTENSION, LiveRecorder, OwnConnection, Recorders, Turns, own_connection
from pellucid.integrations.ssl_context import SSLContext
from pellucid.net.sync import connect
from pellucid.registry import HandshakeType
from pellucid.trace import (
    AlertTraced,
    Direction,
    Epoch,
    HandshakeCompleted,
    KeysInstalled,
    MessageTraced,
    RecordTraced,
    SecretDerived,
    SharedSecretComputed,
    TcpConnected,
    TcpPacket,
)
from pellucid.verify import dangerous_accept_any
from pellucid.web import app, application
from pellucid.web.answers import HTML, JSON, TEXT, is_own, preferred
from pellucid.web.downloads import KINDS
from pellucid.web.masking import without_own_address
from pellucid.web.stream import MAX_STREAMS
from tests.support.pair import Pair, client_config
from tests.web.running import RunningPage

BROWSER = {"accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
PROGRAM = {"accept": "application/json"}


@pytest.fixture(scope="module")
def running() -> Iterator[RunningPage]:
    with RunningPage() as server:
        yield server


def client(running: RunningPage, *, http2: bool = True, resume: bool = False, **headers: str) -> httpx2.Client:
    context = SSLContext(ClientConfig(trust=running.ca.trust)) if resume else running.client
    return httpx2.Client(verify=context, http2=http2, trust_env=False, timeout=20, headers=headers)


def own_id(body: str) -> str:
    return body.partition("/events?connection=")[2][:16]


def secrets_of(recorder: Recorder) -> set[str]:
    """Return all that must be hidden: what was derived, what it came from, and the keys."""
    found = {event.secret for event in (*recorder.of(SecretDerived), *recorder.of(SharedSecretComputed))}
    found |= {secret for event in recorder.of(KeysInstalled) for secret in (event.key, event.iv)}
    return {secret.reveal().hex() for secret in found}


# ---- what a visitor gets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("http2", [False, True], ids=["http/1.1", "h2"])
def test_page_is_html_json_or_text_as_the_client_prefers(running: RunningPage, http2: bool) -> None:
    with client(running, http2=http2) as session:
        answers = [session.get(running.url, headers=headers) for headers in (BROWSER, PROGRAM, {})]
    assert {answer.http_version for answer in answers} == {"HTTP/2" if http2 else "HTTP/1.1"}
    page, document, text = answers
    assert page.headers["content-type"] == HTML
    assert page.text.startswith("<!doctype html>")
    assert document.headers["content-type"] == JSON
    assert document.json()["schema"] == 1
    assert text.headers["content-type"] == TEXT
    assert "ClientHello" in text.text
    assert max(map(len, text.text.splitlines())) <= 80


def test_everything_that_speaks_of_a_connection_is_not_stored_and_frames_nothing(running: RunningPage) -> None:
    with client(running) as session:
        page = session.get(running.url, headers=BROWSER)
        paths = ["/", "/connection.json", "/connection.txt", "/nothing"]
        answers = [page, *(session.get(running.url + path[1:]) for path in paths)]
        answers.append(session.post(running.url + "key-update"))
    for answer in answers:
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "permissions-policy" not in answer.headers  # it named nothing that a browser still knows
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'")
        assert "frame-ancestors 'none'" in policy


def test_head_has_the_headers_alone(running: RunningPage) -> None:
    with client(running, http2=False) as session:
        answer = session.head(running.url, headers=BROWSER)
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) > 1000
    assert answer.content == b""


def test_assets_are_the_same_for_everybody_and_asked_for_again(running: RunningPage) -> None:
    with client(running) as session:
        style = session.get(running.url + "static/page.css")
        again = session.get(running.url + "static/page.css", headers={"if-none-match": style.headers["etag"]})
        script = session.get(running.url + "static/page.js")
        beyond = [session.get(running.url + f"static/{name}") for name in ("page.py", "..%2fview.py", "", "page.css/")]
    assert style.headers["content-type"].startswith("text/css")
    assert script.headers["content-type"].startswith("text/javascript")
    assert (again.status_code, again.content) == (304, b"")
    assert {answer.status_code for answer in beyond} == {404}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux keeps a SYN")
def test_record_begins_with_the_tcp_handshake(running: RunningPage) -> None:
    with client(running) as session:
        session.get(running.url)
    first, second = running.recorders[-1].recorded[:2]
    assert isinstance(first.event, TcpPacket)
    assert first.event.flags == ("SYN",)
    assert isinstance(second.event, TcpConnected)
    assert second.event.info is not None
    assert first.seconds == second.seconds == 0


def test_secrets_stand_in_the_page_or_do_not(running: RunningPage) -> None:
    with RunningPage(secrets=False) as public:
        for server, shown in ((running, True), (public, False)):
            with client(server) as session:
                bodies = [session.get(server.url, headers=headers).text for headers in (BROWSER, PROGRAM, {})]
                bodies += [session.get(server.url + f"connection.{kind}").text for kind in KINDS]
            secrets = secrets_of(server.recorders[-1])
            assert len(secrets) > 8
            if shown:
                assert all(any(secret in body for secret in secrets) for body in bodies)
            else:
                assert not any(secret in body for secret in secrets for body in bodies)


def test_public_page_has_the_client_s_address_and_not_its_own(running: RunningPage) -> None:
    with RunningPage(secrets=False) as public:
        for server, shown in ((running, True), (public, False)):
            with client(server) as session:
                page, document, text = (session.get(server.url, headers=one) for one in (BROWSER, PROGRAM, {}))
                events, pcapng = (session.get(f"{server.url}connection.{kind}") for kind in ("jsonl", "pcapng"))
            connected = server.recorders[-1].first(TcpConnected)
            assert connected is not None
            address = connected.local_address
            assert f"<dd>{address} port {connected.peer_port}</dd>" in page.text
            own = f"{address if shown else 'localhost'} port {server.port}"
            assert f"<dd>{own}</dd>" in page.text
            local = [json.loads(line).get("local_address") for line in events.text.splitlines()]
            assert (address in local) is shown
            # the client has the same address in this test, and it is shown: once where both would be
            packed = bytes(map(int, address.split(".")))
            syn = packed * 2 in pcapng.content
            assert syn is shown
            assert f"Accepted {address} port {connected.peer_port}" in text.text
            assert document.json()["steps"]


def test_public_page_links_by_no_address() -> None:
    for secrets, shown in ((True, True), (False, False)):
        served = application(secrets=secrets, port=8443, retry_port=8444)
        own = own_of(LiveRecorder(), client=client_config(verifier=dangerous_accept_any()), name="192.0.2.7")
        _, _, body = ask(own=own, application=served, accept="text/html")
        assert (b"https://127.0.0.1:8444/" in body) is shown


@pytest.mark.parametrize("raw", [bytes([0x45]) + bytes(range(1, 60)), bytes([0x60]) + bytes(range(1, 80))])
def test_own_address_is_taken_out_of_a_packet(raw: bytes) -> None:
    first, size = (12, 4) if raw[0] >> 4 == 4 else (8, 16)
    for direction, start in ((Direction.SENT, first), (Direction.RECEIVED, first + size)):
        masked = masked_packet(raw, direction)
        assert masked == raw[:start] + bytes(size) + raw[start + size :]
    for strange in (b"", b"\x00" * 40, b"\x45", raw[:18], b"\x16" + raw):
        masked = masked_packet(strange, Direction.RECEIVED)
        assert len(masked) == len(strange)
        assert raw[16:] not in masked


def masked_packet(raw: bytes, direction: Direction) -> bytes:
    recorder = Recorder()
    recorder(
        TcpPacket(
            direction=direction, seconds=None, flags=("SYN",), sequence=1, acknowledgment=0, window=1, options=(),
            source="TCP_SAVED_SYN", raw=raw,
        )
    )  # fmt: skip
    return without_own_address(recorder).of(TcpPacket)[0].raw


# ---- whose connection ------------------------------------------------------------------------------------------------


def test_each_visitor_sees_its_own_connection_and_no_other(running: RunningPage) -> None:
    with client(running, http2=False) as first, client(running, http2=True) as second:
        pages = [session.get(running.url, headers=BROWSER).text for session in (first, second)]
        one, two = running.recorders[-2:]
        for body, mine, other in ((pages[0], one, two), (pages[1], two, one)):
            assert not any(secret in body for secret in secrets_of(other) - secrets_of(mine))
            assert other.of(HandshakeCompleted)[0].client_random.hex() not in body
        ids = [own_id(body) for body in pages]
        assert len(set(ids)) == 2
        for path in ("", "connection.json", "connection.txt", "connection.pcapng", "connection.jsonl"):
            answer = first.get(running.url + f"{path}?connection={ids[1]}", headers=PROGRAM)
            assert answer.status_code == 409
            assert len(answer.text) < 300
        for path in ("key-update", "resume"):
            assert first.post(running.url + f"{path}?connection={ids[1]}").status_code == 409
    assert not [event for event in two.of(MessageTraced) if event.message_type == HandshakeType.KEY_UPDATE]


@pytest.mark.parametrize("http2", [False, True], ids=["http/1.1", "h2"])
def test_stream_of_another_connection_says_so(running: RunningPage, http2: bool) -> None:
    with client(running, http2=False) as other, client(running, http2=http2) as session:
        theirs = own_id(other.get(running.url, headers=BROWSER).text)
        for url in (f"events?connection={theirs}", "events"):
            answer = session.get(running.url + url)
            assert answer.headers["content-type"] == "text/event-stream"
            assert answer.text.startswith("event: another\ndata: Your browser opened another connection")
            assert "event: rows" not in answer.text


def test_stream_tells_of_a_key_update_at_once(running: RunningPage) -> None:
    with client(running) as session:
        mine = own_id(session.get(running.url, headers=BROWSER).text)
        since = len(running.recorders[-1])
        with session.stream("GET", running.url + f"events?connection={mine}&since={since}") as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith(":")
            answer = session.post(running.url + f"key-update?connection={mine}", headers=PROGRAM)
            assert answer.status_code == 204
            told = ""
            for line in lines:
                told += line
                if 'id="key-client-application-traffic-secret-1"' in told or line == ": still here":
                    break
    assert "event: rows" in told
    assert told.count("event: section") in {1, 2, 3}  # keys and states, and again when the client's keys have changed
    sections = told.partition("event: section")[2]
    assert 'data: <section id="keys"' in sections
    assert "server_application_traffic_secret_1" in sections
    assert "client_application_traffic_secret_1" in sections
    assert told.count('"name">KeyUpdate') == 2
    updates = [one for one in running.recorders[-1].of(MessageTraced) if one.message_type == HandshakeType.KEY_UPDATE]
    assert [one.direction for one in updates[:2]] == [Direction.SENT, Direction.RECEIVED]


def test_streams_of_one_connection_are_few(running: RunningPage) -> None:
    with client(running) as session:
        mine = own_id(session.get(running.url, headers=BROWSER).text)
        url = running.url + f"events?connection={mine}"
        open_streams = [session.stream("GET", url) for _ in range(MAX_STREAMS)]
        assert {one.__enter__().status_code for one in open_streams} == {200}
        assert session.get(url).status_code == 429
        for one in open_streams:
            one.__exit__(None, None, None)


@pytest.mark.parametrize("http2", [False, True], ids=["http/1.1", "h2"])
def test_stream_ends_with_its_reader(running: RunningPage, http2: bool) -> None:
    with client(running, http2=http2) as session:
        mine = own_id(session.get(running.url, headers=BROWSER).text)
        recorder = running.recorders[-1]
        assert isinstance(recorder, LiveRecorder)
        with session.stream("GET", running.url + f"events?connection={mine}") as stream:
            next(stream.iter_lines())
            assert len(recorder._waiting) == 1
    end = time.monotonic() + 10
    while recorder._waiting:
        assert time.monotonic() < end
        time.sleep(0.01)


# ---- buttons ---------------------------------------------------------------------------------------------------------


def test_resume_has_the_client_come_again_with_its_ticket(running: RunningPage) -> None:
    with client(running, http2=False, resume=True) as session:
        mine = own_id(session.get(running.url, headers=BROWSER).text)
        first = running.recorders[-1]
        answer = session.post(running.url + f"resume?connection={mine}", headers=BROWSER)
        assert (answer.status_code, answer.headers["refresh"]) == (200, "0; url=/")
        assert answer.headers["connection"] == "close"
        again = session.get(running.url, headers=BROWSER)
    assert own_id(again.text) not in {mine, ""}
    assert running.recorders[-1] is not first
    assert running.recorders[-1].of(HandshakeCompleted)[0].resumed


def test_resume_over_http_2_is_answered_before_the_goodbye(running: RunningPage) -> None:
    session = h2.connection.H2Connection()
    session.initiate_connection()
    names = ((":method", "POST"), (":path", "/resume"), (":scheme", "https"), (":authority", "localhost"))
    session.send_headers(1, names, end_stream=True)
    config = ClientConfig(trust=running.ca.trust, alpn=("h2",))
    received = b""
    with connect("localhost", running.port, config) as stream:
        stream.sendall(session.data_to_send())
        for data in stream:  # until the server closes
            received += data
    frames = []
    while received:
        frame, size = Frame.parse_frame_header(memoryview(received[:9]))
        frame.parse_body(memoryview(received[9 : 9 + size]))
        frames.append(frame)
        received = received[9 + size :]
    *_, goodbye = frames
    assert isinstance(goodbye, GoAwayFrame)
    assert (goodbye.last_stream_id, goodbye.error_code) == (1, 0)
    assert any(isinstance(frame, DataFrame) and "END_STREAM" in frame.flags for frame in frames[:-1])


def test_retry_port_has_everybody_try_again(running: RunningPage) -> None:
    with client(running) as session:
        page = session.get(running.url, headers=BROWSER).text
        assert f"https://localhost:{running.retry_port}/" in page
        retried = session.get(running.retry_url, headers=BROWSER)
    hellos = [one for one in running.recorders[-1].of(MessageTraced) if one.message_type == HandshakeType.CLIENT_HELLO]
    assert len(hellos) == 2
    assert f"https://localhost:{running.port}/" in retried.text


def test_links_do_not_believe_the_host_header(running: RunningPage) -> None:
    with client(running) as session:
        page = session.get(running.url, headers={**BROWSER, "host": "evil.example"}).text
        address = session.get(f"https://127.0.0.1:{running.port}/", headers=BROWSER).text
    assert "https://evil.example" not in page
    assert f"https://localhost:{running.retry_port}/" in page
    assert f"https://127.0.0.1:{running.retry_port}/" in address


@pytest.mark.parametrize("path", ["key-update", "resume"])
def test_another_sites_page_cannot_press_a_button(running: RunningPage, path: str) -> None:
    foreign = [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": f"http://localhost:{running.port}"},
        {"origin": "https://[localhost"},
    ]
    with client(running) as session:
        session.get(running.url)
        assert {session.post(running.url + path, headers=one).status_code for one in foreign} == {403}
        assert {session.get(running.url + path).status_code for _ in range(2)} == {405}
    assert not [one for one in running.recorders[-1].of(MessageTraced) if one.message_type == HandshakeType.KEY_UPDATE]


def test_form_without_script_leads_back_to_the_page(running: RunningPage) -> None:
    own = {"origin": f"https://localhost:{running.port}", "sec-fetch-site": "same-origin"}
    with client(running) as session:
        session.get(running.url)
        answer = session.post(running.url + "key-update", headers={**BROWSER, **own})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


# ---- called directly -------------------------------------------------------------------------------------------------


class Served:
    """What stands behind an OwnConnection, of a connection that is no more than its record."""

    def __init__(self, pair: Pair) -> None:
        self.connection = pair.server
        self.negotiated = pair.server.negotiated
        self.handshake_complete = True


async def _nothing() -> None:
    return


def own_of(recorder: Recorder | None, **pairing: Any) -> OwnConnection:
    pair = Pair.of(server_trace=recorder, **pairing).connect()
    tls: Any = Served(pair)
    return OwnConnection(tls, recorder, retire=_nothing, flush=_nothing)


def ask(
    path: str = "/",
    method: str = "GET",
    *,
    own: OwnConnection | None = None,
    application: Any = app,
    early: bool = False,
    query: bytes = b"",
    extensions: Any = None,
    **headers: str,
) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body."""
    if extensions is None and own is not None:
        extensions = {EXTENSION: {"early_data": early, "connection": own}}
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "query_string": query, "scheme": "https",
        "headers": [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()],
        "server": ("127.0.0.1", 8443), "client": ("127.0.0.1", 5000), "extensions": extensions,
    }  # fmt: skip
    sent: list[Mapping[str, Any]] = []

    async def receive() -> Any:
        await asyncio.sleep(3600)

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(asyncio.wait_for(application(scope, receive, send), 10))
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}, body


def test_page_behind_another_server_says_so() -> None:
    for extensions in (None, {}, {EXTENSION: {}}, {EXTENSION: {"connection": "one"}}, {"tls": {}}):
        status, headers, body = ask(extensions=extensions, accept="text/html")
        assert (status, headers["content-type"]) == (501, HTML)
        assert b"Your connection cannot be seen here" in body
        assert ask(extensions=extensions)[0] == 501
        assert ask("/key-update", "POST", extensions=extensions)[0] == 501
        assert ask("/events", extensions=extensions)[0] == 501
    assert ask(own=own_of(None))[0] == 501
    assert ask("/static/page.css")[0] == 200


@pytest.mark.parametrize("header", ["x_forwarded_for", "via", "forwarded", "x_real_ip", "x_forwarded_proto"])
def test_proxys_connection_is_shown_to_nobody(header: str) -> None:
    own = own_of(LiveRecorder())
    for path in ("/", *(f"/connection.{kind}" for kind in KINDS), "/events"):
        status, _, body = ask(path, own=own, **{header: "192.0.2.1"})
        assert status == 501
        assert b"a proxy" in body


def test_own_connection_is_found_in_the_scope_alone() -> None:
    own = own_of(Recorder())
    assert own_connection({"extensions": {EXTENSION: {"connection": own}}}) is own
    assert own_connection({"extensions": None}) is None
    assert own_connection({}) is None
    assert own.id not in {own_of(Recorder()).id}
    assert len(own.id) == 16


def test_early_request_is_asked_again_after_the_handshake() -> None:
    own = own_of(LiveRecorder())
    assert ask(own=own, early=True)[0] == 425
    assert ask("/connection.json", own=own, early=True)[0] == 425
    assert ask(own=own)[0] == 200


HOSTILE_PATHS = [
    "", "//", "/..", "/../../etc/passwd", "/static/../view.py", "/connection.", "/connection.exe", "/connection.json/",
    "/\0", "/ä", "/%00", "/events/", "/KEY-UPDATE", "*", "/" + "a" * 50_000, "/connection.json\n",
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE_PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "TRACE", "\u2603", "G" * 1000])
def test_hostile_paths_and_methods_are_refused(path: str, method: str) -> None:
    status, _, body = ask(path, method, own=own_of(LiveRecorder()), accept="text/html")
    assert status == 404
    assert len(body) < 1000


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT"])
def test_other_methods_are_not_allowed(method: str) -> None:
    own = own_of(LiveRecorder())
    assert ask(method=method, own=own)[1]["allow"] == "GET, HEAD"
    assert ask("/resume", method, own=own)[1]["allow"] == "POST"


def test_hostile_headers_and_queries_do_no_harm() -> None:
    own = own_of(LiveRecorder())
    evil = '"><script>alert(1)</script>\x00\r\n'
    for query in (b"connection=", b"&" * 10_000, b"connection=\xff", b"since=-1", b"%", f"connection={evil}".encode()):
        assert ask(own=own, query=query)[0] in {200, 409}
    status, _, body = ask(own=own, accept="text/html", cookie=evil, user_agent=evil, authorization="Bearer hunter2")
    assert status == 200
    assert b"<script>alert" not in body
    assert b"hunter2" not in body
    for accept in ("text/html;q=x", "a" * 1_000_000, ",;" * 10_000, "text/html;q=1e400", "\xff"):
        assert ask(own=own, accept=accept)[0] == 200


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, TEXT),
        ("*/*", TEXT),
        ("text/html", HTML),
        ("application/json", JSON),
        ("application/json;q=0.5, text/html;q=0.4", JSON),
        ("text/html;q=0", TEXT),
        ("TEXT/HTML ; q=0.3, */*;q=0.1", HTML),
        ("text/plain, text/html;q=0.9", TEXT),
        ("image/png", TEXT),
        ("text/html;q=nan", TEXT),
    ],
)
def test_preferred_follows_accept(accept: str | None, kind: str) -> None:
    assert preferred(accept) == kind


def test_own_requests_are_told_from_other_sites() -> None:
    assert is_own({})
    assert is_own({"sec-fetch-site": "same-origin", "origin": "https://anything"})
    assert is_own({"origin": "https://localhost:8443", "host": "localhost:8443"})
    assert not is_own({"origin": "https://localhost:8443", "host": "localhost:8444"})
    assert not is_own({"origin": "", "host": ""})


def test_lifespan_and_websockets_are_answered() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.shutdown" if sent else "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app({"type": "lifespan"}, receive, send))
    assert [one["type"] for one in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    asyncio.run(application()({"type": "websocket"}, receive, send))
    assert sent[-1]["type"] == "websocket.close"


def test_stream_that_ends_makes_room_for_another() -> None:
    own = own_of(LiveRecorder())
    scope = {
        "type": "http", "http_version": "2", "method": "GET", "path": "/events", "headers": [],
        "query_string": f"connection={own.id}".encode(), "extensions": {EXTENSION: {"connection": own}},
    }  # fmt: skip

    class Reader:
        def __init__(self) -> None:
            self.gone = asyncio.Event()
            self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            self.task = asyncio.ensure_future(app(scope, self.receive, self.send))

        async def receive(self) -> Any:
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(self, message: Any) -> None:
            if message["type"] == "http.response.start":
                self.status.set_result(message["status"])

        async def leave(self) -> None:
            self.gone.set()
            await self.task

    async def run() -> list[int]:
        readers = [Reader() for _ in range(MAX_STREAMS + 1)]
        statuses = [await one.status for one in readers]
        await readers[0].leave()
        readers.append(Reader())
        statuses.append(await readers[-1].status)
        for one in readers:
            await one.leave()
        assert own.streams == 0
        return statuses

    statuses = asyncio.run(asyncio.wait_for(run(), 10))
    assert statuses == [*[200] * MAX_STREAMS, 429, 200]


# ---- whose turn it is ------------------------------------------------------------------------------------------------


async def asked_at_once(owns: list[OwnConnection]) -> list[int]:
    """Ask for the page on each of *owns* at the same time; return the statuses in that order."""
    statuses = dict.fromkeys(range(len(owns)), 0)

    async def one(number: int, own: OwnConnection) -> None:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses[number] = message["status"]

        scope = {
            "type": "http", "http_version": "2", "method": "GET", "path": "/connection.json", "query_string": b"",
            "headers": [], "extensions": {EXTENSION: {"early_data": False, "connection": own}},
        }  # fmt: skip
        await app(scope, None, send)

    await asyncio.gather(*(one(number, own) for number, own in enumerate(owns)))
    return list(statuses.values())


def test_who_asks_a_hundred_times_at_once_waits_and_others_do_not() -> None:
    own, other = own_of(LiveRecorder()), own_of(LiveRecorder())
    statuses = asyncio.run(asked_at_once([own] * 100 + [other]))
    assert statuses[-1] == 200
    assert statuses.count(200) == 17
    assert statuses.count(429) == 84
    assert asyncio.run(asked_at_once([own])) == [200]


def test_after_each_turn_comes_a_pause_as_long() -> None:
    async def run() -> tuple[list[bool], float]:
        turns = Turns()
        got = []
        began = time.monotonic()
        for _ in range(2):
            async with turns.turn() as granted:
                got.append(granted)
                time.sleep(0.05)
        return got, time.monotonic() - began

    got, took = asyncio.run(run())
    assert got == [True, True]
    assert took >= 0.15


def test_connections_share_half_of_the_loop_s_time_in_turn() -> None:
    work, connections, times = 0.01, 8, 3
    served: list[int] = []

    async def draw(number: int, turns: Turns) -> None:
        async with turns.turn() as granted:
            assert granted
            time.sleep(work)
            served.append(number)

    async def run() -> float:
        owns = [Turns() for _ in range(connections)]
        began = time.monotonic()
        await asyncio.gather(*(draw(number, turns) for number, turns in enumerate(owns) for _ in range(times)))
        return time.monotonic() - began

    took = asyncio.run(run())
    assert took >= (2 * connections * times - 1) * work
    rounds = [served[start : start + connections] for start in range(0, len(served), connections)]
    assert [sorted(one) for one in rounds] == [list(range(connections))] * times


# ---- the recorder ----------------------------------------------------------------------------------------------------


def record(size: int) -> RecordTraced:
    return RecordTraced(
        direction=Direction.SENT, epoch=Epoch.APPLICATION, content_type=23, size=size, content_size=size,
        padding_size=0, sequence=0, raw=bytes(size),
    )  # fmt: skip


def test_recorder_is_bounded_in_bytes_and_keeps_what_is_small() -> None:
    recorder = LiveRecorder(100, record_bytes=1000)
    alert = AlertTraced(direction=Direction.SENT, epoch=Epoch.APPLICATION, description=0)
    for event in (record(600), record(600), record(1), alert):
        recorder(event)
    assert [type(event) for event in recorder.events] == [RecordTraced, AlertTraced]
    assert recorder.dropped == 2
    for _ in range(200):
        recorder(alert)
    assert len(recorder) == 100
    assert recorder.dropped == 104


def test_what_a_copy_masks_stays_in_the_record_and_nothing_else_changes() -> None:
    recorder = LiveRecorder(2)
    for _ in range(3):
        recorder(record(1))
    copy = recorder.mapped(lambda event: AlertTraced(direction=Direction.SENT, epoch=Epoch.INITIAL, description=0))
    assert [type(event) for event in copy.events] == [AlertTraced] * 2
    assert [type(event) for event in recorder.events] == [RecordTraced] * 2
    assert [at for at, _ in copy.recorded] == [at for at, _ in recorder.recorded]
    assert (copy.dropped, copy.started_at) == (1, recorder.started_at)


def test_recorder_tells_who_waits_and_puts_what_was_before_at_the_head() -> None:
    recorder = LiveRecorder()
    heard: list[int] = []
    leave = recorder.subscribe(lambda: heard.append(len(recorder)))
    recorder(record(1))
    leave()
    recorder(record(1))
    assert heard == [1]
    before = AlertTraced(direction=Direction.RECEIVED, epoch=Epoch.INITIAL, description=1)
    recorder.precede([before])
    assert recorder.recorded[0] == (0.0, before)


def test_recorders_of_many_connections_keep_less() -> None:
    make = Recorders(many=4)
    first, *others = [make() for _ in range(40)]
    assert (first.limit, others[-1].limit) == (4096, 409)
    del first, others
    gc.collect()
    assert make().limit == 4096


@pytest.mark.parametrize("http2", [False, True], ids=["http/1.1", "h2"])
def test_record_goes_with_its_connection(running: RunningPage, http2: bool) -> None:
    running.recorders.clear()
    with client(running, http2=http2) as session:
        mine = own_id(session.get(running.url, headers=BROWSER).text)
        session.post(running.url + f"key-update?connection={mine}", headers=PROGRAM)
        with session.stream("GET", running.url + f"events?connection={mine}") as stream:
            next(stream.iter_lines())
        kept = weakref.ref(running.recorders.pop())
    end = time.monotonic() + 10
    while kept() is not None:
        assert time.monotonic() < end
        time.sleep(0.05)
        gc.collect()


def test_document_is_json_that_ascii_can_carry(running: RunningPage) -> None:
    with client(running, http2=False) as session:
        answer = session.get(running.url + "connection.json")
    assert answer.content.isascii()
    assert json.loads(answer.content)["schema"] == 1
    assert answer.headers["content-disposition"] == 'attachment; filename="connection.json"'
