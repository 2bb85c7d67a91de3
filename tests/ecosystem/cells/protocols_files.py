"""What else the standard library speaks over TLS: ftplib, and xmlrpc at both ends."""

from __future__ import annotations

import contextlib
import ftplib
import io
import socket
import ssl
import threading
import warnings
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from xmlrpc.server import SimpleXMLRPCServer

from OpenSSL import SSL

from tests.ecosystem import daemons
from tests.ecosystem.matrix import cell, empty, library
from tests.ecosystem.trial import Trial

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # asyncore and asynchat, which Python 3.12 has no more
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import TLS_DTPHandler, TLS_FTPHandler
    from pyftpdlib.ioloop import IOLoop
    from pyftpdlib.servers import FTPServer

SECONDS = 20.0

# ---- ftplib ----------------------------------------------------------------------------------------------------------

library("ftplib", None)
empty("ftplib", "server", "it is a client; pyftpdlib, its server here, is made for pyOpenSSL's contexts alone")
empty("ftplib", "HTTP/2", "it does not speak HTTP")
empty("ftplib", "async", "it blocks, and Python has no other")
empty("ftplib", "proxy", "it knows no HTTP proxies")

_FILE = bytes(range(256)) * 4000


class _Data(TLS_DTPHandler):
    """A data connection that has to resume the control connection's session, as vsftpd and ProFTPD demand it."""

    def handle_ssl_established(self) -> None:
        resumed = bool(SSL._lib.SSL_session_reused(self.socket._ssl))
        self.cmd_channel.resumed.append(resumed)
        if not resumed:
            self.cmd_channel.respond("522 Data connection must resume the session of the control connection.")
            self.close()


@contextlib.contextmanager
def ftp_server(trial: Trial, folder: Path) -> Iterator[tuple[int, list[bool]]]:
    """pyftpdlib with TLS by OpenSSL on both connections: its port, and of each data connection whether it resumed."""
    authorizer = DummyAuthorizer()
    authorizer.add_user("ada", "secret", folder, perm="elradfmw")

    class Handler(TLS_FTPHandler):
        resumed: ClassVar[list[bool]] = []

    Handler.authorizer = authorizer
    Handler.dtp_handler = _Data
    Handler.certfile, Handler.keyfile = trial.certificate_file, trial.key_file
    Handler.tls_control_required = Handler.tls_data_required = True
    Handler.get_ssl_context().set_session_id(b"ftp")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = FTPServer(listener, Handler, ioloop=IOLoop())
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                server.ioloop.loop(timeout=0.05, blocking=False)
            server.close_all()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.address[1], Handler.resumed
        finally:
            stop.set()
            thread.join(SECONDS)
            assert not thread.is_alive()


def _ftp(port: int, context: ssl.SSLContext, host: str = "localhost") -> ftplib.FTP_TLS:
    ftp = ftplib.FTP_TLS(context=context, timeout=SECONDS)
    ftp.connect(host, port)
    return ftp


@cell("ftplib", "start_tls")
def ftplib_logs_in_under_tls(trial: Trial) -> None:
    """AUTH TLS on the control connection."""
    port, _ = trial.enter(ftp_server(trial, trial.folder()))
    with _ftp(port, trial.client()) as ftp:
        assert ftp.login("ada", "secret").startswith("230")
        assert ftp.sock.version() == "TLSv1.3"
        assert ftp.pwd() == "/"
    for host, context, code in (
        ("127.0.0.1", trial.client(), "X509-WRONG-NAME"),
        ("localhost", trial.stranger(), "X509-UNKNOWN-CA"),
    ):
        ftp = _ftp(port, context, host)
        with trial.refuses(ssl.SSLCertVerificationError, code=code):
            ftp.auth()
        ftp.close()


