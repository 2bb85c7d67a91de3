"""`pellucid demo`: a real HTTPS server and a client on this machine, and the story of what went between them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import h11

from pellucid import __version__
from pellucid.cli.common import CommandFailed, keylog_option, keylog_path
from pellucid.cli.output import Output
from pellucid.config import DEFAULT_GROUPS, DEFAULT_SUITES, ClientConfig, Credential, ServerConfig
from pellucid.errors import AlertReceived, PeerError
from pellucid.explain import parts
from pellucid.explain.keylog import KeyLogWriter
from pellucid.explain.recorder import Recorder, tee
from pellucid.explain.records import records
from pellucid.explain.reveal import Shown
from pellucid.explain.story import Scene, Story, Tampering
from pellucid.explain.text import Span, line
from pellucid.limits import RECORD_HEADER
from pellucid.net.listener import Listener, listen
from pellucid.net.sync import Stream, wrap
from pellucid.net.tcp import connect_tcp
from pellucid.registry import group_by_name, group_name, suite_by_name, suite_name
from pellucid.testing.ca import CA
from pellucid.verify.trust import TrustStore

__all__ = ["Options", "command", "perform", "tell"]

HOST: Final = "localhost"
ADDRESS: Final = "127.0.0.1"
WAIT_SECONDS: Final = 10.0
PAGE: Final = (
    b"<!doctype html>\n<title>Pellucid</title>\n"
    b"<p>This page came over TLS 1.3, and you are about to see every step it took.</p>\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """group, suite: code points, None for what two Pellucids agree on by themselves."""

    reveal: bool = False
    group: int | None = None
    suite: int | None = None
    keylog: Path | None = None


@dataclass(slots=True)
class Site:
    """The demonstration's web server: what it saw and what it answered."""

    recorder: Recorder = field(default_factory=Recorder)
    delivered: int = 0
    errors: list[Exception] = field(default_factory=list)
    refused: threading.Event = field(default_factory=threading.Event)

    def handle(self, stream: Stream) -> None:
        """Answer HTTP/1.1 requests until the client leaves."""
        stream.settimeout(WAIT_SECONDS)
        http = h11.Connection(h11.SERVER)
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(stream.recv())
            elif isinstance(event, h11.EndOfMessage):
                self.delivered += 1
                answer = h11.Response(
                    status_code=200,
                    reason=b"OK",
                    headers=[("content-type", "text/html; charset=utf-8"), ("content-length", str(len(PAGE)))],
                )
                parts_of_it = (answer, h11.Data(data=PAGE), h11.EndOfMessage())
                stream.sendall(b"".join(http.send(part) or b"" for part in parts_of_it))
                http.start_next_cycle()
            elif isinstance(event, h11.ConnectionClosed):
                return

    def failed(self, _stream: Stream, error: Exception) -> None:
        self.errors.append(error)
        self.refused.set()

    @property
    def refusal(self) -> str:
        """The error with which the server refused a record, "" if it refused none."""
        return next((str(error) for error in self.errors if isinstance(error, PeerError)), "")


def perform(options: Options) -> Scene:
    """Start the server, fetch the page, tamper with a record; return what happened.

    Raises CommandFailed if it did not happen as it should: a demonstration that fails must not look like one.
    """
    authority = CA("Pellucid demo root")
    issued = authority.intermediate("Pellucid demo CA", aia=None).issue(HOST, ADDRESS)
    credential = Credential.from_pem(issued.chain_pem, issued.key_pem)
    trust = TrustStore.from_der([authority.root_der], origin="made for this run")
    suites = DEFAULT_SUITES if options.suite is None else (options.suite,)
    groups = DEFAULT_GROUPS if options.group is None else (options.group,)
    common: dict[str, Any] = {"suites": suites, "groups": groups, "alpn": ("http/1.1",), "trace_records": True}
    client = ClientConfig(trust=trust, **common)
    # The story is of RFC 9846's own messages: the server sends its Certificate as it is.
    server = ServerConfig(credentials=(credential,), certificate_compression=(), **common)
    site, recorder = Site(), Recorder()
    with _served(site, server) as listener:
        port = listener.address[1]
        log = None if options.keylog is None else KeyLogWriter(options.keylog)
        observer = tee(recorder, log)
        sock = connect_tcp(HOST, port, timeout=WAIT_SECONDS, resolve={HOST: ADDRESS}, trace=observer)
        stream = wrap(sock, client, server_name=HOST, handshake_timeout=WAIT_SECONDS, trace=observer)
        stream.settimeout(WAIT_SECONDS)
        try:
            request, response = _fetch(stream, port)
            tampering = _tamper(stream, sock.sendall)
        finally:
            stream.abort()
        if not site.refused.wait(WAIT_SECONDS) or not site.refusal:
            raise CommandFailed("the server did not refuse the record that was changed")
    return Scene(
        url=f"https://{HOST}:{port}/",
        server_name=HOST,
        client=recorder,
        server=site.recorder,
        request=request,
        response=response,
        tampering=tampering._replace(refusal=site.refusal),
        delivered=site.delivered,
        shown=Shown(options.reveal),
    )


