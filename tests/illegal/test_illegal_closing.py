"""Key updates, floods, alerts, closing and exporters: attacks G1-G9, G11-G13."""

from __future__ import annotations

import copy
import dataclasses
import logging
import pickle
import traceback
from typing import Any

import pytest

from pellucid import ApplicationData, CloseNotify, Connection, HandshakeComplete, KeyUpdated, TLSError, UsageError
from pellucid.errors import AlertReceived, TruncatedStream
from pellucid.handshake.actions import SendMessage
from pellucid.handshake.connected import Connected
from pellucid.limits import MAX_EPOCH
from pellucid.messages.handshake import KeyUpdate, NewSessionTicket, handshake_message, message_type
from pellucid.registry import AlertDescription as A
from pellucid.registry import ContentType
from pellucid.registry import HandshakeType as H
from pellucid.schedule import TrafficSecret
from pellucid.trace import KeysInstalled, Secret, SecretDerived, SharedSecretComputed
from tests.illegal.evil import (
    NAME,
    Evil,
    asking_server,
    client_config,
    client_with_certificate,
    connected,
    credential,
    deliver,
    drain,
    evil_client,
    evil_server,
    exchange,
    good_client,
    good_server,
    latched,
    message,
    refused,
    replacing,
)

UM = A.UNEXPECTED_MESSAGE
both = pytest.mark.parametrize("victim", ["client", "server"])
UPDATE = handshake_message(KeyUpdate(0))
REQUEST = handshake_message(KeyUpdate(1))


def pair(victim: str) -> tuple[Connection, Evil]:
    good, evil = (good_client(), evil_server()) if victim == "client" else (good_server(), evil_client())
    connected(good, evil)
    return good, evil


def update(evil: Evil, *, request: bool = False) -> None:
    """A KeyUpdate whether or not one is allowed now."""
    evil.record(ContentType.HANDSHAKE, REQUEST if request else UPDATE)
    phase: Any = evil._handshake.phase
    sending = phase.sending.next()
    evil._handshake.phase = dataclasses.replace(phase, sending=sending)
    evil._writer.install(sending)


# ---- G1-G4: KeyUpdate ------------------------------------------------------------------------------------------------


@both
def test_g1_thirty_two_key_updates_in_a_row_and_not_one_more(victim: str) -> None:
    good, evil = pair(victim)
    for _ in range(32):
        update(evil)
    exchange(good, evil)
    seen, error = drain(good)
    assert (seen, error) == ([KeyUpdated(n) for n in range(1, 33)], None)
    update(evil)
    refused(good, evil, UM)


@both
@pytest.mark.parametrize("size", [1, 10_000])
def test_g1_data_in_between_allows_more(victim: str, size: int) -> None:
    good, evil = pair(victim)
    for _ in range(5):
        for _ in range(32):
            update(evil)
        evil.send_data(b"x" * size)
    exchange(good, evil)
    seen, error = drain(good)
    assert error is None
    assert sum(isinstance(event, KeyUpdated) for event in seen) == 160


@both
def test_g1_empty_records_do_not_count_as_data(victim: str) -> None:
    good, evil = pair(victim)
    for _ in range(33):
        update(evil)
        evil.record(ContentType.APPLICATION_DATA, b"")
    refused(good, evil, UM)


@both
@pytest.mark.rfc("9846 §4.7.3", "any number of requests may be answered by one KeyUpdate")
def test_g2_ten_thousand_requests_unread_are_answered_once(victim: str) -> None:
    """G2: nothing piles up while nobody takes our output."""
    good, evil = pair(victim)
    for _ in range(400):
        for _ in range(25):
            update(evil, request=True)
        evil.send_data(b"x")
        good.receive_data(evil.data_to_send())
        assert not good._writer.out
    assert drain(good)[1] is None
    answer = good.data_to_send()
    assert answer[:3] == b"\x17\x03\x03"
    assert len(answer) == 5 + 5 + 1 + 16
    evil.receive_data(answer)
    assert drain(evil) == ([KeyUpdated(1)], None)


