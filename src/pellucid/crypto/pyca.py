"""The default provider: pyca/cryptography ≥ 50.0.2 for algorithms, hashlib for hashes, the system for entropy and time.

The one file of the core that asks the operating system for randomness and the time.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from pellucid.crypto.certificates import parse_certificate, parse_raw_public_key
from pellucid.crypto.groups import GROUPS
from pellucid.crypto.provider import AEAD, CryptoProvider, NewHash, Suite
from pellucid.crypto.signatures import VERIFIERS
from pellucid.limits import CCM_REKEY_AFTER_RECORDS, REKEY_AFTER_RECORDS
from pellucid.registry import CipherSuite, suite_name


def _suite(
    code: int,
    hash_name: str,
    new_hash: NewHash,
    key_length: int,
    aead: Callable[[bytes], AEAD],
    *,
    tag_length: int = 16,
    rekey_after: int | None = REKEY_AFTER_RECORDS,
) -> Suite:
    return Suite(
        code=code,
        name=suite_name(code),
        hash_name=hash_name,
        hash_length=len(new_hash().digest()),
        key_length=key_length,
        tag_length=tag_length,
        aead=aead,
        new_hash=new_hash,
        rekey_after=rekey_after,
    )


def _ccm_8(key: bytes) -> AEAD:
    return AESCCM(key, tag_length=8)


SUITES: Final = (
    _suite(CipherSuite.TLS_AES_128_GCM_SHA256, "sha256", hashlib.sha256, 16, AESGCM),
    _suite(CipherSuite.TLS_AES_256_GCM_SHA384, "sha384", hashlib.sha384, 32, AESGCM),
    _suite(CipherSuite.TLS_CHACHA20_POLY1305_SHA256, "sha256", hashlib.sha256, 32, ChaCha20Poly1305, rekey_after=None),
    _suite(
        CipherSuite.TLS_AES_128_CCM_SHA256, "sha256", hashlib.sha256, 16, AESCCM, rekey_after=CCM_REKEY_AFTER_RECORDS
    ),
    _suite(
        CipherSuite.TLS_AES_128_CCM_8_SHA256,
        "sha256",
        hashlib.sha256,
        16,
        _ccm_8,
        tag_length=8,
        rekey_after=CCM_REKEY_AFTER_RECORDS,
    ),
)

PYCA: Final = CryptoProvider(
    suites=SUITES,
    groups=GROUPS,
    verifiers=VERIFIERS,
    parse_certificate=parse_certificate,
    parse_raw_public_key=parse_raw_public_key,
    random=secrets.token_bytes,
    now=time.time,
    tag_error=InvalidTag,
    cookie_aead=AESGCM,
)
