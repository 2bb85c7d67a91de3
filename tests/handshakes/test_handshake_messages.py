"""What our two ends say, message by message: in which order, with which fields and extensions, what they never say."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from pellucid import ClientConfig, Connection, Credential, ServerConfig, UsageError
from pellucid.config import ClientAuthentication, ClientHelloInfo
from pellucid.crypto.pyca import PYCA
from pellucid.errors import AlertReceived, HandshakeFailure
from pellucid.handshake import negotiate
from pellucid.messages.extensions import TABLE, M
from pellucid.messages.handshake import HEADER_LENGTH, HELLO_RETRY_REQUEST_RANDOM, ClientHello
from pellucid.registry import AlertDescription as A
from pellucid.registry import CipherSuite as CS
from pellucid.registry import ExtensionType as E
from pellucid.registry import HandshakeType as H
from pellucid.registry import NamedGroup as G
from pellucid.registry import SignatureScheme as S
from pellucid.registry import extension_name, is_grease
from pellucid.schedule import export_keying_material
from pellucid.trace import Role, SecretDerived
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
    issued,
    server_config,
)
from tests.support.wiretap import Wiretap, tapped

CH, SH, HRR, EE, CR = (
    H.CLIENT_HELLO,
    H.SERVER_HELLO,
    H.HELLO_RETRY_REQUEST,
    H.ENCRYPTED_EXTENSIONS,
    H.CERTIFICATE_REQUEST,
)
CT, CV, FIN = H.CERTIFICATE, H.CERTIFICATE_VERIFY, H.FINISHED
TWO: dict[str, Any] = {"groups": (G.SECP256R1, G.X25519), "key_shares": (G.X25519,)}
COOKIE: dict[str, Any] = {"cookie_key": b"k" * 32, "always_retry": True}
OPTIONAL = ClientAuthentication.OPTIONAL


def retrying_server(**changes: Any) -> ServerConfig:
    return server_config(groups=(G.SECP256R1,), **changes)


def with_certificate(**changes: Any) -> ClientConfig:
    return client_config(credentials=(credential("p256", "client.test"),), **changes)


@dataclasses.dataclass(frozen=True)
class Scenario:
    client: Callable[[], ClientConfig]
    server: Callable[[], ServerConfig]
    order: tuple[tuple[Role, int], ...]


def _order(*, retry: bool = False, asked: bool = False, shown: bool = False) -> tuple[tuple[Role, int], ...]:
    """RFC 9846 §2's Figures 1 and 2, as one list."""
    client, server = [CH], [SH, EE, *([CR] if asked else []), CT, CV, FIN]
    first = [(Role.CLIENT, CH), (Role.SERVER, HRR)] if retry else []
    answer = [*([CT] if asked else []), *([CV] if shown else []), FIN]
    return (
        *first,
        *((Role.CLIENT, kind) for kind in client),
        *((Role.SERVER, kind) for kind in server),
        *((Role.CLIENT, kind) for kind in answer),
    )


def stapled(*names: str) -> Credential:
    """A credential with an OCSP response and SCTs to go with its leaf."""
    response = authority().ocsp_response(issued("p256", *names))
    return dataclasses.replace(credential("p256", *names), ocsp_response=response, scts=(b"an sct",))


ASKING: dict[str, Any] = {"request_ocsp": True, "request_scts": True}
NOT_ASKING: dict[str, Any] = {"request_ocsp": False, "request_scts": False}