@both
@pytest.mark.rfc("9846 §4.7.3", "the answer to a request goes out before the next application data")
def test_g2_the_owed_update_goes_before_the_next_data(victim: str) -> None:
    good, evil = pair(victim)
    update(evil, request=True)
    good.receive_data(evil.data_to_send())
    good.send_data(b"after")
    evil.receive_data(good.data_to_send())
    assert drain(evil) == ([KeyUpdated(1), ApplicationData(b"after")], None)
    assert good.data_to_send() == b""


@both
@pytest.mark.rfc("9846 §4.7.3", "request_update is 0 or 1, else illegal_parameter")
@pytest.mark.parametrize("value", [2, 3, 128, 255])
def test_g3_another_request_value_is_refused(victim: str, value: int) -> None:
    good, evil = pair(victim)
    evil.record(ContentType.HANDSHAKE, message(H.KEY_UPDATE, bytes((value,))))
    refused(good, evil, A.ILLEGAL_PARAMETER)


@both
@pytest.mark.parametrize("body", [b"", b"\0\0", b"\1\0\0"], ids=len)
def test_g3_a_key_update_of_the_wrong_length_is_refused(victim: str, body: bytes) -> None:
    good, evil = pair(victim)
    evil.record(ContentType.HANDSHAKE, message(H.KEY_UPDATE, body))
    refused(good, evil, A.DECODE_ERROR)


@both
@pytest.mark.rfc("9846 §4.7.3", "a KeyUpdate before Finished is unexpected_message")
def test_g3_a_key_update_before_finished_is_refused(victim: str) -> None:
    edit = replacing(H.FINISHED, lambda raw: UPDATE + raw)
    if victim == "client":
        refused(good_client(), evil_server(edit=edit), UM)
    else:
        refused(good_server(), evil_client(edit=edit), UM)


@both
@pytest.mark.rfc("9846 §4.7.3", "nothing under the next key is accepted before the KeyUpdate under the old one")
@pytest.mark.parametrize("what", ["data", "key-update", "alert"])
def test_g3_records_under_the_next_key_without_a_key_update_do_not_open(victim: str, what: str) -> None:
    good, evil = pair(victim)
    phase: Any = evil._handshake.phase
    evil._writer.install(phase.sending.next())
    content_type, content = {
        "data": (ContentType.APPLICATION_DATA, b"too soon"),
        "key-update": (ContentType.HANDSHAKE, UPDATE),
        "alert": (ContentType.ALERT, bytes((1, A.CLOSE_NOTIFY))),
    }[what]
    evil.record(content_type, content)
    refused(good, evil, A.BAD_RECORD_MAC)


@both
@pytest.mark.rfc("9846 §4.7.3", "nothing under the next key is accepted before the KeyUpdate under the old one")
def test_g3_records_under_the_old_key_after_a_key_update_do_not_open(victim: str) -> None:
    good, evil = pair(victim)
    evil.record(ContentType.HANDSHAKE, UPDATE)
    evil.record(ContentType.APPLICATION_DATA, b"too late")
    refused(good, evil, A.BAD_RECORD_MAC)


def later(secret: TrafficSecret) -> TrafficSecret:
    """Return *secret* as it is said to be after all KeyUpdates that may be sent."""
    return TrafficSecret(secret.suite, secret.epoch, secret.value, MAX_EPOCH)


def _at_last_epoch(connection: Connection) -> None:
    phase = connection._handshake.phase
    assert isinstance(phase, Connected)
    sending = later(phase.sending)
    connection._handshake.phase = dataclasses.replace(phase, sending=sending)


@both
@pytest.mark.rfc("9846 §4.7.3", "no KeyUpdate is sent past epoch 2^48 - 1; a request is ignored then")
def test_g4_at_the_last_epoch_no_update_is_sent_and_requests_are_ignored(victim: str) -> None:
    good, evil = pair(victim)
    _at_last_epoch(good)
    with pytest.raises(UsageError):
        good.send_key_update()
    update(evil, request=True)
    good.receive_data(evil.data_to_send())
    assert good.data_to_send() == b""
    good.send_data(b"still here")
    evil.receive_data(good.data_to_send())
    assert drain(good) == ([KeyUpdated(1)], None)
    assert drain(evil) == ([ApplicationData(b"still here")], None)


