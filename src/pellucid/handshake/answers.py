"""An answer that is awaited: what a resolver, signer, verifier or store gave that is an `async def`, or a future.

The core awaits nothing. It hands the answer out with the pause, and whoever drives the connection awaits it.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator

from pellucid.crypto.provider import Pending
from pellucid.errors import UsageError

__all__ = ["Answering"]


class Answering(Awaitable[object]):
    """The answer to a pause, as something to await. Whoever was cancelled in it may await it once more.

    Then the question is asked again: a coroutine cannot be awaited twice. Raises what the answer raises.
    """

    __slots__ = ("_ask", "_first")

    def __init__(self, ask: Callable[[], object], first: Awaitable[object]) -> None:
        """ask: puts the question.   first: what it gave already."""
        self._ask = ask
        self._first: Awaitable[object] | None = first

    def __await__(self) -> Generator[object, None, object]:
        return self._wait().__await__()

    async def _wait(self) -> object:
        first, self._first = self._first, None
        answer = self._ask() if first is None else first
        if isinstance(answer, Pending):
            raise UsageError("what was an awaitable answer is PENDING, asked again")
        return await answer if inspect.isawaitable(answer) else answer

    def close(self) -> None:
        """Let go of an answer that nobody has awaited: the connection is over."""
        first, self._first = self._first, None
        if inspect.iscoroutine(first):
            first.close()
        elif callable(cancel := getattr(first, "cancel", None)):  # a future, or a task
            cancel()

    def __del__(self) -> None:
        self.close()
