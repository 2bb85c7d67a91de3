"""`pellucid get`: fetch a URL over TLS 1.3, and show the connection it came over. curl's options, curl's exit codes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import click
import httpcore2
import httpx2

from pellucid import __version__
from pellucid.cli.common import CommandFailed, exit_code, fail, keylog_option, keylog_path, pcapng_option, pcapng_writer
from pellucid.cli.credential_files import load_credential
from pellucid.cli.development_ca import development_issuer
from pellucid.cli.early_http import EarlyTransport
from pellucid.cli.http import Backend, Clock, alpn_of, client_over
from pellucid.cli.output import Output
from pellucid.cli.raw_keys import own_raw_public_key, verifier_of
from pellucid.cli.routes import routes
from pellucid.cli.sessions import EarlyReport, instant, session_facts, session_file, session_lines
from pellucid.cli.tls_options import client_changes, client_tls_options, explained
from pellucid.config import ClientConfig, Credential
from pellucid.crypto.certificates import parse_certificate
from pellucid.crypto.credentials import certificate_names
from pellucid.errors import TLSError, UsageError
from pellucid.explain.diagnosis.diagnose import diagnose
from pellucid.explain.diagnosis.report import Diagnosis
from pellucid.explain.keylog import KeyLogWriter
from pellucid.explain.ladder import WORK, LadderPrinter
from pellucid.explain.pcapng import PcapngWriter
from pellucid.explain.recorder import Recorder, tee
from pellucid.explain.text import Span, escaped, line
from pellucid.handshake.actions import Negotiated
from pellucid.integrations.certificate_compression import installed
from pellucid.messages.handshake import Certificate
from pellucid.net.eyeballs import ConnectFailed
from pellucid.net.load import load_trust
from pellucid.net.session_file import FileSessionStore
from pellucid.registry import (
    alert_name,
    certificate_type_name,
    group_by_name,
    group_name,
    scheme_by_name,
    scheme_name,
    suite_by_name,
    suite_name,
)
from pellucid.trace import CertificateDecompressed, MessageTraced, Observer
from pellucid.verify.report import Failure

__all__ = ["command"]

_SCHEMA: Final = 1


@dataclass(kw_only=True)
class _Run:
    """One call of the command: what was asked for, and what was found on the way."""

    output: Output
    verbose: int
    silent: bool
    as_json: bool
    include: bool
    keylog: Path | None
    pcapng: PcapngWriter | None
    recorders: list[Recorder] = field(default_factory=list)

    def observer(self) -> Observer | None:
        """Return the observer of a new connection."""
        recorder = Recorder()
        self.recorders.append(recorder)
        ladder = None
        if self.verbose:
            ladder = LadderPrinter(self.output.talk, width=self.output.width, detail=self.verbose)
        keylog = KeyLogWriter(self.keylog) if self.keylog else None
        return tee(recorder, ladder, keylog, None if self.pcapng is None else self.pcapng.observer())

    def responded(self, response: httpx2.Response) -> None:
        """Tell of a response, each one of a chain of redirects."""
        request, version = response.request, response.http_version
        if self.verbose:
            target = request.url.raw_path.decode("ascii", "replace")
            spoken = "HTTP/2" if version == "HTTP/2" else "HTTP/1.1"
            sent = request.headers.copy()
            if spoken == "HTTP/2":
                sent.pop("connection", None)  # HTTP/2 has none, and none was sent
            self._headers(f"{request.method} {target} {spoken}", sent, ">", "client")
            self._headers(f"{version} {response.status_code} {response.reason_phrase}", response.headers, "<", "server")
        if self.include and not self.as_json:
            reason = f" {response.reason_phrase}" if version == "HTTP/1.1" and response.reason_phrase else ""
            head = [f"{version} {response.status_code}{reason}".encode("latin-1", "replace")]
            head += [name + b": " + value for name, value in response.headers.raw]
            _write(sys.stdout.buffer, b"\r\n".join(head) + b"\r\n\r\n")

    def _headers(self, first: str, headers: httpx2.Headers, mark: str, style: str) -> None:
        self.output.talk(line(Span(f"{mark} ", style), Span(escaped(first), "strong")))
        for name, value in headers.multi_items():
            shown = "…" if name.lower() in {"authorization", "proxy-authorization"} else escaped(value)
            self.output.talk(line(Span(f"{mark} ", style), Span(f"{escaped(name)}: ", "name"), shown))


@click.command(short_help="Fetch a URL, and see the connection it came over.")
@click.argument("url")
@click.option("-o", "--output", "output_file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
              help="Write the body to FILE, with a progress bar on a terminal.")  # fmt: skip
@click.option("-d", "--data", metavar="DATA", multiple=True,
              help="Send DATA, or @FILE, as a form (POST); more than one is joined with &.")  # fmt: skip
@click.option("-H", "--header", "headers", metavar="'NAME: VALUE'", multiple=True, help="Send this header.")
@click.option("-X", "--request", "method", metavar="METHOD", help="Use this method.")
@click.option("-I", "--head", is_flag=True, help="Ask for the headers only (HEAD), and print them.")
@click.option("-i", "--include", is_flag=True, help="Print the response's headers before the body.")
@click.option("-L", "--location", is_flag=True, help="Follow redirects; Authorization goes to the first origin alone.")
@click.option("--max-redirs", default=30, show_default=True, type=click.IntRange(0), help="At most so many of them.")
@click.option("--compressed", is_flag=True, help="Ask for a compressed body, and decompress it.")
@click.option("--http1.1", "http11", is_flag=True, help="Do not offer HTTP/2.")
@click.option("-f", "--fail", "fail_on_error", is_flag=True, help="Exit with 22, without the body, from status 400 on.")
@click.option("-s", "--silent", is_flag=True, help="Say nothing on standard error.")
@click.option("-v", "--verbose", count=True, help="Draw the handshake; -vv and -vvv in more detail.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON instead of the body.")
@click.option("--cacert", metavar="FILE", help="Trust the CAs in FILE (PEM, DER or a directory), and no others.")
@click.option("--pubkey", metavar="FILE",
              help="Trust the raw public keys in FILE, and certificates with --cacert only (RFC 7250).")  # fmt: skip
@click.option("--cert", metavar="FILE", help="Show this certificate if the server asks: PEM or PKCS#12.")
@click.option("--key", metavar="KEY",
              help="The private key, where --cert does not hold it: a file, agent:SOCKET, pkcs11:…")  # fmt: skip
@click.option("--raw-public-key", is_flag=True, help="Show the key itself if the server asks, without a certificate.")
@click.option("--pass", "password", metavar="PASSWORD", envvar="PELLUCID_PASS",
              help="The private key's password.  [env: PELLUCID_PASS]")  # fmt: skip
@click.option("--resolve", metavar="HOST:PORT:ADDR[,ADDR]", multiple=True, help="Take ADDR for HOST's address.")
@click.option("--connect-to", metavar="HOST1:PORT1:HOST2:PORT2", multiple=True,
              help="Connect to HOST2:PORT2 instead of HOST1:PORT1; an empty HOST1 or PORT1 is any.")  # fmt: skip
@click.option("--groups", metavar="LIST", help="Key-exchange groups, preferred first: X25519MLKEM768,x25519")
@click.option("--suites", metavar="LIST", help="Cipher suites, preferred first: TLS_AES_128_GCM_SHA256,…")
@click.option("--sigalgs", metavar="LIST", help="Signature schemes, preferred first: ed25519,rsa_pss_rsae_sha256,…")
@click.option("--connect-timeout", metavar="SECONDS", type=click.FloatRange(0, min_open=True),
              help="For TCP and the handshake.  [default: 30 and 10]")  # fmt: skip
@click.option("-m", "--max-time", metavar="SECONDS", type=click.FloatRange(0, min_open=True), help="For everything.")
@client_tls_options
@click.option("--session-file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
              help="Keep sessions in FILE, and resume from it. It is secret, and made with mode 0600.")  # fmt: skip
@click.option("--early-data", is_flag=True,
              help="Send a GET, HEAD or OPTIONS with the ClientHello, where a session allows.")  # fmt: skip
@keylog_option
@pcapng_option
def get(url: str, **options: Any) -> int:  # Any: click's options, each of its own type
    """Fetch URL over TLS 1.3 and write the body to standard output.

    The server is verified against the system's roots. HTTP/2 is spoken if the server wants to, else HTTP/1.1.
    Redirects are followed with -L only, proxies are taken from the environment (HTTPS_PROXY, NO_PROXY).
    A verification that fails is shown check by check; nothing is sent to such a server.
    With --session-file the next call resumes: no certificates travel, and --early-data saves a round trip more.
    With --psk the key vouches for the server, and certificates are taken with --cacert only.
    """
    if options["early_data"] and not options["session_file"]:
        raise CommandFailed("--early-data needs --session-file: it is sent in a session that was kept", code=2)
    with pcapng_writer(options["pcapng"]) as pcapng:
        run = _Run(
            output=Output(),
            verbose=options["verbose"],
            silent=options["silent"],
            as_json=options["as_json"],
            include=options["include"] or options["head"],
            keylog=keylog_path(options["keylog"]),
            pcapng=pcapng,
        )
        try:
            return _fetch(run, url, options)
        except Exception as error:  # noqa: BLE001  # told below, and by the exit code
            return _failed(run, url, explained(_told(error), options))


command = get


def _fetch(run: _Run, url: str, options: Mapping[str, Any]) -> int:
    target = _url(url)
    connect_to = routes(options["resolve"], options["connect_to"])
    sessions = session_file(options["session_file"])
    backend = Backend(
        _config(options, sessions),
        clock=Clock(options["connect_timeout"], options["max_time"]),
        observer=run.observer,
        connect_to=connect_to,
        keeps_sessions=sessions is not None,
    )
    content = _content(options["data"])
    method = options["method"] or ("HEAD" if options["head"] else "POST" if content is not None else "GET")
    http2 = not (options["http11"] or options["post_handshake_auth"])  # RFC 9113 §9.2.3
    with client_over(
        backend,
        follow=options["location"],
        max_redirects=options["max_redirs"],
        http2=http2,
    ) as client:
        early = None
        if options["early_data"]:
            early = EarlyTransport(client._transport, backend, alpn_of(http2=http2))
            client._transport = early
        client.event_hooks = {"request": [_https_only], "response": [run.responded]}
        client.headers["user-agent"] = f"pellucid/{__version__}"
        if not options["compressed"]:
            del client.headers["accept-encoding"]
        headers = _headers(client, options["headers"], form=content is not None)
        with client.stream(method, target, content=content, headers=headers) as response:
            refused = options["fail_on_error"] and response.status_code >= 400
            body = _Body(run, response, options, wanted=not refused and method != "HEAD")
            body.write()
            report = None if early is None else early.report
            if run.verbose:
                for told in session_lines(run.recorders, report) if sessions is not None else ():
                    run.output.talk(told)
            if run.as_json:
                run.output.json(_facts(run, url, response, body, report))
    if sessions is not None and sessions.problem and not run.silent:
        run.output.talk(line(Span(f"no session was kept: {escaped(sessions.problem)}", "warn")))
    if refused:
        raise CommandFailed(f"the server answered {response.status_code} {response.reason_phrase}".rstrip(), code=22)
    return 0


# ---- the request ---------------------------------------------------------------------------------------------------


def _url(text: str) -> httpx2.URL:
    if "://" not in text:
        text = f"https://{text}"
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError) as error:
        raise CommandFailed(f"{text!r} is not a URL: {error}", code=2) from error
    if url.scheme == "http":
        raise CommandFailed(
            "plain HTTP is not spoken here", code=2, hints=(f"try {escaped(str(url.copy_with(scheme='https')))}",)
        )
    if url.scheme != "https" or not url.host:
        raise CommandFailed(f"{text!r} is not an https:// URL", code=2)
    if not 0 < (443 if url.port is None else url.port) < 2**16:
        raise CommandFailed(f"{text!r} is not a URL: there is no port {url.port}", code=2)
    return url


def _https_only(request: httpx2.Request) -> None:
    if request.url.scheme != "https":
        raise CommandFailed(f"a redirect leads away from HTTPS, to {escaped(str(request.url))}", code=47)


def _headers(client: httpx2.Client, given: tuple[str, ...], *, form: bool) -> list[tuple[str, str]]:
    """Return the headers to send; `Name:` takes away one that is sent otherwise, as with curl."""
    headers: list[tuple[str, str]] = []
    for text in given:
        name, colon, value = (part.strip() for part in text.partition(":"))
        if not colon or not name:
            raise CommandFailed(f"{text!r} is not a header: NAME: VALUE", code=2)
        if value:
            headers.append((name, value))
        elif name in client.headers:
            del client.headers[name]
    if form and not any(text.lower().startswith("content-type:") for text in given):
        headers.append(("Content-Type", "application/x-www-form-urlencoded"))
    return headers


def _content(data: tuple[str, ...]) -> bytes | None:
    if not data:
        return None
    parts = []
    for one in data:
        if one.startswith("@"):
            try:
                content = sys.stdin.buffer.read() if one == "@-" else Path(one[1:]).read_bytes()
            except OSError as error:
                raise CommandFailed(f"cannot read {one[1:]}: {error.strerror or error}", code=26) from error
            parts.append(content.replace(b"\r", b"").replace(b"\n", b""))
        else:
            parts.append(one.encode("utf-8", "surrogateescape"))
    return b"&".join(parts)


def _config(options: Mapping[str, Any], sessions: FileSessionStore | None) -> ClientConfig:
    records = options["verbose"] >= WORK or options["pcapng"] is not None
    changes: dict[str, Any] = {"trace_records": records, "certificate_compression": installed()}
    changes |= client_changes(options)
    if sessions is not None:
        changes["sessions"] = sessions
    for option, name, find in (
        ("groups", "groups", group_by_name),
        ("suites", "suites", suite_by_name),
        ("sigalgs", "signature_schemes", scheme_by_name),
    ):
        if options[option]:
            changes[name] = _codes(options[option], option, find)
    if options["cacert"]:
        try:
            changes["trust"] = load_trust(options["cacert"])
        except UsageError as error:
            raise CommandFailed(error.reason, code=77) from error
    if options["pubkey"]:
        verifier, types = verifier_of(options["pubkey"], changes.pop("trust", None), changes.pop("revocation", None))
        changes |= {"verifier": verifier, "server_certificate_types": types}
    if options["cert"]:
        credential = _credential(options)
        changes["credentials"] = (credential.as_raw_public_key() if options["raw_public_key"] else credential,)
    elif options["raw_public_key"]:
        changes["credentials"] = (own_raw_public_key(options["key"], options["password"]),)
    elif options["key"]:
        raise CommandFailed("--key needs --cert, or --raw-public-key", code=2)
    return ClientConfig(**changes)


def _credential(options: Mapping[str, Any]) -> Credential:
    return load_credential(Path(options["cert"]), options["key"] or None, options["password"])


def _codes(names: str, option: str, find: Callable[[str], int]) -> tuple[int, ...]:
    codes = []
    for name in names.replace(":", ",").split(","):
        try:
            codes.append(find(name.strip()))
        except KeyError:
            raise CommandFailed(f"--{option}: {name.strip()!r} is not known here", code=2) from None
    return tuple(codes)


# ---- the body ------------------------------------------------------------------------------------------------------


class _Body:
    """Where a response's body goes: a file, standard output, or with --json nowhere. Counted and hashed."""

    def __init__(self, run: _Run, response: httpx2.Response, options: Mapping[str, Any], *, wanted: bool) -> None:
        self.size = 0
        self.digest = hashlib.sha256()
        self.file: Path | None = options["output_file"]
        self._run = run
        self._response = response
        self._decode: bool = options["compressed"]
        self._wanted = wanted

    def write(self) -> None:
        if not self._wanted:
            return
        with self._sink() as sink, self._progress() as advance:
            # As it comes: what a server says slowly is seen at once, and what came before an error is there.
            for chunk in self._response.iter_bytes() if self._decode else self._response.iter_raw():
                self.size += len(chunk)
                self.digest.update(chunk)
                if sink is not None:
                    _write(sink, chunk)
                advance(len(chunk))

    @contextlib.contextmanager
    def _sink(self) -> Iterator[BinaryIO | None]:
        if self.file is None:
            yield None if self._run.as_json else sys.stdout.buffer
            return
        try:
            file = self.file.open("wb")
        except OSError as error:
            raise _cannot_write(self.file, error) from error
        try:
            yield file
        finally:
            try:
                file.close()
            except OSError as error:
                raise _cannot_write(self.file, error) from error

    @contextlib.contextmanager
    def _progress(self) -> Iterator[Callable[[int], object]]:
        """Give what is told of each piece: a bar on a terminal's standard error, if the body goes to a file."""
        if self.file is None or self._run.silent or not sys.stderr.isatty():
            yield lambda _: None
            return
        from rich.console import Console  # noqa: PLC0415  # drawn seldom, and slow to load
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn  # noqa: PLC0415

        length = self._response.headers.get("content-length", "")
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("", total=int(length) if length.isdigit() else None)
            yield lambda size: progress.advance(task, size)


