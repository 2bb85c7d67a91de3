"""After and around the handshake: pauses, key updates, padding, half-close, and what an observer changes: nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import x25519

from pellucid import (
    ApplicationData,
    CloseNotify,
    Connection,
    CredentialNeeded,
    HandshakeComplete,
    KeyUpdated,
    SignatureNeeded,
    UsageError,
    VerificationNeeded,
    pad_to_multiple,
)
from pellucid.config import Credential
from pellucid.crypto.provider import PENDING, CryptoProvider, Group, KeyExchange
from pellucid.crypto.pyca import PYCA
from pellucid.crypto.signatures import PrivateKeySigner
from pellucid.errors import AlertReceived, InternalError, PeerError, TLSError
from pellucid.handshake.actions import NeedCredential, NeedSignature, NeedVerification
from pellucid.registry import AlertDescription as A
from pellucid.registry import CipherSuite as CS
from pellucid.registry import ContentType, HandshakeType
from pellucid.registry import NamedGroup as G
from pellucid.trace import Direction, MessageTraced, RecordTraced, Role
from pellucid.verify.report import CertificateRejected
from pellucid.verify.webpki import WebPKIVerifier
from tests.support.pair import (
    NAME,
    Chunking,
    Pair,
    all_at_once,
    asking_server_config,
    authority,
    client_config,
    credential,
    data_of,
    deliver,
    events_of,
    pump,
    server_config,
)

ENDS = pytest.mark.parametrize("sender", [Role.CLIENT, Role.SERVER], ids=lambda role: role.value)


def of(pair: Pair, role: Role) -> tuple[Connection, Connection]:
    """This end, and the other."""
    return (pair.client, pair.server) if role is Role.CLIENT else (pair.server, pair.client)


# ---- pauses ----------------------------------------------------------------------------------------------------------


class PendingSigner:
    """A key elsewhere: every signature is asked for and answered later."""

    def __init__(self, kind: str = "p256") -> None:
        signer = credential(kind).signer  # type: ignore[arg-type]
        assert isinstance(signer, PrivateKeySigner)
        self.real = signer
        self.schemes = signer.schemes

    def sign(self, scheme: int, data: bytes) -> Any:
        return PENDING


class PendingVerifier:
    def __init__(self) -> None:
        self.real = WebPKIVerifier(authority().trust)

    @property
    def authorities(self) -> Any:
        return self.real.authorities

    def verify(self, request: Any) -> Any:
        return PENDING


def _elsewhere(kind: str = "p256") -> Credential:
    return Credential(chain=credential(kind).chain, signer=PendingSigner(kind))  # type: ignore[arg-type]


def answer_to(need: NeedCredential | NeedSignature | NeedVerification) -> Any:
    if isinstance(need, NeedCredential):
        return _elsewhere()
    if isinstance(need, NeedSignature):
        return need.signer.real.sign(need.scheme, need.data)  # type: ignore[attr-defined]
    return need.verifier.real.verify(need.request)  # type: ignore[attr-defined]


def _everything_pending() -> tuple[Any, Any]:
    resolver = lambda _: PENDING  # noqa: E731
    client = client_config(credential_resolver=resolver, verifier=PendingVerifier())
    server = asking_server_config(credential_resolver=resolver, verifier=PendingVerifier())
    return client, server


PAUSES = (CredentialNeeded, SignatureNeeded, VerificationNeeded)


def _run(pair: Pair, between: Callable[[Connection], None]) -> dict[Role, list[str]]:
    """Shake hands, answering each pause; *between* is called with the paused end first. Returns the pauses."""
    paused: dict[Role, list[str]] = {Role.CLIENT: [], Role.SERVER: []}
    done = 0
    for _ in range(40):
        pair.pump()
        for end in (pair.client, pair.server):
            seen, error = events_of(end)
            assert error is None, error
            for event in seen:
                if isinstance(event, PAUSES):
                    paused[end.role].append(type(event).__name__)
                    between(end)
                    end.resume(answer_to(event.need))
                else:
                    assert isinstance(event, HandshakeComplete)
                    done += 1
        if done == 2:
            return paused
    raise AssertionError("they never came to an end")


def test_every_pause_on_both_sides(chunking: Chunking) -> None:
    """Credential, signature and verification, each answered later, on both sides."""
    client, server = _everything_pending()
    pair = Pair.of(client, server, chunking=chunking)
    paused = _run(pair, lambda end: None)
    assert paused[Role.SERVER] == ["CredentialNeeded", "SignatureNeeded", "VerificationNeeded"]
    assert paused[Role.CLIENT] == ["VerificationNeeded", "CredentialNeeded", "SignatureNeeded"]
    assert pair.client.channel_binding() == pair.server.channel_binding()
    assert pair.server.negotiated is not None
    assert pair.server.negotiated.peer is not None


def test_while_paused_nothing_is_sent_and_nothing_is_lost(chunking: Chunking) -> None:
    """The peer's bytes that come meanwhile wait; empty calls change nothing."""
    client, server = _everything_pending()

    def poke(end: Connection) -> None:
        assert end.data_to_send() == b""
        assert not end.handshake_complete
        with pytest.raises(UsageError):
            end.send_data(b"too early")
        assert events_of(end) == ([], None)

    _run(Pair.of(client, server, chunking=chunking), poke)


