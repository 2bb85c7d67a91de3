"""A CA and a leaf of it, in files, for the tests that start a peer's program themselves."""

from __future__ import annotations

from pathlib import Path

from pellucid.config import Credential
from pellucid.testing.ca import CA

HOST = "localhost"


class Files:
    """A CA, and of it a leaf with its key that is good for both ends: chain, key and root in *folder*, as PEM."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = CA("Interop test root")
        self.leaf = self.ca.issue(HOST, "127.0.0.1", purposes=("server", "client"))
        self.chain, self.key, self.root = folder / "chain.pem", folder / "key.pem", folder / "root.pem"
        self.chain.write_bytes(self.leaf.chain_pem)
        self.key.write_bytes(self.leaf.key_pem)
        self.root.write_bytes(self.ca.root_pem)
        self.credential = Credential.from_pem(self.leaf.chain_pem, self.leaf.key_pem)
