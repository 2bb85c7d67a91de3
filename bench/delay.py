"""A path with a delay, on this machine alone: a proxy that hands on every byte so many milliseconds later.

The kernel answers a connection's SYN at once, whatever the proxy does; so that the path is like a real one, what the
client sends in the first round trip counts as sent at its end: nobody can send before the SYN has been answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

CHUNK = 2**16


@contextlib.contextmanager
def delayed(port: int, *, one_way_seconds: float) -> Iterator[int]:
    """Give a port on 127.0.0.1 that leads to *port* there, *one_way_seconds* away in either direction."""
    loop = asyncio.new_event_loop()
    proxy = _Proxy(port, one_way_seconds)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_until_complete, args=(proxy.serve(listening),), daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        loop.call_soon_threadsafe(proxy.stop.set)
        thread.join(10)
        loop.close()


class _Proxy:
    def __init__(self, port: int, one_way_seconds: float) -> None:
        self.stop = asyncio.Event()
        self._port = port
        self._delay = one_way_seconds
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, listening: socket.socket) -> None:
        async with await asyncio.start_server(self._accept, sock=listening):
            await self.stop.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The task is ours: of one it has made itself, asyncio (3.11) logs that it was cancelled.
        task = asyncio.create_task(self._connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected = asyncio.get_running_loop().time() + 2 * self._delay
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        for end in (writer, far_writer):  # asyncio does so for some sockets only
            end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, far_writer, connected))
                group.create_task(self._carry(far_reader, writer, 0.0))
        except* OSError:
            pass  # one end has gone: so does the other
        finally:
            for end in (writer, far_writer):
                end.close()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, connected: float) -> None:
        """Hand on what comes, each piece after the delay, in order; the end of the stream too."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                moment, data = await pieces.get()
                await asyncio.sleep(moment - loop.time())
                if not data:
                    sink.write_eof()
                    return
                sink.write(data)

        async def collect() -> None:
            data = b"?"
            while data:
                data = await source.read(CHUNK)
                pieces.put_nowait((max(loop.time(), connected) + self._delay, data))

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver())
            group.create_task(collect())
