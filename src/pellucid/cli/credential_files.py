"""Certificates and keys that the commands are given as files: read, and checked before anything is served with them."""

from __future__ import annotations

import datetime
from pathlib import Path

from pellucid.cli.common import CommandFailed
from pellucid.config import Credential
from pellucid.crypto.certificates import X509Certificate
from pellucid.crypto.pyca import PYCA
from pellucid.errors import UsageError
from pellucid.net.load import read_pem
from pellucid.signers import credential_at, is_location

__all__ = ["check_dates", "load_credential"]


def load_credential(certificate: Path, key: str | Path | None, password: str | None) -> Credential:
    """Return the chain with its key: PEM, with the key in its own file or the same, or PKCS#12.

    key: a file, or where a key is that is in none: "agent:SOCKET", "pkcs11:…".
    Raises CommandFailed (58): a file cannot be read, is not what it should be, or the two are no pair.
    """
    secret = password.encode() if password else None
    try:
        data = read_pem(certificate)
        if isinstance(key, str) and is_location(key):
            return credential_at(key, data)
        if b"-----BEGIN " in data:
            return Credential.from_pem(data, None if key is None else read_pem(key), secret)
        if key is not None:
            raise UsageError(f"{certificate} is not PEM; PKCS#12 holds its key itself")
        return Credential.from_pkcs12(data, secret)
    except UsageError as error:
        hints = ("give the private key's password: --pass",) if "assword" in error.reason and not password else ()
        where = "" if str(certificate) in error.reason or (key and str(key) in error.reason) else f"{certificate}: "
        raise CommandFailed(f"{where}{error.reason}", code=58, hints=hints) from error


def check_dates(credential: Credential, what: object) -> None:
    """Raise CommandFailed (58) if the credential's certificate is not valid now. A raw public key always is."""
    now = datetime.datetime.fromtimestamp(PYCA.now(), datetime.UTC)
    if not isinstance(credential.leaf, X509Certificate):
        return
    leaf = credential.leaf.x509
    if now > leaf.not_valid_after_utc:
        raise CommandFailed(
            f"{what}: the certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: nobody would accept it",
            code=58,
            hints=("renew it, or leave --cert out for a development certificate",),
        )
    if now < leaf.not_valid_before_utc:
        raise CommandFailed(
            f"{what}: the certificate is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
            code=58,
            hints=("check this machine's clock",),
        )
