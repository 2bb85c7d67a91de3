"""Handshakes, early data, alerts, tickets and certificates' ends as metrics of prometheus_client.

The labels are words of ours: names of the registry and codes of the diagnosis. No host name and nothing else that a
peer chooses is one, so that nobody from outside can make a time series.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final, Protocol

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pellucid.config import ServerConfig
from pellucid.crypto import own_chain
from pellucid.crypto.certificates import X509Certificate
from pellucid.explain.diagnosis.codes import CODES
from pellucid.integrations.handshakes import Handshake, HandshakeReporter
from pellucid.net.reload import CredentialStatus, ReloadStatus
from pellucid.registry import alert_name, group_name, suite_name
from pellucid.trace import AlertTraced, MessageTraced, Role, TraceEvent

__all__ = ["Metrics"]

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OTHER: Final = "other"


class _Reports(Protocol):
    """What tells how reloading went: a `pellucid.ReloadingConfig`."""

    @property
    def status(self) -> ReloadStatus: ...


class Metrics(HandshakeReporter):
    """Counts what a configuration's connections do: `ServerConfig(trace=Metrics())`, once in a process and registry.

    registry:  default: prometheus_client's own.   namespace: what the metrics' names begin with.
    buckets:   of the histogram of handshakes' durations, seconds.
    """

    def __init__(
        self,
        registry: CollectorRegistry = REGISTRY,
        *,
        namespace: str = "pellucid",
        buckets: Iterable[float] = _BUCKETS,
    ) -> None:
        self._registry = registry
        self._namespace = namespace
        common: dict[str, Any] = {"namespace": namespace, "registry": registry}  # Any: each argument's own type
        self._handshakes = Counter(
            "handshakes",
            "Handshakes that are over",
            ("role", "result", "alert", "code", "suite", "group", "resumed"),
            **common,
        )
        self._seconds = Histogram(
            "handshake_seconds",
            "From a handshake's first message to its end",
            ("role", "result"),
            buckets=tuple(buckets),
            **common,
        )
        self._early = Counter("early_data", "What became of 0-RTT data", ("role", "outcome"), **common)
        self._alerts = Counter(
            "alerts", "Alerts after the handshake, close_notify included", ("role", "direction", "alert"), **common
        )
        self._tickets = Counter("tickets", "NewSessionTickets", ("role", "direction"), **common)
        self._certificates = _Certificates(namespace)
        registry.register(self._certificates)

    def watch_certificates(self, source: ServerConfig | _Reports, name: str = "server") -> None:
        """Have the ends of *source*'s certificates among the metrics; of a ReloadingConfig how reloading went too.

        name: a word of yours for it, the label `listener`.
        """
        self._certificates.sources[name] = source

    def tell(self, handshake: Handshake) -> None:
        role, result = handshake.role.value, "completed" if handshake.completed else "failed"
        alert, suite, group = handshake.alert, handshake.cipher_suite, handshake.group
        self._handshakes.labels(
            role,
            result,
            "" if alert is None else _known(alert_name(alert)),
            handshake.code if not handshake.code or handshake.code in CODES else _OTHER,
            "" if suite is None else _known(suite_name(suite)),
            "" if group is None else _known(group_name(group)),
            "true" if handshake.resumed else "false",
        ).inc()
        self._seconds.labels(role, result).observe(handshake.seconds)
        if handshake.early_data is not None:
            self._early.labels(role, handshake.early_data.name.lower()).inc()

    def later(self, role: Role, event: TraceEvent) -> None:
        if isinstance(event, AlertTraced):
            name = _known(alert_name(event.description))
            self._alerts.labels(role.value, event.direction.value, name).inc()
        elif isinstance(event, MessageTraced):
            self._tickets.labels(role.value, event.direction.value).inc()


def _known(name: str) -> str:
    """Return the registry's name of a code point; of one that has none, which are shown in hex, a word for all."""
    return _OTHER if name.startswith("0x") else name


class _Certificates:
    """Looks at the certificates when it is asked: they change under it."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self.sources: dict[str, ServerConfig | _Reports] = {}

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        ends = GaugeMetricFamily(
            f"{self._namespace}_certificate_not_after_timestamp_seconds",
            "When the first certificate of a chain in use ends",
            labels=("listener", "credential", "key"),
        )
        reloads = CounterMetricFamily(
            f"{self._namespace}_config_reloads", "Configurations that took another's place", labels=("listener",)
        )
        failures = CounterMetricFamily(
            f"{self._namespace}_config_reload_failures", "Reloads that went wrong", labels=("listener",)
        )
        for name, source in list(self.sources.items()):
            if isinstance(source, ServerConfig):
                credentials = _statuses(source)
            else:
                status = source.status
                credentials = status.credentials
                reloads.add_metric((name,), status.reloads)
                failures.add_metric((name,), status.failures)
            for number, one in enumerate(credentials):
                if math.isfinite(one.not_after):
                    ends.add_metric((name, str(number), one.key_algorithm), one.not_after)
        return (ends, reloads, failures)


def _statuses(config: ServerConfig) -> tuple[CredentialStatus, ...]:
    found = [
        (credential, own_chain.lifetime(credential.chain))
        for credential in config.credentials
        if isinstance(credential.leaf, X509Certificate)
    ]
    return tuple(
        CredentialStatus(
            names=credential.names,
            key_algorithm=credential.leaf.key_algorithm,
            serial="",
            not_before=lifetime.begins,
            not_after=lifetime.ends,
        )
        for credential, lifetime in found
    )
