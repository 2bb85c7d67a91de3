"""External PSKs at both ends: plain and imported (RFC 9258), each hash, each mode, with retries and beside sessions."""

from __future__ import annotations

import dataclasses

import pytest

from pellucid import ServerConfig, UsageError
from pellucid.config import ClientAuthentication
from pellucid.errors import DecryptError, HandshakeFailure
from pellucid.messages import extensions as x
from pellucid.registry import CipherSuite as CS
from pellucid.registry import HandshakeType as H
from pellucid.registry import NamedGroup as G
from pellucid.registry import PskKeyExchangeMode as Mode
from pellucid.sessions import ExternalPsk, MemorySessionStore
from pellucid.trace import ChoiceMade, Role
from tests.support import pair
from tests.support.meetings import KEY, SUITES, asking, begin, client, kept, meet, psks, server
from tests.support.pair import Chunking
from tests.support.wiretap import tapped

MODES = {"dhe": (Mode.PSK_DHE_KE,), "ke": (Mode.PSK_KE,), "ke or dhe": (Mode.PSK_KE, Mode.PSK_DHE_KE)}


def server_without_certificate(**changes: object) -> ServerConfig:
    return ServerConfig(tickets=0, tickets_on_resumption=0, **changes)  # type: ignore[arg-type]


# ---- that it works, in every form ------------------------------------------------------------------------------------


@pytest.mark.parametrize("modes", MODES)
@pytest.mark.parametrize("kind", ["plain", "imported"])
@pytest.mark.parametrize("hash_name", SUITES)
@pytest.mark.rfc("9846 §4.3.11", "an external PSK authenticates both ends, without certificates")
@pytest.mark.rfc("9846 §4.2.1", "the server selects a PSK mode from the client's list")
def test_external_psk_authenticates_both_ends(hash_name: str, kind: str, modes: str, chunking: Chunking) -> None:
    ours, theirs = psks(hash_name=hash_name, kind=kind)
    met = meet(
        client(external_psks=(ours,), psk_modes=MODES[modes], suites=(SUITES[hash_name],)),
        server_without_certificate(external_psks=(theirs,), psk_modes=MODES[modes], groups=(G.X25519,)),
        chunking=chunking,
    )
    agreed = met.negotiated
    assert agreed.peer is None
    assert not agreed.resumed
    assert agreed.signature_scheme is None
    assert agreed.psk_identity == ours.psks((hash_name,))[0].identity
    assert agreed.group == (G.X25519 if modes == "dhe" else None)
    met.speak()


@pytest.mark.parametrize(
    "suite", [CS.TLS_AES_128_GCM_SHA256, CS.TLS_CHACHA20_POLY1305_SHA256, CS.TLS_AES_128_CCM_SHA256]
)
@pytest.mark.parametrize("kind", ["plain", "imported"])
@pytest.mark.rfc("9846 §4.3.11", "a PSK is good with every suite of its hash, not with one")
def test_psk_is_used_with_any_suite_of_its_hash(suite: int, kind: str) -> None:
    """The client offers it under the first suite it has with that hash; keys are those of the suite that is chosen."""
    ours, theirs = psks(kind=kind)
    suites = (CS.TLS_AES_128_GCM_SHA256, CS.TLS_CHACHA20_POLY1305_SHA256, CS.TLS_AES_128_CCM_SHA256)
    met = meet(client(external_psks=(ours,), suites=suites), server(external_psks=(theirs,), suites=(suite,)))
    assert met.negotiated.psk_identity is not None
    assert met.negotiated.cipher_suite == suite
    met.speak()


@pytest.mark.rfc("9846 §4.3.11", "client-provided external PSKs influence the choice of the suite")
def test_psk_of_the_other_hash_draws_the_suite_after_it() -> None:
    ours, theirs = psks(hash_name="sha384")
    met = meet(client(external_psks=(ours,)), server(external_psks=(theirs,)))
    assert met.negotiated.cipher_suite == CS.TLS_AES_256_GCM_SHA384
    assert met.negotiated.psk_identity == b"a key"


@pytest.mark.rfc("9846 §4.3.11", "a server selects a PSK and a suite that go together")
def test_psk_whose_hash_no_common_suite_has_is_passed_over() -> None:
    ours, theirs = psks(hash_name="sha384")
    met = meet(client(external_psks=(ours,)), server(external_psks=(theirs,), suites=(CS.TLS_AES_128_GCM_SHA256,)))
    assert met.negotiated.psk_identity is None
    assert met.negotiated.peer is not None


