"""record_size_limit (RFC 8449) with GnuTLS: each end names one, and no record that passes is larger."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pellucid
from pellucid import ClientConfig, Credential, ServerConfig, TrustStore
from pellucid.trace import Direction, RecordTraced, TraceEvent
from tests.interop import confined
from tests.interop.certificates import Certificates
from tests.interop.peers.gnutls import GnuTLS
from tests.interop.process import running
from tests.interop.spec import Role
from tests.support.needs import need

OURS, THEIRS = 520, 700  # GnuTLS takes nothing under 512 unless it is told to, and counts without the content type
LINES = b"".join(b"%079d\n" % number for number in range(100))


def largest(seen: list[TraceEvent], direction: Direction) -> int:
    """Return the most bytes that one protected record had inside."""
    records = (event for event in seen if isinstance(event, RecordTraced) and event.sequence is not None)
    return max(event.content_size + 1 + event.padding_size for event in records if event.direction is direction)


def _need(role: Role) -> None:
    peer = GnuTLS()
    need(peer.missing() or peer.lacks(role).get("role"))


@pytest.mark.peer("gnutls")
@pytest.mark.rfc("8449 §4", "an endpoint generates no protected record larger than the limit it receives")
def test_our_client_and_gnutls_obey_each_other(certificates: Certificates, tmp_path: Path) -> None:
    _need(Role.SERVER)
    credential, seen = certificates.servers["ecdsa-p256"], list[TraceEvent]()
    config = ClientConfig(
        trust=TrustStore.from_pem(certificates.ca.read_bytes()),
        record_size_limit=OURS,
        trace=lambda: seen.append,
        trace_records=True,
    )
    command = ["gnutls-serv", "--port", str(confined.PORT), "--echo", "--recordsize", str(THEIRS)]
    command += ["--x509certfile", str(credential.certificate), "--x509keyfile", str(credential.key)]
    with confined.confined([*command, "--disable-client-cert"], cwd=tmp_path) as (program, port):
        program.wait_for(rb"IPv4 .*done")
        with pellucid.connect("127.0.0.1", port, config=config, server_name="localhost", timeout=10.0) as stream:
            stream.sendall(LINES)
            echoed = b""
            while len(echoed) < len(LINES) and (data := stream.recv(65_536)):
                echoed += data
    assert echoed == LINES
    assert largest(seen, Direction.SENT) == THEIRS + 1
    assert OURS - 100 < largest(seen, Direction.RECEIVED) <= OURS  # the certificates come in records that are full


@pytest.mark.peer("gnutls")
@pytest.mark.rfc("8449 §4", "in TLS 1.3 the server sends record_size_limit in EncryptedExtensions")
def test_gnutls_and_our_server_obey_each_other(certificates: Certificates, tmp_path: Path) -> None:
    _need(Role.CLIENT)
    credential, seen = certificates.servers["ecdsa-p256"], list[TraceEvent]()
    own = Credential.from_pem(credential.certificate.read_bytes(), credential.key.read_bytes())
    config = ServerConfig(credentials=(own,), record_size_limit=OURS, trace=lambda: seen.append, trace_records=True)
    with pellucid.listen("127.0.0.1", 0, config) as listener:
        command = ["gnutls-cli", "--x509cafile", str(certificates.ca), "--port", str(listener.address[1])]
        command += ["--sni-hostname", "localhost", "--verify-hostname", "localhost"]
        with running([*command, "--recordsize", str(THEIRS), "127.0.0.1"], cwd=tmp_path) as program:
            with listener.accept(timeout=10.0) as stream:
                program.write(b"x" * 518 + b"\n")
                received = b""
                while not received.endswith(b"\n") and (data := stream.recv(65_536)):
                    received += data
                stream.sendall(LINES + b"the end\n")
                program.wait_for(rb"the end")
                program.close_input()
            printed = program.output()
    assert received == b"x" * 518 + b"\n"
    shown = re.findall(r"^\d{79}$", printed, re.MULTILINE)  # the end of what was printed
    assert shown and shown == LINES.decode().split()[-len(shown) :]
    assert largest(seen, Direction.SENT) == THEIRS + 1
    assert largest(seen, Direction.RECEIVED) == OURS
