"""HTTP clients: httpx and httpx2, urllib3, requests, aiohttp. What they share with httpcore is in its own module."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from types import ModuleType

import aiohttp
import aiohttp.web
import anyio
import httpx
import httpx2
import requests
import sniffio
import urllib3

import pellucid
from pellucid.explain import Recorder
from pellucid.integrations.requests import HTTPAdapter
from tests.ecosystem.matrix import cell, empty, library
from tests.ecosystem.peers import BODY, fetched
from tests.ecosystem.trial import Trial

CLIENT = "it is a client, and serves nothing"
HTTP1 = "it speaks HTTP/1.1 only"
BLOCKS = "it blocks; aiohttp and httpx have rows of their own"
FROM_THE_START = "HTTPS is TLS from the first byte; what a proxy's CONNECT leads to is in the column proxy"

# ---- httpx, httpx2 ---------------------------------------------------------------------------------------------------

for _name in ("httpx", "httpx2"):
    library(_name)
    empty(_name, "server", CLIENT)
    empty(_name, "start_tls", FROM_THE_START)


def for_both(column: str, way: str = "") -> Callable[[Callable[[Trial, ModuleType], None]], None]:
    """Put a function into the matrix twice: for httpx, and for httpx2."""

    def add(work: Callable[[Trial, ModuleType], None]) -> None:
        for module in (httpx, httpx2):

            def one(trial: Trial, module: ModuleType = module) -> None:
                work(trial, module)

            cell(module.__name__, column, way)(one)

    return add


@for_both("client")
def httpx_gets_and_posts(trial: Trial, module: ModuleType) -> None:
    server = trial.peers.https
    with module.Client(verify=trial.client(trace=Recorder), trust_env=False) as client:
        response = client.get(server.url)
        assert response.content == BODY
        tls = response.extensions["network_stream"].get_extra_info("ssl_object")
        assert tls.negotiated.cipher_suite == trial.handshakes[0].cipher_suite
        assert pellucid.trace_of(response) is tls.trace is not None
        assert client.post(server.url, content=b"x" * 300_000).content == b"x" * 300_000
        assert len(trial.handshakes) == 1
        with trial.refuses(module.ConnectError, notes=False):  # httpcore drops the cause
            client.get(server.wrong_url)
    with (
        module.Client(verify=trial.stranger(), trust_env=False) as client,
        trial.refuses(module.ConnectError, code="X509-UNKNOWN-CA", notes=False),
    ):
        client.get(server.url)


@for_both("HTTP/2")
def httpx_speaks_http2(trial: Trial, module: ModuleType) -> None:
    server = trial.peers.h2
    with module.Client(verify=trial.client(), http2=True, trust_env=False) as client:
        for _ in range(2):
            response = client.get(server.url)
            assert (response.http_version, response.content) == ("HTTP/2", BODY)
        assert response.headers["x-http-version"] == "2"
        assert client.post(server.url, content=b"x" * 300_000).content == b"x" * 300_000
        assert [done.alpn for done in trial.handshakes] == ["h2"]
        with trial.refuses(module.ConnectError, notes=False):
            client.get(server.wrong_url)


def on_both_loops(main: Callable[[], Awaitable[None]]) -> None:
    """Run an async function on asyncio, then on trio."""

    async def bounded() -> None:
        with anyio.fail_after(20):
            await main()

    for backend in ("asyncio", "trio"):
        anyio.run(bounded, backend=backend)


@for_both("async")
def httpx_is_async(trial: Trial, module: ModuleType) -> None:
    server = trial.peers.h2

    async def main() -> None:
        loop = sniffio.current_async_library()
        for http2 in (False, True):
            async with module.AsyncClient(verify=trial.client(trace=Recorder), http2=http2, trust_env=False) as client:

                async def get(client: httpx.AsyncClient = client, http2: bool = http2) -> None:
                    response = await client.get(server.url)
                    assert response.content == BODY
                    assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
                    assert isinstance(pellucid.trace_of(response), Recorder)

                async with anyio.create_task_group() as group:
                    for _ in range(3):
                        group.start_soon(get)
                # trio's error for a broken stream is empty, and httpcore drops its cause.
                with trial.refuses(module.ConnectError, notes=False, text=loop != "trio"):
                    await client.get(server.wrong_url)

    on_both_loops(main)


@for_both("proxy")
def httpx_goes_through_proxies(trial: Trial, module: ModuleType) -> None:
    server, context = trial.peers.h2, trial.client()

    async def main() -> None:
        async with module.AsyncClient(verify=context, http2=True, proxy=proxy, trust_env=False) as client:
            assert (await client.get(server.url)).content == BODY
            text = sniffio.current_async_library() != "trio"  # see above
            with trial.refuses(module.ConnectError, notes=False, text=text):
                await client.get(server.wrong_url)

    for address in (trial.peers.proxy, trial.peers.tls_proxy):
        proxy = module.Proxy(address.url, ssl_context=context if address.url.startswith("https") else None)
        with module.Client(verify=context, http2=True, proxy=proxy, trust_env=False) as client:
            assert client.get(server.url).http_version == "HTTP/2"
            with trial.refuses(module.ConnectError, notes=False):
                client.get(server.wrong_url)
        on_both_loops(main)
    untrusted = module.Proxy(trial.peers.tls_proxy.wrong_url, ssl_context=context)
    with (
        module.Client(verify=context, proxy=untrusted, trust_env=False) as client,
        trial.refuses(module.ConnectError, notes=False),
    ):
        client.get(server.url)


# ---- urllib3 ---------------------------------------------------------------------------------------------------------

library("urllib3")
empty("urllib3", "server", CLIENT)
empty("urllib3", "HTTP/2", "its HTTP/2 is experimental, and injected for a whole process")
empty("urllib3", "async", BLOCKS)
empty("urllib3", "start_tls", FROM_THE_START)


@cell("urllib3", "client")
def urllib3_gets_and_posts(trial: Trial) -> None:
    server = trial.peers.https
    with urllib3.PoolManager(ssl_context=trial.client(trace=Recorder), retries=False) as pool:
        response = pool.request("GET", server.url, preload_content=False)
        assert isinstance(pellucid.trace_of(response), Recorder)
        assert response.read() == BODY
        response.release_conn()
        assert pool.request("POST", server.url, body=b"x" * 300_000).data == b"x" * 300_000
        assert len(trial.handshakes) == 1
        with trial.refuses(urllib3.exceptions.SSLError) as refusal:
            pool.request("GET", server.wrong_url)
        assert isinstance(refusal.error.args[0], ssl.SSLCertVerificationError)
    with (
        urllib3.PoolManager(ssl_context=trial.stranger(), retries=False) as pool,
        trial.refuses(urllib3.exceptions.SSLError, code="X509-UNKNOWN-CA"),
    ):
        pool.request("GET", server.url)


@cell("urllib3", "proxy")
def urllib3_goes_through_proxies(trial: Trial) -> None:
    server, context = trial.peers.https, trial.client()
    for address in (trial.peers.proxy, trial.peers.tls_proxy):
        proxy = urllib3.ProxyManager(address.url, ssl_context=context, proxy_ssl_context=context, retries=False)
        with proxy:
            response = proxy.request("GET", server.url, preload_content=False)
            assert pellucid.trace_of(response) is not None
            assert response.read() == BODY
            response.release_conn()
            with trial.refuses(urllib3.exceptions.SSLError):
                proxy.request("GET", server.wrong_url)
    wrong = urllib3.ProxyManager(
        trial.peers.tls_proxy.wrong_url, ssl_context=context, proxy_ssl_context=context, retries=False
    )
    with wrong, trial.refuses(urllib3.exceptions.ProxyError, notes=False):
        wrong.request("GET", server.url)


# ---- requests --------------------------------------------------------------------------------------------------------

library("requests")
empty("requests", "server", CLIENT)
empty("requests", "HTTP/2", HTTP1)
empty("requests", "async", BLOCKS)
empty("requests", "start_tls", FROM_THE_START)


def _session(context: pellucid.SSLContext) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.mount("https://", HTTPAdapter(context))
    return session


@cell("requests", "client")
def requests_gets_and_posts(trial: Trial) -> None:
    server = trial.peers.https
    with _session(trial.client(trace=Recorder)) as session:
        with session.get(server.url, stream=True) as response:
            assert isinstance(pellucid.trace_of(response), Recorder)
            assert response.content == BODY
        assert session.post(server.url, data=b"x" * 300_000).content == b"x" * 300_000
        assert len(trial.handshakes) == 1
        with trial.refuses(requests.exceptions.SSLError):
            session.get(server.wrong_url)
    with _session(trial.stranger()) as session, trial.refuses(requests.exceptions.SSLError, code="X509-UNKNOWN-CA"):
        session.get(server.url)


@cell("requests", "proxy")
def requests_goes_through_proxies(trial: Trial) -> None:
    server = trial.peers.https
    for address in (trial.peers.proxy, trial.peers.tls_proxy):
        with _session(trial.client()) as session:
            session.proxies = {"https": address.url}
            session.verify = str(trial.ca_file)
            assert session.get(server.url).content == BODY
            with trial.refuses(requests.exceptions.SSLError, notes=False):
                session.get(server.wrong_url)


# ---- aiohttp ---------------------------------------------------------------------------------------------------------

library("aiohttp")
empty("aiohttp", "HTTP/2", HTTP1)
empty("aiohttp", "start_tls", FROM_THE_START)


def _run(main: Awaitable[None]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(main, 30)

    asyncio.run(bounded())


@cell("aiohttp", "client")
def aiohttp_gets_and_posts(trial: Trial) -> None:
    server = trial.peers.https

    async def main() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trial.client())) as session:
            async with session.get(server.url) as response:
                assert await response.read() == BODY
            async with session.post(server.url, data=b"x" * 300_000) as response:
                assert await response.read() == b"x" * 300_000
            assert len(trial.handshakes) == 1
            with trial.refuses(aiohttp.ClientConnectorCertificateError) as refusal:
                await session.get(server.wrong_url)
            assert isinstance(refusal.error, aiohttp.ClientConnectorCertificateError)
            assert isinstance(refusal.error.certificate_error, ssl.SSLCertVerificationError)
            with trial.refuses(aiohttp.ClientConnectorCertificateError, code="X509-UNKNOWN-CA"):
                await session.get(server.url, ssl=trial.stranger())

    _run(main())


async def _hello(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
    if request.headers.get("upgrade") == "websocket":
        socket = aiohttp.web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_bytes(message.data)
        return socket
    assert request.scheme == "https"
    assert request.transport is not None
    assert request.transport.get_extra_info("ssl_object").negotiated is not None
    return aiohttp.web.Response(body=BODY if request.method == "GET" else await request.read())


@contextlib.asynccontextmanager
async def _site(context: pellucid.SSLContext):  # type: ignore[no-untyped-def]
    application = aiohttp.web.Application()
    application.router.add_route("*", "/", _hello)
    runner = aiohttp.web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@cell("aiohttp", "server")
def aiohttp_serves(trial: Trial) -> None:
    async def main() -> None:
        async with _site(trial.asking_server()) as port:
            context = trial.stdlib_client(certificate=True)
            assert await asyncio.to_thread(fetched, port, context=context) == BODY
            posted = await asyncio.to_thread(fetched, port, context=context, method="POST", body=b"x" * 300_000)
            assert posted == b"x" * 300_000
            with contextlib.suppress(OSError):  # the alert, or what follows it
                await asyncio.to_thread(fetched, port)
                raise AssertionError("a client without a certificate was served")

    _run(main())
    assert len(trial.handshakes) == 2


@cell("aiohttp", "async", side="client")
def aiohttp_does_much_at_once(trial: Trial) -> None:
    """Ours at both ends: a WebSocket and requests beside it."""

    async def main() -> None:
        async with _site(trial.server()) as port:
            connector = aiohttp.TCPConnector(ssl=trial.client(trace=Recorder), limit=4)
            async with aiohttp.ClientSession(f"https://localhost:{port}", connector=connector) as session:

                async def get() -> bytes:
                    async with session.get("/") as response:
                        return await response.read()

                async with session.ws_connect("/") as socket:
                    await socket.send_bytes(bytes(200_000))
                    assert isinstance(pellucid.trace_of(socket), Recorder)
                    assert await asyncio.gather(*(get() for _ in range(8))) == [BODY] * 8
                    assert await socket.receive_bytes() == bytes(200_000)
                with trial.refuses(aiohttp.ClientConnectorCertificateError):
                    await session.get(f"https://127.0.0.1:{port}/")

    _run(main())


@cell("aiohttp", "proxy")
def aiohttp_goes_through_proxies(trial: Trial) -> None:
    server = trial.peers.https

    async def main() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trial.client())) as session:
            for address in (trial.peers.proxy, trial.peers.tls_proxy):
                async with session.get(server.url, proxy=address.url) as response:
                    assert await response.read() == BODY
                # Not always ClientConnectorCertificateError: until 3.11.8 asyncio's own abort of TLS in TLS raises a
                # TypeError on top (python/cpython#113214).
                with trial.refuses(aiohttp.ClientConnectionError):
                    await session.get(server.wrong_url, proxy=address.url)

    _run(main())