@contextmanager
def _served(site: Site, config: ServerConfig) -> Iterator[Listener]:
    """Serve *site* from a thread while the block runs."""
    with listen(ADDRESS, 0, config, handshake_timeout=WAIT_SECONDS, trace=lambda: site.recorder) as listener:
        thread = threading.Thread(
            target=listener.serve,
            args=(site.handle,),
            kwargs={"on_error": site.failed},
            name="pellucid-demo",
            daemon=True,
        )
        thread.start()
        try:
            yield listener
        finally:
            listener.close()
            thread.join(WAIT_SECONDS)


def _fetch(stream: Stream, port: int) -> tuple[bytes, bytes]:
    """GET the page; return the request and the response as sent. Raises CommandFailed unless it is the page."""
    http = h11.Connection(h11.CLIENT)
    ask = h11.Request(method="GET", target="/", headers=[("Host", f"{HOST}:{port}"), ("User-Agent", "pellucid-demo")])
    request = b"".join(http.send(part) or b"" for part in (ask, h11.EndOfMessage()))
    stream.sendall(request)
    response, body, status = b"", b"", 0
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = stream.recv()
            response += data
            http.receive_data(data)
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
            break
    if status != 200 or body != PAGE:
        raise CommandFailed(f"the page did not come whole: status {status}, {len(body)} bytes", code=56)
    return request, response


def _tamper(stream: Stream, send: Callable[[bytes], object]) -> Tampering:
    """Protect one more request, flip a bit of its ciphertext, send that, and take the server's answer."""
    connection = stream.connection
    connection.send_data(b"GET /transfer?amount=100 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    sent = connection.data_to_send()
    position = RECORD_HEADER + 21  # a digit of the amount
    changed = bytearray(sent)
    changed[position] ^= 0x08
    send(bytes(changed))
    try:
        stream.recv()
    except AlertReceived:
        return Tampering(sent, bytes(changed), position, "")
    raise CommandFailed("a changed record was not refused")


def tell(scene: Scene) -> Story:
    """Return the story of *scene* in its six parts."""
    return Story(
        url=scene.url,
        parts=(
            parts.tcp(scene),
            parts.tls(scene),
            parts.verifications(scene),
            parts.key_exchange(scene),
            parts.keys(scene),
            records(scene),
        ),
        revealed=scene.shown.reveal,
    )


_GROUPS: Final = tuple(group_name(code) for code in DEFAULT_GROUPS)
_SUITES: Final = tuple(suite_name(code) for code in DEFAULT_SUITES)


@click.command(name="demo")
@click.option("--reveal", is_flag=True, help="Show the secrets themselves, not only their fingerprints.")
@click.option("--json", "as_json", is_flag=True, help="Print the story as JSON.")
@click.option("--group", type=click.Choice(_GROUPS, case_sensitive=False), help="The key exchange. [X25519MLKEM768]")
@click.option("--suite", type=click.Choice(_SUITES, case_sensitive=False), help="The cipher. [TLS_AES_128_GCM_SHA256]")
@keylog_option
def command(*, reveal: bool, as_json: bool, group: str | None, suite: str | None, keylog: Path | None) -> None:
    """Tell the whole story of one HTTPS request, in six steps.

    Starts a real HTTPS server on this machine, with a certificate from a CA made for the run, fetches a page from it,
    and shows what went over the wire and what each end made of it. At the end somebody tampers with a record.

    With --group x25519 both public values fit on a line.
    """
    output = Output()
    options = Options(
        reveal=reveal,
        group=None if group is None else group_by_name(group),
        suite=None if suite is None else suite_by_name(suite),
        keylog=keylog_path(keylog),
    )
    scene = perform(options)
    story = tell(scene)
    if as_json:
        output.json({"pellucid": __version__, **story.to_dict()})
        return
    output.fact(line(Span(f"The story of GET {scene.url}", "title")))
    output.fact("")
    output.facts(story.lines(output.width))
    if not reveal:
        output.hint("pellucid demo --reveal shows the secrets themselves; --json gives it all to a program")
    if options.keylog is not None:
        output.talk(f"The secrets were appended to {options.keylog}.")
