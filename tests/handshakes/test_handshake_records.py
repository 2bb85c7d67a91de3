"""What our two ends put on the wire, record by record: opened again from the keys, so that its place is known."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from pellucid import CloseNotify, Connection, Credential, KeyUpdated, pad_to_multiple
from pellucid.crypto.pyca import PYCA
from pellucid.errors import AlertReceived, PeerError
from pellucid.limits import MAX_PLAINTEXT
from pellucid.registry import AlertDescription as A
from pellucid.registry import ContentType, suite_name
from pellucid.registry import HandshakeType as H
from pellucid.registry import NamedGroup as G
from pellucid.trace import Role
from tests.support.pair import (
    Chunking,
    Pair,
    asking_server_config,
    authority,
    client_config,
    credential,
    data_of,
    events_of,
    server_config,
)
from tests.support.wiretap import Sent, Wiretap, messages_in, split_messages, tapped

CCS, ALERT, HANDSHAKE, DATA = (
    ContentType.CHANGE_CIPHER_SPEC,
    ContentType.ALERT,
    ContentType.HANDSHAKE,
    ContentType.APPLICATION_DATA,
)
TWO: dict[str, Any] = {"groups": (G.SECP256R1, G.X25519), "key_shares": (G.X25519,)}
roles = pytest.mark.parametrize("role", Role, ids=lambda role: role.value)


@functools.cache
def long_credential() -> Credential:
    """Its Certificate message takes two records: the leaf has 450 names."""
    names = ("pair.test", *(f"a-rather-long-name-number-{n:04d}.pair.test" for n in range(450)))
    issued = authority().issue(*names)
    made = Credential.from_pem(issued.chain_pem, issued.key_pem)
    assert sum(map(len, made.chain)) > MAX_PLAINTEXT
    return made


SCENARIOS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "plain": (client_config, server_config),
    "retry": (lambda: client_config(**TWO), lambda: server_config(groups=(G.SECP256R1,))),
    "retry-cookie": (client_config, lambda: server_config(cookie_key=b"k" * 32, always_retry=True)),
    "client-certificate": (lambda: client_config(credentials=(credential(),)), asking_server_config),
    "long-certificates": (
        lambda: client_config(credentials=(long_credential(),)),
        lambda: asking_server_config(credentials=(long_credential(),)),
    ),
    "padded": (
        lambda: client_config(padding=pad_to_multiple(500)),
        lambda: server_config(padding=pad_to_multiple(MAX_PLAINTEXT)),
    ),
    "no-compatibility": (lambda: client_config(middlebox_compatibility=False), server_config),
}


@functools.cache
def talk(name: str, suite: int | None = None) -> tuple[Pair, Wiretap]:
    """A handshake, data both ways (also more than a record holds), key updates, and an orderly end."""
    client, server = (make() for make in SCENARIOS[name])
    suites = {} if suite is None else {"suites": (suite,)}
    pair, tap = tapped(dataclasses.replace(client, **suites), dataclasses.replace(server, **suites))
    pair.connect()
    ends = (pair.client, pair.server)
    for size in (1, MAX_PLAINTEXT, MAX_PLAINTEXT + 1, 40_000):
        for end in ends:
            assert len(data_of(pair.send(end, b"d" * size)[0])) == size
        for end in ends:
            end.send_key_update(request_peer=size == 1)
        pair.pump()
    for end in ends:
        end.send_data(b"the last")
        end.close()
    pair.pump()
    for end in ends:
        seen, error = events_of(end)
        assert error is None
        assert seen[-1] == CloseNotify()
        assert any(isinstance(event, KeyUpdated) for event in seen)
    return pair, tap


def refusal(role: Role) -> tuple[Wiretap, int]:
    """*role* meets a record that does not open, after its handshake; what it sent, and how many records before that."""
    pair, tap = tapped()
    pair.connect()
    end = pair.client if role is Role.CLIENT else pair.server
    before = len(tap.sent(role))
    end.receive_data(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert isinstance(events_of(end)[1], PeerError)
    assert end.data_to_send()
    return tap, before


every_scenario = pytest.mark.parametrize("scenario", SCENARIOS)


# ---- headers ---------------------------------------------------------------------------------------------------------


@roles
@every_scenario
@pytest.mark.rfc("9846 §5", "no record type is sent that RFC 9846 does not define")
@pytest.mark.rfc("9846 §5.1", "the first ClientHello's record says 0x0301, every other record 0x0303")
@pytest.mark.rfc("9846 §E.5", "no record has a version below 0x0300, and no hello is SSL 2.0's")
def test_records_have_the_types_and_versions_of_tls_1_3(scenario: str, role: Role) -> None:
    sent = talk(scenario)[1].sent(role)
    assert {record.outer_type for record in sent} <= {CCS, HANDSHAKE, DATA}
    assert {record.content_type for record in sent} == {HANDSHAKE, DATA, ALERT} | (
        {CCS} if scenario != "no-compatibility" else set()
    )
    versions = [record.version for record in sent]
    first = b"\x03\x01" if role is Role.CLIENT else b"\x03\x03"
    assert versions == [first, *(b"\x03\x03",) * (len(sent) - 1)]
    assert sent[0].wire[:1] == bytes((HANDSHAKE,))
    for record in sent:
        assert int.from_bytes(record.wire[3:5], "big") == len(record.wire) - 5


@roles
@every_scenario
@pytest.mark.rfc("9846 §5.1", "no record carries more than 2^14 bytes")
@pytest.mark.rfc("9846 §5.2", "no protected record is longer than 2^14 + 256 bytes")
@pytest.mark.rfc("9846 §5.4", "no TLSInnerPlaintext that is sent is longer than 2^14 + 1 bytes")
def test_records_keep_their_limits(scenario: str, role: Role) -> None:
    sizes = []
    for record in talk(scenario)[1].sent(role):
        inner = len(record.content) + (1 + len(record.padding) if record.key else 0)
        assert len(record.content) <= MAX_PLAINTEXT
        assert inner <= MAX_PLAINTEXT + bool(record.key)
        assert len(record.wire) - 5 <= (MAX_PLAINTEXT + 256 if record.key else MAX_PLAINTEXT)
        sizes.append(len(record.content))
    assert max(sizes) == MAX_PLAINTEXT


@roles
@every_scenario
@pytest.mark.rfc("9846 §5.1", "application data is never sent in the open")
def test_application_data_is_protected_with_application_keys(scenario: str, role: Role) -> None:
    sent = talk(scenario)[1].sent(role)
    keys = {record.key for record in sent if record.content_type == DATA}
    assert len(keys) > 3
    assert all(key.startswith(f"{role.value}_application_traffic_secret_") for key in keys)


@pytest.mark.parametrize("suite", [suite.code for suite in PYCA.suites], ids=suite_name)
@pytest.mark.rfc("9846 §5.2", "no AEAD adds more than 255 bytes")
@pytest.mark.rfc("9846 §5.3", "every AEAD takes a nonce of 8 bytes or more")
def test_every_suite_adds_its_tag_and_takes_a_nonce_of_twelve_bytes(suite: int) -> None:
    made = next(each for each in PYCA.suites if each.code == suite)
    for role in Role:
        for record in talk("plain", suite)[1].sent(role):
            if record.key:
                inner = len(record.content) + 1 + len(record.padding)
                assert len(record.wire) - 5 - inner == made.tag_length <= 255
    aead = made.aead(bytes(made.key_length))
    assert aead.decrypt(bytes(12), aead.encrypt(bytes(12), b"data", b""), b"") == b"data"


# ---- what is in them -------------------------------------------------------------------------------------------------


@roles
@every_scenario
@pytest.mark.rfc("9846 §5.1", "no empty handshake fragment and no empty alert is sent, padded or not")
@pytest.mark.rfc("9846 §5.1", "each alert record that is sent holds one alert")
@pytest.mark.rfc("9846 §6.1", "close_notify is sent with the level warning")
def test_handshake_and_alert_records_have_content(scenario: str, role: Role) -> None:
    sent = talk(scenario)[1].sent(role)
    assert all(record.content for record in sent if record.content_type in {HANDSHAKE, ALERT})
    alerts = [record.content for record in sent if record.content_type == ALERT]
    assert alerts == [bytes((1, A.CLOSE_NOTIFY))]
    assert sent[-1].content == alerts[0]


@roles
@every_scenario
@pytest.mark.rfc("9846 §5.4", "padding that is sent is zeros")
def test_padding_is_zeros(scenario: str, role: Role) -> None:
    """The record is opened here from its key: content, type, and what follows."""
    sent = talk(scenario)[1].sent(role)
    for record in sent:
        assert record.padding == bytes(len(record.padding))
        assert record.content_type in {HANDSHAKE, ALERT, DATA} or not record.key
    if scenario == "padded":
        assert sum(len(record.padding) for record in sent) > 1000
        for record in sent:
            if record.key:
                multiple = 500 if role is Role.CLIENT else MAX_PLAINTEXT
                size = len(record.content) + len(record.padding)
                assert size % multiple == 0 or size == MAX_PLAINTEXT
    else:
        assert not any(record.padding for record in sent)


@roles
@every_scenario
@pytest.mark.rfc("9846 §5.1", "a handshake message that is sent over several records has nothing between them")
@pytest.mark.rfc("9846 §5.1", "what is sent before a key change ends with its record")
def test_handshake_messages_end_with_their_records_where_keys_change(scenario: str, role: Role) -> None:
    tap = talk(scenario)[1]
    sent, said = tap.sent(role), [message.raw for message in tap.said(role)]
    found = [raw for _, messages in messages_in(sent) for raw in messages]
    assert found == said  # no message is cut at a change of keys, and none is lost
    for raw in (*found, *(message for run in handshake_runs(sent) for message in split_messages(run))):
        assert len(raw) == 4 + int.from_bytes(raw[1:4], "big")
    if scenario == "long-certificates":
        certificate = next(raw for raw in found if raw[0] == H.CERTIFICATE)
        assert len(certificate) > MAX_PLAINTEXT


def handshake_runs(sent: list[Sent]) -> list[bytes]:
    """What neighbouring handshake records under one key hold together: nothing stands between them."""
    runs = itertools.groupby(sent, key=lambda record: (record.key, record.content_type))
    return [b"".join(record.content for record in run) for (_, kind), run in runs if kind == HANDSHAKE]


# ---- keys ------------------------------------------------------------------------------------------------------------


@roles
@every_scenario
@pytest.mark.rfc("9846 §5.3", "the first record under a key has the number 0, each after it one more")
def test_every_key_begins_with_record_0(scenario: str, role: Role) -> None:
    """The wiretap opens the n-th record under a key with the nonce of n, and knows no other."""
    tap = talk(scenario)[1]
    numbers: dict[str, list[int]] = {}
    for record in tap.sent(role):
        if record.key:
            numbers.setdefault(record.key, []).append(record.number)
    assert len(numbers) >= 5
    for seen in numbers.values():
        assert seen == list(range(len(seen)))


@roles
@every_scenario
@pytest.mark.rfc("9846 §4.7.3", "KeyUpdate is sent under the old key, and everything after it under the next")
def test_key_update_is_the_last_record_under_its_key(scenario: str, role: Role) -> None:
    sent = talk(scenario)[1].sent(role)
    updates = 0
    for record, following in itertools.pairwise(sent):
        is_update = record.content_type == HANDSHAKE and record.content[0] == H.KEY_UPDATE
        if is_update:
            updates += 1
            generation = int(record.key.rpartition("_")[2])
            assert following.key == f"{role.value}_application_traffic_secret_{generation + 1}"
            assert following.number == 0
        elif record.key.startswith(f"{role.value}_application"):
            assert following.key == record.key
    assert updates >= 4


@roles
@every_scenario
@pytest.mark.rfc("9846 §4.5.3", "records after Finished are under application keys")
def test_records_after_finished_are_under_application_keys(scenario: str, role: Role) -> None:
    sent = talk(scenario)[1].sent(role)
    last = max(n for n, record in enumerate(sent) if record.key == f"{role.value}_handshake_traffic_secret")
    assert sent[last].content_type == HANDSHAKE
    assert sent[last].content.endswith(_finished(scenario, role))
    assert all(record.key.startswith(f"{role.value}_application_traffic") for record in sent[last + 1 :])


def _finished(scenario: str, role: Role) -> bytes:
    (raw,) = [message.raw for message in talk(scenario)[1].said(role) if message.kind == H.FINISHED]
    return raw


@pytest.mark.rfc("9846 §4.5.3", "records after Finished are under application keys")
def test_servers_alert_about_a_client_certificate_is_under_its_application_key() -> None:
    pair, tap = tapped(None, asking_server_config())
    pair.pump()
    assert isinstance(events_of(pair.server)[1], PeerError)
    alert = tap.sent(Role.SERVER)[-1]
    assert alert.content == bytes((2, A.CERTIFICATE_REQUIRED))
    assert alert.key == "server_application_traffic_secret_0"
    assert isinstance(events_of(pair.client)[1], AlertReceived)


# ---- alerts ----------------------------------------------------------------------------------------------------------


@roles
@pytest.mark.rfc("9846 §6", "error alerts are sent with the level fatal")
@pytest.mark.rfc("9846 §6.2", "after an error alert is sent nothing follows it")
def test_error_is_told_by_one_fatal_alert(role: Role) -> None:
    tap, before = refusal(role)
    alerts = tap.sent(role)[before:]
    assert [(record.content_type, record.content) for record in alerts] == [(ALERT, bytes((2, A.BAD_RECORD_MAC)))]


ERRORS = sorted(
    value
    for name, value in vars(A).items()
    if not name.startswith("_") and value not in {A.CLOSE_NOTIFY, A.USER_CANCELED}
)


@pytest.mark.parametrize("description", ERRORS)
@pytest.mark.rfc("9846 §6", "error alerts are sent with the level fatal")
def test_every_error_alert_is_fatal(description: int) -> None:
    pair, tap = tapped()
    pair.connect()
    pair.client.fail(description)
    pair.pump()
    assert tap.sent(Role.CLIENT)[-1].content == bytes((2, description))
    _, heard = events_of(pair.server)
    assert isinstance(heard, AlertReceived)
    assert heard.description == description


@pytest.mark.rfc("9846 §6.1", "user_canceled is followed by close_notify")
@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
def test_handshake_that_is_given_up_ends_with_two_warnings(role: Role, chunking: Chunking) -> None:
    pair, tap = tapped(chunking=chunking)
    end: Connection = pair.client if role is Role.CLIENT else pair.server
    hello = pair.client.data_to_send()
    end.close()  # a server that has answered may send data, and then closes as after the handshake
    if role is Role.CLIENT:
        pair.server.receive_data(hello)
    pair.pump()
    alerts = [record for record in tap.sent(role) if record.content_type == ALERT]
    assert [record.content for record in alerts] == [bytes((1, A.USER_CANCELED)), bytes((1, A.CLOSE_NOTIFY))]
    assert tap.sent(role)[-2:] == alerts
    assert not end.handshake_complete