SCENARIOS = {
    "plain": Scenario(client_config, server_config, _order()),
    "everything-offered": Scenario(
        lambda: client_config(alpn=("h2", "http/1.1"), key_shares=(G.X25519, G.SECP256R1)),
        lambda: server_config(alpn=("http/1.1",), groups=(G.SECP256R1, G.X25519)),
        _order(),
    ),
    "group-preferred": Scenario(
        lambda: client_config(alpn=("h2",)), lambda: server_config(groups=(G.SECP256R1, G.X25519)), _order()
    ),
    "retry-group": Scenario(lambda: client_config(**TWO), retrying_server, _order(retry=True)),
    "retry-cookie": Scenario(client_config, lambda: server_config(**COOKIE), _order(retry=True)),
    "retry-both": Scenario(
        lambda: client_config(**TWO, alpn=("h2",)),
        lambda: retrying_server(cookie_key=b"k" * 32, alpn=("h2",)),
        _order(retry=True),
    ),
    "client-shows-certificate": Scenario(with_certificate, asking_server_config, _order(asked=True, shown=True)),
    "client-has-no-certificate": Scenario(
        client_config, lambda: asking_server_config(client_authentication=OPTIONAL), _order(asked=True)
    ),
    "client-is-not-asked": Scenario(with_certificate, server_config, _order()),
    "retry-and-certificate": Scenario(
        lambda: with_certificate(**TWO),
        lambda: asking_server_config(groups=(G.SECP256R1,)),
        _order(retry=True, asked=True, shown=True),
    ),
    "staples-asked-for": Scenario(
        lambda: client_config(credentials=(stapled("client.test"),), **ASKING),
        lambda: asking_server_config(credentials=(stapled(),), **ASKING),
        _order(asked=True, shown=True),
    ),
    "staples-not-asked-for": Scenario(
        lambda: client_config(credentials=(stapled("client.test"),), **NOT_ASKING),
        lambda: asking_server_config(credentials=(stapled(),), **NOT_ASKING),
        _order(asked=True, shown=True),
    ),
    "no-compatibility": Scenario(
        lambda: client_config(middlebox_compatibility=False, grease=False, send_server_name=False),
        server_config,
        _order(),
    ),
}
every_scenario = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))


def heard(scenario: Scenario, **arguments: Any) -> tuple[Pair, Wiretap]:
    """Both ends after their handshake, and all that they said."""
    pair, tap = tapped(scenario.client(), scenario.server(), **arguments)
    return pair.connect(), tap


def types(extensions: Any) -> list[int]:
    return [extension.extension_type for extension in extensions]


def carried(body: Any, code: int) -> bytes:
    return next(data for kind, data in body.extensions if kind == code)


# ---- order -----------------------------------------------------------------------------------------------------------


@every_scenario
@pytest.mark.rfc("9846 §4", "messages are sent in the order of the transcript and of the diagrams")
@pytest.mark.rfc("9846 §4.2.2", "a client's first message is the ClientHello")
@pytest.mark.rfc("9846 §4.4.1", "a server sends EncryptedExtensions right after ServerHello")
@pytest.mark.rfc("9846 §4.4.2", "a server sends CertificateRequest right after EncryptedExtensions")
@pytest.mark.rfc("9846 §4.5.1", "a server sends Certificate, a client sends it where it was asked and nowhere else")
@pytest.mark.rfc("9846 §4.5.1", "Finished is sent whether Certificate is empty or not")
@pytest.mark.rfc("9846 §4.5.2", "whoever shows a certificate sends CertificateVerify between it and Finished")
@pytest.mark.rfc("9846 §4.6", "without early data there is no EndOfEarlyData, from a server never")
def test_messages_are_sent_in_the_order_of_the_diagrams(scenario: Scenario, chunking: Chunking) -> None:
    _, tap = heard(scenario, chunking=chunking)
    assert [(message.role, message.kind) for message in tap.said()] == list(scenario.order)
    shown = [bool(message.body.certificate_list) for message in tap.said(Role.CLIENT) if message.kind == CT]
    assert shown == [CV in tap.kinds(Role.CLIENT)] * len(shown)


@pytest.mark.rfc("9846 §2", "no application data is sent before Finished")
@pytest.mark.rfc("9846 §F.5", "an application can tell whether the handshake is complete")
@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
def test_application_data_is_not_sent_before_the_handshake_is_complete(role: Role) -> None:
    """After every single byte that arrives: either the handshake is complete and says so, or nothing is sent."""
    pair = Pair.of(with_certificate(), asking_server_config())
    end, peer = (pair.client, pair.server) if role is Role.CLIENT else (pair.server, pair.client)
    refusals = 0
    for _ in range(8):
        deliver(end.data_to_send(), peer)
        for byte in peer.data_to_send():
            if end.handshake_complete:
                break
            with pytest.raises(UsageError, match="before the handshake is complete"):
                end.send_data(b"early")
            refusals += 1
            assert events_of(end) == ([], None)
            end.receive_data(bytes((byte,)))
    assert end.handshake_complete
    assert refusals > 300
    assert [type(event).__name__ for event in events_of(end)[0]] == ["HandshakeComplete"]
    end.send_data(b"in time")
    deliver(end.data_to_send(), peer)
    assert b"in time" in b"".join(getattr(event, "data", b"") for event in events_of(peer)[0])


