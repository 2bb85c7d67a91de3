"""docs/libraries: the code of the pages about servers, mail, databases and files, run as it stands.

Only names of hosts and ports are replaced. Servers run as programs of their own, and OpenSSL asks them; clients run
here, against servers whose TLS is OpenSSL's. Each block has to have used Pellucid for a handshake.
"""

from __future__ import annotations

import contextlib
import ftplib
import gc
import io
import re
import smtplib
import socket
import sys
import time
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path

import pytest

import pellucid
from tests.ecosystem import daemons
from tests.ecosystem.cells.protocols_files import ftp_server, xmlrpc_server
from tests.ecosystem.mail_servers import pop3_server, smtp_server
from tests.ecosystem.peers import fetched
from tests.ecosystem.trial import Trial
from tests.interop.process import Program
from tests.support.ports import free_port

PAGES = Path(__file__).parents[2] / "docs" / "libraries"
SECONDS = 20.0

# Put before a server's code: it tells of each connection that Pellucid is to serve.
WATCH = """\
import pellucid
engine = pellucid.SSLContext.new_engine
def told(self, **settings):
    print("served by Pellucid", flush=True)
    return engine(self, **settings)
pellucid.SSLContext.new_engine = told
"""


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (PAGES / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)


def replaced(text: str, *replacements: tuple[str, str]) -> str:
    for old, new in replacements:
        assert old in text, f"{old!r} is not in the page's code"
        text = text.replace(old, new)
    return text


@pytest.fixture
def trial() -> Iterator[Trial]:
    with Trial() as trial:
        yield trial


class Runs:
    """Runs a client's code with the test CA for the system's store, in a folder that has ca.pem."""

    def __init__(self, trial: Trial, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "ca.pem").write_bytes(trial.ca_file.read_bytes())
        monkeypatch.chdir(folder)
        monkeypatch.setenv("SSL_CERT_FILE", str(trial.ca_file))
        monkeypatch.delenv("SSL_CERT_DIR", raising=False)
        self._made = 0
        engine = pellucid.SSLContext.new_engine

        def told(context: pellucid.SSLContext, **settings: object) -> object:
            self._made += 1
            return engine(context, **settings)  # type: ignore[arg-type]

        monkeypatch.setattr(pellucid.SSLContext, "new_engine", told)

    def __call__(self, text: str, *replacements: tuple[str, str]) -> str:
        """Return what it prints."""
        before = self._made
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(replaced(text, *replacements), "page", "exec"), {"__name__": "__main__"})
        assert self._made > before, "Pellucid did none of the TLS"
        return printed.getvalue()


@pytest.fixture
def run(trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(trial, tmp_path, monkeypatch)


@contextlib.contextmanager
def serving(trial: Trial, folder: Path, text: str, port: str = "8443", *command: str) -> Iterator[tuple[int, Program]]:
    """Run a server's code, on another port; by *command* if that is not simply Python. It is ended at the end."""
    free = free_port()
    (folder / "server.pem").write_bytes(trial.certificate_file.read_bytes())
    (folder / "server.key").write_bytes(trial.key_file.read_bytes())
    (folder / "page.py").write_text(WATCH + replaced(text, (port, str(free))), encoding="utf-8")
    server = Program([sys.executable, *(command or ("page.py",))], cwd=folder, own_group=True)
    try:
        deadline = time.monotonic() + SECONDS
        while not _listens(free):
            assert time.monotonic() < deadline, server.output()
            time.sleep(0.02)
        yield free, server
        server.wait_for(rb"served by Pellucid", 2)
    finally:
        server.end()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("localhost", port), 1).close()
    except OSError:
        return False
    return True


# ---- servers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["uvicorn", "hypercorn", "flask"])
def test_page_of_a_server_says_hello(trial: Trial, tmp_path: Path, page: str) -> None:
    text = blocks(page)[0]
    with serving(trial, tmp_path, text) as (port, _):
        assert fetched(port) == b"hello\n"


