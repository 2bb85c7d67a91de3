"""The likely cause of a situation in a sentence or two, and what can be done about this very one."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Callable
from typing import Final, NamedTuple

from pellucid.errors import AlertReceived, Explained, TLSError
from pellucid.explain.diagnosis.certificates import BUILT
from pellucid.explain.diagnosis.inside import said
from pellucid.explain.diagnosis.situation import Situation, awaited
from pellucid.record.strangers import stranger
from pellucid.registry import alert_name

__all__ = ["Cause", "cause_of"]


class Cause(NamedTuple):
    """text: the likely cause.   remedy: what fits this very case, before what the code's table has.

    instead: how the entry of that table begins that the first of *remedy* says better; "" for none.
    """

    text: str
    remedy: tuple[str, ...] = ()
    instead: str = ""


def cause_of(found: Situation, title: str) -> Cause:
    """Return the cause of *found*. title: its code's, for those of which nothing more is known."""
    special = _CAUSES.get(found.code)
    if special is not None and (cause := special(found)) is not None:
        return cause
    if found.refusal is not None and found.refusal.decisive is not None:
        return Cause(_sentence(found.refusal.decisive.evidence))
    if isinstance(found.error, AlertReceived):
        return Cause(f"The {found.peer} gave up with the alert {alert_name(found.error.description)}: {title}.")
    reason = found.error.words if isinstance(found.error, TLSError) else said(found.error)
    return Cause(_sentence(reason or title))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "?", "!")) else ".")


# ---- below TLS -----------------------------------------------------------------------------------------------------


def _not_found(found: Situation) -> Cause:
    name = found.host or "the host"
    if isinstance(found.error, OSError) and found.error.errno == socket.EAI_AGAIN:
        return Cause(
            f"The resolver could not be asked about {name}: it says that it failed for the moment.",
            ("check this machine's resolver: /etc/resolv.conf", "try again in a moment"),
        )
    return Cause(f"The resolver knows no address of {name}.")


def _refused(found: Situation) -> Cause:
    return Cause(f"The machine is there and answered that nothing listens on {_place(found)}.")


def _no_answer(found: Situation) -> Cause:
    return Cause(f"Nothing came back from {_place(found)}, not even a refusal: packets are dropped on the way.")


def _place(found: Situation) -> str:
    known = found.known
    return f"port {known.port} of {known.server_name or known.address or 'that address'}" if known.port else "that port"


def _stalled(found: Situation) -> Cause:
    known = found.known
    if not known.role:
        return Cause("The connection stood, and the peer said nothing more.")
    waited = "" if known.seconds is None else f" for {known.seconds:.3g} s"
    if known.complete:
        return Cause(f"The handshake is complete, and no data came{waited}: the {found.peer} is busy, or waits itself.")
    text = f"The {found.peer} was silent{waited} while {awaited(known)} was waited for, in state {known.state}."
    if found.client and known.state == "WAIT_SH" and not known.received:
        return Cause(f"{text} Not a byte came in answer to the ClientHello.")
    return Cause(text)


def _reset(found: Situation) -> Cause:
    known = found.known
    if not known.role:
        return Cause("The connection was reset by the peer, or by something on the way.")
    if known.complete:
        return Cause(f"The connection was reset after the handshake, {_records(found)}.")
    if known.state == "WAIT_SH" and not known.received:
        return Cause("The connection was reset in answer to the ClientHello: by the server, or by a box on the way.")
    return Cause(f"The connection was reset in state {known.state}, while {awaited(known)} was waited for.")


def _records(found: Situation) -> str:
    count = found.known.records
    return f"{count} record{'' if count == 1 else 's'} under the last key in"


def _truncated(found: Situation) -> Cause:
    known = found.known
    if known.complete:
        cut = f", {known.partial} bytes into another" if known.partial else ""
        return Cause(f"The stream ended without close_notify, {_records(found)}{cut}: what came may not be all.")
    return Cause(
        f"The stream ended in the middle of a record or message, {known.received} bytes into the handshake, while "
        f"{awaited(known)} was waited for in state {known.state}. No {found.peer} ends there on purpose: something on "
        "the way cut it off, or the peer died."
    )


