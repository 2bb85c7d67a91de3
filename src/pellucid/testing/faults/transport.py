"""Faults below TLS: who does not answer, falls silent, ends the connection, or speaks something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pellucid.registry import AlertDescription as A
from pellucid.registry import HandshakeType as H
from pellucid.testing.bent import Edit, without
from pellucid.testing.faults.conversation import Conversation, Link
from pellucid.testing.faults.fault import Fault, Kind, Listening, Recipe
from pellucid.testing.faults.mint import Shown

__all__ = ["TRANSPORT"]

_AFTER_SERVER_HELLO: Final = (H.ENCRYPTED_EXTENSIONS, H.CERTIFICATE, H.CERTIFICATE_VERIFY, H.FINISHED)
_NOT_FOUND: Final = (
    b"HTTP/1.1 400 Bad Request\r\nServer: fault\r\nContent-Type: text/html\r\nContent-Length: 15\r\n"
    b"Connection: close\r\n\r\n400 Bad Request"
)
_GARBAGE: Final = bytes(0x80 + 37 * at % 128 for at in range(256))


# ---- instead of TLS --------------------------------------------------------------------------------------------------


def _banner(text: bytes) -> Callable[[Link], None]:
    def talk(link: Link) -> None:
        link.send(text)
        link.hang()

    return talk


def _answer(data: bytes) -> Callable[[Link], None]:
    def talk(link: Link) -> None:
        link.receive()
        link.send(data)
        link.finish()

    return talk


def _close_at_once(link: Link) -> None:
    link.receive()
    link.finish()


def _reset_at_once(link: Link) -> None:
    link.receive()
    link.reset()


# ---- in the handshake ------------------------------------------------------------------------------------------------


def _leaving_out(*kinds: int) -> Callable[[Shown], Edit]:
    return lambda _: without(*kinds)


def _cut_off(_: Shown) -> Edit:
    """Send two thirds of the Certificate message, and nothing after it."""

    def edit(kind: int, raw: bytes) -> bytes:
        if kind in {H.CERTIFICATE_VERIFY, H.FINISHED}:
            return b""
        return raw[: len(raw) * 2 // 3] if kind == H.CERTIFICATE else raw

    return edit


def _hang(conversation: Conversation) -> None:
    conversation.link.hang()
    conversation.end()


def _finish(conversation: Conversation) -> None:
    conversation.link.finish()
    conversation.end()


def _reset(conversation: Conversation) -> None:
    conversation.link.reset()
    conversation.end()


# ---- in the data -----------------------------------------------------------------------------------------------------


def _half(then: Callable[[Conversation], None]) -> Callable[[Conversation], None]:
    def answer(conversation: Conversation) -> None:
        reply = conversation.reply()
        conversation.connection.send_data(reply[:-20])
        conversation.flush()
        then(conversation)

    return answer


def _without_close_notify(conversation: Conversation) -> None:
    head, _, body = conversation.reply().partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    conversation.connection.send_data(b"\r\n".join(lines) + b"\r\n\r\n" + body)
    conversation.flush()
    _finish(conversation)


# ---- the table -------------------------------------------------------------------------------------------------------


def _fault(name: str, summary: str, code: str, rfc: str = "", *, alert: int | None = None, **recipe: Any) -> Fault:
    # Any: the fields of a Recipe
    return Fault(
        name=name, summary=summary, kind=Kind.TRANSPORT, code=code, alert=alert, rfc=rfc, recipe=Recipe(**recipe)
    )


UM: Final = A.UNEXPECTED_MESSAGE

TRANSPORT: Final = (
    _fault("refused", "nobody listens on the port", "TCP-REFUSED", listening=Listening.NOT),
    _fault("unanswered", "nothing answers on the port: its queue is full", "TCP-TIMEOUT", listening=Listening.FULL),
    _fault("plain-http", "speaks HTTP without TLS", "PEER-PLAIN-HTTP", alert=UM, link=_answer(_NOT_FOUND)),
    _fault("ssh-banner", "greets as an SSH server does", "PEER-NOT-TLS", alert=UM,
           link=_banner(b"SSH-2.0-OpenSSH_10.0\r\n")),
    _fault("smtp-banner", "greets as a mail server does, which wants STARTTLS first", "PEER-NOT-TLS", alert=UM,
           link=_banner(b"220 mail.fault.test ESMTP\r\n")),
    _fault("garbage", "answers with bytes that are nothing", "PEER-NOT-TLS", alert=UM, link=_answer(_GARBAGE)),
    _fault("closed-at-once", "closes the connection once the ClientHello has come", "PEER-CLOSED-EARLY",
           "9846 §6.1", link=_close_at_once),
    _fault("closed-after-hello", "closes the connection after its ServerHello", "PEER-CLOSED-EARLY", "9846 §6.1",
           edit=_leaving_out(*_AFTER_SERVER_HELLO), flight=_finish),
    _fault("truncated-handshake", "its stream ends in the middle of its Certificate", "PEER-TRUNCATED", "9846 §6.1",
           edit=_cut_off, flight=_finish),
    _fault("truncated-data", "its stream ends in the middle of its answer", "PEER-TRUNCATED", "9846 §6.1",
           answer=_half(_finish)),
    _fault("no-close-notify", "its answer has no length, and ends without close_notify", "PEER-TRUNCATED",
           "9846 §6.1", answer=_without_close_notify),
    _fault("reset-hello", "resets the connection once the ClientHello has come", "TCP-RESET", link=_reset_at_once),
    _fault("reset-handshake", "resets the connection after its ServerHello", "TCP-RESET",
           edit=_leaving_out(*_AFTER_SERVER_HELLO), flight=_reset),
    _fault("reset-data", "resets the connection in the middle of its answer", "TCP-RESET", answer=_half(_reset)),
    _fault("silent", "accepts the connection, and never says a word", "PEER-STALLED", link=Link.hang),
    _fault("silent-after-hello", "falls silent after its ServerHello", "PEER-STALLED",
           edit=_leaving_out(*_AFTER_SERVER_HELLO), flight=_hang),
    _fault("silent-before-certificate", "falls silent before its Certificate", "PEER-STALLED",
           edit=_leaving_out(H.CERTIFICATE, H.CERTIFICATE_VERIFY, H.FINISHED), flight=_hang),
    _fault("silent-before-verify", "falls silent before its CertificateVerify", "PEER-STALLED",
           edit=_leaving_out(H.CERTIFICATE_VERIFY, H.FINISHED), flight=_hang),
    _fault("silent-before-finished", "falls silent before its Finished", "PEER-STALLED",
           edit=_leaving_out(H.FINISHED), flight=_hang),
    _fault("silent-after-handshake", "takes the request, and never answers", "PEER-STALLED", answer=_hang),
    _fault("slow", "sends one byte a second", "PEER-STALLED", slow=True),
)  # fmt: skip