@pytest.mark.parametrize("pausing", [Role.CLIENT, Role.SERVER], ids=lambda role: role.value)
def test_data_that_arrives_during_a_pause_is_read_after_it(pausing: Role, chunking: Chunking) -> None:
    """The client's data right behind its Finished while the server verifies; the server's, while the client signs."""
    if pausing is Role.SERVER:
        client = client_config(credentials=(credential("p256", "client.test"),))
        pair = Pair.of(client, asking_server_config(verifier=PendingVerifier()), chunking=chunking)
        pair.pump()
        (event,), error = events_of(pair.server)
        assert error is None
        assert isinstance(event, VerificationNeeded)
        assert [type(e) for e in events_of(pair.client)[0]] == [HandshakeComplete]
        pair.client.send_data(b"in the meantime")
        pair.client.send_key_update()
        pair.client.send_data(b" and more")
        pair.pump()
        assert events_of(pair.server) == ([], None)
        pair.server.resume(answer_to(event.need))
        seen, error = events_of(pair.server)
        assert error is None
        assert [type(e) for e in seen] == [HandshakeComplete, ApplicationData, KeyUpdated, ApplicationData]
        assert data_of(seen) == b"in the meantime and more"
        return
    pair = Pair.of(client_config(verifier=PendingVerifier()), chunking=chunking)
    pair.pump()
    (event,), error = events_of(pair.client)
    assert error is None
    assert isinstance(event, VerificationNeeded)
    pair.client.resume(answer_to(event.need))  # the server's Finished had come already, and is read now
    assert [type(e) for e in events_of(pair.client)[0]] == [HandshakeComplete]
    pair.pump()
    assert [type(e) for e in events_of(pair.server)[0]] == [HandshakeComplete]


@pytest.mark.parametrize("how", ["close", "alert", "end"])
def test_what_ends_the_connection_during_a_pause_is_told(how: str, chunking: Chunking) -> None:
    """The peer gives up while we wait for our signer: resume still works or the error stands, and nothing hangs."""
    pair = Pair.of(None, server_config(credentials=(_elsewhere(),)), chunking=chunking)
    pair.pump()
    (event,), _ = events_of(pair.server)
    assert isinstance(event, SignatureNeeded)
    if how == "close":
        pair.client.close()
    elif how == "alert":
        pair.client.fail(A.INTERNAL_ERROR)
    if how == "end":
        pair.server.receive_data(b"")
        with pytest.raises(TLSError):
            pair.server.resume(answer_to(event.need))
    else:
        deliver(pair.client.data_to_send(), pair.server, chunking)
        pair.server.resume(answer_to(event.need))
    _, error = events_of(pair.server)
    assert isinstance(error, AlertReceived) if how != "end" else error is not None
    assert not pair.server.handshake_complete


def test_a_refusal_after_a_pause_is_a_refusal(chunking: Chunking) -> None:
    pair = Pair.of(client_config(verifier=PendingVerifier()), name="other.test", chunking=chunking)
    pair.pump()
    (event,), _ = events_of(pair.client)
    pair.client.resume(answer_to(event.need))
    _, error = events_of(pair.client)
    assert isinstance(error, CertificateRejected)
    pair.pump()
    _, heard = events_of(pair.server)
    assert isinstance(heard, AlertReceived)
    assert heard.description == error.alert


@pytest.mark.parametrize("nonsense", [None, True, b"", "yes", 1], ids=repr)
def test_nonsense_for_an_answer_never_passes_for_a_verdict(nonsense: object) -> None:
    """No truthy value is a report: the connection ends with internal_error."""
    pair = Pair.of(client_config(verifier=PendingVerifier()))
    pair.pump()
    events_of(pair.client)
    pair.client.resume(nonsense)
    _, error = events_of(pair.client)
    assert isinstance(error, InternalError)
    assert not pair.client.handshake_complete