def _write(sink: BinaryIO, data: bytes) -> None:
    """Write *data*, through to whoever reads it. Raises CommandFailed if it cannot be."""
    try:
        sink.write(data)
        sink.flush()
    except BrokenPipeError as error:
        # Who read it has gone; the interpreter must not try once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise _cannot_write("standard output", error) from error
    except OSError as error:
        raise _cannot_write(getattr(sink, "name", "the output"), error) from error


def _cannot_write(what: object, error: OSError) -> CommandFailed:
    return CommandFailed(f"cannot write {what}: {error.strerror or error}", code=23)


# ---- what was found ------------------------------------------------------------------------------------------------


def _facts(run: _Run, url: str, response: httpx2.Response, body: _Body, early: EarlyReport | None) -> dict[str, object]:
    stream = response.extensions.get("network_stream")
    tls = _tls_facts(stream)
    if tls is not None:
        tls |= session_facts(run.recorders, early)
    return {
        "schema": _SCHEMA,
        "url": url,
        "final_url": str(response.url),
        "redirects": [str(one.url) for one in response.history],
        "http_version": response.http_version,
        "status": response.status_code,
        "headers": response.headers.multi_items(),
        "body": {
            "bytes": body.size,
            "sha256": body.digest.hexdigest(),
            "file": None if body.file is None else str(body.file),
        },
        "tls": tls,
    }


