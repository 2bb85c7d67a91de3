"""Databases: asyncpg against PostgreSQL, redis-py against Redis; OpenSSL does the servers' TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import redis
import redis.asyncio

import pellucid
from pellucid.integrations.redis import AsyncPellucidSSLConnection, PellucidSSLConnection
from pellucid.integrations.ssl_errors import ConfigurationError
from tests.ecosystem import daemons
from tests.ecosystem.matrix import cell, empty, library
from tests.ecosystem.trial import Trial

_NO_HTTP = "it does not speak HTTP"
_NO_PROXY = "it knows no HTTP proxies"
SECONDS = 20.0

# ---- asyncpg ---------------------------------------------------------------------------------------------------------

library("asyncpg")
empty("asyncpg", "server", "it is a client; PostgreSQL's server has its own TLS")
empty("asyncpg", "HTTP/2", _NO_HTTP)
empty("asyncpg", "proxy", _NO_PROXY)

_ROWS = "SELECT i, repeat('x', 1000) AS text FROM generate_series(1, 500) AS i"


async def _connected(port: int, context: ssl.SSLContext, host: str = "localhost", **how: object) -> asyncpg.Connection:
    settings = {"user": "postgres", "database": "postgres", **how}
    return await asyncpg.connect(host=host, port=port, ssl=context, timeout=SECONDS, **settings)


@cell("asyncpg", "start_tls")
def asyncpg_asks_for_tls(trial: Trial) -> None:
    """PostgreSQL's SSLRequest, then TLS; the server says what it is, and who showed a certificate."""
    server = trial.enter(daemons.postgres(trial.authority))

    async def used() -> None:
        connection = await _connected(server.port, trial.client())
        version, cipher = await connection.fetchrow(
            "SELECT version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        )
        assert version == "TLSv1.3"
        assert cipher == connection._transport.get_extra_info("ssl_object").cipher()[0]
        rows = await connection.fetch(_ROWS)
        assert [row["i"] for row in rows] == list(range(1, 501)) and len(rows[0]["text"]) == 1000
        await connection.close()

    asyncio.run(used())
    for host, context, code in (
        ("127.0.0.1", trial.client(), "X509-WRONG-NAME"),
        ("localhost", trial.stranger(), "X509-UNKNOWN-CA"),
    ):
        with trial.refuses(ssl.SSLCertVerificationError, code=code):
            asyncio.run(_connected(server.port, context, host))


@cell("asyncpg", "client", "certificate")
def asyncpg_shows_a_certificate(trial: Trial) -> None:
    """PostgreSQL knows its user by a client certificate, and takes nobody else for that user."""
    server = trial.enter(daemons.postgres(trial.authority))
    leaf = trial.authority.issue("client.example", common_name="certified", purposes=("client",))
    credential = pellucid.Credential.from_pem(leaf.chain_pem, leaf.key_pem)

    async def subject(context: ssl.SSLContext) -> str:
        connection = await _connected(server.port, context, user="certified")
        try:
            found: str = await connection.fetchval("SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            return found
        finally:
            await connection.close()

    async def created() -> None:
        connection = await _connected(server.port, trial.client())
        await connection.execute("CREATE ROLE certified LOGIN")
        await connection.close()

    asyncio.run(created())
    assert asyncio.run(subject(trial.client(credentials=(credential,)))) == "/CN=certified"
    with contextlib.suppress(asyncpg.InvalidAuthorizationSpecificationError):
        asyncio.run(subject(trial.client()))
        raise AssertionError("PostgreSQL let somebody in without a certificate")
    with trial.refuses(ssl.SSLCertVerificationError):
        asyncio.run(_connected(server.port, trial.client(), "127.0.0.1"))


@cell("asyncpg", "client", "direct_tls")
def asyncpg_speaks_tls_at_once(trial: Trial) -> None:
    """TLS from the first byte. PostgreSQL 15 has that behind somebody who ends TLS before it: here OpenSSL."""
    server = trial.enter(daemons.postgres(trial.authority))
    front = trial.enter(_front(trial.stdlib_server("postgresql"), server.port))

    async def used() -> None:
        connection = await _connected(front, trial.client(alpn=("postgresql",)), user="plain", direct_tls=True)
        assert connection._transport.get_extra_info("ssl_object").selected_alpn_protocol() == "postgresql"
        assert len(await connection.fetch(_ROWS)) == 500
        await connection.close()

    async def created() -> None:
        connection = await _connected(server.port, trial.client())
        await connection.execute("CREATE ROLE plain LOGIN")
        await connection.close()

    asyncio.run(created())
    asyncio.run(used())
    with trial.refuses(ssl.SSLCertVerificationError):
        asyncio.run(_connected(front, trial.client(), "127.0.0.1", direct_tls=True))


@cell("asyncpg", "async")
def asyncpg_pools_connections(trial: Trial) -> None:
    """A pool with five connections, what is copied in and out over them, and a query that is cancelled."""
    server = trial.enter(daemons.postgres(trial.authority))

    async def used() -> None:
        pool = await asyncpg.create_pool(
            host="localhost", port=server.port, user="postgres", ssl=trial.client(), min_size=5, max_size=5
        )
        async with pool:
            counts = await asyncio.gather(*(pool.fetchval("SELECT count(*) FROM pg_class") for _ in range(20)))
            assert len(set(counts)) == 1
            await pool.execute("CREATE TABLE numbers (n int)")
            await pool.copy_records_to_table("numbers", records=[(n,) for n in range(20_000)])
            assert await pool.fetchval("SELECT sum(n) FROM numbers") == sum(range(20_000))
            # It is cancelled over a connection of its own, which is under TLS as well.
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                await pool.fetchval("SELECT pg_sleep(60)", timeout=0.2)
                raise AssertionError("it slept for a minute in 0.2 s")
            assert await pool.fetchval("SELECT 1") == 1

    asyncio.run(used())
    assert len(trial.handshakes) >= 6
    with trial.refuses(ssl.SSLCertVerificationError):
        asyncio.run(_connected(server.port, trial.client(), "127.0.0.1"))


@contextlib.contextmanager
def _front(context: ssl.SSLContext, behind: int) -> Iterator[int]:
    """End TLS, and pass what is in it on to the port *behind*."""
    ready, stop, ports = threading.Event(), threading.Event(), []

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(2**16):
                target.write(data)
                await target.drain()
        target.close()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        its_reader, its_writer = await asyncio.open_connection("127.0.0.1", behind)
        await asyncio.gather(pump(reader, its_writer), pump(its_reader, writer))

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # of clients that refuse us
        server = await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=context)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        await asyncio.get_running_loop().run_in_executor(None, stop.wait)
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert ready.wait(SECONDS)
    try:
        yield ports[0]
    finally:
        stop.set()
        thread.join(SECONDS)


# ---- redis-py --------------------------------------------------------------------------------------------------------

library("redis-py", "redis")
empty("redis-py", "server", "it is a client; Redis has its own TLS")
empty("redis-py", "HTTP/2", _NO_HTTP)
empty("redis-py", "proxy", _NO_PROXY)
empty("redis-py", "start_tls", "Redis has a port for TLS, from the first byte")

_LARGE = bytes(range(256)) * 4000


def _client(port: int, host: str = "localhost", **settings: object) -> redis.Redis:
    url = f"rediss://{host}:{port}"
    return redis.Redis.from_url(url, connection_class=PellucidSSLConnection, socket_timeout=SECONDS, **settings)


@cell("redis-py", "client")
def redis_sets_and_gets(trial: Trial) -> None:
    server = trial.enter(daemons.redis(trial.authority))
    with _client(server.port, ssl_context=trial.client()) as client:
        assert client.set("key", _LARGE) and client.get("key") == _LARGE
        with client.pipeline() as pipeline:
            for number in range(200):
                pipeline.incrby("sum", number)
            assert pipeline.execute()[-1] == sum(range(200))
        with client.pubsub() as told:
            told.subscribe("news")
            assert told.get_message(timeout=SECONDS)["type"] == "subscribe"
            assert client.publish("news", "hello") == 1
            assert told.get_message(timeout=SECONDS)["data"] == b"hello"
    assert len(trial.handshakes) == 2
    for host, context, code in (
        ("127.0.0.1", trial.client(), "X509-WRONG-NAME"),
        ("localhost", trial.stranger(), "X509-UNKNOWN-CA"),
    ):
        with (
            _client(server.port, host, ssl_context=context) as client,
            trial.refuses(redis.ConnectionError, code=code),
        ):
            client.ping()


@cell("redis-py", "client", "its own settings")
def redis_takes_its_own_settings(trial: Trial) -> None:
    """Without a context redis-py's settings make one; what would have no effect, or none that is safe, is refused."""
    server = trial.enter(daemons.redis(trial.authority))
    files: dict[str, Path] = {"ssl_certfile": trial.certificate_file, "ssl_keyfile": trial.key_file}
    for settings in ({}, files):
        with _client(server.port, ssl_ca_certs=trial.ca_file, **settings) as client:
            assert client.ping()
            connection = client.connection_pool.get_connection()
            assert (connection._sock.client_sigalg() is None) is (settings == {})
            assert connection._sock.negotiated is not None
            client.connection_pool.release(connection)
    for wrong in ({"ssl_cert_reqs": "none"}, {"ssl_check_hostname": False}, {"ssl_validate_ocsp": True}):
        with _client(server.port, ssl_ca_certs=trial.ca_file, **wrong) as client, _raises(ConfigurationError):
            client.ping()
    with (
        _client(server.port, ssl_context=trial.client(), ssl_ca_certs=trial.ca_file) as client,
        _raises(ConfigurationError),
    ):
        client.ping()
    with _client(server.port, ssl_context=ssl.create_default_context()) as client, _raises(ConfigurationError):
        client.ping()
    with _client(server.port, ssl_context=trial.client()) as client:
        assert client.ping()
    with (
        _client(server.port, "127.0.0.1", ssl_context=trial.client()) as client,
        trial.refuses(redis.ConnectionError),
    ):
        client.ping()


@cell("redis-py", "async")
def redis_asyncio_sets_and_gets(trial: Trial) -> None:
    server = trial.enter(daemons.redis(trial.authority))

    def made(host: str, context: ssl.SSLContext) -> redis.asyncio.Redis:
        # Its from_url takes no connection class: rediss:// means its own.
        pool = redis.asyncio.ConnectionPool(
            AsyncPellucidSSLConnection, host=host, port=server.port, ssl_context=context, socket_timeout=SECONDS
        )
        return redis.asyncio.Redis.from_pool(pool)

    async def used() -> None:
        async with made("localhost", trial.client()) as client:
            await client.set("key", _LARGE)
            assert await asyncio.gather(*(client.get("key") for _ in range(10))) == [_LARGE] * 10

    async def refused(host: str, context: ssl.SSLContext) -> None:
        async with made(host, context) as client:
            await client.ping()

    asyncio.run(used())
    with trial.refuses(redis.ConnectionError):
        asyncio.run(refused("127.0.0.1", trial.client()))
    with trial.refuses(redis.ConnectionError, code="X509-UNKNOWN-CA"):
        asyncio.run(refused("localhost", trial.stranger()))


@contextlib.contextmanager
def _raises(kind: type[BaseException]) -> Iterator[None]:
    try:
        yield
    except kind:
        return
    raise AssertionError(f"no {kind.__name__} was raised")