@pytest.mark.rfc("9846 §4.3.11", "an external PSK without a hash of its own is for SHA-256")
@pytest.mark.rfc("9846 §2.2", "an external PSK is provisioned with its identity and hash")
def test_external_psk_has_an_identity_and_sha256_unless_it_says_otherwise() -> None:
    assert ExternalPsk.plain(b"id", KEY, role=Role.CLIENT).hash_name == "sha256"
    with pytest.raises(TypeError):
        ExternalPsk.plain(key=KEY, role=Role.CLIENT)  # type: ignore[call-arg]
    with pytest.raises(UsageError):
        ExternalPsk.plain(b"id", KEY, role=Role.CLIENT, hash_name="md5")


@pytest.mark.parametrize("first", SUITES)
@pytest.mark.parametrize("chosen", SUITES)
@pytest.mark.parametrize("kind", ["plain", "imported"])
@pytest.mark.parametrize("cookie", [False, True])
@pytest.mark.rfc("9846 §4.3.11.2", "after HelloRetryRequest the binder covers both hellos and the request")
@pytest.mark.rfc("9846 §4.3.11.2", "message_hash is of the negotiated hash, whatever the PSK's is")
def test_c5_psk_after_a_retry_in_all_pairs_of_hashes(
    first: str, chosen: str, kind: str, cookie: bool, chunking: Chunking
) -> None:
    """*first*: of the PSK; *chosen*: of the only suite of the server. A PSK of another hash is not used, and does not
    disturb."""
    ours, theirs = psks(hash_name=first, kind=kind)
    retry = {"cookie_key": bytes(range(32)), "always_retry": True} if cookie else {"groups": (G.SECP256R1,)}
    met = meet(
        client(external_psks=(ours,)),
        server(external_psks=(theirs,), suites=(SUITES[chosen],), **retry),
        chunking=chunking,
    )
    assert met.negotiated.retried
    fits = first == chosen or kind == "imported"
    assert (met.negotiated.psk_identity is not None) is fits
    assert (met.negotiated.peer is None) is fits
    met.speak()


# ---- its place beside certificates and sessions ----------------------------------------------------------------------


@pytest.mark.rfc("9846 §F.1", "external PSKs are not combined with certificates, of either end")
@pytest.mark.rfc("9846 §4.4.2", "a server that authenticates with a PSK sends no CertificateRequest")
def test_psk_handshake_has_no_certificates_even_where_clients_must_show_one() -> None:
    ours, theirs = psks()
    ends, tap = tapped(
        client(external_psks=(ours,), credentials=(pair.credential(),)),
        pair.asking_server_config(external_psks=(theirs,)),
    )
    ends.connect()
    assert tap.kinds() == [H.CLIENT_HELLO, H.SERVER_HELLO, H.ENCRYPTED_EXTENSIONS, H.FINISHED, H.FINISHED]


@pytest.mark.rfc("9846 §4.3.11", "unknown PSKs are ignored, and a full handshake follows where it can")
def test_unknown_psk_is_a_full_handshake() -> None:
    ours, _ = psks(b"of somebody else")
    _, theirs = psks()
    met = meet(client(external_psks=(ours,)), server(external_psks=(theirs,)))
    assert met.negotiated.psk_identity is None
    assert met.negotiated.peer is not None


def test_unknown_psk_at_a_server_without_a_certificate_is_refused() -> None:
    ours, _ = psks(b"of somebody else")
    _, theirs = psks()
    met = meet(client(external_psks=(ours,)), server_without_certificate(external_psks=(theirs,)))
    assert isinstance(met.errors[Role.SERVER], HandshakeFailure)
    assert met.client.negotiated is None


@pytest.mark.rfc("9846 §4.3.11", "the server validates the binder before it accepts a PSK")
def test_wrong_key_under_a_known_identity_is_refused() -> None:
    ours, _ = psks(key=b"k" * 32)
    _, theirs = psks()
    met = meet(client(external_psks=(ours,)), server(external_psks=(theirs,)))
    assert isinstance(met.errors[Role.SERVER], DecryptError)
    assert met.client.negotiated is None


def test_second_of_several_psks_is_found() -> None:
    first, _ = psks(b"unknown there")
    ours, theirs = psks(kind="imported")
    told: list[object] = []
    met = meet(client(external_psks=(first, ours)), server(external_psks=(theirs,)), client_trace=told.append)
    assert met.negotiated.psk_identity == ours.psks(("sha256",))[0].identity
    (chosen,) = (event for event in told if isinstance(event, ChoiceMade) and event.what == "psk")
    assert chosen.chosen == "external PSK"


