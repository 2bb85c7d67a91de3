"""docs/reference/ssl-context.md: its table has every name, and says of each what is so; its examples run."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pellucid
from pellucid.config import ClientConfig, Credential, ServerConfig
from pellucid.integrations.ssl_context import SSLContext
from pellucid.integrations.ssl_errors import ConfigurationError
from pellucid.integrations.ssl_object import SSLObject
from pellucid.integrations.ssl_socket import SSLSocket
from pellucid.net.load import system_trust
from pellucid.registry import SignatureScheme
from pellucid.testing.ca import CA

PAGE = (Path(__file__).parents[2] / "docs/reference/ssl-context.md").read_text()
ROWS = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", PAGE, re.MULTILINE))

NEWER = {  # than Python 3.11, as the documentation of 3.12 to 3.15 has them
    "set_psk_client_callback": "3.13",
    "set_psk_server_callback": "3.13",
    "get_groups": "3.15",
    "set_ciphersuites": "3.15",
    "set_client_sigalgs": "3.15",
    "set_groups": "3.15",
    "set_server_sigalgs": "3.15",
}
NAMES = sorted({name for name in dir(ssl.SSLContext) if not name.startswith("_")} | set(NEWER))

AUTHORITY = CA("reference root")
AUTHORITY_DER = ssl.PEM_cert_to_DER_cert(AUTHORITY.root_pem.decode())
LEAF = AUTHORITY.issue("localhost")


def context() -> SSLContext:
    return SSLContext(int(ssl.PROTOCOL_TLS))


def test_table_has_every_name_once_and_no_other() -> None:
    assert sorted(ROWS) == NAMES
    assert len(re.findall(r"^\| `", PAGE, re.MULTILINE)) == len(ROWS)
    for name, version in NEWER.items():
        assert re.search(rf"^\| `{name}` \| works \| of Python {re.escape(version)}, on all", PAGE, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_name_is_ours_and_not_that_of_openssl(name: str) -> None:
    owner = next(kind for kind in SSLContext.__mro__ if name in vars(kind))
    assert owner.__module__.startswith("pellucid."), f"{name} falls through to OpenSSL's context"


@pytest.mark.parametrize("name", [name for name, how in ROWS.items() if how == "fixed"])
def test_fixed_name_has_its_value_and_takes_no_other(name: str) -> None:
    value = getattr(context(), name)
    if name != "security_level":  # which cannot be set in ssl either
        same = context()
        setattr(same, name, value)
        assert getattr(same, name) == value
    other: dict[str, Any] = {"hostname_checks_common_name": True, "security_level": 1}
    with pytest.raises((ConfigurationError, AttributeError)):
        setattr(context(), name, other.get(name, 99))
    said = re.search(rf"^\| `{name}` \| fixed \| (\w+)", PAGE, re.MULTILINE)
    assert said is not None and said[1] in str(getattr(value, "name", value))


@pytest.mark.parametrize("name", [name for name, how in ROWS.items() if how == "refused"])
def test_refused_name_raises_with_what_to_do(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"set_\w+"):
        getattr(context(), name)(["h2"])


Seen = tuple[object, object]
"""what is seen of a use, and what should be"""


def working(tmp_path: Path) -> dict[str, Callable[[SSLContext], Seen]]:
    """One use of each name that works, and what is seen of it afterwards."""
    (tmp_path / "pair.pem").write_bytes(LEAF.chain_pem + LEAF.key_pem)
    (tmp_path / "root.pem").write_bytes(AUTHORITY.root_pem)
    (tmp_path / "dh.pem").write_text("-----BEGIN DH PARAMETERS-----")
    schemes = (SignatureScheme.ED25519,)

    def kept(name: str, value: Any) -> Callable[[SSLContext], Seen]:
        def use(one: SSLContext) -> Seen:
            setattr(one, name, value)
            return getattr(one, name), value

        return use

    def called(name: str, *arguments: Any, sees: Callable[[SSLContext], object], then: object) -> Any:
        def use(one: SSLContext) -> Seen:
            assert sees(one) != then, f"what {name} does could not be seen"
            getattr(one, name)(*arguments)
            return sees(one), then

        return use

    def wrapped(one: SSLContext) -> Seen:
        with socket.socket() as plain, one.wrap_socket(plain, server_hostname="localhost") as secure:
            return isinstance(secure, ssl.SSLSocket), True

    def bio(one: SSLContext) -> Seen:
        found = one.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
        return (found.server_hostname, found.context), ("localhost", one)

    def dh(one: SSLContext) -> Seen:
        before = one.get_groups()
        one.load_dh_params(tmp_path / "dh.pem")
        return one.get_groups(), before  # a file that is there, and of no effect: TLS 1.3 has no such parameters

    def client(name: str) -> Callable[[SSLContext], object]:
        return lambda one: getattr(one.config(server_side=False), name)

    def roots(one: SSLContext) -> list[bytes]:
        return one.get_ca_certs(binary_form=True)

    system = len(system_trust())
    return {
        "cert_store_stats": lambda one: (one.cert_store_stats(), {"x509": 0, "crl": 0, "x509_ca": 0}),
        "check_hostname": kept("check_hostname", True),
        "get_ca_certs": called("load_verify_locations", tmp_path / "root.pem", sees=roots, then=[AUTHORITY_DER]),
        "get_ciphers": lambda one: (one.get_ciphers()[0]["name"], "TLS_AES_128_GCM_SHA256"),
        "get_groups": lambda one: (one.get_groups(include_aliases=True)[0], "X25519MLKEM768"),
        "keylog_filename": kept("keylog_filename", str(tmp_path / "keys")),
        "load_cert_chain": called(
            "load_cert_chain", tmp_path / "pair.pem", sees=lambda one: len(client("credentials")(one)), then=1
        ),
        "load_default_certs": called(
            "load_default_certs", ssl.Purpose.SERVER_AUTH, sees=lambda one: one.cert_store_stats()["x509"], then=system
        ),
        "load_dh_params": dh,
        "load_verify_locations": called(
            "load_verify_locations", tmp_path / "root.pem", sees=roots, then=[AUTHORITY_DER]
        ),
        "num_tickets": kept("num_tickets", 3),
        "options": kept("options", context().options | ssl.OP_NO_TICKET),
        "post_handshake_auth": kept("post_handshake_auth", True),
        "protocol": lambda one: (one.protocol, ssl.PROTOCOL_TLS),
        "session_stats": lambda one: (set(one.session_stats().values()), {0}),
        "set_alpn_protocols": called("set_alpn_protocols", ["h2"], sees=client("alpn"), then=("h2",)),
        "set_ciphers": lambda one: (one.set_ciphers("DEFAULT:!aNULL"), None),
        "set_ciphersuites": called(
            "set_ciphersuites",
            "TLS_AES_256_GCM_SHA384",
            sees=lambda one: [suite["name"] for suite in one.get_ciphers()],
            then=["TLS_AES_256_GCM_SHA384"],
        ),
        "set_client_sigalgs": lambda one: (one.set_client_sigalgs("ed25519"), None),
        "set_default_verify_paths": called(
            "set_default_verify_paths", sees=lambda one: one.cert_store_stats()["x509"], then=system
        ),
        "set_ecdh_curve": called("set_ecdh_curve", "prime256v1", sees=lambda one: one.get_groups(), then=["secp256r1"]),
        "set_groups": called(
            "set_groups", "X25519MLKEM768", sees=lambda one: one.get_groups(), then=["X25519MLKEM768"]
        ),
        "set_psk_client_callback": lambda one: (one.set_psk_client_callback(lambda _: (None, b"")), None),
        "set_psk_server_callback": lambda one: (one.set_psk_server_callback(lambda _: b"", "hint"), None),
        "set_server_sigalgs": called("set_server_sigalgs", "ed25519", sees=client("signature_schemes"), then=schemes),
        "set_servername_callback": called(
            "set_servername_callback", print, sees=lambda one: one.sni_callback, then=print
        ),
        "sni_callback": kept("sni_callback", print),
        "sslobject_class": lambda one: (one.sslobject_class, SSLObject),
        "sslsocket_class": lambda one: (one.sslsocket_class, SSLSocket),
        "verify_flags": kept("verify_flags", context().verify_flags | ssl.VERIFY_X509_STRICT),
        "verify_mode": kept("verify_mode", ssl.CERT_REQUIRED),
        "wrap_bio": bio,
        "wrap_socket": wrapped,
    }


@pytest.mark.parametrize("name", [name for name, how in ROWS.items() if how == "works"])
def test_working_name_works(name: str, tmp_path: Path) -> None:
    seen, expected = working(tmp_path)[name](context())
    assert seen == expected


def test_refused_values_are_those_that_the_table_names() -> None:
    for name, row in re.findall(r"^\| `(options|verify_flags)` .* Refused: ([^|]*) \|", PAGE, re.MULTILINE):
        raw = {"OP_IGNORE_UNEXPECTED_EOF": 0x80, "OP_PRIORITIZE_CHACHA": 0x200000, "OP_ALLOW_NO_DHE_KEX": 0x400}
        raw["VERIFY_ALLOW_PROXY_CERTS"] = 0x40
        constants = re.findall(r"`(\w+)`", row)
        assert constants
        for constant in constants:
            with pytest.raises(ConfigurationError):
                setattr(context(), name, raw.get(constant) or getattr(ssl, constant))


def block(number: int) -> str:
    return re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[number]


def test_contexts_of_the_page_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.root_pem)
    server = ServerConfig(credentials=(Credential.from_pem(LEAF.chain_pem, LEAF.key_pem),))
    code = block(0).replace("ClientConfig(...)", "ClientConfig()").replace("pellucid.ServerConfig(...)", "server")
    names: dict[str, Any] = {"ssl": ssl, "server": server}
    exec(code, names)
    assert names["context"].protocol is ssl.PROTOCOL_TLS_SERVER


def test_installation_of_the_page_is_undone() -> None:
    real = [ssl.SSLContext]
    exec(block(1), {})
    assert ssl.SSLContext is real[0]


def test_buffer_of_the_page_shakes_hands() -> None:
    near, far = socket.socketpair()
    server = SSLContext(ServerConfig(credentials=(Credential.from_pem(LEAF.chain_pem, LEAF.key_pem),)))
    told: list[object] = []

    def serve() -> None:
        with server.wrap_socket(far, server_side=True) as secure:
            told.append(secure.version())

    thread = threading.Thread(target=serve)
    thread.start()
    code = block(2).replace("pellucid.ClientConfig()", "config").replace("example.org", "localhost")
    with near:
        exec(code, {"sock": near, "config": ClientConfig(trust=AUTHORITY.trust), "pellucid": pellucid})
        thread.join(20)
    assert told == ["TLSv1.3"]
