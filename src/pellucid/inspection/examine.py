"""The examination of one server: a first connection, watched and timed; then many more, several at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from pellucid.errors import InternalError, PeerError
from pellucid.explain import diagnose
from pellucid.explain.recorder import Recorder
from pellucid.inspection import behaving, offers, resuming
from pellucid.inspection.facts import ClientCertificateFacts, Facts, Failed, Timing
from pellucid.inspection.probing import Answer, Prober, refusal
from pellucid.inspection.reading import (
    chain_of,
    client_certificate_of,
    negotiated_of,
    staple_of,
    timing_of,
)
from pellucid.inspection.target import Settings, Target
from pellucid.inspection.verdict import Judgement, judge
from pellucid.integrations.certificate_compression import installed
from pellucid.limits import MAX_INNER_PLAINTEXT
from pellucid.net.load import system_trust
from pellucid.verify.report import CertificateRejected

__all__ = ["FIRST", "Examination", "examine", "examine_all", "given_up", "inspect"]

T = TypeVar("T")
FIRST: Final = "what does everybody get?"
"""the question of the first connection, for `Settings.observer`"""
_MAX_ROUND_TRIP: Final = 1.0
_THREADS: Final = 40  # one for each line of questions and each retry; connections are bounded apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What was found of a server, and what is to be thought of it. target: who it is."""

    target: Target
    facts: Facts
    judgement: Judgement

    @property
    def fine(self) -> bool:
        """Whether the verdict is "good" or "fair"."""
        return self.judgement.verdict.fine


def inspect(
    host: str,
    port: int | None = None,
    *,
    server_name: str | None = None,
    starttls: str | None = None,
    **settings: Any,  # Any: the fields of Settings, each of its own type
) -> Examination:
    """Examine the TLS 1.3 of *host*: some thirty connections, in seconds.

    port:        None: that of *starttls*, or 443.   server_name: whom the certificate must be for; None: *host*.
    starttls:    "smtp", "imap", "pop3", "ldap", "postgres", "mysql" or "xmpp".
    settings:    fields of `Settings`.
    raises:      UsageError for what cannot be asked. What a server or the network does is in the examination.
    """
    return examine(Target.of(host, port, server_name=server_name, starttls=starttls), Settings(**settings))


def examine_all(
    targets: Sequence[Target], settings: Settings, *, at_once: int = 8
) -> Generator[Examination, None, None]:
    """Yield the examinations of *targets* in their order, *at_once* of them under way at a time.

    Closing the generator ends what is under way: no more connections are begun. An examination that fails, by a mistake
    of ours, loses no other: it says so. Raises UsageError where there are no roots to trust.
    """
    stop = threading.Event()
    if settings.trust is None:
        settings = replace(settings, trust=system_trust())
    with ThreadPoolExecutor(max(1, at_once), thread_name_prefix="pellucid-inspect-host") as executor:
        running = [executor.submit(examine, target, settings, stop=stop) for target in targets]
        try:
            for target, future in zip(targets, running, strict=True):
                try:
                    examination = future.result()
                except Exception as error:  # noqa: BLE001  # whatever it was, the other hosts' are not lost for it
                    examination = given_up(target, error)
                yield examination
        finally:
            stop.set()
            for future in running:
                future.cancel()


def given_up(target: Target, error: Exception) -> Examination:
    """Return the examination that ended with *error*: its verdict is "broken", and nothing else is known."""
    facts = Facts(failed=failed(_as_known(error)))
    return Examination(target=target, facts=facts, judgement=judge(facts))


def examine(target: Target, settings: Settings, *, stop: threading.Event | None = None) -> Examination:
    """Examine one server. Raises UsageError where there are no roots to trust.

    stop: once it is set, no more connections are begun, and what is known by then is the examination.
    """
    started = time.monotonic()
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="pellucid-inspect") as executor:
        prober = Prober(target, settings, executor, stop=stop)
        facts = _facts(prober, executor)
    facts = replace(facts, connections=prober.count, seconds=time.monotonic() - started)
    return Examination(target=target, facts=facts, judgement=judge(facts))


def _facts(prober: Prober, executor: ThreadPoolExecutor) -> Facts:
    kept = resuming.Kept()
    first = _first(prober, kept)
    facts = _of_first(prober, first)
    if first.negotiated is None:
        if refusal(first.error) in (None, "closed"):
            return facts
        # It may have no certificate to show, and still speak TLS 1.3 with those who know its key.
        raw = behaving.raw_public_key(prober)
        return replace(facts, raw_public_key=raw) if raw.supported else facts
    lines: dict[str, Callable[[], object]] = {
        "groups": lambda: _groups(prober, first, executor),
        "suites": lambda: {"suites": offers.suites(prober)},
        "schemes": lambda: {"schemes": offers.schemes(prober)},
        "resumption": lambda: {"resumption": resuming.resumption(prober, first, kept, executor)},
        "early_data": lambda: {"early_data": resuming.early_data(prober, first)},
        "alpn": lambda: {"alpn": offers.alpn(prober, first)},
        "compression": lambda: {"compression": offers.compression(prober, first)},
        "key_update": lambda: _key_update(prober, first),
        "names": lambda: {"names": behaving.names(prober, first)},
        "raw_public_key": lambda: {"raw_public_key": behaving.raw_public_key(prober)},
    }
    running = {name: executor.submit(line) for name, line in lines.items()}
    found: dict[str, Any] = {}  # Any: the fields of Facts
    unknown: list[tuple[str, str]] = []
    for name, future in running.items():
        try:
            result = future.result()
        except Exception as error:  # noqa: BLE001  # one line of questions that fails does not lose the others
            unknown.append((name, f"{type(error).__name__}: {error}"))
            if isinstance(error, PeerError):
                found.setdefault("afterwards", failed(error, first.recorder))
        else:
            found |= result if isinstance(result, dict) else {}
    return replace(facts, **found, unknown=tuple(unknown))


