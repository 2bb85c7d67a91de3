"""`pellucid serve`: a directory or an ASGI application over HTTPS, by hypercorn over Pellucid."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import importlib
import ipaddress
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config, Sockets
from hypercorn.utils import LifespanFailureError, LifespanTimeoutError

from pellucid.cli.common import CommandFailed, OutputClosed, keylog_option, keylog_path
from pellucid.cli.devcert import DevelopmentCA, trust_lines
from pellucid.cli.early_serve import MAX_EARLY_DATA, EarlyGate, early_requests
from pellucid.cli.files import StaticFiles
from pellucid.cli.output import Output
from pellucid.cli.raw_keys import verifier_of
from pellucid.cli.server_credentials import server_credentials
from pellucid.cli.tls_options import server_changes, server_tls_options
from pellucid.config import ClientAuthentication, Credential, ServerConfig
from pellucid.crypto.certificates import RawPublicKey
from pellucid.errors import UsageError
from pellucid.explain.keylog import KeyLogWriter
from pellucid.explain.ladder import WORK, LadderPrinter
from pellucid.explain.recorder import tee
from pellucid.explain.text import Line, Span, escaped, line
from pellucid.integrations.certificate_compression import installed
from pellucid.integrations.stopping import StoppingContext
from pellucid.limits import HANDSHAKE_TIMEOUT_SECONDS
from pellucid.net.load import load_trust
from pellucid.net.tcp import bind_listener
from pellucid.registry import AlertDescription, alert_name
from pellucid.trace import AlertTraced, ClosedTraced, Direction, HandshakeCompleted, Observer, Role, TraceEvent

__all__ = ["command"]

_BACKLOG: Final = 128
_LAST_SECONDS: Final = 1.0  # for closing connections, after the time of grace
_SAME_SIGNAL_SECONDS: Final = 0.5
_MESSAGES: Final = 4  # of a request's body, read ahead of the application
_UPLOAD_SECONDS: Final = 10.0  # for the rest of a request whose answer has been given
_ALPN: Final = ("h2", "http/1.1")


class _HypercornConfig(Config):
    """hypercorn's configuration, with our context and our sockets."""

    def __init__(self, context: StoppingContext, sockets: list[socket.socket], ready: Callable[[], None]) -> None:
        super().__init__()
        self._context = context
        self._bound = sockets
        self._ready = ready
        self.ssl_handshake_timeout = HANDSHAKE_TIMEOUT_SECONDS
        self.include_server_header = False
        self.errorlog = _quiet_logger()

    @property
    def ssl_enabled(self) -> bool:
        return True

    def create_ssl_context(self) -> StoppingContext:
        return self._context

    def create_sockets(self) -> Sockets:
        """Start to listen: the application is up."""
        for sock in self._bound:
            sock.listen(_BACKLOG)
        self._ready()
        return Sockets(self._bound, [], [])


def _quiet_logger() -> logging.Logger:
    """Return the logger of hypercorn's own news: warnings and errors, which an application's exceptions are."""
    logger = logging.getLogger("pellucid.serve")
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
    return logger


@click.command(short_help="Serve a directory or an ASGI application over HTTPS.")
@click.argument("target", metavar="DIR|MODULE:APP")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address or name to listen on.")
@click.option("-p", "--port", default=8443, show_default=True, type=click.IntRange(0, 65535), help="0: a free one.")
@click.option("--cert", metavar="FILE", multiple=True,
              help="The certificate chain: PEM or PKCS#12. Of several, each client is shown the first for the name it "
              "asked for that it can verify.  [default: a development one]")  # fmt: skip
@click.option("--key", metavar="FILE", multiple=True,
              help="The private key, where --cert does not hold it; as many as --cert, in the same order.")  # fmt: skip
@click.option("--pass", "password", metavar="PASSWORD", envvar="PELLUCID_PASS",
              help="The private key's password.  [env: PELLUCID_PASS]")  # fmt: skip
@click.option("--ocsp", metavar="FILE",
              help="Staple the OCSP response (DER) in FILE; it is read again when it changes.")  # fmt: skip
@click.option("--raw-public-key", is_flag=True,
              help="Show clients that take one the key itself (RFC 7250); with --key alone nothing else.")  # fmt: skip
@click.option("--client-ca", metavar="FILE", help="Ask clients for a certificate by one of these CAs.")
@click.option("--client-pubkey", metavar="FILE", help="Ask clients for one of the raw public keys in FILE (RFC 7250).")
@click.option("--client-auth", type=click.Choice(["optional", "required"]),
              help="Whether a client may do without.  [default: required]")  # fmt: skip
