"""The steps of a connection as checks: which were taken, and at which it stopped. For what no certificate explains."""

from __future__ import annotations

from typing import Final

from pellucid.explain.diagnosis.inside import said
from pellucid.explain.diagnosis.report import Finding
from pellucid.explain.diagnosis.situation import Situation
from pellucid.explain.recorder import Recorder
from pellucid.explain.sentences import seconds as duration
from pellucid.messages.handshake import ServerHello
from pellucid.registry import HandshakeType as H
from pellucid.registry import handshake_type_name, suite_name
from pellucid.trace import Direction, HandshakeCompleted, MessageTraced
from pellucid.verify.report import Check, Outcome, names_of

__all__ = ["steps_of"]

_CLIENT: Final = (
    ("client hello", "ClientHello", {"START"}),
    ("server hello", "ServerHello", {"WAIT_SH"}),
    ("encrypted extensions", "EncryptedExtensions", {"WAIT_EE"}),
    ("certificate", "Certificate", {"WAIT_CERT_CR", "WAIT_CERT"}),
    ("certificate verify", "CertificateVerify", {"WAIT_CV"}),
    ("finished", "Finished", {"WAIT_FINISHED"}),
    ("application data", "data", {"CONNECTED", "CONNECTED_PHA"}),
)
_SERVER: Final = (
    ("client hello", "ClientHello", {"START"}),
    ("early data", "EndOfEarlyData", {"WAIT_EOED"}),
    ("client certificate", "Certificate", {"WAIT_CERT"}),
    ("client certificate verify", "CertificateVerify", {"WAIT_CV"}),
    ("client finished", "Finished", {"WAIT_FINISHED"}),
    ("application data", "data", {"CONNECTED", "WAIT_PHA", "WAIT_PHA_CV", "WAIT_PHA_FINISHED"}),
)
_ALWAYS: Final = {"server hello", "encrypted extensions", "finished", "client hello", "client finished"}
"""steps that every handshake has"""


def steps_of(found: Situation, phase: str) -> tuple[Finding, ...]:
    """Return what was checked: the certificates, if they are the matter, else the connection's steps."""
    if found.verification is not None and not found.verification.accepted:
        return _certificates(found.verification.checks)
    if phase in {"dns", "tcp"}:
        return _connecting(found, phase)
    if not found.known.role:
        return ()
    seen = {} if found.recorder is None else _seen(found.recorder)
    steps = [Finding("tcp", Outcome.PASSED, _where(found))] if found.known.address else []
    for name, message, states in _CLIENT if found.client else _SERVER:
        if found.known.state in states or (name == "certificate" and phase == "certificate" and name not in seen):
            steps.append(Finding(name, Outcome.FAILED if found.code != "OK" else Outcome.PASSED, said(found.error)))
            break
        if name in seen or name in _ALWAYS:
            steps.append(Finding(name, Outcome.PASSED, seen.get(name) or _taken(found, message)))
    if found.verification is not None:
        steps.insert(-1, Finding("certificate", Outcome.PASSED, found.verification.summary))
    return tuple(steps)


def _certificates(checks: tuple[Check, ...]) -> tuple[Finding, ...]:
    return tuple(
        Finding(f"{check.group.value} · {name}", check.outcome, check.evidence)
        for check, name in zip(checks, names_of(checks), strict=True)
    )


def _taken(found: Situation, message: str) -> str:
    return f"{message} was sent" if found.client and message == "ClientHello" else f"{message} came, and was right"


def _where(found: Situation) -> str:
    known = found.known
    verb = "connected to" if found.client else "accepted from"
    return f"{verb} {known.address} port {known.port}"


def _connecting(found: Situation, phase: str) -> tuple[Finding, ...]:
    attempts = getattr(found.error, "attempts", ())
    name = found.known.server_name or "the name"
    if phase == "dns":
        return (Finding("dns", Outcome.FAILED, said(found.error)),)
    several = "addresses" if len(attempts) > 1 else "address"
    literal = any(attempt.address.host == name for attempt in attempts)
    steps = [] if literal else [Finding("dns", Outcome.PASSED, f"{name} has {len(attempts)} {several}")]
    steps += [
        Finding("tcp", Outcome.FAILED, f"{attempt.address}: {attempt.reason}, after {duration(attempt.seconds)}")
        for attempt in attempts
    ]
    return tuple(steps) if attempts else (Finding("tcp", Outcome.FAILED, said(found.error)),)


_MESSAGES: Final = {
    H.SERVER_HELLO: "server hello",
    H.ENCRYPTED_EXTENSIONS: "encrypted extensions",
    H.CERTIFICATE: "certificate",
    H.COMPRESSED_CERTIFICATE: "certificate",
    H.CERTIFICATE_VERIFY: "certificate verify",
    H.FINISHED: "finished",
}


def _seen(recorder: Recorder) -> dict[str, str]:
    """Return what a record shows of each step that was taken."""
    steps: dict[str, str] = {}
    for seconds, event in recorder.recorded:
        if isinstance(event, MessageTraced) and event.direction is Direction.RECEIVED:
            name = handshake_type_name(event.message_type)
            text = f"{name}, {len(event.raw)} bytes, after {seconds * 1000:.1f} ms"
            if isinstance(event.body, ServerHello) and event.message_type == H.SERVER_HELLO:
                text += f": {suite_name(event.body.cipher_suite)}"
            step = _MESSAGES.get(event.message_type)
            if event.message_type == H.CLIENT_HELLO:
                step = "client hello"
            if step is not None:
                steps[step] = text
                steps[f"client {step}"] = text
        elif isinstance(event, HandshakeCompleted):
            steps["handshake"] = "complete"
    return steps
