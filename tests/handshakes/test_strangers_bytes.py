"""What bytes of a peer that nobody has authenticated may cost, and what they must not leave behind."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest

from pellucid import ClientConfig, Connection, ServerConfig
from pellucid.crypto.pyca import PYCA
from pellucid.errors import DecodeError, IllegalParameter, UsageError
from pellucid.handshake.credentials import choices_of
from pellucid.handshake.server_flight import ShownCredential, WaitFinished
from pellucid.limits import MAX_ISSUED_TICKET
from pellucid.messages import extensions as x
from pellucid.messages.handshake import (
    HELLO_RETRY_REQUEST_RANDOM,
    ClientHello,
    Extension,
    ServerHello,
    handshake_message,
)
from pellucid.registry import ExtensionType, NamedGroup, SignatureScheme
from pellucid.sessions import ExternalPsk, MemorySessionStore
from pellucid.sessions.server import ServerSession
from pellucid.trace import Role
from tests.support.pair import NAME, client_config, credential, events_of, pump, server_config
from tests.support.resuming import KEY


def hello(*changed: Extension, without: tuple[int, ...] = ()) -> ClientHello:
    """A good ClientHello with some extensions changed."""
    connection = Connection.client(client_config(grease=False, permute_extensions=False), NAME)
    good = ClientHello.decode(connection.data_to_send()[9:])
    gone = {*without, *(code for code, _ in changed)}
    kept = [one for one in good.extensions if one.extension_type not in gone]
    return dataclasses.replace(good, extensions=(*kept, *changed))


def run_pair(client_config: ClientConfig, server_config: ServerConfig) -> None:
    """A whole handshake, with what the server sends after it."""
    client, server = Connection.client(client_config, NAME), Connection.server(server_config)
    pump(client, server)
    assert events_of(client)[1] is events_of(server)[1] is None
    assert client.handshake_complete
    assert server.handshake_complete


def records(message: bytes) -> bytes:
    pieces = (message[start : start + 16_000] for start in range(0, len(message), 16_000))
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def joined(flight: bytes) -> bytes:
    """Return what the records have in them."""
    found = b""
    while flight:
        end = 5 + int.from_bytes(flight[3:5], "big")
        found, flight = found + flight[5:end], flight[end:]
    return found


# ---- what is kept of them --------------------------------------------------------------------------------------------


def strange_hellos(count: int) -> Iterator[bytes]:
    """ClientHellos that differ in what matters to nobody: names, schemes and certificate types that nobody has."""
    numbers = random.Random(0)  # not for a secret
    for i in range(count):
        schemes = tuple(numbers.randrange(0xE000, 0xF000) for _ in range(60))
        yield records(
            handshake_message(
                hello(
                    x.SERVER_NAME.extension(f"{i}.{'a' * 60}.invalid"),
                    x.SIGNATURE_ALGORITHMS.extension((SignatureScheme.ECDSA_SECP256R1_SHA256, *schemes)),
                    x.SIGNATURE_ALGORITHMS_CERT.extension((SignatureScheme.ECDSA_SECP256R1_SHA256, *schemes[::-1])),
                    x.SERVER_CERTIFICATE_TYPES.extension((0, *numbers.sample(range(3, 250), 200))),
                )
            )
        )


def test_what_strangers_name_is_not_remembered_of_them() -> None:
    config = dataclasses.replace(server_config())  # which has no memory yet
    for flight in strange_hellos(20):
        server = Connection.server(config)
        server.receive_data(flight)
        assert events_of(server) == ([], None)
        assert server.data_to_send()
    kept = choices_of(config)._found
    assert len(kept) == 1
    (name, schemes, in_certificates, types), choice = kept.popitem()
    assert (name, schemes, in_certificates, types) == ("", {0x0403}, {0x0403}, (0,))
    assert choice.credential == credential()


def test_names_under_a_wildcard_are_one_to_the_memory() -> None:
    config = server_config(credentials=(credential("p256", "*.pair.test"), credential("ed25519", "one.pair.test")))
    for i in range(10):
        server = Connection.server(config)
        server.receive_data(records(handshake_message(hello(x.SERVER_NAME.extension(f"{i}.pair.test")))))
        assert events_of(server) == ([], None)
    assert [name for name, *_ in choices_of(config)._found] == ["*.pair.test"]


def test_strict_server_does_not_take_a_stranger_s_name_for_one_it_knows() -> None:
    config = server_config(strict_server_name=True)
    first = Connection.server(config)
    first.receive_data(records(handshake_message(hello(without=(ExtensionType.SERVER_NAME,)))))
    assert events_of(first) == ([], None)
    for name in ("other.invalid", "x." + NAME):
        server = Connection.server(config)
        server.receive_data(records(handshake_message(hello(x.SERVER_NAME.extension(name)))))
        _, error = events_of(server)
        assert error is not None
        assert "no credential is for" in str(error)


@pytest.mark.parametrize("names", [(NAME,), ("*.pair.test", "pair.test"), ("other.test",)])
def test_choice_that_is_remembered_is_the_one_that_is_made(names: tuple[str, ...]) -> None:
    """For every mixture of names, schemes and types: what is kept for one client is what another would be given."""
    config = server_config(credentials=(credential("p256", *names), credential("ed25519"), credential("rsa2048")))
    schemes = ((0x0403,), (0x0807,), (0x0804,), (0x0403, 0x0807), (0x0807, 0x0403, 0xFAFA))
    for name, offered, types in itertools.product((NAME, "a.pair.test", "no.test", None), schemes, ((0, 9), None)):
        changed = [x.SIGNATURE_ALGORITHMS.extension(offered)]
        changed += [] if types is None else [x.SERVER_CERTIFICATE_TYPES.extension(types)]
        changed += [] if name is None else [x.SERVER_NAME.extension(name)]
        flight = records(handshake_message(hello(*changed, without=(ExtensionType.SERVER_NAME,))))
        shown: list[object] = []
        for server_s in (config, dataclasses.replace(config)):  # the second has no memory yet
            server = Connection.server(server_s)
            server.receive_data(flight)
            happened, error = events_of(server)
            assert not happened
            shown.append(None if error is None else str(error))
            answered = server._handshake.phase
            if isinstance(answered, WaitFinished):
                chosen = answered.answered.shown
                assert isinstance(chosen, ShownCredential)
                shown[-1] = chosen
        assert shown[0] == shown[1]


def test_signers_of_other_classes_are_asked_each_time() -> None:
    class Changing(type(credential().signer)):  # type: ignore[misc]  # PrivateKeySigner
        pass

    own = credential()
    signer: Any = Changing(own.signer.key, own.signer.schemes)  # type: ignore[attr-defined]
    config = server_config(credentials=(dataclasses.replace(own, signer=signer),))
    run_pair(client_config(), config)
    assert not choices_of(config)._found
    run_pair(client_config(), config := server_config())
    assert choices_of(config)._found


def test_filters_that_a_user_gets_are_not_anybody_else_s() -> None:
    body = x.OID_FILTERS.codec.encode((x.OIDFilter(b"\x55\x1d\x25", b"\x30\x00"),))
    extensions = (Extension(ExtensionType.OID_FILTERS, body),)
    first, second = (x.decode_extensions(x.M.CR, extensions).get(x.OID_FILTERS) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first == second
    assert first[0] is not second[0]


# ---- what they cost --------------------------------------------------------------------------------------------------


def test_malformed_hello_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its PSKs, thousands of them, whose last is malformed: they were decoded five times, 40 ms of a hello of 64 KB."""
    asked = []
    plain = x.PskIdentity.codec.decode

    def counted(data: bytes, offset: int, end: int) -> Any:
        asked.append(offset)
        return plain(data, offset, end)

    vector = x.OFFERED_PSKS.codec.decode.__globals__
    name = next(name for name, value in vector.items() if value is plain)
    monkeypatch.setitem(vector, name, counted)
    identities = b"\x00\x01x\x00\x00\x00\x00" * 1000
    offered = len(identities).to_bytes(2, "big") + identities + b"\x00\x21\x1f" + bytes(32)
    message = hello(x.PSK_KEY_EXCHANGE_MODES.extension((1,)), Extension(ExtensionType.PRE_SHARED_KEY, offered))
    server = Connection.server(server_config())
    server.receive_data(records(handshake_message(message)))
    _, error = events_of(server)
    assert isinstance(error, DecodeError)
    assert len(asked) == 1000


