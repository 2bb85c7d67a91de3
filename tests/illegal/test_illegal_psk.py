"""Pre-shared keys and early data that must not be: attacks E1-E5, E21-E24. Binders, identities, modes, choices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pellucid import ClientConfig, HandshakeComplete, ServerConfig
from pellucid.crypto.pyca import PYCA
from pellucid.errors import PeerError
from pellucid.events import EarlyDataAccepted
from pellucid.handshake.psk import OfferedPsk, bound_hello
from pellucid.limits import MAX_PSK_IDENTITIES
from pellucid.messages import extensions as x
from pellucid.messages.extensions import KeyShareEntry, OfferedPsks, PskIdentity
from pellucid.messages.handshake import HEADER_LENGTH, ClientHello, Extension, ServerHello
from pellucid.registry import AlertDescription as A
from pellucid.registry import CipherSuite as CS
from pellucid.registry import ExtensionType as E
from pellucid.registry import HandshakeType as H
from pellucid.registry import NamedGroup as G
from pellucid.registry import PskKeyExchangeMode
from pellucid.schedule import EarlySecret
from pellucid.sessions.psk import EXTERNAL_BINDER, RESUMPTION_BINDER, Psk
from pellucid.trace import Role
from pellucid.transcript import Transcript
from tests.illegal.evil import (
    changing_body,
    changing_extensions,
    drain,
    evil_client,
    evil_server,
    exchange,
    good_client,
    good_server,
    refused,
    replacing,
)
from tests.support.pair import NAME, Pair, as_sent, deliver, events_of
from tests.support.resuming import (
    KEY,
    early_client,
    early_server,
    external,
    first_flight,
    meet,
    resuming_client,
    resuming_server,
    sessions_of,
    settle,
)

IP, DX, ME, UM, PV = (
    A.ILLEGAL_PARAMETER,
    A.DECRYPT_ERROR,
    A.MISSING_EXTENSION,
    A.UNEXPECTED_MESSAGE,
    A.PROTOCOL_VERSION,
)
CH, SH, EE = H.CLIENT_HELLO, H.SERVER_HELLO, H.ENCRYPTED_EXTENSIONS
KE, DHE_KE = PskKeyExchangeMode.PSK_KE, PskKeyExchangeMode.PSK_DHE_KE
CLIENT, SERVER = Role.CLIENT, Role.SERVER
SHA256 = next(suite for suite in PYCA.suites if suite.code == CS.TLS_AES_128_GCM_SHA256)
SHA384 = next(suite for suite in PYCA.suites if suite.code == CS.TLS_AES_256_GCM_SHA384)


def met(kind: str = "session") -> tuple[ClientConfig, ServerConfig]:
    """Two configurations whose ends have a key in common: from a session, or from elsewhere."""
    if kind == "external":
        return (
            resuming_client(external_psks=(external(CLIENT),), sessions=None),
            resuming_server(external_psks=(external(SERVER),), tickets=0),
        )
    client, server = resuming_client(), resuming_server()
    meet(client, server)
    return client, server


def changing_psks(change: Callable[[OfferedPsks], OfferedPsks], *, which: int = 1) -> Any:
    """Change pre_shared_key in the *which*-th ClientHello, and leave the binders to be wrong."""

    def edit(extensions: list[Extension]) -> list[Extension]:
        assert extensions[-1].extension_type == E.PRE_SHARED_KEY
        offered = x.OFFERED_PSKS.codec.decode_all(extensions[-1].extension_data, "")
        return [*extensions[:-1], x.OFFERED_PSKS.extension(change(offered))]

    return changing_extensions(CH, edit, which=which)


def both_kinds(function: Any) -> Any:
    return pytest.mark.parametrize("kind", ["session", "external"])(function)


# ---- binders ---------------------------------------------------------------------------------------------------------

BINDERS: dict[str, Callable[[bytes], bytes]] = {
    "first-bit": lambda binder: bytes((binder[0] ^ 0x80,)) + binder[1:],
    "last-bit": lambda binder: binder[:-1] + bytes((binder[-1] ^ 1,)),
    "zeros": lambda binder: bytes(len(binder)),
    "longer": lambda binder: binder + b"\0",
    "of-another-hash": lambda binder: binder + bytes(16),
    "255-bytes": lambda binder: binder.ljust(255, b"\0"),
}


@both_kinds
@pytest.mark.rfc("9846 §4.3.11", "a binder that does not validate aborts the handshake")
@pytest.mark.parametrize("what", BINDERS)
def test_e1_a_wrong_binder_is_refused(kind: str, what: str) -> None:
    client, server = met(kind)
    edit = changing_psks(lambda psks: OfferedPsks(psks.identities, tuple(map(BINDERS[what], psks.binders))))
    refused(good_server(server), evil_client(client, edit=edit, name=NAME), DX)


@both_kinds
@pytest.mark.rfc("9846 §4.3.11", "a binder that does not validate aborts the handshake")
def test_e1_a_binder_over_another_hello_is_refused(kind: str) -> None:
    """Every field that stands before the binders is under them: here ALPN is added, which nothing else depends on."""
    client, server = met(kind)
    edit = changing_extensions(CH, lambda extensions: [Extension(0x1234, b"new"), *extensions])
    refused(good_server(server), evil_client(client, edit=edit, name=NAME), DX)


@both_kinds
@pytest.mark.parametrize("how", ["another", "none"])
def test_e1_a_psk_that_fits_is_not_dropped_after_a_retry(kind: str, how: str) -> None:
    """Only PSKs that do not fit the suite may go from the second ClientHello (§4.2.2)."""
    client, server = met(kind)
    client = dataclasses.replace(client, groups=(G.SECP256R1, G.X25519), key_shares=(G.X25519,))
    server = resuming_server(groups=(G.SECP256R1,), external_psks=server.external_psks)
    meet(client, server)
    if how == "another":
        edit = changing_psks(lambda psks: OfferedPsks((PskIdentity(b"another", 0),), psks.binders), which=2)
        refused(good_server(server), evil_client(client, edit=edit, name=NAME), IP)
    else:
        edit = changing_extensions(CH, lambda extensions: extensions[:-1], which=2)
        refused(good_server(server), evil_client(client, edit=edit, name=NAME), ME)


@pytest.mark.rfc("9846 §4.3.11", "a binder that does not validate aborts the handshake")
def test_e1_the_first_hellos_binder_in_the_second_is_refused() -> None:
    """After a HelloRetryRequest the binder covers both (§4.3.11.2)."""
    client, _ = met()
    client = dataclasses.replace(client, groups=(G.SECP256R1, G.X25519), key_shares=(G.X25519,))
    server = resuming_server(groups=(G.SECP256R1,))
    meet(client, server)
    first: list[OfferedPsks] = []

    def note(psks: OfferedPsks) -> OfferedPsks:
        first.append(psks)
        return psks

    noting = changing_psks(note)
    replaying = changing_psks(lambda psks: OfferedPsks(psks.identities, first[0].binders), which=2)
    evil = evil_client(client, edit=lambda kind, raw: replaying(kind, noting(kind, raw)), name=NAME)
    refused(good_server(server), evil, DX)
    assert len(first) == 1


@both_kinds
@pytest.mark.rfc("9846 §4.3.11", "there is one binder for each identity")
@pytest.mark.parametrize("change", ["more-binders", "more-identities"])
def test_e2_binders_and_identities_of_different_number_are_refused(kind: str, change: str) -> None:
    client, server = met(kind)

    def edit(psks: OfferedPsks) -> OfferedPsks:
        if change == "more-binders":
            return OfferedPsks(psks.identities, (*psks.binders, bytes(32)))
        return OfferedPsks((*psks.identities, PskIdentity(b"another", 0)), psks.binders)

    refused(good_server(server), evil_client(client, edit=changing_psks(edit), name=NAME), IP)


@pytest.mark.rfc("9846 §4.3.11", "the binder of the selected PSK alone is validated")
def test_e3_the_binders_of_psks_that_are_not_selected_do_not_matter() -> None:
    """They may be anything: nobody here can check them (and each that is checked is an oracle)."""
    client, server = met()
    session = sessions_of(client)[-1]
    known = Psk(identity=session.ticket, key=session.psk, hash_name="sha256", binder_label=RESUMPTION_BINDER)
    ages = (0, session.obfuscated_age(PYCA.now()), 0)
    for wrong in ((0, 2), (0,), (2,), ()):
        assert selected(answered(server, plain(b"one"), known, plain(b"two"), wrong=wrong, ages=ages)) == 1
    with pytest.raises(AssertionError, match="decrypt_error"):
        answered(server, plain(b"one"), known, plain(b"two"), wrong=(1,), ages=ages)


def offering(*psks: Psk, wrong: Sequence[int] = (), ages: Sequence[int] = (), early: bool = False) -> Any:
    """Offer these PSKs in the first ClientHello, rightly bound but for those whose index is in *wrong*."""
    done = False

    def edit(kind: int, raw: bytes) -> bytes:
        nonlocal done
        if kind != CH or done:
            return raw
        done = True
        hello: Any = ClientHello.decode(raw[HEADER_LENGTH:])
        gone = {E.PRE_SHARED_KEY, *(() if early else (E.EARLY_DATA,))}
        kept = [e for e in hello.extensions if e.extension_type not in gone]
        hello = dataclasses.replace(hello, extensions=tuple(kept))
        suites = {"sha256": SHA256, "sha384": SHA384}
        offered = [
            OfferedPsk(
                psk=psk,
                early=EarlySecret.extract(suites[psk.hash_name], psk.key if n not in wrong else b"another key"),
                session=None,
                obfuscated_ticket_age=ages[n] if ages else 0,
            )
            for n, psk in enumerate(psks)
        ]
        return bound_hello(hello, offered, Transcript())[1]

    return edit


def _server_hello(config: ServerConfig, hello: bytes) -> ServerHello:
    """What a fresh server with *config* answers."""
    server = good_server(config)
    deliver(b"\x16\x03\x01" + len(hello).to_bytes(2, "big") + hello, server)
    error = events_of(server)[1]
    assert error is None, str(error)
    return ServerHello.decode(next(as_sent(server.data_to_send()))[5 + HEADER_LENGTH :])


def plain(identity: bytes = b"external", key: bytes = KEY, hash_name: str = "sha256") -> Psk:
    return Psk(identity=identity, key=key, hash_name=hash_name, binder_label=EXTERNAL_BINDER)


def answered(config: ServerConfig, *psks: Psk, **arguments: Any) -> ServerHello:
    """The ServerHello to a client that offers *psks*."""
    client = evil_client(resuming_client(sessions=None, external_psks=(external(CLIENT),)), name=NAME)
    client.edit = offering(*psks, **arguments)
    client.start()
    return _server_hello(config, client.sent[0])


def selected(hello: ServerHello) -> int | None:
    found = [data for code, data in hello.extensions if code == E.PRE_SHARED_KEY]
    return int.from_bytes(found[0], "big") if found else None


# ---- identities ------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.3.11", "the obfuscated_ticket_age of an external PSK is ignored")
@pytest.mark.parametrize("age", [0, 1, 2**31, 2**32 - 1])
def test_e4_the_age_of_an_external_psk_means_nothing(age: int) -> None:
    _, server = met("external")
    assert selected(answered(server, plain(), ages=(age,))) == 0


@pytest.mark.rfc("9846 §4.3.11", "unknown PSKs, such as tickets under an unknown key, are ignored")
@pytest.mark.parametrize("before", [0, 1, MAX_PSK_IDENTITIES - 1, MAX_PSK_IDENTITIES, 200])
def test_e23_unknown_identities_are_passed_over_up_to_a_limit(before: int) -> None:
    """E23: five are looked at; a client with more before the right one gets a full handshake, cheaply."""
    _, server = met("external")
    unknown = [plain(b"unknown %d" % n) for n in range(before)]
    chosen = selected(answered(server, *unknown, plain()))
    assert chosen == (before if before < MAX_PSK_IDENTITIES else None)


@pytest.mark.rfc("9846 §4.3.11", "a server selects a PSK and a suite that go together")
@pytest.mark.parametrize("digest", ["sha256", "sha384"])
@pytest.mark.parametrize("suite", [SHA256, SHA384], ids=lambda suite: suite.name)
def test_e5_a_psk_of_another_hash_than_the_suites_is_not_selected(suite: Any, digest: str) -> None:
    server = resuming_server(
        external_psks=(external(SERVER, hash_name=digest),), tickets=0, suites=(suite.code,), sessions=None
    )
    found = selected(answered(server, plain(hash_name=digest)))
    assert (found == 0) is (suite.hash_name == digest)


# ---- modes -----------------------------------------------------------------------------------------------------------


@both_kinds
@pytest.mark.rfc("9846 §4.3.9", "pre_shared_key without psk_key_exchange_modes aborts the handshake")
def test_e21_a_psk_without_modes_is_refused(kind: str) -> None:
    client, server = met(kind)
    edit = changing_extensions(CH, lambda ext: [e for e in ext if e.extension_type != E.PSK_KEY_EXCHANGE_MODES])
    refused(good_server(server), evil_client(client, edit=edit, name=NAME), ME, IP)


@pytest.mark.rfc("9846 §4.3.9", "a server selects a key exchange mode that the client listed")
@pytest.mark.parametrize("modes", [(2,), (255,), (0x0B, 0x2A), (KE,)], ids=str)
def test_e21_modes_that_the_server_does_not_use_are_nothing_in_common(modes: tuple[int, ...]) -> None:
    """A server of psk_dhe_ke alone, and modes that it does not know or want: a full handshake."""
    client = resuming_client(sessions=None, external_psks=(external(CLIENT),))
    server = resuming_server(external_psks=(external(SERVER),), tickets=0)
    listed = x.PSK_KEY_EXCHANGE_MODES.extension(modes)
    putting = changing_extensions(
        CH, lambda ext: [listed if e.extension_type == E.PSK_KEY_EXCHANGE_MODES else e for e in ext]
    )
    binding = offering(plain())
    evil = evil_client(client, edit=lambda kind, raw: binding(kind, putting(kind, raw)), name=NAME)
    evil.start()
    assert selected(_server_hello(server, evil.sent[0])) is None


# ---- what a client refuses -------------------------------------------------------------------------------------------


def choosing(index: int) -> Any:
    chosen = x.SELECTED_IDENTITY.extension(index)
    return changing_extensions(SH, lambda ext: [chosen if e.extension_type == E.PRE_SHARED_KEY else e for e in ext])


@both_kinds
@pytest.mark.rfc("9846 §4.3.11", "a client refuses a selected_identity, a hash or a missing share that cannot be")
@pytest.mark.parametrize("index", [1, 2, 255, 256, 0xFFFF])
def test_e22_an_identity_that_was_not_offered_is_refused(kind: str, index: int) -> None:
    client, server = met(kind)
    refused(good_client(client, NAME), evil_server(server, edit=choosing(index)), IP)


@both_kinds
@pytest.mark.rfc("9846 §4.3.11", "a client refuses a selected_identity, a hash or a missing share that cannot be")
def test_e22_a_suite_of_another_hash_than_the_psks_is_refused(kind: str) -> None:
    client, server = met(kind)
    edit = changing_body(SH, lambda hello: dataclasses.replace(hello, cipher_suite=CS.TLS_AES_256_GCM_SHA384))
    refused(good_client(client, NAME), evil_server(server, edit=edit), IP)


@both_kinds
@pytest.mark.rfc("9846 §4.3.11", "a client refuses a selected_identity, a hash or a missing share that cannot be")
def test_e22_no_share_where_the_modes_demand_one_is_refused(kind: str) -> None:
    """psk_ke was not offered: without a share there would be no forward secrecy."""
    client, server = met(kind)
    edit = changing_extensions(SH, lambda ext: [e for e in ext if e.extension_type != E.KEY_SHARE])
    refused(good_client(client, NAME), evil_server(server, edit=edit), IP)


@pytest.mark.rfc("9846 §4.3.9", "in psk_ke there is no key_share in ServerHello, in psk_dhe_ke both ends have one")
def test_e22_a_share_where_the_modes_have_none_is_refused() -> None:
    client = resuming_client(sessions=None, external_psks=(external(CLIENT),), psk_modes=(KE,))
    server = resuming_server(external_psks=(external(SERVER),), tickets=0, psk_modes=(KE,))
    share = x.KEY_SHARE.extension(KeyShareEntry(G.X25519, b"\x09" + bytes(31)))
    edit = changing_extensions(SH, lambda ext: [*ext, share])
    refused(good_client(client, NAME), evil_server(server, edit=edit), IP)
    settle(Pair(good_client(client, NAME), evil_server(server)))


@pytest.mark.rfc("9846 §4.4.2", "a server that authenticates by a PSK asks for no certificate")
@both_kinds
@pytest.mark.parametrize("what", [H.CERTIFICATE_REQUEST, H.CERTIFICATE, H.CERTIFICATE_VERIFY])
def test_e22_certificate_messages_after_a_psk_are_refused(kind: str, what: int) -> None:
    client, server = met(kind)
    bodies = {
        H.CERTIFICATE_REQUEST: b"\0\0\x08" + b"\0\x0d\0\4\0\2\4\3",
        H.CERTIFICATE: bytes(4),
        H.CERTIFICATE_VERIFY: b"\4\3\0\0",
    }
    extra = bytes((what,)) + len(bodies[what]).to_bytes(3, "big") + bodies[what]
    refused(good_client(client, NAME), evil_server(server, edit=replacing(EE, lambda raw: raw + extra)), UM)


# ---- early data ------------------------------------------------------------------------------------------------------


def early_pair(**changes: Any) -> tuple[ClientConfig, ServerConfig]:
    client, server = early_client(**changes), early_server()
    meet(client, server)
    return client, server


@pytest.mark.rfc("9846 §4.3.11", "early data that is accepted with another identity than the first is refused")
@pytest.mark.parametrize("how", ["second-identity", "no-identity", "another-suite"])
def test_e22_early_data_accepted_without_the_first_psk_is_refused(how: str) -> None:
    """The evil server takes the external PSK, or none, and says all the same that it has read the early data."""
    client, server = early_pair(external_psks=(external(CLIENT),))
    changes: dict[str, Any] = {"sessions": None, "max_early_data": 0}
    if how == "second-identity":
        changes["external_psks"] = (external(SERVER),)
    elif how == "another-suite":
        changes |= {
            "sessions": server.session_store,
            "suites": (CS.TLS_CHACHA20_POLY1305_SHA256, CS.TLS_AES_128_GCM_SHA256),
        }
    edit = changing_extensions(EE, lambda ext: [*ext, x.EARLY_DATA.extension(True)])
    victim = good_client(client, NAME)
    evil = evil_server(dataclasses.replace(server, **changes), edit=edit)
    deliver(first_flight(victim, b"early"), evil)
    deliver(evil.data_to_send(), victim)
    seen, error = drain(victim)
    assert not any(isinstance(event, HandshakeComplete) for event in seen)
    assert isinstance(error, PeerError)
    assert error.alert == IP
    assert "early data is accepted" in str(error)


@pytest.mark.rfc("9846 §E.3", "a client that sent early data fails when the server chooses an older version")
@pytest.mark.parametrize("sent", [b"", b"early"], ids=["offered", "sent"])
def test_e24_an_older_version_after_early_data_is_refused(sent: bytes) -> None:
    client, server = early_pair()
    edit = changing_extensions(SH, lambda ext: [e for e in ext if e.extension_type != E.SUPPORTED_VERSIONS])
    victim = good_client(client, NAME)
    evil = evil_server(server, edit=edit)
    deliver(first_flight(victim, sent), evil)
    deliver(evil.data_to_send(), victim)
    seen, error = drain(victim)
    assert seen == []
    assert isinstance(error, PeerError)
    assert error.alert == PV


@pytest.mark.rfc("9846 §4.6", "EndOfEarlyData follows the server's Finished where early data is accepted")
@pytest.mark.parametrize("ended", [True, False])
def test_e24_early_data_that_is_never_ended_is_refused(ended: bool) -> None:
    """Finished without EndOfEarlyData before it."""
    client, server = early_pair()
    victim = good_server(server)
    evil = evil_client(client, edit=None if ended else replacing(H.END_OF_EARLY_DATA, lambda raw: b""), name=NAME)
    deliver(first_flight(evil, b"early"), victim)
    deliver(victim.data_to_send(), evil)
    deliver(evil.data_to_send(), victim)
    seen, error = drain(victim)
    assert isinstance(seen[0], EarlyDataAccepted)
    assert victim.handshake_complete is ended
    assert (error is None) is ended


def test_the_ends_that_these_tests_damage_resume_when_nothing_is_damaged() -> None:
    for kind in ("session", "external"):
        client, server = met(kind)
        victim, evil = good_server(server), evil_client(client, name=NAME)
        exchange(victim, evil)
        assert victim.handshake_complete and evil.handshake_complete
        assert victim.negotiated is not None
        assert victim.negotiated.resumed is (kind == "session")