@both
@pytest.mark.rfc("9846 §4.7.3", "receivers do not enforce the limit on epochs")
def test_g4_a_peers_epoch_past_the_limit_is_accepted(victim: str) -> None:
    good, evil = pair(victim)
    phase: Any = good._handshake.phase
    receiving = later(phase.receiving)
    good._handshake.phase = dataclasses.replace(phase, receiving=receiving)
    update(evil)
    evil.send_data(b"on")
    exchange(good, evil)
    assert drain(good) == ([KeyUpdated(MAX_EPOCH + 1), ApplicationData(b"on")], None)


# ---- G5, G6: floods --------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("padding", [0, 1, 500])
def test_g5_thirty_two_empty_records_in_a_row_and_not_one_more(victim: str, padding: int) -> None:
    good, evil = pair(victim)
    for _ in range(2):
        for _ in range(32):
            evil.sealed(b"\x17" + bytes(padding))
        evil.send_data(b"x")
    exchange(good, evil)
    seen, error = drain(good)
    assert b"".join(event.data for event in seen) == b"xx"
    assert error is None
    for _ in range(33):
        evil.sealed(b"\x17" + bytes(padding))
    refused(good, evil, UM)


def test_g5_thirty_two_tickets_in_a_row_and_not_one_more() -> None:
    ticket = handshake_message(NewSessionTicket(60, 0, b"\0", b"ticket", ()))
    good, evil = pair("client")
    for _ in range(32):
        evil.record(ContentType.HANDSHAKE, ticket)
    exchange(good, evil)
    seen, error = drain(good)
    assert (len(seen), error) == (32, None)
    evil.record(ContentType.HANDSHAKE, ticket)
    refused(good, evil, UM)


@both
@pytest.mark.rfc("9846 §6.1", "user_canceled is a warning; close_notify must follow it")
def test_g6_four_user_canceled_and_not_one_more(victim: str) -> None:
    good, evil = pair(victim)
    for level in (1, 2, 1, 1):
        evil.record(ContentType.ALERT, bytes((level, A.USER_CANCELED)))
    exchange(good, evil)
    assert drain(good) == ([], None)
    evil.record(ContentType.ALERT, bytes((1, A.USER_CANCELED)))
    refused(good, evil, UM)


# ---- G7-G9: the end --------------------------------------------------------------------------------------------------


@both
@pytest.mark.rfc("9846 §6.1", "an end without close_notify is a truncation")
def test_g7_a_stream_cut_at_every_byte_is_never_a_clean_end(victim: str) -> None:
    """G7: EOF is clean only behind close_notify; what came whole before the cut is delivered first."""
    for cut in range(200):
        good, evil = pair(victim)
        evil.send_data(b"first")
        evil.send_data(b"second")
        evil.close()
        stream = evil.data_to_send()
        deliver(stream[:cut], good)
        good.receive_data(b"")
        seen, error = drain(good)
        if cut >= len(stream):
            assert seen[-1] == CloseNotify()
            assert error is None
            break
        assert CloseNotify() not in seen
        assert isinstance(error, TruncatedStream)
        assert b"".join(event.data for event in seen) in {b"", b"first", b"firstsecond"}
        latched(good, error)
    else:
        raise AssertionError("the stream was never whole")


@both
def test_g7_an_end_in_the_handshake_is_a_truncation_at_every_byte(victim: str) -> None:
    for cut in range(0, 2000, 37):
        good: Connection = good_client() if victim == "client" else good_server()
        evil: Evil = evil_server() if victim == "client" else evil_client()
        deliver(good.data_to_send(), evil)
        data = evil.data_to_send()
        deliver(data[:cut], good)
        good.data_to_send()
        good.receive_data(b"")
        seen, error = drain(good)
        assert isinstance(error, TruncatedStream)
        assert "during the handshake" in str(error) or [type(event) for event in seen] == [HandshakeComplete]
        latched(good, error)
        if cut >= len(data):
            return
    raise AssertionError("the flight was never whole")


@both
@pytest.mark.rfc("9846 §6.1", "close_notify ends one direction only")
def test_g8_a_megabyte_still_goes_after_the_peers_close(victim: str) -> None:
    good, evil = pair(victim)
    evil.close()
    exchange(good, evil)
    assert drain(good) == ([CloseNotify()], None)
    assert good.peer_closed
    assert not good.closed
    data = bytes(2**20)
    good.send_data(data)
    good.send_key_update(request_peer=True)
    good.send_data(b"the end")
    good.close()
    evil.receive_data(good.data_to_send())
    seen, error = drain(evil)
    assert error is None
    assert seen[-1] == CloseNotify()
    assert b"".join(e.data for e in seen if isinstance(e, ApplicationData)) == data + b"the end"
    assert evil.data_to_send() == b""  # it has closed: the update asked for cannot be sent any more


