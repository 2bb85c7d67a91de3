"""The ssl-shaped context inside the libraries it is made for: asyncio, anyio, trio, urllib, http.server, sockets."""

from __future__ import annotations

import array
import asyncio
import contextlib
import http.server
import io
import select
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import anyio.streams.tls
import pytest

from pellucid.config import ClientAuthentication, ClientConfig, ServerConfig
from pellucid.errors import AlertReceived
from pellucid.integrations.ssl_context import SSLContext
from pellucid.integrations.ssl_errors import ConfigurationError
from pellucid.integrations.ssl_socket import SSLSocket
from pellucid.verify.report import CertificateRejected
from tests.unit.test_ssl_context import AUTHORITY, CLIENT, CREDENTIAL, SERVER, contexts

# ---- event loops ---------------------------------------------------------------------------------------------------


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def served(context: SSLContext):  # type: ignore[no-untyped-def]
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context, ssl_handshake_timeout=5)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def test_asyncio_streams_carry_data_both_ways() -> None:
    async def main() -> None:
        client, server = contexts()
        async with served(server) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="localhost")
            data = bytes(1_000_000)
            sending = asyncio.create_task(_send(writer, data))
            assert await reader.readexactly(len(data)) == data
            await sending
            assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
            assert writer.get_extra_info("cipher")[1] == "TLSv1.3"
            writer.close()
            await writer.wait_closed()

    asyncio.run(asyncio.wait_for(main(), 30))


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def test_asyncio_start_tls_and_refusals() -> None:
    async def main() -> None:
        client, server = contexts()
        async with served(server) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await writer.start_tls(client, server_hostname="localhost")
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.close()
            await writer.wait_closed()
            with pytest.raises(ssl.SSLCertVerificationError) as caught:
                await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="other.example")
            assert isinstance(caught.value, CertificateRejected)
            assert caught.value.__notes__

    asyncio.run(asyncio.wait_for(main(), 30))


def test_asyncio_client_without_certificate_is_told_why() -> None:
    async def main() -> None:
        client, server = contexts(client_authentication=ClientAuthentication.REQUIRED, client_trust=AUTHORITY.trust)
        async with served(server) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="localhost")
            with pytest.raises(AlertReceived, match="certificate_required"):
                await reader.read()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio_tls_streams_talk(backend: str) -> None:
    async def main() -> None:
        client, server = contexts()
        listener = anyio.streams.tls.TLSListener(
            await anyio.create_tcp_listener(local_host="127.0.0.1"), server, standard_compatible=True
        )
        port = listener.listener.listeners[0].extra(anyio.abc.SocketAttribute.local_port)

        async def handle(stream: anyio.streams.tls.TLSStream) -> None:
            async with stream:
                async for data in stream:
                    await stream.send(data)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(listener.serve, handle)
                async with await anyio.connect_tcp(
                    "127.0.0.1", port, ssl_context=client, tls_hostname="localhost"
                ) as stream:
                    await stream.send(b"x" * 100_000)
                    got = 0
                    while got < 100_000:
                        got += len(await stream.receive())
                    assert stream.extra(anyio.streams.tls.TLSAttribute.tls_version) == "TLSv1.3"
                group.cancel_scope.cancel()
            await listener.aclose()

    anyio.run(main, backend=backend)


def test_trio_ssl_streams_talk_and_close() -> None:
    async def main() -> None:
        client, server = contexts()
        with trio.fail_after(20):
            left, right = trio.testing.memory_stream_pair()
            one = trio.SSLStream(left, client, server_hostname="localhost")
            other = trio.SSLStream(right, server, server_side=True)

            async def answer() -> None:
                assert await other.receive_some(100) == b"question"
                await other.send_all(b"answer")
                assert await other.receive_some(100) == b""
                await other.aclose()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer)
                await one.send_all(b"question")
                assert await one.receive_some(100) == b"answer"
                await one.aclose()

    import trio.testing

    trio.run(main)


