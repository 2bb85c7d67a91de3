"""Intermediates that the peer did not send: given here, or fetched. Paths may lead over them; nobody trusts them."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from pellucid.crypto.certificates import PARSE_ERRORS
from pellucid.errors import UsageError
from pellucid.verify.paths import Candidate
from pellucid.verify.trust import certificates_in_pem

__all__ = ["certificates_in_reply", "load_certificate", "supplied_intermediates", "useful_intermediates"]

_MAX_USED: Final = 16  # of those supplied, for one verification: each is a step that a path may take
_MAX_IN_REPLY: Final = 16


@functools.lru_cache(maxsize=256)  # the same intermediates come from many servers; parsing judges nothing
def load_certificate(der: bytes) -> x509.Certificate:
    """Return the certificate, parsed. Raises PARSE_ERRORS."""
    return x509.load_der_x509_certificate(der)


def supplied_intermediates(certificates: bytes | Iterable[bytes], place: str) -> tuple[Candidate, ...]:
    """Return *certificates*, each DER or PEM of any number, as candidates. Raises UsageError for what is none."""
    texts = (certificates,) if isinstance(certificates, bytes) else tuple(certificates)
    found: dict[bytes, Candidate] = {}
    for text in texts:
        ders = certificates_in_pem(text) if b"-----BEGIN" in text else [text]
        if not ders:
            raise UsageError("there is no certificate in a PEM text of intermediates")
        for der in ders:
            try:
                found[der] = Candidate(load_certificate(der), None, der, place=place)
            except PARSE_ERRORS as error:
                raise UsageError(f"an intermediate cannot be parsed: {error}") from error
    return tuple(found.values())


def useful_intermediates(supplied: tuple[Candidate, ...], there: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    """Return those of *supplied* that may have issued one of *there*, or one of those again; at most 16."""
    if not supplied:
        return ()
    have = {one.der for one in there}
    wanted = {one.issuer for one in there}
    useful: list[Candidate] = []
    left = [one for one in supplied if one.der not in have]
    while len(useful) < _MAX_USED:
        found = [one for one in left if one.subject in wanted]
        if not found:
            break
        useful += found
        left = [one for one in left if one not in found]
        wanted = {one.issuer for one in found}
    return tuple(useful[:_MAX_USED])


def certificates_in_reply(data: bytes) -> tuple[bytes, ...]:
    """Return the DER of the certificates that *data* holds, fetched from where a certificate names its issuer's.

    One certificate in DER, or "certs-only" CMS in DER or BER (RFC 5280 §4.2.2.1); PEM too, which some CAs serve. At
    most 16. Raises ValueError for anything else.
    """
    if b"-----BEGIN CERTIFICATE" in data[:4096]:
        ders = certificates_in_pem(data)
        found = [_checked(der) for der in ders[:_MAX_IN_REPLY]]
    else:
        try:
            found = [_checked(data)]
        except ValueError as not_one:
            try:
                held = pkcs7.load_der_pkcs7_certificates(data)[:_MAX_IN_REPLY]
            except Exception as error:
                raise ValueError(f"neither a certificate nor certs-only CMS: {not_one}") from error
            found = [one.public_bytes(Encoding.DER) for one in held]
    if not found:
        raise ValueError("there is no certificate in it")
    return tuple(dict.fromkeys(found))


def _checked(der: bytes) -> bytes:
    try:
        load_certificate(der)
    except PARSE_ERRORS as error:
        raise ValueError(str(error)) from error
    return der
