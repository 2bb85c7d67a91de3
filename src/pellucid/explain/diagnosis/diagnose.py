"""`diagnose`: from an error, ours or one that a library made of it, or from a record, to the Diagnosis."""

from __future__ import annotations

from dataclasses import replace

from pellucid.errors import AlertReceived, Circumstances, Explained, PeerError, TLSError
from pellucid.explain.diagnosis.causes import cause_of
from pellucid.explain.diagnosis.codes import CODES
from pellucid.explain.diagnosis.inside import decisive, said
from pellucid.explain.diagnosis.record import NothingWrong, circumstances_in, failure_in
from pellucid.explain.diagnosis.report import AlertFound, Diagnosis
from pellucid.explain.diagnosis.situation import Situation, awaited, phase_of, situation_of
from pellucid.explain.diagnosis.steps import steps_of
from pellucid.explain.recorder import Recorder
from pellucid.registry import AlertDescription, alert_name

__all__ = ["diagnose"]


def diagnose(failure: BaseException | Recorder, *, recorder: Recorder | None = None) -> Diagnosis:
    """Return what *failure* comes down to. It never fails, and gives UNKNOWN for what is not about a connection.

    failure:  an error of Pellucid's, of a socket, or of a library that has one inside (requests, httpx, aiohttp, …);
              or the record of a connection.
    recorder: the connection's record, where there is one beside the error: the code stays, the evidence grows.
    """
    if isinstance(failure, Recorder):
        recorder, error = failure, failure_in(failure)
    else:
        error = decisive(failure)
        if recorder is not None and not _tells(error):
            seen = failure_in(recorder)
            error = error if isinstance(seen, NothingWrong) else seen
    known = error.circumstances if isinstance(error, Explained) else None
    if known is None:
        known = Circumstances() if recorder is None else circumstances_in(recorder)
    found = situation_of(error, known, recorder)
    if found.code == "TIMEOUT" and recorder is not None and not recorder.events:
        found = replace(found, code="TCP-TIMEOUT")  # TLS was never begun
    code, phase = CODES[found.code if found.code in CODES else "UNKNOWN"], phase_of(found.code, known)
    cause = cause_of(found, code.title)
    return Diagnosis(
        code=code.code,
        title=code.title,
        message=said(error) or code.title,
        phase=phase,
        where=_where(found),
        alert=_alert(found),
        checks=steps_of(found, phase),
        cause=cause.text,
        remedy=(*cause.remedy, *(one for one in code.remedy if not cause.instead or not one.startswith(cause.instead))),
        evidence=_evidence(found, phase),
        verification=found.verification,
    )


def _tells(error: BaseException) -> bool:
    """Whether *error* knows more than a record would: it is ours, with the circumstances of its connection."""
    return isinstance(error, Explained) and bool(error.code or isinstance(error, TLSError))


def _where(found: Situation) -> str:
    known = found.known
    name = found.host or known.address
    if not name:
        return ""
    return f"{name} port {known.port}" if known.port else name


def _alert(found: Situation) -> AlertFound | None:
    here = "client" if found.client else "server"
    if isinstance(found.error, AlertReceived):
        return AlertFound(found.peer, alert_name(found.error.description))
    if isinstance(found.error, PeerError) and found.known.role:  # without a connection nobody was told
        return AlertFound(here, alert_name(found.error.alert))
    if found.code == "TLS-INTERNAL":
        return AlertFound(here, alert_name(AlertDescription.INTERNAL_ERROR))
    return None


def _public(found: Situation) -> bytes:
    """Return the first bytes of what is no TLS; of a request the method alone: its address may hold a password."""
    first = found.known.first_bytes[:48]
    return first if found.client or found.code != "PEER-PLAIN-HTTP" else first.partition(b" ")[0]


def _evidence(found: Situation, phase: str) -> tuple[str, ...]:
    known, seen = found.known, []
    if known.first_bytes:
        seen.append(f'the first bytes: "{ascii(_public(found))[2:-1]}"')
    if known.role and phase not in {"dns", "tcp", "call"}:
        waits = found.code.startswith(("PEER-", "TCP-")) and awaited(known)
        waiting = f", waiting for {awaited(known)}" if waits else ""
        seen.append(f"the {known.role} was in state {known.state}{waiting}")
    if known.state and not known.complete and found.code.startswith(("PEER-", "TCP-")):
        seen.append(f"{known.received} bytes had come from the {found.peer}")
    if known.partial and found.code == "PEER-TRUNCATED":
        seen.append(f"{known.partial} bytes were of a record or message that was not all there")
    if known.seconds is not None and found.code in {"PEER-STALLED", "TCP-TIMEOUT", "DNS-TIMEOUT"}:
        seen.append(f"waited for {known.seconds:.3g} s")
    if isinstance(found.error, PeerError) and found.error.rfc:
        seen.append(f"the rule is RFC {found.error.rfc}")
    if found.refusal is not None:
        sent = [f"{facts.subject} issued by {facts.issuer}" for facts in found.refusal.chain]
        seen += [f"certificate {index} sent: {text}" for index, text in enumerate(sent)][:4]
    return tuple(seen)
