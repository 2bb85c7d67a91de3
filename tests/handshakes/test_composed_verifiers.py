"""Combined verifiers in handshakes: pauses for one part after the other, resumption, clients, requirements."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

import pellucid
import pellucid.asyncio
from pellucid import ClientConfig, HandshakeComplete, VerificationNeeded
from pellucid.crypto.provider import PENDING, Pending
from pellucid.testing.ca import self_signed
from pellucid.verify import (
    AllowKeys,
    Check,
    CheckGroup,
    Outcome,
    SpkiPins,
    VerificationReport,
    VerificationRequest,
    WebPKIVerifier,
    all_of,
    any_of,
    spki_pin,
)
from tests.docs.test_resumption_guide import answer, served
from tests.support.pair import (
    Pair,
    asking_server_config,
    authority,
    client_config,
    credential,
    events_of,
    server_config,
)

WEB = WebPKIVerifier(authority().trust)


class Elsewhere:
    """A verifier whose answer comes from elsewhere."""

    authorities: Sequence[bytes] = ()
    session_identity = b"elsewhere"

    def verify(self, request: VerificationRequest) -> Pending:
        return PENDING


class Slow:
    authorities: Sequence[bytes] = ()
    session_identity = b"slow"

    async def verify(self, request: VerificationRequest) -> VerificationReport:
        await anyio.sleep(0)
        return WEB.verify(request)


def paused(pair: Pair) -> VerificationNeeded:
    pair.pump()
    events, error = events_of(pair.client)
    assert error is None
    (needed,) = [event for event in events if isinstance(event, VerificationNeeded)]
    return needed


@pytest.mark.parametrize("second", [True, False])
def test_each_part_that_is_pending_is_answered_for_by_itself(second: bool) -> None:
    one, other = Elsewhere(), Elsewhere()
    pair = Pair.of(client_config(trust=None, verifier=all_of(one, WEB, other)), server_config())
    needed = paused(pair)
    assert needed.need.verifier is one
    fine = WEB.verify(needed.need.request)
    pair.client.resume(fine, needed.need)
    needed = paused(pair)
    assert needed.need.verifier is other
    refused = dataclasses.replace(fine, accepted=False, path=(), summary="not that one", alert=42)
    pair.client.resume(fine if second else refused, needed.need)
    pair.pump()
    events, error = events_of(pair.client)
    assert any(isinstance(event, HandshakeComplete) for event in events) is second
    assert (error is None) is second and (second or "not that one" in str(error))


def test_what_is_no_report_ends_the_handshake_and_lets_nobody_in() -> None:
    pair = Pair.of(client_config(trust=None, verifier=all_of(WEB, Elsewhere())), server_config())
    needed = paused(pair)
    wrong: Any = True
    pair.client.resume(wrong, needed.need)
    events, error = events_of(pair.client)
    assert events == [] and isinstance(error, pellucid.InternalError)
    assert pair.client.peer is None


def test_parts_that_are_awaited_come_with_what_is_to_be_awaited() -> None:
    pins = SpkiPins(spki_pin(credential().chain[0]))
    pair = Pair.of(client_config(trust=None, verifier=all_of(any_of(Slow(), WEB), pins)), server_config())
    needed = paused(pair)
    assert needed.answer is not None

    async def settle() -> object:
        assert needed.answer is not None
        return await needed.answer

    pair.client.resume(asyncio.run(settle()), needed.need)
    pair.pump()
    assert pair.client.peer is not None
    names = {check.name for check in pair.client.peer.report.checks}
    assert {"pinned key", "trusted root", "CertificateVerify"} <= names


def test_an_awaited_verifier_may_return_what_another_one_gave_it() -> None:
    class Passing:
        authorities = ()

        async def verify(self, request: Any) -> Any:
            return Slow().verify(request)

    pair = Pair.of(client_config(trust=None, verifier=Passing()), server_config())

    async def settle(answer: Any) -> object:
        return await answer

    for _ in range(2):
        needed = paused(pair)
        assert needed.answer is not None
        pair.client.resume(asyncio.run(settle(needed.answer)), needed.need)
    pair.pump()
    assert pair.client.peer is not None


@pytest.mark.parametrize("kind", ["sync", "native", "asyncio", "trio"])
def test_combinations_over_sockets(kind: str) -> None:
    leaf = authority().issue("localhost")
    made = pellucid.Credential.from_pem(leaf.chain_pem, leaf.key_pem)
    pins = SpkiPins(spki_pin(leaf.der))
    config = ClientConfig(verifier=all_of(Slow() if kind != "sync" else Elsewhere(), WEB, pins), sessions=None)

    async def speak() -> bytes:
        async with await pellucid.aio.connect("localhost", port, config) as stream:
            await stream.send(b"hello")
            return await stream.receive()

    async def native() -> bytes:
        reader, writer = await pellucid.asyncio.open_connection("localhost", port, config)
        writer.write(b"hello")
        received = await reader.read(100)
        writer.close()
        await writer.wait_closed()
        return received

    with served(answer, pellucid.ServerConfig(credentials=(made,))) as port:
        if kind == "sync":

            def decide(pause: Any) -> VerificationReport:
                return WEB.verify(pause.need.request)

            with pellucid.connect("localhost", port, config, answer=decide) as stream:
                stream.sendall(b"hello")
                assert stream.recv() == b"answer"
            awaits = dataclasses.replace(config, verifier=all_of(Slow(), WEB))
            with pytest.raises(pellucid.UsageError, match="await"):
                pellucid.connect("localhost", port, awaits)
        elif kind == "native":
            assert asyncio.run(native()) == b"answer"
        elif kind == "asyncio":
            assert asyncio.run(speak()) == b"answer"
        else:
            assert pytest.importorskip("trio").run(speak) == b"answer"


def test_a_session_is_resumed_with_the_same_combination_and_by_no_other() -> None:
    """Attack E8: what is demanded beside the CA is part of what a session is bound to."""
    pins = SpkiPins(spki_pin(credential().chain[0]))
    server = server_config(tickets=2, tickets_on_resumption=1)
    store = pellucid.MemorySessionStore()
    config = client_config(requirements=(pins,), sessions=store)

    def resumed(changed: ClientConfig) -> bool:
        pair = Pair.of(changed, server)
        pair.pump()
        events_of(pair.client)
        pair.pump()
        assert events_of(pair.client)[1] is None
        negotiated = pair.client.negotiated
        assert negotiated is not None
        return negotiated.resumed

    assert not resumed(config) and resumed(config)
    same = client_config(requirements=(SpkiPins(spki_pin(credential().chain[0])),), sessions=store)
    assert resumed(same)
    assert not resumed(client_config(sessions=store))
    assert not resumed(client_config(requirements=(pins, pins), sessions=store))
    assert resumed(config)


def test_on_resumption_requirements_are_asked_again_if_that_is_configured() -> None:
    asked: list[bytes] = []

    class Counts:
        session_identity = b"counts"
        refuses = False

        def examine(self, request: VerificationRequest, report: VerificationReport) -> tuple[Check, ...]:
            asked.append(report.path[0])
            outcome = Outcome.FAILED if self.refuses else Outcome.PASSED
            return (Check(group=CheckGroup.TRUST, name="counts", outcome=outcome, evidence="counted"),)

    counts = Counts()
    server = server_config(tickets=2, tickets_on_resumption=1)
    config = client_config(requirements=(counts,), sessions=pellucid.MemorySessionStore(), reverify_on_resumption=True)
    for refuses in (False, False, True):
        counts.refuses = refuses
        pair = Pair.of(config, server)
        pair.pump()
        _, error = events_of(pair.client)
        assert (error is not None) is refuses
        pair.pump()
        events_of(pair.client)
    assert asked == [credential().chain[0]] * 3


def test_a_server_demands_more_of_its_clients_than_their_ca() -> None:
    mine, other = credential("p256", "client.test"), credential("p256", "other-client.test")
    pins = SpkiPins(spki_pin(mine.chain[0]), leaf_only=True)
    server = asking_server_config(requirements=(pins,))
    for shown, accepted in ((mine, True), (other, False)):
        pair = Pair.of(client_config(credentials=(shown,)), server)
        pair.pump()
        assert (events_of(pair.server)[1] is None) is accepted
    assert server.client_authentication_digest != asking_server_config().client_authentication_digest
    with pytest.raises(pellucid.UsageError, match="neither client_trust nor verifier"):
        server_config(requirements=(pins,))  # they would have been of nobody, and looked like a limit


def test_a_server_takes_clients_of_a_ca_or_with_a_key_that_it_knows() -> None:
    known = self_signed("known", purposes=("client",))
    own = pellucid.Credential.from_pem(known.chain_pem, known.key_pem)
    server = asking_server_config(client_trust=None, verifier=any_of(WEB, AllowKeys(spki_pin(known.der))))
    unknown = self_signed("unknown", purposes=("client",))
    for shown, accepted in (
        (own, True),
        (credential("p256", "client.test"), True),
        (pellucid.Credential.from_pem(unknown.chain_pem, unknown.key_pem), False),
    ):
        pair = Pair.of(client_config(credentials=(shown,)), server)
        pair.pump()
        assert (events_of(pair.server)[1] is None) is accepted
