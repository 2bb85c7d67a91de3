"""`pellucid serve` follows its files: on SIGHUP, by itself, and never to something that cannot serve."""

from __future__ import annotations

import datetime
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import pellucid
from pellucid.testing.ca import CA, Issued
from tests.unit.test_cli_serve import Running, Serve, home, serve, site
from tests.unit.test_reload import write

__all__ = ["home", "serve", "site"]

AUTHORITY = CA("Serving root")


def put(at: Path, leaf: Issued) -> None:
    write(at / "site.crt", leaf.chain_pem)
    write(at / "site.key", leaf.key_pem)


def connected(server: Running) -> pellucid.Stream:
    port = int(server.url.rsplit(":", 1)[1].strip("/"))
    config = pellucid.ClientConfig(trust=AUTHORITY.trust, sessions=None)
    return pellucid.connect("localhost", port, config)


def shown(stream: pellucid.Stream) -> bytes:
    assert stream.peer is not None
    return stream.peer.leaf.der


def answer(stream: pellucid.Stream) -> bytes:
    stream.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    stream.settimeout(20)
    received = b""
    while b"hello" not in received:
        received += stream.recv()
    return received


def until_shown(server: Running, leaf: Issued) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with connected(server) as stream:
            if shown(stream) == leaf.der:
                return
        time.sleep(0.05)
    raise AssertionError("the new certificate is not in use")


def test_serve_reloads_on_hangup_and_drops_no_connection(serve: Serve, site: Path, tmp_path: Path) -> None:
    before, after = AUTHORITY.issue("localhost"), AUTHORITY.issue("localhost")
    put(tmp_path, before)
    with serve(site, "--cert", "site.crt", "--key", "site.key") as server, connected(server) as kept:
        assert b"200" in answer(kept)
        put(tmp_path, after)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("reloaded: localhost", server.said)
        with connected(server) as stream:
            assert shown(stream) == after.der
            assert b"200" in answer(stream)
        assert shown(kept) == before.der
        assert b"200" in answer(kept)


def test_serve_follows_its_files_and_keeps_what_works_where_they_do_not(
    serve: Serve, site: Path, tmp_path: Path
) -> None:
    before, after = AUTHORITY.issue("localhost"), AUTHORITY.issue("localhost")
    put(tmp_path, before)
    with serve(site, "--cert", "site.crt", "--key", "site.key") as server:
        write(tmp_path / "site.key", after.key_pem)
        server.wait_for("not reloaded, what was there before stays in use", server.said)
        with connected(server) as stream:
            assert shown(stream) == before.der
        put(tmp_path, after)
        server.wait_for("reloaded: localhost", server.said)
        until_shown(server, after)


def test_serve_with_a_development_certificate_takes_a_hangup_in_its_stride(serve: Serve, site: Path) -> None:
    with serve(site) as server:
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("reloaded: localhost", server.said)


def test_serve_does_not_outlive_its_terminal(site: Path, home: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pellucid", "serve", "--port", "0", str(site)]
    environment = os.environ | {"PELLUCID_HOME": str(home)}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    ) as process:
        os.close(theirs)
        seen = b""
        while b"https://localhost" not in seen:
            seen += os.read(ours, 4096)
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        try:
            process.wait(20)
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("what", "hint"), [("order", "first, then each one's issuer"), ("foreign", "each one's issuer")]
)
def test_serve_is_not_started_with_a_chain_out_of_order(what: str, hint: str, site: Path, tmp_path: Path) -> None:
    leaf = AUTHORITY.intermediate("Serving intermediate").issue("localhost")
    root = AUTHORITY.certificate.public_bytes(Encoding.PEM)
    rest = leaf.chain_pem.removeprefix(leaf.certificate_pem)
    other = CA("Other").certificate.public_bytes(Encoding.PEM)
    chain = leaf.certificate_pem + (root + rest if what == "order" else other)
    write(tmp_path / "site.crt", chain)
    write(tmp_path / "site.key", leaf.key_pem)
    command = [sys.executable, "-m", "pellucid", "serve", "--port", "0", str(site)]
    found = subprocess.run(
        [*command, "--cert", "site.crt", "--key", "site.key"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 58
    assert "did not issue the one before it" in found.stderr
    assert hint in found.stderr


def test_serve_warns_of_a_certificate_that_ends_soon(serve: Serve, site: Path, tmp_path: Path) -> None:

    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    put(tmp_path, AUTHORITY.issue("localhost", not_before=now - 87 * day, not_after=now + 3 * day))
    with serve(site, "--cert", "site.crt", "--key", "site.key") as server:
        server.wait_for("expires in 3 days", server.said)