def _closed_early(found: Situation) -> Cause:
    known = found.known
    if found.client and known.state == "WAIT_SH" and not known.received:
        return Cause("The server closed the connection after the ClientHello, without a word.")
    if not found.client and known.state == "START" and not known.received:
        return Cause("The client connected and closed the connection without a word, as health checks and scanners do.")
    if not found.client:
        return Cause(
            f"The client went away in state {known.state}, after it had seen our certificate: it may not have liked it."
        )
    return Cause(
        f"The server closed the connection between two messages, {known.received} bytes into the handshake, while "
        f"{awaited(known)} was waited for in state {known.state}."
    )


_STARTTLS: Final = {"SMTP or FTP": "smtp", "IMAP": "imap", "POP3": "pop3", "XMPP": "xmpp", "MySQL": "mysql"}


def _not_tls(found: Situation) -> Cause:
    first = found.known.first_bytes
    who = stranger(first)
    if not who.name:
        return Cause(f"What the {found.peer} sent is no TLS, and no protocol that is known here by its first bytes.")
    if (how := _STARTTLS.get(who.name)) is not None:
        return Cause(
            f"The {found.peer} speaks {who.name} in plaintext: TLS begins there after a command, or on another port.",
            (f"begin with STARTTLS: pellucid inspect --starttls {how} HOST:PORT",),
        )
    return Cause(f"The {found.peer} speaks {who.name}, not TLS.")


def _plain_http(found: Situation) -> Cause:
    if found.client:
        return Cause(
            "A web server answers on this port in plain HTTP: the port is the one of http://, not of https://."
        )
    return Cause("The client speaks plain HTTP to this port: its URL begins with http:// instead of https://.")


# ---- certificates --------------------------------------------------------------------------------------------------


