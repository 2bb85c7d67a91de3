"""The standard library's HTTP clients: http.client and urllib.request."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import urllib.error
import urllib.request

from tests.ecosystem.matrix import cell, empty, library
from tests.ecosystem.peers import BODY
from tests.ecosystem.trial import Trial

_CLIENT = "it is a client; http.server has a row of its own"
_HTTP1 = "it speaks HTTP/1.1 only"
_BLOCKS = "it blocks; asyncio has a row of its own"
_FROM_THE_START = "HTTPS is TLS from the first byte; what a proxy's CONNECT leads to is in the column proxy"

# ---- http.client -----------------------------------------------------------------------------------------------------

library("http.client", None)
empty("http.client", "server", _CLIENT)
empty("http.client", "HTTP/2", _HTTP1)
empty("http.client", "async", _BLOCKS)
empty("http.client", "start_tls", _FROM_THE_START)


def _got(connection: http.client.HTTPSConnection) -> bytes:
    with contextlib.closing(connection):
        connection.request("GET", "/")
        with contextlib.closing(connection.getresponse()) as response:
            return response.read()


@cell("http.client", "client")
def http_client_gets_and_posts(trial: Trial) -> None:
    server = trial.peers.https
    context = trial.client()
    connection = http.client.HTTPSConnection("localhost", server.port, context=context, timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", "/", body=b"x" * 300_000)
        with contextlib.closing(connection.getresponse()) as response:
            assert response.read() == b"x" * 300_000
        assert isinstance(connection.sock, ssl.SSLSocket)
        assert connection.sock.negotiated.cipher_suite == trial.handshakes[0].cipher_suite
        connection.request("GET", "/")
        with contextlib.closing(connection.getresponse()) as response:
            assert response.read() == BODY
    assert len(trial.handshakes) == 1
    with trial.refuses(ssl.SSLCertVerificationError):
        _got(http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=20))
    with trial.refuses(ssl.SSLCertVerificationError, code="X509-UNKNOWN-CA"):
        _got(http.client.HTTPSConnection("localhost", server.port, context=trial.stranger(), timeout=20))


@cell("http.client", "proxy")
def http_client_tunnels(trial: Trial) -> None:
    server, proxy = trial.peers.https, trial.peers.proxy
    for host in ("localhost", "127.0.0.1"):
        connection = http.client.HTTPSConnection("localhost", proxy.port, context=trial.client(), timeout=20)
        connection.set_tunnel(host, server.port)
        if host == "localhost":
            assert _got(connection) == BODY
        else:
            with trial.refuses(ssl.SSLCertVerificationError):
                _got(connection)
    assert f"localhost:{server.port}" in trial.peers.tunnels


# ---- urllib ----------------------------------------------------------------------------------------------------------

library("urllib", None)
empty("urllib", "server", _CLIENT)
empty("urllib", "HTTP/2", _HTTP1)
empty("urllib", "async", _BLOCKS)
empty("urllib", "start_tls", _FROM_THE_START)


@cell("urllib", "client")
def urllib_opens_a_url(trial: Trial) -> None:
    server = trial.peers.https
    with urllib.request.urlopen(server.url, context=trial.client(), timeout=20) as response:
        assert response.read() == BODY
    with trial.refuses(urllib.error.URLError) as refusal:
        urllib.request.urlopen(server.wrong_url, context=trial.client(), timeout=20)
    assert isinstance(refusal.error, urllib.error.URLError)
    assert isinstance(refusal.error.reason, ssl.SSLCertVerificationError)
    with trial.refuses(urllib.error.URLError, code="X509-UNKNOWN-CA"):
        urllib.request.urlopen(server.url, context=trial.stranger(), timeout=20)


@cell("urllib", "proxy")
def urllib_goes_through_a_proxy(trial: Trial) -> None:
    server, proxy = trial.peers.https, trial.peers.proxy
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({"https": proxy.url}), urllib.request.HTTPSHandler(context=trial.client())
    )
    with opener.open(server.url, timeout=20) as response:
        assert response.read() == BODY
    assert f"localhost:{server.port}" in trial.peers.tunnels
    with trial.refuses(urllib.error.URLError):
        opener.open(server.wrong_url, timeout=20)
