"""Handshakes for OpenTelemetry: `tls.*` attributes of its semantic conventions' registry, and a span for each.

https://opentelemetry.io/docs/specs/semconv/registry/attributes/tls/ has the names. Values that a peer chose are escaped
and bounded; whole certificates are left out unless they are asked for.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
from collections.abc import Sequence
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry import trace as api
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider

from pellucid._version import __version__
from pellucid.crypto.certificates import parse_certificate
from pellucid.errors import PeerError
from pellucid.explain.ja3 import ja3, ja3s
from pellucid.explain.recorder import Recorder
from pellucid.explain.text import escaped
from pellucid.integrations.handshakes import Handshake, HandshakeReporter, handshake_of
from pellucid.registry import alert_name, group_name, is_grease, suite_name
from pellucid.trace import Observer, Role, TraceEvent

__all__ = ["Telemetry", "attributes"]

Value = str | bool | int | Sequence[str]

_SPAN: Final = "TLS handshake"
_NANOSECONDS: Final = 1_000_000_000
_SHOWN: Final = 256  # characters of a name
_SUITES: Final = 64
_CHAIN: Final = 10


def attributes(handshake: Handshake | Recorder, *, certificates: bool = False) -> dict[str, Value]:
    """Return the attributes of a handshake that is over. certificates: whether whole ones are among them."""
    one = handshake_of(handshake) if isinstance(handshake, Recorder) else handshake
    found: dict[str, Value] = {"tls.protocol.name": "tls", "tls.established": one.completed}
    if one.completed:
        found["tls.protocol.version"] = "1.3"
        found["tls.resumed"] = one.resumed
        if one.cipher_suite is not None:
            found["tls.cipher"] = suite_name(one.cipher_suite)
        if one.group is not None:
            found["tls.curve"] = group_name(one.group)
        if one.alpn is not None:
            found["tls.next_protocol"] = one.alpn
    else:
        found["error.type"] = one.code
        if one.alert is not None:
            found["pellucid.alert"] = alert_name(one.alert)
    if one.server_name is not None:
        found["server.address"] = one.server_name
    if one.early_data is not None:
        found["pellucid.early_data"] = one.early_data.name.lower()
    if one.client_hello is not None:
        found["tls.client.ja3"] = ja3(one.client_hello)
        suites = [suite_name(code) for code in one.client_hello.cipher_suites if not is_grease(code)]
        found["tls.client.supported_ciphers"] = suites[:_SUITES]
    if one.server_hello is not None:
        found["tls.server.ja3s"] = ja3s(one.server_hello)
    for role, chain in one.certificates.items():
        if chain:
            found.update(_certificate_attributes(f"tls.{role.value}", chain, whole=certificates))
    return found


def _certificate_attributes(prefix: str, chain: tuple[bytes, ...], *, whole: bool) -> dict[str, Value]:
    found: dict[str, Value] = {f"{prefix}.hash.sha256": hashlib.sha256(chain[0]).hexdigest().upper()}
    try:
        leaf = parse_certificate(chain[0]).x509
        found[f"{prefix}.subject"] = _bounded(leaf.subject.rfc4514_string())
        found[f"{prefix}.issuer"] = _bounded(leaf.issuer.rfc4514_string())
        found[f"{prefix}.not_before"] = _moment(leaf.not_valid_before_utc)
        found[f"{prefix}.not_after"] = _moment(leaf.not_valid_after_utc)
    except (PeerError, ValueError):  # a raw public key, or what nobody can read: its hash is all there is to say
        return found
    if whole:
        found[f"{prefix}.certificate_chain"] = [base64.b64encode(der).decode("ascii") for der in chain[:_CHAIN]]
    return found


def _bounded(text: str) -> str:
    return escaped(text)[:_SHOWN]


def _moment(when: datetime.datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%S.000Z}"


class Telemetry(HandshakeReporter):
    """Tells a tracer of handshakes: `ClientConfig(trace=Telemetry())`.

    Each has a span of its own below the span in which its connection was made; that span, an HTTP client's for one, is
    given the attributes too.

    tracer_provider: default: the global one.
    spans:           whether handshakes have spans of their own.   current: whether the span around gets attributes.
    certificates:    whether whole certificates are among the attributes.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        *,
        spans: bool = True,
        current: bool = True,
        certificates: bool = False,
    ) -> None:
        self._tracer = api.get_tracer("pellucid", __version__, tracer_provider)
        self._spans = spans
        self._current = current
        self._certificates = certificates

    def __call__(self) -> Observer:
        """Return the observer of a new connection, which is in the present span's context."""
        return _InContext(self).observer

    def tell(self, handshake: Handshake) -> None:
        self.tell_in(handshake, contexts.get_current())

    def tell_in(self, handshake: Handshake, around: contexts.Context) -> None:
        """Tell of *handshake* as a part of what the context *around* is about."""
        found: dict[str, Any] = dict(attributes(handshake, certificates=self._certificates))  # Any: the API's type
        outer = api.get_current_span(around)
        if self._current and outer.is_recording():
            outer.set_attributes(found)
        if self._spans:
            self._span(handshake, around, found)

    def _span(self, handshake: Handshake, around: contexts.Context, found: dict[str, Any]) -> None:
        start = int(handshake.started_at * _NANOSECONDS)
        span: Span = self._tracer.start_span(_SPAN, around, kind=SpanKind.INTERNAL, attributes=found, start_time=start)
        if not handshake.completed:
            span.set_status(Status(StatusCode.ERROR, f"{handshake.code}: {handshake.reason}"))
        span.end(start + int(handshake.seconds * _NANOSECONDS))


class _InContext(HandshakeReporter):
    """One connection's reporter, which remembers the context that it was made in."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._around = contexts.get_current()
        self.observer = super().__call__()

    def tell(self, handshake: Handshake) -> None:
        self._telemetry.tell_in(handshake, self._around)

    def later(self, role: Role, event: TraceEvent) -> None:
        """Spans are of handshakes alone."""
