"""HTTPS requests a second: the same small application behind the same server, with stdlib ssl and with Pellucid.

uvicorn with its own ssl against `pellucid.uvicorn`, on asyncio's loop and uvloop, under wrk: a connection that is kept,
and one for each request, with full handshakes and resumed. hypercorn with stdlib ssl against `integrations.serving`,
under wrk and, for HTTP/2, h2load.

Each server is a process of its own, and the load is another. A number is the requests that the server's process
answers in a second of its processor time: the load shares the machine, and holds back the server that is fast. What
came of it by the clock stands beside.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pellucid
from bench.harness import NOISE_OF_PROCESSES, OURS, SSL, Measure, Peers, Sample, Scale
from bench.peers import Certificates

CONFIG = Path(__file__).with_name("openssl.cnf")
SECONDS = 1
CONNECTIONS = 16
ANSWER = b"Hello, world!\n"
SUITES = (pellucid.registry.CipherSuite.TLS_AES_128_GCM_SHA256,)
_TRIES = 5
PACKAGES = {"wrk": "wrk", "h2load": "nghttp2-client"}
"""program → the Debian package that has it"""

KEPT, EACH, RESUMED, HTTP2 = "keep-alive", "a connection a request", "a connection a request, resumed", "HTTP/2"


@dataclass(frozen=True)
class Case:
    """What is measured. server: uvicorn on a loop, or hypercorn; load: wrk or h2load; full: only where much is."""

    way: str
    server: str
    load: str = "wrk"
    floor: float | None = None
    record: float | None = None
    full: bool = False

    @property
    def name(self) -> str:
        return f"HTTPS, {self.way}, {self.server}"


CASES = (
    Case(KEPT, "uvicorn on asyncio", floor=1.1, record=1.25),
    Case(EACH, "uvicorn on asyncio", floor=1.3, record=1.5),
    Case(RESUMED, "uvicorn on asyncio"),
    Case(KEPT, "uvicorn on uvloop"),
    Case(EACH, "uvicorn on uvloop", full=True),
    Case(RESUMED, "uvicorn on uvloop", full=True),
    Case(KEPT, "hypercorn", full=True),
    Case(HTTP2, "hypercorn", load="h2load"),
)


def measures(scale: Scale) -> Iterable[Measure]:
    for case in CASES:
        if scale.full or not case.full:
            yield Measure(
                name=case.name,
                group="HTTPS requests",
                unit="/s",
                better="higher",
                open=_opener(case),
                rounds=scale.some(5),
                floor=case.floor,
                record=case.record,
                slack=NOISE_OF_PROCESSES,
                part_unit="/s",
                note="requests a second of the server's processor time; beside it those by the clock",
            )


def _opener(case: Case) -> Callable[[], contextlib.AbstractContextManager[Peers]]:
    @contextlib.contextmanager
    def opened() -> Iterator[Peers]:
        if lacking := missing(case):
            yield dict.fromkeys((SSL, OURS), lacking)
            return
        certificates = Certificates("p256")
        with contextlib.ExitStack() as stack:
            files = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            (files / "chain.pem").write_bytes(certificates.leaf.chain_pem)
            (files / "key.pem").write_bytes(certificates.leaf.key_pem)
            servers = {name: stack.enter_context(served(name, case, files)) for name in (SSL, OURS)}
            time.sleep(0.5)
            yield {name: _round(case, server) for name, server in servers.items()}

    return opened


def _round(case: Case, server: Server) -> Callable[[], Sample]:
    def one_round() -> Sample:
        for _ in range(_TRIES):
            sample = load(case, server)
            if sample is not None:
                return sample
        raise RuntimeError(f"{case.name}: no answer in {_TRIES} rounds")

    return one_round


async def application(scope: Any, receive: Any, send: Any) -> None:  # Any: ASGI's dictionaries and callables
    """Answers every request with the same few bytes."""
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"].removeprefix("lifespan.")
            await send({"type": f"lifespan.{kind}.complete"})
            if kind == "shutdown":
                return
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


# ---- a server, in its own process ------------------------------------------------------------------------------------


def serve(stack: str, server: str, way: str, files: Path) -> None:
    """Serve until told to stop; print the port first. Tickets are sent only where connections are to be resumed."""
    # The protocol is named: asyncio sends at once (TCP_NODELAY) only where it is.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    sock.listen(512)
    print(sock.getsockname()[1], flush=True)
    tickets = 0 if way == EACH else 1
    chain, key = files / "chain.pem", files / "key.pem"
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.num_tickets = tickets
    theirs.load_cert_chain(chain, key)
    ours = pellucid.ServerConfig(
        credentials=(pellucid.Credential.from_pem(chain.read_bytes(), key.read_bytes()),),
        suites=SUITES,
        alpn=("h2", "http/1.1") if server == "hypercorn" else (),
        tickets=tickets,
        tickets_on_resumption=tickets,
    )
    if server == "hypercorn":
        theirs.set_alpn_protocols(["h2", "http/1.1"])
        _hypercorn(theirs if stack == SSL else None, ours, sock)
    else:
        _uvicorn(theirs if stack == SSL else None, ours, sock, server.rpartition(" ")[2])


def _uvicorn(theirs: ssl.SSLContext | None, ours: pellucid.ServerConfig, sock: socket.socket, loop: str) -> None:
    import uvicorn

    options: dict[str, Any] = {"log_level": "warning", "access_log": False, "loop": loop}
    if theirs is None:
        pellucid.uvicorn.Server(uvicorn.Config(application, **options), ours).run([sock])
    else:
        config = uvicorn.Config(application, ssl_context_factory=lambda *_: theirs, **options)
        uvicorn.Server(config).run([sock])


def _hypercorn(theirs: ssl.SSLContext | None, ours: pellucid.ServerConfig, sock: socket.socket) -> None:
    import hypercorn.asyncio
    from hypercorn.config import Config

    from pellucid.integrations.serving import Listening, Server

    sock.setblocking(False)
    if theirs is None:
        server = Server(application, [Listening(sock=sock, config=ours)], grace=1.0, ready=lambda: None)
        asyncio.run(server.run())
    else:
        config: Any = Config()
        config.create_ssl_context = lambda: theirs
        config.certfile = config.keyfile = "as the context has them"
        config.bind = [f"fd://{sock.fileno()}"]
        config.include_server_header = False
        asyncio.run(hypercorn.asyncio.serve(application, config))


@contextlib.contextmanager
def served(stack: str, case: Case, files: Path) -> Iterator[Server]:
    """Give a server that runs."""
    command = (sys.executable, "-m", "bench.http", stack, case.server, case.way, str(files))
    environment = os.environ | {"OPENSSL_CONF": str(CONFIG)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            if process.stdout is None or not (port := process.stdout.readline()):
                raise RuntimeError(f"the server did not start: {stack}, {case.server}")
            yield Server(process.pid, int(port))
        finally:
            process.terminate()


class Server(NamedTuple):
    pid: int
    port: int

    def seconds(self) -> float:
        """Return the processor time that it took until now; it has one thread that works."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e9


