"""Trust on first use: what is remembered, when, and what a changed key comes to; in memory, a file, and handshakes."""

from __future__ import annotations

import dataclasses
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pellucid.connection import Connection
from pellucid.errors import UsageError
from pellucid.net.known_peers import FileKnownPeers
from pellucid.registry import CertificateType, HandshakeType
from pellucid.testing.bent import BentConnection
from pellucid.testing.ca import CA, Issued, self_signed
from pellucid.verify import (
    Failure,
    KnownPeer,
    KnownPeers,
    MemoryKnownPeers,
    Purpose,
    TrustOnFirstUse,
    VerificationReport,
    WebPKIVerifier,
    all_of,
    any_of,
    spki_pin,
)
from pellucid.verify.pins import parse_pin
from tests.support.pair import NAME as PAIR
from tests.support.pair import Pair, client_config, credential, events_of, issued, server_config
from tests.support.verifying import NAME, check_named, request_for

OLD, NEW = self_signed(NAME), self_signed(NAME)
PORTED = 8443


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> KnownPeers:
    return MemoryKnownPeers() if request.param == "memory" else FileKnownPeers(tmp_path / "known")


def asked(
    verifier: Any, leaf: Issued, name: str = NAME, port: int = PORTED, now: float = 1_790_000_000.0
) -> VerificationReport:
    request = dataclasses.replace(request_for(leaf, name, now=now), port=port)
    report = verifier.verify(request)
    assert isinstance(report, VerificationReport)
    return report


def test_the_first_key_is_remembered_once_it_was_proven_and_then_no_other_is_believed(store: KnownPeers) -> None:
    verifier = TrustOnFirstUse(store)
    first = asked(verifier, OLD)
    assert first.accepted and "not met before" in check_named(first, "first use").evidence
    assert store.lookup(NAME, PORTED) is None, "nothing is remembered of a peer that has not shown that it has the key"
    assert asked(verifier, NEW).accepted
    proven = first.proven()
    assert (
        proven.accepted
        and "is the key of server.test:8443 since 2026-09" in check_named(proven, "remembered key").evidence
    )
    assert asked(verifier, OLD, now=1_790_100_000.0).accepted
    changed = asked(verifier, NEW)
    assert changed.failure is Failure.KEY_CHANGED
    for part in (spki_pin(OLD.der), spki_pin(NEW.der), "since 2026-09-21"):
        assert part in changed.summary


def test_names_and_ports_are_kept_apart(store: KnownPeers) -> None:
    verifier = TrustOnFirstUse(store)
    asked(verifier, OLD).proven()
    assert asked(verifier, NEW, port=443).accepted
    assert asked(verifier, NEW, name="other.test").accepted
    assert not asked(verifier, NEW, name="SERVER.test.").accepted


def test_of_two_first_uses_at_once_one_is_first(store: KnownPeers) -> None:
    verifier = TrustOnFirstUse(store)
    one, other = asked(verifier, OLD), asked(verifier, NEW)
    assert one.proven().accepted
    late = other.proven()
    assert not late.accepted and late.failure is Failure.KEY_CHANGED and late.path == ()


def test_a_forgotten_server_is_met_anew(store: KnownPeers) -> None:
    verifier = TrustOnFirstUse(store)
    asked(verifier, OLD).proven()
    assert store.forget("Server.Test", PORTED)
    assert not store.forget(NAME, PORTED)
    assert asked(verifier, NEW).accepted


def test_unknown_servers_are_refused_if_only_known_ones_are_believed(store: KnownPeers) -> None:
    assert asked(TrustOnFirstUse(store, accept_new=False), OLD).failure is Failure.NOT_ALLOWED
    asked(TrustOnFirstUse(store), OLD).proven()
    assert asked(TrustOnFirstUse(store, accept_new=False), OLD).accepted


def test_name_and_dates_may_be_demanded_too(store: KnownPeers) -> None:
    assert asked(TrustOnFirstUse(store), OLD, name="x.test").accepted
    refused = asked(TrustOnFirstUse(store, check_name=True), OLD, name="x.test")
    assert refused.failure is Failure.WRONG_NAME and refused.on_proof == ()
    assert asked(TrustOnFirstUse(store, check_dates=True), OLD, now=1e9).failure is Failure.NOT_YET_VALID


def test_what_another_verifier_refuses_is_not_remembered(store: KnownPeers) -> None:
    web = WebPKIVerifier(CA().trust)
    report = asked(all_of(TrustOnFirstUse(store), web), OLD)
    assert not report.accepted and report.on_proof == () and not report.proven().accepted
    assert store.lookup(NAME, PORTED) is None
    either = asked(any_of(web, TrustOnFirstUse(store)), OLD)
    assert either.accepted and either.proven().accepted
    assert store.lookup(NAME, PORTED) is not None


def test_a_client_has_no_name_to_be_remembered_by() -> None:
    verifier = TrustOnFirstUse(MemoryKnownPeers())
    with pytest.raises(UsageError, match="AllowKeys"):
        verifier.verify(request_for(OLD, None, purpose=Purpose.CLIENT_AUTH))
    with pytest.raises(UsageError, match="without the server's name"):
        verifier.verify(request_for(OLD, None))


# ---- in a handshake --------------------------------------------------------------------------------------------------


