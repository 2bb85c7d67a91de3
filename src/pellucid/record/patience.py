"""How often a peer may do what costs us work and brings nobody on (RFC 9846 §5, §6.1, §4.7): counted, then refused."""

from __future__ import annotations

from pellucid.errors import UnexpectedMessage
from pellucid.limits import (
    MAX_CERTIFICATE_REQUESTS,
    MAX_CHANGE_CIPHER_SPECS,
    MAX_KEY_UPDATES,
    MAX_TICKETS,
    MAX_USER_CANCELED_ALERTS,
)


class Patience:
    """What one peer has done in a row. Each method counts one, and raises UnexpectedMessage past its limit."""

    __slots__ = (
        "_certificate_requests",
        "_change_cipher_specs",
        "_key_updates",
        "_tickets",
        "_user_canceled",
        "tried",
    )

    def __init__(self) -> None:
        self._change_cipher_specs = 0
        self._user_canceled = 0
        self._key_updates = 0
        self._tickets = 0
        self._certificate_requests = 0
        self.tried = False
        """whether there is anything for `progress` to forget"""

    def progress(self) -> None:
        """Application data came: what is counted between two records of it begins anew."""
        self._key_updates = self._tickets = self._certificate_requests = 0
        self.tried = False

    def change_cipher_spec(self) -> None:
        self._change_cipher_specs += 1
        if self._change_cipher_specs > MAX_CHANGE_CIPHER_SPECS:
            raise UnexpectedMessage(
                f"more than {MAX_CHANGE_CIPHER_SPECS} change_cipher_spec", rfc="9846 §5", code="TLS-MESSAGE-FLOOD"
            )

    @property
    def canceled(self) -> bool:
        """Whether the peer said that its user gave up."""
        return self._user_canceled > 0

    def user_canceled(self) -> None:
        self._user_canceled += 1
        if self._user_canceled > MAX_USER_CANCELED_ALERTS:
            raise UnexpectedMessage(
                f"more than {MAX_USER_CANCELED_ALERTS} user_canceled", rfc="9846 §6.1", code="TLS-MESSAGE-FLOOD"
            )

    def key_update(self) -> None:
        self.tried = True
        self._key_updates += 1
        if self._key_updates > MAX_KEY_UPDATES:
            raise UnexpectedMessage(
                f"more than {MAX_KEY_UPDATES} KeyUpdates without data", rfc="9846 §4.7.3", code="TLS-KEY-UPDATE-FLOOD"
            )

    def ticket(self) -> None:
        self.tried = True
        self._tickets += 1
        if self._tickets > MAX_TICKETS:
            raise UnexpectedMessage(
                f"more than {MAX_TICKETS} tickets in a row", rfc="9846 §4.7.1", code="TLS-MESSAGE-FLOOD"
            )

    def certificate_request(self) -> None:
        self.tried = True
        self._certificate_requests += 1
        if self._certificate_requests > MAX_CERTIFICATE_REQUESTS:
            raise UnexpectedMessage(
                f"more than {MAX_CERTIFICATE_REQUESTS} CertificateRequests without data",
                rfc="9846 §4.7.2",
                code="TLS-MESSAGE-FLOOD",
            )
