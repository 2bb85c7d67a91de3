"""Choices that must not be made: attacks C1-C19. HelloRetryRequest, cookies, versions, groups, ALPN, server names."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pellucid import NEED_DATA, Connection, CredentialNeeded, HandshakeComplete, ServerConfig
from pellucid.crypto.provider import PENDING, Group
from pellucid.crypto.pyca import PYCA
from pellucid.errors import DecodeError
from pellucid.handshake import cookie as cookies
from pellucid.messages import extensions as x
from pellucid.messages.extensions import M, decode_extensions
from pellucid.messages.handshake import (
    DOWNGRADE_TLS_1_1,
    DOWNGRADE_TLS_1_2,
    HEADER_LENGTH,
    HELLO_RETRY_REQUEST_RANDOM,
    ClientHello,
    Extension,
    ServerHello,
)
from pellucid.registry import AlertDescription as A
from pellucid.registry import CipherSuite as CS
from pellucid.registry import ExtensionType as E
from pellucid.registry import HandshakeType as H
from pellucid.registry import NamedGroup as G
from pellucid.schedule import Suite
from tests.illegal.evil import (
    Evil,
    changing_body,
    changing_extensions,
    client_config,
    connected,
    credential,
    drain,
    evil_client,
    evil_server,
    exchange,
    good_client,
    good_server,
    refused,
    server_config,
    without,
)

IP, UM, PV, ME, DE = (
    A.ILLEGAL_PARAMETER,
    A.UNEXPECTED_MESSAGE,
    A.PROTOCOL_VERSION,
    A.MISSING_EXTENSION,
    A.DECODE_ERROR,
)
TWO_GROUPS: dict[str, Any] = {"groups": (G.SECP256R1, G.X25519), "key_shares": (G.X25519,)}


def retrying_client(**changes: Any) -> Any:
    """A client that lists P-256 and shares x25519."""
    return client_config(**TWO_GROUPS, **changes)


def p256_server(**changes: Any) -> ServerConfig:
    """A server that has to ask that client again."""
    return server_config(groups=(G.SECP256R1,), **changes)


def body(**changes: Any) -> Any:
    return lambda message: dataclasses.replace(message, **changes)


def putting(*extensions: Extension) -> Any:
    """Put these extensions in the place of those of their types, or at the end."""

    def change(present: list[Extension]) -> list[Extension]:
        codes = {extension.extension_type for extension in extensions}
        return [e for e in present if e.extension_type not in codes] + list(extensions)

    return change


def dropping(code: int) -> Any:
    return lambda present: [e for e in present if e.extension_type != code]


def hrr(change: Any) -> Evil:
    return evil_server(p256_server(), edit=changing_extensions(H.HELLO_RETRY_REQUEST, change))


def sh(change: Any, config: Any = None) -> Evil:
    return evil_server(config, edit=changing_extensions(H.SERVER_HELLO, change))


# ---- C1, C2, C3: what a client refuses in HelloRetryRequest and after it ---------------------------------------------


@pytest.mark.rfc("9846 §4.2.4", "a HelloRetryRequest that would change nothing is illegal_parameter")
def test_c1_a_retry_that_changes_nothing_is_refused() -> None:
    refused(good_client(retrying_client()), hrr(dropping(E.KEY_SHARE)), IP)


@pytest.mark.rfc("9846 §4.3.8", "a HelloRetryRequest for a group not offered is illegal_parameter")
@pytest.mark.parametrize("group", [G.SECP384R1, G.X448, 0x0A0A, 0x1234, 0], ids=hex)
def test_c2_a_retry_for_a_group_not_offered_is_refused(group: int) -> None:
    refused(good_client(retrying_client()), hrr(putting(x.SELECTED_GROUP.extension(group))), IP)


@pytest.mark.rfc("9846 §4.3.8", "a HelloRetryRequest for a group already shared is illegal_parameter")
def test_c2_a_retry_for_the_group_already_shared_is_refused() -> None:
    evil = hrr(putting(x.SELECTED_GROUP.extension(G.X25519), x.COOKIE.extension(b"cookie")))
    refused(good_client(retrying_client()), evil, IP)


@pytest.mark.parametrize("what", ["grease-group-of-the-hello"])
def test_c2_a_retry_for_the_clients_own_grease_group_is_refused(what: str) -> None:
    """RFC 8701 §3.1: the reserved group that the client itself listed."""
    client = good_client(retrying_client())
    client.start()
    phase: Any = client._handshake.phase
    groups = x.SUPPORTED_GROUPS.codec.decode_all(
        next(e.extension_data for e in phase.offer.hello.extensions if e.extension_type == E.SUPPORTED_GROUPS), what
    )
    refused(client, hrr(putting(x.SELECTED_GROUP.extension(groups[0]))), IP)


@pytest.mark.rfc("9846 §4.2.4", "ServerHello after HelloRetryRequest has the same cipher suite")
def test_c3_another_suite_after_the_retry_is_refused() -> None:
    edit = changing_body(H.SERVER_HELLO, body(cipher_suite=CS.TLS_CHACHA20_POLY1305_SHA256))
    refused(good_client(retrying_client()), evil_server(p256_server(), edit=edit), IP)


@pytest.mark.rfc("9846 §4.3.8", "ServerHello after HelloRetryRequest has the group asked for")
def test_c3_another_group_after_the_retry_is_refused() -> None:
    share = x.KEY_SHARE.extension(x.KeyShareEntry(G.X25519, b"\x09" + bytes(31)))
    refused(good_client(retrying_client()), sh(putting(share), p256_server()), IP)


def test_c3_another_session_id_after_the_retry_is_refused() -> None:
    edit = changing_body(H.SERVER_HELLO, body(legacy_session_id_echo=b"x" * 32))
    refused(good_client(retrying_client()), evil_server(p256_server(), edit=edit), IP)


@pytest.mark.parametrize("version", [0x0303, 0x0305, 0x7F1C], ids=hex)
@pytest.mark.rfc("9846 §4.2.4", "the version of HelloRetryRequest is retained in ServerHello")
def test_c3_c8_another_version_after_the_retry_is_refused(version: int) -> None:
    refused(good_client(retrying_client()), sh(putting(x.SELECTED_VERSION.extension(version)), p256_server()), IP)


@pytest.mark.rfc("9846 §4.2.4", "the version of HelloRetryRequest is retained in ServerHello")
def test_c9_tls_1_2_after_a_retry_is_refused() -> None:
    """C9: NSS CVE-2019-17023: a ServerHello without supported_versions says TLS 1.2."""
    refused(good_client(retrying_client()), sh(dropping(E.SUPPORTED_VERSIONS), p256_server()), IP)


# ---- C4: the second ClientHello --------------------------------------------------------------------------------------


def second_hello(change: Any, server: ServerConfig | None = None, *alerts: int) -> None:
    evil = evil_client(retrying_client(alpn=("h2",)), edit=changing_body(H.CLIENT_HELLO, change, which=2))
    refused(good_server(server or p256_server()), evil, *(alerts or (IP,)))


def _without_grease(hello: Any) -> Any:
    return [e for e in hello.extensions if (e.extension_type & 0x0F0F) != 0x0A0A]


SECOND: dict[str, Any] = {
    "random": lambda h: {"random": bytes(32)},
    "session-id": lambda h: {"legacy_session_id": bytes(32)},
    "no-session-id": lambda h: {"legacy_session_id": b""},
    "suites-fewer": lambda h: {"cipher_suites": h.cipher_suites[:-1]},
    "suites-reordered": lambda h: {"cipher_suites": h.cipher_suites[::-1]},
    "extension-removed": lambda h: {
        "extensions": tuple(e for e in h.extensions if e.extension_type != E.APPLICATION_LAYER_PROTOCOL_NEGOTIATION)
    },
    "extension-added": lambda h: {"extensions": (*h.extensions, Extension(0x1234, b""))},
    "extensions-reordered": lambda h: {"extensions": h.extensions[::-1]},
    "grease-removed": lambda h: {"extensions": tuple(_without_grease(h))},
    "server-name": lambda h: {"extensions": tuple(putting(x.SERVER_NAME.extension("other.test"))(list(h.extensions)))},
    "alpn": lambda h: {"extensions": tuple(putting(x.ALPN.extension((b"h3",)))(list(h.extensions)))},
    "groups": lambda h: {
        "extensions": tuple(putting(x.SUPPORTED_GROUPS.extension((G.SECP256R1,)))(list(h.extensions)))
    },
    "schemes": lambda h: {
        "extensions": tuple(putting(x.SIGNATURE_ALGORITHMS.extension((0x0403,)))(list(h.extensions)))
    },
}


@pytest.mark.rfc("9846 §4.2.2", "the second ClientHello differs only where it may")
@pytest.mark.parametrize("cookie_key", [None, b"k" * 32], ids=["stateful", "cookie"])
@pytest.mark.parametrize("what", SECOND)
def test_c4_a_second_client_hello_changed_elsewhere_is_refused(what: str, cookie_key: bytes | None) -> None:
    second_hello(lambda h: dataclasses.replace(h, **SECOND[what](h)), p256_server(cookie_key=cookie_key))


def _shares(*entries: tuple[int, bytes]) -> Any:
    extension = x.KEY_SHARES.extension(tuple(x.KeyShareEntry(*entry) for entry in entries))
    return lambda h: dataclasses.replace(h, extensions=tuple(putting(extension)(list(h.extensions))))


@pytest.mark.rfc("9846 §4.2.2", "the second ClientHello has one share, of the group asked for")
@pytest.mark.parametrize(
    "entries",
    [(), ((G.X25519, bytes(32)),), ((G.SECP256R1, bytes(65)), (G.X25519, bytes(32))), ((G.SECP384R1, bytes(97)),)],
    ids=["none", "wrong-group", "two", "unlisted"],
)
def test_c4_a_second_client_hello_with_other_shares_is_refused(entries: Any) -> None:
    second_hello(_shares(*entries))


def test_c4_a_second_client_hello_without_key_share_is_refused() -> None:
    second_hello(
        lambda h: dataclasses.replace(h, extensions=tuple(dropping(E.KEY_SHARE)(list(h.extensions)))), None, ME
    )


def test_c4_what_may_change_may_change() -> None:
    """early_data may go, padding may come (§4.2.2)."""
    from pellucid.messages.handshake import handshake_message

    seen = 0

    def edit(kind: int, raw: bytes) -> bytes:
        nonlocal seen
        if kind != H.CLIENT_HELLO:
            return raw
        seen += 1
        hello: Any = ClientHello.decode(raw[HEADER_LENGTH:])
        extra = Extension(E.EARLY_DATA, b"") if seen == 1 else Extension(E.PADDING, bytes(100))
        extensions = (*hello.extensions[:2], extra, *hello.extensions[2:])
        return handshake_message(dataclasses.replace(hello, extensions=extensions))

    connected(good_server(p256_server()), evil_client(retrying_client(), edit=edit))
    assert seen == 2


def test_c4_a_retry_for_a_cookie_keeps_the_share() -> None:
    """The retry asked for a cookie only; the second hello drops the share of the group that would have been used."""
    config = server_config(cookie_key=b"k" * 32, always_retry=True)
    evil = evil_client(edit=changing_body(H.CLIENT_HELLO, _shares(), which=2))
    refused(good_server(config), evil, IP)


# ---- C5: the transcript after a retry --------------------------------------------------------------------------------


def _hashing_the_first_hello_as_it_is(evil: Evil) -> Evil:
    transcript = evil._context.transcript

    def keep(suite: Suite) -> bytes:
        transcript.choose(suite)
        return transcript.digest()

    transcript.replace_by_message_hash = keep  # type: ignore[method-assign]
    return evil


@pytest.mark.rfc("9846 §4.1", "after HelloRetryRequest the transcript begins with message_hash")
@pytest.mark.parametrize("suite", [CS.TLS_AES_128_GCM_SHA256, CS.TLS_AES_256_GCM_SHA384], ids=hex)
def test_c5_a_transcript_without_message_hash_leads_to_other_keys(suite: int) -> None:
    evil = _hashing_the_first_hello_as_it_is(evil_server(p256_server(suites=(suite,))))
    exchange(client := good_client(retrying_client()), evil)
    _, error = drain(client)
    assert error is not None
    assert getattr(error, "alert", None) == A.BAD_RECORD_MAC
    connected(good_client(retrying_client()), evil_server(p256_server(suites=(suite,))))


# ---- C6: cookies -----------------------------------------------------------------------------------------------------

KEY = b"cookie key of 32 bytes, secret!!"


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def cookie_server(clock: Clock | None = None, **changes: Any) -> ServerConfig:
    provider = dataclasses.replace(PYCA, now=clock) if clock is not None else PYCA
    return server_config(cookie_key=KEY, always_retry=True, provider=provider, **changes)


def _second_flight(config: ServerConfig, address: str = "192.0.2.1") -> tuple[Evil, bytes]:
    """A client that was asked again by a server with *config*, and the bytes of its second ClientHello."""
    evil = evil_client()
    first = Connection.server(config, peer_address=address)
    first.receive_data(evil.data_to_send())
    evil.receive_data(first.data_to_send())
    return evil, evil.data_to_send()


@pytest.mark.rfc("9846 §4.3.2", "a cookie lets a stateless server go on with another connection")
@pytest.mark.parametrize("retry_group", [False, True], ids=["cookie-only", "cookie-and-group"])
def test_c6_another_connection_object_goes_on_from_the_cookie(retry_group: bool) -> None:
    config = p256_server(cookie_key=KEY) if retry_group else cookie_server()
    client = good_client(retrying_client())
    first = Connection.server(config, peer_address="192.0.2.1")
    first.receive_data(client.data_to_send())
    client.receive_data(first.data_to_send())
    second = Connection.server(config, peer_address="192.0.2.1")
    connected(client, second)
    assert second.negotiated is not None
    assert second.negotiated.retried
    assert client.channel_binding() == second.channel_binding()


def test_c6_every_bit_of_the_cookie_flipped_is_refused() -> None:
    """C6: all of them, on a server that keeps no state."""
    config = cookie_server()
    _, data = _second_flight(config)
    at = _cookie_at(data)
    size = int.from_bytes(data[at - 2 : at], "big")
    assert size > 80
    for bit in range(8 * size):
        flipped = bytearray(data)
        flipped[at + bit // 8] ^= 1 << bit % 8
        server = Connection.server(config, peer_address="192.0.2.1")
        server.receive_data(bytes(flipped))
        _, error = drain(server)
        assert error is not None, bit
        assert error.alert == IP, bit  # type: ignore[attr-defined]


def _cookie_at(data: bytes) -> int:
    """Where the cookie's bytes begin: its extension is the last of our second ClientHello."""
    start = data.index(b"\x16\x03")
    hello: Any = ClientHello.decode(data[start + 5 + HEADER_LENGTH :])
    cookie = next(e.extension_data for e in hello.extensions if e.extension_type == E.COOKIE)
    return data.index(cookie) + 2


