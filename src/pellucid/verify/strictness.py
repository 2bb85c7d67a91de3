"""How strictly certificates are judged: a name for every check that is asked for beside, or given up. A value alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pellucid.errors import UsageError
from pellucid.limits import MAX_RSA_BITS, MIN_RSA_BITS

__all__ = ["DEFAULT_STRICTNESS", "Strictness"]

_MAX_SCTS: Final = 100
_MAX_DAYS: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Strictness:
    """What a WebPKIVerifier demands beside what is usual, and what it gives up of that.

    As it is without any, it takes what broke under Python 3.13's VERIFY_X509_STRICT: CAs without keyUsage or key
    identifiers, basicConstraints that is not critical, leaves without authorityKeyIdentifier.

    Stricter; the path that was found must fulfil them, and no other is looked for:
    conforming_issuers:   everything that RFC 5280 has CAs do, as OpenSSL's X509_V_FLAG_X509_STRICT: see `tighter.py`.
    require_extended_key_usage: the leaf says what it is for; one that says nothing is refused.
    max_lifetime_days:    of the leaf, both ends counted; 398 is what public CAs may issue. None: any.
    min_rsa_bits:         of every RSA key on the path, the root's too; 2048..8192.
    min_scts:             of the leaf, embedded or sent, each of another log. They are counted, not verified.

    Laxer; each for certificates that there are, and that name their peer all the same:
    allow_any_criticality: authorityKeyIdentifier, subjectKeyIdentifier, authorityInfoAccess and the leaf's
                          extendedKeyUsage may be marked critical: they are processed either way.
    allow_ca_leaf:        the leaf may be a CA, with its key usage, without being trusted itself.
    allow_leaf_without_digital_signature: as of RSA keys for encipherment alone; RFC 9846 §4.5.1.2 wants it.
    allow_any_purpose_leaf: anyExtendedKeyUsage in the leaf includes the purpose.

    Dangerous; each lets somebody else pose as the peer:
    dangerous_skip_name_check: believe any certificate of a trusted CA, whoever it names: with a public CA that is
                          anybody with a domain. The server's name may be missing then.
    dangerous_skip_purpose: extendedKeyUsage is not looked at: a server may show a certificate that is for signing mail.
    dangerous_skip_dates: believe certificates before their time and after: a key that leaked counts for ever. There
                          must be one moment at which the whole path was valid.
    """

    conforming_issuers: bool = False
    require_extended_key_usage: bool = False
    max_lifetime_days: int | None = None
    min_rsa_bits: int = MIN_RSA_BITS
    min_scts: int = 0
    allow_any_criticality: bool = False
    allow_ca_leaf: bool = False
    allow_leaf_without_digital_signature: bool = False
    allow_any_purpose_leaf: bool = False
    dangerous_skip_name_check: bool = False
    dangerous_skip_purpose: bool = False
    dangerous_skip_dates: bool = False

    def __post_init__(self) -> None:
        if not MIN_RSA_BITS <= self.min_rsa_bits <= MAX_RSA_BITS:
            raise UsageError(f"min_rsa_bits is {self.min_rsa_bits}; {MIN_RSA_BITS} to {MAX_RSA_BITS} are possible")
        if not 0 <= self.min_scts <= _MAX_SCTS:
            raise UsageError(f"min_scts is {self.min_scts}; 0 to {_MAX_SCTS} are possible")
        if self.max_lifetime_days is not None and not 1 <= self.max_lifetime_days <= _MAX_DAYS:
            raise UsageError(f"max_lifetime_days is {self.max_lifetime_days}; 1 to {_MAX_DAYS} are possible")

    @property
    def session_identity(self) -> bytes:
        """What sessions are bound to: none outlives the strictness under which its peer was accepted."""
        return repr(self).encode()

    @property
    def is_tighter(self) -> bool:
        """Whether anything is demanded beside what is usual."""
        return (
            self.conforming_issuers
            or self.require_extended_key_usage
            or self.max_lifetime_days is not None
            or self.min_rsa_bits > MIN_RSA_BITS
            or self.min_scts > 0
        )


DEFAULT_STRICTNESS: Final = Strictness()
"""What browsers and OpenSSL demand in common"""