@pytest.mark.parametrize("page", ["uvicorn", "hypercorn"])
def test_page_of_a_server_of_asgi_knows_its_client(trial: Trial, tmp_path: Path, page: str) -> None:
    _, text = blocks(page)
    (tmp_path / "clients.pem").write_bytes(trial.ca_file.read_bytes())
    with serving(trial, tmp_path, text) as (port, _):
        assert fetched(port, context=trial.stdlib_client(certificate=True)) == b"CN=localhost"


def test_page_of_gunicorn_configures_it(trial: Trial, tmp_path: Path) -> None:
    (text,) = blocks("gunicorn")
    application = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'hello']\n"
    (tmp_path / "main.py").write_text(application, encoding="utf-8")
    with serving(trial, tmp_path, text, "8443", "-m", "gunicorn", "-c", "page.py", "main:app") as (port, _):
        assert fetched(port) == b"hello"


def test_page_of_http_server_serves_the_folder(trial: Trial, tmp_path: Path) -> None:
    (text,) = blocks("http-server")
    (tmp_path / "here.txt").write_text("here", encoding="utf-8")
    with serving(trial, tmp_path, text) as (port, _):
        assert fetched(port, "/here.txt") == b"here"


def test_page_of_xmlrpc_adds(trial: Trial, tmp_path: Path, run: Runs) -> None:
    client, server = blocks("xmlrpc")
    with (
        serving(trial, tmp_path, server) as (port, _),
        xmlrpc.client.ServerProxy(f"https://localhost:{port}", context=trial.stdlib_client()) as proxy,
    ):
        assert proxy.add(2, 3) == 5
    other = trial.enter(xmlrpc_server(trial.stdlib_server()))
    assert run(client, ("https://rpc.example.org", f"https://localhost:{other}")) == "5\n"


def test_page_of_aiosmtpd_takes_mail_after_starttls(trial: Trial, tmp_path: Path) -> None:
    (text,) = blocks("aiosmtpd")
    with serving(trial, tmp_path, text, "8025") as (port, server):
        with smtplib.SMTP("localhost", port, timeout=SECONDS) as smtp:
            assert smtp.mail("ada@example.org")[0] == 530
            smtp.starttls(context=trial.stdlib_client())
            smtp.sendmail("ada@example.org", ["bob@example.org"], "Subject: hello\r\n\r\nhello")
        server.wait_for(rb"Subject: hello")


# ---- mail ------------------------------------------------------------------------------------------------------------


def test_page_of_smtplib_sends(trial: Trial, run: Runs) -> None:
    at_once, later = blocks("smtplib")
    for text, port, starttls in ((at_once, "465", False), (later, "587", True)):
        inbox = trial.enter(smtp_server(trial.stdlib_server(), starttls=starttls))
        run(text, ("mail.example.org", "localhost"), (port, str(inbox.port)))
        assert inbox.messages == [b"Subject: hello\r\n\r\nhello\r\n"]


def test_page_of_smtplib_names_the_error_where_starttls_is_not_offered(trial: Trial) -> None:
    inbox = trial.enter(smtp_server(trial.stdlib_server(), starttls=True))
    with smtplib.SMTP("localhost", inbox.port, timeout=SECONDS) as smtp:
        smtp.ehlo()
        smtp.esmtp_features.pop("starttls")
        with pytest.raises(smtplib.SMTPNotSupportedError):
            smtp.starttls(context=trial.client())
    assert "smtplib.SMTPNotSupportedError" in (PAGES / "smtplib.md").read_text(encoding="utf-8")


def test_page_of_imaplib_selects(trial: Trial, run: Runs) -> None:
    at_once, later = blocks("imaplib")
    server = trial.enter(daemons.dovecot(trial.authority))
    host = ("mail.example.org", "localhost")
    assert run(at_once, host, ("993", str(server.port))) == "('OK', [b'0'])\n"
    assert run(later, host, ("143", str(server.plain_port))) == "('OK', [b'0'])\n"