@pytest.mark.parametrize("cookie", [b"x", b"x" * 11, b"x" * 12, b"x" * 13, b"x" * 102, b"x" * 16_384], ids=len)
@pytest.mark.parametrize("stateless", [True, False])
def test_c6_a_cookie_that_is_not_ours_is_refused(cookie: bytes, stateless: bool) -> None:
    edit = changing_extensions(H.CLIENT_HELLO, putting(x.COOKIE.extension(cookie)), which=1 if stateless else 2)
    refused(good_server(cookie_server()), evil_client(edit=edit), IP)


def test_c6_a_cookie_from_another_address_is_refused() -> None:
    config = cookie_server()
    evil, data = _second_flight(config, "192.0.2.1")
    for address in ("192.0.2.2", "", "192.0.2.10", "2001:db8::1"):
        server = Connection.server(config, peer_address=address)
        server.receive_data(data)
        refused(server, None, IP)
    connected_late = Connection.server(config, peer_address="192.0.2.1")
    connected_late.receive_data(data)
    connected(connected_late, evil)


@pytest.mark.parametrize(
    ("seconds", "good"), [(0, True), (60, True), (61, False), (3600, False), (-5, True), (-7, False)]
)
def test_c6_a_cookie_expires(seconds: int, good: bool) -> None:
    clock = Clock()
    # certificates are not looked at by a server without client authentication: only the cookie sees the clock
    config = cookie_server(clock)
    _, data = _second_flight(config)
    clock.now += seconds
    server = Connection.server(config, peer_address="192.0.2.1")
    server.receive_data(data)
    if good:
        assert drain(server) == ([], None)
        assert server.data_to_send()
    else:
        assert "expired" in str(refused(server, None, IP))


