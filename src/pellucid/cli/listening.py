"""What the commands that serve share: the socket, signals, the URL they tell, and a watch over their connections."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hypercorn.utils import LifespanFailureError, LifespanTimeoutError

from pellucid.cli.common import CommandFailed, OutputClosed
from pellucid.cli.development_ca import DevelopmentCA
from pellucid.cli.output import Output
from pellucid.cli.trust_lines import trust_lines
from pellucid.config import Credential
from pellucid.crypto.certificates import RawPublicKey
from pellucid.explain.keylog import KeyLogWriter
from pellucid.explain.ladder import LadderPrinter
from pellucid.explain.pcapng import PcapngWriter
from pellucid.explain.recorder import tee
from pellucid.explain.text import Line, Span, escaped, line
from pellucid.integrations.serving import BACKLOG, Server
from pellucid.net.reload import ReloadingConfig
from pellucid.net.tcp import bind_listener
from pellucid.registry import AlertDescription, alert_name
from pellucid.trace import AlertTraced, ClosedTraced, Direction, HandshakeCompleted, Observer, Role, TraceEvent

__all__ = [
    "ConnectionWatches",
    "announce",
    "files_watched",
    "handled_exceptions",
    "hangups",
    "lifespan_failures",
    "listen",
    "listen_failed",
    "quiet_logger",
    "run_server",
    "stop_signals",
    "url_of",
]

_SAME_SIGNAL_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 1.0  # between two looks at the files


def run_server(server: Server, *, reloads: ReloadingConfig | None = None) -> None:
    """Run *server* until a signal stops it. Raises CommandFailed if the application cannot start.

    SIGINT and SIGTERM stop it when the running requests are done; a second one ends them.
    reloads: looks at its files every second, and on SIGHUP reads them all again. A SIGHUP because the terminal is gone
             stops the server.
    """
    with lifespan_failures():
        asyncio.run(_run(server, reloads))


@contextlib.contextmanager
def lifespan_failures() -> Iterator[None]:
    """Raise CommandFailed where the application did not start or end as it should."""
    try:
        yield
    except (LifespanFailureError, LifespanTimeoutError) as error:
        raise CommandFailed(f"the application did not start or end as it should: {error}", code=1) from error


async def _run(server: Server, reloads: ReloadingConfig | None) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(handled_exceptions)
    with stop_signals(loop, server.stop, server.hurry), contextlib.ExitStack() as stack:
        if reloads is not None:

            def reload() -> None:
                reloads.request_reload()
                reloads.check()

            stack.enter_context(hangups(loop, server.stop, reload))
            stack.enter_context(files_watched(reloads))
        await server.run()


@contextlib.contextmanager
def files_watched(reloads: ReloadingConfig) -> Iterator[None]:
    """Have *reloads* look at its files every second, in the running loop."""
    watching = asyncio.create_task(_watch(reloads))
    try:
        yield
    finally:
        watching.cancel()


async def _watch(reloads: ReloadingConfig) -> None:
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        reloads.check()


@contextlib.contextmanager
def hangups(loop: asyncio.AbstractEventLoop, stop: Callable[[], None], reload: Callable[[], None]) -> Iterator[None]:
    """Have SIGHUP call *reload*, where there is one; and *stop* where it came because the terminal is gone."""
    if sys.platform == "win32":
        yield
        return
    terminals = [number for number in range(3) if os.isatty(number)]

    def hung_up() -> None:
        if not all(map(os.isatty, terminals)):
            stop()
            return
        reload()

    before = signal.getsignal(signal.SIGHUP)
    loop.add_signal_handler(signal.SIGHUP, hung_up)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, before)


@contextlib.contextmanager
def stop_signals(
    loop: asyncio.AbstractEventLoop, stop: Callable[[], None], hurry: Callable[[], None]
) -> Iterator[None]:
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


def handled_exceptions(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Tell of what nobody handled, but for broken connections, of which the watch has told, and what was cancelled."""
    if not isinstance(context.get("exception"), (OSError, asyncio.CancelledError)):
        loop.default_exception_handler(context)


def quiet_logger() -> logging.Logger:
    """Return the logger of hypercorn's own news: warnings and errors, which an application's exceptions are."""
    logger = logging.getLogger("pellucid.serve")
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
    return logger


