"""Raw public keys on the command line (RFC 7250): which are trusted, and our own without its certificate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pellucid.cli.common import CommandFailed
from pellucid.config import Credential
from pellucid.errors import UsageError
from pellucid.net.load import load_raw_public_keys, read_pem
from pellucid.registry import CertificateType
from pellucid.verify import PeerVerifier, RawPublicKeyVerifier, TrustStore, WebPKIVerifier, either

__all__ = ["own_raw_public_key", "verifier_of"]


def verifier_of(path: str, trust: TrustStore | None) -> tuple[PeerVerifier, tuple[int, ...]]:
    """Return the verifier of the raw public keys in the file, beside *trust* if it is given, and what it takes.

    Raises CommandFailed (77).
    """
    try:
        keys: RawPublicKeyVerifier = load_raw_public_keys(path)
    except UsageError as error:
        raise CommandFailed(error.reason, code=77) from error
    if trust is None:
        return keys, (CertificateType.RAW_PUBLIC_KEY,)
    return either(WebPKIVerifier(trust), keys), (CertificateType.RAW_PUBLIC_KEY, CertificateType.X509)


def own_raw_public_key(options: Mapping[str, Any]) -> Credential:  # Any: click's options, each of its own type
    """Return what shows the public half of --key, which needs no certificate. Raises CommandFailed (58, or 2)."""
    if not options["key"]:
        raise CommandFailed("--raw-public-key needs --key or --cert: there is no key to show", code=2)
    password = options["password"]
    try:
        return Credential.raw_public_key(read_pem(Path(options["key"])), password.encode() if password else None)
    except UsageError as error:
        raise CommandFailed(f"{options['key']}: {error.reason}", code=58) from error
