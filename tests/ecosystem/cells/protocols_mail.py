"""Mail: smtplib, imaplib, poplib, aiosmtplib, and aiosmtpd as the server that is Pellucid's."""

from __future__ import annotations

import asyncio
import imaplib
import poplib
import smtplib
import ssl
from collections.abc import Callable
from typing import Any

import aiosmtplib

from tests.ecosystem import daemons
from tests.ecosystem.mail_servers import pop3_server, smtp_server
from tests.ecosystem.matrix import cell, empty, library
from tests.ecosystem.trial import Trial

_NO_HTTP = "it does not speak HTTP"
_NO_PROXY = "it knows no HTTP proxies"
MAIL = b"From: ada@example.org\r\nTo: bob@example.org\r\nSubject: hello\r\n\r\n" + b"over TLS\r\n" * 10_000
SECONDS = 20

# ---- smtplib ---------------------------------------------------------------------------------------------------------

library("smtplib", None)
empty("smtplib", "server", "it is a client; aiosmtpd has a row of its own")
empty("smtplib", "HTTP/2", _NO_HTTP)
empty("smtplib", "async", "it blocks; aiosmtplib has a row of its own")
empty("smtplib", "proxy", _NO_PROXY)


@cell("smtplib", "client")
def smtplib_sends_a_mail(trial: Trial) -> None:
    inbox = trial.enter(smtp_server(trial.stdlib_server(), starttls=False))
    with smtplib.SMTP_SSL("localhost", inbox.port, context=trial.client(), timeout=SECONDS) as smtp:
        assert smtp.sendmail("ada@example.org", "bob@example.org", MAIL) == {}
        assert smtp.sock.negotiated.cipher_suite == trial.handshakes[0].cipher_suite
    assert inbox.messages == [MAIL]
    with trial.refuses(ssl.SSLCertVerificationError):
        smtplib.SMTP_SSL("127.0.0.1", inbox.port, context=trial.client(), timeout=SECONDS)
    with trial.refuses(ssl.SSLCertVerificationError, code="X509-UNKNOWN-CA"):
        smtplib.SMTP_SSL("localhost", inbox.port, context=trial.stranger(), timeout=SECONDS)
    assert len(inbox.messages) == 1


@cell("smtplib", "start_tls")
def smtplib_begins_tls_later(trial: Trial) -> None:
    inbox = trial.enter(smtp_server(trial.stdlib_server(), starttls=True))
    with smtplib.SMTP("localhost", inbox.port, timeout=SECONDS) as smtp:
        smtp.ehlo()
        assert smtp.has_extn("starttls")
        assert smtp.mail("ada@example.org")[0] == 530
        assert smtp.starttls(context=trial.client())[0] == 220
        assert smtp.sendmail("ada@example.org", "bob@example.org", MAIL) == {}
    assert inbox.messages == [MAIL]
    for host, context, code in (
        ("127.0.0.1", trial.client(), "X509-WRONG-NAME"),
        ("localhost", trial.stranger(), "X509-UNKNOWN-CA"),
    ):
        smtp = smtplib.SMTP(host, inbox.port, timeout=SECONDS)
        with trial.refuses(ssl.SSLCertVerificationError, code=code):
            smtp.starttls(context=context)
        smtp.close()


# ---- imaplib ---------------------------------------------------------------------------------------------------------

library("imaplib", None)
empty("imaplib", "server", "it is a client, and Python has no IMAP server that takes a context")
empty("imaplib", "HTTP/2", _NO_HTTP)
empty("imaplib", "async", "it blocks, and Python has no other")
empty("imaplib", "proxy", _NO_PROXY)


def _mailbox(imap: imaplib.IMAP4) -> None:
    """Leave a mail with Dovecot, and fetch it."""
    assert imap.login("ada", "secret")[0] == "OK"
    assert imap.append("INBOX", "", "", MAIL)[0] == "OK"
    assert imap.select() == ("OK", [b"1"])
    (found, _) = imap.fetch("1", "(RFC822)")[1]
    assert isinstance(found, tuple) and found[1] == MAIL
    imap.logout()


