"""Every fault of a peer, met in this process: the error has the code that is expected, and so has its record."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import socket
from collections.abc import Iterator

import pytest

import pellucid
from pellucid import explain
from pellucid.errors import Explained
from pellucid.testing.faults import FAULTS, FaultyClient, FaultyServer
from pellucid.trace import Role
from tests.support.pair import credential

SERVERS = [name for name, fault in FAULTS.items() if fault.side is Role.SERVER]
CLIENTS = [name for name, fault in FAULTS.items() if fault.side is Role.CLIENT]
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

# That nothing came any more after the handshake ends no connection, so a record does not tell.
NOT_IN_THE_RECORD = {"silent-after-handshake", "client-silent-after-handshake"}
_BRIEF = {"PEER-STALLED", "TCP-TIMEOUT"}


def patience(name: str) -> float:
    return 0.25 if FAULTS[name].code in _BRIEF else 10.0


@contextlib.contextmanager
def failing() -> Iterator[list[Explained]]:
    """Collect the error of the block, which must be one that can be explained, in one line."""
    found: list[Explained] = []
    with pytest.raises(OSError) as caught:
        yield found
    assert isinstance(caught.value, Explained)
    found.append(caught.value)


def told(error: Explained, recorder: explain.Recorder, name: str) -> None:
    report = error.report
    assert isinstance(report, explain.Diagnosis)
    expected = FAULTS[name].code
    assert report.code == expected, str(error)
    assert explain.diagnose(error, recorder=recorder).code == expected
    if name not in NOT_IN_THE_RECORD:
        assert explain.diagnose(recorder).code == expected
    assert "\n" not in str(error)
    assert report.cause and report.remedy and report.phase
    assert report.text() == error.__notes__[0]


@pytest.mark.parametrize("name", SERVERS)
def test_fault_of_a_server_is_named(name: str) -> None:
    recorder, seconds = explain.Recorder(), patience(name)
    with FaultyServer(name, pace=0.1) as server, failing() as found:
        where = {server.host: server.address}
        with pellucid.connect(
            server.host,
            server.port,
            server.client_config,
            resolve=where,
            timeout=seconds,
            handshake_timeout=seconds,
            trace=recorder,
        ) as stream:
            stream.settimeout(seconds)
            stream.sendall(REQUEST)
            stream.read_to_end(limit=2**20)
    told(found[0], recorder, name)


@functools.cache
def victim() -> pellucid.ServerConfig:
    return pellucid.ServerConfig(credentials=(credential("p256", "localhost"),))


@pytest.mark.parametrize("name", CLIENTS)
def test_fault_of_a_client_is_named(name: str) -> None:
    recorder, seconds = explain.Recorder(), patience(name)
    with FaultyClient(name, pace=0.1) as client, socket.create_server(("127.0.0.1", 0)) as listener:
        changes = dict(client.fault.needs.config)
        if "client_authentication" in changes:
            changes["client_trust"] = pellucid.TrustStore.from_pem(client.ca_pem)
        client.start("127.0.0.1", listener.getsockname()[1])
        sock, _ = listener.accept()
        with failing() as found:
            config = dataclasses.replace(victim(), **changes)
            with pellucid.wrap(sock, config, handshake_timeout=seconds, trace=recorder) as stream:
                stream.settimeout(seconds)
                while b"\r\n\r\n" not in stream.recv():
                    continue
                stream.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                stream.recv()
    told(found[0], recorder, name)
    assert found[0].circumstances is not None and found[0].circumstances.role == "server"
