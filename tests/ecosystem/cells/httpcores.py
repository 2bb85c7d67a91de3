"""httpcore with the network backend of ours: TLS without an ssl-shaped object, and errors that keep their report."""

from __future__ import annotations

import ssl

import anyio
import httpcore

import pellucid
from pellucid.explain import Recorder
from pellucid.integrations.httpcore import AsyncBackend, Backend
from tests.ecosystem.matrix import cell, empty, library
from tests.ecosystem.peers import BODY
from tests.ecosystem.trial import Trial

library("httpcore")
empty("httpcore", "server", "it is a client, and serves nothing")


@cell("httpcore", "client")
def httpcore_gets_and_posts(trial: Trial) -> None:
    server = trial.peers.https
    with httpcore.ConnectionPool(ssl_context=trial.client(trace=Recorder), network_backend=Backend(httpcore)) as pool:
        response = pool.request("GET", server.url)
        assert response.content == BODY
        assert isinstance(pellucid.trace_of(response), Recorder)
        assert pool.request("POST", server.url, content=b"x" * 300_000).content == b"x" * 300_000
        assert len(trial.handshakes) == 1
        with trial.refuses(httpcore.ConnectError) as refusal:
            pool.request("GET", server.wrong_url)
        assert isinstance(refusal.error, ssl.SSLCertVerificationError)
        assert isinstance(refusal.error, pellucid.CertificateRejected)


@cell("httpcore", "HTTP/2")
def httpcore_speaks_http2(trial: Trial) -> None:
    server = trial.peers.h2
    with httpcore.ConnectionPool(ssl_context=trial.client(), http2=True, network_backend=Backend(httpcore)) as pool:
        response = pool.request("POST", server.url, content=b"x" * 300_000)
        assert response.extensions["http_version"] == b"HTTP/2"
        assert response.content == b"x" * 300_000
        with trial.refuses(httpcore.ConnectError):
            pool.request("GET", server.wrong_url)


@cell("httpcore", "async")
def httpcore_is_async(trial: Trial) -> None:
    server = trial.peers.h2

    async def main() -> None:
        for http2 in (False, True):
            async with httpcore.AsyncConnectionPool(
                ssl_context=trial.client(), http2=http2, network_backend=AsyncBackend(httpcore)
            ) as pool:
                with anyio.fail_after(20):
                    response = await pool.request("POST", server.url, content=b"x" * 300_000)
                    assert response.content == b"x" * 300_000
                    with trial.refuses(httpcore.ConnectError):
                        await pool.request("GET", server.wrong_url)

    for backend in ("asyncio", "trio"):
        anyio.run(main, backend=backend)


@cell("httpcore", "proxy")
def httpcore_goes_through_proxies(trial: Trial) -> None:
    server, context = trial.peers.h2, trial.client()
    for address in (trial.peers.proxy, trial.peers.tls_proxy):
        proxy = httpcore.Proxy(address.url, ssl_context=context if address.url.startswith("https") else None)
        with httpcore.ConnectionPool(
            ssl_context=context, proxy=proxy, http2=True, network_backend=Backend(httpcore)
        ) as pool:
            assert pool.request("GET", server.url).content == BODY
            with trial.refuses(httpcore.ConnectError):
                pool.request("GET", server.wrong_url)

        async def main(proxy: httpcore.Proxy = proxy) -> None:
            async with httpcore.AsyncConnectionPool(
                ssl_context=context, proxy=proxy, http2=True, network_backend=AsyncBackend(httpcore)
            ) as pool:
                assert (await pool.request("GET", server.url)).content == BODY
                with trial.refuses(httpcore.ConnectError):
                    await pool.request("GET", server.wrong_url)

        anyio.run(main)


@cell("httpcore", "start_tls")
def httpcore_streams_are_upgraded(trial: Trial) -> None:
    backend = Backend(httpcore)
    for name in ("localhost", "other.example"):
        stream = backend.connect_tcp("localhost", trial.peers.starttls.port, timeout=20)
        stream.write(b"STARTTLS\r\n", 20)
        assert stream.read(100, 20) == b"OK\r\n"
        if name == "localhost":
            tls = stream.start_tls(trial.client(), name, 20)
            tls.write(BODY, 20)
            assert tls.read(100, 20) == BODY
            tls.close()
        else:
            with trial.refuses(httpcore.ConnectError):
                stream.start_tls(trial.client(), name, 20)
