"""The pytest plugin in a user's run: its fixtures work, and who does not use them pays nothing for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.needs import need_module

PASSES = """
import socket
import ssl

import pytest


def test_server(broken_server):
    server = broken_server("expired")
    context = ssl.create_default_context(cadata=server.ca_pem.decode())
    with socket.create_connection((server.address, server.port), 5) as sock:
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            context.wrap_socket(sock, server_hostname=server.host)


def test_two_servers(broken_server):
    assert broken_server("self-signed").port != broken_server("wrong-name").port


def test_client(broken_client, tls_ca, tmp_path):
    leaf = tls_ca.issue("localhost")
    (tmp_path / "server.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heard = broken_client("client-wrong-finished").start("127.0.0.1", listener.getsockname()[1])
        sock, _ = listener.accept()
        with sock, pytest.raises(ssl.SSLError, match="(?i)digest.check.failed"):
            context.wrap_socket(sock, server_side=True)
        assert heard.result(5).alert == 51  # decrypt_error


def test_https_server(https_server, tls_ca):
    server = https_server({"/": "hello"})
    context = ssl.create_default_context(cadata=tls_ca.root_pem.decode())
    with socket.create_connection((server.address, server.port), 5) as sock:
        with context.wrap_socket(sock, server_hostname=server.host) as stream:
            stream.sendall(b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
            assert b"".join(iter(lambda: stream.recv(4096), b"")).endswith(b"hello")


def test_no_such_fault(broken_server):
    with pytest.raises(OSError, match="did you mean expired"):
        broken_server("expird")
"""

PAYS_NOTHING = """
import sys


def test_nothing_of_pellucid_is_loaded():
    assert "pellucid_pytest" in sys.modules
    assert not {name for name in sys.modules if name == "pellucid" or name.startswith("pellucid.")}
    assert "cryptography" not in sys.modules
"""

# As in an installation without any extra.
WITHOUT_EXTRAS = """
import sys

for name in ("click", "rich", "anyio", "httpx2", "hypercorn", "h2", "h11", "trio", "certifi", "wassima", "brotli"):
    sys.modules[name] = None
"""


def run(
    path: Path, text: str, *arguments: str, conftest: str = "", alone: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run pytest over *text*. alone: without the plugins that happen to be installed."""
    (path / "test_of_a_user.py").write_text(text, encoding="utf-8")
    (path / "conftest.py").write_text(conftest, encoding="utf-8")
    quiet = ("-q", "-W", "error", "-p", "no:cacheprovider", "--rootdir", str(path), "-c", "/dev/null")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *quiet, *arguments, str(path)],
        cwd=path,
        env=os.environ | ({"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} if alone else {}),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def test_fixtures_work_without_any_extra_and_any_other_plugin(tmp_path: Path) -> None:
    done = run(tmp_path, PASSES, "-p", "pellucid_pytest", conftest=WITHOUT_EXTRAS, alone=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("-p", "pellucid_pytest"), ("-n", "2")], ids=["", "named", "-n 2"])
def test_fixtures_work_beside_other_plugins(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(tmp_path, PASSES, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def test_a_run_without_the_fixtures_loads_nothing(tmp_path: Path) -> None:
    # hypothesis and others may load cryptography for reasons of their own: only what pytest itself needs is there.
    done = run(tmp_path, PAYS_NOTHING, "-p", "no:hypothesispytest", "-p", "no:anyio")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_coverage_of_what_the_fixtures_import_is_measured_from_its_first_line(tmp_path: Path) -> None:
    need_module("pytest_cov")
    done = run(tmp_path, PASSES, "--cov=pellucid.testing.faults", "--cov-report=term", "-W", "ignore")
    assert done.returncode == 0, done.stdout + done.stderr
    row = next(
        line for line in done.stdout.splitlines() if "faults/certificates.py" in line or "certificates.py" in line
    )
    assert int(row.split()[-1].rstrip("%")) > 40, row
