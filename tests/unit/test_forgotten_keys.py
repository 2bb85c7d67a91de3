"""A failed connection keeps no key (RFC 9846 §6, §6.2)."""

from __future__ import annotations

import gc

import pytest

from pellucid import AlertReceived, Connection
from pellucid.errors import BadRecordMac
from pellucid.record.protect import Keys
from pellucid.schedule import HandshakeSecret, TrafficSecret
from tests.support.pair import Pair


def reachable_secrets(connection: Connection) -> list[object]:
    """Every key or secret that can still be reached from *connection*."""
    seen: set[int] = set()
    found: list[object] = []
    todo: list[object] = [connection]
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, type):
            continue
        seen.add(id(one))
        if isinstance(one, (Keys, TrafficSecret, HandshakeSecret)):
            found.append(one)
        todo += [each for each in gc.get_referents(one) if type(each).__module__ != "builtins" or _holds(each)]
    return found


def _holds(one: object) -> bool:
    return isinstance(one, (dict, list, tuple)) and not (isinstance(one, dict) and "__builtins__" in one)


@pytest.mark.rfc("9846 §6", "the secrets and keys of a failed connection are forgotten")
def test_failed_connections_keep_no_keys_on_either_side() -> None:
    pair = Pair.of().connect()
    client, server = pair.client, pair.server
    assert reachable_secrets(client)
    client.send_data(b"hello")
    data = bytearray(client.data_to_send())
    data[-1] ^= 1
    server.receive_data(bytes(data))
    with pytest.raises(BadRecordMac):
        while True:
            server.next_event()
    alert = server.data_to_send()
    assert alert
    client.receive_data(alert)
    with pytest.raises(AlertReceived):
        while True:
            client.next_event()
    assert reachable_secrets(server) == []
    assert reachable_secrets(client) == []