@both
def test_g8_after_our_own_close_we_read_on_and_send_nothing(victim: str) -> None:
    good, evil = pair(victim)
    good.close()
    good.close()
    first = good.data_to_send()
    assert len(first) == 5 + 2 + 1 + 16
    for call in (lambda: good.send_data(b"x"), good.send_key_update):
        with pytest.raises(UsageError):
            call()
    evil.send_data(b"late")
    update(evil, request=True)
    evil.send_data(b"later")
    good.receive_data(evil.data_to_send())
    assert drain(good) == ([ApplicationData(b"late"), KeyUpdated(1), ApplicationData(b"later")], None)
    assert good.data_to_send() == b""
    evil.sealed(b"\0")
    good.receive_data(evil.data_to_send())
    assert isinstance(drain(good)[1], TLSError)
    assert good.data_to_send() == b""  # no alert either: close_notify was our last word


@both
@pytest.mark.rfc("9846 §6.1", "data after a closure alert is ignored")
def test_g9_what_comes_after_close_notify_is_ignored(victim: str) -> None:
    good, evil = pair(victim)
    evil.close()
    end = evil.data_to_send()
    evil._sent_close = False
    evil._writer._record(ContentType.APPLICATION_DATA, b"injected")
    more = evil.data_to_send()
    good.receive_data(end + more)
    good.receive_data(more)
    good.receive_data(b"\x00 not even TLS")
    good.receive_data(b"")
    assert drain(good) == ([CloseNotify()], None)


@both
@pytest.mark.rfc("9846 §6.1", "a handshake given up by its user ends with user_canceled and close_notify")
def test_g6_close_before_the_handshake_is_done_says_so(victim: str) -> None:
    good = good_client() if victim == "client" else good_server()
    evil = evil_server() if victim == "client" else evil_client()
    deliver(good.data_to_send(), evil)
    good.close()
    out = good.data_to_send()
    assert out.endswith(b"\x15\x03\x03\x00\x02\x01\x5a\x15\x03\x03\x00\x02\x01\x00") or out.count(b"\x15\x03") == 2
    with pytest.raises(UsageError):
        good.send_data(b"x")


