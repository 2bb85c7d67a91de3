"""A probe: one connection, with one configuration, that asks one question. It never raises what a server does."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pellucid.config import ClientConfig
from pellucid.crypto.provider import CryptoProvider
from pellucid.crypto.pyca import PYCA
from pellucid.errors import AlertReceived, PeerError, TruncatedStream
from pellucid.explain.recorder import Recorder, tee
from pellucid.handshake.actions import Negotiated
from pellucid.inspection.starttls import Preamble, StartTLSFailed
from pellucid.inspection.target import Settings, Target
from pellucid.inspection.witness import DangerousWitness
from pellucid.net.kernel import tcp_info
from pellucid.net.load import system_trust
from pellucid.net.operations import RECEIVE_SIZE, DeadlineExceeded
from pellucid.net.setup import new_connection
from pellucid.net.sync import Stream, shaken
from pellucid.net.tcp import connect_tcp
from pellucid.registry import alert_name
from pellucid.trace import TcpInfo

__all__ = ["Answer", "OutOfTime", "Prober", "Talk", "refusal"]

_FAREWELL_SECONDS: Final = 0.05  # beyond a round trip, that a server is given to say goodbye
_MAX_FAREWELL: Final = 1.0
_MAX_FAREWELL_BYTES: Final = 2**18

Talk = Callable[[Stream, "Answer"], None]
"""What is done on the connection once it is there."""


class OutOfTime(TimeoutError):
    """The examination's own time is over."""


@dataclass(slots=True, kw_only=True)
class Answer:
    """What came of a probe.

    negotiated: None if there was no handshake, and then `error` says why; it may be set besides, by what came later.
    connected:  whether there was a TCP connection. times: of its stages, seconds.
    """

    question: str
    witness: DangerousWitness
    recorder: Recorder | None
    negotiated: Negotiated | None = None
    error: Exception | None = None
    connected: bool = False
    peer_address: tuple[str, int] = ("", 0)
    times: dict[str, float] = field(default_factory=dict)


def refusal(error: Exception | None) -> str | None:
    """Return how a server refused: the alert's name, "closed", or "misbehaved"; None if it is no refusal at all."""
    if isinstance(error, AlertReceived):
        return alert_name(error.description)
    if isinstance(error, PeerError):
        return "misbehaved"
    if isinstance(error, (TruncatedStream, ConnectionResetError, BrokenPipeError)):
        return "closed"
    return None


