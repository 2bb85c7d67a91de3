"""Sessions to put into stores and tickets: every field filled, changed by keyword."""

from __future__ import annotations

import dataclasses
from typing import Any

from pellucid.crypto.provider import CryptoProvider
from pellucid.crypto.pyca import PYCA
from pellucid.registry import CipherSuite, SignatureScheme
from pellucid.sessions import ClientSession, ServerSession, SessionKey

NOW = 1_790_000_000.25
PSK = bytes(range(100, 132))


def client_session(**changes: Any) -> ClientSession:
    values: dict[str, Any] = {
        "ticket": b"ticket",
        "psk": PSK,
        "cipher_suite": CipherSuite.TLS_AES_128_GCM_SHA256,
        "received_at": NOW,
        "lifetime_seconds": 86_400,
        "age_add": 0xFFFFFFF0,
        "max_early_data_size": 16_384,
        "alpn": "h2",
        "signature_scheme": SignatureScheme.ECDSA_SECP256R1_SHA256,
        "authenticated_at": NOW - 10,
        "leaf": b"leaf",
        "intermediates": (b"intermediate 1", b"intermediate 2"),
        "path": (b"leaf", b"intermediate 1", b"root"),
        "certificate_type": 0,
        "ocsp_response": b"response",
        "scts": (b"sct 1", b"sct 2"),
        "local_certificates": (b"own leaf",),
    }
    return ClientSession(**values | changes)


def server_session(**changes: Any) -> ServerSession:
    values: dict[str, Any] = {
        "cipher_suite": CipherSuite.TLS_AES_256_GCM_SHA384,
        "psk": bytes(range(48)),
        "issued_at": NOW,
        "lifetime_seconds": 86_400,
        "age_add": 7,
        "authenticated_at": NOW,
        "server_name": "example.org",
        "alpn": "http/1.1",
        "binding": b"b" * 32,
        "max_early_data_size": 16_384,
        "client_chain": (b"leaf", b"intermediate", b"root"),
        "client_certificate_type": 0,
        "client_signature_scheme": SignatureScheme.ED25519,
        "client_presented": (b"leaf", b"intermediate", b"another"),
    }
    return ServerSession(**values | changes)


def session_key(host: str = "example.org", port: int = 443, scope: bytes = b"s" * 32) -> SessionKey:
    return SessionKey(host=host, port=port, scope=scope)


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    @property
    def provider(self) -> CryptoProvider:
        return dataclasses.replace(PYCA, now=self)
