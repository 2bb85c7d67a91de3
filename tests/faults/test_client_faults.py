"""Each fault of a client is what it says: our server, set up as the fault asks, refuses it for that very reason."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

import pellucid
from pellucid.registry import alert_name
from pellucid.testing.faults import FAULTS, FaultyClient, Heard
from pellucid.trace import Role
from tests.faults.test_server_faults import CLIENTS, SECONDS, kind_of, patience
from tests.illegal.evil import authority, credential

SAYS = {
    "client-plain-http": "'G': the peer does not speak TLS",
    "client-garbage": "a record of type 0x80",
    "client-closed-at-once": "during the handshake, in state START",
    "client-truncated-hello": "during the handshake, in state START",
    "client-truncated-data": "ended without close_notify",
    "client-reset-data": "reset",
    "client-silent": "the handshake took longer",
    "client-silent-in-hello": "the handshake took longer",
    "client-silent-before-certificate": "the handshake took longer",
    "client-silent-before-verify": "the handshake took longer",
    "client-silent-before-finished": "the handshake took longer",
    "client-silent-after-handshake": "the call took longer",
    "client-slow": "the handshake took longer",
    "client-tls12-only": "the client offers TLS 1.2 at most",
    "client-no-common-group": "no group in common: the client offers 0x0123",
    "client-no-common-suite": "no cipher suite in common: the client offers 0xc02f",
    "client-no-common-scheme": "no signature scheme in common: the peer accepts 0x0202",
    "client-no-alpn": "no application protocol in common: the client offers 'spdy/3'",
    "client-unknown-name": "no credential is for 'nobody.test'",
    "client-missing-extension": "ClientHello has no signature_algorithms",
    "client-duplicate-extension": "two supported_groups extensions",
    "client-misplaced-extension": "oid_filters has no place in ClientHello",
    "client-compressing": "legacy_compression_methods",
    "client-short-share": "31 bytes long, not 32",
    "client-zero-share": "a point of small order",
    "client-changed-second-hello": "the second ClientHello differs where it must not",
    "client-message-too-large": "ClientHello of 16777215 bytes",
    "client-wrong-psk": "binder",
    "client-certificate-missing": "the client sent no certificate",
    "client-certificate-unknown-ca": "'Nobody's root', which issued the leaf 'client.test', is not among",
    "client-certificate-expired": "the leaf 'client.test' expired",
    "client-certificate-wrong-purpose": "the leaf 'client.test' is for serverAuth",
    "client-certificate-verify-other-key": "over the handshake is wrong",
    "client-missing-certificate-verify": "Finished came in state WAIT_CV",
    "client-wrong-finished": "the client's Finished is wrong",
    "client-key-change": "runs across a key change",
    "client-flipped-tag": "record 0 under the present key does not open",
    "client-oversized-record": "a record of 16641 bytes",
    "client-key-update-flood": "more than 32 KeyUpdates",
    "client-empty-record-flood": "more than 32 empty records",
    "client-change-cipher-spec-flood": "more than 2 change_cipher_spec",
    "client-renegotiation": "ClientHello came in state CONNECTED",
    "client-unexpected-message": "Finished came in state CONNECTED",
}
"""name → what our server says of it"""


@functools.cache
def server() -> pellucid.ServerConfig:
    return pellucid.ServerConfig(credentials=(credential("p256", "localhost"),))


def victim_of(client: FaultyClient) -> pellucid.ServerConfig:
    changes = dict(client.fault.needs.config)
    if "client_authentication" in changes:
        changes["client_trust"] = pellucid.TrustStore.from_pem(client.ca_pem)
    return dataclasses.replace(server(), **changes)


def talk(sock: socket.socket, config: pellucid.ServerConfig, seconds: float) -> None:
    """Answer one request as an ordinary server does."""
    stream = pellucid.wrap(sock, config, handshake_timeout=seconds)
    try:
        stream.settimeout(seconds)
        received = b""
        while b"\r\n\r\n" not in received:
            received += stream.recv()
        stream.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        stream.recv()
    finally:
        stream.abort()


def meet(name: str, **options: Any) -> tuple[Exception, Heard]:
    with FaultyClient(name, **options) as client, socket.create_server(("127.0.0.1", 0)) as listener:
        heard = client.start("127.0.0.1", listener.getsockname()[1])
        sock, _ = listener.accept()
        with pytest.raises(OSError) as caught:
            talk(sock, victim_of(client), patience(client.fault))
        return caught.value, heard.result(10)


@pytest.mark.parametrize("name", CLIENTS)
def test_client_fault_is_refused_for_what_it_is(name: str) -> None:
    began = time.monotonic()
    error, heard = meet(name, pace=SECONDS)
    fault = FAULTS[name]
    assert SAYS[name] in str(error)
    if fault.alert is None:
        assert isinstance(error, kind_of(fault))
    else:
        assert isinstance(error, pellucid.PeerError)
        assert alert_name(error.alert) == alert_name(fault.alert)
        if fault.recipe.link is None:
            assert heard.alert == fault.alert
    assert time.monotonic() - began < 10


def test_every_fault_of_a_client_is_tried() -> None:
    assert set(SAYS) == set(CLIENTS)


@pytest.mark.parametrize("wait", [lambda future: None, lambda future: future.cancel()], ids=["left", "cancelled"])
def test_client_that_nobody_answers_ends_when_it_is_closed(wait: Callable[[Any], object]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with FaultyClient("client-silent") as client:
            future = client.start("127.0.0.1", listener.getsockname()[1])
            sock, _ = listener.accept()
            wait(future)
            began = time.monotonic()
        assert time.monotonic() - began < 2
        with contextlib.closing(sock):
            assert sock.recv(1) == b""


def test_client_that_cannot_connect_says_so() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with FaultyClient("client-silent") as client:
            with pytest.raises(ConnectionRefusedError):
                client.run("127.0.0.1", port)
            assert isinstance(client.start("127.0.0.1", port).exception(5), ConnectionRefusedError)


def test_fault_of_the_other_side_is_refused() -> None:
    with pytest.raises(pellucid.UsageError, match="no fault 'expired' of a client"):
        FaultyClient("expired")
    assert {fault.side for fault in CLIENTS.values()} == {Role.CLIENT}
    assert authority().root_pem