def _tls_facts(stream: Any) -> dict[str, object] | None:  # Any: what httpcore2 gives back is our own stream
    negotiated: Negotiated | None = getattr(stream, "negotiated", None)
    if negotiated is None:
        return None
    peer = negotiated.peer
    address = stream.get_extra_info("server_addr")
    return {
        "version": "TLS 1.3",
        "cipher_suite": suite_name(negotiated.cipher_suite),
        "group": None if negotiated.group is None else group_name(negotiated.group),
        "signature_scheme": None if negotiated.signature_scheme is None else scheme_name(negotiated.signature_scheme),
        "alpn": negotiated.alpn,
        "server_name": negotiated.server_name,
        "retried": negotiated.retried,
        "client_certificate": bool(negotiated.client_signature_scheme),
        "server_address": None if address is None else list(address[:2]),
        "certificate_type": None if peer is None else certificate_type_name(peer.certificate_type),
        "resumed": negotiated.resumed,
        "authenticated_at": instant(negotiated.authenticated_at),
        "verification": None if peer is None else peer.report.to_dict(),
    }


def _told(error: Exception) -> Exception:
    """Return *error* as one that the exit codes know: httpx2's own as sentences."""
    if isinstance(error, httpx2.TooManyRedirects):
        return CommandFailed("too many redirects", code=47, hints=("allow more of them: --max-redirs",))
    if isinstance(error, (httpx2.InvalidURL, httpx2.UnsupportedProtocol)):
        return CommandFailed(f"not a URL to go to: {error}", code=47)
    if isinstance(error, (httpx2.HTTPError, httpcore2.ProtocolError, httpcore2.NetworkError)):
        return _because(CommandFailed(f"the HTTP exchange failed: {error}", code=56), error)
    if isinstance(error, ConnectFailed) and exit_code(error) not in {6, 7, 28}:
        return _because(CommandFailed(str(error), code=7), error)
    return error


