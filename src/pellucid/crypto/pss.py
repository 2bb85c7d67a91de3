"""What the parameters of an RSASSA-PSS key restrict it to (RFC 4055 §1.2, §3.1): pyca/cryptography reads over them.

They stand in DER that the library has parsed by then, of a certificate or of a key: what is malformed does not come
here.
"""

from __future__ import annotations

from typing import Final

from pellucid.crypto.der import SPKI, Element, elements, inside, tbs_fields

_HASHES: Final = {
    bytes.fromhex("608648016503040201"): ("sha256", 32),
    bytes.fromhex("608648016503040202"): ("sha384", 48),
    bytes.fromhex("608648016503040203"): ("sha512", 64),
}
_RSASSA_PSS: Final = bytes.fromhex("2a864886f70d01010a")
_MGF1: Final = bytes.fromhex("2a864886f70d010108")
_DEFAULT_SALT: Final = 20
_HASH, _MASK, _SALT = 0xA0, 0xA1, 0xA2

NO_SCHEME: Final = ""


def key_restriction(tbs_certificate: bytes) -> str | None:
    """Return the one hash that the key of this TBSCertificate, in DER, signs with; None if it has no parameters.

    "sha256", "sha384", "sha512", or NO_SCHEME where no scheme of TLS has such parameters: another hash, another mask,
    a least salt that is longer than the digest. No parameters inside means SHA-1.
    """
    return _restriction(_algorithm(tbs_fields(tbs_certificate)[SPKI].encoding))


def raw_key_restriction(spki: bytes) -> tuple[bool, str | None]:
    """Return whether this SubjectPublicKeyInfo, in DER, is of an RSASSA-PSS key, and its restriction as above."""
    algorithm = _algorithm(spki)
    restricted = algorithm[0].content == _RSASSA_PSS
    return restricted, _restriction(algorithm) if restricted else None


def _algorithm(spki: bytes) -> list[Element]:
    """Return the OID of a SubjectPublicKeyInfo's algorithm, and its parameters if there are any."""
    return inside(inside(spki)[0].encoding)


def _restriction(algorithm: list[Element]) -> str | None:
    if len(algorithm) == 1:
        return None
    parameters = {tag: _inner(content) for tag, content, _ in inside(algorithm[1].encoding)}
    if _HASH not in parameters or _MASK not in parameters:
        return NO_SCHEME
    digest = _inner(parameters[_HASH])
    mask, *of_mask = elements(parameters[_MASK])
    name, length = _HASHES.get(digest, (NO_SCHEME, 0))
    if mask.content != _MGF1 or not of_mask or _inner(of_mask[0].content) != digest:
        return NO_SCHEME
    salt = int.from_bytes(parameters[_SALT], "big") if _SALT in parameters else _DEFAULT_SALT
    return name if salt <= length else NO_SCHEME


def _inner(content: bytes) -> bytes:
    """Return the content of the first element in *content*."""
    first = next(elements(content), None)
    if first is None:
        raise ValueError("a parameter is empty")
    return first.content