# ---- hellos ----------------------------------------------------------------------------------------------------------


@every_scenario
@pytest.mark.rfc("9846 §4.2.2", "ClientHello.legacy_version is 0x0303")
@pytest.mark.rfc("9846 §4.2.2", "ClientHello offers exactly the null compression")
def test_client_hello_has_the_legacy_fields_of_tls_1_2(scenario: Scenario) -> None:
    _, tap = heard(scenario)
    for message in tap.said(Role.CLIENT):
        if message.kind == CH:
            assert message.raw[HEADER_LENGTH : HEADER_LENGTH + 2] == b"\x03\x03"
            assert message.body.legacy_compression_methods == b"\0"


@pytest.mark.rfc("9846 §4.2.2", "legacy_session_id is 32 fresh bytes in compatibility mode, else empty")
def test_session_id_is_fresh_in_compatibility_mode_and_empty_otherwise() -> None:
    def session_id(config: ClientConfig) -> bytes:
        data = Connection.client(config, NAME).data_to_send()
        return ClientHello.decode(data[5 + HEADER_LENGTH :]).legacy_session_id

    on, off = client_config(), client_config(middlebox_compatibility=False)
    assert {len(session_id(on)) for _ in range(20)} == {32}
    assert len({session_id(on) for _ in range(20)}) == 20
    assert {session_id(off) for _ in range(5)} == {b""}


@every_scenario
@pytest.mark.rfc("9846 §4.2.3", "ServerHello.legacy_version is 0x0303, its compression null, its session id echoed")
@pytest.mark.rfc("9846 §4.2.3", "ServerHello and HelloRetryRequest carry supported_versions with 0x0304")
@pytest.mark.rfc("9846 §4.2.3", "ServerHello carries nothing but version and key exchange")
@pytest.mark.rfc("9846 §4.2.4", "HelloRetryRequest carries nothing but version, group and cookie")
@pytest.mark.rfc("9846 §4.2.4", "a server keeps version and cipher suite from HelloRetryRequest to ServerHello")
def test_server_hellos_have_these_fields_and_no_more(scenario: Scenario) -> None:
    _, tap = heard(scenario)
    hello = tap.one(CH)
    answers = [message for message in tap.said(Role.SERVER) if message.kind in {SH, HRR}]
    assert len(answers) == (2 if HRR in tap.kinds() else 1)
    for answer in answers:
        body = answer.body
        assert answer.raw[:1] + answer.raw[4:6] == b"\x02\x03\x03"
        assert (body.legacy_compression_method, body.legacy_session_id_echo) == (0, hello.legacy_session_id)
        assert carried(body, E.SUPPORTED_VERSIONS) == b"\x03\x04"
        assert body.cipher_suite == answers[0].body.cipher_suite
        assert body.cipher_suite in hello.cipher_suites
        allowed = {E.SUPPORTED_VERSIONS, E.KEY_SHARE} | ({E.COOKIE} if answer.kind == HRR else set())
        assert set(types(body.extensions)) <= allowed
        assert (body.random == HELLO_RETRY_REQUEST_RANDOM) is (answer.kind == HRR)
        assert answer.kind == HRR or E.KEY_SHARE in types(body.extensions)
        assert set(types(body.extensions)) - {E.COOKIE} <= set(types(hello.extensions))


@pytest.mark.rfc("9846 §4.2.3", "ServerHello.random is 32 random bytes that owe nothing to ClientHello.random")
def test_server_random_is_the_providers_whatever_the_client_sent() -> None:
    drawn: list[bytes] = []

    def random(size: int) -> bytes:
        drawn.append(PYCA.random(size))
        return drawn[-1]

    server = server_config(provider=dataclasses.replace(PYCA, random=random))
    seen = set()
    for source in (PYCA.random, bytes, lambda size: b"\xff" * size):
        for _ in range(5):
            drawn.clear()
            config = client_config(provider=dataclasses.replace(PYCA, random=source))
            pair, tap = tapped(config, server)
            pair.connect()
            assert tap.one(SH).random in drawn  # all 32 bytes as drawn: no sentinel of an older version is written over
            seen.add(tap.one(SH).random)
    assert len(seen) == 15