# ---- where -----------------------------------------------------------------------------------------------------------


_LISTEN_HINTS: Final = {
    errno.EADDRINUSE: "another program listens there: choose another --port, or 0 for a free one",
    errno.EACCES: "ports below 1024 may need more rights: choose a higher --port",
    errno.EADDRNOTAVAIL: "it is not an address of this machine",
}


def listen(host: str, port: int, *, keep_syn: bool = False) -> socket.socket:
    """Return a bound socket. keep_syn: whether the kernel keeps each client's SYN. Raises CommandFailed (6, 7)."""
    try:
        sock, _ = bind_listener(host, port, backlog=BACKLOG, keep_syn=keep_syn)
    except socket.gaierror as error:
        raise CommandFailed(f"cannot listen on {host}: {error.strerror or error}", code=6) from error
    except OSError as error:
        raise listen_failed(host, port, error) from error
    sock.setblocking(False)
    return sock


def listen_failed(host: str, port: int, error: OSError) -> CommandFailed:
    """Return what to tell where nobody can listen."""
    hint = _LISTEN_HINTS.get(error.errno or 0)
    why = f"cannot listen on {host} port {port}: {error.strerror or error}"
    return CommandFailed(why, code=7, hints=(hint,) if hint else ())


def url_of(host: str, port: int) -> str:
    """Return the URL for a browser on this machine, where *host* is what was listened on."""
    try:
        address = ipaddress.ip_address(host) if host else None
    except ValueError:
        return f"https://{host}:{port}/"
    if address is None or address.is_unspecified or host == "127.0.0.1":
        return f"https://localhost:{port}/"
    return f"https://[{address}]:{port}/" if address.version == 6 else f"https://{address}:{port}/"


def announce(output: Output, url: str, authority: DevelopmentCA | None, credentials: tuple[Credential, ...]) -> None:
    """Tell how to have programs trust the server, and then, as the one fact, its URL."""
    if authority is not None:
        made = "made" if authority.created else "kept"
        output.talk(line("A development certificate, by the CA ", made, f" in {authority.certificate_path}"))
        for program, command_line in trust_lines(authority.certificate_path, url):
            output.talk(line("  ", Span(f"{program:<9}", "name"), command_line))
        output.talk("pellucid trust tells of more, and does it for browsers; pellucid doctor tries them.")
        output.talk("Ctrl-C stops the server.")
    for credential in credentials:
        if isinstance(credential.leaf, RawPublicKey):
            output.talk("The raw public key, for those who know the server by it:")
            for text in credential.leaf.pem.splitlines():
                output.talk(text)
    output.fact(url)


# ---- what is seen --------------------------------------------------------------------------------------------------


@dataclass
class ConnectionWatches:
    """Makes the observer of each connection: failures in a line, and with -v the ladder.

    worker: number of the process among several that serve together; 0: it is alone.
    """

    output: Output
    verbose: int
    keylog: Path | None
    pcapng: PcapngWriter | None = None
    worker: int = 0
    count: int = field(default=0, init=False)

    def observer(self) -> Observer:
        """Return the observer of a new connection."""
        self.count += 1
        keylog = KeyLogWriter(self.keylog) if self.keylog else None
        pcapng = None if self.pcapng is None else self.pcapng.observer()
        name = f"connection {self.worker}.{self.count}" if self.worker else f"connection {self.count}"
        return tee(keylog, pcapng, _ConnectionWatch(self.output, self.verbose, name)) or (lambda _: None)


class _ConnectionWatch:
    """Watches one connection. Its ladder appears when the handshake has ended, in one piece: others go on beside it."""

    def __init__(self, output: Output, verbose: int, name: str) -> None:
        self._output = output
        self._name = name
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
            self._talk(line(Span(self._name, "title")), *self._lines)
            self._lines.clear()

    def _talk(self, *lines: Line) -> None:
        """Say it, unless whoever listened has gone: the connections go on without."""
        with contextlib.suppress(OutputClosed):
            for one in lines:
                self._output.talk(one)

    def _failed(self, event: AlertTraced) -> None:
        name = alert_name(event.description)
        if event.direction is Direction.SENT:
            text = f"{self._name} refused ({name}): {escaped(event.reason)}"
        else:
            text = f"{self._name} given up by the client: {name}"
        self._talk(line(Span(text, "warn")))