@cell("imaplib", "client")
def imaplib_reads_a_mailbox(trial: Trial) -> None:
    server = trial.enter(daemons.dovecot(trial.authority))
    _mailbox(imaplib.IMAP4_SSL("localhost", server.port, ssl_context=trial.client(), timeout=SECONDS))
    with trial.refuses(ssl.SSLCertVerificationError):
        imaplib.IMAP4_SSL("127.0.0.1", server.port, ssl_context=trial.client(), timeout=SECONDS)
    with trial.refuses(ssl.SSLCertVerificationError, code="X509-UNKNOWN-CA"):
        imaplib.IMAP4_SSL("localhost", server.port, ssl_context=trial.stranger(), timeout=SECONDS)


@cell("imaplib", "start_tls")
def imaplib_begins_tls_later(trial: Trial) -> None:
    server = trial.enter(daemons.dovecot(trial.authority))
    imap = imaplib.IMAP4("localhost", server.plain_port, timeout=SECONDS)
    assert "STARTTLS" in imap.capabilities
    assert imap.starttls(trial.client())[0] == "OK"
    assert "STARTTLS" not in imap.capabilities
    _mailbox(imap)
    imap = imaplib.IMAP4("127.0.0.1", server.plain_port, timeout=SECONDS)
    with trial.refuses(ssl.SSLCertVerificationError):
        imap.starttls(trial.client())


# ---- poplib ----------------------------------------------------------------------------------------------------------

library("poplib", None)
empty("poplib", "server", "it is a client, and Python has no POP3 server that takes a context")
empty("poplib", "HTTP/2", _NO_HTTP)
empty("poplib", "async", "it blocks, and Python has no other")
empty("poplib", "proxy", _NO_PROXY)


def _retrieved(pop: poplib.POP3) -> bytes:
    pop.user("ada")
    pop.pass_("secret")
    assert pop.stat() == (1, len(MAIL))
    lines = pop.retr(1)[1]
    pop.quit()
    return b"".join(line + b"\r\n" for line in lines)


@cell("poplib", "client")
def poplib_fetches_a_mail(trial: Trial) -> None:
    port = trial.enter(pop3_server(trial.stdlib_server(), MAIL, stls=False))
    assert _retrieved(poplib.POP3_SSL("localhost", port, context=trial.client(), timeout=SECONDS)) == MAIL
    with trial.refuses(ssl.SSLCertVerificationError):
        poplib.POP3_SSL("127.0.0.1", port, context=trial.client(), timeout=SECONDS)


@cell("poplib", "start_tls")
def poplib_begins_tls_later(trial: Trial) -> None:
    port = trial.enter(pop3_server(trial.stdlib_server(), MAIL, stls=True))
    pop = poplib.POP3("localhost", port, timeout=SECONDS)
    pop.stls(trial.client())
    assert _retrieved(pop) == MAIL
    pop = poplib.POP3("localhost", port, timeout=SECONDS)
    with trial.refuses(ssl.SSLCertVerificationError, code="X509-UNKNOWN-CA"):
        pop.stls(trial.stranger())


# ---- aiosmtplib ------------------------------------------------------------------------------------------------------

library("aiosmtplib")
empty("aiosmtplib", "server", "it is a client; aiosmtpd has a row of its own")
empty("aiosmtplib", "HTTP/2", _NO_HTTP)
empty("aiosmtplib", "proxy", _NO_PROXY)


async def _sent(port: int, context: ssl.SSLContext, host: str = "localhost", **how: Any) -> None:
    await aiosmtplib.send(
        MAIL,
        sender="ada@example.org",
        recipients=["bob@example.org"],
        hostname=host,
        port=port,
        tls_context=context,
        timeout=SECONDS,
        **how,
    )


