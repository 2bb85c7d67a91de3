"""How secrets are shown: by their fingerprints, and whole only to whoever asked for that."""

from __future__ import annotations

from typing import NamedTuple

from pellucid.trace import Secret

__all__ = ["Shown"]


class Shown(NamedTuple):
    """reveal: whether secrets may stand in the output themselves."""

    reveal: bool = False

    def text(self, secret: Secret) -> str:
        """Return "fingerprint 0011223344556677", with the value after it if that is wanted."""
        value = f" = {secret.reveal().hex()}" if self.reveal else ""
        return f"fingerprint {secret.fingerprint()}{value}"

    def to_dict(self, secret: Secret) -> dict[str, object]:
        """Return the secret for JSON. value: hex, only if revealed."""
        shown: dict[str, object] = {"bytes": len(secret), "fingerprint": secret.fingerprint()}
        if self.reveal:
            shown["value"] = secret.reveal().hex()
        return shown
