"""Private keys in a PKCS#11 token: a hardware security module, a smart card, SoftHSM. They never leave it.

The extra `pkcs11` brings python-pkcs11, which loads the token's own module.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
import urllib.parse
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.exceptions import PKCS11Error
from pkcs11.mechanisms import MGF
from pkcs11.util.ec import encode_ecdsa_signature

from pellucid.config import Credential
from pellucid.crypto import credentials as own
from pellucid.crypto.certificates import X509Certificate
from pellucid.crypto.signatures import VERIFIERS, signing_schemes
from pellucid.errors import InternalError, UsageError
from pellucid.handshake.authenticate import signed_content
from pellucid.registry import SignatureScheme as S
from pellucid.registry import scheme_name
from pellucid.trace import Role

__all__ = ["Pkcs11Signer", "Pkcs11Uri", "pkcs11_credential"]

_MAX_PIN: Final = 256
# PKCS#11 signs digests with CKM_ECDSA and CKM_RSA_PKCS_PSS, which every token has; few have the forms that hash too.
_ECDSA: Final = {
    S.ECDSA_SECP256R1_SHA256: hashlib.sha256,
    S.ECDSA_SECP384R1_SHA384: hashlib.sha384,
    S.ECDSA_SECP521R1_SHA512: hashlib.sha512,
}
_PSS: Final = {
    S.RSA_PSS_RSAE_SHA256: (hashlib.sha256, (Mechanism.SHA256, MGF.SHA256, 32)),
    S.RSA_PSS_RSAE_SHA384: (hashlib.sha384, (Mechanism.SHA384, MGF.SHA384, 48)),
    S.RSA_PSS_RSAE_SHA512: (hashlib.sha512, (Mechanism.SHA512, MGF.SHA512, 64)),
    S.RSA_PSS_PSS_SHA256: (hashlib.sha256, (Mechanism.SHA256, MGF.SHA256, 32)),
    S.RSA_PSS_PSS_SHA384: (hashlib.sha384, (Mechanism.SHA384, MGF.SHA384, 48)),
    S.RSA_PSS_PSS_SHA512: (hashlib.sha512, (Mechanism.SHA512, MGF.SHA512, 64)),
}
_KEY_TYPES: Final = {
    **dict.fromkeys(_ECDSA, KeyType.EC),
    **dict.fromkeys(_PSS, KeyType.RSA),
    S.ED25519: KeyType.EC_EDWARDS,
}
_PATH: Final = {"token": "token", "object": "label", "id": "key_id", "serial": "serial"}
_IGNORED: Final = frozenset({"type", "manufacturer", "model", "slot-manufacturer", "slot-description", "slot-id"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pkcs11Uri:
    """Where a key is (RFC 7512). token, label: text; key_id: bytes; module: the shared library; pin is not shown."""

    module: str
    token: str | None = None
    serial: str | None = None
    label: str | None = None
    key_id: bytes | None = None
    pin: str | None = None

    def __repr__(self) -> str:
        return f"Pkcs11Uri(module={self.module!r}, token={self.token!r}, label={self.label!r}, key_id={self.key_id!r})"

    @classmethod
    def parse(cls, uri: str, *, module: str | None = None) -> Pkcs11Uri:
        """Return what *uri* says: "pkcs11:token=web;object=key?module-path=/usr/lib/x.so&pin-source=file:/run/pin".

        module: where the URI has no module-path; without either, the environment's PKCS11_MODULE_PATH. A PIN is better
        in a file (pin-source) than in the URI (pin-value). Raises UsageError.
        """
        scheme, colon, rest = uri.partition(":")
        if scheme.lower() != "pkcs11" or not colon:
            raise UsageError("a PKCS#11 URI begins with pkcs11: (RFC 7512)")
        path, _, query = rest.partition("?")
        found: dict[str, Any] = {}  # Any: text, and bytes of an id
        for name, value in _pairs(path, ";"):
            if name == "id":
                found["key_id"] = urllib.parse.unquote_to_bytes(value)
            elif name in _PATH:
                found[_PATH[name]] = _unquoted(value)
            elif name not in _IGNORED:
                raise UsageError(f"a PKCS#11 URI with {name!r}, which is not known here")
        asked = {name: _unquoted(value) for name, value in _pairs(query, "&")}
        library = asked.get("module-path") or module or os.environ.get("PKCS11_MODULE_PATH")
        if not library:
            raise UsageError("which PKCS#11 module? module-path in the URI, or PKCS11_MODULE_PATH in the environment")
        return cls(module=library, pin=_pin(asked), **found)


def _pairs(text: str, separator: str) -> Iterator[tuple[str, str]]:
    for part in filter(None, text.split(separator)):
        name, equals, value = part.partition("=")
        if not equals:
            raise UsageError("a PKCS#11 URI is made of name=value")
        yield name, value


def _unquoted(value: str) -> str:
    try:
        return urllib.parse.unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        raise UsageError("a PKCS#11 URI's text is UTF-8 (RFC 7512 §2.3)") from error


def _pin(asked: dict[str, str]) -> str | None:
    if "pin-value" in asked:
        return asked["pin-value"]
    source = asked.get("pin-source")
    if source is None:
        return None
    path = urllib.parse.unquote(source.removeprefix("file:"))
    path = path[2:] if path.startswith("//") else path
    if path.startswith("|"):
        raise UsageError("a PIN is not had from a command here: pin-source is a file")
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(_MAX_PIN).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the PIN in {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


class Pkcs11Signer:
    """Signs with a key in a token. For any number of threads, which take turns.

    certificate: the leaf, DER. One signature is made at once, to see that the key is the certificate's.
    uri:         where the key is: a Pkcs11Uri, or its text. Without label and id, the token has one private key.

    `sign` waits for the token; where an event loop must not, see `InThread`. A session that the token has ended, as
    when it was pulled out and put back, is opened anew, once. python-pkcs11 does not tell the token's module that there
    are threads: all calls into one module take turns, and more at a time needs more processes. Raises UsageError: no
    such module, token or key, a wrong PIN, a key that is not the certificate's.
    """

    def __init__(self, uri: Pkcs11Uri | str, certificate: bytes) -> None:
        self._opened: tuple[Any, Any] | None = None  # Any: session and key of python-pkcs11
        self._uri = Pkcs11Uri.parse(uri) if isinstance(uri, str) else uri
        self._lock = _module_lock(self._uri.module)
        self._process = os.getpid()
        leaf = own.parse_own_certificate(certificate)
        try:
            with self._lock:
                kind = self._key().key_type
        except PKCS11Error as error:
            raise UsageError(f"the PKCS#11 token cannot be used: {_told(error)}") from error
        self.schemes: tuple[int, ...] = tuple(code for code in signing_schemes(leaf) if _KEY_TYPES.get(code) == kind)
        if not self.schemes:
            raise UsageError(f"the token's key, {kind.name}, does not fit a certificate for {leaf.key_algorithm}")
        try:
            self._check_pair(leaf)
        except InternalError as error:
            raise UsageError(error.reason) from error

    def _check_pair(self, leaf: X509Certificate) -> None:
        scheme, content = self.schemes[0], signed_content(Role.SERVER, secrets.token_bytes(32))
        verifier = next(one for one in VERIFIERS if one.code == scheme)
        if not verifier.verify(leaf, self.sign(scheme, content), content):
            raise UsageError("the token's key does not belong to the certificate")

    def sign(self, scheme: int, data: bytes) -> bytes:
        """Return the signature over *data*. Raises UsageError for another scheme, InternalError if the token fails."""
        if scheme not in self.schemes:
            raise UsageError(f"the token's key does not sign with {scheme_name(scheme)}")
        with self._lock:
            _close_abandoned(self._uri.module)
            try:
                try:
                    return _signature(self._key(), scheme, data)
                except _ENDED:
                    self.close()
                    return _signature(self._key(), scheme, data)
            except PKCS11Error as error:
                self.close()
                raise InternalError(f"the PKCS#11 token did not sign: {_told(error)}") from error

    def close(self) -> None:
        """End the session. The next signature opens one again."""
        with self._lock:
            opened, self._opened = self._opened, None
            if opened is not None and self._process == os.getpid():
                with contextlib.suppress(PKCS11Error):
                    opened[0].close()

    def __del__(self) -> None:
        # Any thread may be the one that collects it, an event loop's too: none waits here for another's signature.
        opened = getattr(self, "_opened", None)
        if opened is None or self._process != os.getpid():
            return
        module, lock = self._uri.module, self._lock
        _ABANDONED.setdefault((module, self._process), deque()).append(opened[0])
        if lock.acquire(blocking=False):
            try:
                _close_abandoned(module)
            finally:
                lock.release()

    def __repr__(self) -> str:
        return f"<Pkcs11Signer {self._uri!r}>"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("the way to a private key is not pickled")

    # ---- the token, with the lock held -----------------------------------------------------------------------------

    def _key(self) -> Any:  # Any: as above
        if self._opened is not None and self._process == os.getpid():
            return self._opened[1]
        self._opened, self._process = self._open(), os.getpid()
        return self._opened[1]

    def _open(self) -> tuple[Any, Any]:
        token = self._token()
        session = token.open()
        try:
            keys = self._keys(session)
            if not keys and self._uri.pin is not None:
                # Nobody in this process has logged in yet: the login is the process's, and private keys show with it.
                session.close()
                session = self._logged_in(token, self._uri.pin)
                keys = self._keys(session)
            if len(keys) != 1:
                many = "no private key" if not keys else "more than one private key"
                why = "" if keys or self._uri.pin is not None else "; without a PIN (pin-source) most tokens show none"
                raise UsageError(f"{many} in the token for {self._uri!r}{why}")
        except BaseException:
            with contextlib.suppress(PKCS11Error):
                session.close()
            raise
        return session, keys[0]

    def _logged_in(self, token: Any, pin: str) -> Any:
        """Return a session. A PIN that was wrong is not tried again: tokens lock themselves after a few times."""
        tried = hashlib.sha256("\0".join((self._uri.module, repr(token.serial), token.label, pin)).encode()).digest()
        if tried in _WRONG_PINS:
            raise UsageError("the PKCS#11 token has refused this PIN before, and it is not tried again by this process")
        try:
            return token.open(user_pin=pin)
        except pkcs11.exceptions.PinIncorrect:
            _WRONG_PINS.add(tried)
            raise

    def _token(self) -> Any:
        try:
            library = pkcs11.lib(self._uri.module)
            if _INITIALIZED.setdefault(self._uri.module, os.getpid()) != os.getpid():
                # A fork's child has nothing of what its parent has opened, and begins anew (PKCS#11 3.0 §6.6).
                _INITIALIZED[self._uri.module] = os.getpid()
                library.reinitialize()
        except (PKCS11Error, OSError) as error:
            raise UsageError(f"the PKCS#11 module {self._uri.module} cannot be loaded: {error}") from error
        wanted: dict[str, Any] = {}
        if self._uri.token is not None:
            wanted["token_label"] = self._uri.token
        if self._uri.serial is not None:
            wanted["token_serial"] = self._uri.serial.encode()
        return library.get_token(**wanted)

    def _keys(self, session: Any) -> list[Any]:
        wanted: dict[Any, Any] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
        if self._uri.label is not None:
            wanted[Attribute.LABEL] = self._uri.label
        if self._uri.key_id is not None:
            wanted[Attribute.ID] = self._uri.key_id
        return list(session.get_objects(wanted))


_WRONG_PINS: Final[set[bytes]] = set()
"""SHA-256 of module, token and a PIN that the token has refused"""
_LOCKS: Final[dict[str, threading.RLock]] = {}
_INITIALIZED: Final[dict[str, int]] = {}
"""module → the process that it was initialized in"""

_ABANDONED: Final[dict[tuple[str, int], deque[Any]]] = {}  # Any: sessions of python-pkcs11
"""module and process → sessions of signers that nobody has any more: closed by who has the module's turn next"""


