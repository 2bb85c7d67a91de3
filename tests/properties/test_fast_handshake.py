"""The short ways of a handshake equal the plain ones beside them: secrets, messages, answers that are there at once."""

from __future__ import annotations

import hmac
import inspect
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.crypto.provider import Pending
from pellucid.crypto.pyca import PYCA
from pellucid.errors import PeerError, UsageError
from pellucid.handshake import actions, server_flight
from pellucid.messages.handshake import BODIES, Extension
from pellucid.record.reassembly import take_message
from pellucid.registry import HandshakeType as H
from pellucid.schedule import EarlySecret, Prf, TrafficSecret, _hmac
from pellucid.trace import Epoch
from tests.support.soak import examples

SUITES = list(PYCA.suites)
SUITE_IDS = [suite.name for suite in SUITES]


@pytest.mark.parametrize("suite", SUITES, ids=SUITE_IDS)
@given(material=st.binary(min_size=48, max_size=48), data=st.binary(max_size=200))
@settings(max_examples=examples(25), deadline=None)
@pytest.mark.rfc("9846 §7.3", "key and IV are HKDF-Expand-Label of the traffic secret")
@pytest.mark.rfc("9846 §4.5.3", "verify_data is HMAC under HKDF-Expand-Label(base key, 'finished', '')")
def test_what_the_schedule_derives_in_one_step_equals_expand_label(suite: Any, material: bytes, data: bytes) -> None:
    size = suite.hash_length
    key = material[:size]
    prf = Prf(suite, key)
    assert _hmac(suite, key, data) == prf.hmac(data) == hmac.digest(key, data, suite.hash_name)
    secret = TrafficSecret(suite, Epoch.APPLICATION, key)
    plain = prf.expand_label(b"key", b"", suite.key_length), prf.expand_label(b"iv", b"", 12)
    assert secret.key_and_iv() == plain == (secret.keys().key, secret.keys().iv)
    transcript_hash = suite.new_hash(data).digest()
    assert prf.derive_secret(b"c ap traffic", transcript_hash) == prf.expand_label(
        b"c ap traffic", transcript_hash, size
    )
    finished_key = prf.expand_label(b"finished", b"", size)
    assert secret.verify_data(transcript_hash) == Prf(suite, finished_key).hmac(transcript_hash)
    early = EarlySecret(suite, key)
    binder_key = Prf(suite, early.binder_key(b"res binder")).expand_label(b"finished", b"", size)
    assert early.binder(b"res binder", transcript_hash) == Prf(suite, binder_key).hmac(transcript_hash)


@pytest.mark.parametrize("suite", SUITES, ids=SUITE_IDS)
@given(shared=st.binary(min_size=32, max_size=64), messages=st.binary(max_size=200))
@settings(max_examples=examples(25), deadline=None)
@pytest.mark.rfc("9846 §7.1", "each secret is Derive-Secret of the stage above it")
def test_what_a_stage_derives_at_once_equals_it_singly(suite: Any, shared: bytes, messages: bytes) -> None:
    transcript_hash = suite.new_hash(messages).digest()
    stage = EarlySecret.extract(suite).handshake(shared)
    singly = stage.client_handshake_traffic_secret, stage.server_handshake_traffic_secret
    assert _shown(*stage.traffic_secrets(transcript_hash)) == _shown(*(one(transcript_hash) for one in singly))
    main = stage.main()
    assert main.value == Prf(suite, stage.derived()).hmac(bytes(suite.hash_length))
    client, server, exporter = main.secrets(transcript_hash)
    singly = main.client_application_traffic_secret, main.server_application_traffic_secret
    assert _shown(client, server) == _shown(*(one(transcript_hash) for one in singly))
    assert exporter == main.exporter_secret(transcript_hash)


def _shown(*secrets: TrafficSecret) -> list[object]:
    return [(one.value, one.epoch, one.generation, one.key_and_iv()) for one in secrets]


@given(
    random=st.binary(min_size=31, max_size=33),
    session_id=st.binary(max_size=34),
    suite=st.integers(0, 2**16 + 1),
    extensions=st.lists(st.tuples(st.integers(0, 2**16), st.binary(max_size=40)), max_size=4),
)
@settings(max_examples=examples(150), deadline=None)
@pytest.mark.rfc("9846 §4.2.3", "ServerHello, as it is encoded")
def test_server_hello_of_its_parts_equals_the_one_encoded(
    random: bytes, session_id: bytes, suite: int, extensions: list[tuple[int, bytes]]
) -> None:
    offered = tuple(Extension(code, body) for code, body in extensions)

    def made(make: Any) -> object:
        try:
            return make(random, session_id, suite, offered)
        except UsageError as error:
            return type(error)

    assert made(server_flight._server_hello) == made(server_flight.server_hello)


messages = st.lists(
    st.tuples(
        st.sampled_from([H.NEW_SESSION_TICKET, H.FINISHED, H.KEY_UPDATE, H.SERVER_HELLO]), st.binary(max_size=99)
    ),
    max_size=4,
)


@given(sent=messages, cut=st.integers(0, 420), wrong=st.booleans())
@settings(max_examples=examples(150), deadline=None)
@pytest.mark.rfc("9846 §5.1", "handshake messages may share records, and be cut between them")
def test_a_message_that_is_all_there_is_equals_one_that_more_follows(
    sent: list[tuple[int, bytes]], cut: int, wrong: bool
) -> None:
    """What comes alone takes the short way; with a byte after it, which is given separately here, the plain one."""
    stream = b"".join(bytes((kind,)) + len(body).to_bytes(3, "big") + body for kind, body in sent)

    expected = {*BODIES} - ({H.FINISHED} if wrong else set())

    def taken(chunks: list[bytes]) -> tuple[list[bytes], bytes, str]:
        buffer, found = bytearray(), []
        try:
            for chunk in chunks:
                buffer += chunk
                while (raw := take_message(buffer, expected, "STATE")) is not None:
                    found.append(raw)
        except PeerError as error:
            return found, b"", repr(error)
        return found, bytes(buffer), ""

    alone = taken([stream])
    assert alone[:2] == taken([stream[:cut], stream[cut:]])[:2]
    assert b"".join(alone[0]) == stream[: len(b"".join(alone[0]))]
    followed = taken([stream, b"\x18"])  # of a KeyUpdate
    assert (followed[0], followed[2]) == (alone[0], alone[2])
    assert followed[1] == (b"" if alone[2] else alone[1] + b"\x18")


def test_no_answer_that_is_taken_at_once_could_be_awaited_or_be_pending() -> None:
    for kind in actions._AT_ONCE:
        assert not issubclass(kind, Pending)
        assert not hasattr(kind, "__await__")
        assert not inspect.isawaitable(kind.__new__(kind))