@pytest.mark.rfc("9846 §4.2.2", "a client sends the same ClientHello again but for what HelloRetryRequest asks for")
@pytest.mark.rfc("9846 §4.3.8", "a retried ClientHello has one new share, of the group asked for")
@pytest.mark.rfc("9846 §4.3.2", "the cookie is copied into the second ClientHello")
@pytest.mark.parametrize("name", ["retry-group", "retry-cookie", "retry-both", "retry-and-certificate"])
def test_second_client_hello_differs_only_in_what_was_asked_for(name: str, chunking: Chunking) -> None:
    _, tap = heard(SCENARIOS[name], chunking=chunking)
    first, second, retry = tap.one(CH), tap.one(CH, which=1), tap.one(HRR)
    asked = set(types(retry.extensions)) - {E.SUPPORTED_VERSIONS}
    assert asked
    fields = ("legacy_version", "random", "legacy_session_id", "cipher_suites", "legacy_compression_methods")
    assert [getattr(first, name) for name in fields] == [getattr(second, name) for name in fields]
    assert types(second.extensions) == types(first.extensions) + ([E.COOKIE] if E.COOKIE in asked else [])
    for before, after in zip(first.extensions, second.extensions, strict=False):
        assert before == after or (before.extension_type == E.KEY_SHARE and E.KEY_SHARE in asked)
    if E.COOKIE in asked:
        assert carried(second, E.COOKIE) == carried(retry, E.COOKIE)
    if E.KEY_SHARE in asked:
        group, share = carried(retry, E.KEY_SHARE), carried(second, E.KEY_SHARE)
        assert int.from_bytes(share[:2], "big") == len(share) - 2
        assert share[2:4] == group
        assert int.from_bytes(share[4:6], "big") == len(share) - 6
        assert share[6:] not in carried(first, E.KEY_SHARE)


@pytest.mark.rfc("9846 §4.3.2", "a cookie is of no use in a later connection's first ClientHello")
def test_first_client_hello_has_no_cookie_whatever_an_earlier_connection_was_given() -> None:
    config, server = client_config(), server_config(**COOKIE)
    for _ in range(3):
        pair, tap = tapped(config, server)
        pair.connect()
        assert E.COOKIE not in types(tap.one(CH).extensions)
        assert E.COOKIE in types(tap.one(CH, which=1).extensions)


@pytest.mark.rfc("9846 §9.2", "the mandatory extensions are implemented: each is sent, and obeyed by the other end")
def test_mandatory_extensions_are_sent_and_obeyed() -> None:
    told: list[ClientHelloInfo] = []

    def resolver(info: ClientHelloInfo) -> None:
        told.append(info)

    schemes = (S.ECDSA_SECP256R1_SHA256, S.ED25519)
    client = client_config(**TWO, signature_schemes=schemes, signature_algorithms_cert=schemes[:1])
    pair, tap = tapped(client, retrying_server(cookie_key=b"k" * 32, credential_resolver=resolver))
    pair.connect()
    mandatory = {E.SUPPORTED_VERSIONS, E.COOKIE, E.SIGNATURE_ALGORITHMS, E.SIGNATURE_ALGORITHMS_CERT}
    mandatory |= {E.SUPPORTED_GROUPS, E.KEY_SHARE, E.SERVER_NAME}
    assert mandatory <= set(types(tap.one(CH, which=1).extensions))
    (info,) = told
    assert (info.server_name, info.signature_schemes) == (NAME, schemes)
    assert info.certificate_signature_schemes == schemes[:1]
    assert [group for group in info.groups if not is_grease(group)] == list(TWO["groups"])
    assert pair.client.negotiated is not None
    assert (pair.client.negotiated.group, pair.client.negotiated.retried) == (G.SECP256R1, True)


# ---- groups and shares -----------------------------------------------------------------------------------------------

CLASSICAL = (G.X25519, G.SECP256R1, G.SECP384R1)


