"""The ClientHello, read before the connection: what `ssl`'s callbacks are asked with, and what they answer.

A server whose context has such callbacks has no connection until the ClientHello is whole. Then they are asked, the
configuration is made of their answers, and a connection of it takes the bytes from the first. Bytes that are no
ClientHello go to a connection too, which refuses them with the right alert.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pellucid.config import ClientAuthentication, Credential, ServerConfig
from pellucid.errors import PeerError, UsageError
from pellucid.handshake.negotiate import ClientOffer, read_client_hello
from pellucid.integrations.ssl_errors import ConfigurationError
from pellucid.limits import MAX_HANDSHAKE_BODY, MAX_PLAINTEXT, MAX_PSK_IDENTITIES, RECORD_HEADER
from pellucid.messages import extensions as x
from pellucid.messages.handshake import HEADER_LENGTH, ClientHello
from pellucid.record.reassembly import lacking
from pellucid.registry import AlertDescription, ContentType, HandshakeType, alert_name
from pellucid.sessions.psk import ExternalPsk
from pellucid.trace import Role

if TYPE_CHECKING:
    from pellucid.integrations.ssl_context import SSLContext
    from pellucid.integrations.ssl_engine import Engine

__all__ = [
    "AlpnCallback",
    "CallbackFailed",
    "FirstFlight",
    "PskServerCallback",
    "SniCallback",
    "checked_context",
    "chosen_config",
    "given_psk",
    "no_credential",
]

SniCallback = Callable[[Any, str | None, Any], int | None]
"""(SSLObject or SSLSocket, the name the client sent, the context) → None, or an alert that refuses it"""
AlpnCallback = Callable[[Any, tuple[str, ...], Any], str | None]
"""(SSLObject or SSLSocket, what the client offers, the context) → one of those, or None"""
PskServerCallback = Callable[[str], bytes]
"""identity → key, b"" for one that is not known"""

_TYPES: Final = frozenset(
    map(int, (ContentType.CHANGE_CIPHER_SPEC, ContentType.ALERT, ContentType.HANDSHAKE, ContentType.APPLICATION_DATA))
)
_MAX_BYTES: Final = 4 * (MAX_HANDSHAKE_BODY[HandshakeType.CLIENT_HELLO] + HEADER_LENGTH)  # with records of few bytes
_MAX_SWITCHED: Final = 256
_MAX_IDENTITY: Final = 256  # bytes: OpenSSL's PSK_MAX_IDENTITY_LEN


class CallbackFailed(UsageError):
    """An application's callback refused the client, or failed. alert: what the client was told."""

    def __init__(self, reason: str, alert: int) -> None:
        super().__init__(reason)
        self.alert = alert


class FirstFlight:
    """What came of a client, until its ClientHello is whole."""

    __slots__ = ("_message", "_read", "data", "over")

    def __init__(self) -> None:
        self.data = bytearray()
        """all of it: the connection gets it when there is one"""
        self.over = False
        """whether no more is waited for"""
        self._message = bytearray()
        self._read = 0

    @property
    def lacking(self) -> int:
        """Bytes that the record lacks of which the last part came."""
        return lacking(self.data, self._read)

    def take(self, data: bytes) -> ClientOffer | None:
        """Take more bytes, b"" at the end; return the offer once. None and `over`: this is no ClientHello."""
        self.data += data
        try:
            whole = self._records()
            self.over = whole or not data or len(self.data) > _MAX_BYTES
            if not whole:
                return None
            return read_client_hello(ClientHello.decode(bytes(self._message[HEADER_LENGTH : self._length])))
        except PeerError:  # the connection finds the same, and tells the peer
            self.over = True
            return None

    @property
    def _length(self) -> int:
        return HEADER_LENGTH + int.from_bytes(self._message[1:HEADER_LENGTH], "big")

    def _records(self) -> bool:
        """Read whole records; return whether the message is whole. Raises PeerError for what is no ClientHello."""
        while len(self.data) - self._read >= RECORD_HEADER:
            head = self.data[self._read : self._read + RECORD_HEADER]
            length = int.from_bytes(head[3:], "big")
            end = self._read + RECORD_HEADER + length
            if len(self.data) < end and length <= MAX_PLAINTEXT and head[0] in _TYPES:
                return False  # of whatever type: the connection says nothing before the record is whole
            if len(self.data) < end or head[0] != ContentType.HANDSHAKE or not length:
                raise PeerError("the first record is not of a ClientHello", rfc="9846 §5.1")
            self._message += self.data[self._read + RECORD_HEADER : end]
            self._read = end
            if len(self._message) >= HEADER_LENGTH:
                if (
                    self._message[0] != HandshakeType.CLIENT_HELLO
                    or self._length > HEADER_LENGTH + MAX_HANDSHAKE_BODY[HandshakeType.CLIENT_HELLO]
                ):
                    raise PeerError("the first message is no ClientHello", rfc="9846 §A")
                if len(self._message) >= self._length:
                    return True
        return False


