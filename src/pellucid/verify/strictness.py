"""How strictly certificates are judged: a name for every check that may be given up. Nothing is judged here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["DEFAULT_STRICTNESS", "Strictness"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strictness:
    """What a WebPKIVerifier gives up of what it demands. What begins with `dangerous_` lets others pose as the peer.

    dangerous_skip_name_check: believe any certificate of a trusted CA, whoever it names: with a public CA that is
                               anybody with a domain. The server's name may be missing then.
    """

    dangerous_skip_name_check: bool = False

    @property
    def session_identity(self) -> bytes:
        """What sessions are bound to: none outlives the strictness under which its peer was accepted."""
        return repr(self).encode()


DEFAULT_STRICTNESS: Final = Strictness()
"""What browsers and OpenSSL demand in common"""