# ---- blocking sockets ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def pair(client: SSLContext | None = None, server: SSLContext | None = None) -> Iterator[tuple[SSLSocket, SSLSocket]]:
    """Give both ends of a connection past its handshake."""
    left, right = socket.socketpair()
    left.settimeout(10)
    right.settimeout(10)
    ends: list[SSLSocket | BaseException] = []

    def accept() -> None:
        try:
            ends.append((server or SSLContext(SERVER)).wrap_socket(right, server_side=True))
        except BaseException as error:
            ends.append(error)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        one = (client or SSLContext(CLIENT)).wrap_socket(left, server_hostname="localhost")
    finally:
        thread.join(20)
    other = ends[0]
    assert isinstance(other, SSLSocket), other
    with one, other:
        yield one, other


def test_socket_is_an_ssl_socket_that_tells_what_was_agreed_on() -> None:
    with pair() as (one, other):
        assert isinstance(one, ssl.SSLSocket)
        assert isinstance(one, socket.socket)
        assert one._sslobj is not None
        assert one.version() == other.version() == "TLSv1.3"
        assert one.getpeercert(binary_form=True) == CREDENTIAL.chain[0]
        assert one.context.verify_mode == ssl.CERT_REQUIRED


def test_socket_carries_data_through_every_verb(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 1000)
    with pair() as (one, other):
        one.sendall(b"abc")
        assert one.send(b"d") == 1
        assert one.write(b"e") == 1
        assert other.read(2) == b"ab"
        buffer = bytearray(10)
        assert other.recv_into(buffer, 2) in (1, 2)
        assert other.pending() in (0, 1)
        with other.makefile("rb") as reader:
            assert reader.read(1) == b"d" or buffer[:2] == b"cd"
        sending = threading.Thread(target=_send_file, args=(one, path))
        sending.start()
        received = io.BytesIO()
        while received.tell() < 256_000:
            received.write(other.recv(70_000))
        sending.join(10)
        assert received.getvalue()[-256_000:].endswith(path.read_bytes()[-1000:])


def _send_file(sock: SSLSocket, path: Path) -> None:
    with path.open("rb") as file:
        assert sock.sendfile(file) == 256_000


def test_socket_sendfile_sends_no_plaintext(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"SECRET" * 100)
    left, right = socket.socketpair()
    with left, pair() as (one, other), path.open("rb") as file:
        right.close()
        assert one.sendfile(file, offset=6, count=12) == 12
        raw = socket.socket.recv(other, 1000)
        assert b"SECRET" not in raw
        with pytest.raises(ValueError, match="sendto"):
            one.sendto(b"x", ("127.0.0.1", 1))
        with pytest.raises(NotImplementedError):
            one.sendmsg([b"x"])
        with pytest.raises(ConfigurationError):
            one.send(b"x", socket.MSG_OOB)


def test_socket_timeout_leaves_reading_possible() -> None:
    with pair() as (one, other):
        one.settimeout(0.05)
        with pytest.raises(TimeoutError):
            one.recv(1)
        other.sendall(b"late")
        one.settimeout(5)
        assert one.recv(10) == b"late"


def test_socket_write_cut_by_a_timeout_ends_writing() -> None:
    with pair() as (one, _):
        one.settimeout(0.1)
        with pytest.raises(TimeoutError):
            one.sendall(bytes(20_000_000))
        with pytest.raises(ssl.SSLError, match="cut short"):
            one.sendall(b"more")


def test_socket_that_does_not_block_raises_want_errors_and_loses_nothing() -> None:
    with pair() as (one, other):
        one.setblocking(False)
        with pytest.raises(ssl.SSLWantReadError):
            one.recv(1)
        data = memoryview(bytes(range(256)) * 20_000)
        received = bytearray()
        sent = 0
        stalled = False
        while sent < len(data):
            try:
                sent += one.send(data[sent:])
            except ssl.SSLWantWriteError as error:
                assert error.errno == ssl.SSL_ERROR_WANT_WRITE
                stalled = True
                received += other.recv(10**6)
        while len(received) < len(data):
            received += other.recv(10**6)
        assert stalled
        assert received == data


