"""Listeners that outlive what one client, or one moment without memory, does to them."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

import pellucid
from pellucid.net.listener import Listener
from pellucid.net.setup import new_connection
from tests.support.pair import NAME, client_config, server_config

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs AF_UNIX")


def _unix_listener(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    return listening


def test_a_socket_that_refuses_its_options_is_served_all_the_same(tmp_path: Path) -> None:
    """TCP_NODELAY cannot be set where there is no TCP, nor on BSD after the client's RST: it is no reason to stop."""
    listener = Listener(_unix_listener(tmp_path / "socket"), server_config())
    with listener:
        thread = threading.Thread(target=listener.serve, args=(lambda stream: stream.sendall(b"hello"),))
        thread.start()
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(tmp_path / "socket"))
        with pellucid.wrap(sock, client_config(), server_name=NAME) as stream:
            assert stream.read_to_end() == b"hello"
        listener.close()
        thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_async_listener_too(tmp_path: Path, backend: str) -> None:
    import anyio

    from pellucid.net import aio

    async def run() -> bytes:
        listener = aio.Listener(_unix_listener(tmp_path / "socket"), server_config())
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(tmp_path / "socket"))
        received = b""

        async def answer(stream: aio.Stream) -> None:
            await stream.send(b"hello")

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(listener.serve, answer)
                async with await aio.wrap(sock, client_config(), server_name=NAME) as stream:
                    received = await stream.receive()
                await listener.aclose()
        return received

    assert anyio.run(run, backend=backend) == b"hello"


def test_a_thread_that_cannot_be_started_costs_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is let go of, and the next ones are served."""
    start = threading.Thread.start
    failed: list[str] = []

    def start_or_not(thread: threading.Thread) -> None:
        if thread.name == "pellucid-connection" and not failed:
            failed.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_not)
    with pellucid.listen("127.0.0.1", 0, server_config()) as listener:
        told: list[Exception] = []
        server = threading.Thread(
            target=lambda: listener.serve(
                lambda stream: stream.sendall(b"hello"),
                max_connections=1,
                on_error=lambda _, error: told.append(error),
            )
        )
        server.start()
        with pytest.raises(OSError):
            pellucid.connect(*listener.address, client_config(), server_name=NAME)
        with pellucid.connect(*listener.address, client_config(), server_name=NAME) as stream:
            assert stream.read_to_end() == b"hello"
        listener.close()
        server.join(10)
    assert [type(error) for error in told] == [RuntimeError]


@pytest.mark.rfc("9846 §4.3.2", "a cookie is bound to the client's address")
def test_a_wrapped_servers_cookies_are_bound_to_the_peers_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            connection = new_connection(server_config(), None, None, accepted)
    assert connection._handshake.phase.peer_address == "127.0.0.1"
