"""`pellucid serve DIR` with a certificate of one's own, as a browser and curl see it."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop import chromium, confined
from tests.interop.certificates import Certificates, CredentialFiles, make_certificates
from tests.interop.exchange import LARGE, PAGE
from tests.interop.process import Program, output_of, running
from tests.support.needs import need


@pytest.fixture(scope="module")
def credential(certificates: Certificates) -> CredentialFiles:
    return certificates.servers["ecdsa-p256"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = tmp_path / "site"
    site.mkdir()
    (site / "page.html").write_bytes(PAGE)
    (site / "large.bin").write_bytes(LARGE)
    return site


@pytest.fixture
def server(site: Path, credential: CredentialFiles) -> Iterator[tuple[Program, str]]:
    """Yield the program and the URL it prints, which is all that it prints."""
    command = [sys.executable, "-m", "pellucid", "serve", site, "--port", "0"]
    command += ["--cert", credential.certificate, "--key", credential.key]
    with running(command) as program:
        port = int(program.wait_for(rb"^https://localhost:(\d+)/$").group(1))
        yield program, f"https://localhost:{port}"


@pytest.mark.peer("chromium")
def test_serve_command_page_comes_to_chromium_over_http2(
    server: tuple[Program, str], credential: CredentialFiles
) -> None:
    need(chromium.missing())
    program, url = server
    page = chromium.load(f"{url}/page.html", credential.spki_sha256())
    assert page.protocol == "h2", f"{page.dom}\n{program.output()}"


@pytest.mark.peer("curl")
def test_serve_command_file_comes_to_curl_over_http2(
    server: tuple[Program, str], certificates: Certificates, tmp_path: Path
) -> None:
    need(None if shutil.which("curl") else "no curl on the PATH (apt install curl)")
    program, url = server
    to = tmp_path / "fetched"
    command = ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "20", "--http2"]
    command += ["--cacert", certificates.ca, "--output", to, "--write-out", "%{http_version} %{ssl_verify_result}"]
    said = output_of([*command, f"{url}/large.bin"])
    assert said == "2 0", f"{said}\n{program.output()}"
    assert to.read_bytes() == LARGE


@pytest.mark.peer("curl")
def test_serve_command_is_refused_by_curl_with_another_ca(server: tuple[Program, str], tmp_path: Path) -> None:
    need(None if shutil.which("curl") else "no curl on the PATH (apt install curl)")
    _, url = server
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "20"]
    said = output_of([*command, "--cacert", make_certificates(tmp_path / "other").ca, f"{url}/page.html"])
    assert re.search(r"\(60\) .*certificate", said), said


@pytest.mark.skipif(sys.platform != "linux", reason="who listens where is read from Linux's /proc")
def test_serve_command_listens_on_loopback_only(server: tuple[Program, str]) -> None:
    program, url = server
    sockets = confined.reachable_sockets(program.pid)
    assert [str(listening.port) for listening in sockets] == [url.rpartition(":")[2]]
    assert all(listening.is_loopback() for listening in sockets), sockets
