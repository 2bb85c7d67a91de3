"""0-RTT at both ends, beyond what the messages say (test_resumption_messages.py): limits, padding, retries, half-RTT
data, closing, exporters, what observers are told."""

from __future__ import annotations

import array
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pellucid import PENDING, CertificateRejected, UsageError, pad_to_multiple
from pellucid.crypto.provider import Pending
from pellucid.errors import AlertReceived, InternalError
from pellucid.events import (
    ApplicationData,
    CloseNotify,
    EarlyData,
    EarlyDataAccepted,
    FirstUseNeeded,
    HandshakeComplete,
    VerificationNeeded,
)
from pellucid.explain.keylog import KeyLogWriter
from pellucid.handshake.actions import EarlyDataOutcome as Outcome
from pellucid.registry import AlertDescription as A
from pellucid.registry import NamedGroup as G
from pellucid.sessions import TicketKeys
from pellucid.trace import ChoiceMade, Direction, Epoch, RecordTraced, Role
from pellucid.verify.report import VerificationReport
from pellucid.verify.webpki import WebPKIVerifier
from tests.support import pair
from tests.support.meetings import Meeting, asking, begin, meet
from tests.support.pair import Chunking, as_sent, data_of, deliver, events_of
from tests.support.resuming import early_client, early_server, sessions_of

TEXT = b"GET / HTTP/1.1\r\n\r\n"


def remembering(server: Any = None, **changes: Any) -> tuple[Any, Any]:
    """A client that has two sessions with a server that takes early data."""
    server = server or early_server()
    ours = early_client(**changes)
    assert not meet(ours, server).resumed
    assert len(sessions_of(ours)) == 2
    return ours, server


def rejecting(server: Any, how: str) -> Any:
    """*server* as it is when it does not take early data any more."""
    keys = {"sessions": server.session_store}
    return {
        "resumed": lambda: dataclasses.replace(server, max_early_data=0, **keys),
        "not resumed": lambda: dataclasses.replace(server),
        "retried": lambda: dataclasses.replace(server, groups=(G.SECP256R1,), **keys),
    }[how]()


REJECTIONS = ["resumed", "not resumed", "retried"]


# ---- accepted --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 100, 16_383, 16_384])
@pytest.mark.rfc("9846 §2.3", "early data is sent in the first flight and arrives marked as such")
def test_early_data_arrives_marked_and_in_order(size: int, chunking: Chunking) -> None:
    if chunking is pair.one_byte_at_a_time and size > 1000:
        size = 1000
    data = bytes(i * i & 0xFF for i in range(size))
    ours, theirs = remembering()
    met = meet(ours, theirs, chunking=chunking, early=data)
    assert met.resumed
    assert met.early_data == (Outcome.ACCEPTED, Outcome.ACCEPTED)
    assert met.early == data
    kinds = [type(event) for event in met.told[Role.SERVER]]
    assert kinds[0] is EarlyDataAccepted
    assert kinds[-1] is HandshakeComplete
    assert set(kinds[1:-1]) == {EarlyData}
    met.speak()


def test_early_data_in_many_fragments_and_streamed_until_the_server_finished(chunking: Chunking) -> None:
    """A client may go on sending until it sees the server's Finished (§4.3.11.3)."""
    ours, theirs = remembering()
    met = begin(ours, theirs)
    sent = b""
    for number in range(40):
        piece = bytes((number,)) * (number + 1)
        met.client.send_early_data(piece)
        sent += piece
        if number in {0, 7, 39}:
            deliver(met.client.data_to_send(), met.server, chunking)
    flight = met.server.data_to_send()
    records = list(as_sent(flight))
    for record in records[:-1]:
        met.client.receive_data(record)
        met.client.send_early_data(b"!")
        sent += b"!"
    met.client.receive_data(records[-1])
    met.pump(chunking)
    assert met.early_data == (Outcome.ACCEPTED, Outcome.ACCEPTED)
    assert met.early == sent


@pytest.mark.rfc("9846 §4.7.1", "only the content of early data counts against max_early_data_size, not padding")
def test_padding_of_early_data_is_not_counted() -> None:
    ours, theirs = remembering(padding=pad_to_multiple(4096))
    met = begin(ours, theirs)
    for _ in range(64):
        met.client.send_early_data(bytes(256))
    met.pump()
    assert met.early_data == (Outcome.ACCEPTED, Outcome.ACCEPTED)
    assert met.early == bytes(16_384)


