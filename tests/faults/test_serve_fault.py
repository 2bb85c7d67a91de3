"""`pellucid serve --fault`: the list, what is told, and that clients meet the fault; as a program and in place."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pellucid.cli.main import main
from pellucid.testing.faults import FAULTS
from pellucid.trace import Role
from tests.support.programs import Pellucid

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["serve", *arguments])
    code = left.value.code
    assert isinstance(code, int)
    return code


@contextmanager
def serving(tmp_path: Path, *arguments: str) -> Iterator[tuple[Pellucid, str]]:
    """Start the command; yield it and its URL. What it says goes to a file, `said`."""
    environment = {name: value for name, value in os.environ.items() if name != "SSLKEYLOGFILE"}
    with (tmp_path / "said").open("w", encoding="utf-8") as said:
        environment |= {"TMPDIR": str(tmp_path)}
        process = Pellucid("serve", "--port", "0", *arguments, cwd=Path.cwd(), env=environment, stderr=said)
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()
            process.wait(10)
            process.stdout.close()


def test_list_shows_every_fault_of_a_server_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--fault", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    servers = [fault for fault in FAULTS.values() if fault.side is Role.SERVER]
    for fault in servers:
        (line,) = (line for line in lines if line.split()[0] == fault.name)
        assert line.split()[1] == fault.code
        assert line.endswith(fault.summary)
    assert len(lines) == len(servers) + 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--fault", "expird"), "did you mean expired?"),
        (("--fault", "client-silent"), "no fault 'client-silent' of a server"),
        (("--fault", "expired", "."), "not ."),
        (("--fault", "expired", "--host", "0.0.0.0"), "not --host"),
        ((), "Missing argument"),
    ],
    ids=["unknown", "of-a-client", "with-target", "with-host", "neither"],
)
def test_what_makes_no_sense_is_refused(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    assert words in capsys.readouterr().err


def test_port_in_use_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert run("--fault", "expired", "--port", str(taken.getsockname()[1])) == 7
    assert "another program listens there" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_fault_is_served_until_a_signal_comes(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path, "--fault", "expired") as (process, url):
        said = (tmp_path / "said").read_text(encoding="utf-8")
        assert "expired: the certificate expired yesterday" in said
        assert "X509-EXPIRED" in said
        path = next(line for line in said.splitlines() if line.startswith("Trust")).split()[-1]
        assert f"pellucid get --cacert {path} {url}" in said
        port = int(url.rstrip("/").rpartition(":")[2])
        context = ssl.create_default_context(cafile=path)
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port), 5) as sock, pytest.raises(ssl.SSLError, match="expired"):
                context.wrap_socket(sock, server_hostname="localhost")
        end = time.monotonic() + 10
        while (tmp_path / "said").read_text(encoding="utf-8").count("given up by the client: certificate_expired") < 2:
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(10) == 0
    assert not Path(path).exists()
    said = (tmp_path / "said").read_text(encoding="utf-8")
    assert "Traceback" not in said


def test_needs_are_told_as_options(tmp_path: Path) -> None:
    with serving(tmp_path, "--fault", "certificate-refused"):
        said = (tmp_path / "said").read_text(encoding="utf-8")
        assert "It needs, to notice, a certificate that the server does not trust." in said
        command = next(line for line in said.splitlines() if "pellucid get" in line)
        key = Path(command.split("--cert ")[1])
        assert b"PRIVATE KEY" in key.read_bytes()
        assert key.stat().st_mode & 0o077 == 0


@pytest.mark.program("tshark")
def test_fault_is_recorded_as_it_was_sent(tmp_path: Path) -> None:
    """--pcapng beside --fault: what tshark shows is the second HelloRetryRequest, not what an honest server says."""
    record = tmp_path / "fault.pcapng"
    with serving(tmp_path, "--fault", "second-retry", "--pcapng", str(record)) as (process, url):
        path = next(
            line for line in (tmp_path / "said").read_text(encoding="utf-8").splitlines() if line.startswith("Trust")
        ).split()[-1]
        context = ssl.create_default_context(cafile=path)
        sock = socket.create_connection(("127.0.0.1", int(url.rstrip("/").rpartition(":")[2])), 5)
        with sock, pytest.raises(ssl.SSLError):
            context.wrap_socket(sock, server_hostname="localhost")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    # HelloRetryRequest is a ServerHello on the wire (RFC 9846 §4.2.3).
    shown = subprocess.run(
        ["tshark", "-r", str(record), "-Y", "tls.handshake.type == 2", "-T", "fields", "-e", "tls.handshake.type"],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    assert shown.stdout.replace("\n", ",").count("2") == 2, shown.stdout