def chosen_config(context: SSLContext, engine: Engine, offer: ClientOffer) -> ServerConfig:
    """Return what the connection is made with: the callbacks are asked here. Raises CallbackFailed."""
    callback = context.sni_callback
    if callback is not None:
        _ask_for_name(callback, context, engine, offer.server_name)
    config = switched_config(context, engine.context)
    if context.alpn_callback is not None and offer.alpn:
        config = _with_alpn(context.alpn_callback, context, engine, config, offer)
    return _with_psk(context, config, offer)


def _ask_for_name(callback: SniCallback, context: SSLContext, engine: Engine, name: str | None) -> None:
    owner = None if engine.owner is None else engine.owner()
    try:
        answer = callback(owner, name, context)
    except Exception as error:
        _Untold(error)
        alert = AlertDescription.HANDSHAKE_FAILURE
        raise CallbackFailed(f"callback failed: {type(error).__name__} in sni_callback", alert) from error
    if answer is None:
        return
    if inspect.iscoroutine(answer):
        answer.close()
        alert = AlertDescription.INTERNAL_ERROR
        raise CallbackFailed("callback failed: nobody awaits sni_callback; a credential_resolver may be async", alert)
    number: Any = answer  # Any: whatever the application returned
    if not isinstance(number, int) or not 0 <= number <= 255:
        wrong = TypeError(f"sni_callback returns None or an alert's number, not {type(answer).__name__}")
        _Untold(wrong)
        alert = AlertDescription.INTERNAL_ERROR
        raise CallbackFailed("callback failed: sni_callback returned what is no alert", alert) from wrong
    raise CallbackFailed(f"callback failed: sni_callback answered {alert_name(int(answer))}", int(answer))


def _with_alpn(
    callback: AlpnCallback, context: SSLContext, engine: Engine, config: ServerConfig, offer: ClientOffer
) -> ServerConfig:
    """Return *config* with the protocol that the callback chooses of those offered."""
    owner = None if engine.owner is None else engine.owner()
    offered = tuple(name.decode("utf-8", "backslashreplace") for name in offer.alpn)
    try:
        answer = callback(owner, offered, context)
    except Exception as error:
        _Untold(error)
        alert = AlertDescription.HANDSHAKE_FAILURE
        raise CallbackFailed(f"callback failed: {type(error).__name__} in alpn_callback", alert) from error
    if answer is not None and answer not in offered:
        alert = AlertDescription.INTERNAL_ERROR
        raise CallbackFailed("callback failed: alpn_callback chose what the client does not offer", alert)
    return replace(
        config,
        alpn=() if answer is None else (answer,),
        sessions=config.session_store,
        replay_guard=config.early_data_guard,
    )


