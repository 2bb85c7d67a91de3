"""What is chosen and why: retries, cookies, names, ALPN, client certificates, GREASE, order, middlebox mode."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pellucid import Connection, Credential, HandshakeComplete, ServerConfig
from pellucid.config import CertificateRequestInfo, ClientAuthentication, ClientHelloInfo
from pellucid.crypto.pyca import PYCA
from pellucid.errors import AlertReceived, PeerError
from pellucid.messages import extensions as x
from pellucid.messages.handshake import ClientHello, EncryptedExtensions
from pellucid.registry import GREASE_VALUES, ContentType, is_grease
from pellucid.registry import AlertDescription as A
from pellucid.registry import CipherSuite as CS
from pellucid.registry import ExtensionType as E
from pellucid.registry import HandshakeType as H
from pellucid.registry import NamedGroup as G
from pellucid.registry import SignatureScheme as S
from pellucid.testing.ca import CA
from pellucid.trace import ChoiceMade, Direction, MessageTraced
from tests.support.pair import (
    NAME,
    Chunking,
    Pair,
    asking_server_config,
    authority,
    client_config,
    credential,
    deliver,
    events_of,
    server_config,
)

GREASE = frozenset(GREASE_VALUES)
CCS = b"\x14\x03\x03\x00\x01\x01"
TWO: dict[str, Any] = {"groups": (G.SECP256R1, G.X25519), "key_shares": (G.X25519,)}


def agreed(connection: Connection) -> Any:
    assert connection.negotiated is not None
    return connection.negotiated


def hello_of(config: Any = None) -> ClientHello:
    """The ClientHello that a client with *config* sends."""
    data = Connection.client(config or client_config(), NAME).data_to_send()
    return ClientHello.decode(data[9:])


# ---- HelloRetryRequest and cookies -----------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.2.4", "a server asks for another share with HelloRetryRequest")
@pytest.mark.parametrize("cookie_key", [None, b"k" * 32], ids=["without-cookie", "cookie"])
@pytest.mark.parametrize("suite", [CS.TLS_AES_128_GCM_SHA256, CS.TLS_AES_256_GCM_SHA384], ids=hex)
def test_retry_for_a_group(chunking: Chunking, cookie_key: bytes | None, suite: int) -> None:
    server = server_config(groups=(G.SECP256R1,), cookie_key=cookie_key, suites=(suite,))
    pair = Pair.of(client_config(**TWO), server, chunking=chunking).connect()
    for end in (pair.client, pair.server):
        assert (agreed(end).group, agreed(end).retried) == (G.SECP256R1, True)
    assert pair.client.channel_binding() == pair.server.channel_binding()
    assert pair.send(pair.client, b"after a retry")[1] is None


@pytest.mark.rfc("9846 §4.2.4", "a HelloRetryRequest may ask for nothing but a cookie")
def test_retry_for_a_cookie_only(chunking: Chunking) -> None:
    pair = Pair.of(None, server_config(cookie_key=b"k" * 32, always_retry=True), chunking=chunking).connect()
    assert (agreed(pair.server).group, agreed(pair.server).retried) == (G.X25519, True)


@pytest.mark.rfc("9846 §4.3.2", "a server may keep no state between HelloRetryRequest and the second ClientHello")
@pytest.mark.parametrize("always", [True, False], ids=["cookie-only", "group-too"])
def test_a_stateless_server_goes_on_with_a_new_connection(chunking: Chunking, always: bool) -> None:
    groups = (G.X25519,) if always else (G.SECP256R1,)
    server = server_config(groups=groups, cookie_key=b"k" * 32, always_retry=always)
    client = Connection.client(client_config(**TWO), NAME)
    first = Connection.server(server, peer_address="198.51.100.7")
    deliver(client.data_to_send(), first, chunking)
    request = first.data_to_send()
    assert request.endswith(CCS)  # §E.4: the second connection cannot know that it is due
    deliver(request, client, chunking)
    assert events_of(first) == ([], None)
    assert events_of(client) == ([], None)
    second = Connection.server(server, peer_address="198.51.100.7")
    pair = Pair(client, second, chunking).connect()
    assert agreed(second).retried
    assert pair.send(second, b"hello again")[1] is None


def test_a_retry_with_a_post_quantum_group_has_no_leftovers(chunking: Chunking) -> None:
    client = client_config(groups=(G.X25519, G.X25519MLKEM768), key_shares=(G.X25519,))
    pair = Pair.of(client, server_config(groups=(G.X25519MLKEM768, G.X25519)), chunking=chunking).connect()
    assert agreed(pair.client).group == G.X25519MLKEM768
    phase: Any = pair.client._handshake.phase
    assert not hasattr(phase, "offer")


# ---- middlebox compatibility -----------------------------------------------------------------------------------------


def _record_types(data: bytes) -> list[int]:
    types, at = [], 0
    while at < len(data):
        types.append(data[at])
        at += 5 + int.from_bytes(data[at + 3 : at + 5], "big")
    return types


@pytest.mark.rfc("9846 §E.4", "in compatibility mode each side sends one change_cipher_spec, and a session id")
@pytest.mark.rfc("9846 §E.4", "a server sends change_cipher_spec to every client that sent a session id")
@pytest.mark.parametrize("retry", [False, True], ids=["direct", "retry"])
@pytest.mark.parametrize("client_mode", [True, False], ids=["client-on", "client-off"])
def test_change_cipher_spec_stands_where_it_should(client_mode: bool, retry: bool) -> None:
    client = Connection.client(client_config(**TWO, middlebox_compatibility=client_mode), NAME)
    server = Connection.server(server_config(groups=(G.SECP256R1 if retry else G.X25519,)))
    flights: list[list[int]] = []
    for sender, receiver in ((client, server), (server, client)) * (2 if retry else 1) + ((client, server),):
        data = sender.data_to_send()
        flights.append(_record_types(data))
        receiver.receive_data(data)
    assert server.handshake_complete
    assert client.handshake_complete
    hs, app, ccs = ContentType.HANDSHAKE, ContentType.APPLICATION_DATA, ContentType.CHANGE_CIPHER_SPEC
    from_server = [ccs] if client_mode else []  # §E.4: to every client that sent a session id, and to no other
    from_client = [ccs] if client_mode else []
    if retry:
        assert flights[1] == [hs, *from_server]
        assert flights[2] == [*from_client, hs]
        assert flights[3] == [hs, app]
        assert flights[4] == [app]
    else:
        assert flights == [[hs], [hs, *from_server, app], [*from_client, app]]
    assert len(hello_of(client_config(middlebox_compatibility=client_mode)).legacy_session_id) == 32 * client_mode


# ---- credentials by name ---------------------------------------------------------------------------------------------


def _vhosts() -> ServerConfig:
    return server_config(
        credentials=(
            credential("p256", "default.test"),
            credential("p256", "a.test", "www.a.test"),
            credential("p256", "*.wild.test"),
            credential("ed25519", "exact.wild.test"),
        )
    )


@pytest.mark.rfc("6066 §3", "the server may choose its certificate by server_name")
@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("default.test", 0),
        ("a.test", 1),
        ("www.a.test", 1),
        ("WWW.A.TEST", 1),
        ("any.wild.test", 2),
        ("exact.wild.test", 2),  # two are for it: the first of them
    ],
)
def test_server_chooses_its_credential_by_name(name: str, chosen: int, chunking: Chunking) -> None:
    config = _vhosts()
    pair = Pair.of(None, config, name=name, chunking=chunking).connect()
    assert agreed(pair.client).peer.leaf.der == config.credentials[chosen].chain[0]
    assert agreed(pair.server).server_name == name.lower()


@pytest.mark.parametrize("name", ["wild.test", "two.labels.wild.test", "other.test"])
@pytest.mark.parametrize("strict", [True, False])
def test_a_name_no_credential_is_for(name: str, strict: bool, chunking: Chunking) -> None:
    config = dataclasses.replace(_vhosts(), strict_server_name=strict)
    pair = Pair.of(None, config, name=name, chunking=chunking)
    pair.pump()
    failed = pair.server if strict else pair.client
    _, error = events_of(failed)
    assert isinstance(error, PeerError)
    assert error.alert == (A.UNRECOGNIZED_NAME if strict else A.BAD_CERTIFICATE)
    _, heard = events_of(pair.client if strict else pair.server)
    assert isinstance(heard, AlertReceived)


def test_an_address_is_verified_but_never_sent_as_a_name(chunking: Chunking) -> None:
    config = server_config(credentials=(credential("p256", "192.0.2.7", "2001:db8::7"),))
    for address in ("192.0.2.7", "2001:db8::7"):
        pair = Pair.of(None, config, name=address, chunking=chunking).connect()
        assert agreed(pair.server).server_name is None
        assert agreed(pair.client).server_name == address


@pytest.mark.rfc("9846 §4.5.1.2", "the certificate's key is one that the client can check")
def test_server_chooses_its_credential_by_the_clients_schemes(chunking: Chunking) -> None:
    kinds = {"p256": S.ECDSA_SECP256R1_SHA256, "rsa2048": S.RSA_PSS_RSAE_SHA256, "ed25519": S.ED25519}
    config = server_config(credentials=tuple(credential(kind) for kind in kinds))  # type: ignore[arg-type]
    for kind, scheme in kinds.items():
        # the CA signs with P-256: that scheme is always needed for the chain, but last in the list
        schemes = tuple(dict.fromkeys((scheme, S.ECDSA_SECP256R1_SHA256)))
        chosen = dataclasses.replace(config, credentials=(credential(kind),))  # type: ignore[arg-type]
        pair = Pair.of(client_config(signature_schemes=schemes), chosen, chunking=chunking).connect()
        assert agreed(pair.client).signature_scheme == scheme
    first_that_fits = Pair.of(
        client_config(signature_schemes=(S.RSA_PSS_RSAE_SHA256, S.ED25519)), config, chunking=chunking
    )
    first_that_fits.pump()
    assert first_that_fits.client.negotiated is not None
    assert agreed(first_that_fits.client).signature_scheme == S.RSA_PSS_RSAE_SHA256


def test_no_signature_scheme_in_common_is_handshake_failure(chunking: Chunking) -> None:
    config = server_config(credentials=(credential("ed448"),))
    pair = Pair.of(client_config(signature_schemes=(S.ECDSA_SECP256R1_SHA256,)), config, chunking=chunking)
    pair.pump()
    _, error = events_of(pair.server)
    assert isinstance(error, PeerError)
    assert error.alert == A.HANDSHAKE_FAILURE


def test_a_resolver_chooses_and_none_falls_back_to_the_list(chunking: Chunking) -> None:
    asked: list[ClientHelloInfo] = []
    other = credential("p384", NAME)

    def resolver(info: ClientHelloInfo) -> Credential | None:
        asked.append(info)
        return other if len(asked) == 1 else None

    config = server_config(credential_resolver=resolver, alpn=("h2",))
    for expected in (other, config.credentials[0]):
        pair = Pair.of(client_config(alpn=("h2", "x")), config, chunking=chunking).connect()
        assert agreed(pair.client).peer.leaf.der == expected.chain[0]
    assert [(info.server_name, info.alpn) for info in asked] == [(NAME, (b"h2", b"x"))] * 2


# ---- ALPN ------------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("7301 §3.2", "the server selects one of the client's protocols by its own preference")
@pytest.mark.parametrize(
    ("clients", "servers", "chosen"),
    [
        (("h2", "http/1.1"), ("http/1.1", "h2"), "http/1.1"),
        (("http/1.1", "h2"), ("h2",), "h2"),
        (("a", "b", "c"), ("x", "c", "b"), "c"),
        ((), ("h2",), None),
        (("h2",), (), None),
        ((), (), None),
    ],
)
def test_alpn(clients: tuple[str, ...], servers: tuple[str, ...], chosen: str | None, chunking: Chunking) -> None:
    pair = Pair.of(client_config(alpn=clients), server_config(alpn=servers), chunking=chunking).connect()
    assert (agreed(pair.client).alpn, agreed(pair.server).alpn) == (chosen, chosen)


# ---- client certificates ---------------------------------------------------------------------------------------------

NONE, OPTIONAL, REQUIRED = ClientAuthentication


@pytest.mark.rfc("9846 §4.5.1.3", "a server that asked may go on without a certificate, or not")
@pytest.mark.parametrize("given", ["given", "absent", "invalid"])
@pytest.mark.parametrize("mode", ClientAuthentication, ids=lambda mode: mode.value)
def test_client_authentication(mode: ClientAuthentication, given: str, chunking: Chunking) -> None:
    stranger = CA("stranger").issue(NAME)
    credentials = {
        "given": (credential("p256", "client.test"),),
        "absent": (),
        "invalid": (Credential.from_pem(stranger.chain_pem, stranger.key_pem),),
    }[given]
    pair = Pair.of(
        client_config(credentials=credentials), asking_server_config(client_authentication=mode), chunking=chunking
    )
    pair.pump()
    seen, error = events_of(pair.server)
    refused = (mode is REQUIRED and given != "given") or (mode is OPTIONAL and given == "invalid")
    if refused:
        assert isinstance(error, PeerError)
        assert error.alert == (A.CERTIFICATE_REQUIRED if given == "absent" else A.UNKNOWN_CA)
        assert not pair.server.handshake_complete
        return
    assert error is None
    assert [type(event) for event in seen] == [HandshakeComplete]
    shown = mode is not NONE and given == "given"
    assert (agreed(pair.server).peer is not None) == shown
    assert agreed(pair.client).local_certificates == (credentials[0].chain if shown else ())


@pytest.mark.rfc("9846 §4.3.4", "certificate_authorities guides the client's choice")
def test_client_chooses_the_credential_of_a_ca_that_the_server_names(chunking: Chunking) -> None:
    one, two = CA("CA one"), CA("CA two")
    first, second = (ca.issue("client.test") for ca in (one, two))
    credentials = tuple(Credential.from_pem(made.chain_pem, made.key_pem) for made in (first, second))
    for ca, expected in ((one, 0), (two, 1)):
        pair = Pair.of(
            client_config(credentials=credentials), asking_server_config(client_trust=ca.trust), chunking=chunking
        ).connect()
        assert agreed(pair.server).peer.leaf.der == credentials[expected].chain[0]


def test_a_client_resolver_is_told_what_the_server_accepts(chunking: Chunking) -> None:
    asked: list[CertificateRequestInfo] = []

    def resolver(info: CertificateRequestInfo) -> Credential:
        asked.append(info)
        return credential("p256", "client.test")

    pair = Pair.of(
        client_config(credential_resolver=resolver),
        asking_server_config(signature_schemes=(S.ED25519, S.ECDSA_SECP256R1_SHA256)),
        chunking=chunking,
    )
    pair = dataclasses.replace(pair).connect()
    assert asked == [
        CertificateRequestInfo(
            signature_schemes=(S.ED25519, S.ECDSA_SECP256R1_SHA256), authorities=tuple(authority().trust.authorities)
        )
    ]
    assert agreed(pair.server).peer.leaf.der == credential("p256", "client.test").chain[0]


# ---- GREASE and order ------------------------------------------------------------------------------------------------


def _values(hello: ClientHello) -> dict[str, list[int]]:
    bodies = {e.extension_type: e.extension_data for e in hello.extensions}
    shares = x.KEY_SHARES.codec.decode_all(bodies[E.KEY_SHARE], "")
    return {
        "suites": list(hello.cipher_suites),
        "extensions": [e.extension_type for e in hello.extensions],
        "groups": list(x.SUPPORTED_GROUPS.codec.decode_all(bodies[E.SUPPORTED_GROUPS], "")),
        "shares": [share.group for share in shares],
        "versions": list(x.SUPPORTED_VERSIONS.codec.decode_all(bodies[E.SUPPORTED_VERSIONS], "")),
    }


def test_grease_is_in_every_list_of_the_hello_and_changes_from_hello_to_hello() -> None:
    """RFC 8701 §3.1."""
    seen: dict[str, set[int]] = {}
    for _ in range(50):
        for where, values in _values(hello_of()).items():
            reserved = GREASE & set(values)
            assert len(reserved) == (2 if where == "extensions" else 1), where
            seen.setdefault(where, set()).update(reserved)
    assert all(len(values) > 4 for values in seen.values())


def test_grease_groups_and_shares_are_of_one_value() -> None:
    """RFC 8701 §3.1: a share in a reserved group is allowed only if that group is listed."""
    for _ in range(20):
        values = _values(hello_of())
        assert GREASE & set(values["shares"]) == GREASE & set(values["groups"])


def test_without_grease_there_is_none() -> None:
    for values in _values(hello_of(client_config(grease=False))).values():
        assert not any(map(is_grease, values))


def test_grease_is_tolerated_and_never_negotiated(chunking: Chunking) -> None:
    for _ in range(5):
        pair = Pair.of(client_config(alpn=("h2",)), server_config(alpn=("h2",)), chunking=chunking).connect()
        for end in (pair.client, pair.server):
            chosen = agreed(end)
            assert not {chosen.cipher_suite, chosen.group, chosen.signature_scheme} & GREASE


def test_extensions_change_their_order_unless_told_not_to() -> None:
    def orders(config: Any) -> set[tuple[int, ...]]:
        return {
            tuple(code for code in _values(hello_of(config))["extensions"] if not is_grease(code)) for _ in range(40)
        }

    permuted = orders(client_config(alpn=("h2",)))
    assert len(permuted) > 20
    assert len({frozenset(order) for order in permuted}) == 1
    assert len(orders(client_config(alpn=("h2",), permute_extensions=False))) == 1


@pytest.mark.rfc("9846 §4.3.8", "key shares are in the order of supported_groups, each of a listed group")
def test_shares_are_in_the_order_of_the_groups() -> None:
    config = client_config(groups=(G.X448, G.SECP256R1, G.X25519), key_shares=(G.X25519, G.X448), grease=False)
    values = _values(hello_of(config))
    assert values["groups"] == [G.X448, G.SECP256R1, G.X25519]
    assert values["shares"] == [G.X448, G.X25519]


def test_the_default_client_shares_a_post_quantum_and_a_classical_key() -> None:
    hello = hello_of(client_config(groups=tuple(group.code for group in PYCA.groups), key_shares=None, grease=False))
    assert _values(hello)["shares"] == [G.X25519MLKEM768, G.X25519]


# ---- what is told of the choices -------------------------------------------------------------------------------------


def test_server_tells_its_groups_where_it_likes_another_better(chunking: Chunking) -> None:
    """§4.3.7: in EncryptedExtensions, for the client's next connection."""
    seen: list[Any] = []
    Pair.of(
        client_config(groups=(G.X25519, G.SECP256R1), key_shares=(G.X25519,)),
        server_config(groups=(G.SECP256R1, G.X25519)),
        client_trace=seen.append,
        chunking=chunking,
    ).connect()
    message = next(
        event.body
        for event in seen
        if isinstance(event, MessageTraced)
        and event.direction is Direction.RECEIVED
        and event.message_type == H.ENCRYPTED_EXTENSIONS
    )
    assert isinstance(message, EncryptedExtensions)
    bodies = {e.extension_type: e.extension_data for e in message.extensions}
    assert x.SUPPORTED_GROUPS.codec.decode_all(bodies[E.SUPPORTED_GROUPS], "") == (G.SECP256R1, G.X25519)


def test_every_choice_is_told_with_its_reason(chunking: Chunking) -> None:
    seen: list[Any] = []
    Pair.of(
        client_config(alpn=("h2",)), server_config(alpn=("h2",)), server_trace=seen.append, chunking=chunking
    ).connect()
    choices = {event.what: event for event in seen if isinstance(event, ChoiceMade)}
    assert {"version", "cipher_suite", "group", "alpn", "credential", "signature_scheme"} <= set(choices)
    assert all(choice.reason for choice in choices.values())