def _first(prober: Prober, kept: resuming.Kept) -> Answer:
    """Make the connection of a client that offers everything, alone, so that its times are the server's."""
    return prober.retried(
        FIRST,
        watched=True,
        packets=True,
        sessions=kept,
        trace_records=True,
        request_ocsp=True,
        request_scts=True,
        certificate_compression=installed(),
        record_size_limit=MAX_INNER_PLAINTEXT,
        talk=lambda stream, answer: resuming.read_on(prober, stream, answer),
    )


def _of_first(prober: Prober, first: Answer) -> Facts:
    """Return what the first connection tells, and take the round trip's time from it."""
    recorder = first.recorder
    prober.round_trip = first.times.get("round_trip", 0.0)
    reading = _Reading(recorder)
    timing = reading.of("times", lambda: timing_of(first))
    if timing is not None:
        # Behind a proxy the kernel measures the way to the proxy: the handshake knows better, at its least.
        prober.round_trip = max(prober.round_trip, min(flight_gap(timing), _MAX_ROUND_TRIP))
    request = first.witness.request
    return Facts(
        address=first.peer_address if first.connected else None,
        refused=reading.of("refusal", lambda: _refused(first)),
        timing=timing,
        negotiated=reading.of("negotiated", lambda: negotiated_of(first)),
        chain=reading.of("chain", lambda: chain_of(first, prober.provider.now())),
        staple=None if first.negotiated is None else reading.of("staple", lambda: staple_of(first)),
        scts=0 if request is None else len(request.scts),
        client_certificate=reading.of("client certificate", lambda: _client_certificate(first)),
        # Last, for they are what could not be read, if it was not told before.
        failed=reading.failed if first.negotiated is not None else failed(first.error, recorder),
        afterwards=reading.afterwards,
    )


class _Reading:
    """Reads one thing after the other. One that cannot be read loses no other, and is told, for a verdict without it
    would be too good.

    afterwards: by the diagnosis, where the server broke a rule that nobody had seen.   failed: by a mistake of ours.
    """

    def __init__(self, recorder: Recorder | None) -> None:
        self._recorder = recorder
        self.afterwards: Failed | None = None
        self.failed: Failed | None = None

    def of(self, what: str, read: Callable[[], T]) -> T | None:
        """Return what *read* does; None if it raises."""
        try:
            return read()
        except PeerError as error:
            self.afterwards = self.afterwards or failed(error, self._recorder)
        except Exception as error:  # noqa: BLE001  # whatever it was, the rest is still worth reading
            self.failed = self.failed or failed(_as_known(error, what))
        return None


def _client_certificate(first: Answer) -> ClientCertificateFacts | None:
    if first.negotiated is None:
        return None
    asked = client_certificate_of(first)
    return replace(asked, required=resuming.wants_certificate(first)) if asked.requested else asked


def flight_gap(timing: Timing) -> float:
    """Return the seconds between the ClientHello and the end of the server's first flight."""
    flights = timing.flights
    return flights[1].seconds - flights[0].seconds if len(flights) > 1 else 0.0


def _refused(first: Answer) -> Failed | None:
    """Return the diagnosis of a client that does not go on with a server that it could not verify."""
    report = first.witness.report
    return None if report is None or report.accepted else failed(CertificateRejected(report), first.recorder)


def failed(error: BaseException | None, recorder: Recorder | None = None) -> Failed | None:
    """Return *error* as a fact; None for none."""
    if error is None:
        return None
    found = diagnose(error, recorder=recorder)
    return Failed(
        code=found.code,
        title=found.title,
        message=str(error),
        kind=type(error).__name__,
        phase=found.phase,
        alert=None if found.alert is None else found.alert.name,
        cause=found.cause,
        remedy=found.remedy,
    )


def _as_known(error: Exception, what: str = "") -> Exception:
    """Return *error* if it is of a connection; else it is a mistake of ours, and returned as one."""
    if isinstance(error, OSError):
        return error
    where = f"{what}: " if what else ""
    internal = InternalError(f"{where}{type(error).__name__}: {error}")
    internal.__cause__ = error
    return internal


def _key_update(prober: Prober, first: Answer) -> dict[str, object]:
    found, conversation = behaving.key_update(prober, first)
    for answer in (conversation, first):
        if answer is None or answer.error is None or isinstance(answer.error, TimeoutError):
            continue
        if answer is first and resuming.wants_certificate(first) and client_certificate_of(first).requested:
            continue  # that is told elsewhere
        return {"key_update": found, "afterwards": failed(answer.error, answer.recorder)}
    return {"key_update": found}


def _groups(prober: Prober, first: Answer, executor: ThreadPoolExecutor) -> dict[str, object]:
    known = offers.groups(prober, executor)
    retry = offers.retries(prober, first, known, executor) if known.accepted else None
    return {"groups": known.offered, "group_details": known.details, "retry": retry}