def test_page_of_poplib_counts(trial: Trial, run: Runs) -> None:
    at_once, later = blocks("poplib")
    for text, port, stls in ((at_once, "995", False), (later, "110", True)):
        its_port = trial.enter(pop3_server(trial.stdlib_server(), b"hello\r\n", stls=stls))
        assert run(text, ("mail.example.org", "localhost"), (port, str(its_port))) == "(1, 7)\n"


# aiosmtplib and aiosmtpd leave transports to the garbage collector, without Pellucid too.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_page_of_aiosmtplib_sends(trial: Trial, run: Runs) -> None:
    (text,) = blocks("aiosmtplib")
    inbox = trial.enter(smtp_server(trial.stdlib_server(), starttls=False))
    run(text, ("mail.example.org", "localhost"), ("465", str(inbox.port)))
    inbox = trial.enter(smtp_server(trial.stdlib_server(), starttls=True))
    run(text, ("mail.example.org", "localhost"), ("465", str(inbox.port)), ("use_tls=True", "start_tls=True"))
    assert len(inbox.messages) == 1
    gc.collect()  # now, and not in a test that knows nothing of it


# ---- databases and files ---------------------------------------------------------------------------------------------


def test_page_of_asyncpg_asks_which_version_it_was(trial: Trial, run: Runs) -> None:
    (text,) = blocks("asyncpg")
    server = trial.enter(daemons.postgres(trial.authority))
    assert run(text, ("ada@db.example.org:5432", f"postgres@localhost:{server.port}")) == "TLSv1.3\n"


def test_page_of_redis_sets_and_gets(trial: Trial, run: Runs) -> None:
    blocking, asynchronous = blocks("redis")
    server = trial.enter(daemons.redis(trial.authority))
    host, port = ("cache.example.org", "localhost"), ("6379", str(server.port))
    assert run(blocking, host, port) == "b'value'\n"
    assert run(asynchronous, host, port) == "b'value'\n"


def test_page_of_paho_mqtt_publishes(trial: Trial, run: Runs, tmp_path: Path) -> None:
    (text,) = blocks("paho-mqtt")
    (tmp_path / "client.pem").write_bytes(trial.certificate_file.read_bytes())
    (tmp_path / "client.key").write_bytes(trial.key_file.read_bytes())
    server = trial.enter(daemons.mosquitto(trial.authority))
    assert run(text, ("broker.example.org", "localhost"), ("8883", str(server.port))) == "True\n"


def test_page_of_ftplib_lists(trial: Trial, run: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = blocks("ftplib")
    folder = tmp_path / "ftp"
    folder.mkdir()
    (folder / "here.txt").write_text("here", encoding="utf-8")
    port, resumed = trial.enter(ftp_server(trial, folder))
    monkeypatch.setattr(ftplib.FTP, "port", port)
    assert run(text, ("ftp.example.org", "localhost")) == "['here.txt']\n"
    assert resumed == [True]


def test_page_of_ftplib_is_right_about_the_standard_library(trial: Trial, tmp_path: Path) -> None:
    (tmp_path / "here.txt").write_text("here", encoding="utf-8")
    port, resumed = trial.enter(ftp_server(trial, tmp_path))
    ftp = ftplib.FTP_TLS(context=trial.stdlib_client(), timeout=SECONDS)
    ftp.connect("localhost", port)
    ftp.login("ada", "secret")
    ftp.prot_p()
    with pytest.raises((ftplib.Error, OSError)):
        ftp.nlst()
    ftp.close()
    assert resumed == [False]


def test_index_has_every_page() -> None:
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([a-z0-9-]+)\.md\)", index))
    assert linked == {path.stem for path in PAGES.glob("*.md")} - {"README"}
