"""`pellucid page` as a program, and the page's application under `pellucid serve`."""

from __future__ import annotations

import html
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from pellucid.cli.page import _is_loopback
from pellucid.config import ClientConfig
from pellucid.integrations.ssl_context import SSLContext
from pellucid.net.load import load_trust
from pellucid.net.sync import connect
from pellucid.testing.ca import CA
from tests.support.programs import Pellucid
from tests.unit.test_reload import write

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


@contextmanager
def program(home: Path, *arguments: str) -> Iterator[tuple[str, httpx2.Client, Pellucid]]:
    """Run the command until its URL is there; give that, a client that trusts it, and the process."""
    environment = {name: value for name, value in os.environ.items() if name != "SSLKEYLOGFILE"}
    environment |= {"PELLUCID_HOME": str(home), "COLUMNS": "80"}
    with (
        open(home / "said", "w", encoding="utf-8") as said,
        Pellucid(*arguments, cwd=home, env=environment, stderr=said) as process,
    ):
        try:
            url = process.stdout.readline().strip()
            assert url.startswith("https://"), (home / "said").read_text()
            context = SSLContext(ClientConfig(trust=load_trust(home / "ca" / "ca.pem")))
            with httpx2.Client(verify=context, http2=True, trust_env=False, timeout=20) as client:
                yield url, client, process
        finally:
            process.kill()
            process.wait(10)


def test_page_is_served_with_a_port_for_retries_and_ends_when_told(tmp_path: Path) -> None:
    with program(tmp_path, "page", "--port", "0") as (url, client, process):
        page = client.get(url, headers={"accept": "text/html"})
        assert page.http_version == "HTTP/2"
        assert "client_handshake_traffic_secret" in page.text
        assert "Connect with a HelloRetryRequest</a>" in page.text
        (other,) = set(re.findall(r"https://localhost:\d+/", page.text)) - {url}
        assert client.get(other).text.count("ClientHello") >= 2
        live = html.unescape(page.text.partition('data-live="')[2].partition('"')[0])
        with client.stream("GET", url.rstrip("/") + live) as stream:  # nobody waits for it to end
            assert next(stream.iter_lines()).startswith(":")
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
    said = (tmp_path / "said").read_text()
    assert "Each visitor sees the secrets of its own connection." in said
    assert "Chromium" in said or "curl" in said


def test_page_follows_its_files_on_both_ports(tmp_path: Path) -> None:
    authority = CA("page root")
    before, after = authority.issue("localhost"), authority.issue("localhost")
    (tmp_path / "ca").mkdir()
    write(tmp_path / "ca" / "ca.pem", authority.root_pem)
    write(tmp_path / "site.pem", before.chain_pem + before.key_pem)
    with program(tmp_path, "page", "--port", "0", "--cert", "site.pem") as (url, client, process):
        page = client.get(url, headers={"accept": "text/html"}).text
        (other,) = set(re.findall(r"https://localhost:\d+/", page)) - {url}
        write(tmp_path / "site.pem", after.chain_pem + after.key_pem)
        process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 20
        while "reloaded: localhost" not in (tmp_path / "said").read_text() and time.monotonic() < until:
            time.sleep(0.02)
        for address in (url, other):
            port = int(address.rstrip("/").rpartition(":")[2])
            config = ClientConfig(trust=authority.trust, sessions=None)
            with connect("localhost", port, config) as stream:
                assert stream.peer is not None
                assert stream.peer.leaf.der == after.der
                assert stream.negotiated is not None
                assert stream.negotiated.retried is (address == other)


def test_public_page_says_that_it_hides_secrets(tmp_path: Path) -> None:
    with program(tmp_path, "page", "--port", "0", "--public", "--no-hrr") as (url, client, _):
        document = client.get(url, headers={"accept": "application/json"}).json()
        assert document["secrets_revealed"] is False
        page = client.get(url, headers={"accept": "text/html"}).text
        assert "Change the keys" in page
        assert "HelloRetryRequest</a>" not in page
        assert re.findall(r"https://[^\"<]*", page) == []
    assert "Secrets are not shown." in (tmp_path / "said").read_text()


def test_application_runs_under_serve(tmp_path: Path) -> None:
    with program(tmp_path, "serve", "pellucid.web:app", "--port", "0") as (url, client, _):
        document = client.get(url, headers={"accept": "application/json"}).json()
    assert document["secrets_revealed"] is False
    assert "ClientHello" in str(document)


def test_secrets_are_for_this_machine_where_nothing_is_said() -> None:
    assert all(map(_is_loopback, ("127.0.0.1", "127.8.0.1", "::1", "localhost", "a.localhost")))
    assert not any(map(_is_loopback, ("0.0.0.0", "::", "", "192.0.2.1", "example.org", "notlocalhost")))


def test_contradictory_options_are_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pellucid", "page", "--port", "0", "--hrr-port", "0", "--no-hrr"]
    done = subprocess.run(
        command,
        env={**os.environ, "PELLUCID_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "exclude each other" in done.stderr
