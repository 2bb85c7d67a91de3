"""Those who meet a faulty server: ours, which give a code, and others, which give what they say.

Each is a function of a `Meeting`. Ours raise or return a Diagnosis' code, "" for no error at all and None where their
library lets nothing of ours through; others return their last words.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import aiohttp
import httpx2
import requests
from requests.adapters import HTTPAdapter

import pellucid
from pellucid import explain
from pellucid.cli.main import cli
from pellucid.testing.faults import FaultyServer

REQUEST = "GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Meeting:
    """One faulty server and what its victims need. seconds: how long they wait."""

    server: FaultyServer
    seconds: float
    ca: Path
    client: Path
    crl: Path
    key: Path

    @property
    def url(self) -> str:
        return self.server.url


@dataclass(frozen=True)
class Answer:
    """What one of ours came to. code: by the error alone.   recorded: by the error with its record."""

    code: str | None
    recorded: str | None = None
    error: str = ""


@contextlib.contextmanager
def meeting(name: str, directory: Path, seconds: float) -> Iterator[Meeting]:
    """Give a meeting with the fault *name*; all names lead to it while it lasts."""
    with FaultyServer(name, pace=seconds) as server:
        paths = {kind: directory / f"{name}-{kind}.pem" for kind in ("ca", "client", "crl", "key")}
        paths["ca"].write_bytes(server.ca_pem)
        paths["client"].write_bytes(server.client_pem)
        paths["key"].write_bytes(server.public_key_pem)
        paths["crl"].write_bytes(_pem(server.crl))
        yield Meeting(server, seconds, **paths)


def _pem(crl: bytes) -> bytes:
    text = base64.encodebytes(crl)
    return b"-----BEGIN X509 CRL-----\n" + text + b"-----END X509 CRL-----\n" if crl else b""


@contextlib.contextmanager
def names_of(hosts: set[str]) -> Iterator[None]:
    """Have *hosts* lead to this machine's IPv4 loopback, for every library of this process."""
    real = socket.getaddrinfo

    def lookup(host: object, *arguments: object, **more: object) -> object:
        text = host.decode() if isinstance(host, bytes) else host
        return real("127.0.0.1" if text in hosts else host, *arguments, **more)  # type: ignore[arg-type]

    with mock.patch.object(socket, "getaddrinfo", lookup):
        yield


# ---- ours ------------------------------------------------------------------------------------------------------------


def through_get(met: Meeting) -> Answer:
    """`pellucid get --json`: the command itself, in this process. Not for two threads."""
    paths = {"client": str(met.client), "crl": str(met.crl), "ca": str(met.ca), "key": str(met.key)}
    options = [option.format(**paths) for option in met.server.fault.needs.options]
    route = f"{met.server.host}:{met.server.port}:{met.server.address}"
    arguments = ["get", met.url, "--json", "--cacert", str(met.ca), "--resolve", route]
    arguments += ["--connect-timeout", str(met.seconds), "--max-time", str(2 * met.seconds), *options]
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()) as err:
        status = cli.main(args=arguments, prog_name="pellucid", standalone_mode=False)
    out.flush()
    if status == 0:
        return Answer("")
    error = json.loads(out.buffer.getvalue().decode())["error"]  # type: ignore[attr-defined]
    diagnosis = error["diagnosis"]
    shown = f"error[{diagnosis['code']}]" in err.getvalue() if diagnosis else False
    return Answer(diagnosis["code"] if shown else None, error=f"exit {status}: {error['message']}")


def _context(met: Meeting, recorder: explain.Recorder) -> pellucid.SSLContext:
    return pellucid.SSLContext(replace(met.server.client_config, alpn=(), trace=lambda: recorder))


def _answer(error: BaseException, recorder: explain.Recorder) -> Answer:
    """A library's error, alone and with the record of its connection."""
    alone, recorded = explain.diagnose(error).code, explain.diagnose(error, recorder=recorder).code
    nothing = alone in {"UNKNOWN", "TIMEOUT"}  # the library says that it failed, and not at what
    return Answer(None if nothing else alone, recorded, f"{type(error).__name__}: {error}")


def through_requests(met: Meeting) -> Answer:
    recorder = explain.Recorder()
    context = _context(met, recorder)

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: object, **more: object) -> object:
            return super().init_poolmanager(*arguments, ssl_context=context, **more)  # type: ignore[no-untyped-call]

        def cert_verify(self, *_: object) -> None:
            """The context has its trust already."""

    with requests.Session() as session:
        session.trust_env = False
        session.mount("https://", Adapter())
        try:
            session.get(met.url, timeout=met.seconds)
        except requests.RequestException as error:
            return _answer(error, recorder)
    return Answer("")


