"""The names and code points the matrix speaks of. Independent of Pellucid's own tables, on purpose."""

from __future__ import annotations

from typing import Final

SUITES: Final = {
    "TLS_AES_128_GCM_SHA256": 0x1301,
    "TLS_AES_256_GCM_SHA384": 0x1302,
    "TLS_CHACHA20_POLY1305_SHA256": 0x1303,
    "TLS_AES_128_CCM_SHA256": 0x1304,
    "TLS_AES_128_CCM_8_SHA256": 0x1305,
}
GROUPS: Final = {
    "secp256r1": 0x0017,
    "secp384r1": 0x0018,
    "secp521r1": 0x0019,
    "x25519": 0x001D,
    "x448": 0x001E,
    "SecP256r1MLKEM768": 0x11EB,
    "X25519MLKEM768": 0x11EC,
    "SecP384r1MLKEM1024": 0x11ED,
}
CREDENTIALS: Final = (
    "ecdsa-p256",
    "ecdsa-p384",
    "ecdsa-p521",
    "rsa-2048",
    "rsa-pss",
    "ed25519",
    "ed448",
    "mldsa44",
    "mldsa65",
    "mldsa87",
)

# Reasons that several peers share: the report says each once, with the cells it is for.
NO_CCM: Final = "has no CCM suites in TLS 1.3"
NO_ED448: Final = "has no Ed448"
NO_HYBRID: Final = "has no such hybrid group"
NO_MLDSA: Final = "has no ML-DSA certificates"
NO_RSASSA_PSS: Final = "does not take keys with id-RSASSA-PSS"
NO_X448: Final = "has no X448"
NO_KEY_UPDATE: Final = "answers a KeyUpdate, but has no call or command that sends one"
NO_EARLY_DATA: Final = "has no call that sends or takes 0-RTT data"
NO_PSK: Final = "has no external PSKs in TLS 1.3"

HYBRIDS: Final = ("X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024")
CCM: Final = ("TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256")
MLDSA: Final = ("mldsa44", "mldsa65", "mldsa87")
PSKS: Final = ("psk:psk_dhe_ke", "psk:psk_ke")
