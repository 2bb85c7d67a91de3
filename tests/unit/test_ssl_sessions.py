"""Sessions through the ssl-shaped context: resumed when they are given, and only for what they were made for."""

from __future__ import annotations

import copy
import pickle
import socket
import ssl
import threading
from typing import Any

import pytest

import pellucid
from pellucid.config import ClientConfig, Credential, ServerConfig
from pellucid.integrations.ssl_context import SSLContext
from pellucid.integrations.ssl_errors import ConfigurationError
from pellucid.testing.ca import CA
from tests.support.bios import Wire

AUTHORITY = CA("sessions root")
LEAF = AUTHORITY.issue("localhost", "other.test")
CREDENTIAL = Credential.from_pem(LEAF.chain_pem, LEAF.key_pem)


def client() -> SSLContext:
    return pellucid.create_default_context(cadata=AUTHORITY.root_pem.decode())


def server() -> SSLContext:
    return SSLContext(ServerConfig(credentials=(CREDENTIAL,)))


def test_session_given_is_resumed_and_not_without() -> None:
    one, other = client(), server()
    first = Wire(one, other).shake()
    session = first.client.session
    assert (first.client.session_reused, session.has_ticket) == (False, True)
    assert not Wire(one, other).shake().client.session_reused  # as with ssl: nothing is resumed unasked
    second = Wire(one, other, session=session)
    assert second.client.session == session  # what it was given, until there is another
    second.shake()
    assert second.client.session_reused and second.server.session_reused
    assert second.client.session != session
    assert second.client.getpeercert() == first.client.getpeercert()


def test_session_of_a_configuration_with_a_store_is_resumed_unasked() -> None:
    one, other = SSLContext(ClientConfig(trust=AUTHORITY.trust)), server()
    assert [Wire(one, other).shake().client.session_reused for _ in range(2)] == [False, True]


def test_session_is_offered_for_its_own_name_alone() -> None:
    one, other = client(), server()
    session = Wire(one, other).shake().client.session
    elsewhere = Wire(one, other, "other.test", session=session).shake()
    assert not elsewhere.client.session_reused
    assert Wire(one, other, session=session).shake().client.session_reused


def test_session_is_not_offered_once_verification_is_another() -> None:
    one = SSLContext(int(ssl.PROTOCOL_TLS_CLIENT), dangerous_allow_unverified=True)
    one.load_verify_locations(cadata=AUTHORITY.root_pem.decode())
    other = server()
    one.check_hostname = False
    weak = Wire(one, other).shake().client.session
    assert weak.has_ticket
    one.check_hostname = True
    assert not Wire(one, other, session=weak).shake().client.session_reused
    strong = Wire(one, other).shake().client.session
    one.load_verify_locations(cadata=CA("one more").root_pem.decode())
    assert not Wire(one, other, session=strong).shake().client.session_reused


def test_session_has_the_attributes_of_ssl_and_no_secret_to_show() -> None:
    wire = Wire(client(), server()).shake()
    session = wire.client.session
    assert set(dir(ssl.SSLSession)) <= set(dir(session))
    assert isinstance(session, ssl.SSLSession)
    assert isinstance(session.id, bytes) and len(session.id) == 32
    assert session.timeout > 1000 and session.ticket_lifetime_hint > 1000
    assert abs(session.time - wire.server.session.time) < 5
    assert not wire.server.session.has_ticket
    kept = session.kept
    assert kept is not None and kept[1].psk.hex() not in repr(session)
    for action in (copy.copy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot pickle 'SSLSession'"):
            action(session)
    with pytest.raises(TypeError, match="unhashable"):
        hash(session)
    assert session == wire.client.session and session != object()


def test_session_of_another_context_or_for_a_server_is_refused_as_by_ssl() -> None:
    one = client()
    session = Wire(one, server()).shake().client.session
    bios = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ValueError, match="different SSLContext"):
        client().wrap_bio(*bios, server_hostname="localhost", session=session)
    with pytest.raises(TypeError, match="not a SSLSession"):
        one.wrap_bio(*bios, server_hostname="localhost", session=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="client mode"):
        server().wrap_bio(*bios, server_side=True, session=session)
    wire = Wire(one, server()).shake()
    with pytest.raises(ValueError, match="after handshake"):
        wire.client.session = session
    unshaken = one.wrap_bio(*bios, server_hostname="localhost")
    unshaken.session = session
    assert unshaken.session is session
    with pytest.raises(ValueError, match="different SSLContext"):
        client().wrap_bio(*bios, server_hostname="localhost").session = session