LARGEST_COOKIE = 16_200  # that a HelloRetryRequest within its own limit has room for

# ---- tickets and cookies that leave no room --------------------------------------------------------------------------


class Verbose:
    """A server's sessions whose tickets are of a size."""

    session_identity = b"verbose"

    def __init__(self, size: int) -> None:
        self.size = size

    def issue(self, session: ServerSession, now: float) -> bytes:
        return bytes(self.size)

    def redeem(self, ticket: bytes, now: float) -> None:
        return None


@pytest.mark.parametrize(("size", "kept"), [(MAX_ISSUED_TICKET, 1), (MAX_ISSUED_TICKET + 1, 0), (65_300, 0)])
@pytest.mark.rfc("9846 §4.7.1", "a ticket is kept only where a ClientHello has room for it")
def test_ticket_that_is_too_long_to_be_offered_is_not_kept(size: int, kept: int) -> None:
    store = MemorySessionStore()
    config = client_config(sessions=store)
    run_pair(config, server_config(sessions=Verbose(size), tickets=1))
    assert len(store) == kept
    run_pair(config, server_config(sessions=Verbose(size), tickets=0))


def retry_with_a_cookie(config: ClientConfig, size: int) -> Connection:
    """A client that was told to come back with the largest cookie there is."""
    client = Connection.client(config, NAME)
    first = ClientHello.decode(joined(client.data_to_send())[4:])
    request = ServerHello(
        0x0303,
        HELLO_RETRY_REQUEST_RANDOM,
        first.legacy_session_id,
        0x1301,
        0,
        (x.SELECTED_VERSION.extension(0x0304), x.COOKIE.extension(bytes(size))),
    )
    client.receive_data(records(handshake_message(request)))
    return client


