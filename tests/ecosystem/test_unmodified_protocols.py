"""`pellucid.installed()` under programs that pass no context: mail, files, databases; their libraries make one."""

from __future__ import annotations

import asyncio
import ftplib
import imaplib
import poplib
import smtplib
import ssl
import xmlrpc.client
from collections.abc import Iterator

import aiosmtplib
import asyncpg
import pytest
import redis
import redis.asyncio

import pellucid
from pellucid.integrations.ssl_errors import ConfigurationError
from tests.ecosystem import daemons
from tests.ecosystem.cells.protocols_files import ftp_server, xmlrpc_server
from tests.ecosystem.mail_servers import pop3_server, smtp_server
from tests.ecosystem.trial import Trial

SECONDS = 20


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trial]:
    with Trial() as trial:
        monkeypatch.setenv("SSL_CERT_FILE", str(trial.ca_file))
        monkeypatch.delenv("SSL_CERT_DIR", raising=False)
        yield trial


def ours(stream: object) -> bool:
    return getattr(stream, "negotiated", None) is not None


def test_installed_smtplib_verifies_by_itself(trial: Trial) -> None:
    at_once = trial.enter(smtp_server(trial.stdlib_server(), starttls=False))
    later = trial.enter(smtp_server(trial.stdlib_server(), starttls=True))
    with pellucid.installed():
        with smtplib.SMTP_SSL("localhost", at_once.port, timeout=SECONDS) as smtp:
            assert ours(smtp.sock)
        with smtplib.SMTP("localhost", later.port, timeout=SECONDS) as smtp:
            smtp.starttls()
            assert ours(smtp.sock)
        with pytest.raises(ssl.SSLCertVerificationError, match=r"not for 127\.0\.0\.1"):
            smtplib.SMTP_SSL("127.0.0.1", at_once.port, timeout=SECONDS)


def test_installed_aiosmtplib_sends(trial: Trial) -> None:
    inbox = trial.enter(smtp_server(trial.server(), starttls=False))
    with pellucid.installed():
        asyncio.run(
            aiosmtplib.send(
                "Subject: hello\r\n\r\nhello",
                sender="ada@example.org",
                recipients=["bob@example.org"],
                hostname="localhost",
                port=inbox.port,
                use_tls=True,
            )
        )
    assert len(inbox.messages) == 1


def test_installed_imaplib_verifies_by_itself(trial: Trial) -> None:
    server = trial.enter(daemons.dovecot(trial.authority))
    with pellucid.installed():
        with imaplib.IMAP4_SSL("localhost", server.port, timeout=SECONDS) as imap:
            assert ours(imap.sock)
        with imaplib.IMAP4("localhost", server.plain_port, timeout=SECONDS) as imap:
            imap.starttls()
            assert ours(imap.sock)
        with pytest.raises(ssl.SSLCertVerificationError, match=r"not for 127\.0\.0\.1"):
            imaplib.IMAP4_SSL("127.0.0.1", server.port, timeout=SECONDS)


def test_installed_poplib_verifies_by_itself(trial: Trial) -> None:
    port = trial.enter(pop3_server(trial.stdlib_server(), b"hello\r\n", stls=True))
    with pellucid.installed():
        pop = poplib.POP3("localhost", port, timeout=SECONDS)
        pop.stls()
        assert ours(pop.sock)
        pop.quit()


def test_installed_ftplib_logs_in_under_tls(trial: Trial) -> None:
    port, _ = trial.enter(ftp_server(trial, trial.folder()))
    with pellucid.installed(), ftplib.FTP_TLS(timeout=SECONDS) as ftp:
        ftp.connect("localhost", port)
        ftp.login("ada", "secret")
        assert ours(ftp.sock)


def test_installed_xmlrpc_calls(trial: Trial) -> None:
    port = trial.enter(xmlrpc_server(trial.server()))
    with pellucid.installed(), xmlrpc.client.ServerProxy(f"https://localhost:{port}") as proxy:
        assert proxy.add(2, 3) == 5
    assert len(trial.handshakes) == 1


def test_installed_redis_py_takes_its_settings(trial: Trial) -> None:
    server = trial.enter(daemons.redis(trial.authority))

    async def asynchronous() -> None:
        async with redis.asyncio.Redis(host="localhost", port=server.port, ssl=True, ssl_check_hostname=True) as client:
            assert await client.ping()

    with pellucid.installed():
        with redis.Redis(host="localhost", port=server.port, ssl=True, ssl_ca_certs=str(trial.ca_file)) as client:
            assert client.ping()
            connection = client.connection_pool.get_connection()
            assert ours(connection._sock)
            client.connection_pool.release(connection)
        asyncio.run(asynchronous())
        with (
            redis.Redis(host="localhost", port=server.port, ssl=True, ssl_cert_reqs="none") as client,
            pytest.raises(redis.ConnectionError, match="verif"),
        ):
            client.ping()


def test_installed_asyncpg_takes_its_sslmodes(trial: Trial) -> None:
    """What verifies works; what believes anybody is refused at once: after a late error asyncpg would use no TLS."""
    server = trial.enter(daemons.postgres(trial.authority))
    url = f"postgresql://postgres@localhost:{server.port}/postgres?sslrootcert={trial.ca_file}&sslmode="

    async def version(mode: str, host: str = "localhost") -> str:
        connection = await asyncpg.connect(url.replace("localhost", host) + mode, timeout=SECONDS)
        try:
            assert ours(connection._transport.get_extra_info("ssl_object"))
            found: str = await connection.fetchval("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            return found
        finally:
            await connection.close()

    with pellucid.installed():
        assert asyncio.run(version("verify-full")) == "TLSv1.3"
        with pytest.raises(ssl.SSLCertVerificationError, match=r"not for 127\.0\.0\.1"):
            asyncio.run(version("verify-full", "127.0.0.1"))
        for mode in ("verify-ca", "prefer"):
            with pytest.raises(ConfigurationError, match="dangerous_allow_unverified"):
                asyncio.run(version(mode))
    with pellucid.installed(dangerous_allow_unverified=True):
        assert asyncio.run(version("verify-ca", "127.0.0.1")) == "TLSv1.3"
        assert asyncio.run(version("prefer", "127.0.0.1")) == "TLSv1.3"