def test_an_answer_nobody_asked_for_is_refused() -> None:
    pair = Pair.of().connect()
    for end in (pair.client, pair.server):
        with pytest.raises(UsageError):
            end.resume(None)
    assert pair.send(pair.client, b"unharmed")[1] is None


def test_an_answer_given_twice_is_refused() -> None:
    pair = Pair.of(client_config(verifier=PendingVerifier()))
    pair.pump()
    (event,), _ = events_of(pair.client)
    pair.client.resume(answer_to(event.need))
    with pytest.raises(UsageError):
        pair.client.resume(answer_to(event.need))
    pair.pump()
    assert pair.server.handshake_complete


# ---- KeyUpdate -------------------------------------------------------------------------------------------------------


@ENDS
@pytest.mark.rfc("9846 §4.7.3", "after KeyUpdate the sender's records are under its next key")
def test_key_updates_one_way(sender: Role, chunking: Chunking) -> None:
    pair = Pair.of(chunking=chunking).connect()
    one, other = of(pair, sender)
    for generation in range(1, 6):
        one.send_key_update()
        seen, error = pair.send(one, b"under the next key")
        assert (seen, error) == ([KeyUpdated(generation), ApplicationData(b"under the next key")], None)
    assert other.data_to_send() == b""
    assert pair.send(other, b"my key is the old one") == ([ApplicationData(b"my key is the old one")], None)


@ENDS
@pytest.mark.rfc("9846 §4.7.3", "a request is answered by a KeyUpdate before the next application data")
def test_a_key_update_that_is_asked_for(sender: Role, chunking: Chunking) -> None:
    pair = Pair.of(chunking=chunking).connect()
    one, other = of(pair, sender)
    one.send_key_update(request_peer=True)
    assert pair.send(one, b"x")[0] == [KeyUpdated(1), ApplicationData(b"x")]
    assert pair.send(other, b"y")[0] == [KeyUpdated(1), ApplicationData(b"y")]


@pytest.mark.rfc("9846 §4.7.3", "both sides may update at once; then each answers the other")
def test_key_updates_that_cross(chunking: Chunking) -> None:
    pair = Pair.of(chunking=chunking).connect()
    for _ in range(3):
        for end in (pair.client, pair.server):
            end.send_key_update(request_peer=True)
            end.send_data(b"crossing")
        there, back = pair.client.data_to_send(), pair.server.data_to_send()
        deliver(there, pair.server, chunking)
        deliver(back, pair.client, chunking)
        pair.pump()
        for end in (pair.client, pair.server):
            seen, error = events_of(end)
            assert error is None
            assert data_of(seen) == b"crossing"
            assert sum(isinstance(event, KeyUpdated) for event in seen) == 2
    assert pair.send(pair.client, b"still in step")[1] is None
    assert pair.send(pair.server, b"still in step")[1] is None


@ENDS
@pytest.mark.rfc("9846 §4.7.3", "update_requested is not sent again before the peer has answered")
def test_the_peer_is_not_asked_again_before_it_has_answered(sender: Role) -> None:
    seen: list[Any] = []
    pair = Pair.of(client_trace=seen.append, server_trace=seen.append).connect()
    one, other = of(pair, sender)
    for _ in range(5):
        one.send_key_update(request_peer=True)
    deliver(one.data_to_send(), other)
    assert events_of(other)[0] == [KeyUpdated(n) for n in range(1, 6)]
    deliver(other.data_to_send(), one)
    assert events_of(one) == ([KeyUpdated(1)], None)
    assert one.data_to_send() == b""
    one.send_key_update(request_peer=True)  # now it may be asked again
    deliver(one.data_to_send(), other)
    asked = [
        event.body.request_update  # type: ignore[attr-defined]
        for event in seen
        if isinstance(event, MessageTraced)
        and event.message_type == HandshakeType.KEY_UPDATE
        and event.direction is Direction.RECEIVED
    ]
    assert asked == [1, 0, 0, 0, 0, 0, 1]


# ---- closing ---------------------------------------------------------------------------------------------------------


