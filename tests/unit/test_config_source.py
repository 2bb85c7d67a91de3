"""A source of configurations: whatever listens asks it once for each connection."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from pellucid import ClientConfig, ConfigSource, ReloadingConfig, ServerConfig, SSLContext, UsageError, aio
from pellucid.config import ClientAuthentication, current_config
from pellucid.integrations.ssl_errors import ConfigurationError
from pellucid.net.listener import listen
from pellucid.net.sync import connect, wrap
from tests.support.pair import authority, credential, server_config
from tests.unit.test_net_aio import run, serving
from tests.unit.test_ssl_context import shaken

__all__ = ["run"]

CLIENT = ClientConfig(trust=authority().trust)
ONE, OTHER = credential("p256", "localhost"), credential("ed25519", "localhost")


class Changing:
    """Gives what it is told to. How often it was asked is counted."""

    def __init__(self, config: ServerConfig) -> None:
        self.given = config
        self.asked = 0

    @property
    def current(self) -> ServerConfig:
        self.asked += 1
        return self.given


def source(**changes: Any) -> Changing:
    return Changing(server_config(credentials=(ONE,), **changes))


def leaf(stream: Any) -> bytes:
    return stream.peer.leaf.der  # type: ignore[no-any-return]


def test_current_config_is_what_the_source_has_or_the_config_itself() -> None:
    found: ConfigSource = source()
    assert current_config(found) is found.current
    config = server_config()
    assert current_config(config) is config
    for wrong in (None, "x", CLIENT, Changing(CLIENT)):  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="a ServerConfig or a source"):
            current_config(wrong)  # type: ignore[arg-type]


def test_blocking_listener_asks_at_each_connection() -> None:
    found = source()
    with listen("127.0.0.1", 0, found) as listener:
        threading.Thread(target=listener.serve, args=(lambda stream: stream.sendall(b"x"),), daemon=True).start()
        before = found.asked
        with connect("localhost", listener.address[1], CLIENT) as first:
            assert leaf(first) == ONE.chain[0]
            assert found.asked == before + 1
            found.given = server_config(credentials=(OTHER,))
            with connect("localhost", listener.address[1], CLIENT) as second:
                assert leaf(second) == OTHER.chain[0]
            assert first.recv() == b"x"


def test_async_listener_asks_at_each_connection(run: Callable[..., None]) -> None:
    async def body() -> None:
        found = source()
        async with (
            serving(config=found) as (port, errors),
            await aio.connect("localhost", port, CLIENT) as first,
        ):
            found.given = server_config(credentials=(OTHER,))
            async with await aio.connect("localhost", port, CLIENT) as second:
                assert leaf(second) == OTHER.chain[0]
            await first.send(b"still there")
            assert await first.receive() == b"still there"
        assert not errors

    run(body)


def test_wrap_asks_the_source_too(run: Callable[..., None]) -> None:
    found = source()
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=lambda: wrap(theirs, found).close(), daemon=True)
    thread.start()
    with wrap(ours, CLIENT, server_name="localhost") as stream:
        assert leaf(stream) == ONE.chain[0]
    thread.join(10)

    async def body() -> None:
        here, there = socket.socketpair()
        async with anyio.create_task_group() as group:

            async def serve() -> None:
                await (await aio.wrap(there, found)).aclose()

            group.start_soon(serve)
            async with await aio.wrap(here, CLIENT, server_name="localhost") as stream:
                assert leaf(stream) == ONE.chain[0]

    run(body)


def test_listeners_refuse_at_once_what_is_no_source() -> None:
    with pytest.raises(UsageError):
        listen("127.0.0.1", 0, Changing(CLIENT))  # type: ignore[arg-type]


# ---- the ssl-shaped context ------------------------------------------------------------------------------------------


def met(context: SSLContext, client: SSLContext | None = None) -> bytes:
    one, _ = shaken(client or SSLContext(CLIENT), context)
    der = one.getpeercert(True)
    assert isinstance(der, bytes)
    return der


def test_context_asks_at_each_connection_and_keeps_what_was_set() -> None:
    found = source()
    context = SSLContext(found)
    assert met(context) == ONE.chain[0]
    context.set_alpn_protocols(["h2"])
    client = SSLContext(CLIENT)
    client.set_alpn_protocols(["h2"])
    found.given = server_config(credentials=(OTHER,))
    for _ in range(2):
        one, _ = shaken(client, context)
        assert one.selected_alpn_protocol() == "h2"
        assert one.getpeercert(True) == OTHER.chain[0]
    assert context.config(server_side=True) is context.config(server_side=True)


def test_context_of_a_source_is_a_servers_and_takes_no_certificates() -> None:
    context = SSLContext(source())
    with pytest.raises(ConfigurationError, match="server only"):
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    with pytest.raises(ConfigurationError, match="source"):
        context.load_cert_chain("/nowhere")
    with pytest.raises(UsageError):
        SSLContext(Changing(CLIENT))  # type: ignore[arg-type]


def test_context_reloads_its_source_where_that_can_be() -> None:
    with pytest.raises(ConfigurationError, match="ReloadingConfig"):
        SSLContext(source()).reload()
    with pytest.raises(ConfigurationError, match="ReloadingConfig"):
        SSLContext(server_config()).reload()
    given = [server_config(credentials=(ONE,))]
    context = SSLContext(ReloadingConfig(lambda: given[0]))
    given[0] = server_config(credentials=(OTHER,))
    assert met(context) == ONE.chain[0]
    context.reload()
    assert met(context) == OTHER.chain[0]


def test_context_resumes_sessions_from_before_its_source_was_reloaded() -> None:
    given = [ServerConfig(credentials=(ONE,))]
    found = ReloadingConfig(lambda: given[0])
    context, client = SSLContext(found), SSLContext(ClientConfig(trust=authority().trust))
    reused = []
    for forget in (False, False, True):
        one, _ = shaken(client, context)
        with contextlib.suppress(ssl.SSLWantReadError):
            one.read(1)
        reused.append(one.session_reused)
        given[0] = ServerConfig(credentials=(OTHER,))
        found.reload(forget_sessions=forget)
    one, _ = shaken(client, context)
    assert reused == [False, True, True]
    assert one.session_reused is False


def test_context_of_a_source_has_its_client_authentication_unless_set() -> None:
    found = source()
    context = SSLContext(found)
    assert context.verify_mode is ssl.CERT_NONE
    assert not context.get_ca_certs()
    found.given = server_config(client_authentication=ClientAuthentication.REQUIRED, client_trust=authority().trust)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1
    context.verify_mode = ssl.CERT_OPTIONAL
    config = context.config(server_side=True)
    assert isinstance(config, ServerConfig)
    assert config.client_authentication is ClientAuthentication.OPTIONAL
    assert config.client_trust is found.given.client_trust