def test_session_over_sockets_is_resumed() -> None:
    one, other = client(), server()
    sessions: list[Any] = [None]
    for reused in (False, True):
        near, far = socket.socketpair()

        def serve(plain: socket.socket = far) -> None:
            with other.wrap_socket(plain, server_side=True) as accepted:
                accepted.sendall(b"hello")
                accepted.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        with one.wrap_socket(near, server_hostname="localhost", session=sessions[-1]) as secure:
            assert secure.recv(5) == b"hello"
            assert secure.session_reused is reused
            sessions.append(secure.session)
        thread.join(10)
    assert sessions[1].has_ticket


# ---- tickets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["PROTOCOL_TLS_CLIENT", "PROTOCOL_TLS_SERVER"])
@pytest.mark.parametrize("value", [0, 1, 3, -1, "x"])
def test_num_tickets_is_set_where_ssl_lets_it(protocol: str, value: Any) -> None:
    found: list[object] = []
    for kind in (SSLContext, ssl.SSLContext):
        context = kind(getattr(ssl, protocol))
        try:
            context.num_tickets = value
        except (TypeError, ValueError) as error:
            found.append(TypeError if isinstance(error, TypeError) else ValueError)
        found.append(context.num_tickets)
    assert found[: len(found) // 2] == found[len(found) // 2 :]


def test_num_tickets_is_how_many_are_sent() -> None:
    other = server()
    counts = []
    for number in (0, 1, 5):
        other.num_tickets = number
        wire = Wire(client(), other).shake()
        counts.append((wire.client.session.has_ticket, other.config(server_side=True).tickets))  # type: ignore[union-attr]
    assert counts == [(False, 0), (True, 1), (True, 5)]
    with pytest.raises(ConfigurationError, match="16 are the most"):
        other.num_tickets = 17


def test_tickets_outlive_a_change_of_settings() -> None:
    one, other = client(), server()
    session = Wire(one, other).shake().client.session
    other.num_tickets = 1
    other.set_groups("x25519")
    assert Wire(one, other, session=session).shake().client.session_reused


def test_option_no_ticket_keeps_sessions_here_once_each() -> None:
    one = client()
    other = SSLContext(int(ssl.PROTOCOL_TLS_SERVER))
    other.options |= ssl.OP_NO_TICKET
    other._added = (CREDENTIAL,)
    session = Wire(one, other).shake().client.session
    assert other.session_stats()["number"] == 2
    assert Wire(one, other, session=session).shake().client.session_reused
    assert not Wire(one, other, session=session).shake().client.session_reused


def test_session_stats_count_what_happened() -> None:
    one, other = client(), server()
    names = set(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).session_stats())
    assert set(one.session_stats()) == names
    assert not any(other.session_stats().values())
    session = Wire(one, other).shake().client.session
    Wire(one, other, session=session).shake()
    with pytest.raises(ssl.SSLError):
        Wire(pellucid.create_default_context(cadata=CA("x").root_pem.decode()), other).shake()
    assert {name: count for name, count in other.session_stats().items() if count} == {
        "accept": 3,
        "accept_good": 2,
        "hits": 1,
    }
    assert {name: count for name, count in one.session_stats().items() if count} == {
        "connect": 2,
        "connect_good": 2,
        "hits": 1,
    }
    Wire(one, elsewhere := server(), session=session).shake()
    assert elsewhere.session_stats()["misses"] == 1
