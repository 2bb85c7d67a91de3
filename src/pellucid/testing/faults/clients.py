"""Faults of clients: what a server has to survive. The same seams are bent, from the other end."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping
from typing import Any, Final

from pellucid.config import ClientAuthentication
from pellucid.limits import MAX_CHANGE_CIPHER_SPECS, MAX_CIPHERTEXT, MAX_EMPTY_RECORDS, MAX_KEY_UPDATES
from pellucid.messages import extensions as x
from pellucid.messages.handshake import HEADER_LENGTH, ClientHello, Extension
from pellucid.registry import AlertDescription as A
from pellucid.registry import ContentType
from pellucid.registry import ExtensionType as E
from pellucid.registry import HandshakeType as H
from pellucid.registry import NamedGroup as G
from pellucid.testing.bent import (
    BentConnection,
    Edit,
    Rewrite,
    Step,
    before_message,
    changing_body,
    changing_extensions,
    message,
    replacing,
    without,
)
from pellucid.testing.ca import CA, DAY
from pellucid.testing.faults.conversation import Conversation, Link
from pellucid.testing.faults.fault import NOTHING, Fault, Kind, Needs, Recipe
from pellucid.testing.faults.hellos import Change, dropping, psk, putting
from pellucid.testing.faults.mint import Mint, Shown, good, shown
from pellucid.testing.faults.proofs import another_key
from pellucid.testing.faults.records import handshake_record, once_connected, oversized, sealed
from pellucid.trace import Role

__all__ = ["CLIENTS"]

IP: Final = A.ILLEGAL_PARAMETER
UM: Final = A.UNEXPECTED_MESSAGE
_NOBODYS_GROUP: Final = 0x0123
_TLS_1_2_SUITE: Final = 0xC02F
_REQUEST: Final = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


# ---- ClientHello -----------------------------------------------------------------------------------------------------


def _hello(**fields: Any) -> Callable[[Shown], Edit]:  # Any: ClientHello's fields
    return lambda _: changing_body(H.CLIENT_HELLO, lambda hello: dataclasses.replace(hello, **fields))


def _extensions(change: Change) -> Callable[[Shown], Edit]:
    return lambda _: changing_extensions(H.CLIENT_HELLO, change)


def _older(_: Shown) -> Edit:
    def change(hello: ClientHello) -> ClientHello:
        extensions = tuple(dropping(E.SUPPORTED_VERSIONS, E.KEY_SHARE)(list(hello.extensions)))
        return dataclasses.replace(hello, cipher_suites=(_TLS_1_2_SUITE,), extensions=extensions)

    return changing_body(H.CLIENT_HELLO, change)


def _twice(present: list[Extension]) -> list[Extension]:
    return [*(e for e in present if e.extension_type == E.SUPPORTED_GROUPS), *present]


def _share(group: int, share: bytes) -> Callable[[Shown], Edit]:
    return _extensions(putting(x.KEY_SHARES.extension((x.KeyShareEntry(group, share),))))


def _unknown_group(present: list[Extension]) -> list[Extension]:
    share = x.KEY_SHARES.extension((x.KeyShareEntry(_NOBODYS_GROUP, bytes(32)),))
    return putting(x.SUPPORTED_GROUPS.extension((_NOBODYS_GROUP,)), share)(present)


def _other_random(_: Shown) -> Edit:
    """Send no share, so that the server has to ask again; then be somebody else."""
    first = changing_extensions(H.CLIENT_HELLO, putting(x.KEY_SHARES.extension(())))
    second = changing_body(H.CLIENT_HELLO, lambda hello: dataclasses.replace(hello, random=bytes(32)), which=2)
    return lambda kind, raw: second(kind, first(kind, raw))


def _half_a_hello(_: Shown) -> Edit:
    return replacing(H.CLIENT_HELLO, lambda raw: raw[: len(raw) // 2])


# ---- who it is -------------------------------------------------------------------------------------------------------


def _stranger(mint: Mint) -> Shown:
    return shown(mint, CA("Nobody's root").issue(mint.host, purposes=("client",)))


def _expired(mint: Mint) -> Shown:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    leaf = mint.ca.issue(mint.host, purposes=("client",), not_before=now - 90 * DAY, not_after=now - DAY)
    return shown(mint, leaf)


def _servers(mint: Mint) -> Shown:
    return shown(mint, mint.ca.issue(mint.host, purposes=("server",)))


# ---- other than TLS --------------------------------------------------------------------------------------------------


def _says(data: bytes) -> Callable[[Link], None]:
    def talk(link: Link) -> None:
        link.send(data)
        link.hang()

    return talk


def _leaves(link: Link) -> None:
    link.finish()


# ---- later -----------------------------------------------------------------------------------------------------------


def _half_a_request(then: Callable[[Link], None]) -> Callable[[Conversation], None]:
    def connected(conversation: Conversation) -> None:
        conversation.connection.send_data(_REQUEST[:-10])
        conversation.flush()
        then(conversation.link)
        conversation.end()

    return connected


def _says_no_more(conversation: Conversation) -> None:
    conversation.link.hang()
    conversation.end()


def _hello_again(peer: BentConnection) -> None:
    peer.record(ContentType.HANDSHAKE, peer.sent[0])


# ---- the table -------------------------------------------------------------------------------------------------------


def _fault(
    name: str,
    summary: str,
    code: str,
    alert: int | None = None,
    rfc: str = "",
    *,
    kind: Kind = Kind.PROTOCOL,
    needs: Needs = NOTHING,
    config: Mapping[str, Any] | None = None,  # Any: each field's own type
    shown: Callable[[Mint], Shown] = good,
    edit: Callable[[Shown], Edit] | None = None,
    rewrite: Rewrite | None = None,
    started: Callable[[Conversation], None] | None = None,
    connected: Callable[[Conversation], None] | None = None,
    link: Callable[[Link], None] | None = None,
    slow: bool = False,
) -> Fault:
    return Fault(
        name=f"client-{name}",
        summary=summary,
        side=Role.CLIENT,
        kind=kind,
        code=code,
        alert=alert,
        rfc=rfc,
        needs=needs,
        recipe=Recipe(
            shown=shown,
            config={} if config is None else config,
            edit=edit,
            rewrite=rewrite,
            started=started,
            connected=connected,
            link=link,
            slow=slow,
            host="client.test",
        ),
    )


_CCS: Final[Step] = lambda peer: peer.plaintext(ContentType.CHANGE_CIPHER_SPEC, b"\x01")  # noqa: E731
_ASKED = Needs(
    text="to demand a certificate by the client's CA", config={"client_authentication": ClientAuthentication.REQUIRED}
)
_STRICT = Needs(text="to refuse names that it has no certificate for", config={"strict_server_name": True})
_ALPN = Needs(text="to have application protocols (ALPN)", config={"alpn": ("http/1.1",)})
_KEY = Needs(text="to have a pre-shared key", config={"external_psks": psk(Role.SERVER)})
_RETRIED: Final = {"groups": (G.X25519, G.SECP521R1), "key_shares": (G.SECP521R1,)}
_X25519: Final = {"groups": (G.X25519,)}
_TRANSPORT: Final = Kind.TRANSPORT

CLIENTS: Final = (
    _fault("plain-http", "speaks HTTP without TLS", "PEER-PLAIN-HTTP", UM, kind=_TRANSPORT, link=_says(_REQUEST)),
    _fault("garbage", "says something that is nothing", "PEER-NOT-TLS", UM, kind=_TRANSPORT,
           link=_says(bytes(0x80 + 37 * at % 128 for at in range(256)))),
    _fault("closed-at-once", "connects, and leaves without a word", "PEER-CLOSED-EARLY", None, "9846 §6.1",
           kind=_TRANSPORT, link=_leaves),
    _fault("truncated-hello", "its stream ends in the middle of its ClientHello", "PEER-TRUNCATED", None, "9846 §6.1",
           kind=_TRANSPORT, edit=_half_a_hello, started=lambda one: one.link.finish()),
    _fault("truncated-data", "its stream ends in the middle of its request", "PEER-TRUNCATED", None, "9846 §6.1",
           kind=_TRANSPORT, connected=_half_a_request(Link.finish)),
    _fault("reset-data", "resets the connection in the middle of its request", "TCP-RESET",
           kind=_TRANSPORT, connected=_half_a_request(Link.reset)),
    _fault("silent", "connects, and never says a word", "PEER-STALLED", kind=_TRANSPORT, link=Link.hang),
    _fault("silent-in-hello", "falls silent in the middle of its ClientHello", "PEER-STALLED",
           kind=_TRANSPORT, edit=_half_a_hello),
    _fault("silent-before-certificate", "falls silent before its Certificate", "PEER-STALLED", kind=_TRANSPORT,
           needs=_ASKED, edit=lambda _: without(H.CERTIFICATE, H.CERTIFICATE_VERIFY, H.FINISHED),
           connected=_says_no_more),
    _fault("silent-before-verify", "falls silent before its CertificateVerify", "PEER-STALLED", kind=_TRANSPORT,
           needs=_ASKED, edit=lambda _: without(H.CERTIFICATE_VERIFY, H.FINISHED), connected=_says_no_more),
    _fault("silent-before-finished", "falls silent before its Finished", "PEER-STALLED",
           kind=_TRANSPORT, edit=lambda _: without(H.FINISHED), connected=_says_no_more),
    _fault("silent-after-handshake", "connects, and never asks for anything", "PEER-STALLED",
           kind=_TRANSPORT, connected=_says_no_more),
    _fault("slow", "sends one byte a second", "PEER-STALLED", kind=_TRANSPORT, slow=True),
    _fault("tls12-only", "offers TLS 1.2", "TLS-VERSION", A.PROTOCOL_VERSION, "9846 §E.2", edit=_older),
    _fault("no-common-group", "offers a group that nobody has", "TLS-NO-COMMON-GROUP", A.HANDSHAKE_FAILURE,
           "9846 §4.2.1", edit=_extensions(_unknown_group)),
    _fault("no-common-suite", "offers suites of TLS 1.2 alone", "TLS-NO-COMMON-SUITE", A.HANDSHAKE_FAILURE,
           "9846 §4.2.1", edit=_hello(cipher_suites=(_TLS_1_2_SUITE,))),
    _fault("no-common-scheme", "accepts no signature but dsa_sha1", "TLS-NO-COMMON-SCHEME", A.HANDSHAKE_FAILURE,
           "9846 §4.5.1.2", edit=_extensions(putting(x.SIGNATURE_ALGORITHMS.extension((0x0202,))))),
    _fault("no-alpn", "speaks spdy/3 alone", "TLS-NO-ALPN", A.NO_APPLICATION_PROTOCOL, "7301 §3.2",
           needs=_ALPN, config={"alpn": ("spdy/3",)}),
    _fault("unknown-name", "asks for nobody.test", "TLS-UNKNOWN-NAME", A.UNRECOGNIZED_NAME, "6066 §3",
           needs=_STRICT, edit=_extensions(putting(x.SERVER_NAME.extension("nobody.test")))),
    _fault("missing-extension", "its ClientHello lacks signature_algorithms", "TLS-MISSING-EXTENSION",
           A.MISSING_EXTENSION, "9846 §9.2", edit=_extensions(dropping(E.SIGNATURE_ALGORITHMS))),
    _fault("duplicate-extension", "its ClientHello has supported_groups twice", "TLS-DUPLICATE-EXTENSION",
           A.DECODE_ERROR, "9846 §4.3", edit=_extensions(_twice)),
    _fault("misplaced-extension", "its ClientHello has oid_filters, which is for servers", "TLS-MISPLACED-EXTENSION",
           IP, "9846 §4.3", edit=_extensions(putting(Extension(E.OID_FILTERS, b"\0\0")))),
    _fault("compressing", "offers to compress", "TLS-ILLEGAL-PARAMETER", IP, "9846 §4.2.2",
           edit=_hello(legacy_compression_methods=b"\x01\x00")),
    _fault("short-share", "its x25519 share is a byte short", "TLS-BAD-KEY-SHARE", IP, "9846 §4.3.8.2",
           config=_X25519, edit=_share(G.X25519, b"\x09" + bytes(30))),
    _fault("zero-share", "its x25519 share is zero", "TLS-BAD-KEY-SHARE", IP, "9846 §7.4.2",
           config=_X25519, edit=_share(G.X25519, bytes(32))),
    _fault("changed-second-hello", "its second ClientHello has another random than its first", "TLS-BAD-RETRY", IP,
           "9846 §4.2.2", config=_RETRIED, edit=_other_random),
    _fault("message-too-large", "announces a ClientHello of 16 MiB", "TLS-MESSAGE-TOO-LARGE", IP, "9846 §4",
           edit=lambda _: replacing(H.CLIENT_HELLO, lambda raw: raw[:1] + b"\xff\xff\xff" + raw[HEADER_LENGTH:])),
    _fault("wrong-psk", "has another pre-shared key under the name that it offers", "TLS-BAD-PSK", A.DECRYPT_ERROR,
           "9846 §4.3.11.2", needs=_KEY, config={"external_psks": psk(Role.CLIENT, right=False)}),
    _fault("certificate-missing", "has no certificate, and one is demanded", "TLS-CLIENT-CERT-REQUIRED",
           A.CERTIFICATE_REQUIRED, "9846 §4.5.1.3", needs=_ASKED, config={"credentials": ()}),
    _fault("certificate-unknown-ca", "shows a certificate by a CA that nobody trusts", "X509-UNKNOWN-CA",
           A.UNKNOWN_CA, "9846 §4.5.1.3", kind=Kind.X509, needs=_ASKED, shown=_stranger),
    _fault("certificate-expired", "shows a certificate that expired yesterday", "X509-EXPIRED",
           A.CERTIFICATE_EXPIRED, "5280 §4.1.2.5", kind=Kind.X509, needs=_ASKED, shown=_expired),
    _fault("certificate-wrong-purpose", "shows a certificate for servers", "X509-WRONG-PURPOSE",
           A.UNSUPPORTED_CERTIFICATE, "5280 §4.2.1.12", kind=Kind.X509, needs=_ASKED, shown=_servers),
    _fault("certificate-verify-other-key", "shows a certificate that is not its own", "TLS-BAD-CERTIFICATE-VERIFY",
           A.DECRYPT_ERROR, "9846 §4.5.2", needs=_ASKED, shown=another_key),
    _fault("missing-certificate-verify", "shows a certificate, and leaves out the proof that it is its own",
           "TLS-UNEXPECTED-MESSAGE", UM, "9846 §A.2", needs=_ASKED, edit=lambda _: without(H.CERTIFICATE_VERIFY)),
    _fault("wrong-finished", "its Finished is wrong by one bit", "TLS-BAD-FINISHED", A.DECRYPT_ERROR, "9846 §4.5.3",
           edit=lambda _: replacing(H.FINISHED, lambda raw: raw[:-1] + bytes((raw[-1] ^ 1,)))),
    _fault("key-change", "the first byte of a message stands behind its Finished", "TLS-KEY-CHANGE", UM, "9846 §5.1",
           edit=lambda _: replacing(H.FINISHED, lambda raw: raw + b"\x18")),
    _fault("flipped-tag", "a bit of its request's record is flipped", "TLS-BAD-RECORD-MAC", A.BAD_RECORD_MAC,
           "9846 §5.2",
           connected=once_connected(lambda peer: peer.spoiled(ContentType.APPLICATION_DATA, _REQUEST))),
    _fault("oversized-record", f"sends a record of {MAX_CIPHERTEXT + 1} bytes", "TLS-RECORD-OVERFLOW",
           A.RECORD_OVERFLOW, "9846 §5.2", connected=once_connected(oversized)),
    _fault("key-update-flood", f"changes its key {MAX_KEY_UPDATES + 8} times", "TLS-KEY-UPDATE-FLOOD", UM,
           "9846 §4.7.3", connected=once_connected(*[lambda peer: peer.send_key_update()] * (MAX_KEY_UPDATES + 8))),
    _fault("empty-record-flood", f"sends {MAX_EMPTY_RECORDS + 8} empty records", "TLS-EMPTY-RECORDS", UM, "9846 §5.1",
           connected=once_connected(*[sealed(b"\x17")] * (MAX_EMPTY_RECORDS + 8))),
    _fault("change-cipher-spec-flood", f"sends {MAX_CHANGE_CIPHER_SPECS + 3} change_cipher_spec records",
           "TLS-MESSAGE-FLOOD", UM, "9846 §5",
           rewrite=before_message(H.FINISHED, *[_CCS] * (MAX_CHANGE_CIPHER_SPECS + 3))),
    _fault("renegotiation", "sends its ClientHello again after the handshake", "TLS-UNEXPECTED-MESSAGE", UM,
           "9846 §4.2.2", connected=once_connected(_hello_again)),
    _fault("unexpected-message", "sends a Finished after the handshake", "TLS-UNEXPECTED-MESSAGE", UM, "9846 §A.2",
           connected=once_connected(handshake_record(message(H.FINISHED, bytes(32))))),
)  # fmt: skip