def _moment(when: datetime.datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M UTC")


def _clock(found: Situation) -> Cause:
    now = found.known.now
    here = "" if now is None else f"The clock here says {_moment(datetime.datetime.fromtimestamp(now, datetime.UTC))}. "
    if now is not None and now < BUILT.timestamp():
        return Cause(f"{here}This version of Pellucid was made after that, so the clock is behind.")
    return Cause(f"{here}All certificates, the trusted root too, are out of their time then: likely the clock is.")


def _wrong_name(found: Situation) -> Cause | None:
    if found.refusal is None or not found.refusal.chain:
        return None
    names = found.refusal.chain[0].names
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    usable = next((name for name in names if "*" not in name), "")
    remedy = (f"if it is the server you meant, use a name that it is for: {usable}",) if usable else ()
    if found.code == "X509-WILDCARD":
        return Cause(
            f"The certificate is for {shown}; a wildcard stands for one label, so {found.host} is not covered."
        )
    return Cause(f"{found.host} was asked for, and the certificate is for {shown}.", remedy)


def _missing_intermediate(found: Situation) -> Cause | None:
    if found.refusal is None:
        return None
    leaf = found.refusal.chain[0] if found.refusal.chain else None
    urls = found.refusal.report.missing_intermediate_urls
    issuer = f"The intermediate {leaf.issuer}" if leaf is not None else "The intermediate that issued the certificate"
    text = f"{issuer} was not sent by the {found.peer}, and no root that is trusted has issued the certificate itself."
    if not urls:
        return Cause(text)
    fetch = f"fetch {urls[0]}, and append it to the {found.peer}'s certificate file"
    return Cause(f"{text} It can be had from {urls[0]}.", (fetch,), "fetch the intermediate")


def _unknown_ca(found: Situation) -> Cause | None:
    if found.refusal is None or found.refusal.decisive is None:
        return None
    text = _sentence(found.refusal.decisive.evidence)
    if found.refusal.report.missing_intermediate_urls:
        return Cause(f"{text} Its issuer can be had from {found.refusal.report.missing_intermediate_urls[0]}.")
    return Cause(text)


def _proxy(found: Situation) -> Cause | None:
    if found.refusal is None:
        return None
    issuers = [facts.issuer for facts in found.refusal.chain]
    issuer = issuers[-1] if issuers else "a CA"
    return Cause(
        f"The certificate for {found.host or 'this host'} leads to {issuer}, as {found.refusal.product} calls its CA: "
        "most likely that opens the connection on the way, and made this certificate. The name alone proves nothing."
    )


# ---- protocol ------------------------------------------------------------------------------------------------------

_NARROW: Final = {
    "TLS-NO-COMMON-GROUP": ("key-exchange groups", "--groups"),
    "TLS-NO-COMMON-SUITE": ("cipher suites", "--suites"),
    "TLS-NO-COMMON-SCHEME": ("signature schemes", "--sigalgs"),
}


def _nothing_common(found: Situation) -> Cause | None:
    if not isinstance(found.error, AlertReceived):
        return None
    what, option = _NARROW[found.code]
    return Cause(
        f"The server says {alert_name(found.error.description)}, no more. Fewer {what} were offered than usual, so "
        "likely it has none of them.",
        (f"offer more {what}: leave {option} away",),
    )


def _version(found: Situation) -> Cause:
    if isinstance(found.error, AlertReceived):
        return Cause(f"The {found.peer} refuses TLS 1.3 with the alert protocol_version: it knows older versions only.")
    reason = found.error.words if isinstance(found.error, TLSError) else said(found.error)
    return Cause(_sentence(reason))


def _client_certificate(found: Situation) -> Cause | None:
    if not isinstance(found.error, AlertReceived):
        return None
    if found.code == "TLS-CLIENT-CERT-REQUIRED":
        return Cause("The server asked for a client certificate; none was shown, and it does not go on without.")
    name = alert_name(found.error.description)
    return Cause(f"The server looked at the certificate that we showed, and answered {name}.")


def _internal(found: Situation) -> Cause | None:
    cause = found.error.__cause__
    if cause is None:
        return None
    return Cause(f"{_sentence(said(found.error))} What failed there: {type(cause).__name__}: {said(cause)}.")


def _ok(found: Situation) -> Cause:
    dropped = 0 if found.recorder is None else found.recorder.dropped
    if dropped:
        more = f"{dropped} event{'' if dropped == 1 else 's'} more than it keeps"
        return Cause(
            f"Nothing is wrong as far as the record goes. It had {more}: how the connection ended is not known."
        )
    return Cause("The handshake completed, or the connection ended as it should.")


def _unknown(found: Situation) -> Cause:
    inside = "" if isinstance(found.error, Explained) else f"{type(found.error).__name__}: "
    return Cause(f"{inside}{said(found.error)} is not about a connection, as far as can be seen.")


_CAUSES: Final[dict[str, Callable[[Situation], Cause | None]]] = {
    "DNS-NOT-FOUND": _not_found,
    "TCP-REFUSED": _refused,
    "TCP-TIMEOUT": _no_answer,
    "PEER-STALLED": _stalled,
    "TCP-RESET": _reset,
    "PEER-TRUNCATED": _truncated,
    "PEER-CLOSED-EARLY": _closed_early,
    "PEER-NOT-TLS": _not_tls,
    "PEER-PLAIN-HTTP": _plain_http,
    "X509-CLOCK": _clock,
    "X509-WRONG-NAME": _wrong_name,
    "X509-WILDCARD": _wrong_name,
    "X509-MISSING-INTERMEDIATE": _missing_intermediate,
    "X509-UNKNOWN-CA": _unknown_ca,
    "X509-PROXY": _proxy,
    "TLS-NO-COMMON-GROUP": _nothing_common,
    "TLS-NO-COMMON-SUITE": _nothing_common,
    "TLS-NO-COMMON-SCHEME": _nothing_common,
    "TLS-VERSION": _version,
    "TLS-CLIENT-CERT-REQUIRED": _client_certificate,
    "TLS-CLIENT-CERT-REFUSED": _client_certificate,
    "TLS-INTERNAL": _internal,
    "OK": _ok,
    "UNKNOWN": _unknown,
}