def test_c6_a_cookie_of_another_key_is_refused() -> None:
    _, data = _second_flight(cookie_server())
    server = Connection.server(dataclasses.replace(cookie_server(), cookie_key=b"another key, also 32 bytes long!"))
    server.receive_data(data)
    refused(server, None, IP)


def test_c6_a_cookie_for_another_hello_is_refused() -> None:
    """C6: a cookie bound to what one client sent is of no use to another with another hello."""
    config = cookie_server()
    _, data = _second_flight(config)
    at = _cookie_at(data)
    stolen = data[at : at + int.from_bytes(data[at - 2 : at], "big")]
    evil = evil_client(edit=changing_extensions(H.CLIENT_HELLO, putting(x.COOKIE.extension(stolen))))
    refused(good_server(config, peer_address="192.0.2.1"), evil, IP)


@pytest.mark.parametrize("gone", ["suite", "group"])
def test_c6_a_cookie_for_what_is_no_longer_enabled_is_refused(gone: str) -> None:
    """A server whose configuration changed between the two hellos."""
    before = p256_server(cookie_key=KEY)
    client = evil_client(retrying_client())
    first = Connection.server(before)
    first.receive_data(client.data_to_send())
    client.receive_data(first.data_to_send())
    after = (
        dataclasses.replace(before, suites=(CS.TLS_CHACHA20_POLY1305_SHA256,))
        if gone == "suite"
        else dataclasses.replace(before, groups=(G.X25519,))
    )
    refused(good_server(after), client, IP)