def test_early_data_that_is_offered_and_never_sent() -> None:
    ours, theirs = remembering()
    met = meet(ours, theirs)
    assert met.early_data == (Outcome.ACCEPTED, Outcome.ACCEPTED)
    assert met.early == b""
    assert met.told[Role.SERVER][0] == EarlyDataAccepted(met.told[Role.SERVER][0].negotiated, 16_384)


@pytest.mark.rfc("9846 §8", "early data is what the application gives as such: a client sends nothing early by itself")
@pytest.mark.rfc(
    "9846 §F.5", "early data is what the application gives as such: a client sends nothing early by itself"
)
def test_nothing_is_sent_early_but_what_the_application_gives_for_that() -> None:
    """Neither data for after the handshake, nor anything at all where early data was not asked for."""
    ours, theirs = remembering()
    met = begin(ours, theirs)
    with pytest.raises(UsageError, match="before the handshake is complete"):
        met.client.send_data(TEXT)
    met.client.start()
    with pytest.raises(UsageError, match="before the handshake is complete"):
        met.client.send_data(TEXT)
    met.pump()
    assert met.early_data == (Outcome.ACCEPTED, Outcome.ACCEPTED)
    assert met.early == b""
    met = begin(dataclasses.replace(ours, early_data=False), theirs)
    with pytest.raises(UsageError):
        met.client.send_early_data(TEXT)
    met.pump()
    assert met.resumed
    assert met.early == b""


@pytest.mark.parametrize("over", [False, True])
def test_client_sends_no_more_than_the_ticket_allows(over: bool) -> None:
    ours, theirs = remembering(early_server(max_early_data=100))
    met = begin(ours, theirs)
    met.client.start()
    assert met.client.early_data_left == 100
    met.client.send_early_data(bytes(60))
    assert met.client.early_data_left == 40
    if over:
        with pytest.raises(UsageError, match="40 may be sent"):
            met.client.send_early_data(bytes(41))
    met.client.send_early_data(bytes(40))
    assert met.pump().early == bytes(100)
    assert met.client.early_data_left == 0


def test_early_data_of_wider_items_counts_bytes() -> None:
    """A buffer's length is not the number of its bytes."""
    ours, theirs = remembering(early_server(max_early_data=100))
    met = begin(ours, theirs)
    words = array.array("I", range(20))
    met.client.send_early_data(words)
    assert met.client.early_data_left == 20
    with pytest.raises(UsageError):
        met.client.send_early_data(words)
    assert met.pump().early == words.tobytes()


@pytest.mark.rfc("8449 §4", "the limit is of the handshake that negotiates it: early data is sent before that")
def test_record_size_limit_does_not_apply_to_early_records() -> None:
    ours, theirs = remembering(early_server(record_size_limit=64), record_size_limit=64)
    records: list[RecordTraced] = []
    met = begin(dataclasses.replace(ours, trace_records=True), theirs, client_trace=records.append)
    met.client.send_early_data(bytes(10_000))
    met.pump()
    assert met.early == bytes(10_000)
    early = [r.content_size for r in records if type(r) is RecordTraced and r.epoch is Epoch.EARLY]
    assert early[0] == 10_000
    met.client.send_data(bytes(1000))
    assert all(len(record) <= 5 + 64 + 16 for record in as_sent(met.client.data_to_send()))


@pytest.mark.rfc("9846 §4.7.3", "KeyUpdate may follow the handshake at once")
@pytest.mark.parametrize("sender", Role)
def test_key_update_right_after_early_data(sender: Role, chunking: Chunking) -> None:
    ours, theirs = remembering()
    met = meet(ours, theirs, early=TEXT, chunking=chunking)
    end = met.client if sender is Role.CLIENT else met.server
    end.send_key_update(request_peer=True)
    met.pump(chunking)
    met.speak()