@click.option("--early-data", is_flag=True,
              help="Answer GET, HEAD and OPTIONS that come with the ClientHello; they may be replays.")  # fmt: skip
@click.option("--no-listing", is_flag=True, help="Do not list directories.")
@click.option("--grace", default=5.0, show_default=True, metavar="SECONDS", type=click.FloatRange(0),
              help="How long requests may still run when the server is stopped.")  # fmt: skip
@click.option("-v", "--verbose", count=True, help="Draw each connection's handshake; -vv and -vvv in more detail.")
@server_tls_options
@keylog_option
def serve(target: str, **options: Any) -> int:  # Any: click's options, each of its own type
    """Serve a directory, or the ASGI application APP in MODULE, over TLS 1.3: HTTP/2 and HTTP/1.1.

    Without --cert a development certificate is made, by a CA that is kept for this user; how to have programs trust
    it is told on standard error. The server's URL is printed on standard output once it listens.
    Clients that come again resume their sessions until the server is started anew.
    SIGINT and SIGTERM stop it when the running requests are done; a second one ends them.
    """
    application = _application(target, listing=not options["no_listing"])
    if options["early_data"]:
        application = EarlyGate(application)
    output = Output()
    credentials, authority = server_credentials(options)
    watch = _Watch(output, options["verbose"], keylog_path(options["keylog"]))
    config = _server_config(credentials, options, watch)
    sockets = _listen(options["host"], options["port"])
    try:
        url = _url(options["host"], sockets[0].getsockname()[1])
        ready = functools.partial(_announce, output, url, authority, credentials)
        with early_requests() if options["early_data"] else contextlib.nullcontext():
            asyncio.run(_run(application, config, sockets, options["grace"], ready))
    except (LifespanFailureError, LifespanTimeoutError) as error:
        raise CommandFailed(f"the application did not start or end as it should: {error}", code=1) from error
    finally:
        for sock in sockets:
            sock.close()
    return 0


command = serve


async def _run(
    application: Any, config: ServerConfig, sockets: list[socket.socket], grace: float, ready: Callable[[], None]
) -> None:
    ending = _Ending(application)
    context = StoppingContext(config)
    settings = _HypercornConfig(context, sockets, ready)
    settings.graceful_timeout = grace + _LAST_SECONDS
    settings.shutdown_timeout = grace + _LAST_SECONDS
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_loop_exception)
    stop = asyncio.Event()

    def end() -> None:
        context.stopping = True
        stop.set()

    with _signals(loop, end, ending.over.set):
        serving = asyncio.create_task(hypercorn_serve(ending, settings, shutdown_trigger=stop.wait, mode="asgi"))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if stop.is_set():
            over = asyncio.create_task(ending.over.wait())
            await asyncio.wait({serving, over}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            over.cancel()
            ending.over.set()
            await asyncio.wait({serving}, timeout=grace + 4 * _LAST_SECONDS)
            if not serving.done():  # connections whose peers take nothing: asyncio.run cancels them
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
                return
        try:
            await serving
        except asyncio.CancelledError:
            # hypercorn asks connections for their outcome that it has cancelled itself, when the time was over
            if not stop.is_set():
                raise


class _Ending:
    """The application, whose requests are ended when their time is over. hypercorn's own way of doing so waits for
    ever where HTTP/2 is spoken: its connections want to be told that the request has come to an end.
    """

    def __init__(self, application: Any) -> None:  # Any: an ASGI application is any callable
        self.over = asyncio.Event()
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # Any: ASGI's dictionaries and callables
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        reading = None
        if scope["type"] == "http" and scope["http_version"] == "2":
            exchange = _Exchange(receive, send)
            reading = asyncio.ensure_future(exchange.read())
            scope = {**scope, "asgi": {**scope["asgi"], "spec_version": "2.4"}}
            receive, send = exchange.receive, exchange.send
        request = asyncio.ensure_future(self._application(scope, receive, send))
        over = asyncio.ensure_future(self.over.wait())
        try:
            await asyncio.wait({request, over}, return_when=asyncio.FIRST_COMPLETED)
            if not request.done():
                request.cancel()
                await asyncio.wait({request})
            if not request.cancelled():
                with contextlib.suppress(_ClientGone):
                    request.result()
        finally:
            over.cancel()
            request.cancel()
            if reading is not None:
                reading.cancel()


class _ClientGone(OSError):
    """What `send` raises once the client has gone (ASGI 2.4)."""


class _Exchange:
    """One request over HTTP/2, and two things hypercorn leaves undone there. Data that come for a request which has
    been answered in full break the connection: here an answer ends when its request has ended. And an answer that
    nobody takes any more waits for ever: here `send` ends when the client has gone.
    """

    def __init__(self, receive: Any, send: Any) -> None:  # Any: ASGI's callables
        self._receive = receive
        self._send = send
        self._messages: asyncio.Queue[Any] = asyncio.Queue(_MESSAGES)
        self._ended = asyncio.Event()
        self._gone = asyncio.Event()
        self._answered = False

    async def read(self) -> None:
        """Take what comes of the request, until the client has gone: a task beside the application."""
        while not self._gone.is_set():
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._gone.set()
            if not message.get("more_body"):
                self._ended.set()
            if not self._answered:
                await self._messages.put(message)

    async def receive(self) -> Any:  # Any: ASGI's dictionaries, here and below
        if self._gone.is_set() and self._messages.empty():
            return {"type": "http.disconnect"}
        return await self._messages.get()

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body") and not self._ended.is_set():
            await self._pass({**message, "more_body": True})
            await self._rest()
            message = {"type": "http.response.body", "body": b""}
        await self._pass(message)

    async def _pass(self, message: Any) -> None:
        if self._gone.is_set():
            raise _ClientGone("the client has gone")
        sending = asyncio.ensure_future(self._send(message))
        gone = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():  # "gone" comes too when hypercorn is just about to be done with the last message
                await asyncio.wait({sending}, timeout=_LAST_SECONDS)
            if not sending.done():
                raise _ClientGone("the client has gone")
            sending.result()
        finally:
            sending.cancel()
            gone.cancel()

    async def _rest(self) -> None:
        """Drop what the request still sends."""
        self._answered = True
        while not self._messages.empty():
            self._messages.get_nowait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), _UPLOAD_SECONDS)