def _aiosmtplib_sends(trial: Trial, port: int, **how: Any) -> None:
    asyncio.run(_sent(port, trial.client(), **how))
    with trial.refuses(aiosmtplib.SMTPException, ssl.SSLCertVerificationError):
        asyncio.run(_sent(port, trial.client(), "127.0.0.1", **how))
    with trial.refuses(aiosmtplib.SMTPException, ssl.SSLCertVerificationError, code="X509-UNKNOWN-CA"):
        asyncio.run(_sent(port, trial.stranger(), **how))


@cell("aiosmtplib", "client")
def aiosmtplib_sends_a_mail(trial: Trial) -> None:
    inbox = trial.enter(smtp_server(trial.stdlib_server(), starttls=False))
    _aiosmtplib_sends(trial, inbox.port, use_tls=True)
    assert inbox.messages == [MAIL]


@cell("aiosmtplib", "async")
def aiosmtplib_sends_many_at_once(trial: Trial) -> None:
    inbox = trial.enter(smtp_server(trial.stdlib_server(), starttls=False))
    context = trial.client()

    async def many() -> None:
        await asyncio.gather(*(_sent(inbox.port, context, use_tls=True) for _ in range(5)))

    asyncio.run(many())
    assert inbox.messages == [MAIL] * 5
    assert len(trial.handshakes) == 5
    with trial.refuses(aiosmtplib.SMTPException, ssl.SSLCertVerificationError):
        asyncio.run(_sent(inbox.port, context, "127.0.0.1", use_tls=True))


@cell("aiosmtplib", "start_tls")
def aiosmtplib_begins_tls_later(trial: Trial) -> None:
    inbox = trial.enter(smtp_server(trial.stdlib_server(), starttls=True))
    _aiosmtplib_sends(trial, inbox.port, start_tls=True)
    assert inbox.messages == [MAIL]


# ---- aiosmtpd --------------------------------------------------------------------------------------------------------

library("aiosmtpd")
empty("aiosmtpd", "client", "it is a server; aiosmtplib has a row of its own")
empty("aiosmtpd", "HTTP/2", _NO_HTTP)
empty("aiosmtpd", "proxy", _NO_PROXY)


def _sent_by_openssl(make: Callable[[], smtplib.SMTP], context: ssl.SSLContext | None = None) -> None:
    with make() as smtp:
        if context is not None:
            smtp.starttls(context=context)
        assert smtp.sendmail("ada@example.org", "bob@example.org", MAIL) == {}


@cell("aiosmtpd", "server")
def aiosmtpd_takes_a_mail(trial: Trial) -> None:
    inbox = trial.enter(smtp_server(trial.server(), starttls=False))
    context = trial.stdlib_client()
    _sent_by_openssl(lambda: smtplib.SMTP_SSL("localhost", inbox.port, context=context, timeout=SECONDS))
    assert inbox.messages == [MAIL]
    assert inbox.tls[0].negotiated.cipher_suite == trial.handshakes[0].cipher_suite


@cell("aiosmtpd", "start_tls", side="server", verifies=False)
def aiosmtpd_begins_tls_later(trial: Trial) -> None:
    inbox = trial.enter(smtp_server(trial.server(), starttls=True))
    plain = lambda: smtplib.SMTP("localhost", inbox.port, timeout=SECONDS)  # noqa: E731
    _sent_by_openssl(plain, trial.stdlib_client())
    assert inbox.messages == [MAIL]


@cell("aiosmtpd", "async", side="server", verifies=True)
def aiosmtpd_and_aiosmtplib_at_both_ends(trial: Trial) -> None:
    inbox = trial.enter(smtp_server(trial.server(), starttls=True))
    _aiosmtplib_sends(trial, inbox.port, start_tls=True)
    assert inbox.messages == [MAIL]
    assert {one.role.value for one in trial.handshakes} == {"client", "server"}