class _Untold:
    """Has `sys.unraisablehook` told of an error when it is dropped: what makes that hook's argument has no name."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __del__(self) -> None:
        raise self.error


def switched_config(context: SSLContext, other: SSLContext) -> ServerConfig:
    """Return the configuration of *context* with the certificates and protocols of *other*, as `ssl` switches them.

    Clients are asked for a certificate if one of both asks: with OpenSSL it is the first that counts, and a name that
    is stricter would not get its way. Who vouches for them *other* says, as with OpenSSL, if it trusts anybody: a
    client of one name's CA is nobody under another name. Tickets, and what remembers early data, stay *context*'s.
    """
    first = context.server_config()
    if other is context:
        return first
    second = other.server_config()
    cache: dict[tuple[int, int], tuple[ServerConfig, ServerConfig, ServerConfig]] = context.switched
    known = cache.get((id(first), id(second)))
    if known is not None and known[0] is first and known[1] is second:
        return known[2]
    asked = (first.client_authentication, second.client_authentication)
    changes: dict[str, Any] = {"client_authentication": max(asked, key=list(ClientAuthentication).index)}
    if second.client_trust or second.verifier is not None:
        names = ("client_trust", "verifier", "revocation", "verdict_cache_seconds", "client_certificate_types")
        changes |= {name: getattr(second, name) for name in names}
    made = replace(
        first,
        credentials=second.credentials,
        credential_resolver=second.credential_resolver,
        strict_server_name=second.strict_server_name,
        alpn=second.alpn,
        sessions=first.session_store,
        replay_guard=first.early_data_guard,
        **changes,
    )
    if len(cache) >= _MAX_SWITCHED:
        cache.clear()
    cache[id(first), id(second)] = (first, second, made)
    return made


def _with_psk(context: SSLContext, config: ServerConfig, offer: ClientOffer) -> ServerConfig:
    """Return *config* with the key of the first of the client's identities that the callback knows."""
    callback = context.psk_server_callback
    if callback is None:
        return config
    for identity in _identities(offer):
        try:
            key = callback(identity)
            if not isinstance(key, (bytes, bytearray, memoryview)):
                raise TypeError(f"a PSK callback returns bytes, not {type(key).__name__}")
            psk = ExternalPsk.plain(identity.encode(), bytes(key), role=Role.SERVER) if len(key) else None
        except Exception as error:
            _Untold(error)
            alert = AlertDescription.INTERNAL_ERROR
            raise CallbackFailed(f"callback failed: {type(error).__name__} in the PSK callback", alert) from error
        if psk is not None:
            return replace(
                config,
                external_psks=(psk, *config.external_psks),
                sessions=config.session_store,
                replay_guard=config.early_data_guard,
            )
    return config


def _identities(offer: ClientOffer) -> Iterator[str]:
    """Yield the identities that can be names: tickets are identities too, and are hardly ever text."""
    offered = offer.extensions.get(x.OFFERED_PSKS)
    for one in () if offered is None else offered.identities[:MAX_PSK_IDENTITIES]:
        if len(one.identity) <= _MAX_IDENTITY and b"\0" not in one.identity:
            try:
                yield one.identity.decode()
            except UnicodeDecodeError:
                continue


def no_credential(_: object) -> Credential | None:
    """The resolver of a server that has keys and no certificate: who has none of the keys is refused."""
    return None


def checked_context(value: SSLContext) -> SSLContext:
    """Return *value* if a connection can go on with it. Raises TypeError."""
    if not hasattr(value, "server_config"):
        raise TypeError("The value must be a SSLContext: one of pellucid's, to go on with")
    return value


def given_psk(answer: object) -> ExternalPsk | None:
    """Return the PSK that a client's callback answered, (identity, key); None for (None, b""): nothing is offered.

    Raises ConfigurationError for anything else.
    """
    given: Any = answer  # Any: what it is is found out here
    fits = isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], (bytes, bytearray, memoryview))
    if not fits or not isinstance(given[0], (str, type(None))):
        raise ConfigurationError("a client's PSK callback returns (identity, key): a str or None, and bytes")
    name, key = given[0] or "", given[1]
    if not len(key):
        return None
    try:
        return ExternalPsk.plain(name.encode(), bytes(key), role=Role.CLIENT)
    except UsageError as error:
        raise ConfigurationError(f"the PSK callback's key cannot be used: {error.reason}") from error
