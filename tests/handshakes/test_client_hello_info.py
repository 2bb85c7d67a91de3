"""What a server's resolver of credentials is told of the ClientHello, before a retry and after."""

from __future__ import annotations

from typing import Any

import pytest

from pellucid import ClientConfig, Connection, Credential
from pellucid.config import ClientHelloInfo
from pellucid.explain.ja4 import ja4
from pellucid.registry import TLS_1_3, ExtensionType, NamedGroup
from tests.support.pair import NAME, Pair, client_config, credential, server_config
from tests.support.resuming import settle


class Resolver:
    def __init__(self) -> None:
        self.asked: list[ClientHelloInfo] = []

    def __call__(self, asked: ClientHelloInfo) -> Credential:
        self.asked.append(asked)
        return credential()


def asked_of(client: ClientConfig, **changes: Any) -> tuple[ClientHelloInfo, bytes]:
    """What the resolver was told, and the client's first flight."""
    resolver = Resolver()
    config = server_config(credential_resolver=resolver, **changes)
    ours = Connection.client(client, NAME)
    first = ours.data_to_send()
    server = Connection.server(config, peer_address="192.0.2.7")
    server.receive_data(first)
    pair = Pair(ours, server)
    settle(pair)
    assert ours.handshake_complete
    (asked,) = resolver.asked
    return asked, first


def test_resolver_has_the_hello_as_it_was_sent_and_whence_it_came() -> None:
    asked, first = asked_of(client_config(alpn=("h2",)))
    assert asked.peer_address == "192.0.2.7"
    assert asked.raw == first[5 : 5 + int.from_bytes(first[3:5], "big")]
    assert TLS_1_3 in asked.supported_versions
    assert NamedGroup.X25519 in asked.key_shares
    assert ExtensionType.SERVER_NAME in asked.extensions
    assert asked.alpn == (b"h2",)


def test_fingerprint_is_the_same_for_every_connection_of_a_client_that_shuffles() -> None:
    client = client_config(alpn=("h2",))
    one, other = asked_of(client)[0], asked_of(client)[0]
    assert one.ja4 == other.ja4
    assert one.ja4.startswith("t13d")
    assert one.ja4.split("_")[0].endswith("h2")
    assert one.hello is not None
    assert one.ja4 == ja4(one.hello).fingerprint
    assert one.ja4 != asked_of(client_config(alpn=("http/1.1",)))[0].ja4


@pytest.mark.parametrize("cookie", [None, bytes(32)])
def test_after_a_retry_the_fingerprint_is_that_of_the_first_hello(cookie: bytes | None) -> None:
    client = client_config(key_shares=(NamedGroup.SECP256R1,))
    plain = asked_of(client)[0]
    asked, _ = asked_of(client, groups=(NamedGroup.X25519,), cookie_key=cookie)
    assert asked.ja4 == plain.ja4
    assert asked.key_shares == (NamedGroup.X25519,)
    assert ExtensionType.COOKIE not in asked.extensions


def test_fingerprint_at_a_server_that_kept_nothing_of_the_first_hello_leaves_out_the_cookie() -> None:
    resolver = Resolver()
    config = server_config(credential_resolver=resolver, always_retry=True, cookie_key=bytes(32))
    ours = Connection.client(client_config(), NAME)
    first = Connection.server(config)
    first.receive_data(ours.data_to_send())
    ours.receive_data(first.data_to_send())
    assert not resolver.asked
    second = Connection.server(config)
    second.receive_data(ours.data_to_send())
    (asked,) = resolver.asked
    assert ExtensionType.COOKIE in asked.extensions
    assert asked.ja4 == asked_of(client_config())[0].ja4


def test_info_made_by_hand_has_no_fingerprint() -> None:
    made = ClientHelloInfo(server_name=NAME, alpn=(), cipher_suites=(0x1301,), groups=(29,), signature_schemes=(1027,))
    assert (made.ja4, made.raw, made.extensions) == ("", b"", ())