@pytest.mark.rfc("9846 §2", "the server's share is in the group of one of the client's shares")
@pytest.mark.rfc("9846 §4.3.8", "a server sends one share, of a group in supported_groups")
@pytest.mark.rfc("9846 §4.2.1", "a group that the client sent no share for is asked for with HelloRetryRequest")
@pytest.mark.parametrize("listed", [p for n in (1, 2, 3) for p in itertools.permutations(CLASSICAL, n)], ids=str)
def test_server_share_is_of_a_group_that_the_client_shared(listed: tuple[int, ...]) -> None:
    """Every list of groups a client may have, with every choice of shares from it, against three servers."""
    for shared in (s for n in range(1, len(listed) + 1) for s in itertools.combinations(listed, n)):
        for preferred in CLASSICAL:
            groups = (preferred, *(group for group in CLASSICAL if group != preferred))
            pair, tap = tapped(client_config(groups=listed, key_shares=shared), server_config(groups=groups[:2]))
            if not set(listed) & set(groups[:2]):
                continue
            pair.connect()
            hello = [message.body for message in tap.said(Role.CLIENT) if message.kind == CH][-1]
            shares = TABLE[M.CH][E.KEY_SHARE].codec.decode_all(carried(hello, E.KEY_SHARE), "")
            share = TABLE[M.SH][E.KEY_SHARE].codec.decode_all(carried(tap.one(SH), E.KEY_SHARE), "")
            assert share.group in {entry.group for entry in shares}
            assert share.group in listed
            assert (HRR in tap.kinds()) is not bool(set(shared) & set(groups[:2]))


@pytest.mark.rfc("9846 §4.3.7", "named_group_list has no group twice")
@pytest.mark.rfc("9846 §4.3.8", "a client offers no two shares for one group, and none for a group it does not list")
def test_client_lists_no_group_and_shares_no_key_twice() -> None:
    for grease, shares in itertools.product((True, False), (None, (G.X25519,), tuple(g.code for g in PYCA.groups))):
        config = client_config(groups=tuple(g.code for g in PYCA.groups), key_shares=shares, grease=grease)
        for _ in range(20):
            hello = ClientHello.decode(Connection.client(config, NAME).data_to_send()[5 + HEADER_LENGTH :])
            groups = TABLE[M.CH][E.SUPPORTED_GROUPS].codec.decode_all(carried(hello, E.SUPPORTED_GROUPS), "")
            entries = TABLE[M.CH][E.KEY_SHARE].codec.decode_all(carried(hello, E.KEY_SHARE), "")
            shared = [entry.group for entry in entries]
            assert len(set(groups)) == len(groups) == len(PYCA.groups) + grease
            assert len(set(shared)) == len(shared)
            assert set(shared) <= set(groups)


@pytest.mark.rfc("9846 §4.3.8", "a peer may use its key share again")
@pytest.mark.parametrize("group", [g.code for g in PYCA.groups if not g.post_quantum], ids=hex)
def test_a_share_that_a_peer_uses_again_is_taken(group: int) -> None:
    """RFC 8446 allowed it: the same key of the client against two servers, the same key of a server to two clients."""
    made = next(g for g in PYCA.groups if g.code == group)
    exchange = made.generate()
    again = dataclasses.replace(
        made, generate=lambda: exchange, respond=lambda peer: (exchange.public, exchange.finish(peer))
    )
    provider = dataclasses.replace(PYCA, groups=(again,))
    ours: dict[str, Any] = {"groups": (group,)}
    theirs: dict[str, Any] = {"groups": (group,), "provider": provider}
    shares = set()
    for _ in range(2):
        pair, tap = tapped(client_config(**theirs, key_shares=(group,), grease=False), server_config(**ours))
        pair.connect()
        shares.add(carried(tap.one(CH), E.KEY_SHARE)[6:])
        pair, tap = tapped(client_config(**ours, key_shares=(group,)), server_config(**theirs))
        pair.connect()
        shares.add(carried(tap.one(SH), E.KEY_SHARE)[4:])
    assert shares == {exchange.public}


# ---- extensions ------------------------------------------------------------------------------------------------------

WHERE = {CH: M.CH, SH: M.SH, HRR: M.HRR, EE: M.EE, CR: M.CR}


