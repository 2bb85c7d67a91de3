"""`pellucid.installed()` under servers that are given the names of files, and make their contexts themselves."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import hypercorn.asyncio
import pytest
import uvicorn
import werkzeug.serving
from hypercorn.config import Config

import pellucid
from tests.ecosystem.cells.servers_asgi import Application
from tests.ecosystem.cells.servers_wsgi import running_in_thread
from tests.ecosystem.peers import BODY, fetched
from tests.ecosystem.trial import Trial
from tests.interop.process import Program

SECONDS = 20.0

INSTALLS = """\
import pellucid

pellucid.install()
engine = pellucid.SSLContext.new_engine


def told(context, **settings):
    print("served by Pellucid", flush=True)
    return engine(context, **settings)


pellucid.SSLContext.new_engine = told
"""


@pytest.fixture
def trial() -> Iterator[Trial]:
    with Trial() as trial:
        yield trial


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each connection that Pellucid made, whether it is a server's."""
    found: list[bool] = []
    engine = pellucid.SSLContext.new_engine

    def told(context: pellucid.SSLContext, *, server_side: bool, **settings: Any) -> Any:
        found.append(server_side)
        return engine(context, server_side=server_side, **settings)

    monkeypatch.setattr(pellucid.SSLContext, "new_engine", told)
    return found


def test_installed_uvicorn_serves_its_files(trial: Trial, made: list[bool]) -> None:
    openssl = trial.stdlib_client()
    listener = socket.create_server(("127.0.0.1", 0))
    files = {"ssl_certfile": trial.certificate_file, "ssl_keyfile": trial.key_file, "ssl_ca_certs": trial.ca_file}
    with pellucid.installed():
        config = uvicorn.Config(Application(), log_config=None, timeout_graceful_shutdown=1, **files)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            assert fetched(listener.getsockname()[1], context=openssl) == BODY
        finally:
            server.should_exit = True
            thread.join(SECONDS)
            listener.close()
    assert made == [True]


def test_installed_hypercorn_serves_its_files(trial: Trial, made: list[bool]) -> None:
    openssl = trial.stdlib_client("http/1.1")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config = Config()
    config.certfile, config.keyfile = str(trial.certificate_file), str(trial.key_file)
    config.bind = [f"fd://{listener.detach()}"]
    config.errorlog = config.accesslog = None
    config.graceful_timeout = config.shutdown_timeout = 0.5
    stop = threading.Event()

    async def main() -> None:
        application: Any = Application()
        await hypercorn.asyncio.serve(application, config, shutdown_trigger=lambda: asyncio.to_thread(stop.wait))

    with pellucid.installed():
        thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
        thread.start()
        try:
            assert fetched(port, context=openssl) == BODY
        finally:
            stop.set()
            thread.join(SECONDS)
    assert made == [True]


def test_installed_werkzeug_serves_its_files(trial: Trial, made: list[bool]) -> None:
    openssl = trial.stdlib_client()
    application = flask.Flask("answers")
    application.route("/")(lambda: BODY)
    with pellucid.installed():
        files: Any = (str(trial.certificate_file), str(trial.key_file))
        server = werkzeug.serving.make_server("127.0.0.1", 0, application, threaded=True, ssl_context=files)
        with running_in_thread(server) as port:
            assert fetched(port, context=openssl) == BODY
    assert made == [True]


def test_installed_gunicorn_serves_its_files(trial: Trial, tmp_path: Path) -> None:
    """As a program: its configuration file is where install() can stand."""
    (tmp_path / "main.py").write_text(
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'hello']\n", encoding="utf-8"
    )
    (tmp_path / "gunicorn.conf.py").write_text(INSTALLS, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        files = ["--certfile", trial.certificate_file, "--keyfile", trial.key_file]
        command = [sys.executable, "-m", "gunicorn", "--bind", f"fd://{listener.fileno()}", *files, "main:app"]
        server = Program(command, cwd=tmp_path, pass_fds=[listener.fileno()], own_group=True)
    try:
        server.wait_for(rb"Booting worker with pid")
        assert fetched(port) == b"hello"
        server.wait_for(rb"served by Pellucid")
    finally:
        server.end()