def test_a_handshake_remembers_the_servers_key_under_name_and_port() -> None:
    met = MemoryKnownPeers()
    config = client_config(trust=None, verifier=TrustOnFirstUse(met))
    assert config.session_store is None, "a session would outlive what is forgotten"
    pair = Pair(Connection.client(config, PAIR, port=PORTED), Connection.server(server_config()))
    pair.connect()
    known = met.lookup(PAIR, PORTED)
    assert known is not None and known.pin == parse_pin(spki_pin(credential().chain[0]))
    other = Pair(
        Connection.client(config, PAIR, port=PORTED),
        Connection.server(server_config(credentials=(credential("p256", PAIR, "second.test"),))),
    )
    other.pump()
    assert "the one known since" in str(events_of(other.client)[1])


def test_a_server_without_the_key_is_not_remembered() -> None:
    """It shows a certificate that is not its own, and signs with another key."""
    met = MemoryKnownPeers()
    config = client_config(trust=None, verifier=TrustOnFirstUse(met))

    def edit(kind: int, raw: bytes) -> bytes:
        return raw if kind != HandshakeType.CERTIFICATE_VERIFY else raw[:-1] + bytes([raw[-1] ^ 1])

    pair = Pair(Connection.client(config, PAIR), BentConnection.bent_server(server_config(), edit=edit))
    pair.pump()
    error = events_of(pair.client)[1]
    assert error is not None and "CertificateVerify" in str(error)
    assert met.lookup(PAIR, 0) is None


def test_a_raw_public_key_is_remembered_as_well() -> None:
    met = MemoryKnownPeers()
    kinds = (CertificateType.RAW_PUBLIC_KEY,)
    config = client_config(trust=None, verifier=TrustOnFirstUse(met), server_certificate_types=kinds)
    raw = type(credential()).raw_public_key(issued().key_pem)
    Pair.of(config, server_config(credentials=(raw,))).connect()
    known = met.lookup(PAIR, 0)
    assert known is not None and known.pin == parse_pin(spki_pin(issued().der))


def test_who_cannot_remember_believes_nobody() -> None:
    class Full(MemoryKnownPeers):
        def remember(self, peer: KnownPeer) -> KnownPeer:
            raise OSError("no space left on device")

    pair = Pair.of(client_config(trust=None, verifier=TrustOnFirstUse(Full())), server_config())
    pair.pump()
    events, error = events_of(pair.client)
    assert error is not None and "HandshakeComplete" not in {type(event).__name__ for event in events}


# ---- the file --------------------------------------------------------------------------------------------------------


def test_the_file_is_private_readable_and_keeps_what_people_write(tmp_path: Path) -> None:
    path = tmp_path / "known"
    store = FileKnownPeers(path)
    asked(TrustOnFirstUse(store), OLD).proven()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert text.splitlines()[-1] == f"server.test 8443 {spki_pin(OLD.der)} 2026-09-21T14:13:20Z"
    path.write_text("# mine\n\n" + text.removesuffix("\n"))
    FileKnownPeers(path).remember(KnownPeer("b.test", 443, bytes(32), 0.0))
    assert path.read_text().startswith("# mine\n")
    assert [peer.host for peer in store.peers()] == [NAME, "b.test"]
    assert store.forget(NAME, PORTED) and path.read_text().startswith("# mine\n")
    assert [peer.host for peer in store.peers()] == ["b.test"]
    path.write_text(path.read_text().replace("b.test 443", "b.test  0443"))  # as somebody's editor has left it
    assert store.forget("b.test", 443)
    assert store.lookup("b.test", 443) is None


ZERO = f"sha256/{'A' * 43}="


@pytest.mark.parametrize(
    "line",
    [
        "server.test",
        "server.test 443 sha256/AAAA 2026-01-01T00:00:00Z",
        f"SERVER.test 443 {ZERO} 2026-01-01T00:00:00Z",
        f"server.test 70000 {ZERO} 2026-01-01T00:00:00Z",
        f"server.test 443 {ZERO} yesterday",
        f"a 1 {ZERO} 2026-01-01T00:00:00Z\na 1 {ZERO} 2026-01-01T00:00:00Z",
        "\udcff",
    ],
)
def test_a_damaged_file_is_refused_and_not_replaced(tmp_path: Path, line: str) -> None:
    path = tmp_path / "known"
    store = FileKnownPeers(path)
    path.write_bytes(line.encode("utf-8", "surrogateescape"))
    for act in (lambda: FileKnownPeers(path), lambda: asked(TrustOnFirstUse(store), OLD)):
        with pytest.raises(UsageError, match="known"):
            act()
    assert path.read_bytes() == line.encode("utf-8", "surrogateescape")


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "known"
    path.touch(0o600)
    path.chmod(0o666)
    with pytest.raises(UsageError, match="others may open it"):
        FileKnownPeers(path)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(UsageError, match="symbolic link"):
        FileKnownPeers(link)
    with pytest.raises(UsageError, match="No such file"):
        FileKnownPeers(tmp_path / "nowhere" / "known")


def test_threads_and_processes_remember_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "known"
    store = FileKnownPeers(path)
    code = (
        "import sys; from pellucid.net.known_peers import FileKnownPeers; from pellucid.verify import KnownPeer\n"
        "store = FileKnownPeers(sys.argv[1])\n"
        "for n in range(20): store.remember(KnownPeer(f'process{n}.test', 1, bytes(32), 0.0))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)])
    names = [f"thread{n}.test" for n in range(20)]
    threads = [
        threading.Thread(target=lambda some=some: [store.remember(KnownPeer(n, 1, bytes(32), 0.0)) for n in some])
        for some in (names[:10], names[10:])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert process.wait(60) == 0
    assert {peer.host for peer in store.peers()} == {*names, *(f"process{n}.test" for n in range(20))}