# ---- rejected --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [1, 17, 100, 1000, 16_384])
@pytest.mark.parametrize("how", REJECTIONS)
@pytest.mark.rfc("9846 §4.3.10", "a server skips all the early data that a ticket allows, however small its records")
def test_all_the_early_data_that_was_allowed_is_skipped(how: str, piece: int) -> None:
    """A client that keeps to max_early_data_size never loses its connection for the size of its records."""
    ours, theirs = remembering()
    met = begin(ours, rejecting(theirs, how))
    total = 16_384 if piece >= 17 else 2000
    for _ in range(total // piece):
        met.client.send_early_data(bytes(piece))
    met.client.send_early_data(bytes(total % piece))
    met.pump()
    assert met.early_data[0] is not Outcome.ACCEPTED
    assert met.early == b""
    assert met.negotiated.retried is (how == "retried")
    met.speak()


@pytest.mark.parametrize("how", REJECTIONS)
def test_rejection_is_reported_with_its_reason_at_both_ends(how: str, chunking: Chunking) -> None:
    ours, theirs = remembering()
    told: dict[Role, list[Any]] = {role: [] for role in Role}
    met = meet(
        ours,
        rejecting(theirs, how),
        early=TEXT,
        chunking=chunking,
        client_trace=told[Role.CLIENT].append,
        server_trace=told[Role.SERVER].append,
    )
    assert (
        met.early_data
        == {
            "resumed": (Outcome.DECLINED, Outcome.DISABLED),
            "not resumed": (Outcome.NOT_RESUMED, Outcome.NOT_RESUMED),
            "retried": (Outcome.RETRIED, Outcome.RETRIED),
        }[how]
    )
    for role, outcome in zip((Role.CLIENT, Role.SERVER), met.early_data, strict=True):
        (choice,) = (event for event in told[role] if type(event) is ChoiceMade and event.what == "early_data")
        assert choice.chosen == "rejected"
        assert choice.reason == outcome.value
    assert met.early == b""
    with pytest.raises(UsageError):
        met.client.export_early_keying_material(b"label", b"", 32)


@pytest.mark.rfc("9846 §F.5", "rejected early data is not sent again by itself")
@pytest.mark.parametrize("how", REJECTIONS)
def test_e16_nothing_of_rejected_early_data_is_sent_again(how: str) -> None:
    ours, theirs = remembering()
    met = meet(ours, rejecting(theirs, how), early=TEXT)
    assert met.early_data[0] is not Outcome.ACCEPTED
    assert not any(isinstance(event, (ApplicationData, EarlyData)) for event in met.told[Role.SERVER])
    assert met.client.early_data_left == 0


# ---- what must be so before a byte leaves ----------------------------------------------------------------------------


class Judge:
    """The WebPKI's verdict, or another one; counts, and may take its time."""

    def __init__(self, answer: str = "good") -> None:
        self._real = WebPKIVerifier(pair.authority().trust)
        self.answer = answer
        self.requests: list[Any] = []
        self.session_identity = b"a judge"

    @property
    def authorities(self) -> Any:
        return self._real.authorities

    def report(self, request: Any) -> VerificationReport:
        report = self._real.verify(request)
        assert isinstance(report, VerificationReport)
        return dataclasses.replace(report, accepted=False) if "bad" in self.answer else report

    def verify(self, request: Any) -> VerificationReport | Pending:
        self.requests.append(request)
        return PENDING if "pending" in self.answer else self.report(request)


def reverifying() -> tuple[Any, Any, Judge]:
    judge = Judge()
    ours, theirs = remembering(trust=None, verifier=judge, reverify_on_resumption=True)
    judge.requests.clear()
    return ours, theirs, judge


def test_server_is_judged_again_before_early_data_goes_to_it() -> None:
    """What the application sends early is for a server that is trusted now, not for one that was."""
    ours, theirs, judge = reverifying()
    met = begin(ours, theirs)
    met.client.start()
    assert len(judge.requests) == 1
    assert met.client.early_data_left == 16_384
    met.client.send_early_data(TEXT)
    met.pump()
    assert met.early_data == (Outcome.ACCEPTED, Outcome.ACCEPTED)
    assert len(judge.requests) == 1, "once is enough"


def test_early_data_does_not_go_to_a_server_that_is_trusted_no_more() -> None:
    ours, theirs, judge = reverifying()
    judge.answer = "bad"
    met = begin(ours, theirs)
    with pytest.raises(CertificateRejected):
        met.client.send_early_data(TEXT)
    assert met.client.early_data_left == 0
    met.pump()
    assert isinstance(met.errors[Role.CLIENT], CertificateRejected)
    assert isinstance(met.errors[Role.SERVER], AlertReceived)
    assert met.early == b""


@pytest.mark.parametrize("verdict", ["good", "bad"])
def test_server_that_rejected_early_data_is_judged_when_its_finished_is_in(verdict: str) -> None:
    """As one is that was sent none; its alert is then under keys that it has."""
    ours, theirs, judge = reverifying()
    met = begin(ours, rejecting(theirs, "resumed"))
    met.client.send_early_data(TEXT)
    judge.answer = verdict
    met.pump()
    assert len(judge.requests) == 2
    if verdict == "bad":
        assert isinstance(met.errors[Role.CLIENT], CertificateRejected)
        assert isinstance(met.errors[Role.SERVER], AlertReceived)
        return
    assert met.resumed
    assert met.early_data[0] is Outcome.DECLINED


@pytest.mark.parametrize("answer", ["pending, good", "pending, bad"])
def test_early_data_waits_for_a_verdict_that_takes_its_time(answer: str) -> None:
    ours, theirs, judge = reverifying()
    judge.answer = answer
    met = begin(ours, theirs)
    hello = met.client.data_to_send()
    assert met.client.early_data_left == 0
    (pause,) = events_of(met.client)[0]
    assert isinstance(pause, VerificationNeeded)
    deliver(hello, met.server)
    deliver(met.server.data_to_send(), met.client)  # it waits too
    assert events_of(met.client) == ([], None)
    met.client.resume(judge.report(pause.need.request))
    if "bad" in answer:
        assert isinstance(events_of(met.client)[1], CertificateRejected)
        assert not met.client.handshake_complete
        return
    met.pump()
    assert met.resumed
    assert met.early_data == (Outcome.ACCEPTED, Outcome.ACCEPTED)
    met.speak()


def test_early_data_can_be_sent_when_the_verdict_is_in() -> None:
    ours, theirs, judge = reverifying()
    judge.answer = "pending"
    met = begin(ours, theirs)
    met.client.start()
    with pytest.raises(UsageError):
        met.client.send_early_data(TEXT)
    (pause,) = events_of(met.client)[0]
    met.client.resume(judge.report(pause.need.request))
    met.client.send_early_data(TEXT)
    met.pump()
    assert met.early == TEXT
    assert met.resumed


# ---- half-RTT: what a server sends before the client's Finished ------------------------------------------------------


def half_way(ours: Any, theirs: Any, early: bytes = TEXT) -> Meeting:
    """As far as the server's flight."""
    met = begin(ours, theirs)
    if early:
        met.client.send_early_data(early)
    deliver(met.client.data_to_send(), met.server)
    seen, error = events_of(met.server)
    assert error is None
    met.told[Role.SERVER] += seen
    return met


@pytest.mark.parametrize("early", [b"", TEXT], ids=["full", "early"])
@pytest.mark.rfc("9846 §2.3", "a server may answer before the client's Finished")
def test_half_rtt_data_arrives_after_the_handshake(early: bytes, chunking: Chunking) -> None:
    ours, theirs = remembering()
    if not early:
        ours = early_client()
    met = half_way(ours, theirs, early)
    met.server.send_data(b"an early answer")
    assert not met.server.handshake_complete
    met.pump(chunking)
    kinds = [type(event) for event in met.told[Role.CLIENT]]
    assert kinds.index(HandshakeComplete) < kinds.index(ApplicationData)
    assert data_of(met.told[Role.CLIENT]) == b"an early answer"
    met.speak()


def test_server_that_must_know_its_client_sends_nothing_before_it_does() -> None:
    met = half_way(early_client(credentials=(pair.credential(),)), asking(), b"")
    with pytest.raises(UsageError):
        met.server.send_data(b"for you alone")


def test_half_rtt_data_to_the_end_of_its_key_is_the_callers_fault() -> None:
    """No KeyUpdate may be sent before the handshake is complete: then the key's limit is the end of it."""
    ours, theirs = remembering()
    met = half_way(ours, theirs)
    met.server._writer.limit = 3
    for _ in range(3):
        met.server.send_data(b"a record")
    for data in (b"another", bytes(20_000)):
        with pytest.raises(UsageError, match="complete"):
            met.server.send_data(data)
    met.server._writer.limit = 1000
    met.pump()
    assert data_of(met.told[Role.CLIENT]) == b"a record" * 3


@pytest.mark.rfc("9846 §6.1", "nothing is sent after close_notify")
def test_server_that_answered_early_data_and_closed_sends_no_tickets() -> None:
    ours, theirs = remembering()
    met = half_way(ours, theirs)
    met.server.send_data(b"an answer, and that is all")
    met.server.close()
    flight = met.server.data_to_send()
    deliver(flight, met.client)
    deliver(met.client.data_to_send(), met.server)
    assert met.server.handshake_complete
    assert met.server.data_to_send() == b""
    seen, error = events_of(met.client)
    assert error is None
    assert [type(event) for event in seen] == [HandshakeComplete, ApplicationData, CloseNotify]
    seen, error = events_of(met.server)
    assert error is None
    assert [type(event) for event in seen] == [HandshakeComplete]
    met.client.send_data(b"our direction is open")
    deliver(met.client.data_to_send(), met.server)
    assert data_of(events_of(met.server)[0]) == b"our direction is open"


@pytest.mark.rfc("9846 §6.1", "a handshake given up is closed with user_canceled and close_notify")
def test_client_that_closes_during_early_data_gives_up() -> None:
    ours, theirs = remembering()
    met = half_way(ours, theirs)
    met.client.close()
    deliver(met.client.data_to_send(), met.server)
    _, error = events_of(met.server)
    assert isinstance(error, AlertReceived)
    assert error.description == A.USER_CANCELED
    assert met.early == TEXT


@pytest.mark.rfc("9846 §6.2", "alerts are protected with the current keys, early ones too")
def test_error_of_a_client_under_early_keys_reaches_the_server() -> None:
    ours, theirs = remembering()
    met = half_way(ours, theirs)
    met.client.fail(A.INTERNAL_ERROR)
    deliver(met.client.data_to_send(), met.server)
    _, error = events_of(met.server)
    assert isinstance(error, AlertReceived)
    assert error.description == A.INTERNAL_ERROR


# ---- exporters, key log, records -------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §7.5", "the early exporter is the same at both ends, and another than the exporter")
def test_g12_early_exporter_is_there_while_early_data_is_under_way() -> None:
    ours, theirs = remembering()
    met = begin(ours, theirs)
    for end in (met.client, met.server):
        with pytest.raises(UsageError):
            end.export_early_keying_material(b"label", b"context", 32)
        with pytest.raises(UsageError):
            end.export_keying_material(b"label", b"context", 32)
    met.client.send_early_data(TEXT)
    deliver(met.client.data_to_send(), met.server)
    ends = (met.client, met.server)
    early = {end.export_early_keying_material(b"label", b"context", 32) for end in ends}
    assert len(early) == 1
    assert {end.export_early_keying_material(b"label", b"other", 32) for end in ends} != early
    met.pump()
    for end in ends:
        with pytest.raises(UsageError):
            end.export_early_keying_material(b"label", b"context", 32)
        assert end.export_keying_material(b"label", b"context", 32) not in early


@pytest.mark.rfc("9850 §2.1", "early secrets are logged as CLIENT_EARLY_TRAFFIC_SECRET and EARLY_EXPORTER_SECRET")
def test_key_log_of_both_ends_has_the_early_secrets(tmp_path: Path) -> None:
    ours, theirs = remembering()
    files = {role: tmp_path / f"{role.value}.log" for role in Role}
    met = meet(
        ours,
        theirs,
        early=TEXT,
        client_trace=KeyLogWriter(files[Role.CLIENT]),
        server_trace=KeyLogWriter(files[Role.SERVER]),
    )
    lines = {role: sorted(file.read_text().splitlines()) for role, file in files.items()}
    assert lines[Role.CLIENT] == lines[Role.SERVER]
    labels = [line.split()[0] for line in lines[Role.CLIENT]]
    assert {"CLIENT_EARLY_TRAFFIC_SECRET", "EARLY_EXPORTER_SECRET"} <= set(labels)
    assert len(labels) == 7
    assert {line.split()[1] for line in lines[Role.CLIENT]} == {met.negotiated.client_random.hex()}


def test_records_of_early_data_are_told_with_their_epoch() -> None:
    ours, theirs = remembering()
    told: dict[Role, list[Any]] = {role: [] for role in Role}
    met = meet(
        dataclasses.replace(ours, trace_records=True),
        dataclasses.replace(
            theirs, trace_records=True, sessions=theirs.session_store, replay_guard=theirs.early_data_guard
        ),
        early=TEXT,
        client_trace=told[Role.CLIENT].append,
        server_trace=told[Role.SERVER].append,
    )
    assert met.early == TEXT
    for role, direction in ((Role.CLIENT, Direction.SENT), (Role.SERVER, Direction.RECEIVED)):
        early = [e for e in told[role] if type(e) is RecordTraced and e.epoch is Epoch.EARLY]
        assert [(e.content_type, e.content_size, e.sequence, e.direction) for e in early] == [
            (23, len(TEXT), 0, direction),
            (22, 4, 1, direction),
        ]


# ---- the guard -------------------------------------------------------------------------------------------------------


class SlowGuard:
    """A register that is asked elsewhere."""

    window_seconds = 10.0

    def first_use(self, key: bytes, *, now: float, issued_at: float) -> Pending:
        return PENDING


@pytest.mark.parametrize("answer", [True, False, None])
def test_guard_that_takes_its_time_is_waited_for(answer: bool | None, chunking: Chunking) -> None:
    """Anything but True is a rejection."""
    ours, theirs = remembering(early_server(replay_guard=SlowGuard()))
    met = begin(ours, theirs)
    met.client.send_early_data(TEXT)
    deliver(met.client.data_to_send(), met.server, chunking)
    (pause,) = events_of(met.server)[0]
    assert isinstance(pause, FirstUseNeeded)
    assert len(pause.need.key) == 32
    assert met.server.data_to_send() == b""
    met.server.resume(answer)
    met.pump(chunking)
    expected = Outcome.ACCEPTED if answer else Outcome.REPLAYED
    assert met.early_data == (Outcome.ACCEPTED if answer else Outcome.DECLINED, expected)
    assert met.early == (TEXT if answer else b"")
    met.speak()


def test_guard_that_fails_ends_the_handshake_and_takes_nothing() -> None:
    class Broken(SlowGuard):
        def first_use(self, key: bytes, *, now: float, issued_at: float) -> Pending:
            raise OSError("no route to the register")

    ours, theirs = remembering(early_server(replay_guard=Broken()))
    met = begin(ours, theirs)
    met.client.send_early_data(TEXT)
    met.pump()
    assert isinstance(met.errors[Role.SERVER], InternalError)
    assert met.early == b""


def test_ticket_of_another_limit_is_held_to_its_own() -> None:
    """The ticket said how much; what the server allows by now does not matter."""
    keys = TicketKeys()
    ours, theirs = remembering(early_server(sessions=keys, max_early_data=50))
    later = early_server(sessions=keys, max_early_data=10_000, replay_guard=theirs.early_data_guard)
    met = begin(ours, later)
    met.client.send_early_data(bytes(50))
    met.pump()
    assert met.early == bytes(50)
    assert met.early_data == (Outcome.ACCEPTED, Outcome.ACCEPTED)


def test_client_without_the_sessions_protocol_offers_no_early_data() -> None:
    ours, theirs = remembering(early_server(alpn=("h2",)), alpn=("h2",))
    assert [session.alpn for session in sessions_of(ours)] == ["h2", "h2"]
    met = begin(ours, theirs)
    met.client.start()
    assert met.client.early_data_left == 16_384
    odd = dataclasses.replace(sessions_of(ours)[0], alpn="http/1.1")
    store, key = ours.sessions, met.client._session_key
    store.discard(key)
    store.put(key, odd)
    met = meet(ours, theirs)
    assert met.early_data[0] is Outcome.OTHER_PROTOCOL


def test_what_is_kept_says_how_much_early_data_there_may_be() -> None:
    ours, _ = remembering(early_server(max_early_data=77))
    assert {session.max_early_data_size for session in sessions_of(ours)} == {77}