@ENDS
@pytest.mark.rfc("9846 §6.1", "each side closes its own direction")
def test_half_close(sender: Role, chunking: Chunking) -> None:
    pair = Pair.of(chunking=chunking).connect()
    one, other = of(pair, sender)
    one.send_data(b"last")
    one.close()
    deliver(one.data_to_send(), other, chunking)
    assert events_of(other) == ([ApplicationData(b"last"), CloseNotify()], None)
    seen, error = pair.send(other, b"answer " * 10_000)
    assert data_of(seen) == b"answer " * 10_000
    assert error is None
    other.close()
    deliver(other.data_to_send(), one, chunking)
    assert events_of(one) == ([CloseNotify()], None)
    for end in (one, other):
        end.receive_data(b"")
        assert events_of(end) == ([], None)
        assert end.data_to_send() == b""


# ---- padding ---------------------------------------------------------------------------------------------------------


def _sizes(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        yield size
        at += 5 + size


@pytest.mark.rfc("9846 §5.4", "records may be padded with zeros, and the padding is removed")
@pytest.mark.parametrize("multiple", [1, 2, 64, 1000, 2**14])
def test_padding_to_a_multiple(multiple: int, chunking: Chunking) -> None:
    policy = pad_to_multiple(multiple)
    pair = Pair.of(client_config(padding=policy), server_config(padding=policy), chunking=chunking).connect()
    for size in (1, multiple - 1, multiple, multiple + 1, 20_000):
        if not size:
            continue
        pair.client.send_data(b"p" * size)
        wire = pair.client.data_to_send()
        assert all((length - 17) % multiple == 0 or length == 2**14 + 17 for length in _sizes(wire))
        deliver(wire, pair.server, chunking)
        seen, error = events_of(pair.server)
        assert data_of(seen) == b"p" * size
        assert error is None


def test_padding_hides_the_lengths_of_messages() -> None:
    pair = Pair.of(client_config(padding=pad_to_multiple(256))).connect()
    lengths = set()
    for size in range(1, 257, 15):
        pair.client.send_data(b"s" * size)
        lengths.add(len(pair.client.data_to_send()))
    assert len(lengths) == 1


def test_a_policy_of_ones_own_is_asked_for_every_protected_record(chunking: Chunking) -> None:
    asked: list[tuple[int, int]] = []

    def policy(content_type: int, length: int) -> int:
        asked.append((content_type, length))
        return 7

    pair = Pair.of(client_config(padding=policy), chunking=chunking).connect()
    pair.client.send_data(b"data")
    pair.client.close()
    deliver(pair.client.data_to_send(), pair.server, chunking)
    assert events_of(pair.server) == ([ApplicationData(b"data"), CloseNotify()], None)
    types = [content_type for content_type, _ in asked]
    assert types == [ContentType.HANDSHAKE, ContentType.APPLICATION_DATA, ContentType.ALERT]


# ---- an observer changes nothing -------------------------------------------------------------------------------------


class _Fixed:
    """A key exchange whose private key is the next of a fixed series."""

    def __init__(self, number: int) -> None:
        self._private = x25519.X25519PrivateKey.from_private_bytes(hashlib.sha256(b"key %d" % number).digest())
        self.public = self._private.public_key().public_bytes_raw()

    def finish(self, peer: bytes) -> bytes:
        return self._private.exchange(x25519.X25519PublicKey.from_public_bytes(peer))


# One moment for all that is made with it: cookies hold whole seconds, and a test may cross one.
_STARTED = PYCA.now()


def fixed_provider(seed: bytes) -> CryptoProvider:
    """Entropy, keys and time that come again with the same *seed*."""
    numbers = itertools.count(seed[0] * 1000)
    entropy = itertools.count()

    def generate() -> KeyExchange:
        return _Fixed(next(numbers))

    def respond(share: bytes) -> tuple[bytes, bytes]:
        exchange = generate()
        return exchange.public, exchange.finish(share)

    def random(size: int) -> bytes:
        return hashlib.shake_256(seed + b"%d" % next(entropy)).digest(size)

    group: Group = next(group for group in PYCA.groups if group.code == G.X25519)
    fixed = dataclasses.replace(group, generate=generate, respond=respond)
    return dataclasses.replace(PYCA, groups=(fixed,), random=random, now=lambda: _STARTED)


def _recorded(observer: Any, *, records: bool, suite: int) -> list[bytes]:
    """All that both ends send in one connection with fixed entropy."""
    common: dict[str, Any] = {"groups": (G.X25519,), "suites": (suite,), "trace_records": records}
    client = Connection.client(
        client_config(
            **common,
            key_shares=(G.X25519,),
            provider=fixed_provider(b"\1client"),
            credentials=(credential("ed25519"),),
            alpn=("h2",),
        ),
        NAME,
        trace=observer,
    )
    server = Connection.server(
        asking_server_config(
            **common,
            provider=fixed_provider(b"\2server"),
            credentials=(credential("ed25519"),),
            alpn=("h2",),
            cookie_key=b"k" * 32,
            always_retry=True,
        ),
        trace=observer,
    )
    sent: list[bytes] = []
    for step in range(8):
        if client.handshake_complete and server.handshake_complete and step < 6:
            client.send_data(b"data" * 10)
            server.send_data(bytes(40_000))
            client.send_key_update(request_peer=True)
        for sender, receiver in ((client, server), (server, client)):
            data = sender.data_to_send()
            sent.append(data)
            receiver.receive_data(data) if data else None
    client.close()
    sent.append(client.data_to_send())
    assert client.handshake_complete
    assert events_of(server)[1] is None
    return sent


@pytest.mark.parametrize("suite", [CS.TLS_AES_128_GCM_SHA256, CS.TLS_CHACHA20_POLY1305_SHA256], ids=hex)
def test_trace_on_or_off_the_bytes_are_the_same(suite: int) -> None:
    """Fixed entropy, keys and clock: with an observer, with records traced too, and without, bit for bit."""
    seen: list[Any] = []
    without = _recorded(None, records=False, suite=suite)
    assert without == _recorded(None, records=False, suite=suite)
    assert without == _recorded(seen.append, records=False, suite=suite)
    assert seen
    assert not any(isinstance(event, RecordTraced) for event in seen)
    assert without == _recorded(seen.append, records=True, suite=suite)
    assert any(isinstance(event, RecordTraced) for event in seen)
    assert sum(map(len, without)) > 50_000


@pytest.mark.parametrize("records", [True, False], ids=["records", "messages"])
def test_an_observer_that_fails_ends_the_connection_and_not_the_program(records: bool) -> None:
    """A raw exception of a plugged-in observer is wrapped, latched, and told to the peer as internal_error."""

    def broken(event: object) -> None:
        raise ZeroDivisionError("an observer's mistake")

    server = Connection.server(server_config(trace_records=records), trace=broken)
    client = Connection.client(client_config(), NAME)
    pump(client, server, all_at_once)
    _, error = events_of(server)
    assert isinstance(error, InternalError)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert "an observer's mistake" in "".join(error.__notes__)
    _, heard = events_of(client)
    assert isinstance(heard, AlertReceived)
    assert heard.description == A.INTERNAL_ERROR
    assert not isinstance(error, PeerError)


def test_a_padding_policy_that_asks_for_too_much_cannot_hide_the_first_error() -> None:
    """Its UsageError while the alert is sealed is a note on the error that the alert was for."""
    pair = Pair.of(client_config(padding=lambda content_type, _: 2**15 if content_type == ContentType.ALERT else 0))
    pair.connect()
    pair.client.receive_data(b"\x17\x03\x03\x00\x20" + bytes(32))
    _, error = events_of(pair.client)
    assert isinstance(error, PeerError)
    assert error.alert == A.BAD_RECORD_MAC
    assert "padding policy" in "".join(error.__notes__)
    assert pair.client.data_to_send() == b""


@pytest.mark.parametrize("how", ["update", "data"])
def test_a_key_update_that_cannot_be_sealed_ends_the_connection(how: str) -> None:
    """Half a KeyUpdate would leave the two ends with different keys: the policy's UsageError is latched."""
    broken = False

    def policy(content_type: int, length: int) -> int:
        return 2**15 if broken and content_type == ContentType.HANDSHAKE else 0

    suites = tuple(dataclasses.replace(suite, rekey_after=8) for suite in PYCA.suites)
    pair = Pair.of(client_config(padding=policy, provider=dataclasses.replace(PYCA, suites=suites))).connect()
    broken = True
    with pytest.raises(UsageError, match="padding policy") as caught:
        if how == "update":
            pair.client.send_key_update()
        for _ in range(8):
            pair.client.send_data(b"x")
    assert caught.value
    with pytest.raises(UsageError) as again:
        pair.client.next_event()
    assert again.value is caught.value
    deliver(pair.client.data_to_send(), pair.server)
    seen, heard = events_of(pair.server)
    assert data_of(seen) == (b"" if how == "update" else b"x" * 7)
    assert isinstance(heard, AlertReceived)
    assert heard.description == A.INTERNAL_ERROR