@pytest.mark.rfc("9846 §4.3.2", "a cookie is echoed, or the handshake ends")
def test_cookie_fits_beside_the_longest_ticket() -> None:
    config = client_config(sessions=MemorySessionStore())
    run_pair(config, server_config(sessions=Verbose(MAX_ISSUED_TICKET), tickets=1))
    client = retry_with_a_cookie(config, LARGEST_COOKIE)
    assert events_of(client) == ([], None)
    assert len(client.data_to_send()) > MAX_ISSUED_TICKET + LARGEST_COOKIE


def test_cookie_that_does_not_fit_is_the_server_s_mistake() -> None:
    known = ExternalPsk(identity=bytes(50_000), key=KEY, role=Role.CLIENT)
    client = retry_with_a_cookie(client_config(external_psks=(known,)), LARGEST_COOKIE)
    _, error = events_of(client)
    assert isinstance(error, IllegalParameter)
    assert "a cookie of" in str(error)


def test_cookies_and_shares_are_not_kept_in_the_module() -> None:
    before = x.COOKIE.extension.cache_info(), x.KEY_SHARES.extension.cache_info()  # type: ignore[attr-defined]
    client = retry_with_a_cookie(client_config(), 600)
    assert events_of(client) == ([], None)
    share = (NamedGroup.SECP256R1,)
    run_pair(
        client_config(groups=(NamedGroup.X25519, *share)),
        server_config(groups=share, cookie_key=bytes(32)),
    )
    after = x.COOKIE.extension.cache_info(), x.KEY_SHARES.extension.cache_info()  # type: ignore[attr-defined]
    assert [one.misses for one in after] == [before[0].misses + 1, before[1].misses]  # this test's own cookie


# ---- suites of one's own ---------------------------------------------------------------------------------------------


def own_suite(**changes: Any) -> dict[str, Any]:
    suite = dataclasses.replace(
        PYCA.suites[0],
        code=0xFEFE,
        name="TLS_AES_128_GCM_SHA512",
        hash_name="sha512",
        **{"hash_length": 64, "new_hash": hashlib.sha512} | changes,
    )
    return {"provider": dataclasses.replace(PYCA, suites=(suite,)), "suites": (0xFEFE,)}


def test_suite_over_sha512_makes_a_handshake() -> None:
    own = own_suite()
    run_pair(client_config(**own), server_config(**own))


@pytest.mark.parametrize("changes", [{"hash_length": 20, "new_hash": hashlib.sha1}, {"key_length": 20}])
def test_suite_that_the_schedule_has_no_room_for_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="are possible"):
        ServerConfig(credentials=(credential(),), **own_suite(**changes))