# ---- the load --------------------------------------------------------------------------------------------------------


def load(case: Case, server: Server) -> Sample | None:
    """Have *server* answer for a while; None: the machine was too busy. Raises RuntimeError for errors."""
    url = f"https://127.0.0.1:{server.port}/"
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--timeout", "10s", url]
    if case.way in {EACH, RESUMED}:
        command[1:1] = ["-H", "Connection: close"]
    if case.load == "h2load":
        command = ["h2load", "-t1", "-c4", "-m8", f"-D{SECONDS}", url]
    environment = os.environ | {"OPENSSL_CONF": str(CONFIG)}
    before, begun = server.seconds(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS + 60, env=environment, check=False)
    used, took = server.seconds() - before, time.perf_counter() - begun
    said = done.stdout + done.stderr
    if case.load == "wrk":
        count = _number(r"(\d+) requests in", said)
        rate = _number(r"Requests/sec:\s+([\d.]+)", said)
        failed = "Socket errors" in said or "Non-2xx" in said
    else:
        count = _number(r"(\d+) succeeded", said)
        rate = count / took
        failed = "protocol: h2" not in said or bool(_number(r"(\d+) 5xx", said))
    if failed or done.returncode:
        raise RuntimeError(f"{case.name}: {said}")
    if not count:
        return None
    return Sample(count / used, {"by the clock": rate})


def _number(pattern: str, said: str) -> float:
    found = re.search(pattern, said)
    return float(found[1]) if found else 0.0


def missing(case: Case) -> str:
    """Return what the case needs and this machine does not have; "" if it has all."""
    if not Path("/proc/self/schedstat").exists():
        return "there is no /proc/…/schedstat"
    if shutil.which(case.load) is None:
        return f"{case.load} is not installed (Debian: {PACKAGES[case.load]})"
    for module in (case.server.partition(" ")[0], "uvloop" if "uvloop" in case.server else "asyncio"):
        try:
            __import__(module)
        except ImportError:
            return f"{module} is not installed"
    return ""


def main() -> None:
    """A server of `served`'s."""
    parser = argparse.ArgumentParser(prog="python -m bench.http")
    parser.add_argument("stack")
    parser.add_argument("server")
    parser.add_argument("way")
    parser.add_argument("files", type=Path)
    options = parser.parse_args()
    serve(options.stack, options.server, options.way, options.files)


if __name__ == "__main__":
    main()
