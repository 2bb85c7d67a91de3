"""The quick ways through the hellos equal the plain ones: what is remembered, prepared or written at once."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.config import DEFAULT_SCHEMES, Credential, ServerConfig
from pellucid.connection import Connection
from pellucid.crypto.pyca import PYCA
from pellucid.errors import TLSError, UsageError
from pellucid.handshake.offer import first_offer
from pellucid.messages import extensions as x
from pellucid.messages.handshake import HEADER_LENGTH, ClientHello, Extension, handshake_message
from pellucid.registry import ExtensionType, SignatureScheme, is_grease
from pellucid.sessions.psk import ExternalPsk
from pellucid.trace import Role
from tests.properties.strategies import values
from tests.support.pair import NAME, Pair, client_config, credential, events_of, server_config
from tests.support.soak import examples


def outcome(call: Callable[[], Any]) -> object:
    """What is returned, or the error's kind and text."""
    try:
        found = call()
    except TLSError as error:
        return type(error), str(error)
    return (found.present, found._values) if isinstance(found, x.Extensions) else found


@st.composite
def extensions_of(draw: st.DrawFn, message: x.M) -> tuple[Extension, ...]:
    """Mostly well-formed and in place; some twice, some misplaced, unknown, cut or changed."""
    found = []
    for body in draw(st.lists(st.sampled_from([*x.TABLE[message].values(), *x.BODIES[:6]]), max_size=8)):
        try:
            data = body.codec.encode(draw(values(body.codec)))
        except TLSError:
            data = b""
        if draw(st.integers(0, 9)) == 0:
            data = draw(st.sampled_from([data[:-1], data + b"\0", b"", bytes(len(data))]))
        found.append(Extension(body.extension_type, data))
    if draw(st.booleans()):
        found.insert(draw(st.integers(0, len(found))), Extension(draw(st.sampled_from([0x0A0A, 0xFFFF, 43])), b""))
    return tuple(found)


@pytest.mark.parametrize("message", x.M, ids=lambda message: message.name)
@given(data=st.data())
@settings(max_examples=examples(25, soak=1_200), deadline=None)
def test_extensions_that_come_again_are_what_they_were(message: x.M, data: st.DataObject) -> None:
    extensions = data.draw(extensions_of(message))
    codes = frozenset(code for code, _ in extensions)
    requested = codes if data.draw(st.booleans()) else frozenset(list(codes)[:2])
    expected = outcome(lambda: x._decode(message, extensions, requested, {}))
    for _ in range(2):
        assert outcome(lambda: x.decode_extensions(message, extensions, requested=requested)) == expected


# ---- what a configuration keeps ----------------------------------------------------------------------------------


@given(
    seeds=st.lists(st.binary(min_size=128, max_size=128), min_size=1, max_size=4),
    options=st.fixed_dictionaries(
        {},
        optional={
            "grease": st.just(False),
            "permute_extensions": st.just(False),
            "middlebox_compatibility": st.just(False),
            "send_server_name": st.just(False),
            "alpn": st.just(("h2", "http/1.1")),
            "ticket_request": st.just((1, 2)),
            "post_handshake_auth": st.just(True),
            "record_size_limit": st.just(4096),
            "certificate_authorities": st.just((b"0\0",)),
            "sessions": st.just(None),
        },
    ),
    name=st.sampled_from([NAME, "192.0.2.7", "xn--nxasmq6b.example"]),
)
@settings(max_examples=examples(20, soak=800), deadline=None)
def test_hello_of_a_configuration_that_made_others_is_as_its_first(
    seeds: list[bytes], options: dict[str, Any], name: str
) -> None:
    kept = client_config(**options)
    for seed in seeds:
        provider = dataclasses.replace(PYCA, random=lambda count, seed=seed: seed[:count])
        object.__setattr__(kept, "provider", provider)
        fresh = dataclasses.replace(kept, provider=provider)
        again, first = first_offer(kept, name), first_offer(fresh, name)
        assert again.raw == handshake_message(again.hello)
        assert without_shares(again.hello) == without_shares(first.hello)
        assert (again.requested, again.reference_name) == (first.requested, first.reference_name)
        decoded = x.decode_extensions(x.M.CH, again.hello.extensions)
        assert again.requested == {code for code in decoded.present if not is_grease(code)}
        shares = decoded.get(x.KEY_SHARES) or ()
        sent = {code: share for code, share in shares if not is_grease(code)}
        assert sent == {code: exchange.public for code, exchange in again.exchanges.items()}


def without_shares(hello: ClientHello) -> object:
    sent = ExtensionType.KEY_SHARE
    extensions = tuple((code, b"" if code == sent else data) for code, data in hello.extensions)
    return dataclasses.replace(hello, extensions=extensions)


