"""What `pellucid serve` shows its clients: certificates from files, raw public keys, or a development certificate."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pellucid.cli.common import CommandFailed
from pellucid.cli.credential_files import check_dates, load_credential
from pellucid.cli.development_ca import DevelopmentCA
from pellucid.cli.raw_keys import own_raw_public_key
from pellucid.config import Credential
from pellucid.crypto import own_chain
from pellucid.errors import UsageError
from pellucid.net.load import ocsp_file
from pellucid.testing.ca import Issued

__all__ = ["development_leaf", "of_leaf", "server_credentials"]


def server_credentials(
    options: Mapping[str, Any], *, again: bool = False
) -> tuple[tuple[Credential, ...], DevelopmentCA | None]:
    """Return what is shown, preferred first, and who made it if it is a development certificate.

    With --raw-public-key the keys themselves are shown too, to those who take one.
    again: whether a server runs with them already. Then an OCSP response that is for another certificate, as when one
           of the two is renewed before the other, is not stapled; else it is refused. Raises CommandFailed.
    """
    certificates, keys = options["cert"], options["key"]
    if not certificates and keys:
        if not options["raw_public_key"]:
            raise CommandFailed("--key needs --cert, or --raw-public-key", code=2)
        return tuple(own_raw_public_key(key, options["password"]) for key in keys), None
    credentials, authority = _credentials(options, again=again)
    return _with_raw(credentials, options), authority


def development_leaf(options: Mapping[str, Any]) -> tuple[Issued | None, DevelopmentCA | None]:
    """Return a development certificate with its key, and its CA, where `server_credentials` would make one; else None.

    For a server of several processes: all of them show the same.
    """
    if options["cert"] or options["key"] or options["ocsp"]:
        return None, None
    authority = DevelopmentCA.open()
    return authority.issue(*_hosts(options)), authority


def of_leaf(chain_pem: bytes, key_pem: bytes, options: Mapping[str, Any]) -> tuple[Credential, ...]:
    """Return what is shown where `development_leaf` gave these."""
    return _with_raw((Credential.from_pem(chain_pem, key_pem),), options)


def _with_raw(credentials: tuple[Credential, ...], options: Mapping[str, Any]) -> tuple[Credential, ...]:
    raw = tuple(one.as_raw_public_key() for one in credentials) if options["raw_public_key"] else ()
    return (*raw, *credentials)


def _hosts(options: Mapping[str, Any]) -> list[str]:
    return [] if _is_wildcard(options["host"]) else [options["host"]]


def _credentials(options: Mapping[str, Any], *, again: bool) -> tuple[tuple[Credential, ...], DevelopmentCA | None]:
    certificates, keys, staple = options["cert"], options["key"], options["ocsp"]
    if keys and len(keys) != len(certificates):
        raise CommandFailed("--key is given once for each --cert, in the same order, or not at all", code=2)
    if staple and len(certificates) != 1:
        why = "nobody answers for development certificates" if not certificates else "it answers for one"
        raise CommandFailed(f"--ocsp needs --cert, once: {why}", code=2)
    if not certificates:
        authority = DevelopmentCA.open()
        return (authority.credential(*_hosts(options)),), authority
    credentials = []
    for number, file in enumerate(certificates):
        credential = load_credential(Path(file), keys[number] if keys else None, options["password"])
        check_dates(credential, file)
        credentials.append(_stapling(credential, staple, again=again) if staple else credential)
    return tuple(credentials), None


def _stapling(credential: Credential, path: str, *, again: bool) -> Credential:
    given = _ocsp_file(path)
    try:
        ours = own_chain.read_staple(given() or b"").serial == own_chain.serial_of(credential.chain)
        why = "" if ours else "it is for another certificate"
    except UsageError as error:
        why = error.reason
    if not why:
        return replace(credential, ocsp_response=given)
    if again:
        return credential
    raise CommandFailed(f"{path}: the OCSP response cannot be stapled: {why}", code=26)


def _ocsp_file(path: str) -> Callable[[], bytes | None]:
    try:
        return ocsp_file(path)
    except UsageError as error:
        raise CommandFailed(error.reason, code=26) from error


def _is_wildcard(host: str) -> bool:
    try:
        return not host or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