@pytest.mark.parametrize("known", ["session", "external", "both", "neither"])
def test_session_and_external_psks_are_offered_together(known: str) -> None:
    """The session stands first; the server takes the first that it knows."""
    ours, theirs = psks()
    issuing = server(external_psks=(theirs,))
    config = client(external_psks=(ours,))
    assert meet(config, issuing).negotiated.psk_identity is not None
    answering = {
        "session": issuing,
        "external": server(external_psks=(theirs,)),
        "both": issuing,
        "neither": server(),
    }[known]
    sent = kept(config)
    met = meet(config, answering)
    hello = met.negotiated
    assert sent
    assert hello.resumed is (known in {"session", "both"})
    assert (hello.psk_identity is not None) is (known == "external")
    assert (hello.peer is not None) is (known == "neither")


@pytest.mark.rfc("9846 §4.7.1", "a session is resumed only by a configuration that could have made it (attack E8)")
@pytest.mark.parametrize("change", ["none", "another key", "another identity"])
def test_e8_session_of_an_external_psk_is_not_resumed_without_that_psk(change: str) -> None:
    """Nobody showed a certificate when it was made: a client that demands one must not take it for that."""
    store = MemorySessionStore()
    ours, theirs = psks()
    answering = server(external_psks=(theirs,))
    config = client(external_psks=(ours,), sessions=store)
    assert meet(config, answering).negotiated.peer is None
    assert len(store) > 0
    others = {
        "none": (),
        "another key": (psks(key=b"another key, as long as it has to be")[0],),
        "another identity": (psks(b"another")[0],),
    }[change]
    answering = dataclasses.replace(answering, external_psks=(psks(key=KEY)[1],), sessions=answering.session_store)
    plain = client(external_psks=others, sessions=store)
    assert plain.session_scope != config.session_scope
    met = begin(plain, answering)
    assert met.client.data_to_send() and not met.client.early_data_left
    met = meet(client(external_psks=(), sessions=store), answering)
    assert not met.resumed
    assert met.negotiated.peer is not None


@pytest.mark.parametrize("change", ["none", "another key", "another identity"])
def test_e7_ticket_of_an_external_psk_is_not_taken_without_that_psk(change: str) -> None:
    """A client that got its ticket by a key that was withdrawn, or replaced, has to authenticate anew."""
    _, theirs = psks()
    issuing = asking(external_psks=(theirs,))
    others = {
        "none": (),
        "another key": (psks(key=b"another key, as long as it has to be")[1],),
        "another identity": (psks(b"another")[1],),
    }[change]
    later = dataclasses.replace(issuing, external_psks=others, sessions=issuing.session_store)
    assert later.session_store is issuing.session_store
    assert later.client_authentication_digest != issuing.client_authentication_digest
    ours, _ = psks()
    config = client(external_psks=(ours,))
    assert meet(config, issuing).negotiated.psk_identity is not None
    met = begin(config, later)
    met.pump()
    assert met.server.negotiated is None or not met.server.negotiated.resumed


# ---- reflection and confusion (RFC 9257 §4, RFC 9258) ----------------------------------------------------------------


@pytest.mark.rfc("9846 §F.8", "a key whose roles are told apart is not reflected")
def test_e18_own_hello_reflected_is_not_accepted() -> None:
    """One node, client and server under one imported key: what it sends as a client it does not take as a server."""
    as_client = ExternalPsk.imported(b"id", KEY, client="node", server="other", role=Role.CLIENT)
    as_server = ExternalPsk.imported(b"id", KEY, client="other", server="node", role=Role.SERVER)
    met = meet(client(external_psks=(as_client,)), server_without_certificate(external_psks=(as_server,)))
    assert isinstance(met.errors[Role.SERVER], HandshakeFailure)


def test_e18_psk_of_the_other_role_is_refused_by_the_configuration() -> None:
    ours, theirs = psks()
    with pytest.raises(UsageError, match="of this end as server"):
        client(external_psks=(theirs,))
    with pytest.raises(UsageError, match="of this end as client"):
        server(external_psks=(ours,))


def test_e19_plain_and_imported_binders_are_not_taken_for_each_other() -> None:
    """The same identity bytes and the same key, imported here and plain there: the binder is another."""
    imported, _ = psks(kind="imported")
    (used,) = imported.psks(("sha256",))
    plain = ExternalPsk.plain(used.identity, used.key, role=Role.SERVER)
    met = meet(client(external_psks=(imported,)), server(external_psks=(plain,)))
    assert isinstance(met.errors[Role.SERVER], DecryptError)