CREDENTIALS = (credential(), credential("rsa2048"), credential("ed25519", "other.test"), credential("p384", "*.test"))
SCHEMES = (*DEFAULT_SCHEMES[:5], SignatureScheme.RSA_PKCS1_SHA256)


@given(
    credentials=st.lists(st.sampled_from(CREDENTIALS), min_size=1, max_size=4, unique=True),
    strict=st.booleans(),
    clients=st.lists(
        st.tuples(
            st.sampled_from([NAME, "other.test", "third.test", "192.0.2.7"]),
            st.lists(st.sampled_from(SCHEMES), min_size=1, unique=True).map(tuple),
            st.one_of(st.none(), st.just(SCHEMES[:1])),
            st.one_of(st.none(), st.just((b"0\\0",))),
        ),
        min_size=1,
        max_size=4,
    ),
)
@settings(max_examples=examples(30), deadline=None)
def test_credential_chosen_again_is_the_one_that_would_be_chosen_anew(
    credentials: list[Credential], strict: bool, clients: list[tuple[Any, ...]]
) -> None:
    kept = server_config(credentials=tuple(credentials), strict_server_name=strict)
    for name, schemes, in_certificates, authorities in (*clients, *clients):
        hello = first_offer(
            client_config(
                signature_schemes=schemes,
                signature_algorithms_cert=in_certificates,
                certificate_authorities=authorities,
            ),
            name,
        ).raw
        assert shown(kept, hello) == shown(dataclasses.replace(kept), hello)


def shown(config: ServerConfig, hello: bytes) -> object:
    """The credential and the scheme that *config* answers with, or the error."""
    server = Connection.server(config)
    server.receive_data(b"\x16\x03\x01" + len(hello).to_bytes(2, "big") + hello)
    phase: Any = server._handshake.phase
    if phase is None:
        return str(events_of(server)[1])
    return phase.answered.shown.credential.chain, phase.answered.shown.scheme


def test_credential_of_a_signer_that_is_not_ours_is_chosen_anew_each_time() -> None:
    """Its schemes may be others by then."""

    class Signer:
        schemes: tuple[int, ...] = (SignatureScheme.ECDSA_SECP256R1_SHA256,)

        def sign(self, scheme: int, data: bytes) -> bytes:
            return credential().signer.sign(scheme, data)  # type: ignore[return-value]  # ours gives bytes

    signer = Signer()
    config = server_config(credentials=(dataclasses.replace(credential(), signer=signer), credential("rsa2048")))
    hello = first_offer(client_config(), NAME).raw
    before = shown(config, hello)
    signer.schemes = ()
    after = shown(config, hello)
    assert before != after


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=3),
    options=st.sampled_from([{}, {"grease": False, "middlebox_compatibility": False}, {"alpn": ("h2",)}]),
)
@settings(max_examples=examples(30), deadline=None)
def test_hello_with_psks_appended_is_what_it_encodes_to(lengths: list[int], options: dict[str, Any]) -> None:
    psks = tuple(
        ExternalPsk.plain(bytes((i,)) * length, bytes(32), role=Role.CLIENT) for i, length in enumerate(lengths)
    )
    offer = first_offer(client_config(external_psks=psks, **options), NAME)
    assert len(offer.psks) == len(lengths)
    assert offer.raw == handshake_message(offer.hello)
    assert ClientHello.decode(offer.raw[HEADER_LENGTH:]) == offer.hello


def test_hello_that_is_too_long_is_refused_as_its_encoding_is() -> None:
    names = tuple(bytes((0x30, i)) + bytes(1900) for i in range(10))
    psks = tuple(ExternalPsk.plain(bytes((i,)) * 60_000, bytes(32), role=Role.CLIENT) for i in range(2))
    for config in (
        client_config(certificate_authorities=names, external_psks=psks[:1]),
        client_config(external_psks=psks),
    ):
        with pytest.raises(UsageError, match="a vector of"):
            first_offer(config, NAME)


def test_configuration_that_nobody_uses_any_more_is_gone_at_once() -> None:
    """What it has kept for its handshakes does not keep it: keys are forgotten with the last who needs them."""
    client, server = client_config(alpn=("h2",)), server_config(alpn=("h2",), credentials=CREDENTIALS)
    Pair.of(client, server).connect()
    assert client.memo and server.memo
    gc.collect()
    gc.disable()
    try:
        kept = [Kept(), Kept()]
        gone = [weakref.ref(one) for one in kept]
        client.memo["kept"], server.memo["kept"] = kept
        del kept, client, server
        assert [one() for one in gone] == [None, None]
    finally:
        gc.enable()


class Kept:
    """What goes with the configuration that keeps it."""