def _blocks(tap: Wiretap) -> list[tuple[Role, M, Any]]:
    """Every block of extensions that was sent, and where it stands."""
    found: list[tuple[Role, M, Any]] = []
    for message in tap.said():
        if message.kind in WHERE:
            found.append((message.role, WHERE[message.kind], message.body.extensions))
        elif message.kind == CT:
            found += [(message.role, M.CT, entry.extensions) for entry in message.body.certificate_list]
    return found


@every_scenario
@pytest.mark.rfc("9846 §4.3", "nothing stands behind the structure in an extension that is sent")
@pytest.mark.rfc("9846 §4.3", "no block that is sent has two extensions of one type")
@pytest.mark.rfc("9846 §4.3", "an extension is sent only in the messages it is specified for")
def test_extensions_sent_are_whole_single_and_in_their_place(scenario: Scenario) -> None:
    _, tap = heard(scenario)
    blocks = _blocks(tap)
    assert {where for _, where, _ in blocks} >= {M.CH, M.SH, M.EE}
    for _, where, extensions in blocks:
        assert len(set(types(extensions))) == len(extensions)
        for code, data in extensions:
            if not is_grease(code):
                body = TABLE[where][code]
                value, end = body.codec.decode(data, 0, len(data))
                assert end == len(data), extension_name(code)
                assert body.codec.encode(value) == data, extension_name(code)


@every_scenario
@pytest.mark.rfc("9846 §4.3", "no extension response is sent without its request")
@pytest.mark.rfc("9846 §4.5.1", "a Certificate carries no extension that was not asked for")
def test_responses_answer_what_was_asked_and_nothing_else(scenario: Scenario) -> None:
    _, tap = heard(scenario)
    offered = negotiate.suits_request(tap.one(CH).extensions)
    asked = negotiate.suits_request(tap.one(CR).extensions) if CR in tap.kinds() else frozenset()
    for role, where, extensions in _blocks(tap):
        if where in {M.SH, M.HRR, M.EE, M.CT}:
            requested = offered if role is Role.SERVER else asked
            assert set(types(extensions)) - ({E.COOKIE} if where is M.HRR else set()) <= requested
    carried_along = {code for _, where, extensions in _blocks(tap) if where is M.CT for code in types(extensions)}
    staples = {E.STATUS_REQUEST, E.SIGNED_CERTIFICATE_TIMESTAMP}
    assert carried_along == (staples if scenario is SCENARIOS["staples-asked-for"] else set())


STATUS_REQUEST_V2, TRUNCATED_HMAC = 17, 4


@every_scenario
@pytest.mark.rfc("9846 §4.3.6", "a server never sends post_handshake_auth")
@pytest.mark.rfc("9846 §4.3.9", "a server never sends psk_key_exchange_modes")
@pytest.mark.rfc("9846 §4.5.1.1", "a server never sends status_request_v2")
@pytest.mark.rfc("9846 §E.5", "truncated_hmac is neither offered nor answered")
def test_extensions_that_must_never_be_sent_are_not(scenario: Scenario) -> None:
    _, tap = heard(scenario)
    sent: dict[Role, set[int]] = {Role.CLIENT: set(), Role.SERVER: set()}
    for role, _, extensions in _blocks(tap):
        sent[role].update(types(extensions))
    assert not sent[Role.SERVER] & {E.POST_HANDSHAKE_AUTH, E.PSK_KEY_EXCHANGE_MODES, STATUS_REQUEST_V2, TRUNCATED_HMAC}
    assert TRUNCATED_HMAC not in sent[Role.CLIENT]


# ---- authentication --------------------------------------------------------------------------------------------------