@pytest.mark.parametrize("timeout", [0, 10])
def test_socket_counts_what_it_sent_in_bytes_whatever_the_buffer_is_of(timeout: int) -> None:
    """A caller that goes on from a count of items would send most of the data twice."""
    items = array.array("I", range(100))
    with pair() as (one, other):
        one.settimeout(timeout)
        assert one.send(items) == 400
        assert other.recv(1000) == items.tobytes()
        assert one.send(memoryview(items)) == 400
        assert other.recv(1000) == items.tobytes()
        with pytest.raises(TypeError):
            one.send([65, 66, 67])
        one.send(b"next")
        assert other.recv(1000) == b"next"


def test_socket_handshake_can_be_driven_without_blocking() -> None:
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    client, server = contexts()
    one = client.wrap_socket(left, server_hostname="localhost", do_handshake_on_connect=False)
    other = server.wrap_socket(right, server_side=True, do_handshake_on_connect=False)
    with one, other:
        waiting = {one, other}
        for _ in range(20):
            for end in tuple(waiting):
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
                    waiting.discard(end)
            select.select(list(waiting), [], [], 0.05)
        assert not waiting


def test_socket_close_says_close_notify() -> None:
    with pair() as (one, other):
        other.suppress_ragged_eofs = False
        one.sendall(b"all")
        one.close()
        assert other.recv(10) == b"all"
        assert other.recv(10) == b""


def test_socket_truncation_is_an_error_unless_it_is_to_be_suppressed() -> None:
    for suppress in (False, True):
        with pair() as (one, other):
            other.suppress_ragged_eofs = suppress
            socket.socket.shutdown(one, socket.SHUT_RDWR)
            if suppress:
                assert other.recv(10) == b""
            else:
                with pytest.raises(ssl.SSLEOFError):
                    other.recv(10)


def test_socket_unwrap_gives_the_plain_socket_back() -> None:
    with pair() as (one, other):
        plain: list[socket.socket] = []
        thread = threading.Thread(target=lambda: plain.append(other.unwrap()))
        thread.start()
        mine = one.unwrap()
        thread.join(10)
        with mine, plain[0]:
            mine.sendall(b"in the open")
            assert plain[0].recv(100) == b"in the open"
            assert mine is one  # as in ssl: who calls unwrap without taking what it returns goes on as well
            assert (one.version(), one.cipher(), one._sslobj) == (None, None, None)
            with pytest.raises(ValueError, match="unwrapped"):
                one.read()
            with pytest.raises(ValueError, match="No SSL wrapper"):
                one.unwrap()


def test_socket_refused_handshake_closes_and_tells_the_peer() -> None:
    left, right = socket.socketpair()
    left.settimeout(10)
    right.settimeout(10)
    errors: list[BaseException] = []

    def accept() -> None:
        try:
            SSLContext(SERVER).wrap_socket(right, server_side=True)
        except ssl.SSLError as error:
            errors.append(error)

    thread = threading.Thread(target=accept)
    thread.start()
    begin = time.monotonic()
    with pytest.raises(ssl.SSLCertVerificationError):
        SSLContext(CLIENT).wrap_socket(left, server_hostname="other.example")
    thread.join(10)
    assert time.monotonic() - begin < 5  # neither end waits for its timeout once all is said
    assert isinstance(errors[0], AlertReceived)
    assert left.fileno() == right.fileno() == -1


