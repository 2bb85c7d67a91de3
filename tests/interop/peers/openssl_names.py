"""How OpenSSL and what is built on it spell things, and what which version of it lacks."""

from __future__ import annotations

import re
from typing import Final

from tests.interop.names import HYBRIDS, MLDSA

_POST_QUANTUM_SINCE: Final = (3, 5)
_NORMAL: Final = {
    "x25519": "x25519",
    "x448": "x448",
    "p-256": "secp256r1",
    "prime256v1": "secp256r1",
    "secp256r1": "secp256r1",
    "p-384": "secp384r1",
    "secp384r1": "secp384r1",
    "p-521": "secp521r1",
    "secp521r1": "secp521r1",
    "x25519mlkem768": "X25519MLKEM768",
    "secp256r1mlkem768": "SecP256r1MLKEM768",
    "secp384r1mlkem1024": "SecP384r1MLKEM1024",
}
_SPELLED: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521", "x25519": "X25519", "x448": "X448"}


def group_list(groups: tuple[str, ...]) -> str:
    """Return *groups* for SSL_CTX_set1_groups_list, e.g. "X25519:P-256"."""
    return ":".join(_SPELLED.get(group, group) for group in groups)


def group_name(text: str) -> str | None:
    """Return our name of a group that some program printed, whatever the spelling; None if it is none of ours."""
    return _NORMAL.get(text.strip().lower())


def temporary_key(text: str) -> str | None:
    """Return the group that `openssl s_client` or `s_server` says was used, None if it does not."""
    found = re.search(r"(?:Temp Key: (?:ECDH, )?|Negotiated TLS1\.3 group: )([\w-]+)", text)
    return group_name(found.group(1)) if found else None


def lacks(version: tuple[int, ...]) -> dict[str, str]:
    """Return what OpenSSL *version* has not got."""
    if version >= _POST_QUANTUM_SINCE:
        return {}
    reason = f"OpenSSL {'.'.join(map(str, version))} has no hybrid groups and no ML-DSA: 3.5 brought them"
    return {
        **{f"group:{group}": reason for group in HYBRIDS},
        **{f"credential:{name}": reason for name in MLDSA},
    }
