"""What the parameters of an RSASSA-PSS key restrict it to (RFC 4055 §1.2, §3.1): pyca/cryptography reads over them.

They stand in the certificate's DER, which the library has parsed by then: what is malformed does not come here.
"""

from __future__ import annotations

from typing import Final

_HASHES: Final = {
    bytes.fromhex("608648016503040201"): ("sha256", 32),
    bytes.fromhex("608648016503040202"): ("sha384", 48),
    bytes.fromhex("608648016503040203"): ("sha512", 64),
}
_MGF1: Final = bytes.fromhex("2a864886f70d010108")
_DEFAULT_SALT: Final = 20
_HASH, _MASK, _SALT = 0xA0, 0xA1, 0xA2
_EXPLICIT_VERSION: Final = 0xA0
_BEFORE_KEY: Final = 5
"""serialNumber, signature, issuer, validity, subject: what stands before subjectPublicKeyInfo"""

NO_SCHEME: Final = ""


def key_restriction(tbs_certificate: bytes) -> str | None:
    """Return the one hash that the key of this TBSCertificate, in DER, signs with; None if it has no parameters.

    "sha256", "sha384", "sha512", or NO_SCHEME where no scheme of TLS has such parameters: another hash, another mask,
    a least salt that is longer than the digest. No parameters inside means SHA-1.
    """
    fields = _elements(_elements(tbs_certificate)[0][1])
    if fields[0][0] == _EXPLICIT_VERSION:
        fields = fields[1:]
    algorithm = _elements(_elements(fields[_BEFORE_KEY][1])[0][1])
    if len(algorithm) == 1:
        return None
    parameters = {tag: _elements(value)[0][1] for tag, value in _elements(algorithm[1][1])}
    if _HASH not in parameters or _MASK not in parameters:
        return NO_SCHEME
    digest = _elements(parameters[_HASH])[0][1]
    mask, *of_mask = _elements(parameters[_MASK])
    name, length = _HASHES.get(digest, (NO_SCHEME, 0))
    if mask[1] != _MGF1 or not of_mask or _elements(of_mask[0][1])[0][1] != digest:
        return NO_SCHEME
    salt = int.from_bytes(parameters[_SALT], "big") if _SALT in parameters else _DEFAULT_SALT
    return name if salt <= length else NO_SCHEME


def _elements(der: bytes) -> list[tuple[int, bytes]]:
    """Return tag and content of each element in *der*."""
    found, at = [], 0
    while at < len(der):
        tag, size = der[at], der[at + 1]
        at += 2
        if size & 0x80:
            width = size & 0x7F
            size = int.from_bytes(der[at : at + width], "big")
            at += width
        found.append((tag, der[at : at + size]))
        at += size
    return found
