"""No nonce is used twice under one key, whatever is called in whatever order, and whatever fails on the way."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid import Connection, TLSError
from pellucid.crypto.provider import CryptoProvider
from pellucid.crypto.pyca import PYCA
from pellucid.registry import NamedGroup
from tests.support.pair import NAME, client_config, deliver, events_of, pump, server_config
from tests.support.resuming import early_client, early_server, meet
from tests.support.soak import examples


class Witness:
    """A provider whose AEADs tell which nonces they sealed under which key, and can fail when told to."""

    def __init__(self) -> None:
        self.used: dict[tuple[str, bytes], list[bytes]] = defaultdict(list)
        self.fail = False
        suites = tuple(
            dataclasses.replace(
                suite, aead=lambda key, suite=suite: WatchedAEAD(self, suite.name, key, suite.aead(key)), rekey_after=5
            )
            for suite in PYCA.suites
        )
        self.provider: CryptoProvider = dataclasses.replace(PYCA, suites=suites)

    def check(self) -> int:
        for (suite, _), nonces in self.used.items():
            assert len(set(nonces)) == len(nonces), f"a nonce is used twice under one key of {suite}"
        return sum(map(len, self.used.values()))


class WatchedAEAD:
    def __init__(self, witness: Witness, suite: str, key: bytes, aead: Any) -> None:
        self._witness, self._name, self._aead = witness, (suite, key), aead
        self.decrypt, self.decrypt_into = aead.decrypt, aead.decrypt_into

    def encrypt(self, nonce: bytes, data: Any, associated_data: Any) -> bytes:
        # Noted before anything can go wrong: a nonce whose record was lost is spent all the same.
        self._witness.used[self._name].append(bytes(nonce))
        if self._witness.fail:
            raise MemoryError("the AEAD fails")
        sealed: bytes = self._aead.encrypt(nonce, data, associated_data)
        return sealed

    def encrypt_into(self, nonce: bytes, data: Any, associated_data: Any, buf: Any) -> int:
        self._witness.used[self._name].append(bytes(nonce))
        if self._witness.fail:
            raise MemoryError("the AEAD fails")
        size: int = self._aead.encrypt_into(nonce, data, associated_data, buf)
        return size


operations = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "send", "update", "ask", "take", "deliver", "fail", "bad padding", "close"]),
        st.booleans(),
        st.one_of(st.integers(1, 100), st.sampled_from([4097, 16385, 100_000])),
    ),
    max_size=25,
)


@given(todo=operations, suite=st.sampled_from([suite.code for suite in PYCA.suites]), pads=st.booleans())
@settings(max_examples=examples(60, soak=2_400), deadline=None)
@pytest.mark.rfc("9846 §5.3", "no nonce is used twice under one key")
@pytest.mark.rfc("9846 §5.5", "a key is updated before its limit is reached")
def test_nonces_never_repeat(todo: list[tuple[str, bool, int]], suite: int, pads: bool) -> None:
    """The limit of a key is five records here, so that it is met again and again."""
    witness = Witness()
    broken = False

    def padding(content_type: int, length: int) -> int:
        return -1 if broken else 0

    settings_of_both = {"suites": (suite,), "provider": witness.provider, "padding": padding if pads else None}
    ends = (
        Connection.client(client_config(**settings_of_both), NAME),
        Connection.server(server_config(**settings_of_both)),
    )
    pump(*ends)
    assert all(end.handshake_complete for end in ends)
    for kind, which, size in todo:
        end, other = (ends[0], ends[1]) if which else (ends[1], ends[0])
        witness.fail, broken = kind == "fail", kind == "bad padding"
        try:
            operate(kind, end, other, size)
        except (TLSError, MemoryError):
            witness.check()
        finally:
            witness.fail = broken = False
    pump(*ends)
    assert witness.check() >= 2
    # Four of data and the KeyUpdate; where that could not be sealed, the alert that ends the connection.
    assert max(map(len, witness.used.values())) <= 6


early_operations = st.lists(
    st.tuples(
        st.sampled_from(["early", "early", "early", "answer", "take", "deliver", "fail", "bad padding", "close"]),
        st.booleans(),
        st.one_of(st.integers(1, 100), st.sampled_from([4097, 16_384])),
    ),
    max_size=20,
)


@given(
    todo=early_operations,
    rejects=st.sampled_from(["", "", "", "resumed", "not resumed", "retried"]),
    pads=st.booleans(),
)
@settings(max_examples=examples(60, soak=2_400), deadline=None)
@pytest.mark.rfc("9846 §5.3", "no nonce is used twice under one key")
@pytest.mark.rfc("9846 §5.5", "early data ends before its key's limit is reached: there is no KeyUpdate for it")
def test_nonces_never_repeat_with_early_data(todo: list[tuple[str, bool, int]], rejects: str, pads: bool) -> None:
    """Early keys, the handshake's and half-RTT data under the application's: each key at most five records here."""
    witness = Witness()
    broken = False

    def padding(content_type: int, length: int) -> int:
        return -1 if broken else 0

    both: dict[str, Any] = {"provider": witness.provider, "padding": padding if pads else None}
    ours, theirs = early_client(**both), early_server(**both)
    meet(ours, theirs)
    if rejects:
        theirs = dataclasses.replace(
            theirs,
            max_early_data=0,
            sessions=None if rejects == "not resumed" else theirs.session_store,
            groups=(NamedGroup.SECP256R1,) if rejects == "retried" else theirs.groups,
        )
    client, server = Connection.client(ours, NAME), Connection.server(theirs)
    first = set(witness.used)
    client.start()
    for kind, which, size in todo:
        end, other = (client, server) if which else (server, client)
        witness.fail, broken = kind == "fail", kind == "bad padding"
        try:
            if kind in {"early", "fail", "bad padding"}:
                client.send_early_data(bytes(size))
            elif kind == "answer":
                server.send_data(bytes(size))
            else:
                operate(kind, end, other, size)
        except (TLSError, MemoryError):
            witness.check()
        finally:
            witness.fail = broken = False
    pump(client, server)
    assert witness.check() >= 2
    assert all(len(nonces) <= 6 for key, nonces in witness.used.items() if key not in first)


def operate(kind: str, end: Connection, other: Connection, size: int) -> None:
    if kind in {"send", "fail", "bad padding"}:
        end.send_data(bytes(size))
    elif kind in {"update", "ask"}:
        end.send_key_update(request_peer=kind == "ask")
    elif kind == "take":
        end.data_to_send()
    elif kind == "close" and size == 1:
        end.close()
    else:
        deliver(end.data_to_send(), other)
        events_of(other)


@pytest.mark.parametrize("when", ["owed", "asked"])
def test_key_update_that_cannot_be_sealed_ends_the_connection_with_one_alert(when: str) -> None:
    """Half a KeyUpdate must not leave an end whose keys are not its peer's (§4.7.3)."""
    witness = Witness()
    client = Connection.client(client_config(provider=witness.provider), NAME)
    server = Connection.server(server_config(provider=witness.provider))
    pump(client, server)
    events_of(client)
    if when == "owed":
        server.send_key_update(request_peer=True)
        deliver(server.data_to_send(), client)
        events_of(client)
    before = {name: len(nonces) for name, nonces in witness.used.items()}
    witness.fail = True
    with pytest.raises((TLSError, MemoryError)):
        client.send_key_update() if when == "asked" else client.send_data(b"x")
    witness.fail = False
    with pytest.raises(TLSError):
        client.send_data(b"x")
    sent = client.data_to_send()
    assert client.closed
    assert len(sent) <= 24, "more than one alert"
    deliver(sent, server)
    assert witness.check() <= sum(before.values()) + 2