# ---- G11: the alert's keys -------------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.5.3", "alerts are protected with the present keys")
@pytest.mark.parametrize(
    ("victim", "kind", "protected"),
    [
        ("client", H.SERVER_HELLO, False),
        ("client", H.ENCRYPTED_EXTENSIONS, True),
        ("client", H.CERTIFICATE, True),
        ("client", H.CERTIFICATE_VERIFY, True),
        ("client", H.FINISHED, True),
        ("server", H.CLIENT_HELLO, False),
        ("server", H.CERTIFICATE, True),
        ("server", H.CERTIFICATE_VERIFY, True),
        ("server", H.FINISHED, True),
    ],
    ids=str,
)
def test_g11_an_alert_is_sent_under_the_keys_of_that_moment(victim: str, kind: int, protected: bool) -> None:
    """G11: never in plaintext once there are keys; `refused` asserts that the peer could read it."""
    edit = replacing(kind, lambda raw: message(kind, raw[4:] + b"\0"))
    if victim == "client":
        good, evil = good_client(client_with_certificate()), evil_server(asking_server(), edit=edit)
    else:
        good, evil = good_server(asking_server()), evil_client(client_with_certificate(), edit=edit)
    alerts: list[bytes] = []
    take = good._writer.alert

    def note(level: int, description: int) -> None:
        before = len(good._writer.out)
        take(level, description)
        alerts.append(b"".join(good._writer.out[before:]).removeprefix(b"\x14\x03\x03\x00\x01\x01"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(good._writer), "alert", lambda self, *a: note(*a) if self is good._writer else None)
        exchange(good, evil)
    assert len(alerts) == 1
    assert alerts[0][0] == (ContentType.APPLICATION_DATA if protected else ContentType.ALERT)
    _, heard = drain(evil)
    assert isinstance(heard, AlertReceived)
    assert heard.description == A.DECODE_ERROR


# ---- G12: exporters --------------------------------------------------------------------------------------------------


@both
@pytest.mark.rfc("9846 §7.5", "there is no exporter before the handshake is complete")
def test_g12_no_exporter_before_finished(victim: str) -> None:
    def up_to_finished(evil: Evil, actions: list[Any]) -> list[Any]:
        return [a for a in actions if not (isinstance(a, SendMessage) and message_type(a.raw) == H.FINISHED)]

    good: Connection = good_client() if victim == "client" else good_server()
    evil = evil_server(rewrite=up_to_finished) if victim == "client" else evil_client(rewrite=up_to_finished)
    for _ in range(2):
        with pytest.raises(UsageError):
            good.export_keying_material(b"EXPORTER-test", b"", 32)
        with pytest.raises(UsageError):
            good.channel_binding()
        exchange(good, evil)
    assert drain(good) == ([], None)


@pytest.mark.rfc("9846 §7.5", "exporter values depend on label, context and length, and agree")
def test_g12_exporters_agree_and_are_told_apart() -> None:
    client, server = good_client(), good_server()
    connected(client, server)
    cases = [(b"a", b"", 32), (b"b", b"", 32), (b"a", b"x", 32), (b"a", b"\0", 32), (b"a", b"", 33), (b"a", b"", 255)]
    values = []
    for case in cases:
        value = client.export_keying_material(*case)
        assert value == server.export_keying_material(*case)
        assert len(value) == case[2]
        values.append(value)
    assert len(set(values)) == len(values)
    other, other_server = good_client(), good_server()
    connected(other, other_server)
    assert other.channel_binding() != client.channel_binding()


# ---- G13: secrets ----------------------------------------------------------------------------------------------------


def _secrets_of_a_connection() -> tuple[list[Connection], list[Any], set[bytes]]:
    """Two ends that have talked, all their trace events, and every secret value that the trace revealed."""
    seen: list[Any] = []
    client = Connection.client(client_with_certificate(), NAME, trace=seen.append)
    server = Connection.server(asking_server(), trace=seen.append)
    connected(client, server)
    client.send_key_update()
    exchange(client, server)
    values: set[bytes] = set()
    for event in seen:
        if isinstance(event, (SecretDerived, SharedSecretComputed)):
            values.add(event.secret.reveal())
        elif isinstance(event, KeysInstalled):
            values |= {event.key.reveal(), event.iv.reveal()}
    assert len(values) > 15
    return [client, server], seen, values


def _shows(text: str, values: set[bytes]) -> list[bytes]:
    return [
        value
        for value in values
        if repr(value)[2:-1] in text or value.hex() in text.lower() or str(list(value)) in text
    ]


def _everything(root: object, depth: int = 7) -> list[object]:
    """All objects of ours reachable from *root*, and the containers between them."""
    found: dict[int, object] = {}
    edge = [root]
    for _ in range(depth):
        following: list[object] = []
        for item in edge:
            if id(item) in found or isinstance(item, (bytes, str, int, type, bytearray)):
                continue
            found[id(item)] = item
            if isinstance(item, dict):
                following += [*item.values()]
            elif isinstance(item, (list, tuple, set, frozenset)):
                following += [*item]
            elif type(item).__module__.startswith("pellucid"):
                names = [n for cls in type(item).__mro__ for n in getattr(cls, "__slots__", ())]
                following += [getattr(item, n) for n in names if hasattr(item, n)]
                following += [*getattr(item, "__dict__", {}).values()]
        edge = following
    return [item for item in found.values() if type(item).__module__.startswith("pellucid")]


def test_g13_no_secret_is_in_the_repr_or_str_of_anything_of_ours() -> None:
    connections, events, values = _secrets_of_a_connection()
    objects = [item for connection in connections for item in _everything(connection)]
    kinds = {type(item).__name__ for item in objects}
    assert {"TrafficSecret", "Connected", "Handshake", "RecordWriter", "Keys"} <= kinds
    for item in [*objects, *events]:
        for text in (repr(item), str(item), f"{item}"):
            assert not _shows(text, values), type(item)


def test_g13_no_secret_is_in_an_error_its_notes_or_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """G13: a record that does not open, a wrong Finished, a call that cannot be made; with every local's repr."""
    connections, _, values = _secrets_of_a_connection()
    client, _server = connections
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    for call in (
        lambda: client.resume(1),
        lambda: client.export_keying_material(b"", b"", 9999999),
        lambda: (client.receive_data(b"\x17\x03\x03\x00\x20" + bytes(32)), client.next_event()),
    ):
        try:
            call()
        except TLSError as error:
            told = traceback.TracebackException.from_exception(error, capture_locals=False)
            texts += ["".join(told.format()), repr(error), *getattr(error, "__notes__", ())]
    assert len(texts) >= 6
    assert not [text for text in texts if _shows(text, values)]
    assert not caplog.records


def test_g13_secrets_and_keys_are_not_pickled_or_copied_by_accident() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Secret(b"k" * 32))
    with pytest.raises(TypeError):
        pickle.dumps(credential().signer)
    with pytest.raises(TypeError):
        copy.copy(Secret(b"k" * 32))
    assert "k" * 8 not in repr(Secret(b"k" * 32))
    assert str(Secret(b"k" * 32)) == repr(Secret(b"k" * 32))


