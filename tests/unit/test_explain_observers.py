"""Recorder, sentences, ladder, key log and key schedule tree, held against the connection they watched."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

import pytest

from pellucid import NEED_DATA, PYCA, ClientAuthentication, ClientConfig, Connection, Credential, ServerConfig, trace
from pellucid.explain import ladder as drawing
from pellucid.explain.fields import message_fields
from pellucid.explain.keylog import LABELS, KeyLogWriter
from pellucid.explain.ladder import LadderPrinter, ladder
from pellucid.explain.recorder import Recorder, precede, tee
from pellucid.explain.reveal import Shown
from pellucid.explain.sentences import ALERTS, DESCRIBERS, describe
from pellucid.explain.text import Line, Span, cells, escaped, line, plain, shortened, wrap
from pellucid.explain.tree import Node, key_schedule, tree_lines
from pellucid.messages.handshake import ClientHello, EncryptedExtensions, Extension
from pellucid.registry import AlertDescription, HandshakeType
from pellucid.registry import CipherSuite as CS
from pellucid.registry import NamedGroup as G
from pellucid.schedule import Prf
from pellucid.testing.ca import CA
from pellucid.trace import (
    AlertTraced,
    CertificateDecompressed,
    ClosedTraced,
    Direction,
    Epoch,
    KeysInstalled,
    MessageTraced,
    RecordTraced,
    Role,
    SecretDerived,
    SharedSecretComputed,
    TcpConnected,
    TcpConnectFailed,
    TcpConnecting,
    TcpPacket,
    TraceEvent,
)
from tests.support.needs import need

ROOT = CA()
ISSUED = ROOT.issue("localhost")
CREDENTIAL = Credential.from_pem(ISSUED.chain_pem, ISSUED.key_pem)


def shake(
    client_config: ClientConfig, server_config: ServerConfig, *more: KeyLogWriter
) -> tuple[Recorder, Recorder, Connection, Connection]:
    """Run a handshake, a message and a KeyUpdate; *more* observes the client, the server."""
    traces = Recorder(), Recorder()
    writers = (*more, None, None)
    client = Connection.client(client_config, "localhost", trace=tee(traces[0], writers[0]))
    server = Connection.server(server_config, trace=tee(traces[1], writers[1]))
    for turn in range(8):
        if turn == 5:
            client.send_data(b"hello")
            client.send_key_update(request_peer=False)
        for sender, receiver in ((client, server), (server, client)):
            if data := sender.data_to_send():
                receiver.receive_data(data)
            while receiver.next_event() is not NEED_DATA:
                pass
    return *traces, client, server


@pytest.fixture(scope="module")
def traces() -> tuple[Recorder, Recorder]:
    return shake(ClientConfig(trust=ROOT.trust, trace_records=True), ServerConfig(credentials=(CREDENTIAL,)))[:2]


def secret_hexes(*recorders: Recorder) -> set[str]:
    found: set[str] = set()
    for recorder in recorders:
        found |= {event.secret.reveal().hex() for event in recorder.of(SecretDerived)}
        found |= {event.secret.reveal().hex() for event in recorder.of(SharedSecretComputed)}
        for event in recorder.of(KeysInstalled):
            found |= {event.key.reveal().hex(), event.iv.reveal().hex()}
    return found


# ---- recorder ------------------------------------------------------------------------------------------------------


def test_recorder_stamps_and_keeps_the_first_events() -> None:
    ticks = iter((10.0, 10.5, 12.0, 99.0))
    recorder = Recorder(limit=2, clock=lambda: next(ticks))
    events = [ClosedTraced(direction=Direction.SENT, how=how) for how in ("close_notify", "alert", "truncated")]
    for event in events:
        recorder(event)
    assert [(stamp.seconds, stamp.event) for stamp in recorder.recorded] == [(0.5, events[0]), (2.0, events[1])]
    assert (len(recorder), recorder.dropped, recorder.events) == (2, 1, tuple(events[:2]))
    assert recorder.first(ClosedTraced) is events[0]
    assert recorder.first(AlertTraced) is None


def test_recorder_secrets_are_named_and_alike_at_both_ends(traces: tuple[Recorder, Recorder]) -> None:
    client, server = (end.secrets for end in traces)
    assert client.keys() == server.keys() >= {"main_secret", "client_application_traffic_secret_1"}
    assert all(client[name].reveal() == server[name].reveal() for name in client)
    assert "hidden" in repr(client)


def test_tee_tells_all_and_is_none_without_observers() -> None:
    first, second = Recorder(), Recorder()
    both = tee(first, None, second)
    assert both is not None
    both(ClosedTraced(direction=Direction.SENT, how="alert"))
    assert len(first) == len(second) == 1
    assert tee(None) is None


# ---- sentences -----------------------------------------------------------------------------------------------------


def record_of(size: int, *, opened: bool = True, content_type: int = 23) -> RecordTraced:
    return RecordTraced(
        direction=Direction.RECEIVED,
        epoch=Epoch.APPLICATION,
        content_type=content_type,
        size=size,
        content_size=size - 22,
        padding_size=0,
        sequence=None,
        raw=bytes(size),
        opened=opened,
    )


def test_recorder_keeps_a_bounded_number_of_bytes_without_gaps_and_all_else() -> None:
    """What a peer can have kept by sending is bounded, and how the connection ended is kept all the same."""
    recorder = Recorder(record_bytes=1000, message_bytes=100)
    closed = ClosedTraced(direction=Direction.RECEIVED, how="truncated")
    message = MessageTraced(
        direction=Direction.RECEIVED, epoch=Epoch.APPLICATION, message_type=4, raw=bytes(60), body=0
    )
    for event in (record_of(600), record_of(600), record_of(100), message, message, closed):
        recorder(event)
    assert [type(event) for event in recorder.events] == [RecordTraced, MessageTraced, ClosedTraced]
    assert recorder.dropped == 3


def test_events_that_were_before_all_others_are_put_at_the_head() -> None:
    first, second, others = Recorder(), Recorder(), []
    both = tee(first, others.append, second)
    assert both is not None
    both(record_of(30))
    opened = TcpConnecting(host="localhost", address="127.0.0.1", port=1, attempt=1)
    precede(both, [opened])
    precede(None, [opened])
    for recorder in (first, second):
        assert recorder.recorded[0] == (0.0, opened)
        assert len(recorder) == 2
    assert len(others) == 1


def test_records_that_do_not_open_and_dummies_are_told_as_what_they_are() -> None:
    assert "does not open" in describe(record_of(50, opened=False))
    assert "dummy" in describe(record_of(6, content_type=20))


def test_describe_knows_every_type_of_event() -> None:
    events = {value for value in vars(trace).values() if isinstance(value, type) and issubclass(value, TraceEvent)} - {
        TraceEvent
    }
    assert set(DESCRIBERS) == events


def test_describe_gives_one_sentence_without_secrets(traces: tuple[Recorder, Recorder]) -> None:
    hidden = secret_hexes(*traces)
    for event in (*traces[0].events, *traces[1].events):
        told = describe(event)
        assert told.endswith(".")
        assert "\n" not in told
        assert not any(secret in told for secret in hidden)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (
            TcpConnecting(host="example.org", address="192.0.2.1", port=443, attempt=2),
            ("192.0.2.1", "example.org", "2"),
        ),
        (TcpConnectFailed(address="192.0.2.1", port=1, reason="refused", seconds=0.5), ("refused", "500.0 ms")),
        (
            TcpConnected(
                role=Role.SERVER,
                local_address="192.0.2.1",
                local_port=443,
                peer_address="192.0.2.2",
                peer_port=50000,
                seconds=None,
                info=None,
            ),
            ("Accepted 192.0.2.2 port 50000",),
        ),
        (
            TcpPacket(
                direction=Direction.SENT,
                seconds=None,
                flags=("SYN", "ACK"),
                sequence=1,
                acknowledgment=2,
                window=3,
                options=(("mss", "1460"), ("no-operation", "")),
                source="AF_PACKET",
                raw=b"",
            ),
            ("SYN-ACK", "mss 1460."),
        ),
        (
            AlertTraced(direction=Direction.RECEIVED, epoch=Epoch.INITIAL, description=40),
            ("handshake_failure", "received in the open", "nothing in common"),
        ),
        (
            AlertTraced(direction=Direction.SENT, epoch=Epoch.HANDSHAKE, description=199, reason="\x1b[2J"),
            ("0xc7", "handshake keys", "\\x1b[2J"),
        ),
        (ClosedTraced(direction=Direction.RECEIVED, how="truncated"), ("the peer's", "cut off")),
    ],
)
def test_describe_says_the_facts(event: TraceEvent, words: tuple[str, ...]) -> None:
    told = describe(event)
    assert all(word in told for word in words), told
    assert told.isprintable()


def test_alerts_explained_are_alerts() -> None:
    known = {value for name, value in vars(AlertDescription).items() if not name.startswith("_")}
    assert set(ALERTS) <= known


# ---- fields --------------------------------------------------------------------------------------------------------


def traced(kind: int, body: object) -> MessageTraced:
    return MessageTraced(direction=Direction.SENT, epoch=Epoch.INITIAL, message_type=kind, raw=bytes(4), body=body)


def test_fields_of_the_hellos_are_what_was_offered_and_chosen(traces: tuple[Recorder, Recorder]) -> None:
    rows = {event.message_type: dict(message_fields(event)) for event in traces[0].of(MessageTraced)}
    hello, answer = rows[HandshakeType.CLIENT_HELLO], rows[HandshakeType.SERVER_HELLO]
    assert hello["server name"] == "localhost"
    assert hello["key shares"] == "X25519MLKEM768 (1216 bytes), x25519 (32 bytes)"
    assert "GREASE" not in str(hello)
    assert answer["suite"] == "TLS_AES_128_GCM_SHA256"
    assert answer["key share"] == "X25519MLKEM768 (1120 bytes)"
    compressed = rows[HandshakeType.COMPRESSED_CERTIFICATE]
    (told,) = traces[0].of(CertificateDecompressed)
    assert compressed == {"algorithm": "zlib", "size": f"{told.compressed_size} bytes for {told.size}"}
    leaf = dict(message_fields(told))["leaf"]
    assert leaf.startswith("localhost (EC secp256r1), issued by Pellucid test root")
    assert rows[HandshakeType.CERTIFICATE_VERIFY]["scheme"] == "ecdsa_secp256r1_sha256"


def test_fields_limit_counts_the_rest(traces: tuple[Recorder, Recorder]) -> None:
    hello = traces[0].of(MessageTraced)[0]
    short, long = dict(message_fields(hello, limit=1)), dict(message_fields(hello))
    count = len(long["signatures"].split(", "))
    assert short["signatures"] == f"{long['signatures'].split(', ')[0]} and {count - 1} more"


def test_fields_of_malformed_extensions_are_named_not_raised() -> None:
    hello = ClientHello(0x0303, bytes(32), b"", (0x1301,), b"\0", (Extension(43, b"\xff"), Extension(51, b"")))
    assert dict(message_fields(traced(HandshakeType.CLIENT_HELLO, hello)))["extensions"] == (
        "not well-formed (supported_versions, key_share)"
    )


def test_fields_escape_what_a_peer_could_do_to_a_terminal() -> None:
    chosen = EncryptedExtensions((Extension(16, b"\x00\x06\x05\x1b[31m"),))
    rows = dict(message_fields(traced(HandshakeType.ENCRYPTED_EXTENSIONS, chosen)))
    assert rows["protocol"] == "\\x1b[31m"


def test_fields_of_an_unknown_message_are_its_size() -> None:
    assert dict(message_fields(traced(200, object()))) == {"body": "0 bytes"}


# ---- ladder --------------------------------------------------------------------------------------------------------


def drawn(lines: list[Line]) -> list[str]:
    return [plain(one) for one in lines]


@pytest.mark.parametrize("width", [64, 80, 120])
@pytest.mark.parametrize("end", [0, 1])
def test_ladder_draws_every_message_its_way_in_width(traces: tuple[Recorder, Recorder], width: int, end: int) -> None:
    lines = drawn(ladder(traces[end].recorded, width=width, detail=drawing.MESSAGES))
    arrows = lines[1:]
    messages = traces[end].of(MessageTraced)
    assert len(arrows) == len(messages) >= 8
    for text, event in zip(arrows, messages, strict=True):
        from_client = (event.direction is Direction.SENT) is (end == 0)
        assert text.startswith("  ├─ " if from_client else "  │◀─ ")
        assert f" {len(event.raw)} bytes · " in text
        assert ("🔒" in text) is (event.epoch is not Epoch.INITIAL)
    assert {cells(text) for text in arrows} == {width - 2}


@pytest.mark.parametrize("detail", [drawing.FIELDS, drawing.NOTES, drawing.WORK])
def test_ladder_shows_no_secret_and_more_with_detail(traces: tuple[Recorder, Recorder], detail: int) -> None:
    text = "".join(drawn(ladder(traces[0].events, detail=detail)))
    assert not any(secret in text for secret in secret_hexes(*traces))
    assert "CertificateVerify (ecdsa_secp256r1_sha256) is right" in text
    assert ("c hs traffic" in text) is (detail >= drawing.NOTES)
    assert ("A record of" in text) is (detail >= drawing.WORK)


def test_ladder_lines_fill_the_width(traces: tuple[Recorder, Recorder]) -> None:
    lines = drawn(ladder(traces[0].events, width=80, detail=drawing.WORK, meanings=True))
    assert {cells(text) for text in lines} == {78}


def test_ladder_printer_draws_as_it_happens_what_ladder_draws_after(traces: tuple[Recorder, Recorder]) -> None:
    live: list[Line] = []
    printer = LadderPrinter(live.append, width=80)
    seen = 0
    for event in traces[0].events:
        printer(event)
        assert len(live) >= seen
        seen = len(live)
    assert live == ladder(traces[0].events, width=80)


def test_ladder_draws_a_retry_and_client_certificates() -> None:
    client, _server, *_ = shake(
        ClientConfig(
            trust=ROOT.trust, key_shares=(G.X25519,), groups=(G.SECP256R1, G.X25519), credentials=(CREDENTIAL,)
        ),
        ServerConfig(
            credentials=(CREDENTIAL,),
            groups=(G.SECP256R1,),
            client_authentication=ClientAuthentication.REQUIRED,
            client_trust=ROOT.trust,
        ),
    )
    lines = drawn(ladder(client.events, detail=drawing.MESSAGES))
    names = [text.split("─ ")[1].split(" ")[0] for text in lines[1:]]
    assert names[:4] == ["ClientHello", "HelloRetryRequest", "ClientHello", "ServerHello"]
    assert names[5:10] == [
        "CertificateRequest",
        "CompressedCertificate",
        "CertificateVerify",
        "Finished",
        "Certificate",
    ]
    fields = "\n".join(drawn(ladder(client.events)))
    assert "asks for     a key share for secp256r1" in fields


# ---- key log -------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9850 §2", "label, client_random and secret in hex, one line each")
def test_key_log_holds_the_secrets_of_both_ends_alike(tmp_path: Path) -> None:
    paths = tmp_path / "client", tmp_path / "server"
    client, _server, connection, _peer = shake(
        ClientConfig(trust=ROOT.trust), ServerConfig(credentials=(CREDENTIAL,)), *map(KeyLogWriter, paths)
    )
    logs = [path.read_text("ascii").splitlines() for path in paths]
    assert sorted(logs[0]) == sorted(logs[1])
    assert connection.negotiated is not None
    labels = {event.keylog: event.secret for event in client.of(SecretDerived) if event.keylog}
    assert len(logs[0]) == len(labels) == 5
    for row in logs[0]:
        label, random, secret = row.split(" ")
        assert label in LABELS
        assert random == connection.negotiated.client_random.hex()
        assert secret == labels[label].reveal().hex()


def test_key_log_is_for_its_owner_and_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "keys.log"
    for _ in range(2):
        shake(ClientConfig(trust=ROOT.trust), ServerConfig(credentials=(CREDENTIAL,)), KeyLogWriter(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text("ascii").splitlines()) == 10


def test_key_log_that_cannot_be_written_fails_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        KeyLogWriter(tmp_path / "missing" / "keys.log")


def test_key_log_on_a_full_disk_breaks_no_connection() -> None:
    need(None if Path("/dev/full").exists() else "the system has no device that is always full")
    log = KeyLogWriter("/dev/full")
    shake(ClientConfig(trust=ROOT.trust), ServerConfig(credentials=(CREDENTIAL,)), log)
    assert log.problem is not None
    assert log.problem.errno == errno.ENOSPC


# ---- key schedule --------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §7.1", "every secret is its parent's HKDF with its label")
@pytest.mark.parametrize("suite", [CS.TLS_AES_128_GCM_SHA256, CS.TLS_AES_256_GCM_SHA384])
def test_tree_edges_can_be_computed_again(suite: int) -> None:
    client, *_ = shake(ClientConfig(trust=ROOT.trust, suites=(suite,)), ServerConfig(credentials=(CREDENTIAL,)))
    used = next(item for item in PYCA.suites if item.code == suite)
    shared = client.of(SharedSecretComputed)[0].secret.reveal()
    root = key_schedule(client.events)
    assert root is not None
    edges = 0

    def check(parent: Node) -> None:
        nonlocal edges
        prf = Prf(used, parent.secret.reveal())
        for node in parent.children:
            value = node.secret.reveal()
            if node.method == "HKDF-Extract":
                assert value == prf.hmac(shared if node.takes == "shared secret" else bytes(used.hash_length))
            elif node.method == "Derive-Secret":
                assert value == prf.derive_secret(node.label.encode(), node.context)
            else:
                assert value == prf.expand_label(node.label.encode(), node.context, len(value))
            edges += 1
            check(node)

    check(root)
    drawn_names = [node.name for node in root.walk()]
    assert edges == len(drawn_names) - 1
    assert {event.name for event in client.of(SecretDerived)} <= set(drawn_names)
    assert len(drawn_names) == len(set(drawn_names))
    assert {node.label for node in root.walk()} >= {
        "key",
        "iv",
        "finished",
        "c ap traffic",
        "exp master",
        "traffic upd",
    }


@pytest.mark.parametrize("reveal", [False, True])
def test_tree_lines_show_secrets_only_when_revealed(traces: tuple[Recorder, Recorder], reveal: bool) -> None:
    root = key_schedule(traces[0].events)
    assert root is not None
    text = "\n".join(map(plain, tree_lines(root, 80, Shown(reveal))))
    for node in root.walk():
        assert node.secret.fingerprint() in text
        assert (node.secret.reveal().hex() in text) is reveal


def test_tree_of_a_connection_without_secrets_is_none() -> None:
    assert key_schedule([]) is None


# ---- text ----------------------------------------------------------------------------------------------------------


def test_wrap_keeps_every_word_style_and_the_width() -> None:
    original = line(Span("one two", "strong"), " three-and-a-half four", Span(" five", "good"), " six")
    lines = wrap(original, 16, first=line("* "))
    assert [plain(one) for one in lines] == ["* one two", "  three-and-a-half", "  four five six"]
    assert Span("five", "good") in lines[2] or Span(" five", "good") in lines[2]


def test_text_values() -> None:
    assert escaped("a\x1b[0m\n\u202eb") == "a\\x1b[0m\\n\\u202eb"
    assert shortened(bytes(40)) == f"{'00' * 8}…{'00' * 4}"
    assert shortened(b"\x01\x02") == "0102"
    assert cells("🔒 a") == 4
