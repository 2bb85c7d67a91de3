"""Trust anchors: a frozen set of root certificates, parsed once. No file is read here (that is net/load.py)."""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography import x509
from cryptography.x509.verification import Store

from pellucid.crypto.certificates import PARSE_ERRORS
from pellucid.errors import UsageError
from pellucid.verify.constraints import NameLimits, name_limits

_PEM: Final = re.compile(
    rb"-----BEGIN (?P<label>(?:X509 |TRUSTED )?CERTIFICATE)-----(?P<body>.*?)-----END (?P=label)-----", re.DOTALL
)


class _Derived:
    """What follows from the roots, computed when first needed and shared by every use of the store."""

    __slots__ = ("authorities", "by_subject", "digest", "encodings", "limited", "members", "store", "within")

    def __init__(self) -> None:
        self.store: Store | None = None
        self.by_subject: Mapping[bytes, tuple[x509.Certificate, ...]] | None = None
        self.authorities: tuple[bytes, ...] | None = None
        self.members: frozenset[bytes] | None = None
        self.encodings: Mapping[int, bytes] | None = None
        self.digest: bytes | None = None
        self.limited: Mapping[bytes, NameLimits] | None = None
        self.within: dict[frozenset[bytes], TrustStore] = {}


_MAX_WITHIN: Final = 16  # stores of the roots that may vouch for some names; most have one or two


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TrustStore:
    """Root certificates that are trusted, and where they came from.

    roots:        DER, each once, in the order given.
    certificates: the same, parsed.
    origin:       "explicit", "SSL_CERT_FILE=/x", "operating system (wassima)", "certifi", …
    skipped:      one line for each certificate that could not be parsed and is not among the roots.
    limits:       (root, the names it is trusted for) of each that is not trusted for all: see `only_for`.
    Make one with from_pem, from_der or empty; combine with `|`.
    """

    roots: tuple[bytes, ...]
    certificates: tuple[x509.Certificate, ...] = field(compare=False)
    origin: str = "explicit"
    skipped: tuple[str, ...] = ()
    limits: tuple[tuple[bytes, NameLimits], ...] = ()
    # Not of the constructor: dataclasses.replace would hand the old roots' verdicts on to the new ones.
    _derived: _Derived = field(init=False, default_factory=_Derived, compare=False)

    @classmethod
    def from_der(cls, certificates: Iterable[bytes], *, origin: str = "explicit") -> TrustStore:
        """Return the store of the DER *certificates*. Raises UsageError if not one of them can be parsed."""
        parsed: dict[bytes, x509.Certificate] = {}
        skipped: list[str] = []
        count = 0
        for count, der in enumerate(certificates, 1):
            try:
                parsed.setdefault(bytes(der), x509.load_der_x509_certificate(bytes(der)))
            except PARSE_ERRORS as error:
                skipped.append(f"certificate {count} of {origin}: {error}")
        if not parsed:
            reason = skipped[0] if skipped else f"{origin} holds none"
            raise UsageError(f"no usable root certificate: {reason}; TrustStore.empty() trusts nobody on purpose")
        return cls(roots=tuple(parsed), certificates=tuple(parsed.values()), origin=origin, skipped=tuple(skipped))

    @classmethod
    def from_pem(cls, data: bytes | str, *, origin: str = "explicit") -> TrustStore:
        """Return the store of all certificates in the PEM text *data*; text between them is ignored.

        Raises UsageError if there is no certificate in it, or none that can be parsed.
        """
        return cls.from_der(certificates_in_pem(data), origin=origin)

    @classmethod
    def empty(cls, *, origin: str = "explicit") -> TrustStore:
        """Return the store that trusts nobody."""
        return cls(roots=(), certificates=(), origin=origin)

    def only_for(self, *names: str) -> TrustStore:
        """Return the store whose roots are trusted for *names* alone, whatever they issue: constraints of our own.

        names: domains with all below them ("corp.example" has a.corp.example, and *.corp.example), addresses and
               networks ("10.0.0.0/8"). All DNS names and addresses of a leaf must be within them, if there are several
               in one of them. A root that was limited before is trusted for what both allow.
        Raises UsageError without names, and for one that is none.
        """
        limits = name_limits(names)
        before = dict(self.limits)
        both = tuple((root, before[root] & limits if root in before else limits) for root in self.roots)
        return replace(self, limits=both)

    def within_limits(self, names: Iterable[x509.GeneralName]) -> TrustStore:
        """Return the store of those roots that may vouch for all of *names*; itself if that is every root."""
        if not self.limits:
            return self
        names = tuple(names)
        barred = frozenset(root for root, limits in self.limits if not limits.allow(names))
        if not barred:
            return self
        within = self._derived.within.get(barred)
        if within is None:
            kept = [(der, one) for der, one in zip(self.roots, self.certificates, strict=True) if der not in barred]
            within = TrustStore(
                roots=tuple(der for der, _ in kept),
                certificates=tuple(one for _, one in kept),
                origin=self.origin,
                limits=tuple((root, limits) for root, limits in self.limits if root not in barred),
            )
            if len(self._derived.within) >= _MAX_WITHIN:
                self._derived.within.clear()
            self._derived.within[barred] = within
        return within

    def limits_of(self, der: bytes) -> NameLimits | None:
        """Return the names that the root *der* is trusted for; None: all."""
        if self._derived.limited is None:
            self._derived.limited = dict(self.limits)
        return self._derived.limited.get(der)

    def __or__(self, other: TrustStore) -> TrustStore:
        """Return the store that trusts the roots of both: each for what either trusts it for."""
        merged = dict(zip(self.roots + other.roots, self.certificates + other.certificates, strict=True))
        origins = dict.fromkeys(origin for store in (self, other) for origin in store.origin.split(" + "))
        return TrustStore(
            roots=tuple(merged),
            certificates=tuple(merged.values()),
            origin=" + ".join(origins),
            skipped=self.skipped + other.skipped,
            limits=self._limits_with(other),
        )

    def _limits_with(self, other: TrustStore) -> tuple[tuple[bytes, NameLimits], ...]:
        ours, theirs = dict(self.limits), dict(other.limits)
        found: dict[bytes, NameLimits] = {}
        for root in (*ours, *theirs):
            mine, its = ours.get(root), theirs.get(root)
            if (mine is None and root in self) or (its is None and root in other):
                continue  # one of the two trusts it for every name
            found[root] = mine | its if mine is not None and its is not None else mine or its or NameLimits()
        return tuple(found.items())

    def __len__(self) -> int:
        return len(self.roots)

    def __bool__(self) -> bool:
        return bool(self.roots)

    def __contains__(self, der: object) -> bool:
        if self._derived.members is None:
            self._derived.members = frozenset(self.roots)
        return der in self._derived.members

    def __deepcopy__(self, memo: object) -> TrustStore:
        return self  # nothing in it changes, and upstream's Store cannot be copied

    def __repr__(self) -> str:
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        limited = f", {len(self.limits)} of them for some names only" if self.limits else ""
        return f"TrustStore({len(self.roots)} roots{skipped}{limited}, {self.origin})"

    @property
    def store(self) -> Store | None:
        """The roots as pyca/cryptography's Store, built once; None if there are none (it has no empty Store)."""
        if self._derived.store is None and self.roots:
            self._derived.store = Store(list(self.certificates))
        return self._derived.store

    @property
    def authorities(self) -> tuple[bytes, ...]:
        """The roots' subject names as DER, each once: for certificate_authorities (RFC 9846 §4.3.4)."""
        if self._derived.authorities is None:
            self._derived.authorities = tuple(self._index())
        return self._derived.authorities

    @property
    def digest(self) -> bytes:
        """32 bytes that two stores have in common exactly when they trust the same roots for the same, in any order."""
        if self._derived.digest is None:
            roots = sorted(hashlib.sha256(der).digest() for der in self.roots)
            limits = sorted(hashlib.sha256(der).digest() + limits.digest for der, limits in self.limits)
            self._derived.digest = hashlib.sha256(b"".join((*roots, *limits))).digest()
        return self._derived.digest

    def encoding_of(self, certificate: x509.Certificate) -> bytes | None:
        """Return the DER of *certificate* if it is this very object among the roots; encoding it anew takes longer."""
        if self._derived.encodings is None:
            self._derived.encodings = {id(one): der for one, der in zip(self.certificates, self.roots, strict=True)}
        return self._derived.encodings.get(id(certificate))

    def with_subject(self, name: bytes) -> tuple[x509.Certificate, ...]:
        """Return the roots whose subject is *name*, a DER name."""
        return self._index().get(name, ())

    def _index(self) -> Mapping[bytes, tuple[x509.Certificate, ...]]:
        if self._derived.by_subject is None:
            index: dict[bytes, tuple[x509.Certificate, ...]] = {}
            for certificate in self.certificates:
                try:
                    subject = certificate.subject.public_bytes()
                except PARSE_ERRORS:
                    continue  # A root whose name cannot be read issues nothing that we could find.
                index[subject] = (*index.get(subject, ()), certificate)
            self._derived.by_subject = index
        return self._derived.by_subject


def certificates_in_pem(data: bytes | str) -> list[bytes]:
    """Return the DER of each certificate in the PEM text *data*.

    A block that is not base64 comes back as the empty string, so that whoever parses it counts it as unusable.
    """
    text = data.encode("utf-8", "replace") if isinstance(data, str) else data
    found: list[bytes] = []
    for block in _PEM.finditer(text):
        try:
            found.append(binascii.a2b_base64(b"".join(block["body"].split()), strict_mode=True))
        except binascii.Error:
            found.append(b"")
    return found