@cell("ftplib", "client")
def ftplib_transfers_over_sessions_that_resume(trial: Trial) -> None:
    """PROT P: each data connection is under TLS and resumes the control connection's session. The server insists."""
    folder = trial.folder()
    port, resumed = trial.enter(ftp_server(trial, folder))
    with _ftp(port, trial.client()) as ftp:
        ftp.login("ada", "secret")
        ftp.prot_p()
        assert ftp.storbinary("STOR large.bin", io.BytesIO(_FILE)).startswith("226")
        assert (folder / "large.bin").read_bytes() == _FILE
        found = io.BytesIO()
        ftp.retrbinary("RETR large.bin", found.write)
        assert found.getvalue() == _FILE
        assert ftp.nlst() == ["large.bin"]
        lines: list[str] = []
        ftp.retrlines("LIST", lines.append)
        assert lines[0].endswith("large.bin")
    assert resumed == [True] * 4
    assert [event.resumed for event in trial.handshakes] == [False, *resumed]
    with trial.refuses(ssl.SSLCertVerificationError):
        _ftp(port, trial.client(), "127.0.0.1").auth()


@cell("ftplib", "client", "vsftpd")
def ftplib_satisfies_vsftpd(trial: Trial) -> None:
    """With require_ssl_reuse, its default: the standard library's context, in the same place, is sent away."""
    server = trial.enter(daemons.vsftpd(trial.authority, {"large.bin": _FILE}))
    with _ftp(server.port, trial.client()) as ftp:
        ftp.login()
        ftp.prot_p()
        assert ftp.nlst() == ["large.bin"]
        found = io.BytesIO()
        ftp.retrbinary("RETR large.bin", found.write)
        assert found.getvalue() == _FILE
    assert [event.resumed for event in trial.handshakes] == [False, True, True]
    with _ftp(server.port, trial.stdlib_client()) as ftp:
        ftp.login()
        ftp.prot_p()
        try:
            ftp.nlst()
        except ftplib.error_perm as error:
            assert str(error) == "522 SSL connection failed: session reuse required"
        else:
            raise AssertionError("vsftpd took a data connection that resumed nothing")
    with trial.refuses(ssl.SSLCertVerificationError):
        _ftp(server.port, trial.client(), "127.0.0.1").auth()


# ---- xmlrpc ----------------------------------------------------------------------------------------------------------

library("xmlrpc", None)
empty("xmlrpc", "HTTP/2", "it speaks HTTP/1.1 only")
empty("xmlrpc", "async", "it blocks, and Python has no other")
empty("xmlrpc", "proxy", "its transport knows no proxies")
empty("xmlrpc", "start_tls", "HTTPS is TLS from the first byte")


@contextlib.contextmanager
def xmlrpc_server(context: ssl.SSLContext) -> Iterator[int]:
    with SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.register_function(lambda words: "".join(reversed(words)), "backwards")
        server.register_function(lambda a, b: a + b, "add")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(SECONDS)


def _backwards(port: int, context: ssl.SSLContext, host: str = "localhost") -> Any:  # Any: what the server returns
    with xmlrpc.client.ServerProxy(f"https://{host}:{port}", context=context) as proxy:
        return proxy.backwards(["a", "b" * 100_000, "c"])


@cell("xmlrpc", "client")
def xmlrpc_calls(trial: Trial) -> None:
    port = trial.enter(xmlrpc_server(trial.stdlib_server()))
    assert _backwards(port, trial.client()) == "c" + "b" * 100_000 + "a"
    with trial.refuses(ssl.SSLCertVerificationError):
        _backwards(port, trial.client(), "127.0.0.1")
    with trial.refuses(ssl.SSLCertVerificationError, code="X509-UNKNOWN-CA"):
        _backwards(port, trial.stranger())


@cell("xmlrpc", "server")
def xmlrpc_answers(trial: Trial) -> None:
    port = trial.enter(xmlrpc_server(trial.server()))
    for _ in range(2):
        assert _backwards(port, trial.stdlib_client()) == "c" + "b" * 100_000 + "a"