@pytest.mark.rfc("9846 §4.3.2", "clients must not send a cookie in the first ClientHello")
def test_c6_a_cookie_nobody_asked_for_is_refused() -> None:
    edit = changing_extensions(H.CLIENT_HELLO, putting(x.COOKIE.extension(b"cookie")))
    refused(good_server(), evil_client(edit=edit), IP)


@pytest.mark.parametrize("how", ["missing", "changed", "added"])
def test_c6_the_cookie_is_echoed_byte_for_byte_or_refused(how: str) -> None:
    change = {
        "missing": dropping(E.COOKIE),
        "changed": putting(x.COOKIE.extension(b"other")),
        "added": putting(x.COOKIE.extension(b"where none was sent")),
    }[how]
    config = p256_server() if how == "added" else p256_server(cookie_key=KEY)
    refused(
        good_server(config),
        evil_client(retrying_client(), edit=changing_extensions(H.CLIENT_HELLO, change, which=2)),
        IP,
    )


@pytest.mark.rfc("9846 §4.3.2", "the client copies the cookie into its second ClientHello")
@pytest.mark.parametrize("size", [1, 255, 16_000])
def test_c6_the_client_echoes_any_cookie_of_sane_size(size: int) -> None:
    cookie = bytes(i % 251 for i in range(size))
    client = good_client(retrying_client())
    evil = hrr(putting(x.COOKIE.extension(cookie)))
    client.start()
    evil.receive_data(client.data_to_send())
    client.receive_data(evil.data_to_send())
    phase: Any = client._handshake.phase
    echoed = [e for e in phase.offer.hello.extensions if e.extension_type == E.COOKIE]
    assert echoed == [x.COOKIE.extension(cookie)]
    assert cookie[:200] in client.data_to_send()


