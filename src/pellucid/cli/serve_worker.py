"""One worker of `pellucid serve --workers`: `python -m pellucid.cli.serve_worker LISTENER LINK REGISTER`.

The arguments are the descriptors it inherits. What to serve, and the ticket keys, come over the link. It accepts from
the parent's socket, does what the parent says, and ends by itself when the parent has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final

from pellucid.cli.common import CommandFailed, OutputClosed, exit_code, hints_for
from pellucid.cli.listening import files_watched, handled_exceptions, lifespan_failures, quiet_logger
from pellucid.cli.output import Output
from pellucid.cli.serve import application_at, prepared
from pellucid.cli.server_credentials import of_leaf, server_credentials
from pellucid.cli.worker_link import AskingGuard, Frames, Kind, LinkClosed, receive, send, send_json
from pellucid.config import Credential
from pellucid.integrations.serving import Listening, Server, SharedSocket
from pellucid.limits import HANDSHAKE_TIMEOUT_SECONDS
from pellucid.net.kernel import save_syn
from pellucid.net.reload import ReloadingConfig
from pellucid.sessions.tickets import TicketKeys

__all__ = ["main"]

_KEPT_SECONDS: Final = 2.0  # in which those who keep a connection learn that it ends, by an answer


def main(arguments: list[str]) -> int:
    """Serve until told to stop; return the exit code. What went wrong is told to the parent, which tells the user."""
    _follow_the_parent()
    listener, link, register = map(int, arguments)
    with socket.socket(fileno=link) as talking, socket.socket(fileno=register) as asking:
        sock = SharedSocket(fileno=listener)
        for one in (sock, talking, asking):
            one.set_inheritable(False)  # what an application starts gets none of them
        try:
            setup: dict[str, Any] = json.loads(receive(talking, Kind.SETUP))
            keys = receive(talking, Kind.KEYS)
        except (LinkClosed, OSError):
            return 1
        try:
            _serve(setup, keys, sock, talking, asking)
        except OutputClosed as error:
            return error.code
        except Exception as error:  # noqa: BLE001  # whatever it was, the parent tells of it in a line
            told = {"message": _told(error), "code": exit_code(error), "hints": hints_for(error)}
            with contextlib.suppress(OSError):
                send_json(talking, Kind.FAILED, told)
            return 1
    return 0


def _told(error: Exception) -> str:
    known = isinstance(error, CommandFailed) or exit_code(error) != 1
    return str(error) if known else f"internal error: {type(error).__name__}: {error}"


def _follow_the_parent() -> None:
    """Leave SIGINT and SIGHUP, which a terminal sends to us too, to the parent; until now they were held back."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGHUP))


def _serve(
    setup: dict[str, Any], keys: bytes, sock: SharedSocket, talking: socket.socket, asking: socket.socket
) -> None:
    options = setup["options"]
    if options["keylog"] is not None:
        options["keylog"] = Path(options["keylog"])
    ring = TicketKeys.from_keys(keys, rotate_seconds=setup["rotate_seconds"], keep_seconds=setup["keep_seconds"])
    sharing: dict[str, Any] = {"sessions": ring}
    if options["early_data"]:
        sharing["replay_guard"] = AskingGuard(asking, setup["window_seconds"])
    application = application_at(setup["target"], options)
    development = setup["development"]
    ours = None
    if development is not None:
        chain, key = map(str.encode, development)
        ours = of_leaf(chain, key, options)

    def shown(again: bool) -> tuple[Credential, ...]:
        return server_credentials(options, again=again)[0] if ours is None else ours

    with prepared(application, options, Output(), shown, worker=setup["number"], sharing=sharing) as made:
        if made.keep_syn:
            save_syn(sock)
        server = Server(
            made.application,
            [Listening(sock=sock, config=made.config, recorder=made.recorder)],
            grace=options["grace"],
            ready=lambda: send(talking, Kind.READY),
            logger=quiet_logger(),
            shares=True,
        )
        with lifespan_failures():
            asyncio.run(_Worker(server, ring, talking).run(made.config))


class _Worker:
    """Serves, and hears what the parent says meanwhile."""

    def __init__(self, server: Server, ring: TicketKeys, talking: socket.socket) -> None:
        self._server = server
        self._ring = ring
        self._talking = talking
        self._frames = Frames()
        self._stopping: asyncio.Task[None] | None = None

    async def run(self, config: ReloadingConfig) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(handled_exceptions)
        self._talking.setblocking(False)
        loop.add_reader(self._talking, self._hear)
        loop.add_signal_handler(signal.SIGTERM, self._stop, HANDSHAKE_TIMEOUT_SECONDS, _KEPT_SECONDS)
        try:
            with files_watched(config):
                await self._server.run()
        finally:
            loop.remove_reader(self._talking)

    def _hear(self) -> None:
        messages, goes_on = self._frames.take(self._talking)
        if not goes_on:  # the parent has gone: nobody else would end us
            asyncio.get_running_loop().remove_reader(self._talking)
            self._stop(HANDSHAKE_TIMEOUT_SECONDS, 0.0)
        for kind, payload in messages:
            if kind is Kind.KEYS:
                self._ring.import_keys(payload)
            elif kind is Kind.STOP:
                told = json.loads(payload)
                self._stop(told["seconds"], _KEPT_SECONDS if told["replaced"] else 0.0)
            elif kind is Kind.HURRY:
                self._server.stop()
                self._server.hurry()

    def _stop(self, seconds: float, kept_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(seconds, self._server.stop)  # also where it was told before, and had longer
        if self._stopping is None:
            self._stopping = loop.create_task(self._finish(kept_seconds))

    async def _finish(self, kept_seconds: float) -> None:
        """Let others take the next connections, and end with those that were taken."""
        await self._server.drain(kept_seconds)
        self._server.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