def _because(failed: CommandFailed, error: Exception) -> CommandFailed:
    failed.__cause__ = error
    return failed


def _failed(run: _Run, url: str, error: Exception) -> int:
    """Tell of *error*: the diagnosis, the sentence, the hints. Return the exit code."""
    diagnosis = _diagnosed(run, error)
    if run.as_json and not isinstance(error, click.UsageError):
        run.output.json({"schema": _SCHEMA, "url": url, "error": _error_facts(error, diagnosis)})
    if run.silent:
        return exit_code(error)
    if diagnosis is not None:
        for one in diagnosis.lines(run.output.width):
            run.output.talk(one)
    code = fail(error, diagnosed=diagnosis is not None)
    verification = None if diagnosis is None else diagnosis.verification
    if verification is not None and verification.failure is Failure.WRONG_NAME:
        names = _presented_names(run.recorders)
        run.output.hint(f"the certificate is for: {', '.join(names[:20]) or 'no name at all'}")
    elif verification is not None and (authority := development_issuer(verification.presented)) is not None:
        run.output.hint(f"this user's development CA issued it, as it says: --cacert {shlex.quote(str(authority))}")
    return code


_DIAGNOSED: Final = frozenset({6, 7, 28, 35, 56, 58, 60, 90})
"""exit codes of what has to do with a connection"""