def test_c6_a_cookie_that_no_hello_can_carry_is_refused() -> None:
    """C6: 65,535 bytes do not come back in a ClientHello; more than 16,384 are not taken."""
    data = (16_000).to_bytes(2, "big") + bytes(16_000)
    client = good_client(retrying_client())
    exchange(client, hrr(putting(Extension(E.COOKIE, data))))
    assert drain(client)[1].description == IP  # type: ignore[union-attr]  # the server's: the cookie is not its own
    for size in (16_384, 16_385):
        huge = Extension(E.COOKIE, size.to_bytes(2, "big") + bytes(size))
        if size == 16_384:
            assert decode_extensions(M.HRR, [huge]).get(x.COOKIE) == bytes(size)
        else:
            with pytest.raises(DecodeError):
                decode_extensions(M.HRR, [huge])
    refused(good_client(retrying_client()), hrr(putting(huge)), DE, IP)


def test_c6_cookies_differ_and_show_nothing() -> None:
    config = cookie_server()
    retry = cookies.Retry(CS.TLS_AES_128_GCM_SHA256, G.X25519, b"h" * 32, b"u" * 32, None, False)
    made = [cookies.seal(config, KEY, retry, "192.0.2.1") for _ in range(100)]
    assert len({cookie[:12] for cookie in made}) == 100
    assert all(b"h" * 8 not in cookie and b"u" * 8 not in cookie for cookie in made)


# ---- C7, C8: versions ------------------------------------------------------------------------------------------------


def test_c7_a_server_hello_of_tls_1_2_is_refused() -> None:
    refused(good_client(), sh(dropping(E.SUPPORTED_VERSIONS)), PV)


@pytest.mark.rfc("9846 §4.2.3", "a downgrade sentinel in ServerHello.random is illegal_parameter")
@pytest.mark.parametrize("sentinel", [DOWNGRADE_TLS_1_2, DOWNGRADE_TLS_1_1], ids=bytes.hex)
def test_c7_the_downgrade_sentinel_is_noticed(sentinel: bytes) -> None:
    def change(hello: ServerHello) -> ServerHello:
        kept = tuple(e for e in hello.extensions if e.extension_type != E.SUPPORTED_VERSIONS)
        return dataclasses.replace(hello, random=hello.random[:24] + sentinel, extensions=kept)

    error = refused(good_client(), evil_server(edit=changing_body(H.SERVER_HELLO, change)), IP)
    assert "downgraded" in str(error)


@pytest.mark.parametrize("versions", [(0x0303,), (0x0303, 0x0302, 0x0301), (0x0A0A,), (0x0305,), (0x7F1C,)], ids=str)
@pytest.mark.rfc("9846 §4.3.1", "a server negotiates only from supported_versions")
def test_c7_a_client_without_tls_1_3_is_refused(versions: tuple[int, ...]) -> None:
    edit = changing_extensions(H.CLIENT_HELLO, putting(x.SUPPORTED_VERSIONS.extension(versions)))
    refused(good_server(), evil_client(edit=edit), PV)


