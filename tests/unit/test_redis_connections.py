"""redis-py's connection classes over Pellucid: what its settings become, and which are refused."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from pellucid.config import ClientConfig
from pellucid.integrations.redis import AsyncPellucidSSLConnection, PellucidSSLConnection
from pellucid.integrations.ssl_context import SSLContext
from pellucid.integrations.ssl_errors import ConfigurationError
from pellucid.registry import CipherSuite
from pellucid.testing.ca import CA

AUTHORITY = CA("redis root")
LEAF = AUTHORITY.issue("client.test")
KINDS = (PellucidSSLConnection, AsyncPellucidSSLConnection)


@pytest.fixture(params=KINDS, ids=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def config(connection: Any) -> ClientConfig:
    made = connection.context.config(server_side=False)
    assert isinstance(made, ClientConfig)
    return made


def test_connection_has_the_context_that_it_is_given(kind: Any) -> None:
    context = SSLContext(ClientConfig(trust=AUTHORITY.trust))
    connection = kind(host="cache.test", port=6380, ssl_context=context)
    assert connection.context is context
    assert (connection.host, connection.port) == ("cache.test", 6380)


def test_connection_takes_redis_pys_own_settings(kind: Any, tmp_path: Path) -> None:
    (tmp_path / "client.pem").write_bytes(LEAF.chain_pem)
    (tmp_path / "client.key").write_bytes(LEAF.key_pem)
    connection = kind(
        ssl_ca_data=AUTHORITY.root_pem.decode("ascii"),
        ssl_certfile=str(tmp_path / "client.pem"),
        ssl_keyfile=str(tmp_path / "client.key"),
        ssl_cert_reqs="required",
        ssl_check_hostname=True,
        ssl_min_version=ssl.TLSVersion.TLSv1_2,
        ssl_ciphers="TLS_AES_256_GCM_SHA384",
        ssl_validate_ocsp=False,
    )
    made = config(connection)
    assert made.trust is not None and made.trust.roots == (AUTHORITY.root_der,)
    assert [one.chain[0] for one in made.credentials] == [LEAF.der]
    assert made.suites == (CipherSuite.TLS_AES_256_GCM_SHA384,)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"ssl_cert_reqs": "none"}, "verif"),
        ({"ssl_cert_reqs": None}, "verif"),
        ({"ssl_cert_reqs": ssl.CERT_NONE}, "verif"),
        ({"ssl_check_hostname": False}, "name"),
        ({"ssl_keyfile": "client.key"}, "ssl_certfile"),
        ({"ssl_validate_ocsp": True}, "no OCSP server is asked"),
        ({"ssl_validate_ocsp_stapled": True}, "revocation"),
        ({"ssl_ocsp_context": object()}, "pyOpenSSL"),
        ({"ssl_context": ssl.create_default_context()}, "something else does the TLS"),
        ({"ssl_context": SSLContext(ClientConfig(trust=AUTHORITY.trust)), "ssl_cert_reqs": "none"}, "would not count"),
    ],
)
def test_connection_refuses_what_cannot_be_honoured(kind: Any, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        kind(host="cache.test", **settings)


def test_url_of_a_blocking_client_keeps_the_class() -> None:
    context = SSLContext(ClientConfig(trust=AUTHORITY.trust))
    with redis.Redis.from_url(
        "rediss://cache.test:6380/2", connection_class=PellucidSSLConnection, ssl_context=context
    ) as client:
        connection = client.connection_pool.make_connection()
    assert isinstance(connection, PellucidSSLConnection)
    assert connection.context is context
    assert connection.db == 2


def test_url_that_turns_verification_off_is_refused() -> None:
    url = "rediss://cache.test:6380?ssl_cert_reqs=none"
    with (
        redis.Redis.from_url(url, connection_class=PellucidSSLConnection) as client,
        pytest.raises(ConfigurationError, match="verif"),
    ):
        client.connection_pool.make_connection()


def test_connection_without_a_ca_trusts_the_systems_roots(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pellucid.integrations.ssl_trust.system_trust", lambda: AUTHORITY.trust)
    made = config(kind(host="cache.test"))
    assert made.trust is not None and made.trust.roots == (AUTHORITY.root_der,)
