"""External PSKs: keys agreed outside TLS, imported (RFC 9258) or plain (RFC 9846 §4.3.11), each for one role."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pellucid.crypto.provider import NewHash
from pellucid.errors import UsageError
from pellucid.limits import MIN_EXTERNAL_PSK
from pellucid.schedule import Prf
from pellucid.trace import Role
from pellucid.value import quickly_made
from pellucid.wire import WireStruct, opaque, u16, wire, wire_struct

RESUMPTION_BINDER: Final = b"res binder"
EXTERNAL_BINDER: Final = b"ext binder"
IMPORTED_BINDER: Final = b"imp binder"

_TLS_1_3: Final = 0x0304
_MAX_IDENTITY: Final = 2**16 - 1


class _Kdf(NamedTuple):
    """code: of the TLS KDF Identifiers registry (RFC 9258 §10)."""

    code: int
    hash_length: int
    new_hash: NewHash


_KDFS: Final = {
    "sha256": _Kdf(0x0001, 32, hashlib.sha256),
    "sha384": _Kdf(0x0002, 48, hashlib.sha384),
}


@wire_struct
class ImportedIdentity(WireStruct):
    """RFC 9258 §5.1. On the wire it is the PskIdentity.identity."""

    external_identity: bytes = wire(opaque(1, 2**16 - 1))
    context: bytes = wire(opaque(0, 2**16 - 1))
    target_protocol: int = wire(u16)
    target_kdf: int = wire(u16)


@wire_struct
class _Endpoints(WireStruct):
    """Who is the client and who the server, as RFC 9258 Appendix A writes it: the context that stops reflection."""

    client: bytes = wire(opaque(1, 2**8 - 1))
    server: bytes = wire(opaque(1, 2**8 - 1))


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class Psk:
    """A PSK as a handshake uses it: good with the suites of one hash.

    identity:     PskIdentity.identity, 1..2^16-1 bytes.
    hash_name:    "sha256" or "sha384".
    binder_label: b"res binder", b"ext binder" or b"imp binder": keys of different origin give different binders
                  (RFC 9846 §7.1, RFC 9258 §5.2).
    """

    identity: bytes
    key: bytes = field(repr=False)
    hash_name: str
    binder_label: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalPsk:
    """A key that both ends have from elsewhere; made by `imported`, `imported_with_context` or `plain`.

    identity: what the key is called outside TLS, 1..2^16-1 bytes; it is sent in clear.
    key:      at least 16 bytes with 128 bits of entropy.
    role:     of this end; a configuration of the other role refuses it.
    context:  ImportedIdentity.context, None for a plain PSK.
    hash_name: the hash that the key is for; an imported one gives a PSK for every hash from there.
    """

    identity: bytes
    key: bytes = field(repr=False)
    role: Role
    hash_name: str = "sha256"
    context: bytes | None = None

    def __post_init__(self) -> None:
        if len(self.key) < MIN_EXTERNAL_PSK:
            raise UsageError(
                f"a PSK has at least {MIN_EXTERNAL_PSK} random bytes, not {len(self.key)}: not passwords (RFC 9257 §6)"
            )
        if self.hash_name not in _KDFS:
            raise UsageError(f"a PSK is for {' or '.join(_KDFS)}, not {self.hash_name!r}")
        if not isinstance(self.role, Role):
            raise UsageError(f"the role of a PSK is Role.CLIENT or Role.SERVER, not {self.role!r}")
        # The context and 8 bytes more stand in the identity of an imported PSK.
        overhead = 0 if self.context is None else 8 + len(self.context)
        if not 1 <= len(self.identity) <= _MAX_IDENTITY - overhead:
            raise UsageError(f"a PSK identity has 1 to {_MAX_IDENTITY - overhead} bytes, not {len(self.identity)}")

    @classmethod
    def imported(
        cls, identity: bytes, key: bytes, *, client: str, server: str, role: Role, hash_name: str = "sha256"
    ) -> ExternalPsk:
        """Return the PSK between *client* and *server*, names that both ends use for them (1..255 bytes of UTF-8).

        A node that is the client of some connections and the server of others under one key has two of these, with the
        names exchanged: what it sends as a client is not what it takes as a server (attack E18, RFC 9258 Appendix A).
        Raises UsageError; also where both names are the same, since then nothing would stop a reflection.
        """
        if client == server:
            raise UsageError(
                "client and server have the same name: whoever has the key would take its own messages back"
            )
        try:
            context = _Endpoints(client=client.encode("utf-8"), server=server.encode("utf-8")).encode()
        except (UsageError, UnicodeEncodeError):
            raise UsageError("the names of a PSK's ends have 1 to 255 bytes of UTF-8") from None
        return cls(identity=identity, key=key, role=role, hash_name=hash_name, context=context)

    @classmethod
    def imported_with_context(
        cls, identity: bytes, key: bytes, *, context: bytes, role: Role, hash_name: str = "sha256"
    ) -> ExternalPsk:
        """Return the PSK for a context agreed elsewhere, 0..2^16-1 bytes (RFC 9258 §5.1).

        It must tell the roles apart if a node may be client and server under the same key. Raises UsageError.
        """
        return cls(identity=identity, key=key, role=role, hash_name=hash_name, context=context)

    @classmethod
    def plain(cls, identity: bytes, key: bytes, *, role: Role, hash_name: str = "sha256") -> ExternalPsk:
        """Return a PSK that is used as it is, with the suites of one hash: for peers without the importer.

        No node may be client and server under the same key: nothing stops a reflection (RFC 9257 §4).
        Raises UsageError.
        """
        return cls(identity=identity, key=key, role=role, hash_name=hash_name)

    @property
    def is_imported(self) -> bool:
        return self.context is not None

    def psks(self, hashes: Iterable[str]) -> tuple[Psk, ...]:
        """Return the PSKs for suites of *hashes* ("sha256", "sha384"), in that order, each hash once.

        Of a plain one that is itself, or nothing if its hash is not among them. Raises UsageError for another hash.
        """
        wanted = tuple(dict.fromkeys(hashes))
        if unknown := [name for name in wanted if name not in _KDFS]:
            raise UsageError(f"no KDF is registered for {', '.join(unknown)} (RFC 9258 §10)")
        if self.context is None:
            plain = Psk(identity=self.identity, key=self.key, hash_name=self.hash_name, binder_label=EXTERNAL_BINDER)
            return (plain,) if self.hash_name in wanted else ()
        # RFC 9258 §5.1: the key is extracted and expanded with its own hash; the length is the target's.
        own = _KDFS[self.hash_name]
        extracted = Prf(own, Prf(own, bytes(own.hash_length)).hmac(self.key))
        return tuple(_imported(self.identity, self.context, extracted, own, name) for name in wanted)


def _imported(identity: bytes, context: bytes, extracted: Prf, own: _Kdf, target: str) -> Psk:
    kdf = _KDFS[target]
    imported = ImportedIdentity(
        external_identity=identity, context=context, target_protocol=_TLS_1_3, target_kdf=kdf.code
    ).encode()
    key = extracted.expand_label(b"derived psk", own.new_hash(imported).digest(), kdf.hash_length)
    return Psk(identity=imported, key=key, hash_name=target, binder_label=IMPORTED_BINDER)
