"""Protocols that begin in the open and go over to TLS: what is said until then, without I/O."""

from __future__ import annotations

from typing import Final

from pellucid.inspection.starttls.binary import ldap, mysql, postgres
from pellucid.inspection.starttls.lines import imap, pop3, smtp
from pellucid.inspection.starttls.preamble import Preamble, StartTLSFailed, StartTLSProtocol
from pellucid.inspection.starttls.xmpp import xmpp

__all__ = ["PROTOCOLS", "Preamble", "StartTLSFailed", "StartTLSProtocol"]

PROTOCOLS: Final = {
    one.name: one
    for one in (
        StartTLSProtocol(name="smtp", port=25, rfc="3207", steps=smtp, nudge=b"NOOP\r\n", answer=rb"[2-5]\d\d"),
        StartTLSProtocol(
            name="imap",
            port=143,
            rfc="9051",
            steps=imap,
            alpn=("imap",),
            nudge=b"p3 NOOP\r\n",
            answer=rb"(\* [^\n]*\n)*p3 ",
        ),
        StartTLSProtocol(
            name="pop3",
            port=110,
            rfc="2595",
            steps=pop3,
            alpn=("pop3",),
            nudge=b"CAPA\r\n",
            answer=rb"\+OK|-ERR",
        ),
        StartTLSProtocol(name="ldap", port=389, rfc="4511", steps=ldap),
        StartTLSProtocol(name="postgres", port=5432, rfc="", steps=postgres, alpn=("postgresql",)),
        StartTLSProtocol(name="mysql", port=3306, rfc="", steps=mysql),
        StartTLSProtocol(name="xmpp", port=5222, rfc="6120", steps=xmpp, alpn=("xmpp-client",)),
    )
}
"""name → protocol, for --starttls."""
