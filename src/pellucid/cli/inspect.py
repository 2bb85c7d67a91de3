"""`pellucid inspect`: examine servers: what they accept, how they behave, what that is worth."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from pellucid.cli.common import CommandFailed, keylog_option, keylog_path, pcapng_option, pcapng_writer
from pellucid.cli.credential_files import load_credential
from pellucid.cli.inspect_text import brief_lines, full_lines
from pellucid.cli.output import Output
from pellucid.cli.routes import routes
from pellucid.credential import Credential
from pellucid.errors import UsageError
from pellucid.explain.keylog import KeyLogWriter
from pellucid.explain.ladder import LadderPrinter
from pellucid.explain.pcapng import PcapngWriter
from pellucid.explain.recorder import tee
from pellucid.explain.text import Line
from pellucid.inspection import FIRST, Examination, Settings, Target, Verdict, document, examine_all, given_up
from pellucid.inspection.starttls import PROTOCOLS
from pellucid.net.load import load_trust, system_trust
from pellucid.trace import Observer
from pellucid.verify.trust import TrustStore

__all__ = ["command"]

_VERDICTS: Final = [verdict.value for verdict in Verdict if verdict is not Verdict.BROKEN]


@click.command(short_help="Examine servers: what they accept, how they behave, what that is worth.")
@click.argument("hosts", metavar="HOST[:PORT]|@FILE...", nargs=-1, required=True)
@click.option("--starttls", type=click.Choice(sorted(PROTOCOLS)), help="Begin in the open, in this protocol.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--full/--brief", "full", default=None,
              help="Everything, or the verdict and its reasons.  [default: full for one host]")  # fmt: skip
@click.option("--at-least", type=click.Choice(_VERDICTS), default=Verdict.FAIR.value, show_default=True,
              help="Exit with 1 if a verdict is worse.")  # fmt: skip
@click.option(
    "--early-data", is_flag=True, help="Send a HEAD request as 0-RTT data where it is allowed, and replay it."
)
@click.option("--no-request", is_flag=True, help="Ask nothing (HEAD, NOOP) of servers inside of TLS.")
@click.option("--server-name", metavar="NAME", help="Whom the certificates must be for, and SNI names.")
@click.option("--alpn", metavar="LIST", help="Application protocols to try: h2,http/1.1")
@click.option("--cacert", metavar="FILE", help="Trust the CAs in FILE (PEM, DER or a directory), and no others.")
@click.option("--cert", metavar="FILE", help="Show this certificate if a server asks: PEM or PKCS#12.")
@click.option("--key", metavar="KEY",
              help="The private key, where --cert does not hold it: a file, agent:SOCKET, pkcs11:…")  # fmt: skip
@click.option("--pass", "password", metavar="PASSWORD", envvar="PELLUCID_PASS",
              help="The private key's password.  [env: PELLUCID_PASS]")  # fmt: skip
@click.option("--resolve", metavar="HOST:PORT:ADDR[,ADDR]", multiple=True, help="Take ADDR for HOST's address.")
@click.option("--connect-to", metavar="HOST1:PORT1:HOST2:PORT2", multiple=True,
              help="Connect to HOST2:PORT2 instead of HOST1:PORT1; an empty HOST1 or PORT1 is any.")  # fmt: skip
@click.option("--connect-timeout", metavar="SECONDS", type=click.FloatRange(0, min_open=True), default=10.0,
              show_default=True, help="For TCP, for STARTTLS and for each handshake.")  # fmt: skip
@click.option("-m", "--max-time", metavar="SECONDS", type=click.FloatRange(0, min_open=True), default=60.0,
              show_default=True, help="For each host.")  # fmt: skip
@click.option("--hosts-at-once", metavar="N", type=click.IntRange(1, 64), default=8, show_default=True,
              help="So many hosts at a time.")  # fmt: skip
@click.option("--connections", metavar="N", type=click.IntRange(1, 32), default=6, show_default=True,
              help="So many connections to a host at a time.")  # fmt: skip
@click.option("-v", "--verbose", count=True, help="Draw each host's first handshake; -vv and -vvv in more detail.")
@keylog_option
@pcapng_option
def inspect(hosts: tuple[str, ...], **options: Any) -> int:  # Any: click's options, each of its own type
    """Examine the TLS 1.3 of each HOST: about thirty connections, in seconds.

    What it accepts and in whose order, its certificates and every check of them, how it asks again, resumes, staples
    and changes keys, how long all that takes; and a verdict: good, fair, poor or broken, with the reasons.
    @FILE has a host on each line, @- is standard input.
    Exit code 0 if every verdict is at least fair, else 1. No host's failure loses another's results.
    """
    output = Output()
    targets = [_target(host, options) for word in hosts for host in _hosts(word)]
    if not targets:
        raise CommandFailed("there is no host in what was given", code=2)
    full = options["full"] if options["full"] is not None else len(targets) == 1
    done: list[Examination] = []
    with pcapng_writer(options["pcapng"]) as pcapng, _Progress(len(targets), output) as progress:
        settings = _settings(options, output, progress.asked, pcapng)
        # One ladder at a time: two would be drawn through each other.
        at_once = 1 if options["verbose"] else options["hosts_at_once"]
        with contextlib.closing(examine_all(targets, settings, at_once=at_once)) as examinations:
            for found in examinations:
                examination, lines = _told(found, full, output.width)
                done.append(examination)
                with progress.one_done():
                    if not options["as_json"]:
                        output.facts(lines)
                        if full and len(targets) > len(done):
                            output.fact("")
    if options["as_json"]:
        output.json(document(done))
    worst = max(examination.judgement.verdict.rank for examination in done)
    return 0 if worst <= Verdict(options["at_least"]).rank else 1


command = inspect


def _told(examination: Examination, full: bool, width: int) -> tuple[Examination, list[Line]]:
    """Return the lines of an examination, and itself; if either form of it cannot be written, what says so."""
    lines = full_lines if full else brief_lines
    try:
        json.dumps(document([examination]))
        return examination, list(lines(examination, width))
    except Exception as error:  # noqa: BLE001  # whatever it was, the other hosts are told of
        instead = given_up(examination.target, error)
        return instead, list(lines(instead, width))


def _hosts(word: str) -> list[str]:
    """Return the hosts that a word stands for: itself, or the lines of @FILE without comments."""
    if not word.startswith("@"):
        return [word]
    try:
        with click.open_file(word[1:], encoding="utf-8") as file:
            lines = [text.partition("#")[0].strip() for text in file]
    except OSError as error:
        raise CommandFailed(f"cannot read {word[1:]}: {error.strerror or error}", code=26) from error
    except UnicodeDecodeError as error:
        raise CommandFailed(f"{word[1:]} is no text", code=26) from error
    return [text for text in lines if text]


def _target(text: str, options: Mapping[str, Any]) -> Target:
    alpn = None
    if options["alpn"] is not None:
        alpn = tuple(name.strip() for name in options["alpn"].split(",") if name.strip())
    try:
        host, port = Target.split(text)
        plain = Target.of(host, port, server_name=options["server_name"], starttls=options["starttls"], alpn=alpn)
        to_host, to_port, resolve = routes(options["resolve"], options["connect_to"])(plain.host, plain.port)
        return Target.of(
            plain.host,
            plain.port,
            server_name=plain.server_name,
            starttls=plain.starttls,
            alpn=plain.alpn,
            connect_to=(to_host, to_port),
            resolve=resolve,
        )
    except UsageError as error:
        raise CommandFailed(error.reason, code=2) from error


def _settings(
    options: Mapping[str, Any], output: Output, asked: Callable[[str], None], pcapng: PcapngWriter | None
) -> Settings:
    keylog = keylog_path(options["keylog"])

    def observer(question: str) -> Observer | None:
        ladder = None
        if options["verbose"] and question == FIRST:
            ladder = LadderPrinter(output.talk, width=output.width, detail=options["verbose"])
        keys = KeyLogWriter(keylog) if keylog else None
        return tee(ladder, keys, None if pcapng is None else pcapng.observer())

    return Settings(
        trust=_trust(options["cacert"]),
        credentials=_credentials(options),
        early_data=options["early_data"],
        requests=not options["no_request"],
        connections=options["connections"],
        connect_timeout=options["connect_timeout"],
        max_seconds=options["max_time"],
        observer=observer,
        trace_records=pcapng is not None,
        progress=asked,
    )


def _trust(path: str | None) -> TrustStore:
    try:
        return system_trust() if path is None else load_trust(path)
    except UsageError as error:
        raise CommandFailed(error.reason, code=77) from error


def _credentials(options: Mapping[str, Any]) -> tuple[Credential, ...]:
    if not options["cert"]:
        if options["key"]:
            raise CommandFailed("--key needs --cert", code=2)
        return ()
    return (load_credential(Path(options["cert"]), options["key"] or None, options["password"]),)


class _Progress:
    """A bar on a terminal's standard error, which is taken away while results are printed; elsewhere nothing."""

    def __init__(self, total: int, output: Output) -> None:
        self._bar: Any = None  # Any: rich's, which need not be loaded
        self._task: Any = None
        if not output.stderr.isatty():
            return
        from rich.console import Console  # noqa: PLC0415  # drawn seldom, and slow to load
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=Console(file=output.stderr), transient=True, redirect_stdout=False)
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> _Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def asked(self, question: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=question)

    @contextlib.contextmanager
    def one_done(self) -> Iterator[None]:
        """Make room for the results of a host that is done."""
        if self._bar is None:
            yield
            return
        self._bar.advance(self._task)
        self._bar.stop()
        yield
        self._bar.start()