@every_scenario
@pytest.mark.rfc("9846 §4.4.2", "CertificateRequest in the handshake has no context, and signature_algorithms")
@pytest.mark.rfc("9846 §4.5.1", "Certificate in the handshake has no context")
@pytest.mark.rfc(
    "9846 §4.5.1", "the sender's own certificate is the first of its list, and a server's list is not empty"
)
def test_certificate_messages_have_no_context_and_the_leaf_first(scenario: Scenario) -> None:
    pair, tap = heard(scenario)
    for message in tap.said():
        if message.kind == CR:
            assert message.body.certificate_request_context == b""
            assert E.SIGNATURE_ALGORITHMS in types(message.body.extensions)
        elif message.kind == CT:
            assert message.body.certificate_request_context == b""
            end = pair.client if message.role is Role.CLIENT else pair.server
            assert end.negotiated is not None
            sent = tuple(entry.cert_data for entry in message.body.certificate_list)
            assert sent == end.negotiated.local_certificates
            assert sent or message.role is Role.CLIENT
    assert pair.client.negotiated is not None and pair.server.negotiated is not None
    assert pair.client.negotiated.peer is not None
    assert pair.client.negotiated.peer.leaf.der == pair.server.negotiated.local_certificates[0]


@pytest.mark.rfc(
    "9846 §4.5.1", "the sender's own certificate is the first of its list, and a server's list is not empty"
)
def test_credential_without_certificates_is_not_made() -> None:
    with pytest.raises(UsageError):
        Credential(chain=(), signer=credential().signer)


@pytest.mark.rfc("9846 §4.5.2", "CertificateVerify's scheme is one that the peer offered, and its sender's key has it")
@pytest.mark.parametrize(
    "offered", [(S.RSA_PSS_RSAE_SHA512,), (S.ED25519, S.RSA_PSS_RSAE_SHA384), (S.ED25519,)], ids=str
)
def test_certificate_verify_has_a_scheme_that_the_peer_offered(offered: tuple[int, ...]) -> None:
    """The chain itself is signed with P-256, which stays acceptable for certificates, but not for the handshake."""
    kinds = ("p256", "rsa2048", "ed25519")
    both = tuple(credential(kind, "client.test", NAME) for kind in kinds)  # type: ignore[arg-type]
    taken = (*offered, S.ECDSA_SECP256R1_SHA256)
    client = client_config(credentials=both[1:], signature_schemes=taken)
    server = asking_server_config(credentials=both[1:], signature_schemes=taken)
    pair, tap = tapped(client, server)
    pair.connect()
    for role in Role:
        assert tap.one(CV, role).algorithm in offered
    assert tap.one(CV, Role.CLIENT).algorithm == tap.one(CV, Role.SERVER).algorithm


@pytest.mark.rfc("9846 §4.2.1", "a server says handshake_failure to a client with nothing in common")
@pytest.mark.parametrize(
    ("client", "server"),
    [
        ({"suites": (CS.TLS_AES_128_GCM_SHA256,)}, {"suites": (CS.TLS_AES_256_GCM_SHA384,)}),
        ({"groups": (G.X25519,)}, {"groups": (G.SECP256R1,)}),
        ({"signature_schemes": (S.ED448,)}, {}),
    ],
    ids=["suite", "group", "signature"],
)
def test_nothing_in_common_is_handshake_failure(client: Any, server: Any, chunking: Chunking) -> None:
    pair = Pair.of(client_config(**client), server_config(**server), chunking=chunking)
    pair.pump()
    _, refused = events_of(pair.server)
    assert isinstance(refused, HandshakeFailure)
    _, told = events_of(pair.client)
    assert isinstance(told, AlertReceived)
    assert told.description in {A.HANDSHAKE_FAILURE, A.INSUFFICIENT_SECURITY}


# ---- exporters -------------------------------------------------------------------------------------------------------


@every_scenario
@pytest.mark.rfc("9846 §7.5", "what is exported comes from exporter_secret")
def test_exported_values_come_from_the_exporter_secret(scenario: Scenario) -> None:
    """Computed again from the secret that the trace tells of under that name, which is the main secret's."""
    pair, tap = heard(scenario)
    for end in (pair.client, pair.server):
        found = [
            event
            for role, event in tap.events
            if role is end.role and isinstance(event, SecretDerived) and event.name == "exporter_secret"
        ]
        assert [(event.parent, event.label) for event in found] == [("main_secret", "exp master")]
        assert end.negotiated is not None
        suite = next(each for each in PYCA.suites if each.code == end.negotiated.cipher_suite)
        expected = export_keying_material(suite, found[0].secret.reveal(), b"EXPERIMENTAL label", b"context", 40)
        assert end.export_keying_material(b"EXPERIMENTAL label", b"context", 40) == expected
