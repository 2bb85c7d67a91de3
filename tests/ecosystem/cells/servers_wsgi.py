"""Servers of WSGI, and the standard library's: gunicorn, Flask (werkzeug), http.server, wsgiref. OpenSSL asks them."""

from __future__ import annotations

import contextlib
import functools
import http.client
import http.server
import os
import signal
import socket
import ssl
import sys
import threading
import wsgiref.simple_server
from collections.abc import Iterator
from typing import Any, Final

import flask
import httpx
import werkzeug.serving

from pellucid.explain import read_jsonl
from tests.ecosystem.matrix import cell, empty, library
from tests.ecosystem.peers import BODY, fetched
from tests.ecosystem.trial import Trial
from tests.interop.process import Program

_SERVER = "it is a server, and no client"
_HTTP1 = "it speaks HTTP/1.1 only"
_NO_PROXY = "a server does not go through proxies; what they pass on is TLS as any"
_FROM_THE_START = "HTTPS is TLS from the first byte"
_BLOCKS = "it blocks; uvicorn and hypercorn have rows of their own"
SECONDS: Final = 20.0

LARGE = b"x" * 300_000


@contextlib.contextmanager
def running_in_thread(server: Any) -> Iterator[int]:
    """Run a socketserver in a thread, and yield its port."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join(SECONDS)
        server.server_close()


def _stays_alive(port: int) -> None:
    """Say what is no TLS, and leave in the middle of a handshake: the server serves others all the same."""
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"):
        with socket.create_connection(("127.0.0.1", port), SECONDS) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while sock.recv(2**12):
                    pass


# ---- gunicorn --------------------------------------------------------------------------------------------------------

library("gunicorn")
empty("gunicorn", "client", _SERVER)
empty("gunicorn", "proxy", _NO_PROXY)
empty("gunicorn", "start_tls", _FROM_THE_START)

_CONFIG = """\
import os
import pellucid
from pellucid.explain import write_jsonl

bind = "fd://{listener}"
workers = 1
worker_class = {worker_class!r}
threads = 2
certfile, keyfile = {chain!r}, {key!r}
http_protocols = "h2,h1"
control_socket_disable = True
graceful_timeout = 1

context = pellucid.SSLContext()
context.load_cert_chain(certfile, keyfile)
context.set_alpn_protocols({alpn!r})

@context.on_handshake
def seen(recorder):
    number = len(os.listdir({records!r}))
    write_jsonl(recorder, f"{records}/{{number}}.part")
    os.rename(f"{records}/{{number}}.part", f"{records}/{{number}}.jsonl")

def ssl_context(config, default_ssl_context_factory):
    return context
"""

_APPLICATIONS = """\
def wsgi(environ, start_response):
    size = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(size) or {body!r}
    version, scheme = environ["SERVER_PROTOCOL"], environ["wsgi.url_scheme"]
    start_response("200 OK", [("Content-Length", str(len(body))), ("X-Seen", version + " " + scheme)])
    return [body]

async def asgi(scope, receive, send):
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    body = body or {body!r}
    seen = "HTTP/" + scope["http_version"] + " " + scope["scheme"]
    headers = [(b"content-length", str(len(body)).encode()), (b"x-seen", seen.encode())]
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    await send({{"type": "http.response.body", "body": body}})
"""


@contextlib.contextmanager
def _gunicorn(trial: Trial, worker_class: str, *alpn: str) -> Iterator[int]:
    """Run gunicorn as a program; what its handshakes were comes back to the trial at the end."""
    folder = trial.folder()
    records = folder / "records"
    records.mkdir()
    (folder / "applications.py").write_text(_APPLICATIONS.format(body=BODY), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        text = _CONFIG.format(
            listener=listener.fileno(),
            worker_class=worker_class,
            chain=str(trial.certificate_file),
            key=str(trial.key_file),
            alpn=alpn or ("http/1.1",),
            records=str(records),
        )
        (folder / "gunicorn.conf.py").write_text(text, encoding="utf-8")
        application = "applications:asgi" if worker_class == "asgi" else "applications:wsgi"
        command = [sys.executable, "-m", "gunicorn", "-c", folder / "gunicorn.conf.py", application]
        environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "GUNICORN_CMD_ARGS": ""}
        port: int = listener.getsockname()[1]
        server = Program(command, cwd=folder, env=environment, pass_fds=[listener.fileno()], own_group=True)
    try:
        server.wait_for(rb"Booting worker with pid")
        yield port
    except AssertionError as error:
        error.add_note(server.output())
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGQUIT)
        server.end()
    for path in sorted(records.glob("*.jsonl")):
        trial.seen(read_jsonl(path))


def _answers(port: int, context: ssl.SSLContext, seen: str) -> None:
    """Have an application of gunicorn's answer, over connections that are kept and over others."""
    connection = http.client.HTTPSConnection("localhost", port, timeout=SECONDS, context=context)
    with contextlib.closing(connection):
        for body, answer in ((LARGE, LARGE), (None, BODY)):
            connection.request("POST" if body else "GET", "/", body=body)
            with contextlib.closing(connection.getresponse()) as response:
                assert (response.status, response.headers["X-Seen"]) == (200, seen)
                assert response.read() == answer


@cell("gunicorn", "server", "sync")
def gunicorn_sync_answers(trial: Trial) -> None:
    with _gunicorn(trial, "sync") as port:
        _answers(port, trial.stdlib_client(), "HTTP/1.1 https")
        _stays_alive(port)
        assert fetched(port) == BODY


