"""Configurations refuse what cannot be, say why, and are values."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import pydoc
import re
import ssl

import pytest

import pellucid.aio
import pellucid.asyncio
from pellucid import PYCA, ClientAuthentication, ClientConfig, Connection, ServerConfig, UsageError, pad_to_multiple
from pellucid.config import DEFAULT_GROUPS, DEFAULT_KEY_SHARES, DEFAULT_SCHEMES, DEFAULT_SUITES
from pellucid.messages import extensions as x
from pellucid.messages.handshake import HEADER_LENGTH, ClientHello
from pellucid.registry import CipherSuite as CS
from pellucid.registry import ExtensionType as E
from pellucid.registry import NamedGroup as G
from pellucid.registry import is_grease
from tests.support.pair import NAME, authority, client_config, credential, server_config

CREDENTIALS = (credential(),)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"suites": ()}, "empty"),
        ({"suites": (CS.TLS_AES_128_GCM_SHA256,) * 2}, "twice"),
        ({"suites": (0xC02F,)}, "no cipher suite 0xc02f"),
        ({"groups": ()}, "empty"),
        ({"groups": (0x0100,)}, "no group ffdhe2048"),
        ({"signature_schemes": (0x0201,)}, "no signature scheme rsa_pkcs1_sha1"),
        ({"alpn": ("",)}, "1 to 255"),
        ({"alpn": ("x" * 256,)}, "1 to 255"),
    ],
)
def test_both_ends_refuse_what_cannot_be(changes: dict[str, object], words: str) -> None:
    for make in (client_config, server_config):
        changed = changes if make is server_config else {"key_shares": None, **changes}
        with pytest.raises(UsageError, match=words):
            make(**changed)


@pytest.mark.parametrize("shares", [(G.X448,), (G.X25519, G.X25519)])
def test_client_shares_keys_of_its_groups_only(shares: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="key_shares"):
        client_config(key_shares=shares)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"credentials": ()}, "credential"),
        ({"client_authentication": ClientAuthentication.REQUIRED}, "client_trust"),
        ({"client_authentication": ClientAuthentication.OPTIONAL}, "client_trust"),
        ({"cookie_key": b"short"}, "32 bytes"),
        ({"always_retry": True}, "cookie_key"),
    ],
)
def test_server_refuses_what_cannot_be(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        server_config(**changes)


def test_client_without_trust_makes_no_connection() -> None:
    with pytest.raises(UsageError, match="nobody could be verified"):
        Connection.client(ClientConfig(), NAME)


def test_there_is_no_flag_that_turns_verification_off() -> None:
    for config in (ClientConfig, ServerConfig):
        names = " ".join(field.name for field in dataclasses.fields(config))
        assert not any(word in names for word in ("insecure", "no_verify", "skip", "check_hostname", "verify_mode"))
    assert client_config(verifier=None).peer_verifier is not None


@pytest.mark.rfc("9846 §4.3.8", "KeyShareEntry values are in the order of supported_groups")
def test_shares_are_sent_in_the_order_of_groups() -> None:
    config = client_config(groups=(G.SECP256R1, G.X448, G.X25519), key_shares=(G.X25519, G.SECP256R1))
    assert config.initial_shares == (G.SECP256R1, G.X25519)
    hello = ClientHello.decode(Connection.client(config, NAME).data_to_send()[5 + HEADER_LENGTH :])
    decoded = x.decode_extensions(x.M.CH, hello.extensions)
    shares = [share.group for share in decoded.get(x.KEY_SHARES) or () if not is_grease(share.group)]
    groups = [group for group in decoded.get(x.SUPPORTED_GROUPS) or () if not is_grease(group)]
    assert (shares, groups) == ([G.SECP256R1, G.X25519], [G.SECP256R1, G.X448, G.X25519])


def test_defaults_are_what_the_provider_holds() -> None:
    config = ClientConfig()
    assert config.groups == DEFAULT_GROUPS == tuple(group.code for group in PYCA.groups)
    assert config.signature_schemes == DEFAULT_SCHEMES == tuple(verifier.code for verifier in PYCA.verifiers)
    assert set(config.suites) == set(DEFAULT_SUITES) <= {suite.code for suite in PYCA.suites}
    assert config.initial_shares == DEFAULT_KEY_SHARES == (G.X25519MLKEM768, G.X25519)
    assert ClientConfig(groups=(G.SECP384R1, G.X448)).initial_shares == (G.SECP384R1,)
    assert ClientConfig(groups=(G.SECP384R1, G.X25519)).initial_shares == (G.X25519,)


@pytest.mark.rfc("9846 §9.1", "TLS_AES_128_GCM_SHA256, secp256r1 and the mandatory signature schemes are implemented")
def test_what_is_mandatory_is_there_by_default() -> None:
    config = ClientConfig()
    assert CS.TLS_AES_128_GCM_SHA256 in config.suites
    assert G.SECP256R1 in config.groups
    assert {0x0401, 0x0804, 0x0403} <= set(config.signature_schemes)  # rsa_pkcs1_sha256, rsa_pss_rsae_sha256, ecdsa


@pytest.mark.rfc("9846 §9.2", "a ClientHello has supported_versions, signature_algorithms, supported_groups, key_share")
def test_client_hello_has_what_is_mandatory() -> None:
    hello = ClientHello.decode(Connection.client(client_config(), NAME).data_to_send()[5 + HEADER_LENGTH :])
    types = {extension.extension_type for extension in hello.extensions}
    assert {E.SUPPORTED_VERSIONS, E.SIGNATURE_ALGORITHMS, E.SUPPORTED_GROUPS, E.KEY_SHARE, E.SERVER_NAME} <= types
    assert hello.legacy_version == 0x0303
    assert hello.legacy_compression_methods == b"\0"
    assert len(hello.legacy_session_id) == 32


@pytest.mark.parametrize("multiple", [1, 2, 100, 1000, 2**14])
@pytest.mark.rfc("9846 §5.4", "padding never makes a record longer than the limit")
def test_padding_to_a_multiple(multiple: int) -> None:
    policy = pad_to_multiple(multiple)
    for length in (0, 1, multiple - 1, multiple, multiple + 1, 2**14 - 1, 2**14):
        if length <= 2**14:
            padding = policy(23, length)
            assert 0 <= padding < multiple or padding == 0
            assert (length + padding) % multiple == 0 or length + padding == 2**14


@pytest.mark.parametrize("multiple", [0, -1, 2**14 + 1])
def test_padding_to_what_is_no_multiple_is_refused(multiple: int) -> None:
    with pytest.raises(UsageError):
        pad_to_multiple(multiple)


def test_configurations_are_values_and_show_no_secret() -> None:
    key = bytes(range(32))
    server = ServerConfig(credentials=CREDENTIALS, cookie_key=key)
    assert "cookie_key" not in repr(server)
    with pytest.raises(dataclasses.FrozenInstanceError):
        server.cookie_key = None  # type: ignore[misc]
    assert dataclasses.replace(server, alpn=("h2",)).alpn_names == (b"h2",)
    one, two = (ClientConfig(trust=authority().trust, alpn=(name,)) for name in ("h2", "http/1.1"))
    assert one != two


def test_configuration_of_the_wrong_kind_is_refused_by_name() -> None:
    server = server_config()
    for config in (server, ssl.create_default_context()):
        words = f"a client takes a ClientConfig, not {type(config).__name__}"
        with pytest.raises(UsageError, match=words):
            Connection.client(config, NAME)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=words):
            pellucid.connect("192.0.2.1", 443, config)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=words):
            asyncio.run(pellucid.aio.connect("192.0.2.1", 443, config))  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=words):
            asyncio.run(pellucid.asyncio.open_connection("192.0.2.1", 443, config))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a server takes a ServerConfig, not ClientConfig"):
        Connection.server(client_config())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"a tuple, of one too: credentials=\(credential,\)"):
        ServerConfig(credentials=CREDENTIALS[0])  # type: ignore[arg-type]


@pytest.mark.parametrize("end", [ClientConfig, ServerConfig])
def test_help_of_a_configuration_tells_of_every_setting_in_readable_length(end: type) -> None:
    text = pydoc.plain(pydoc.render_doc(end))
    signature = text[text.index("(*") : text.index("-> None")]
    assert len(signature) < 5_000, len(signature)
    told = inspect.getdoc(end) or ""
    names = [one.name for one in dataclasses.fields(end) if one.init]
    untold = [name for name in names if not re.search(rf"\b{name}\b", told)]
    assert untold == [], untold
