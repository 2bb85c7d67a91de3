"""Raw public keys on the command line (RFC 7250): which are trusted, and our own without its certificate."""

from __future__ import annotations

from pathlib import Path

from pellucid.cli.common import CommandFailed
from pellucid.config import Credential
from pellucid.errors import UsageError
from pellucid.net.load import load_raw_public_keys, read_pem
from pellucid.registry import CertificateType
from pellucid.verify import PeerVerifier, RawPublicKeyVerifier, TrustStore, WebPKIVerifier, either
from pellucid.verify.revocation import DEFAULT_REVOCATION, RevocationPolicy

__all__ = ["own_raw_public_key", "verifier_of"]


def verifier_of(
    path: str, trust: TrustStore | None, revocation: RevocationPolicy | None
) -> tuple[PeerVerifier, tuple[int, ...]]:
    """Return the verifier of the raw public keys in the file, beside *trust* if it is given, and what it takes.

    revocation: for certificates; raw public keys are not revoked.
    Raises CommandFailed (77, or 2).
    """
    try:
        keys: RawPublicKeyVerifier = load_raw_public_keys(path)
    except UsageError as error:
        raise CommandFailed(error.reason, code=77) from error
    if trust is None:
        if revocation is not None:
            raise CommandFailed("there are CRLs and OCSP for certificates only, and only raw keys are trusted", code=2)
        return keys, (CertificateType.RAW_PUBLIC_KEY,)
    certificates = WebPKIVerifier(trust, revocation=revocation or DEFAULT_REVOCATION)
    return either(certificates, keys), (CertificateType.RAW_PUBLIC_KEY, CertificateType.X509)


def own_raw_public_key(key: str | None, password: str | None) -> Credential:
    """Return what shows the public half of --key, which needs no certificate. Raises CommandFailed (58, or 2)."""
    if not key:
        raise CommandFailed("--raw-public-key needs --key or --cert: there is no key to show", code=2)
    try:
        return Credential.raw_public_key(read_pem(Path(key)), password.encode() if password else None)
    except UsageError as error:
        raise CommandFailed(f"{key}: {error.reason}", code=58) from error