class Prober:
    """Makes the connections of one examination: so many at a time, and none once the time is over."""

    def __init__(
        self,
        target: Target,
        settings: Settings,
        executor: Executor,
        *,
        provider: CryptoProvider = PYCA,
        stop: threading.Event | None = None,
    ) -> None:
        self.target = target
        self.settings = settings
        self.trust = settings.trust if settings.trust is not None else system_trust()
        self.provider = provider
        self.round_trip = 0.0
        """seconds, as far as it is known"""
        self.count = 0
        self._slots = threading.Semaphore(settings.connections)
        self._lock = threading.Lock()
        self._end = time.monotonic() + settings.max_seconds
        self._stop = stop
        self._executor = executor
        self._resolve = target.resolve

    def left(self, most: float) -> float:
        """Return how many seconds there are, at most *most*. Raises OutOfTime if none are."""
        if self._stop is not None and self._stop.is_set():
            raise OutOfTime("the examination was given up")
        left = self._end - time.monotonic()
        if left <= 0:
            raise OutOfTime(f"the examination took longer than {self.settings.max_seconds:g} s")
        return min(left, most)

    def patience(self, seconds: float) -> float:
        """Return how long to wait for what may not come: *seconds* and two round trips."""
        return seconds + 2 * self.round_trip

    def config(self, **changes: Any) -> ClientConfig:  # Any: fields of ClientConfig, each of its own type
        """Return the configuration of an ordinary probe with *changes*: everything on offer, nothing kept."""
        values: dict[str, Any] = {
            "provider": self.provider,
            "credentials": self.settings.credentials,
            "alpn": self.target.alpn,
            "sessions": None,
            "request_ocsp": False,
            "request_scts": False,
            "certificate_compression": (),
            "trace_records": self.settings.trace_records,
        }
        return ClientConfig(**(values | changes))

    def ask(
        self,
        question: str,
        *,
        talk: Talk | None = None,
        server_name: str | None = None,
        watched: bool = False,
        packets: bool = False,
        keeps_sessions: bool = False,
        early_data: bytes = b"",
        **changes: Any,  # Any: as of `config`
    ) -> Answer:
        """Ask one question; whatever the server does is in the answer.

        watched: record the connection.   packets: let the settings' observer see the TCP handshake too.
        """
        witness = DangerousWitness(self.trust, keeps_sessions=keeps_sessions)
        answer = Answer(question=question, witness=witness, recorder=Recorder() if watched else None)
        self._slots.acquire()
        stream: Stream | None = None
        try:
            if self.settings.progress is not None:
                self.settings.progress(question)
            with self._lock:
                self.count += 1
            config = self.config(**({"verifier": witness} | changes))
            stream = self._connected(answer, config, server_name or self.target.server_name, packets, early_data)
            answer.negotiated = stream.negotiated
            if talk is not None:
                talk(stream, answer)
        except OSError as error:
            answer.error = error
        finally:
            if stream is None:
                self._slots.release()
            else:  # the next question need not wait for the server's goodbye
                try:
                    self._executor.submit(self._part, stream)
                except RuntimeError:  # the examination is being given up: nothing more is submitted
                    self._part(stream)
        return answer

    def retried(self, question: str, **changes: Any) -> Answer:  # Any: as of `ask`
        """Ask, and once more if there was neither a handshake nor a refusal, or a silent one."""
        answer = self.ask(question, **changes)
        if answer.negotiated is None and refusal(answer.error) in (None, "closed") and self._time_left():
            answer = self.ask(question, **changes)
        return answer

    def _time_left(self) -> bool:
        return time.monotonic() < self._end and not (self._stop is not None and self._stop.is_set())

    def _connected(
        self, answer: Answer, config: ClientConfig, server_name: str, packets: bool, early_data: bytes
    ) -> Stream:
        """Return the stream past its handshake; note in the answer how far it came."""
        target, settings = self.target, self.settings
        watcher = settings.observer(answer.question) if settings.observer else None
        observer = tee(answer.recorder, watcher)
        started = time.monotonic()
        sock = connect_tcp(
            target.connect_host,
            target.connect_port,
            timeout=self.left(settings.connect_timeout),
            resolve=self._resolve,
            # Packets are waited for where the kernel lets them be seen: nobody should who has only asked for times.
            trace=watcher if packets or settings.trace_records else None,
        )
        answer.connected = True
        answer.times["connect"] = time.monotonic() - started
        info = tcp_info(sock)
        if isinstance(info, TcpInfo):
            answer.times["round_trip"] = info.rtt_seconds
        with contextlib.suppress(OSError):
            answer.peer_address = sock.getpeername()[:2]
        if self._resolve is None:  # a name may have many addresses, and what is there may differ
            self._resolve = {target.connect_host: answer.peer_address[0]} if answer.peer_address[0] else None
        try:
            if target.protocol is not None:
                started = time.monotonic()
                self._preamble(sock)
                answer.times["preamble"] = time.monotonic() - started
            connection = new_connection(config, server_name, observer, sock, early_data=early_data)
            stream = Stream(
                sock, connection, handshake_timeout=self.left(settings.connect_timeout), early_data=early_data
            )
        except BaseException:
            sock.close()
            raise
        return shaken(stream)

    def _preamble(self, sock: socket.socket) -> None:
        """Go through what is said before TLS. Raises StartTLSFailed, and DeadlineExceeded when it takes too long."""
        protocol = self.target.protocol
        if protocol is None:
            return
        seconds = self.left(self.settings.connect_timeout)
        end = time.monotonic() + seconds
        silent = True
        preamble = Preamble(protocol, self.target.server_name, str(sock.getsockname()[0]))
        try:
            while True:
                if data := preamble.data_to_send():
                    sock.sendall(data)
                if preamble.done:
                    break
                remaining = end - time.monotonic()
                if remaining <= 0:
                    raise TimeoutError
                sock.settimeout(remaining)
                data = sock.recv(RECEIVE_SIZE)
                silent = False
                preamble.receive_data(data)
        except TimeoutError:
            if silent:
                raise StartTLSFailed(
                    protocol.name, f"nothing came for {seconds:.3g} s; the port may speak TLS at once, without STARTTLS"
                ) from None
            raise DeadlineExceeded(f"STARTTLS over {protocol.name} took longer than {seconds:.3g} s") from None
        _refuse_more(sock, protocol.name)

    def _part(self, stream: Stream) -> None:
        """Say goodbye, wait a little for the server's, and close: it is not to see a stream that was cut."""
        try:
            self._say_goodbye(stream)
        finally:
            self._slots.release()

    def _say_goodbye(self, stream: Stream) -> None:
        end = time.monotonic() + min(_FAREWELL_SECONDS + 2 * self.round_trip, _MAX_FAREWELL)
        read = 0
        try:
            stream.settimeout(1.0)
            stream.shutdown_write()
            while (left := end - time.monotonic()) > 0 and read < _MAX_FAREWELL_BYTES:
                stream.settimeout(left)
                data = stream.recv()
                if not data:
                    break
                read += len(data)
        except OSError:
            return  # it has gone already, or says nothing
        finally:
            stream.abort()


def _refuse_more(sock: socket.socket, protocol: str) -> None:
    """Raise StartTLSFailed if the server speaks on in the open."""
    sock.setblocking(False)
    waiting = b""
    with contextlib.suppress(BlockingIOError):
        waiting = sock.recv(1, socket.MSG_PEEK)
    if waiting:
        raise StartTLSFailed(protocol, "more came in the open after the server agreed to TLS")
    sock.setblocking(True)


def with_groups(provider: CryptoProvider, *groups: Any) -> CryptoProvider:  # Any: Group, whose module is crypto's own
    """Return *provider* with more groups."""
    return replace(provider, groups=(*provider.groups, *groups))
