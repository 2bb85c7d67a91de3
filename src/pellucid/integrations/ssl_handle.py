"""What programs find behind `_sslobj`: the facts of a connection, and its certificates as objects.

In `ssl` that is the object of the C module. httpcore looks there for what was agreed on, others for the chains.
"""

from __future__ import annotations

import hashlib
import ssl
from typing import TYPE_CHECKING, Any, Final

from pellucid.crypto.certificates import PARSE_ERRORS, parse_certificate
from pellucid.errors import PeerError
from pellucid.integrations.ssl_certificate import certificate_dict
from pellucid.integrations.ssl_engine import Engine, Facts

if TYPE_CHECKING:
    from pellucid.integrations.ssl_context import SSLContext

__all__ = ["Handle", "PeerCertificate"]

_PEM: Final = 1  # _ssl.ENCODING_PEM
_DER: Final = 2  # _ssl.ENCODING_DER


class PeerCertificate:
    """One certificate of a chain, shaped like `_ssl.Certificate`."""

    __slots__ = ("_der",)

    def __init__(self, der: bytes) -> None:
        self._der = der

    def public_bytes(self, format: int = _PEM) -> str | bytes:  # noqa: A002  # as there
        """Return the certificate: text for `_ssl.ENCODING_PEM`, bytes for `_ssl.ENCODING_DER`."""
        if format == _PEM:
            return ssl.DER_cert_to_PEM_cert(self._der)
        if format == _DER:
            return self._der
        raise ValueError("Unsupported format")

    def get_info(self) -> dict[str, Any]:  # Any: see certificate_dict
        return certificate_dict(parse_certificate(self._der))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PeerCertificate) and self._der == other._der

    def __hash__(self) -> int:
        return hash(self._der)

    def __repr__(self) -> str:
        try:
            name = parse_certificate(self._der).x509.subject.rfc4514_string()
        except (PeerError, *PARSE_ERRORS):
            name = f"sha256:{hashlib.sha256(self._der).hexdigest()}"
        return f"<pellucid certificate {name!r}>"


class Handle(Facts):
    """The facts of one connection, for who asks for them behind its object's back."""

    def __init__(self, engine: Engine, owner: Facts) -> None:
        self._engine = engine
        self.owner = owner
        self.server_side = owner.server_side
        self.server_hostname = owner.server_hostname

    @property
    def context(self) -> SSLContext:
        return self._tls.context

    def get_verified_chain(self) -> list[Any]:  # PeerCertificate here, bytes in Facts: `ssl` has both
        return [PeerCertificate(der) for der in super().get_verified_chain()]

    def get_unverified_chain(self) -> list[Any]:  # see get_verified_chain
        return [PeerCertificate(der) for der in self.owner.get_unverified_chain()]
