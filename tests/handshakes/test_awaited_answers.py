"""What a connection asks may be an `async def`: it pauses, the event has what is to be awaited, and it goes on."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pellucid import (
    PENDING,
    CertificateRejected,
    Connection,
    Credential,
    CredentialNeeded,
    FirstUseNeeded,
    InternalError,
    PeerAuthenticated,
    SignatureNeeded,
    TicketNeeded,
    UsageError,
    VerificationNeeded,
)
from pellucid.config import ClientAuthentication
from pellucid.crypto.pyca import PYCA
from pellucid.errors import BadCertificate
from pellucid.registry import AlertDescription
from pellucid.sessions.early_data import StrikeRegister
from pellucid.sessions.tickets import TicketKeys
from pellucid.trace import Role
from pellucid.verify.webpki import WebPKIVerifier
from tests.support.pair import NAME, Pair, authority, credential, events_of
from tests.support.resuming import early_client, early_server, meet, resuming_client

PAUSES = (CredentialNeeded, SignatureNeeded, VerificationNeeded, TicketNeeded, FirstUseNeeded)


class AsyncSigner:
    def __init__(self, real: Any = None) -> None:
        self.real = real or credential().signer
        self.schemes = self.real.schemes
        self.asked = 0

    async def sign(self, scheme: int, data: bytes) -> bytes:
        self.asked += 1
        return self.real.sign(scheme, data)  # type: ignore[no-any-return]


class AsyncVerifier:
    session_identity = b"async verifier"

    def __init__(self) -> None:
        self.real = WebPKIVerifier(authority().trust)

    @property
    def authorities(self) -> Any:
        return self.real.authorities

    async def verify(self, request: Any) -> Any:
        return self.real.verify(request)


class AsyncTickets:
    single_use = False

    def __init__(self) -> None:
        self.real = TicketKeys(PYCA)

    def issue(self, session: Any, now: float) -> bytes:
        return self.real.issue(session, now)

    async def redeem(self, ticket: bytes, now: float) -> Any:
        return self.real.redeem(ticket, now)


class AsyncGuard:
    def __init__(self) -> None:
        # Its window began long ago: a register does not take early data that an earlier one may have seen.
        self.real = StrikeRegister(dataclasses.replace(PYCA, now=lambda: PYCA.now() - 3600))
        self.window_seconds = self.real.window_seconds

    async def first_use(self, key: bytes, *, now: float, issued_at: float) -> bool:
        return self.real.first_use(key, now=now, issued_at=issued_at)


def elsewhere() -> Credential:
    return Credential(chain=credential().chain, signer=AsyncSigner())


class Resolver:
    session_identity = b"async resolver"

    async def __call__(self, _: object) -> Credential:
        return elsewhere()


resolve = Resolver()


def everything_awaited() -> tuple[Any, Any]:
    client = early_client(trust=None, verifier=AsyncVerifier(), credential_resolver=resolve)
    server = early_server(
        credentials=(),
        credential_resolver=resolve,
        client_authentication=ClientAuthentication.OPTIONAL,
        verifier=AsyncVerifier(),
        sessions=AsyncTickets(),
        replay_guard=AsyncGuard(),
    )
    return client, server


def awaited(event: Any) -> object:
    """Await what *event* has, on a loop of its own."""

    async def wait() -> object:
        return await event.answer

    return asyncio.run(wait())


def run(pair: Pair) -> tuple[list[tuple[Role, str]], list[Any]]:
    """Shake hands, awaiting what there is to await; return who waited for what, and all other events."""
    paused: list[tuple[Role, str]] = []
    others: list[Any] = []
    for _ in range(40):
        pair.pump()
        quiet = True
        for end in (pair.client, pair.server):
            seen, error = events_of(end)
            assert error is None, error
            for event in seen:
                quiet = False
                if isinstance(event, PAUSES):
                    paused.append((end.role, type(event).__name__))
                    end.resume(awaited(event), event.need)
                else:
                    others.append(event)
        if quiet:
            return paused, others
    raise AssertionError("they never fall silent")


def test_every_need_may_be_an_async_function() -> None:
    client, server = everything_awaited()
    first = Pair.of(client, server)
    paused, _ = run(first)
    assert first.client.handshake_complete
    assert first.server.handshake_complete
    assert paused == [
        (Role.SERVER, "CredentialNeeded"),
        (Role.SERVER, "SignatureNeeded"),
        (Role.CLIENT, "VerificationNeeded"),
        (Role.CLIENT, "CredentialNeeded"),
        (Role.CLIENT, "SignatureNeeded"),
        (Role.SERVER, "VerificationNeeded"),
    ]
    second = Pair.of(client, server)
    second.client.start()
    second.client.send_early_data(b"GET /")
    paused, others = run(second)
    assert second.server.negotiated is not None
    assert second.server.negotiated.resumed
    assert paused == [(Role.SERVER, "TicketNeeded"), (Role.SERVER, "FirstUseNeeded")]
    assert b"GET /" in [getattr(event, "data", None) for event in others]


def paused_server(config: Any = None) -> tuple[Pair, Any]:
    """A server that waits for its credential, and the event that says so."""
    pair = Pair.of(resuming_client(), config or early_server(credential_resolver=resolve))
    pair.pump()
    (event,), error = events_of(pair.server)
    assert error is None
    return pair, event


def test_event_has_the_awaitable_and_pending_has_none() -> None:
    _, event = paused_server()
    assert isinstance(event, CredentialNeeded)
    assert event.answer is event.need.answer is not None
    assert isinstance(awaited(event), Credential)
    _, event = paused_server(early_server(credential_resolver=lambda _: PENDING))
    assert event.answer is None


def test_answer_that_was_interrupted_is_asked_for_again() -> None:
    tries = 0

    async def slow(_: object) -> Credential:
        nonlocal tries
        tries += 1
        if tries == 1:
            await asyncio.Event().wait()
        return credential()

    pair, event = paused_server(early_server(credential_resolver=slow))

    async def impatient() -> object:
        async def wait() -> object:
            return await event.answer

        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(wait(), 0.01)
        return await event.answer

    pair.server.resume(asyncio.run(impatient()), event.need)
    pair.pump()
    assert tries == 2
    assert pair.client.handshake_complete


def test_answer_asked_for_again_may_be_there_at_once_and_pending_is_refused() -> None:
    answers: list[Any] = [resolve(None), credential(), PENDING]
    _, event = paused_server(early_server(credential_resolver=lambda _: answers.pop(0)))
    assert isinstance(awaited(event), Credential)
    assert awaited(event) is credential()
    with pytest.raises(UsageError, match="PENDING"):
        awaited(event)


Raises = Callable[[Any], Coroutine[Any, Any, Any]]


def raising(error: Exception) -> Raises:
    async def broken(_: object) -> Any:
        raise error

    return broken


@pytest.mark.parametrize(
    ("error", "kind", "alert"),
    [
        (ZeroDivisionError("in the resolver"), InternalError, AlertDescription.INTERNAL_ERROR),
        (TimeoutError("the key service is slow"), InternalError, AlertDescription.INTERNAL_ERROR),
        (BadCertificate("no", rfc="9846 §4.5.1"), BadCertificate, AlertDescription.BAD_CERTIFICATE),
    ],
)
def test_answer_that_raises_ends_the_connection_as_a_function_that_raises(
    error: Exception, kind: type[Exception], alert: int
) -> None:
    pair, event = paused_server(early_server(credential_resolver=raising(error)))
    with pytest.raises(type(error)) as caught:
        awaited(event)
    pair.server.resume_with_error(caught.value, event.need)
    with pytest.raises(kind) as ended:
        pair.server.next_event()
    assert ended.value is error or ended.value.__cause__ is error
    pair.pump()
    _, told = events_of(pair.client)
    assert getattr(told, "description", None) == alert
    with pytest.raises(kind):
        pair.server.resume(None, event.need)


def test_resume_with_error_where_nobody_waits_is_refused_and_changes_nothing() -> None:
    pair, event = paused_server()
    stranger = event.need._replace()
    with pytest.raises(UsageError, match="nobody waits"):
        pair.server.resume_with_error(ValueError(), stranger)
    pair.server.resume(awaited(event), event.need)
    with pytest.raises(UsageError, match="nobody waits"):
        pair.server.resume_with_error(ValueError(), event.need)


@pytest.mark.parametrize("how", ["fail", "close", "drop"])
def test_answer_that_nobody_awaits_is_let_go_of_with_the_connection(how: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pair, event = paused_server()
        if how == "fail":
            pair.server.fail(AlertDescription.INTERNAL_ERROR)
        elif how == "close":
            pair.server.close()
        del pair, event
        gc.collect()


def test_future_that_nobody_awaits_is_cancelled_with_the_connection() -> None:
    async def main() -> None:
        future: asyncio.Future[Credential] = asyncio.get_running_loop().create_future()
        pair, event = paused_server(early_server(credential_resolver=lambda _: future))
        assert event.answer is not None
        pair.server.fail(AlertDescription.INTERNAL_ERROR)
        assert future.cancelled()

    asyncio.run(main())


def test_answer_of_a_wrong_type_is_internal_error() -> None:
    async def wrong(_: object) -> Any:
        return "a name"

    pair, event = paused_server(early_server(credential_resolver=wrong))
    pair.server.resume(awaited(event), event.need)
    with pytest.raises(InternalError, match="NeedCredential"):
        pair.server.next_event()


def test_verdict_that_is_awaited_may_refuse() -> None:
    class Refusing(AsyncVerifier):
        async def verify(self, request: Any) -> Any:
            return dataclasses.replace(self.real.verify(request), accepted=False)

    pair = Pair.of(resuming_client(trust=None, verifier=Refusing()), early_server())
    pair.pump()
    (event,), _ = events_of(pair.client)
    pair.client.resume(awaited(event), event.need)
    with pytest.raises(CertificateRejected):
        pair.client.next_event()


def test_authentication_after_the_handshake_awaits_credential_signature_and_verdict() -> None:
    client = resuming_client(post_handshake_auth=True, credential_resolver=resolve)
    server = early_server(verifier=AsyncVerifier())
    pair = Pair.of(client, server)
    run(pair)
    pair.server.request_client_certificate()
    paused, others = run(pair)
    assert [name for _, name in paused] == ["CredentialNeeded", "SignatureNeeded", "VerificationNeeded"]
    (answer,) = [event for event in others if isinstance(event, PeerAuthenticated)]
    assert answer.peer is not None


def test_pauses_aside_are_let_go_of_with_the_connection() -> None:
    client = resuming_client(post_handshake_auth=True, credential_resolver=resolve)
    pair = Pair.of(client, early_server(verifier=AsyncVerifier()))
    run(pair)
    pair.server.request_client_certificate()
    pair.pump()
    seen, _ = events_of(pair.client)
    (event,) = [event for event in seen if isinstance(event, CredentialNeeded)]
    pair.client.resume_with_error(ValueError("no key"), event.need)
    with pytest.raises(InternalError):
        pair.client.next_event()


def test_answers_that_are_there_at_once_do_not_pause() -> None:
    client = resuming_client()
    server = early_server(credential_resolver=lambda _: credential())
    meet(client, server)
    pair = Pair.of(client, server, name=NAME)
    paused, _ = run(pair)
    assert not paused
    assert isinstance(pair.server, Connection)
