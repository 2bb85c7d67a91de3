"""What a second ClientHello may change, and what a ClientHello with a PSK must have beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from pellucid import Connection, PeerError, ServerConfig
from pellucid.crypto.groups import SECP256R1
from pellucid.crypto.pyca import PYCA
from pellucid.errors import IllegalParameter, MissingExtension
from pellucid.messages import extensions as x
from pellucid.messages.extensions import KeyShareEntry, OfferedPsks, PskIdentity
from pellucid.messages.handshake import ClientHello, Extension, handshake_message
from pellucid.registry import ExtensionType as E
from pellucid.registry import NamedGroup as G
from tests.support.pair import NAME, client_config, credential, deliver, events_of, server_config

Edit = Callable[[tuple[Extension, ...]], tuple[Extension, ...]]

_EARLY_DATA = x.EARLY_DATA.extension(True)
_PSKS = x.OFFERED_PSKS.extension(OfferedPsks((PskIdentity(b"identity", 0),), (bytes(32),)))
_MODES = x.PSK_KEY_EXCHANGE_MODES.extension((1,))


def _client() -> Connection:
    return Connection.client(client_config(grease=False, middlebox_compatibility=False, sessions=None), NAME)


def _with(*added: Extension) -> Edit:
    return lambda extensions: (*extensions, *added)


def _with_another_share(extensions: tuple[Extension, ...]) -> tuple[Extension, ...]:
    share = x.KEY_SHARES.extension((KeyShareEntry(G.SECP256R1, SECP256R1.generate().public),))
    return tuple(share if one.extension_type == E.KEY_SHARE else one for one in extensions)


def _with_fresh_shares(extensions: tuple[Extension, ...]) -> tuple[Extension, ...]:
    groups = {group.code: group for group in PYCA.groups}
    shares = next(one for one in extensions if one.extension_type == E.KEY_SHARE)
    entries = x.KEY_SHARES.codec.decode_all(shares.extension_data, "key_share")
    fresh = x.KEY_SHARES.extension(
        tuple(
            KeyShareEntry(entry.group, groups[entry.group].generate().public) if entry.group in groups else entry
            for entry in entries
        )
    )
    assert fresh != shares
    return tuple(fresh if one.extension_type == E.KEY_SHARE else one for one in extensions)


def _edited(record: bytes, edit: Edit) -> bytes:
    hello = ClientHello.decode(record[9:])
    raw = handshake_message(dataclasses.replace(hello, extensions=edit(hello.extensions)))
    return b"\x16\x03\x03" + len(raw).to_bytes(2, "big") + raw


def _first(edit: Edit) -> tuple[Connection, PeerError | None]:
    server = Connection.server(server_config())
    deliver(_edited(_client().data_to_send(), edit), server)
    error = events_of(server)[1]
    assert error is None or isinstance(error, PeerError)
    return server, error


def _second(config: ServerConfig, edit: Edit, *, stateless: bool, first: Edit = lambda same: same) -> PeerError | None:
    """What a server says to a second ClientHello that *edit* changed; another one, if *stateless*."""
    client, server = _client(), Connection.server(config)
    deliver(_edited(client.data_to_send(), first), server)
    deliver(server.data_to_send(), client)
    if stateless:
        server = Connection.server(config)
    deliver(_edited(client.data_to_send(), edit), server)
    error = events_of(server)[1]
    assert error is None or isinstance(error, PeerError)
    assert (server.state == "WAIT_FINISHED") is (error is None)
    return error


@pytest.mark.rfc("9846 §4.3.9", "pre_shared_key without psk_key_exchange_modes aborts the handshake")
def test_a_psk_without_modes_is_refused() -> None:
    error = _first(_with(_PSKS))[1]
    assert isinstance(error, MissingExtension)
    assert "psk_key_exchange_modes" in error.reason


def test_a_psk_with_modes_that_nobody_here_knows_is_a_full_handshake() -> None:
    server, error = _first(_with(_MODES, _PSKS))
    assert error is None
    assert server.state == "WAIT_FINISHED"


@pytest.mark.rfc("9846 §4.2.2", "a second ClientHello has no early_data")
@pytest.mark.parametrize("stateless", [False, True], ids=["stateful", "stateless"])
@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
def test_early_data_in_a_second_client_hello_is_refused(stateless: bool, kept: bool) -> None:
    config = server_config(groups=(G.SECP256R1,), cookie_key=bytes(32) if stateless else None)
    first = _with(_EARLY_DATA) if kept else _with()
    error = _second(config, _with(_EARLY_DATA), stateless=stateless, first=first)
    assert isinstance(error, IllegalParameter)
    assert _second(config, _with(), stateless=stateless, first=first) is None


@pytest.mark.rfc("9846 §4.2.2", "the shares change only if HelloRetryRequest asked for one")
@pytest.mark.parametrize("stateless", [False, True], ids=["stateful", "stateless"])
def test_other_shares_after_a_retry_that_asked_for_none_are_refused(stateless: bool) -> None:
    config = ServerConfig(credentials=(credential(),), cookie_key=bytes(32), always_retry=True)
    assert isinstance(_second(config, _with_another_share, stateless=stateless), IllegalParameter)
    assert _second(config, _with(), stateless=stateless) is None


@pytest.mark.parametrize("stateless", [False, True], ids=["stateful", "stateless"])
def test_fresh_shares_for_the_same_groups_after_a_cookie_are_taken(stateless: bool) -> None:
    """JSSE (OpenJDK 17) does so; the shares that count are those of the second ClientHello."""
    config = ServerConfig(credentials=(credential(),), cookie_key=bytes(32), always_retry=True)
    assert _second(config, _with_fresh_shares, stateless=stateless) is None
