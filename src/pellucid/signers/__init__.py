"""Private keys that live elsewhere: in a process of their own, in a token, behind anything that signs.

A signer is anything with `schemes` and `sign(scheme, data)`, sync or async (`pellucid.crypto.provider.Signer`). An
agent's process needs a POSIX system, `pellucid.signers.pkcs11` the extra `pkcs11`: they are loaded when asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from pellucid.config import Credential
from pellucid.crypto.provider import Signer
from pellucid.errors import UsageError
from pellucid.signers.agent import KeyAgent, signers_of, signers_of_keys
from pellucid.signers.remote import AgentSigner, agent_credential
from pellucid.signers.threads import InThread

if TYPE_CHECKING:
    from pellucid.signers.process import AgentProcess as AgentProcess
    from pellucid.signers.process import AgentSettings as AgentSettings
    from pellucid.signers.process import run_agent as run_agent

__all__ = [
    "AgentProcess",
    "AgentSettings",
    "AgentSigner",
    "InThread",
    "KeyAgent",
    "Signer",
    "agent_credential",
    "credential_at",
    "is_location",
    "run_agent",
    "signers_of",
    "signers_of_keys",
]

_AGENT: Final = "agent:"
_PKCS11: Final = "pkcs11:"
_PROCESS: Final = frozenset({"AgentProcess", "AgentSettings", "run_agent"})


def __getattr__(name: str) -> object:
    if name not in _PROCESS:
        raise AttributeError(f"module 'pellucid.signers' has no attribute {name!r}")
    return getattr(importlib.import_module("pellucid.signers.process"), name)


def is_location(key: str) -> bool:
    """Return whether *key* says where a key is that is in no file: "agent:SOCKET" or a PKCS#11 URI (RFC 7512)."""
    return key.startswith((_AGENT, _PKCS11))


def credential_at(location: str, chain: bytes) -> Credential:
    """Return the credential of a certificate whose key is at *location*: "agent:SOCKET" or a PKCS#11 URI.

    chain: PEM text. Raises UsageError, as for a token without the extra `pkcs11`.
    """
    if location.startswith(_AGENT):
        return agent_credential(location.removeprefix(_AGENT), chain)
    if not location.startswith(_PKCS11):
        raise UsageError("a key that is in no file is at agent:SOCKET or pkcs11:…")
    try:
        module = importlib.import_module("pellucid.signers.pkcs11")
    except ImportError as error:
        if (error.name or "").startswith("pellucid"):
            raise
        raise UsageError("a key in a PKCS#11 token needs python-pkcs11: pip install 'pellucid[pkcs11]'") from error
    credential: Credential = module.pkcs11_credential(location, chain)
    return credential