def test_g13_nothing_is_observed_unless_an_observer_is_given() -> None:
    """G13: no environment variable and no peer turns the key log on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSLKEYLOGFILE", "/nonexistent/keylog")
        client, server = good_client(), good_server()
        connected(client, server)
    for connection in (client, server):
        assert connection._trace is None
        assert connection._context.trace is None
    assert client_config().trace is None


def _flipped(raw: bytes) -> bytes:
    return raw[:-1] + bytes((raw[-1] ^ 1,))


@both
@pytest.mark.parametrize("kind", [H.FINISHED, H.CERTIFICATE_VERIFY, H.CERTIFICATE])
def test_g13_no_secret_is_in_a_traceback_even_with_every_local(victim: str, kind: int) -> None:
    """G13: what a crash reporter sends away: all frames of a failed handshake, with the repr of all their locals."""
    seen: list[Any] = []
    edit = replacing(kind, _flipped)
    if victim == "client":
        good = Connection.client(client_with_certificate(), NAME, trace=seen.append)
        evil = evil_server(asking_server(), edit=edit)
    else:
        good = Connection.server(asking_server(), trace=seen.append)
        evil = evil_client(client_with_certificate(), edit=edit)
    exchange(good, evil)
    _, error = drain(good)
    assert error is not None
    values = {event.secret.reveal() for event in seen if isinstance(event, (SecretDerived, SharedSecretComputed))}
    values |= {v for event in seen if isinstance(event, KeysInstalled) for v in (event.key.reveal(), event.iv.reveal())}
    assert len(values) > 6
    told = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "_consume" in told
    assert not _shows(told, values)


# ---- A15: errors stay ------------------------------------------------------------------------------------------------


@both
@pytest.mark.rfc("9846 §6.2", "after an error the connection is not used again")
@pytest.mark.parametrize("how", ["peer-error", "alert", "truncated", "given-up", "observer"])
def test_a15_every_kind_of_error_is_raised_again_by_every_method(victim: str, how: str) -> None:
    """A15: `refused` holds it after every negative test; here once for each class of error, with data before it."""
    good, evil = pair(victim)
    evil.send_data(b"good")
    deliver(evil.data_to_send(), good)
    match how:
        case "peer-error":
            evil.sealed(b"\0")
        case "alert":
            evil.record(ContentType.ALERT, bytes((2, A.ACCESS_DENIED)))
        case "truncated":
            good.receive_data(b"")
        case "given-up":
            good.fail(A.INTERNAL_ERROR)
        case "observer":

            def broken(event: object) -> None:
                raise ZeroDivisionError

            good._trace = good._context.trace = broken
            update(evil)
    deliver(evil.data_to_send(), good)
    assert good.next_event() == ApplicationData(b"good")  # what came before the error is delivered first
    seen, error = drain(good)
    assert seen == []
    assert error is not None
    alert = good.data_to_send()
    assert (alert == b"") == (how in {"alert", "truncated"})
    latched(good, error)
