"""The peers of the bench: each does what it is measured with, and verifies; who cannot says why."""

from __future__ import annotations

from typing import Any

import pytest

from bench import peers
from bench.peers import AES_256, ALL, CHACHA, HYBRID, NOT_INSTALLED, Certificates, CrossedStack, How, NotAsAskedError
from bench.peers.interface import AES_128, GROUPS, SUITES, handshake
from bench.peers.proof import chosen, proven, unverified
from tests.support.needs import need

CERTIFICATES = Certificates()
HOWS = {
    "plain": How(),
    "AES-256": How(suite=AES_256),
    "ChaCha20": How(suite=CHACHA),
    "hybrid": How(group=HYBRID),
    "resumed": How(resume=True),
    "early": How(resume=True, early=500),
}
CANNOT = {
    ("ssl", "early"): "no 0-RTT",
    ("pyOpenSSL", "early"): "no 0-RTT",
    ("rtls", "resumed"): "no sessions",
    ("rtls", "early"): "no sessions",
    ("utls", "resumed"): "gives out no session that has a ticket",
    ("utls", "early"): "gives out no session that has a ticket",
    ("siotls", "hybrid"): "no X25519MLKEM768",
    ("siotls", "resumed"): "no sessions",
    ("siotls", "early"): "no sessions",
    ("tlslite-ng", "hybrid"): "no X25519MLKEM768 without kyber-py",
    ("tlslite-ng", "early"): "no 0-RTT",
    ("aioquic.tls", "hybrid"): "no X25519MLKEM768",
    ("aioquic.tls", "early"): "early data is QUIC's",
}


def there(name: str) -> Any:
    kind = peers.peer(name)
    need(None if not isinstance(kind, str) else f"{name}: make bench installs it")
    return kind


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("how", HOWS)
def test_each_peer_does_as_asked_or_says_why_not(name: str, how: str) -> None:
    there(name)
    stack = peers.ready(name, CERTIFICATES, HOWS[how])
    expected = CANNOT.get((name, how))
    if (name, how) == ("ssl", "hybrid") and isinstance(stack, str):
        expected = "no X25519MLKEM768 before OpenSSL 3.5"
    if expected is not None:
        assert stack == expected
        return
    assert not isinstance(stack, str), stack
    pair = proven(stack, HOWS[how])
    if name != "aioquic.tls" and how == "plain":
        pair.send(bytes(100_000))
        if not isinstance(stack, CrossedStack):
            pair.ping_pong(bytes(100))


@pytest.mark.parametrize("name", ALL)
def test_each_peer_verifies_chain_and_name(name: str) -> None:
    assert unverified(there(name)) == ""


def test_who_does_not_verify_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(peers.StdlibStack):
        def __init__(self, certificates: Certificates, how: How = peers.PLAIN) -> None:
            super().__init__(certificates, how)
            self.client.check_hostname = False

    monkeypatch.setattr(peers, "peer", lambda _: Careless)
    assert peers.ready("ssl", CERTIFICATES, How()) == "does not verify the name"

    class Blind(Careless):
        def __init__(self, certificates: Certificates, how: How = peers.PLAIN) -> None:
            super().__init__(certificates, how)
            self.client.verify_mode = 0

    monkeypatch.setattr(peers, "peer", lambda _: Blind)
    assert peers.ready("ssl", CERTIFICATES, How()) == "does not verify the chain and the name"


def test_who_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peers._WHERE, "rtls", ("no_such_module_anywhere", "bio", "RtlsStack"))
    assert peers.ready("rtls", CERTIFICATES, How()) == NOT_INSTALLED


def test_another_suite_than_asked_for_is_found_out() -> None:
    stack = peers.PellucidStack(CERTIFICATES, How(suite=AES_256))
    with pytest.raises(NotAsAskedError, match=f"took suite {AES_256}"):
        proven(stack, How(suite=AES_128))


def test_what_was_not_resumed_is_found_out() -> None:
    stack = peers.PellucidStack(CERTIFICATES, How())
    with pytest.raises(NotAsAskedError, match="no ticket"):
        proven(stack, How(resume=True))


def test_chosen_reads_the_server_hello() -> None:
    pair = peers.PellucidStack(CERTIFICATES, How(group=HYBRID, suite=CHACHA)).pair()
    pair.client_turn()
    pair.server_turn()
    found = chosen(pair.server_bytes())
    assert (found.suite, found.group, found.resumed) == (SUITES[CHACHA], GROUPS[HYBRID], False)


def test_of_a_crossed_pair_only_their_turns_count() -> None:
    there("rtls")
    stack = peers.ready("rtls", CERTIFICATES, How(suite=CHACHA))
    assert isinstance(stack, CrossedStack)
    pair = stack.pair()
    handshake(pair)
    assert pair.client_seconds > 0
    assert pair.server_seconds > 0