def test_c7_a_client_hello_without_supported_versions_is_refused() -> None:
    edit = changing_extensions(H.CLIENT_HELLO, dropping(E.SUPPORTED_VERSIONS))
    refused(good_server(), evil_client(edit=edit), PV)


def test_c7_a_client_hello_without_any_extensions_is_protocol_version() -> None:
    edit = changing_body(H.CLIENT_HELLO, body(extensions=()))
    refused(good_server(), evil_client(edit=edit), PV)


@pytest.mark.rfc("9846 §4.3.1", "a version that was not offered is illegal_parameter")
@pytest.mark.parametrize("version", [0x0303, 0x0302, 0x0300, 0x0305, 0x0A0A, 0], ids=hex)
@pytest.mark.parametrize("kind", [H.SERVER_HELLO, H.HELLO_RETRY_REQUEST])
def test_c8_a_version_that_was_not_offered_is_refused(kind: int, version: int) -> None:
    edit = changing_extensions(kind, putting(x.SELECTED_VERSION.extension(version)))
    refused(good_client(retrying_client()), evil_server(p256_server(), edit=edit), IP)


def test_c8_a_hello_retry_request_without_supported_versions_is_refused() -> None:
    refused(good_client(retrying_client()), hrr(dropping(E.SUPPORTED_VERSIONS)), PV, ME, IP)


# ---- C10-C14: groups, shares, suites ---------------------------------------------------------------------------------


def counting(groups: tuple[Group, ...]) -> tuple[tuple[Group, ...], list[int]]:
    """The same groups, and a list that grows with every key exchange computed."""
    done: list[int] = []

    def counted(group: Group) -> Group:
        def respond(share: bytes) -> tuple[bytes, bytes]:
            done.append(group.code)
            return group.respond(share)

        return dataclasses.replace(group, respond=respond)

    return tuple(map(counted, groups)), done


@pytest.mark.rfc("9846 §4.3.8", "two shares for one group are illegal_parameter")
def test_c10_two_shares_for_one_group_are_refused_before_any_key_exchange() -> None:
    groups, done = counting(PYCA.groups)
    server = good_server(server_config(provider=dataclasses.replace(PYCA, groups=groups)))
    evil = evil_client(edit=changing_body(H.CLIENT_HELLO, _shares((G.X25519, b"1" * 32), (G.X25519, b"2" * 32))))
    refused(server, evil, IP)
    assert done == []


@pytest.mark.rfc("9846 §4.3.8", "a share for a group not in supported_groups is illegal_parameter")
@pytest.mark.parametrize("group", [G.X448, G.SECP521R1, 0x1234], ids=hex)
def test_c10_a_share_for_an_unlisted_group_is_refused(group: int) -> None:
    edit = changing_body(H.CLIENT_HELLO, _shares((G.X25519, bytes(32)), (group, b"share")))
    refused(good_server(), evil_client(edit=edit), IP)


def test_c10_a_thousand_shares_cost_one_key_exchange() -> None:
    """C10: wolfSSL CVE-2025-11936: shares for a thousand listed groups."""
    groups, done = counting(PYCA.groups)
    config = server_config(provider=dataclasses.replace(PYCA, groups=groups))
    server = good_server(config)
    codes = list(range(0x2000, 0x2000 + 1000))

    def change(hello: Any) -> Any:
        own = next(e for e in hello.extensions if e.extension_type == E.KEY_SHARE)
        shares = x.KEY_SHARES.codec.decode_all(own.extension_data, "")
        listed = next(e for e in hello.extensions if e.extension_type == E.SUPPORTED_GROUPS)
        names = x.SUPPORTED_GROUPS.codec.decode_all(listed.extension_data, "")
        many = tuple(x.KeyShareEntry(code, bytes(32)) for code in codes)
        change = putting(x.KEY_SHARES.extension((*many, *shares)), x.SUPPORTED_GROUPS.extension((*codes, *names)))
        return dataclasses.replace(hello, extensions=tuple(change(list(hello.extensions))))

    connected(server, evil_client(edit=changing_body(H.CLIENT_HELLO, change)))
    assert done == [G.X25519]


@pytest.mark.rfc("9846 §4.2.3", "a ServerHello without key_share is refused before any secret is derived")
@pytest.mark.parametrize("after_retry", [False, True])
def test_c12_a_server_hello_without_key_share_is_refused(after_retry: bool) -> None:
    config, server = (retrying_client(), p256_server()) if after_retry else (client_config(), server_config())
    client = good_client(config)
    refused(client, sh(dropping(E.KEY_SHARE), server), ME, IP)
    assert client._reader._keys is None