def through_httpx2(met: Meeting) -> Answer:
    recorder = explain.Recorder()
    try:
        with httpx2.Client(verify=_context(met, recorder), timeout=met.seconds, trust_env=False) as client:
            client.get(met.url)
    except httpx2.HTTPError as error:
        return _answer(error, recorder)
    except OSError as error:  # what httpx2 does not know it lets through
        return _answer(error, recorder)
    return Answer("")


def through_aiohttp(met: Meeting) -> Answer:
    return asyncio.run(_through_aiohttp(met))


async def _through_aiohttp(met: Meeting) -> Answer:
    recorder = explain.Recorder()
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=met.seconds, sock_read=met.seconds, connect=met.seconds)
    context = _context(met, recorder)
    context.set_alpn_protocols(["http/1.1"])  # others do so by themselves
    connector = aiohttp.TCPConnector(ssl=context)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, session.get(met.url) as got:
            await got.read()
    except (aiohttp.ClientError, OSError) as error:
        return _answer(error, recorder)
    return Answer("")


# ---- others ----------------------------------------------------------------------------------------------------------


def by_curl(met: Meeting) -> str:
    route = f"{met.server.host}:{met.server.port}:{met.server.address}"
    arguments = [
        "curl",
        "-sS",
        "--max-time",
        str(met.seconds),
        "--cacert",
        str(met.ca),
        "--resolve",
        route,
        "--tlsv1.3",
    ]
    if met.client.stat().st_size:
        arguments += ["--cert", str(met.client)]
    if met.crl.stat().st_size:
        arguments += ["--crlfile", str(met.crl)]
    done = _run([*arguments, "-o", "/dev/null", met.url], met, b"")
    said = re.search(r"^curl: \(\d+\) (.*)$", done.stderr.decode("utf-8", "replace"), re.MULTILINE)
    return f"{done.returncode}: {said[1] if said else '(nothing)'}" if done.returncode else "no error"


def by_openssl(met: Meeting) -> str:
    arguments = ["openssl", "s_client", "-connect", f"{met.server.address}:{met.server.port}", "-tls1_3", "-brief"]
    arguments += ["-servername", met.server.host, "-verify_hostname", met.server.host, "-verify_return_error"]
    arguments += ["-CAfile", str(met.ca), "-ign_eof"]
    if met.client.stat().st_size:
        arguments += ["-cert", str(met.client), "-key", str(met.client)]
    if met.crl.stat().st_size:
        arguments += ["-CRL", str(met.crl), "-crl_check"]
    try:
        done = _run(arguments, met, REQUEST.format(met.server.host).encode())
    except subprocess.TimeoutExpired:
        return "(waits)"
    said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if _SAYS_SOMETHING.search(line)]
    said.sort(key=lambda line: line.startswith("verify error"))  # the reason, rather than that there was one
    return _openssl_words(said[-1]) if said else "no error" if done.returncode == 0 else _last(done.stderr)


_SAYS_SOMETHING = re.compile(r"error:|verify error|Verification error|errno|refused")


def by_ssl(met: Meeting) -> str:
    context = ssl.create_default_context(cafile=str(met.ca))
    if met.client.stat().st_size:
        context.load_cert_chain(met.client)
    if met.crl.stat().st_size:
        context.load_verify_locations(met.crl)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    try:
        with (
            socket.create_connection((met.server.address, met.server.port), met.seconds) as plain,
            context.wrap_socket(plain, server_hostname=met.server.host, suppress_ragged_eofs=False) as sock,
        ):
            sock.sendall(REQUEST.format(met.server.host).encode())
            while sock.recv(2**16):
                continue
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def _run(arguments: list[str], met: Meeting, given: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(arguments, input=given, capture_output=True, timeout=met.seconds + 1, check=False)


def _last(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "(nothing)"


def _openssl_words(line: str) -> str:
    """The reason out of "…:error:0A000086:SSL routines:function:certificate verify failed:../ssl/…"."""
    words = line.rsplit(":SSL routines:", maxsplit=1)[-1].split(":../", maxsplit=1)[0]
    return words if words == line else words.replace(":", ": ", 1)


OURS: dict[str, Callable[[Meeting], Answer]] = {
    "get": through_get,
    "requests": through_requests,
    "httpx2": through_httpx2,
    "aiohttp": through_aiohttp,
}
OTHERS: dict[str, Callable[[Meeting], str]] = {"curl": by_curl, "openssl": by_openssl, "ssl": by_ssl}
NEED_PROGRAMS = {"curl": "curl", "openssl": "openssl"}


def available() -> dict[str, Callable[[Meeting], str]]:
    """The others that are on this machine."""
    return {name: by for name, by in OTHERS.items() if name not in NEED_PROGRAMS or shutil.which(NEED_PROGRAMS[name])}