@contextlib.contextmanager
def _signals(loop: asyncio.AbstractEventLoop, stop: Callable[[], None], hurry: Callable[[], None]) -> Iterator[None]:
    """Have SIGINT or SIGTERM call *stop*, a second one *hurry*; a third ends the process as it would have without us.

    A second one that comes at once is the same: `timeout` and others who start us send it to us and to our group.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    came: list[float] = []

    def signalled() -> None:
        now = loop.time()
        if came and now - came[0] < _SAME_SIGNAL_SECONDS:
            return
        came.append(now)
        if len(came) == 1:
            stop()
        else:
            hurry()
            restore()

    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number in numbers:
            if sys.platform != "win32":
                loop.remove_signal_handler(number)
            signal.signal(number, before[number])

    for number in numbers:
        if sys.platform == "win32":
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(signalled))
        else:
            loop.add_signal_handler(number, signalled)
    try:
        yield
    finally:
        restore()


def _loop_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Tell of what nobody handled, but for broken connections, of which the watch has told, and what was cancelled."""
    if not isinstance(context.get("exception"), (OSError, asyncio.CancelledError)):
        loop.default_exception_handler(context)


# ---- what is served ------------------------------------------------------------------------------------------------


def _application(target: str, *, listing: bool) -> Any:  # Any: an ASGI application is any callable
    if os.path.isdir(target):
        return StaticFiles(target, listing=listing)
    module, colon, attribute = target.partition(":")
    if not colon or not module or not attribute or os.path.exists(target):
        raise CommandFailed(
            f"{target!r} is neither a directory nor MODULE:APP",
            code=2,
            hints=("pellucid serve .  serves the present directory",),
        )
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise CommandFailed(f"cannot import {module!r}: {error}", code=2) from error
    except Exception as error:  # whatever a module may raise
        traceback.print_exc()
        raise CommandFailed(f"cannot import {module!r}: {type(error).__name__}: {error}", code=2) from error
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise CommandFailed(f"{module!r} has no {attribute!r}", code=2) from None
    if not callable(found):
        raise CommandFailed(f"{target!r} is not an application: it cannot be called", code=2)
    return found


# ---- how -----------------------------------------------------------------------------------------------------------


def _server_config(credentials: tuple[Credential, ...], options: dict[str, Any], watch: _Watch) -> ServerConfig:
    trust = None
    if options["client_ca"]:
        try:
            trust = load_trust(options["client_ca"])
        except UsageError as error:
            raise CommandFailed(error.reason, code=77) from error
    elif options["client_auth"] and not options["client_pubkey"]:
        text = "--client-auth needs --client-ca or --client-pubkey: nobody's certificates would be trusted"
        raise CommandFailed(text, code=2)
    wanted = ClientAuthentication.NONE
    changes = server_changes(options)
    if trust is not None or options["client_pubkey"]:
        wanted = ClientAuthentication(options["client_auth"] or "required")
    if options["client_pubkey"]:
        verifier, types = verifier_of(options["client_pubkey"], trust, changes.pop("revocation", None))
        changes |= {"verifier": verifier, "client_certificate_types": types}
    return ServerConfig(
        credentials=credentials,
        alpn=_ALPN,
        certificate_compression=installed(),
        client_authentication=wanted,
        client_trust=trust,
        max_early_data=MAX_EARLY_DATA if options["early_data"] else 0,
        trace=watch.observer,
        trace_records=options["verbose"] >= WORK,
        **changes,
    )


