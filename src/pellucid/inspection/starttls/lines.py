"""SMTP, IMAP and POP3: commands and answers in lines."""

from __future__ import annotations

from collections.abc import Generator

from pellucid.inspection.starttls.preamble import Inbox, Steps
from pellucid.verify.names import is_ip

__all__ = ["imap", "pop3", "smtp"]


def smtp(server_name: str, local_address: str, inbox: Inbox) -> Steps:
    """RFC 3207: the greeting, EHLO, STARTTLS."""
    code, lines = yield from _reply(inbox)
    if code != b"220":
        raise inbox.refused(lines[-1])
    yield b"EHLO " + _own_name(local_address) + b"\r\n"
    code, lines = yield from _reply(inbox)
    if code != b"250":
        raise inbox.refused(lines[-1])
    if not any(line[4:].strip().upper() == b"STARTTLS" for line in lines[1:]):
        raise inbox.failed("the server does not offer it")
    yield b"STARTTLS\r\n"
    code, lines = yield from _reply(inbox)
    if code != b"220":
        raise inbox.refused(lines[-1])


def _own_name(address: str) -> bytes:
    """Return what a client without a name calls itself (RFC 5321 §4.1.3)."""
    if not is_ip(address):
        return b"[127.0.0.1]"
    literal = f"IPv6:{address.partition('%')[0]}" if ":" in address else address
    return f"[{literal}]".encode("ascii")


def _reply(inbox: Inbox) -> Generator[None, None, tuple[bytes, list[bytes]]]:
    """Return the code and the lines of one answer (RFC 5321 §4.2)."""
    lines: list[bytes] = []
    while True:
        line = yield from inbox.line()
        code, separator = line[:3], line[3:4]
        if not (len(code) == 3 and code.isdigit()) or separator not in (b"", b" ", b"-"):
            raise inbox.unexpected(line)
        if lines and code != lines[0][:3]:
            raise inbox.unexpected(line)
        lines.append(line)
        if separator != b"-":
            return code, lines


def imap(server_name: str, local_address: str, inbox: Inbox) -> Steps:
    """RFC 9051 §6.2.1: the greeting, CAPABILITY, STARTTLS."""
    greeting = yield from inbox.line()
    if not greeting.startswith(b"* "):
        raise inbox.unexpected(greeting)
    if greeting[2:5].upper() != b"OK ":
        raise inbox.refused(greeting)
    yield b"p1 CAPABILITY\r\n"
    known = yield from _tagged(inbox, b"p1")
    offered = {word for line in known if line.upper().startswith(b"* CAPABILITY ") for word in line.upper().split()}
    if b"STARTTLS" not in offered:
        raise inbox.failed("the server does not offer it")
    yield b"p2 STARTTLS\r\n"
    yield from _tagged(inbox, b"p2")


def _tagged(inbox: Inbox, tag: bytes) -> Generator[None, None, list[bytes]]:
    """Return the untagged lines up to the tagged one, which must be OK."""
    lines: list[bytes] = []
    while True:
        line = yield from inbox.line()
        if line.startswith(tag + b" "):
            if line[len(tag) + 1 :][:2].upper() != b"OK":
                raise inbox.refused(line)
            return lines
        if not line.startswith(b"* "):
            raise inbox.unexpected(line)
        lines.append(line)


def pop3(server_name: str, local_address: str, inbox: Inbox) -> Steps:
    """RFC 2595 §4: the greeting, STLS."""
    greeting = yield from inbox.line()
    if not greeting.startswith(b"+OK"):
        raise inbox.refused(greeting) if greeting.startswith(b"-ERR") else inbox.unexpected(greeting)
    yield b"STLS\r\n"
    answer = yield from inbox.line()
    if not answer.startswith(b"+OK"):
        raise inbox.refused(answer)