@pytest.mark.rfc("9846 §4.2.3", "a cipher suite that was not offered is illegal_parameter")
@pytest.mark.parametrize("suite", [CS.TLS_AES_128_CCM_SHA256, CS.TLS_AES_256_GCM_SHA384, 0xC02F, 0x0A0A, 0], ids=hex)
@pytest.mark.parametrize("kind", [H.SERVER_HELLO, H.HELLO_RETRY_REQUEST])
def test_c13_a_suite_that_was_not_offered_is_refused(kind: int, suite: int) -> None:
    config = retrying_client(suites=(CS.TLS_AES_128_GCM_SHA256,))
    evil = evil_server(p256_server(), edit=changing_body(kind, body(cipher_suite=suite)))
    refused(good_client(config), evil, IP)


def test_c13_no_suite_in_common_is_handshake_failure() -> None:
    server = good_server(server_config(suites=(CS.TLS_AES_256_GCM_SHA384,)))
    refused(server, evil_client(client_config(suites=(CS.TLS_AES_128_GCM_SHA256,))), A.HANDSHAKE_FAILURE)


def test_c13_no_group_in_common_is_handshake_failure() -> None:
    server = good_server(server_config(groups=(G.SECP521R1,)))
    refused(server, evil_client(), A.HANDSHAKE_FAILURE)


@pytest.mark.rfc("9846 §4.3.8", "a server picks the group by its own preference, and asks for the share")
@pytest.mark.parametrize("hybrid", [G.X25519MLKEM768, G.SECP256R1MLKEM768, G.SECP384R1MLKEM1024], ids=hex)
def test_c14_a_listed_post_quantum_group_is_asked_for(hybrid: int) -> None:
    """C14: OpenSSL CVE-2026-2673: x25519 is shared, but the hybrid is listed and preferred."""
    client = good_client(client_config(groups=(G.X25519, hybrid), key_shares=(G.X25519,)))
    server = good_server(server_config(groups=(hybrid, G.X25519)))
    connected(client, server)
    assert server.negotiated is not None
    assert (server.negotiated.group, server.negotiated.retried) == (hybrid, True)


def test_c14_among_classical_groups_a_share_is_worth_more_than_order() -> None:
    client = good_client(client_config(groups=(G.X25519, G.SECP256R1), key_shares=(G.X25519,)))
    server = good_server(server_config(groups=(G.SECP256R1, G.X25519)))
    connected(client, server)
    assert server.negotiated is not None
    assert (server.negotiated.group, server.negotiated.retried) == (G.X25519, False)


# ---- C15: what a ServerHello is --------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.2.3", "the special random makes a ServerHello a HelloRetryRequest")
def test_c15_the_random_decides_before_the_extensions() -> None:
    """HelloRetryRequest's random over a ServerHello's share: the share has the wrong form for a retry."""
    evil = evil_server(edit=changing_body(H.SERVER_HELLO, body(random=HELLO_RETRY_REQUEST_RANDOM)))
    refused(good_client(), evil, DE)


def test_c15_a_retry_with_an_ordinary_random_is_a_server_hello() -> None:
    evil = evil_server(p256_server(), edit=changing_body(H.HELLO_RETRY_REQUEST, body(random=b"r" * 32)))
    refused(good_client(retrying_client()), evil, DE)


