"""The time to the first byte of an answer over a path of 50 ms there and back.

From before the TCP connection to the answer's first byte, with a full handshake, a resumed one, and a resumed one whose
request is early data, which stdlib ssl does not have. Client and server are the same stack's, on this machine; the path
is `bench.delay`'s.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pellucid
from bench.delay import delayed
from bench.harness import OURS, SSL, Measure, Peers, Sample, Scale
from bench.peers import Certificates, StdlibStack

RTT_SECONDS = 0.05
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi\n"
WAYS = {
    "full handshake": "TCP, TLS, request and answer: 3 round trips",
    "resumed": "the same 3, without certificates",
    "resumed, early data": "TCP, then all at once: 2 round trips",
}


def measures(scale: Scale) -> Iterable[Measure]:
    for rtt_seconds in (0.01, RTT_SECONDS, 0.1) if scale.full else (RTT_SECONDS,):
        milliseconds = rtt_seconds * 1e3
        yield Measure(
            name=f"second visit, {milliseconds:.0f} ms there and back",
            group="Time to the first byte (ttfb)",
            unit="ms",
            better="lower",
            open=_opener(rtt_seconds),
            rounds=scale.some(2),
            against="difference",
            # One round trip less than stdlib's best.
            floor=-milliseconds if rtt_seconds == RTT_SECONDS else None,
            note="ssl: resumed; pellucid: resumed, the request as early data",
        )


def _opener(rtt_seconds: float) -> Callable[[], contextlib.AbstractContextManager[Peers]]:
    @contextlib.contextmanager
    def opened() -> Iterator[Peers]:
        certificates = Certificates()
        with _ours(certificates, rtt_seconds) as port, _theirs(certificates, rtt_seconds) as their_port:
            visit = _StdlibVisits(StdlibStack(certificates).client, their_port)
            config = pellucid.ClientConfig(trust=certificates.root.trust)
            visit(resumed=False)
            _visit(port, config, "full handshake")
            fresh = lambda: pellucid.ClientConfig(trust=certificates.root.trust)  # noqa: E731
            yield {
                SSL: lambda: Sample(visit(resumed=True) * 1e3),
                OURS: lambda: Sample(_visit(port, config, "resumed, early data") * 1e3),
                "ssl, full handshake": lambda: Sample(visit(resumed=False) * 1e3),
                "pellucid, full handshake": lambda: Sample(_visit(port, fresh(), "full handshake") * 1e3),
                "pellucid, resumed": lambda: Sample(_visit(port, config, "resumed") * 1e3),
            }

    return opened


def measure(repeat: int, rtt_seconds: float = RTT_SECONDS) -> dict:
    """Return, for each way, the seconds of *repeat* visits; the three take turns. Fails if one is not what it says."""
    certificates = Certificates()
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    with _ours(certificates, rtt_seconds) as port:
        config = pellucid.ClientConfig(trust=certificates.root.trust)
        _visit(port, config, "full handshake")
        for _ in range(repeat):
            for way in WAYS:
                fresh = pellucid.ClientConfig(trust=certificates.root.trust)
                times[way].append(_visit(port, fresh if way == "full handshake" else config, way))
    return {"schema": 1, "rtt_seconds": rtt_seconds, "seconds": times}


@contextlib.contextmanager
def _ours(certificates: Certificates, rtt_seconds: float) -> Iterator[int]:
    """Give the near end of the path to a server of ours."""
    credential = pellucid.Credential.from_pem(certificates.leaf.chain_pem, certificates.leaf.key_pem)
    server = pellucid.ServerConfig(credentials=(credential,), max_early_data=16_384)
    with pellucid.listen("127.0.0.1", 0, server) as listener:
        thread = threading.Thread(target=listener.serve, args=(_answer,), daemon=True)
        thread.start()
        with delayed(listener.address[1], one_way_seconds=rtt_seconds / 2) as port:
            yield port
        listener.close()
        thread.join(10)


def _answer(stream: pellucid.Stream) -> None:
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        data = stream.recv()
        if not data:
            return
        request += data
    stream.sendall(ANSWER)
    stream.recv()


def _visit(port: int, config: pellucid.ClientConfig, way: str) -> float:
    """Return the seconds to the first byte. The connection leaves with a ticket for the next."""
    early = way == "resumed, early data"
    begun = time.perf_counter()
    with pellucid.connect("localhost", port, config, early_data=REQUEST if early else b"") as stream:
        if not early:
            stream.sendall(REQUEST)
        first = stream.recv()
        seconds = time.perf_counter() - begun
        stream.settimeout(10)
        kept = stream.wait_for_ticket()
        accepted = stream.early_data is pellucid.EarlyDataOutcome.ACCEPTED
        if (stream.negotiated.resumed, accepted) != (way != "full handshake", early) or not kept:
            raise SystemExit(f"this was no visit of the kind {way!r}")
    if not ANSWER.startswith(first[:1]):
        raise SystemExit("the answer is another")
    return seconds


# ---- stdlib ssl ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _theirs(certificates: Certificates, rtt_seconds: float) -> Iterator[int]:
    """Give the near end of the path to a server with stdlib ssl."""
    context = StdlibStack(certificates).server
    context.num_tickets = 1
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                raw = listening.accept()[0]
                threading.Thread(target=_answer_over_ssl, args=(context, raw), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with delayed(listening.getsockname()[1], one_way_seconds=rtt_seconds / 2) as port:
        yield port
    listening.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept
    listening.close()
    thread.join(10)


def _answer_over_ssl(context: ssl.SSLContext, raw: socket.socket) -> None:
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as stream:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            if not (data := stream.recv(4096)):
                return
            request += data
        stream.sendall(ANSWER)
        stream.recv(1)


class _StdlibVisits:
    """Visits by stdlib ssl, which keep the session of the last one."""

    def __init__(self, context: ssl.SSLContext, port: int) -> None:
        self._context = context
        self._port = port
        self._session: Any = None

    def __call__(self, *, resumed: bool) -> float:
        """Return the seconds to the first byte."""
        begun = time.perf_counter()
        raw = socket.create_connection(("127.0.0.1", self._port))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = self._session if resumed else None
        with self._context.wrap_socket(raw, server_hostname="localhost", session=session) as stream:
            stream.sendall(REQUEST)
            first = stream.recv(4096)
            seconds = time.perf_counter() - begun
            if stream.session_reused != resumed or not ANSWER.startswith(first[:1]):
                raise SystemExit("this was no such visit")
            self._session = stream.session
        return seconds
