"""Peers' servers can be reached from this machine only, and ending the program that holds one ends it."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.interop import confined
from tests.interop.cells import all_cells
from tests.interop.certificates import Certificates
from tests.interop.exchange import Purpose
from tests.interop.peers import PEERS
from tests.interop.spec import Role, ServerSpec
from tests.support.needs import need

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="who listens where is read from Linux's /proc")

# Binds every interface, as gnutls-serv does; answers what it read up to the end, and ends the connection so.
ECHO = """
import socket
with socket.create_server(("", 4433)) as listener:
    while True:
        sock, _ = listener.accept()
        with sock:
            data = b""
            while more := sock.recv(65536):
                data += more
            sock.sendall(data)
"""
SERVERS = [peer.name for peer, role in all_cells() if role is Role.SERVER and peer.name != "curl"]


def _need_namespaces() -> None:
    need(confined.missing())


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.peer(name)) for name in SERVERS])
def test_interop_server_peer_listens_on_loopback_only(name: str, certificates: Certificates, tmp_path: Path) -> None:
    peer = PEERS[name]
    need(peer.missing() or peer.limits(Role.SERVER).get("role"))
    peer.prepare(Purpose.HELLO)
    spec = ServerSpec(workdir=tmp_path, ca=certificates.ca, credential=certificates.servers["ecdsa-p256"])
    with peer.serve(spec) as server:
        assert server.pid is not None
        sockets = confined.reachable_sockets(server.pid)
    assert {listening.port for listening in sockets} == {server.port}
    assert all(listening.is_loopback() for listening in sockets), sockets


def test_confined_server_answers_after_a_half_close_and_ends_with_its_holder(tmp_path: Path) -> None:
    _need_namespaces()
    large = bytes(range(256)) * 2**13
    with confined.confined([sys.executable, "-c", ECHO], cwd=tmp_path) as (program, port):
        for data in (b"", b"short", large):
            with socket.create_connection(("127.0.0.1", port), 20.0) as sock:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda sock=sock: sock.recv(2**16), b""))
            assert answer == data
        family = confined._family(program.pid)
        assert len(family) == 2
    deadline = time.monotonic() + 5.0
    while any(Path(f"/proc/{pid}").exists() for pid in family) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]


def test_confined_server_is_beyond_reach_and_the_check_would_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _need_namespaces()
    with confined.confined([sys.executable, "-c", ECHO], cwd=tmp_path) as (program, port):
        with contextlib.closing(socket.create_connection(("127.0.0.1", port), 20.0)) as sock:
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""  # now it listens
        assert [(str(seen.address), seen.port) for seen in confined.reachable_sockets(program.pid)] == [
            ("127.0.0.1", port)
        ]
        # As if its namespace had another interface.
        monkeypatch.setattr(confined, "_interfaces", lambda pid: {"lo", "eth0"})
        seen = [listening for listening in confined.reachable_sockets(program.pid) if not listening.is_loopback()]
    assert [(str(listening.address), listening.port) for listening in seen] == [("0.0.0.0", confined.PORT)]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0100007F", "127.0.0.1"),
        ("00000000", "0.0.0.0"),
        ("00000000000000000000000001000000", "::1"),
        ("0000000000000000FFFF00000100007F", "::ffff:127.0.0.1"),
        ("00000000000000000000000000000000", "::"),
    ],
)
@pytest.mark.skipif(sys.byteorder != "little", reason="as a little-endian kernel prints them")
def test_confined_address_is_read_as_the_kernel_prints_it(text: str, address: str) -> None:
    assert confined._address(text) == ipaddress.ip_address(address)