def _diagnosed(run: _Run, error: Exception) -> Diagnosis | None:
    """Return the diagnosis of *error*, None for one that is not about a connection."""
    if exit_code(error) not in _DIAGNOSED:
        return None
    found = diagnose(error, recorder=run.recorders[-1] if run.recorders else None)
    return None if found.code in {"OK", "UNKNOWN", "USAGE"} else found


def _error_facts(error: Exception, diagnosis: Diagnosis | None) -> dict[str, object]:
    cause = error.__cause__ if isinstance(error, CommandFailed) else error
    alert = getattr(cause, "alert", getattr(cause, "description", None)) if isinstance(cause, TLSError) else None
    verification = None if diagnosis is None else diagnosis.verification
    return {
        "message": str(error),
        "type": type(error if cause is None else cause).__name__,
        "exit_code": exit_code(error),
        "alert": None if alert is None else alert_name(alert),
        "rfc": getattr(cause, "rfc", None) or None,
        "verification": None if verification is None else verification.to_dict(),
        "diagnosis": None if diagnosis is None else diagnosis.to_dict(),
    }


def _presented_names(recorders: list[Recorder]) -> tuple[str, ...]:
    """Return the names in the last certificate that a server showed."""
    for recorder in reversed(recorders):
        for event in recorder.events:
            body = event.body if isinstance(event, (MessageTraced, CertificateDecompressed)) else None
            if isinstance(body, Certificate) and body.certificate_list:
                leaf = parse_certificate(body.certificate_list[0].cert_data)
                return tuple(escaped(name) for name in certificate_names(leaf))
    return ()