def test_socket_one_thread_reads_while_another_writes() -> None:
    with pair() as (one, other):
        data = bytes(3_000_000)
        threads = [threading.Thread(target=end.sendall, args=(data,)) for end in (one, other)]
        for thread in threads:
            thread.start()
        totals = [0, 0]

        def read(index: int, end: SSLSocket) -> None:
            while totals[index] < len(data):
                totals[index] += len(end.recv(2**16))

        readers = [threading.Thread(target=read, args=(index, end)) for index, end in enumerate((one, other))]
        for thread in readers:
            thread.start()
        for thread in (*threads, *readers):
            thread.join(30)
        assert totals == [len(data), len(data)]


# ---- http.server and urllib ----------------------------------------------------------------------------------------


class Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b"hello"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def https_server() -> Iterator[int]:
    """A standard library server whose listening socket was wrapped."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.socket = SSLContext(SERVER).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_urllib_fetches_from_http_server(https_server: int) -> None:
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=SSLContext(CLIENT))
    )
    with opener.open(f"https://localhost:{https_server}/", timeout=10) as response:
        assert response.read() == b"hello"
    with pytest.raises(urllib.error.URLError) as caught:
        untrusting = urllib.request.HTTPSHandler(context=SSLContext(ClientConfig(trust=_nobody())))
        urllib.request.build_opener(urllib.request.ProxyHandler({}), untrusting).open(
            f"https://localhost:{https_server}/", timeout=10
        )
    assert isinstance(caught.value.reason, CertificateRejected)


def _nobody():  # type: ignore[no-untyped-def]
    from pellucid.testing.ca import CA

    return CA("somebody else").trust


def test_context_mutual_tls_over_sockets() -> None:
    client = SSLContext(ClientConfig(trust=AUTHORITY.trust, credentials=(CREDENTIAL,)))
    server = SSLContext(
        ServerConfig(
            credentials=(CREDENTIAL,),
            client_authentication=ClientAuthentication.REQUIRED,
            client_trust=AUTHORITY.trust,
        )
    )
    with pair(client, server) as (one, other):
        assert other.getpeercert(binary_form=True) == CREDENTIAL.chain[0]
        assert one.client_sigalg() == "ecdsa_secp256r1_sha256"


@pytest.mark.parametrize("first", ["recv", "sendall"])
def test_one_thread_writes_while_another_that_reads_shakes_hands(first: str) -> None:
    """Neither waits for what the other holds: not while the handshake goes on, and not for data after it."""
    left, right = socket.socketpair()
    left.settimeout(20)
    right.settimeout(20)
    client = SSLContext(CLIENT).wrap_socket(left, server_hostname="localhost", do_handshake_on_connect=False)

    def serve() -> bytes:
        with SSLContext(SERVER).wrap_socket(right, server_side=True) as server:
            data = server.recv(10)
            server.sendall(b"pong")
            return data

    todo = {"recv": lambda: client.recv(10), "sendall": lambda: client.sendall(b"ping")}
    with client, ThreadPoolExecutor(3) as threads:
        running = {first: threads.submit(todo[first])}
        time.sleep(0.2)
        running |= {name: threads.submit(work) for name, work in todo.items() if name != first}
        time.sleep(0.2)
        assert threads.submit(serve).result(15) == b"ping"
        assert running["recv"].result(15) == b"pong"
        assert running["sendall"].result(15) is None


def test_handshake_that_is_complete_waits_for_no_reader() -> None:
    with pair() as (client, server), ThreadPoolExecutor(2) as threads:
        reading = threads.submit(client.recv, 10)
        time.sleep(0.2)
        try:
            assert threads.submit(client.do_handshake).result(5) is None
        finally:
            server.sendall(b"data")
        assert reading.result(5) == b"data"


def test_write_after_one_that_was_cut_short_is_refused_whatever_was_sealed() -> None:
    with pair() as (client, _):
        client._sealed, client._broken = 5, True
        with pytest.raises(ssl.SSLError, match="an earlier write was cut short"):
            client.send(b"again")
        client._sealed = 0
