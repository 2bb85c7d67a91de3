"""Faults in what a server negotiates: ServerHello, HelloRetryRequest, EncryptedExtensions (RFC 9846 §4.2 to §4.4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

from pellucid.messages import extensions as x
from pellucid.messages.handshake import DOWNGRADE_TLS_1_2, Extension, ServerHello
from pellucid.registry import AlertDescription as A
from pellucid.registry import CipherSuite as CS
from pellucid.registry import ContentType
from pellucid.registry import ExtensionType as E
from pellucid.registry import HandshakeType as H
from pellucid.registry import NamedGroup as G
from pellucid.registry import SignatureScheme as S
from pellucid.sessions.psk import ExternalPsk
from pellucid.testing.bent import Edit, changing_body, changing_extensions
from pellucid.testing.faults.conversation import Link
from pellucid.testing.faults.fault import Fault, Kind, Needs, Recipe
from pellucid.testing.faults.fault import protocol_fault as _fault
from pellucid.testing.faults.mint import Mint, Shown, good
from pellucid.trace import Role

__all__ = ["HELLOS", "alerting", "dropping", "psk", "putting"]

_TLS_1_2_SUITE: Final = 0xC02F  # TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
_NOBODYS_GROUP: Final = G.MLKEM768  # alone: nobody offers it
_NOBODYS_EXTENSION: Final = Extension(0x1234, b"unasked")
_GENERATOR: Final = bytes.fromhex(
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)
"""of P-256: a share that is right in itself"""

_RETRYING: Final = {"groups": (G.SECP256R1,)}
_PLAIN_SHARE: Final = {"groups": (G.X25519,)}

Change = Callable[[list[Extension]], list[Extension]]


def putting(*new: Extension) -> Change:
    """Put *new* in the place of extensions of their types, or after all others."""
    types = {extension.extension_type for extension in new}
    return lambda present: [*(e for e in present if e.extension_type not in types), *new]


def dropping(*types: int) -> Change:
    """Leave out the extensions of *types*."""
    return lambda present: [e for e in present if e.extension_type not in types]


def alerting(description: int) -> Callable[[Link], None]:
    """Answer whatever comes first with a fatal alert, in the open."""

    def talk(link: Link) -> None:
        link.receive()
        link.send(bytes((ContentType.ALERT, 3, 3, 0, 2, 2, description)))
        link.finish()

    return talk


# ---- versions --------------------------------------------------------------------------------------------------------


def _older(random: bytes | None = None) -> Edit:
    def change(hello: ServerHello) -> ServerHello:
        return dataclasses.replace(
            hello, random=random or hello.random, cipher_suite=_TLS_1_2_SUITE, extensions=(Extension(0xFF01, b"\0"),)
        )

    return changing_body(H.SERVER_HELLO, change)


def _downgraded(_: Shown) -> Edit:
    return _older(b"\x5a" * 24 + DOWNGRADE_TLS_1_2)


def _server_hello(**fields: Any) -> Callable[[Shown], Edit]:  # Any: ServerHello's fields
    return lambda _: changing_body(H.SERVER_HELLO, lambda hello: dataclasses.replace(hello, **fields))


def _server_extensions(change: Change) -> Callable[[Shown], Edit]:
    return lambda _: changing_extensions(H.SERVER_HELLO, change)


def _encrypted_extensions(change: Change) -> Callable[[Shown], Edit]:
    return lambda _: changing_extensions(H.ENCRYPTED_EXTENSIONS, change)


# ---- shares ----------------------------------------------------------------------------------------------------------


def _share(group: int, share: bytes) -> Callable[[Shown], Edit]:
    return _server_extensions(putting(x.KEY_SHARE.extension(x.KeyShareEntry(group, share))))


def _changed_share(change: Callable[[bytes], bytes]) -> Callable[[Shown], Edit]:
    def changed(present: list[Extension]) -> list[Extension]:
        (own,) = (e for e in present if e.extension_type == E.KEY_SHARE)
        entry = x.KEY_SHARE.codec.decode_all(own.extension_data, "key_share")
        return putting(x.KEY_SHARE.extension(x.KeyShareEntry(entry.group, change(entry.key_exchange))))(present)

    return _server_extensions(changed)


# ---- retries ---------------------------------------------------------------------------------------------------------


def _retry(change: Change) -> Callable[[Shown], Edit]:
    return lambda _: changing_extensions(H.HELLO_RETRY_REQUEST, change)


def _retry_again(_: Shown) -> Edit:
    retry = b""

    def edit(kind: int, raw: bytes) -> bytes:
        nonlocal retry
        if kind == H.HELLO_RETRY_REQUEST:
            retry = raw
        return retry if kind == H.SERVER_HELLO else raw

    return edit


# ---- the table -------------------------------------------------------------------------------------------------------


def _other_name(mint: Mint) -> Shown:
    return good(Mint(mint.ca, "another.test"))


def _trailing(_: Shown) -> Edit:
    def edit(kind: int, raw: bytes) -> bytes:
        if kind != H.ENCRYPTED_EXTENSIONS:
            return raw
        body = raw[4:] + b"\0"
        return raw[:1] + len(body).to_bytes(3, "big") + body

    return edit


_X448 = Needs(text="to offer x448 alone", config={"groups": (G.X448,)}, options=("--groups", "x448"))
_CHACHA = Needs(
    text="to offer ChaCha20 alone",
    config={"suites": (CS.TLS_CHACHA20_POLY1305_SHA256,)},
    options=("--suites", "TLS_CHACHA20_POLY1305_SHA256"),
)
_ED25519 = Needs(
    text="to accept Ed25519 alone", config={"signature_schemes": (S.ED25519,)}, options=("--sigalgs", "ed25519")
)
_PSK_NAME: Final = b"Client_identity"
_PSK: Final = bytes(range(32))
_OTHER_PSK: Final = bytes(range(32, 64))


def psk(role: Role, *, right: bool = True) -> tuple[ExternalPsk, ...]:
    """Return the external PSKs of an end: the one that the other has too, or another under its name."""
    return (ExternalPsk.plain(_PSK_NAME, _PSK if right else _OTHER_PSK, role=role),)


_KEY = Needs(
    text="to offer a pre-shared key", config={"external_psks": psk(Role.CLIENT)}, options=("--psk", _PSK.hex())
)
_ALPN = Needs(text="to offer application protocols (ALPN)")

IP: Final = A.ILLEGAL_PARAMETER

HELLOS: Final = (
    _fault("protocol-version", "answers the ClientHello with the alert protocol_version, as TLS 1.2 servers do",
           "TLS-VERSION", None, "9846 §4.2.1", link=alerting(A.PROTOCOL_VERSION)),
    _fault("tls12-only", "answers with a ServerHello of TLS 1.2",
           "TLS-VERSION", A.PROTOCOL_VERSION, "9846 §4.3.1", lambda _: _older()),
    _fault("downgrade", "answers with TLS 1.2, and the mark of a TLS 1.3 server that was made to (downgrade sentinel)",
           "TLS-DOWNGRADE", IP, "9846 §4.2.3", _downgraded),
    _fault("missing-supported-versions", "the ServerHello lacks supported_versions, and so says TLS 1.2",
           "TLS-VERSION", A.PROTOCOL_VERSION, "9846 §4.3.1", _server_extensions(dropping(E.SUPPORTED_VERSIONS))),
    _fault("missing-key-share", "the ServerHello lacks a key share",
           "TLS-MISSING-EXTENSION", A.MISSING_EXTENSION, "9846 §4.2.3", _server_extensions(dropping(E.KEY_SHARE))),
    _fault("session-id-not-echoed", "the ServerHello has another session id than the ClientHello",
           "TLS-ILLEGAL-PARAMETER", IP, "9846 §4.2.3", _server_hello(legacy_session_id_echo=b"another")),
    _fault("compressing", "the ServerHello chooses a compression method",
           "TLS-ILLEGAL-PARAMETER", IP, "9846 §4.2.3", _server_hello(legacy_compression_method=1)),
    _fault("unoffered-suite", "chooses TLS_AES_128_CCM_8_SHA256, which was not offered",
           "TLS-SUITE-NOT-OFFERED", IP, "9846 §4.2.3", _server_hello(cipher_suite=CS.TLS_AES_128_CCM_8_SHA256)),
    _fault("share-of-another-group", "its share is of secp256r1, a group that was offered without a share",
           "TLS-WRONG-GROUP", IP, "9846 §4.3.8", _share(G.SECP256R1, _GENERATOR)),
    _fault("unoffered-group", "its share is of a group that was not offered",
           "TLS-WRONG-GROUP", IP, "9846 §4.3.8", _share(_NOBODYS_GROUP, bytes(1088))),
    _fault("short-share", "its x25519 share is a byte short",
           "TLS-BAD-KEY-SHARE", IP, "9846 §4.3.8.2", _changed_share(lambda share: share[:-1]), config=_PLAIN_SHARE),
    _fault("zero-share", "its x25519 share is zero, which makes a secret that everybody knows",
           "TLS-BAD-KEY-SHARE", IP, "9846 §7.4.2", _changed_share(lambda share: bytes(32)), config=_PLAIN_SHARE),
    _fault("off-curve-share", "its secp256r1 share is no point of the curve",
           "TLS-BAD-KEY-SHARE", IP, "9846 §4.3.8.2",
           _changed_share(lambda share: share[:-1] + bytes((share[-1] ^ 1,))), config=_RETRYING),
    _fault("garbled-share", "its ML-KEM ciphertext is wrong: the two ends do not get the same secret",
           "TLS-BAD-RECORD-MAC", A.BAD_RECORD_MAC, "9846 §5.2",
           _changed_share(lambda share: bytes((share[0] ^ 1,)) + share[1:]), config={"groups": (G.X25519MLKEM768,)}),
    _fault("second-retry", "sends HelloRetryRequest twice",
           "TLS-SECOND-RETRY", A.UNEXPECTED_MESSAGE, "9846 §4.2.4", _retry_again, config=_RETRYING),
    _fault("pointless-retry", "asks for an x25519 share, which the ClientHello had",
           "TLS-POINTLESS-RETRY", IP, "9846 §4.3.8", _retry(putting(x.SELECTED_GROUP.extension(G.X25519))),
           config=_RETRYING),
    _fault("retry-without-change", "its HelloRetryRequest asks for nothing",
           "TLS-POINTLESS-RETRY", IP, "9846 §4.2.4", _retry(dropping(E.KEY_SHARE)), config=_RETRYING),
    _fault("retry-unoffered-group", "its HelloRetryRequest asks for a group that was not offered",
           "TLS-WRONG-GROUP", IP, "9846 §4.3.8", _retry(putting(x.SELECTED_GROUP.extension(_NOBODYS_GROUP))),
           config=_RETRYING),
    _fault("retry-another-suite", "its ServerHello has another suite than its HelloRetryRequest had",
           "TLS-SUITE-NOT-OFFERED", IP, "9846 §4.2.4",
           _server_hello(cipher_suite=CS.TLS_CHACHA20_POLY1305_SHA256), config=_RETRYING),
    _fault("duplicate-extension", "EncryptedExtensions has server_name twice",
           "TLS-DUPLICATE-EXTENSION", A.DECODE_ERROR, "9846 §4.3",
           _encrypted_extensions(lambda present: [x.SERVER_NAME_ACK.extension(True)] * 2)),
    _fault("unsolicited-extension", "EncryptedExtensions has an extension that nobody asked for",
           "TLS-UNSOLICITED-EXTENSION", A.UNSUPPORTED_EXTENSION, "9846 §4.3",
           _encrypted_extensions(putting(_NOBODYS_EXTENSION))),
    _fault("misplaced-extension", "supported_versions stands in EncryptedExtensions",
           "TLS-MISPLACED-EXTENSION", IP, "9846 §4.3",
           _encrypted_extensions(putting(x.SELECTED_VERSION.extension(0x0304)))),
    _fault("trailing-data", "a byte follows the end of EncryptedExtensions",
           "TLS-DECODE", A.DECODE_ERROR, "9846 §4", _trailing),
    _fault("unoffered-alpn", "chooses the application protocol spdy/3, which was not offered",
           "TLS-ALPN-NOT-OFFERED", IP, "7301 §3.2",
           _encrypted_extensions(putting(x.ALPN_SELECTED.extension(b"spdy/3"))), needs=_ALPN),
    _fault("no-alpn", "speaks IMAP only, and refuses all other application protocols",
           "TLS-NO-ALPN", None, "7301 §3.2", config={"alpn": ("imap",)}, needs=_ALPN),
    _fault("no-common-group", "has the usual groups, for a client that offers x448 alone",
           "TLS-NO-COMMON-GROUP", None, "9846 §4.2.1", config={"groups": (G.X25519, G.SECP256R1)}, needs=_X448),
    _fault("no-common-suite", "has AES alone, for a client that offers ChaCha20 alone",
           "TLS-NO-COMMON-SUITE", None, "9846 §4.2.1",
           config={"suites": (CS.TLS_AES_128_GCM_SHA256, CS.TLS_AES_256_GCM_SHA384)}, needs=_CHACHA),
    _fault("no-common-scheme", "has an ECDSA certificate, for a client that accepts Ed25519 alone",
           "TLS-NO-COMMON-SCHEME", None, "9846 §4.5.1.2", needs=_ED25519),
    _fault("wrong-psk", "has another pre-shared key under the name that the client offers",
           "TLS-ALERT-DECRYPT-ERROR", None, "9846 §4.3.11",
           config={"external_psks": psk(Role.SERVER, right=False)}, needs=_KEY),
    _fault("unoffered-psk", "selects the eighth pre-shared key of one that was offered",
           "TLS-BAD-PSK", IP, "9846 §4.3.11", _server_extensions(putting(x.SELECTED_IDENTITY.extension(7))),
           needs=_KEY),
    Fault(name="unrecognized-name", summary="is for another.test only, and refuses who asks for somebody else",
          kind=Kind.PROTOCOL, code="TLS-UNKNOWN-NAME", rfc="6066 §3",
          recipe=Recipe(shown=_other_name, config={"strict_server_name": True})),
    _fault("handshake-failure", "refuses every ClientHello with the alert handshake_failure",
           "TLS-ALERT-HANDSHAKE-FAILURE", None, "9846 §6.2", link=alerting(A.HANDSHAKE_FAILURE)),
    _fault("internal-error", "answers the ClientHello with the alert internal_error",
           "TLS-ALERT-INTERNAL-ERROR", None, "9846 §6.2", link=alerting(A.INTERNAL_ERROR)),
    _fault("access-denied", "answers the ClientHello with the alert access_denied",
           "TLS-ALERT-ACCESS-DENIED", None, "9846 §6.2", link=alerting(A.ACCESS_DENIED)),
)  # fmt: skip