_LISTEN_HINTS: Final = {
    errno.EADDRINUSE: "another program listens there: choose another --port, or 0 for a free one",
    errno.EACCES: "ports below 1024 may need more rights: choose a higher --port",
    errno.EADDRNOTAVAIL: "it is not an address of this machine",
}


def _listen(host: str, port: int) -> list[socket.socket]:
    try:
        sock, _ = bind_listener(host, port, backlog=_BACKLOG, keep_syn=False)
    except socket.gaierror as error:
        raise CommandFailed(f"cannot listen on {host}: {error.strerror or error}", code=6) from error
    except OSError as error:
        hint = _LISTEN_HINTS.get(error.errno or 0)
        raise CommandFailed(
            f"cannot listen on {host} port {port}: {error.strerror or error}", code=7, hints=(hint,) if hint else ()
        ) from error
    sock.setblocking(False)
    return [sock]


def _url(host: str, port: int) -> str:
    try:
        address = ipaddress.ip_address(host) if host else None
    except ValueError:
        return f"https://{host}:{port}/"
    if address is None or address.is_unspecified or host == "127.0.0.1":
        return f"https://localhost:{port}/"
    return f"https://[{address}]:{port}/" if address.version == 6 else f"https://{address}:{port}/"


def _announce(output: Output, url: str, authority: DevelopmentCA | None, credentials: tuple[Credential, ...]) -> None:
    if authority is not None:
        made = "made" if authority.created else "kept"
        output.talk(line("A development certificate, by the CA ", made, f" in {authority.certificate_path}"))
        for program, command_line in trust_lines(authority.certificate_path, url):
            output.talk(line("  ", Span(f"{program:<9}", "name"), command_line))
        output.talk("Ctrl-C stops the server.")
    for credential in credentials:
        if isinstance(credential.leaf, RawPublicKey):
            output.talk("The raw public key, for those who know the server by it:")
            for text in credential.leaf.pem.splitlines():
                output.talk(text)
    output.fact(url)


# ---- what is seen --------------------------------------------------------------------------------------------------


@dataclass
class _Watch:
    """Makes the observer of each connection: failures in a line, and with -v the ladder."""

    output: Output
    verbose: int
    keylog: Path | None
    count: int = field(default=0, init=False)

    def observer(self) -> Observer:
        """Return the observer of a new connection."""
        self.count += 1
        keylog = KeyLogWriter(self.keylog) if self.keylog else None
        return tee(keylog, _ConnectionWatch(self.output, self.verbose, self.count)) or (lambda _: None)


class _ConnectionWatch:
    """Watches one connection. Its ladder appears when the handshake has ended, in one piece: others go on beside it."""

    def __init__(self, output: Output, verbose: int, number: int) -> None:
        self._output = output
        self._number = number
        self._lines: list[Line] = []
        self._complete = False
        self._ladder: LadderPrinter | None = None
        if verbose:
            self._ladder = LadderPrinter(self._lines.append, width=output.width, role=Role.SERVER, detail=verbose)

    def __call__(self, event: TraceEvent) -> None:
        if self._ladder is not None:
            self._ladder(event)
        ended = isinstance(event, (AlertTraced, ClosedTraced))
        if isinstance(event, HandshakeCompleted):
            self._complete = True
        if self._complete or ended:
            self._show()
        if isinstance(event, AlertTraced) and event.description != AlertDescription.CLOSE_NOTIFY:
            self._failed(event)

    def _show(self) -> None:
        if self._lines:
            self._talk(line(Span(f"connection {self._number}", "title")), *self._lines)
            self._lines.clear()

    def _talk(self, *lines: Line) -> None:
        """Say it, unless whoever listened has gone: the connections go on without."""
        with contextlib.suppress(OutputClosed):
            for one in lines:
                self._output.talk(one)

    def _failed(self, event: AlertTraced) -> None:
        name = alert_name(event.description)
        if event.direction is Direction.SENT:
            text = f"connection {self._number} refused ({name}): {escaped(event.reason)}"
        else:
            text = f"connection {self._number} given up by the client: {name}"
        self._talk(line(Span(text, "warn")))
