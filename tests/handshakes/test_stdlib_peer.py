"""The first foreign peer: the standard library's ssl (OpenSSL) over MemoryBIO, in both roles."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pellucid import (
    NEED_DATA,
    AlertReceived,
    ApplicationData,
    ClientConfig,
    CloseNotify,
    Connection,
    Credential,
    HandshakeComplete,
    PeerAuthenticated,
    ServerConfig,
    TicketReceived,
)
from pellucid.config import ClientAuthentication
from pellucid.registry import AlertDescription, NamedGroup
from pellucid.registry import CipherSuite as CS
from pellucid.testing.ca import CA, Issued
from pellucid.verify.report import CertificateRejected

NAME = "stdlib.test"
KINDS = ("p256", "p384", "p521", "rsa2048", "ed25519", "ed448")
SUITES = {"TLS_AES_128_GCM_SHA256": CS.TLS_AES_128_GCM_SHA256, "TLS_AES_256_GCM_SHA384": CS.TLS_AES_256_GCM_SHA384}
SUITES |= {"TLS_CHACHA20_POLY1305_SHA256": CS.TLS_CHACHA20_POLY1305_SHA256}
GROUPS = {
    "X25519": NamedGroup.X25519,
    "prime256v1": NamedGroup.SECP256R1,
    "secp384r1": NamedGroup.SECP384R1,
    "secp521r1": NamedGroup.SECP521R1,
    "X448": NamedGroup.X448,
}


@functools.cache
def _ca() -> CA:
    return CA("stdlib root")


@functools.cache
def _issued(kind: str) -> Issued:
    return _ca().issue(NAME, key=kind)  # type: ignore[arg-type]


def _credential(kind: str = "p256") -> Credential:
    return Credential.from_pem(_issued(kind).chain_pem, _issued(kind).key_pem)


class Stdlib:
    """An ssl.SSLObject with our verbs."""

    def __init__(self, context: ssl.SSLContext, *, server: bool) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_side=server, server_hostname=None if server else NAME)
        self.done = False
        self.received = bytearray()
        self.closed = False

    def receive_data(self, data: bytes) -> None:
        self._in.write(data)
        self.work()

    def work(self) -> None:
        try:
            if not self.done:
                self.tls.do_handshake()
                self.done = True
            while data := self.tls.read(2**16):
                self.received += data
            self.closed = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.closed = True

    def data_to_send(self) -> bytes:
        return self._out.read()


def _exchange(ours: Connection, theirs: Stdlib, chunk: int | None = None) -> list[Any]:
    """Carry bytes until both are silent; return our events."""
    seen: list[Any] = []
    theirs.work()
    for _ in range(50):
        there = ours.data_to_send()
        if there:
            theirs.receive_data(there)
        back = theirs.data_to_send()
        for at in range(0, len(back), chunk or max(len(back), 1)):
            ours.receive_data(back[at : at + (chunk or len(back))])
        while (event := ours.next_event()) is not NEED_DATA:
            seen.append(event)
        if not there and not back:
            return seen
    raise AssertionError("they never fall silent")


@pytest.fixture
def their_files(tmp_path: Path) -> Iterator[Any]:
    def write(context: ssl.SSLContext, kind: str) -> ssl.SSLContext:
        chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
        chain.write_bytes(_issued(kind).chain_pem)
        key.write_bytes(_issued(kind).key_pem)
        context.load_cert_chain(chain, key)
        return context

    return write


def _their_client(**options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=_ca().root_pem.decode())
    if "group" in options:
        context.set_ecdh_curve(options["group"])
    if "alpn" in options:
        context.set_alpn_protocols(options["alpn"])
    return context


def _their_server(write: Any, kind: str = "p256", **options: Any) -> ssl.SSLContext:
    context = write(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), kind)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if "group" in options:
        context.set_ecdh_curve(options["group"])
    if "alpn" in options:
        context.set_alpn_protocols(options["alpn"])
    if options.get("ask"):
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=_ca().root_pem.decode())
    return context


def _talk(ours: Connection, theirs: Stdlib) -> None:
    """Data both ways, more than a few records; then both close."""
    large = bytes(range(256)) * 2000
    ours.send_data(b"ping")
    ours.send_data(large)
    theirs.tls.write(b"pong")
    assert theirs.tls.write(large) == len(large)
    events = _exchange(ours, theirs)
    assert bytes(theirs.received) == b"ping" + large
    assert b"".join(e.data for e in events if isinstance(e, ApplicationData)) == b"pong" + large
    ours.close()
    events = _exchange(ours, theirs)
    assert theirs.closed
    theirs.tls.unwrap()
    assert CloseNotify() in events + _exchange(ours, theirs)


def _complete(events: list[Any]) -> Any:
    return next(event.negotiated for event in events if isinstance(event, HandshakeComplete))


# ---- we are the client -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [None, 1], ids=["all", "1-byte"])
@pytest.mark.parametrize("kind", KINDS)
def test_our_client_speaks_to_a_stdlib_server(their_files: Any, kind: str, chunk: int | None) -> None:
    ours = Connection.client(ClientConfig(trust=_ca().trust, alpn=("h2", "http/1.1")), NAME)
    theirs = Stdlib(_their_server(their_files, kind, alpn=["http/1.1"]), server=True)
    events = _exchange(ours, theirs, chunk)
    negotiated = _complete(events)
    assert theirs.tls.version() == "TLSv1.3"
    assert theirs.tls.cipher()[0] in SUITES
    assert (negotiated.alpn, theirs.tls.selected_alpn_protocol()) == ("http/1.1", "http/1.1")
    assert sum(isinstance(event, TicketReceived) for event in events) == 2
    _talk(ours, theirs)


@pytest.mark.parametrize("suite", SUITES)
def test_our_client_speaks_every_suite_to_a_stdlib_server(their_files: Any, suite: str) -> None:
    ours = Connection.client(ClientConfig(trust=_ca().trust, suites=(SUITES[suite],)), NAME)
    theirs = Stdlib(_their_server(their_files), server=True)
    assert _complete(_exchange(ours, theirs)).cipher_suite == SUITES[suite]
    assert theirs.tls.cipher()[0] == suite
    _talk(ours, theirs)


@pytest.mark.parametrize("group", GROUPS)
def test_our_client_answers_a_stdlib_servers_retry(their_files: Any, group: str) -> None:
    groups = (NamedGroup.X25519, NamedGroup.X448, NamedGroup.SECP256R1, NamedGroup.SECP384R1, NamedGroup.SECP521R1)
    first = next(code for code in groups if code != GROUPS[group])
    ours = Connection.client(ClientConfig(trust=_ca().trust, groups=groups, key_shares=(first,)), NAME)
    theirs = Stdlib(_their_server(their_files, group=group), server=True)
    negotiated = _complete(_exchange(ours, theirs))
    assert (negotiated.group, negotiated.retried) == (GROUPS[group], True)
    _talk(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_our_client_shows_its_certificate_to_a_stdlib_server(their_files: Any, kind: str) -> None:
    ours = Connection.client(ClientConfig(trust=_ca().trust, credentials=(_credential(kind),)), NAME)
    theirs = Stdlib(_their_server(their_files, ask=True), server=True)
    _exchange(ours, theirs)
    assert theirs.tls.getpeercert(binary_form=True) == _issued(kind).der
    _talk(ours, theirs)


def test_our_client_without_a_certificate_hears_that_one_was_required(their_files: Any) -> None:
    """F18: our handshake was done; the refusal comes as an alert, not as an end of stream."""
    ours = Connection.client(ClientConfig(trust=_ca().trust), NAME)
    theirs = Stdlib(_their_server(their_files, ask=True), server=True)
    theirs.receive_data(ours.data_to_send())
    ours.receive_data(theirs.data_to_send())
    assert isinstance(ours.next_event(), HandshakeComplete)
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        theirs.receive_data(ours.data_to_send())
    ours.receive_data(theirs.data_to_send())
    with pytest.raises(AlertReceived) as caught:
        ours.next_event()
    assert caught.value.description == AlertDescription.CERTIFICATE_REQUIRED


def test_our_client_refuses_a_stdlib_server_of_another_name(their_files: Any) -> None:
    ours = Connection.client(ClientConfig(trust=_ca().trust), "other.test")
    theirs = Stdlib(_their_server(their_files), server=True)
    theirs.receive_data(ours.data_to_send())
    ours.receive_data(theirs.data_to_send())
    with pytest.raises(CertificateRejected):
        ours.next_event()
    with pytest.raises(ssl.SSLError, match="BAD_CERTIFICATE"):
        theirs.receive_data(ours.data_to_send())


# ---- we are the server -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [None, 1], ids=["all", "1-byte"])
@pytest.mark.parametrize("kind", KINDS)
def test_our_server_speaks_to_a_stdlib_client(kind: str, chunk: int | None) -> None:
    ours = Connection.server(ServerConfig(credentials=(_credential(kind),), alpn=("h2", "http/1.1")))
    theirs = Stdlib(_their_client(alpn=["http/1.1", "h2"]), server=False)
    negotiated = _complete(_exchange(ours, theirs, chunk))
    assert (negotiated.alpn, negotiated.server_name) == ("h2", NAME)
    assert theirs.tls.selected_alpn_protocol() == "h2"
    assert theirs.tls.getpeercert(binary_form=True) == _issued(kind).der
    _talk(ours, theirs)


@pytest.mark.parametrize("suite", SUITES)
def test_our_server_speaks_every_suite_to_a_stdlib_client(suite: str) -> None:
    ours = Connection.server(ServerConfig(credentials=(_credential(),), suites=(SUITES[suite],)))
    theirs = Stdlib(_their_client(), server=False)
    _exchange(ours, theirs)
    assert theirs.tls.cipher()[0] == suite
    _talk(ours, theirs)


@pytest.mark.parametrize("cookie_key", [None, b"k" * 32], ids=["stateful", "cookie"])
@pytest.mark.parametrize("group", GROUPS)
def test_our_server_asks_a_stdlib_client_again(group: str, cookie_key: bytes | None) -> None:
    """The client shares its only curve; with a cookie the retry is demanded of every client."""
    config = ServerConfig(credentials=(_credential(),), cookie_key=cookie_key, always_retry=cookie_key is not None)
    ours = Connection.server(config, peer_address="192.0.2.1")
    theirs = Stdlib(_their_client(group=group), server=False)
    negotiated = _complete(_exchange(ours, theirs))
    assert (negotiated.group, negotiated.retried) == (GROUPS[group], cookie_key is not None)
    _talk(ours, theirs)


def test_our_server_asks_a_stdlib_client_for_another_group() -> None:
    """OpenSSL shares its first group, x25519 here, and lists the others."""
    ours = Connection.server(ServerConfig(credentials=(_credential(),), groups=(NamedGroup.SECP384R1,)))
    theirs = Stdlib(_their_client(), server=False)
    negotiated = _complete(_exchange(ours, theirs))
    assert (negotiated.group, negotiated.retried) == (NamedGroup.SECP384R1, True)
    _talk(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_our_server_verifies_a_stdlib_clients_certificate(their_files: Any, kind: str) -> None:
    config = ServerConfig(
        credentials=(_credential(),), client_authentication=ClientAuthentication.REQUIRED, client_trust=_ca().trust
    )
    ours = Connection.server(config)
    theirs = Stdlib(their_files(_their_client(), kind), server=False)
    negotiated = _complete(_exchange(ours, theirs))
    assert negotiated.peer.leaf.der == _issued(kind).der
    _talk(ours, theirs)


@pytest.mark.parametrize("ours_is", ["client", "server"])
def test_key_update_from_us_is_answered_by_the_stdlib(their_files: Any, ours_is: str) -> None:
    """RFC 9846 §4.7.3: OpenSSL updates too when asked; data under the new keys opens on both sides."""
    if ours_is == "client":
        ours = Connection.client(ClientConfig(trust=_ca().trust), NAME)
        theirs = Stdlib(_their_server(their_files), server=True)
    else:
        ours = Connection.server(ServerConfig(credentials=(_credential(),)))
        theirs = Stdlib(_their_client(), server=False)
    _exchange(ours, theirs)
    for generation in (1, 2, 3):
        ours.send_key_update(request_peer=True)
        ours.send_data(b"under a new key")
        _exchange(ours, theirs)
        theirs.tls.write(b"so am I")
        events = _exchange(ours, theirs)
        assert ApplicationData(b"so am I") in events
        assert theirs.received.endswith(b"under a new key")
        assert len(theirs.received) == generation * len(b"under a new key")


# ---- after the handshake ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [None, 1], ids=["all", "1-byte"])
@pytest.mark.parametrize("kind", KINDS)
def test_our_client_answers_a_stdlib_server_that_asks_later(their_files: Any, kind: str, chunk: int | None) -> None:
    """RFC 9846 §4.7.2, twice, with a KeyUpdate in between: OpenSSL checks Finished under the present secret."""
    context = _their_server(their_files, ask=True)
    context.post_handshake_auth = True
    config = ClientConfig(trust=_ca().trust, credentials=(_credential(kind),), post_handshake_auth=True)
    ours = Connection.client(config, NAME)
    theirs = Stdlib(context, server=True)
    _exchange(ours, theirs, chunk)
    assert theirs.tls.getpeercert(binary_form=True) is None
    for _ in range(2):
        theirs.tls.verify_client_post_handshake()
        theirs.tls.write(b"who is there?")
        _exchange(ours, theirs, chunk)
        assert theirs.tls.getpeercert(binary_form=True) == _issued(kind).der
        ours.send_key_update(request_peer=True)
        _exchange(ours, theirs, chunk)
    _talk(ours, theirs)


def test_our_client_declines_to_a_stdlib_server_that_asks_later(their_files: Any) -> None:
    context = _their_server(their_files, ask=True)
    context.post_handshake_auth = True
    context.verify_mode = ssl.CERT_OPTIONAL
    ours = Connection.client(ClientConfig(trust=_ca().trust, post_handshake_auth=True), NAME)
    theirs = Stdlib(context, server=True)
    _exchange(ours, theirs)
    theirs.tls.verify_client_post_handshake()
    theirs.tls.write(b"who is there?")
    _exchange(ours, theirs)
    assert theirs.tls.getpeercert(binary_form=True) is None
    _talk(ours, theirs)


@pytest.mark.parametrize("chunk", [None, 1], ids=["all", "1-byte"])
@pytest.mark.parametrize("kind", KINDS)
def test_our_server_asks_a_stdlib_client_later(their_files: Any, kind: str, chunk: int | None) -> None:
    context = their_files(_their_client(), kind)
    context.post_handshake_auth = True
    ours = Connection.server(ServerConfig(credentials=(_credential(),), client_trust=_ca().trust))
    theirs = Stdlib(context, server=False)
    assert _complete(_exchange(ours, theirs, chunk)).peer is None
    for _ in range(2):
        name = ours.request_client_certificate()
        ours.send_data(b"x")
        events = _exchange(ours, theirs, chunk)
        (event,) = [one for one in events if isinstance(one, PeerAuthenticated)]
        assert event.request_context == name
        assert event.peer is not None and event.peer.leaf.der == _issued(kind).der
        ours.send_key_update(request_peer=True)
        _exchange(ours, theirs, chunk)
        theirs.received.clear()
    _talk(ours, theirs)


def test_stdlib_client_without_a_certificate_declines_to_our_server() -> None:
    context = _their_client()
    context.post_handshake_auth = True
    ours = Connection.server(ServerConfig(credentials=(_credential(),), client_trust=_ca().trust))
    theirs = Stdlib(context, server=False)
    _exchange(ours, theirs)
    name = ours.request_client_certificate()
    assert PeerAuthenticated(None, name) in _exchange(ours, theirs)
    _talk(ours, theirs)
