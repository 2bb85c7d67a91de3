"""docs/guides/observability.md: its code runs in order, and the names that it gives are the ones there are."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

import pellucid
from pellucid.explain.recorder import Recorder
from pellucid.integrations import opentelemetry as ours
from pellucid.integrations import prometheus
from pellucid.testing.faults import FaultyServer
from tests.support.pair import Pair, authority, credential, events_of, server_config

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "observability.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


def test_guide_runs_and_says_what_it_says(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    registry, exporter, provider = CollectorRegistry(), InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(prometheus, "REGISTRY", registry)
    monkeypatch.setattr(prometheus.Metrics.__init__, "__defaults__", (registry,))
    monkeypatch.setattr(ours.api, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    names: dict[str, Any] = {"credential": credential(), "pellucid": pellucid}
    configs = []
    assert len(BLOCKS) == 6
    for text in BLOCKS:
        exec(compile(text, "guide", "exec"), names)
        configs.append(names["config"])
    caplog.set_level(logging.INFO, "pellucid.handshake")
    Pair.of(None, server_config(trace=configs[2].trace)).connect()
    with FaultyServer("expired") as server, pytest.raises(pellucid.CertificateRejected):
        failures = names["Failures"]()
        trace = names["several"](configs[4].trace, failures)
        config = pellucid.ClientConfig(trust=server.client_config.trust, trace=trace)
        pellucid.connect(server.address, server.port, config, server_name=server.host)
    assert failures.codes == ["X509-EXPIRED"]
    (record,) = caplog.records
    said = "X509-EXPIRED (sent certificate_expired): certificate_expired: the leaf 'localhost' expired on"
    assert said in record.getMessage()
    for name in re.findall("`([a-z_]+)`", GUIDE.partition("attribute `pellucid`:")[2].partition(".\n")[0]):
        assert name in vars(record)["pellucid"]
    text = generate_latest(registry).decode()
    for name in re.findall(r"^\| `(pellucid_[a-z_]+)`", GUIDE, re.MULTILINE):
        assert f"# TYPE {name}" in text or f"# TYPE {name} " in text, name
    (span,) = exporter.get_finished_spans()
    assert dict(span.attributes or {})["error.type"] == "X509-EXPIRED"


def test_guide_names_attributes_that_there_are() -> None:
    seen = Recorder()
    pair = Pair.of(
        pellucid.ClientConfig(trust=authority().trust, alpn=("h2",), trace=lambda: seen), server_config(alpn=("h2",))
    )
    pair.pump()
    assert events_of(pair.client)[1] is None
    found = ours.attributes(seen)
    for name in re.findall(r"`(tls\.[a-z0-9_.]+)`", GUIDE):
        assert name in found, name
