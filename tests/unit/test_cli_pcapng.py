"""`--pcapng` on get and serve: one file, and tshark shows what was said, without being told a port or a key."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.unit.test_cli_get import Get, Server, get, server
from tests.unit.test_cli_serve import Serve, home, serve, site
from tests.unit.test_explain_pcapng import http, tshark

__all__ = ["get", "home", "serve", "server", "site"]  # fixtures

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and permissions are POSIX's")


@pytest.mark.program("tshark")
def test_get_and_serve_write_what_tshark_opens(get: Get, serve: Serve, site: Path, home: Path, tmp_path: Path) -> None:
    both = tmp_path / "serve.pcapng"
    with serve(site, "--pcapng", both) as running:
        for number, options in enumerate(([], ["--http1.1"])):
            path = tmp_path / f"get{number}.pcapng"
            ca = home / "ca" / "ca.pem"
            result = get("--cacert", ca, "--pcapng", path, *options, running.url, trust=False)
            assert (result.code, result.out) == (0, b"hello")
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            if options:
                assert [(method, status) for _, method, status in http(path)] == [("GET", ""), ("", "200")]
            else:
                assert http(path) == []  # and nothing amiss
                headers = tshark(path, "-Y", "http2", "-T", "fields", "-e", "http2.headers.method")
                assert "GET" in headers
                assert tshark(path, "-Y", "http2.headers.status == 200")
        assert running.stop() == 0
    assert stat.S_IMODE(both.stat().st_mode) == 0o600
    assert [status for _, _, status in http(both)] == ["", "200"]
    assert tshark(both, "-Y", "http2.headers.status == 200")
    ports = tshark(both, "-Y", "tcp.flags.syn == 1 and tcp.flags.ack == 0", "-T", "fields", "-e", "tcp.dstport")
    assert ports == [str(running.port)] * 2


@pytest.mark.program("tshark")
def test_get_without_alpn_of_the_server_is_shown_too(get: Get, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    assert get("--pcapng", path, server.url).code == 0
    assert [(method, status) for _, method, status in http(path)] == [("GET", ""), ("", "200")]


def test_get_pcapng_that_cannot_be_written_exits_with_23(get: Get, server: Server, tmp_path: Path) -> None:
    assert get("--pcapng", tmp_path / "nowhere" / "out", server.url).code == 23
    assert not server.requests
    if os.path.exists("/dev/full"):
        result = get("--pcapng", "/dev/full", server.url)
        assert result.code == 23
        assert "No space left" in result.err
