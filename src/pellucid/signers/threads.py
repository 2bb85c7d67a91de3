"""A signer that is asked in a thread, where an event loop must not wait: for an HSM, a key agent, a cloud's KMS."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from pellucid.crypto.provider import Signer
from pellucid.errors import InternalError

__all__ = ["InThread"]


class InThread:
    """Asks *signer* in a worker thread: the connection pauses and others go on.

    For `pellucid.asyncio` and `pellucid.aio`, on asyncio and trio; where nothing awaits, use *signer* itself.
    """

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    @property
    def schemes(self) -> tuple[int, ...]:
        """What the signer can sign with, preferred first."""
        return self._signer.schemes

    def sign(self, scheme: int, data: bytes) -> Awaitable[bytes]:
        """Return the signature over *data*, to be awaited. Raises what the signer raises."""
        return self._sign(scheme, data)

    async def _sign(self, scheme: int, data: bytes) -> bytes:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            import anyio.to_thread  # noqa: PLC0415  # trio: the extra `aio` is there

            signature = await anyio.to_thread.run_sync(self._signer.sign, scheme, data)
        else:
            signature = await asyncio.to_thread(self._signer.sign, scheme, data)
        if not isinstance(signature, bytes):
            raise InternalError("a signer that is asked in a thread answers with the signature")
        return signature

    def __repr__(self) -> str:
        return f"InThread({self._signer!r})"
