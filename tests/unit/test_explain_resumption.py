"""A second visit in words and pictures: the session, the early data, the key tree, and what was not taken."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from pellucid.connection import Connection
from pellucid.explain import parts
from pellucid.explain.ladder import FIELDS, WORK, ladder
from pellucid.explain.recorder import Recorder
from pellucid.explain.reveal import Shown
from pellucid.explain.sentences import describe, moment
from pellucid.explain.story import Scene, Tampering
from pellucid.explain.text import plain
from pellucid.explain.tree import Node, key_schedule, tree_lines
from pellucid.handshake.actions import EarlyDataOutcome as Outcome
from pellucid.sessions import MemorySessionStore, TicketKeys
from pellucid.trace import EarlyDataTraced, HandshakeCompleted, RecordTraced, Role, SecretDerived
from tests.support.pair import NAME, client_config, events_of, pump, server_config

EARLY = b"GET / HTTP/1.1\r\n\r\n"


@dataclass
class Visit:
    client: Recorder
    server: Recorder
    outcome: Outcome
    suite: int

    @property
    def nodes(self) -> dict[str, Node]:
        root = key_schedule(self.client.events)
        assert root is not None
        return {node.name: node for node in root.walk()}

    def drawn(self, role: Role, detail: int = FIELDS) -> str:
        recorder = self.client if role is Role.CLIENT else self.server
        return "\n".join(map(plain, ladder(recorder.events, width=100, role=role, detail=detail)))


def words(drawn: str) -> str:
    """Return what is drawn without bars and line breaks."""
    return " ".join(drawn.replace("│", " ").split())


def visit(*, early: bytes = EARLY, known: bool = True, accepts: bool = True) -> Visit:
    """Come twice; return what was seen the second time. known: whether the server still has its ticket keys."""
    keys = TicketKeys()
    first_server = server_config(tickets=1, sessions=keys, max_early_data=16_384)
    server = replace(
        first_server,
        tickets_on_resumption=1,
        sessions=keys if known else TicketKeys(),
        max_early_data=16_384 if accepts else 0,
        trace_records=True,
    )
    client = client_config(early_data=True, sessions=MemorySessionStore(), trace_records=True)
    pump(Connection.client(client, NAME), Connection.server(first_server))
    recorders = Recorder(), Recorder()
    here = Connection.client(client, NAME, trace=recorders[0])
    there = Connection.server(server, trace=recorders[1])
    here.start()
    if early:
        here.send_early_data(early)
    pump(here, there)
    assert events_of(here)[1] is None
    assert here.negotiated is not None
    return Visit(*recorders, here.negotiated.early_data, here.negotiated.cipher_suite)


@pytest.fixture(scope="module")
def accepted() -> Visit:
    return visit()


def test_ladder_of_a_second_visit_has_the_session_and_no_certificates(accepted: Visit) -> None:
    for role in Role:
        drawn = accepted.drawn(role)
        assert "Certificate" not in drawn
        assert "psk          a ticket of an earlier connection" in drawn
        assert "binder       32 bytes" in drawn
        assert "Pre-shared key: resumption, because" in drawn
        assert "It resumed a session, without certificates: they were verified at 20" in words(drawn)


def test_ladder_draws_early_data_between_the_hellos_as_what_can_be_replayed(accepted: Visit) -> None:
    assert accepted.outcome is Outcome.ACCEPTED
    sent = accepted.drawn(Role.CLIENT)
    arrow = next(line for line in sent.splitlines() if "─ early data ─" in line)
    assert arrow.endswith(f"{len(EARLY)} bytes · 🔒 early-data keys ─▶│")
    order = [sent.index(word) for word in ("├─ ClientHello", "├─ early data", "│◀─ ServerHello", "├─ EndOfEarlyData")]
    assert order == sorted(order)
    assert "it may be replayed" in words(sent)
    received = accepted.drawn(Role.SERVER)
    assert "─ early data ─" in received
    assert "early data   accepted" in received
    assert "Early data: accepted." in received
    assert "early data   up to 16384 bytes" in received


def test_records_of_early_data_are_described_as_replayable(accepted: Visit) -> None:
    told = [describe(event) for event in accepted.client.of(RecordTraced)]
    early = [text for text in told if "early-data keys" in text and "application_data" in text]
    assert early
    assert all("which may be replayed" in text for text in early)
    assert not any("replayed" in text for text in told if "application keys" in text)
    assert "which may be replayed" in words(accepted.drawn(Role.CLIENT, WORK))


def test_early_data_is_told_of_on_both_ends_once(accepted: Visit) -> None:
    assert [event.size for event in accepted.client.of(EarlyDataTraced)] == [len(EARLY)]
    assert [event.size for event in accepted.server.of(EarlyDataTraced)] == [len(EARLY)]


def test_key_tree_of_a_resumption_begins_with_the_psk(accepted: Visit) -> None:
    for recorder in (accepted.client, accepted.server):
        root = key_schedule(recorder.events)
        assert root is not None
        assert root.takes == "PSK"
        assert [child.label for child in root.children] == ["res binder", "c e traffic", "e exp master", "derived"]
        names = [node.name for node in root.walk()]
        assert len(names) == len(set(names))
    nodes = accepted.nodes
    assert {child.label for child in nodes["client_early_traffic_secret"].children} == {"key", "iv"}
    assert accepted.client.secrets["binder_key"].reveal() == accepted.server.secrets["binder_key"].reveal()
    root = key_schedule(accepted.client.events)
    assert root is not None
    drawn = "\n".join(map(plain, tree_lines(root, 100, Shown())))
    assert "early_secret  = HKDF-Extract(0, PSK)" in drawn
    assert '"res binder"  binder_key' in drawn
    assert '"c e traffic"  client_early_traffic_secret' in drawn


def test_key_tree_without_early_data_has_the_binder_alone() -> None:
    quiet = visit(early=b"", accepts=False)
    root = key_schedule(quiet.server.events)
    assert root is not None
    assert [child.label for child in root.children] == ["res binder", "derived"]


def test_key_tree_of_a_session_that_was_not_taken_is_that_of_the_full_handshake() -> None:
    forgotten = visit(known=False)
    assert forgotten.outcome is Outcome.NOT_RESUMED
    assert [event.name for event in forgotten.client.of(SecretDerived)].count("early_secret") == 2
    root = key_schedule(forgotten.client.events)
    assert root is not None
    assert root.takes == "zeros"
    assert [child.label for child in root.children] == ["derived"]
    drawn = forgotten.drawn(Role.CLIENT)
    assert "Pre-shared key: none, because the server took none of those offered: a full handshake." in drawn
    assert "Early data: rejected, because the session was not resumed." in drawn
    assert "CertificateVerify" in drawn


def test_declined_early_data_says_so_on_both_ends() -> None:
    declined = visit(accepts=False)
    assert declined.outcome is Outcome.DECLINED
    assert "Early data: rejected, because the server declined it." in declined.drawn(Role.CLIENT)
    assert "Early data: rejected, because disabled here." in declined.drawn(Role.SERVER)


def test_completed_event_says_since_when_the_certificates_are_known(accepted: Visit) -> None:
    for recorder in (accepted.client, accepted.server):
        (completed,) = recorder.of(HandshakeCompleted)
        assert completed.resumed
        assert completed.authenticated_at is not None
        assert moment(completed.authenticated_at) in describe(completed)


def test_moment_of_no_year_there_is_is_told_all_the_same() -> None:
    assert moment(0) == "1970-01-01 00:00 UTC"
    assert moment(1e20) == "second 100000000000000000000 since 1970"
    assert moment(None) == "an unknown time"


def test_parts_of_a_resumption_tell_that_the_verifications_were_made_before(accepted: Visit) -> None:
    scene = Scene(
        url="https://pair.test/",
        server_name=NAME,
        client=accepted.client,
        server=accepted.server,
        request=EARLY,
        response=b"",
        tampering=Tampering(b"", b"", 0, ""),
        delivered=1,
    )
    part = parts.verifications(scene)
    drawn = "\n".join(map(plain, part.lines(80)))
    assert "✓ resumed: verified at 20" in drawn
    assert "yes" not in drawn
    assert part.data["resumed"] is True
    messages = parts.tls(scene).data["messages"]
    assert isinstance(messages, list)
    assert [message["name"] for message in messages] == [
        "ClientHello", "ServerHello", "EncryptedExtensions", "Finished", "EndOfEarlyData", "Finished",
    ]  # fmt: skip
    keys = parts.keys(scene).data
    assert keys["equal_at_both_ends"] == keys["secrets"]