@pytest.mark.parametrize("bit", [0, 100, 255])
def test_c15_one_bit_off_the_special_random_is_a_server_hello(bit: int) -> None:
    near = bytearray(HELLO_RETRY_REQUEST_RANDOM)
    near[bit // 8] ^= 1 << bit % 8
    evil = evil_server(p256_server(), edit=changing_body(H.HELLO_RETRY_REQUEST, body(random=bytes(near))))
    refused(good_client(retrying_client()), evil, DE)


# ---- C16, C17: ALPN --------------------------------------------------------------------------------------------------


@pytest.mark.rfc("7301 §3.2", "no protocol in common is no_application_protocol")
def test_c16_no_protocol_in_common_is_refused() -> None:
    server = good_server(server_config(alpn=("ftp", "smtp")))
    refused(server, evil_client(client_config(alpn=("h2", "http/1.1"))), A.NO_APPLICATION_PROTOCOL)


@pytest.mark.parametrize("name", [b"h3", b"H2", b"h2\0", b"h", b"http/1.1"], ids=repr)
def test_c16_a_protocol_that_was_not_offered_is_refused(name: bytes) -> None:
    edit = changing_extensions(H.ENCRYPTED_EXTENSIONS, putting(x.ALPN_SELECTED.extension(name)))
    refused(good_client(client_config(alpn=("h2",))), evil_server(server_config(alpn=("h2",)), edit=edit), IP)


def test_c16_the_same_certificate_under_another_protocol_is_refused_by_alpn() -> None:
    """ALPACA: a web client that is led to a mail server with the same certificate; the other way it is refused too."""
    mail, web = server_config(alpn=("smtp",)), client_config(alpn=("http/1.1",))
    refused(good_server(mail), evil_client(web), A.NO_APPLICATION_PROTOCOL)
    edit = changing_extensions(H.ENCRYPTED_EXTENSIONS, putting(x.ALPN_SELECTED.extension(b"smtp")))
    refused(good_client(web), evil_server(server_config(alpn=("http/1.1",)), edit=edit), IP)


@pytest.mark.rfc("7301 §3.1", "the answer holds exactly one protocol")
@pytest.mark.parametrize("data", [b"\0\0", b"\0\6\2h2\2h3", b"\0\6\2h2\2h2", b"\0\1\0"], ids=bytes.hex)
def test_c17_an_alpn_answer_without_exactly_one_name_is_refused(data: bytes) -> None:
    answer = Extension(E.APPLICATION_LAYER_PROTOCOL_NEGOTIATION, data)
    edit = changing_extensions(H.ENCRYPTED_EXTENSIONS, putting(answer))
    config = client_config(alpn=("h2", "h3"))
    refused(good_client(config), evil_server(server_config(alpn=("h2",)), edit=edit), DE, IP)


# ---- C18: the server's name ------------------------------------------------------------------------------------------


@pytest.mark.rfc("6066 §3", "a name that is not known may be unrecognized_name")
def test_c18_a_strict_server_refuses_a_name_it_has_no_credential_for() -> None:
    server = good_server(server_config(strict_server_name=True))
    refused(server, evil_client(name="other.test"), A.UNRECOGNIZED_NAME)


def test_c18_a_lenient_server_shows_its_default_and_the_client_judges() -> None:
    client = good_client(name="other.test")
    refused(client, evil_server(), A.BAD_CERTIFICATE)


def test_c18_a_strict_server_answers_a_client_that_names_nobody() -> None:
    server = good_server(server_config(strict_server_name=True))
    connected(server, good_client(client_config(send_server_name=False)))


def test_c18_the_name_is_acknowledged_only_where_a_credential_is_for_it() -> None:
    for name, acknowledged in (("evil.test", True), ("other.test", False)):
        seen: list[bytes] = []

        def note(kind: int, raw: bytes, seen: list[bytes] = seen) -> bytes:
            if kind == H.ENCRYPTED_EXTENSIONS:
                seen.append(raw)
            return raw

        exchange(good_client(name=name), evil_server(edit=note))
        assert (b"\0\0\0\0" in seen[0][6:]) == acknowledged


# ---- C19 -------------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.3.7", "a client must not act on the server's groups before the handshake is complete")
def test_c19_supported_groups_in_encrypted_extensions_change_nothing() -> None:
    """C19: nothing of EncryptedExtensions is told before Finished, and the configuration offers what it offered."""
    config = client_config()
    edit = changing_extensions(H.ENCRYPTED_EXTENSIONS, putting(x.SUPPORTED_GROUPS.extension((G.SECP256R1,))))

    def broken(kind: int, raw: bytes) -> bytes:
        return without(H.FINISHED)(kind, edit(kind, raw))

    client = good_client(config)
    exchange(client, evil_server(edit=broken))
    assert client.negotiated is None
    assert client.next_event() is NEED_DATA
    assert config.initial_shares == (G.X25519,)
    after = good_client(config)
    connected(after, good_server())
    assert after.negotiated is not None
    assert after.negotiated.group == G.X25519


# ---- a resolver that cannot be hurried past a refusal ----------------------------------------------------------------


def test_c16_c18_a_refusal_comes_before_the_resolver_is_asked() -> None:
    asked: list[object] = []

    def resolver(info: object) -> Any:
        asked.append(info)
        return PENDING

    config = server_config(alpn=("smtp",), credential_resolver=resolver)
    refused(good_server(config), evil_client(client_config(alpn=("h2",))), A.NO_APPLICATION_PROTOCOL)
    assert asked == []
    server = good_server(config)
    client = good_client(client_config(alpn=("smtp",)))
    exchange(client, server)
    event = server.next_event()
    assert isinstance(event, CredentialNeeded)
    server.resume(credential())
    exchange(client, server)
    assert isinstance(server.next_event(), HandshakeComplete)
    assert len(asked) == 1
    assert drain(server) == ([], None)