@cell("gunicorn", "server", "gthread")
def gunicorn_gthread_answers(trial: Trial) -> None:
    with _gunicorn(trial, "gthread") as port:
        _answers(port, trial.stdlib_client(), "HTTP/1.1 https")
        _stays_alive(port)
        assert fetched(port) == BODY


@cell("gunicorn", "async", side="server", verifies=False)
def gunicorn_asgi_answers(trial: Trial) -> None:
    with _gunicorn(trial, "asgi") as port:
        _answers(port, trial.stdlib_client(), "HTTP/1.1 https")
        _stays_alive(port)
        assert fetched(port) == BODY


@cell("gunicorn", "HTTP/2", "gthread", side="server", verifies=False)
def gunicorn_gthread_speaks_http2(trial: Trial) -> None:
    with _gunicorn(trial, "gthread", "h2", "http/1.1") as port:
        _speaks_http2(port, trial.stdlib_client("h2"))
    assert {event.alpn for event in trial.handshakes} == {"h2"}


@cell("gunicorn", "HTTP/2", "asgi", side="server", verifies=False)
def gunicorn_asgi_speaks_http2(trial: Trial) -> None:
    with _gunicorn(trial, "asgi", "h2", "http/1.1") as port:
        _speaks_http2(port, trial.stdlib_client("h2"))
    assert {event.alpn for event in trial.handshakes} == {"h2"}


def _speaks_http2(port: int, context: ssl.SSLContext) -> None:
    with httpx.Client(http2=True, verify=context, timeout=SECONDS, trust_env=False) as client:
        for body, answer in ((LARGE, LARGE), (None, BODY)):
            response = client.request("POST" if body else "GET", f"https://localhost:{port}/", content=body)
            assert (response.status_code, response.http_version) == (200, "HTTP/2")
            assert response.content == answer


# ---- Flask -----------------------------------------------------------------------------------------------------------

library("Flask/werkzeug", "flask")
empty("Flask/werkzeug", "client", _SERVER)
empty("Flask/werkzeug", "HTTP/2", _HTTP1)
empty("Flask/werkzeug", "async", _BLOCKS)
empty("Flask/werkzeug", "proxy", _NO_PROXY)
empty("Flask/werkzeug", "start_tls", _FROM_THE_START)


class _Quiet(werkzeug.serving.WSGIRequestHandler):
    def log(self, *_: object) -> None:
        """Say nothing."""


@cell("Flask/werkzeug", "server")
def flask_answers(trial: Trial) -> None:
    application = flask.Flask("answers")

    @application.route("/", methods=["GET", "POST"])
    def root() -> bytes:
        assert flask.request.is_secure
        return flask.request.get_data() or BODY

    context = trial.server()
    server = werkzeug.serving.make_server(
        "127.0.0.1", 0, application, threaded=True, ssl_context=context, request_handler=_Quiet
    )
    with running_in_thread(server) as port:
        assert fetched(port, method="POST", body=LARGE) == LARGE
        _stays_alive(port)
        assert fetched(port) == BODY


@cell("Flask/werkzeug", "server", "client certificate")
def flask_sees_the_clients_certificate(trial: Trial) -> None:
    """Its handler puts the certificate into the environment: `werkzeug` asks for it as DER by keyword."""
    application = flask.Flask("names")

    @application.route("/")
    def root() -> bytes:
        certificate: str = flask.request.environ["SSL_CLIENT_CERT"]
        return certificate.encode("ascii")

    server = werkzeug.serving.make_server(
        "127.0.0.1", 0, application, ssl_context=trial.asking_server(), request_handler=_Quiet
    )
    with running_in_thread(server) as port:
        shown = fetched(port, context=trial.stdlib_client(certificate=True))
        assert ssl.PEM_cert_to_DER_cert(shown.decode("ascii")) == trial.credential.chain[0]
        with contextlib.suppress(OSError, http.client.HTTPException):
            fetched(port, context=trial.stdlib_client())
            raise AssertionError("it answered somebody without a certificate")


# ---- http.server and wsgiref -----------------------------------------------------------------------------------------

library("http.server", None)
empty("http.server", "client", _SERVER)
empty("http.server", "HTTP/2", _HTTP1)
empty("http.server", "async", _BLOCKS)
empty("http.server", "proxy", _NO_PROXY)
empty("http.server", "start_tls", _FROM_THE_START)


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@cell("http.server", "server")
def http_server_serves_a_folder(trial: Trial) -> None:
    folder = trial.folder()
    (folder / "large.bin").write_bytes(LARGE)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Files, directory=folder))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    # The handshake is the thread's of its connection then, and nobody who is slow at it keeps others waiting.
    server.socket = trial.server().wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with running_in_thread(server) as port:
        with socket.create_connection(("127.0.0.1", port), SECONDS):  # says nothing
            assert fetched(port, "/large.bin") == LARGE
        _stays_alive(port)
        assert b"large.bin" in fetched(port)


library("wsgiref", None)
empty("wsgiref", "client", _SERVER)
empty("wsgiref", "HTTP/2", _HTTP1)
empty("wsgiref", "async", _BLOCKS)
empty("wsgiref", "proxy", _NO_PROXY)
empty("wsgiref", "start_tls", _FROM_THE_START)


class _QuietWsgi(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@cell("wsgiref", "server")
def wsgiref_answers(trial: Trial) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:  # Any: WSGI's
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0)) or BODY
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    server = wsgiref.simple_server.make_server("127.0.0.1", 0, application, handler_class=_QuietWsgi)
    server.socket = trial.server().wrap_socket(server.socket, server_side=True)
    with running_in_thread(server) as port:
        assert fetched(port, method="POST", body=LARGE) == LARGE
        _stays_alive(port)
        assert fetched(port) == BODY