# ---- modes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("theirs", "modes"), [("dhe", "ke"), ("ke", "dhe")])
@pytest.mark.rfc("9846 §4.3.9", "a mode that the client does not list is not selected")
def test_psk_without_a_common_mode_is_not_used(theirs: str, modes: str) -> None:
    ours, known = psks()
    met = meet(
        client(external_psks=(ours,), psk_modes=MODES[modes]), server(external_psks=(known,), psk_modes=MODES[theirs])
    )
    assert met.negotiated.psk_identity is None
    assert met.negotiated.peer is not None


@pytest.mark.parametrize("modes", ["dhe", "ke"])
@pytest.mark.rfc("9846 §4.3.9", "psk_ke: ServerHello has no key_share; psk_dhe_ke: both hellos have one")
@pytest.mark.rfc("9846 §4.3.8", "no KeyShareEntry in psk_ke")
def test_key_share_of_the_server_is_there_in_psk_dhe_ke_alone(modes: str) -> None:
    ours, theirs = psks()
    ends, tap = tapped(
        client(external_psks=(ours,), psk_modes=MODES[modes]),
        server(external_psks=(theirs,), psk_modes=MODES[modes], tickets=0, tickets_on_resumption=0),
    )
    ends.connect()
    hello = x.decode_extensions(x.M.CH, tap.one(H.CLIENT_HELLO).extensions)
    kinds = [extension.extension_type for extension in tap.one(H.SERVER_HELLO).extensions]
    assert (x.KEY_SHARE.extension_type in kinds) is (modes == "dhe")
    assert x.SELECTED_IDENTITY.extension_type in kinds
    assert hello.get(x.KEY_SHARES)
    assert hello.get(x.PSK_KEY_EXCHANGE_MODES) == MODES[modes]


@pytest.mark.rfc("9846 §4.3.9", "a client that offers PSKs sends psk_key_exchange_modes, and pre_shared_key last")
@pytest.mark.rfc("9846 §4.3.11", "a client's pre_shared_key is its last extension")
def test_client_that_offers_psks_says_which_modes_and_puts_them_last() -> None:
    ours, _ = psks()
    for _ in range(20):  # the others are in a new order every time
        ends, tap = tapped(client(external_psks=(ours,), sessions=None))
        ends.client.data_to_send()
        kinds = [extension.extension_type for extension in tap.one(H.CLIENT_HELLO).extensions]
        assert kinds[-1] == x.OFFERED_PSKS.extension_type
        assert x.PSK_KEY_EXCHANGE_MODES.extension_type in kinds


@pytest.mark.rfc("9846 §4.3.11", "of an external identity the age is 0 at the client, and not looked at by the server")
def test_age_of_an_external_identity_is_zero_and_ignored() -> None:
    from tests.illegal.evil import changing_extensions, evil_client, exchange, good_server
    from tests.illegal.evil import client_config as evil_config
    from tests.illegal.evil import server_config as good_config

    ours, theirs = psks()
    seen: list[int] = []

    def note(extensions: list[object]) -> list[object]:
        offered = x.OFFERED_PSKS.codec.decode_all(extensions[-1].extension_data, "")  # type: ignore[attr-defined]
        seen.extend(identity.obfuscated_ticket_age for identity in offered.identities)
        return extensions

    evil = evil_client(evil_config(external_psks=(ours,)), edit=changing_extensions(H.CLIENT_HELLO, note))
    victim = good_server(good_config(external_psks=(theirs,)))
    exchange(evil, victim)
    assert seen == [0]
    assert victim.handshake_complete


# ---- tickets after it ------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9149 §3", "a connection by an external PSK is a new one: it resumes nothing")
def test_external_psk_gets_as_many_tickets_as_a_new_connection() -> None:
    ours, theirs = psks()
    met = meet(client(external_psks=(ours,)), server(external_psks=(theirs,), tickets=3, tickets_on_resumption=1))
    assert met.tickets == 3
    asks = client(external_psks=(ours,), ticket_request=(4, 1))
    ends, tap = tapped(asks, server(external_psks=(theirs,)))
    ends.pump()
    answered = x.decode_extensions(x.M.EE, tap.one(H.ENCRYPTED_EXTENSIONS).extensions, requested=range(2**16))
    assert answered.get(x.EXPECTED_TICKETS) == 4
    assert tap.kinds().count(H.NEW_SESSION_TICKET) == 4


def test_client_authentication_by_psk_is_carried_through_resumption() -> None:
    """A server that demands certificates of all others lets a PSK's holder resume, and nobody else."""
    ours, theirs = psks()
    answering = asking(external_psks=(theirs,))
    assert answering.client_authentication is ClientAuthentication.REQUIRED
    config = client(external_psks=(ours,))
    assert meet(config, answering).negotiated.psk_identity == b"a key"
    met = meet(config, answering)
    assert met.resumed
    assert met.negotiated.peer is None
