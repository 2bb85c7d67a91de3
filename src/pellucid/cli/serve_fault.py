"""`pellucid serve --fault NAME`: a server that misbehaves in one way, for people to point their programs at."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pellucid.cli.common import CommandFailed, keylog_path, pcapng_writer
from pellucid.cli.listening import ConnectionWatches, listen_failed
from pellucid.cli.output import Output
from pellucid.cli.trust_lines import trust_lines
from pellucid.errors import UsageError
from pellucid.explain.ladder import WORK
from pellucid.explain.text import Line, Span, line
from pellucid.testing.faults import FAULTS, FaultyServer, Kind
from pellucid.trace import Role

__all__ = ["LIST", "serve_fault", "show_faults"]

LIST: Final = "list"
_KINDS: Final = {
    Kind.TRANSPORT: "Below TLS",
    Kind.X509: "Certificates",
    Kind.PROTOCOL: "The protocol",
}
_POLL_SECONDS: Final = 0.2
_PREFIX: Final = "pellucid-fault-"


def show_faults(output: Output) -> int:
    """Print what faults a server can have: name, the diagnosis of a client that notices, what is wrong."""
    faults = [fault for fault in FAULTS.values() if fault.side is Role.SERVER]
    names, codes = (max(len(text) for text in texts) for texts in zip(*((f.name, f.code) for f in faults), strict=True))
    two_lines = sys.stdout.isatty()
    for kind, title in _KINDS.items():
        output.fact(line(Span(title, "title")))
        for fault in (one for one in faults if one.kind is kind):
            head = (Span(f"  {fault.name:<{names}}  ", "name"), Span(f"{fault.code:<{codes}}", "warn"))
            output.fact(line(*head) if two_lines else line(*head, f"  {fault.summary}"))
            if two_lines:
                output.fact(f"      {fault.summary}")
    return 0


def serve_fault(name: str, options: Mapping[str, Any]) -> int:  # Any: click's options, each of its own type
    """Serve the fault *name* on this machine until SIGINT or SIGTERM."""
    output = Output()
    if name == LIST:
        return show_faults(output)
    with pcapng_writer(options["pcapng"]) as pcapng:
        watches = ConnectionWatches(output, options["verbose"], keylog_path(options["keylog"]), pcapng)
        records = options["verbose"] >= WORK or pcapng is not None
        try:
            server = FaultyServer(name, port=options["port"], trace=watches.observer, trace_records=records)
        except UsageError as error:
            raise CommandFailed(error.reason, code=2, hints=("pellucid serve --fault list",)) from error
        except OSError as error:
            raise listen_failed("127.0.0.1", options["port"], error) from error
        with _stopped_by_signals() as stopped, tempfile.TemporaryDirectory(prefix=_PREFIX) as directory, server:
            for one in _told(server, Path(directory)):
                output.talk(one)
            output.fact(server.url)
            while not stopped.wait(_POLL_SECONDS):
                continue
    return 0


def _told(server: FaultyServer, directory: Path) -> Iterator[Line]:
    """Write what clients need into *directory*; yield what the user is to know."""
    fault = server.fault
    yield line(Span(fault.name, "title"), f": {fault.summary}")
    section = f", against RFC {fault.rfc}" if fault.rfc else ""
    yield line(f"A client that notices is told {fault.code}{section}.")
    files = {"ca": server.ca_pem, "crl": server.crl, "client": server.client_pem, "key": server.public_key_pem}
    paths = {}
    for what, content in files.items():
        if content:
            paths[what] = directory / f"{what}{'.der' if what == 'crl' else '.pem'}"
            paths[what].touch(mode=0o600)  # one of them holds a private key
            paths[what].write_bytes(content)
    more = _shell(option.format(**paths) for option in fault.needs.options)
    if fault.needs.text:
        yield line(f"It needs, to notice, {fault.needs.text}.")
    resolve = ""
    if server.host != "localhost":
        resolve = _shell(("--resolve", f"{server.host}:{server.port}:{server.address}"))
    yield line(f"Trust for the CA of this server, until it ends, is in {paths['ca']}")
    for program, command in trust_lines(paths["ca"], server.url):
        if program in {"pellucid", "curl"}:
            command += resolve + (more if program == "pellucid" else "")
        yield line("  ", Span(f"{program:<9}", "name"), command)
    yield line("Ctrl-C stops the server.")


def _shell(words: Iterable[str]) -> str:
    return "".join(f" {shlex.quote(word)}" for word in words)


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set; a second one ends the process as it would have without us."""
    stopped = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(*_: object) -> None:
        stopped.set()
        restore()

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        restore()