def _module_lock(module: str) -> threading.RLock:
    return _LOCKS.setdefault(module, threading.RLock())


def _close_abandoned(module: str) -> None:
    """Close them; the module's lock is held."""
    sessions = _ABANDONED.get((module, os.getpid()))
    while sessions:
        with contextlib.suppress(PKCS11Error):
            sessions.popleft().close()


def _signature(key: Any, scheme: int, data: bytes) -> bytes:
    if scheme in _ECDSA:
        digest = _ECDSA[scheme](data).digest()
        return bytes(encode_ecdsa_signature(key.sign(digest, mechanism=Mechanism.ECDSA)))
    if scheme in _PSS:
        new_hash, parameters = _PSS[scheme]
        digest = new_hash(data).digest()
        return bytes(key.sign(digest, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=parameters))
    return bytes(key.sign(data, mechanism=Mechanism.EDDSA))


_ENDED: Final = (
    pkcs11.exceptions.SessionHandleInvalid,
    pkcs11.exceptions.SessionClosed,
    pkcs11.exceptions.ObjectHandleInvalid,
    pkcs11.exceptions.KeyHandleInvalid,
    pkcs11.exceptions.UserNotLoggedIn,
    pkcs11.exceptions.DeviceRemoved,
)


def pkcs11_credential(uri: Pkcs11Uri | str, chain: bytes | Iterable[bytes]) -> Credential:
    """Return the credential of a certificate whose key is in a token.

    chain: PEM text, or DER, end-entity first. Raises UsageError as `Pkcs11Signer` does.
    """
    certificates = own.certificates_from_pem(chain) if isinstance(chain, bytes) else tuple(chain)
    if not certificates:
        raise UsageError("a credential needs at least one certificate")
    return Credential(chain=certificates, signer=Pkcs11Signer(uri, certificates[0]))


def _told(error: PKCS11Error) -> str:
    """Return the error's name, which is PKCS#11's, and its text if it has one."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
