"""Logs, metrics and spans of handshakes, by the real libraries: what they say, what they never say, what they load."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from prometheus_client import CollectorRegistry, generate_latest

import pellucid
from pellucid.explain.ja3 import ja3, ja3s
from pellucid.explain.recorder import Recorder
from pellucid.handshake.actions import EarlyDataOutcome
from pellucid.integrations.handshakes import Handshake, HandshakeReporter, handshake_of, several
from pellucid.integrations.logging import log_to
from pellucid.integrations.opentelemetry import Telemetry, attributes
from pellucid.integrations.prometheus import Metrics
from pellucid.messages.handshake import ClientHello, Extension, ServerHello
from pellucid.net.listener import listen
from pellucid.net.sync import connect
from pellucid.registry import AlertDescription
from pellucid.testing.ca import CA
from pellucid.testing.faults import FaultyServer
from pellucid.trace import AlertTraced, Direction, Epoch, HandshakeCompleted, Observer, Role, TraceEvent
from tests.support.pair import Pair, asking_server_config, authority, client_config, events_of, server_config

LOG = "pellucid.handshake"


def met(client: Any = None, server: Any = None, **changes: Any) -> Pair:
    """A pair whose ends report to these, after a handshake and a ticket."""
    pair = Pair.of(
        client_config(trace=client, alpn=("h2",)),
        server_config(trace=server, alpn=("h2",), tickets=1, **changes),
    )
    pair.pump()
    for connection in (pair.client, pair.server):
        events, error = events_of(connection)
        assert error is None
        assert isinstance(events[0], pellucid.HandshakeComplete)
    return pair


class Kept(HandshakeReporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.handshakes: list[Handshake] = []
        self.after: list[TraceEvent] = []

    def tell(self, handshake: Handshake) -> None:
        self.handshakes.append(handshake)

    def later(self, role: Role, event: TraceEvent) -> None:
        self.after.append(event)


def refused(fault: str, trace: Any) -> None:
    """A client that meets a faulty server, and reports to *trace*."""
    with FaultyServer(fault) as server, pytest.raises(OSError):
        config = replace(server.client_config, trace=trace)
        with connect(server.address, server.port, config, server_name=server.host, timeout=10) as stream:
            stream.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            stream.read_to_end()


# ---- what a handshake was --------------------------------------------------------------------------------------------


def test_reporter_is_told_once_by_each_end() -> None:
    client, server = Kept(), Kept()
    met(client, server)
    for kept, role in ((client, Role.CLIENT), (server, Role.SERVER)):
        (one,) = kept.handshakes
        assert (one.role, one.completed, one.code, one.alert) == (role, True, "", None)
        assert (one.alpn, one.resumed, one.early_data) == ("h2", False, None)
        assert 0 < one.seconds < 10
        assert set(one.certificates) == {Role.SERVER}
    assert len(server.after) == 1  # the ticket


def test_reporter_tells_of_failures_with_diagnosis_and_alert() -> None:
    kept = Kept()
    refused("expired", kept)
    (one,) = kept.handshakes
    assert (one.completed, one.code, one.alert_sent) == (False, "X509-EXPIRED", True)
    assert (one.alert, one.server_name) == (AlertDescription.CERTIFICATE_EXPIRED, "localhost")
    refused("closed-at-once", kept)
    assert kept.handshakes[1].code == "PEER-CLOSED-EARLY"
    assert kept.handshakes[1].alert is None


def test_reporter_tells_of_resumption_and_early_data() -> None:
    client, server = Kept(), Kept()
    base = server_config(trace=server, tickets=2, tickets_on_resumption=1, max_early_data=1000)
    mine = client_config(trace=client, early_data=True)
    with listen("127.0.0.1", 0, base) as listener:
        thread = threading.Thread(target=listener.serve, args=(lambda stream: stream.sendall(b"hi"),), daemon=True)
        thread.start()
        for early in (b"", b"early"):
            port = listener.address[1]
            with connect("127.0.0.1", port, mine, server_name="pair.test", early_data=early) as stream:
                assert stream.read_to_end() == b"hi"
    thread.join(10)
    for kept in (client, server):
        assert [one.resumed for one in kept.handshakes] == [False, True]
        assert kept.handshakes[1].early_data is EarlyDataOutcome.ACCEPTED


def test_reporter_tells_of_a_stranger_at_a_servers_door() -> None:
    kept = Kept()
    server = pellucid.Connection.server(server_config(trace=kept))
    with pytest.raises(pellucid.TLSError):
        server.receive_data(b"GET / HTTP/1.1\r\n\r\n")
        server.next_event()
    (one,) = kept.handshakes
    assert (one.role, one.code) == (Role.SERVER, "PEER-PLAIN-HTTP")


def test_reporter_that_raises_breaks_no_connection(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(HandshakeReporter):
        def tell(self, handshake: Handshake) -> None:
            raise RuntimeError("the backend is away")

    met(Broken(), Broken())
    assert [record.getMessage() for record in caplog.records] == ["a handshake could not be reported"] * 2


def test_several_traces_are_asked_and_none_is_left_out() -> None:
    first, second = Kept(), Kept()
    met(several(first, None, second, lambda: None))
    assert len(first.handshakes) == len(second.handshakes) == 1


def test_reporter_forgets_what_is_over() -> None:
    kept = Kept()
    observer = kept()
    events: list[TraceEvent] = []
    met(lambda: events.append)
    for event in events:
        observer(event)
    assert vars(observer)["_recorder"] is None
    assert len(kept.handshakes) == 1


# ---- logs ------------------------------------------------------------------------------------------------------------


def test_log_has_one_line_for_each_handshake(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOG)
    met(pellucid.log_to(), pellucid.log_to())
    refused("wrong-name", pellucid.log_to())
    texts = [record.getMessage() for record in caplog.records if record.name == LOG]
    assert len(texts) == 3
    assert sum(text.startswith("client handshake for ") for text in texts) == 2
    assert all(" ms: TLS_AES_128_GCM_SHA256, x25519, h2" in text for text in texts[:2])
    assert texts[2].startswith("client handshake for localhost failed after ")
    assert "X509-WRONG-NAME (sent bad_certificate)" in texts[2]
    levels = [record.levelno for record in caplog.records if record.name == LOG]
    assert levels == [logging.INFO, logging.INFO, logging.WARNING]
    facts = vars(caplog.records[-1])["pellucid"]
    assert (facts["code"], facts["completed"], facts["alert_sent"]) == ("X509-WRONG-NAME", False, True)


def test_log_is_silent_where_nobody_asked() -> None:
    program = (
        "import pellucid, pellucid.integrations.logging as l; from tests.support.pair import Pair, client_config;"
        "from pellucid.testing.ca import CA\n"
        "config = client_config(trace=pellucid.log_to())\n"
        "Pair.of(config).connect()\n"
        "from pellucid.integrations.handshakes import Handshake; from pellucid.trace import Role\n"
        "l.log_to().tell(Handshake(role=Role.CLIENT, started_at=0, seconds=0, completed=False, code='X', reason='r'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, encoding="utf-8", timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("text", ["a\nERROR forged line", "a\r\x1b[2Jb", "x" * 5000, "\u2028line", "%s%d%n"])
def test_log_line_stays_a_line_whatever_the_peer_sends(text: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOG)
    recorder = Recorder()
    recorder(
        AlertTraced(direction=Direction.SENT, epoch=Epoch.HANDSHAKE, description=42, reason=f"for {text}", code="")
    )
    log_to().on_handshake(recorder)
    done = HandshakeCompleted(
        role=Role.SERVER, cipher_suite=0x1301, group=29, alpn=text, server_name=text, client_random=bytes(32)
    )
    recorder = Recorder()
    recorder(done)
    log_to().on_handshake(recorder)
    assert len(caplog.records) == 2
    for record in caplog.records:
        assert record.getMessage().isprintable()
        assert len(record.getMessage()) < 700
        assert all(str(value).isprintable() for value in vars(record)["pellucid"].values())


def test_log_certificate_with_line_breaks_in_its_name_forges_no_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOG)
    leaf = CA("nobody\nERROR root:forged").issue("localhost", common_name="x\ny")
    credential = pellucid.Credential.from_pem(leaf.chain_pem, leaf.key_pem)
    config = pellucid.ServerConfig(credentials=(credential,))
    with listen("127.0.0.1", 0, config) as listener:
        thread = threading.Thread(target=listener.serve, args=(lambda stream: stream.close(),), daemon=True)
        thread.start()
        mine = pellucid.ClientConfig(trust=CA().trust, trace=log_to())
        with pytest.raises(pellucid.CertificateRejected):
            connect("127.0.0.1", listener.address[1], mine, server_name="localhost", timeout=10)
    thread.join(10)
    (record,) = (one for one in caplog.records if one.name == LOG)
    assert record.getMessage().isprintable()


def test_log_of_an_ssl_shaped_context(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOG)
    context = pellucid.SSLContext(server_config())
    context.on_handshake(log_to().on_handshake)
    mine = pellucid.SSLContext(client_config(trace=log_to("pellucid.handshake.mine")))
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=lambda: context.wrap_socket(theirs, server_side=True).close())
    thread.start()
    mine.wrap_socket(ours, server_hostname="pair.test").close()
    thread.join(10)
    assert {record.name for record in caplog.records} == {LOG, "pellucid.handshake.mine"}


def test_log_has_nothing_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    seen = Recorder()
    met(several(log_to(), lambda: seen), log_to())
    text = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert len(caplog.records) == 2
    for secret in seen.secrets.values():
        assert secret.reveal().hex() not in text
        assert repr(secret.reveal()) not in text


# ---- metrics ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_metrics_count_handshakes_tickets_and_alerts(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    pair = met(metrics, metrics)
    pair.client.close()
    pair.pump()
    refused("expired", metrics)
    good = {"result": "completed", "alert": "", "code": "", "suite": "TLS_AES_128_GCM_SHA256", "group": "x25519"}
    for role in ("client", "server"):
        assert sample(registry, "pellucid_handshakes_total", role=role, resumed="false", **good) == 1
        assert sample(registry, "pellucid_handshake_seconds_count", role=role, result="completed") == 1
    bad = {"result": "failed", "alert": "certificate_expired", "code": "X509-EXPIRED", "suite": "", "group": ""}
    assert sample(registry, "pellucid_handshakes_total", role="client", resumed="false", **bad) == 1
    assert sample(registry, "pellucid_tickets_total", role="server", direction="sent") == 1
    assert sample(registry, "pellucid_alerts_total", role="server", direction="received", alert="close_notify") == 1


def test_metrics_tell_resumption_and_early_data(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    base = Handshake(role=Role.SERVER, started_at=0.0, seconds=0.01, completed=True, cipher_suite=0x1301, group=29)
    metrics.tell(replace(base, resumed=True, early_data=EarlyDataOutcome.REPLAYED))
    assert sample(registry, "pellucid_early_data_total", role="server", outcome="replayed") == 1
    text = generate_latest(registry).decode()
    assert 'resumed="true"' in text


def test_metrics_labels_are_bounded_whatever_peers_send(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    for number in range(300):
        metrics.tell(
            Handshake(
                role=Role.SERVER,
                started_at=0.0,
                seconds=0.01,
                completed=False,
                code=f"MADE-UP-{number}",
                reason=f"host{number}.evil.test",
                alert=number % 256,
                server_name=f"host{number}.evil.test",
                alpn=f"protocol{number}",
            )
        )
        metrics.tell(
            Handshake(role=Role.SERVER, started_at=0.0, seconds=0.01, completed=True, cipher_suite=number, group=number)
        )
    text = generate_latest(registry).decode()
    assert "evil" not in text
    assert "protocol1" not in text
    series = [row for row in text.splitlines() if row.startswith("pellucid_handshakes_total")]
    assert len(series) < 100  # alerts and groups that have a name, and "other"
    assert 'code="other"' in text


def test_metrics_have_the_ends_of_certificates(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    config = server_config()
    leaf = config.credentials[0].leaf.x509  # type: ignore[union-attr]
    reloading = pellucid.ReloadingConfig(lambda: config)
    metrics.watch_certificates(config, "plain")
    metrics.watch_certificates(reloading, "main")
    reloading.reload()
    found = [
        one
        for metric in registry.collect()
        for one in metric.samples
        if one.name == "pellucid_certificate_not_after_timestamp_seconds"
    ]
    assert {one.labels["listener"]: one.value for one in found} == {
        "plain": leaf.not_valid_after_utc.timestamp(),
        "main": leaf.not_valid_after_utc.timestamp(),
    }
    assert sample(registry, "pellucid_config_reloads_total", listener="main") == reloading.status.reloads
    assert sample(registry, "pellucid_config_reload_failures_total", listener="main") == 0


# ---- spans -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def spans() -> Iterator[tuple[TracerProvider, InMemorySpanExporter]]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter
    provider.shutdown()


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_telemetry_spans_have_the_registrys_attributes(spans: tuple[TracerProvider, InMemorySpanExporter]) -> None:
    provider, exporter = spans
    telemetry = Telemetry(provider)
    with provider.get_tracer("test").start_as_current_span("request") as outer:
        met(telemetry, telemetry)
    first, second, request = exporter.get_finished_spans()
    for span in (first, second):
        found = attributes_of(span)
        assert span.name == "TLS handshake"
        assert span.parent is not None
        assert span.parent.span_id == outer.get_span_context().span_id
        assert found["tls.protocol.name"] == "tls"
        assert found["tls.protocol.version"] == "1.3"
        assert found["tls.cipher"] == "TLS_AES_128_GCM_SHA256"
        assert found["tls.curve"] == "x25519"
        assert found["tls.next_protocol"] == "h2"
        assert (found["tls.established"], found["tls.resumed"]) == (True, False)
        assert len(found["tls.server.hash.sha256"]) == 64
        assert found["tls.server.hash.sha256"].isupper()
        assert found["tls.server.not_after"].endswith("Z")
        assert found["tls.server.subject"].startswith("CN=")
        assert "tls.server.certificate_chain" not in found
        assert len(found["tls.client.ja3"]) == len(found["tls.server.ja3s"]) == 32
        assert "TLS_AES_256_GCM_SHA384" in found["tls.client.supported_ciphers"]
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.end_time > span.start_time
    assert attributes_of(first)["tls.client.ja3"] == attributes_of(second)["tls.client.ja3"]
    assert attributes_of(request)["tls.established"] is True


def test_telemetry_of_a_failure_is_an_error(spans: tuple[TracerProvider, InMemorySpanExporter]) -> None:
    provider, exporter = spans
    refused("self-signed", Telemetry(provider))
    (span,) = exporter.get_finished_spans()
    found = attributes_of(span)
    assert (found["error.type"], found["tls.established"]) == ("X509-SELF-SIGNED", False)
    assert found["pellucid.alert"] == "unknown_ca"
    assert span.status.status_code is StatusCode.ERROR
    assert "tls.protocol.version" not in found


def test_telemetry_has_the_clients_certificate_too(spans: tuple[TracerProvider, InMemorySpanExporter]) -> None:
    provider, exporter = spans
    leaf = authority().issue(common_name="Alice", purposes=("client",))
    mine = pellucid.Credential.from_pem(leaf.chain_pem, leaf.key_pem)
    pair = Pair.of(client_config(credentials=(mine,)), asking_server_config(trace=Telemetry(provider)))
    pair.connect()
    (span,) = exporter.get_finished_spans()
    found = attributes_of(span)
    assert found["tls.client.subject"] == "CN=Alice"
    assert found["tls.server.subject"] != "CN=Alice"


def test_telemetry_without_spans_marks_the_current_one(spans: tuple[TracerProvider, InMemorySpanExporter]) -> None:
    provider, exporter = spans
    with provider.get_tracer("test").start_as_current_span("request"):
        met(Telemetry(provider, spans=False, certificates=True))
    (span,) = exporter.get_finished_spans()
    assert len(attributes_of(span)["tls.server.certificate_chain"]) == 2


def test_telemetry_of_a_record_and_of_on_handshake(spans: tuple[TracerProvider, InMemorySpanExporter]) -> None:
    provider, exporter = spans
    seen = Recorder()
    met(lambda: seen)
    Telemetry(provider).on_handshake(seen)
    (span,) = exporter.get_finished_spans()
    assert attributes_of(span) == {
        name: tuple(value) if isinstance(value, list) else value for name, value in attributes(seen).items()
    }
    assert handshake_of(seen).role is Role.CLIENT


def test_telemetry_bounds_what_peers_choose() -> None:
    leaf = CA("a\nb").issue("server.test", common_name="x\x1b[2J" + "y" * 50)
    one = Handshake(
        role=Role.CLIENT, started_at=0.0, seconds=0.0, completed=True, certificates={Role.SERVER: leaf.chain_der}
    )
    found = attributes(one)
    assert all(str(value).isprintable() for value in found.values())
    garbage = replace(one, certificates={Role.SERVER: (b"\x30\x03garbage",)})
    assert set(attributes(garbage)) >= {"tls.server.hash.sha256"}


def test_ja3_is_what_others_compute() -> None:
    hello = ClientHello(
        legacy_version=771,
        random=bytes(32),
        legacy_session_id=b"",
        cipher_suites=(0x0A0A, 4865, 4866),
        legacy_compression_methods=b"\0",
        extensions=(
            Extension(0x1A1A, b""),
            Extension(10, bytes.fromhex("0006 2a2a 001d 0017".replace(" ", ""))),
            Extension(11, bytes.fromhex("0100")),
        ),
    )
    import hashlib

    assert ja3(hello) == hashlib.md5(b"771,4865-4866,10-11,29-23,0").hexdigest()
    answer = ServerHello(
        legacy_version=771,
        random=bytes(32),
        legacy_session_id_echo=b"",
        cipher_suite=4865,
        legacy_compression_method=0,
        extensions=(Extension(51, b""), Extension(43, b"")),
    )
    assert ja3s(answer) == hashlib.md5(b"771,4865,51-43").hexdigest()


# ---- what it costs those who do not ask ------------------------------------------------------------------------------


def test_nothing_is_imported_unless_it_is_used() -> None:
    program = (
        "import sys, pellucid; from pellucid.integrations import ssl_context\n"
        "print(*[m for m in sys.modules if m.startswith(('opentelemetry', 'prometheus_client'))"
        " or m in ('pellucid.integrations.logging', 'pellucid.integrations.handshakes')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, encoding="utf-8", timeout=60, check=True
    )
    assert done.stdout.strip() == ""


def test_observer_is_of_one_connection() -> None:
    log = log_to()
    first: Observer = log()
    assert first is not log()
