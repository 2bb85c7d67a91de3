"""Finds our error inside what a library made of it: causes, contexts, arguments, attributes, groups."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from pellucid.errors import AlertReceived, Explained, InternalError, PeerError, TruncatedStream, UsageError

__all__ = ["decisive", "ours", "said"]

_MOST: Final = 200
_ATTRIBUTES: Final = ("reason", "os_error", "_os_error", "certificate_error", "original_error", "exc", "error")
"""where requests, urllib3, aiohttp, httpx and others keep what they were told"""
_KNOWN: Final = (socket.gaierror, ConnectionError, TimeoutError)


def ours(failure: BaseException) -> Explained | None:
    """Return the error of ours that *failure* is or was made of, None if there is none: the one that says most."""
    found = [error for error in _all(failure) if isinstance(error, Explained)]
    return min(found, key=_rank) if found and _rank(min(found, key=_rank)) < _SAYS_NOTHING else None


def decisive(failure: BaseException) -> BaseException:
    """Return what to explain: our error inside *failure*, or the socket's, or *failure* itself."""
    found = ours(failure)
    if found is not None:
        return found
    known = [error for error in _all(failure) if isinstance(error, _KNOWN) and not _is_wrapper(error)]
    plain = [error for error in _all(failure) if type(error) is OSError and error.errno is not None]
    known.sort(key=lambda error: not error.args)  # what says something, before what was cancelled because of it
    return next(iter((*known, *plain)), failure)


_SAYS_NOTHING: Final = 9


def _rank(error: Explained) -> int:
    if isinstance(error, (PeerError, AlertReceived)):
        return 0
    if isinstance(error, (TruncatedStream, InternalError)):
        return 1
    if isinstance(error, UsageError):
        return 3
    if not error.code:
        return _SAYS_NOTHING  # that more bytes are wanted, or an earlier error stands in the way
    return 2 if error.circumstances is not None else 4


def _is_wrapper(error: BaseException) -> bool:
    """Whether a library's own error has one of these as a base and another inside: the one inside is meant."""
    return type(error).__module__ not in {"builtins", "socket"} and any(True for _ in _strong(error))


def _all(failure: BaseException) -> Iterator[BaseException]:
    """Yield *failure* and all that it was made of, nearest first; what was merely under way at the time comes last."""
    seen: set[int] = set()
    queue, later = deque([failure]), deque[BaseException]()
    while (queue or later) and len(seen) < _MOST:
        error = queue.popleft() if queue else later.popleft()
        if id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        queue.extend(_strong(error))
        if error.__context__ is not None:
            later.append(error.__context__)


def _strong(error: BaseException) -> Iterator[BaseException]:
    if error.__cause__ is not None:
        yield error.__cause__
    if isinstance(error, BaseExceptionGroup):
        yield from error.exceptions
    yield from _exceptions(error.args)
    for name in _ATTRIBUTES:
        yield from _exceptions((_attribute(error, name),))


def _attribute(error: BaseException, name: str) -> object:
    if isinstance(error, Explained):
        return error.__dict__.get(name)
    try:
        return getattr(error, name, None)
    except Exception as broken:  # noqa: BLE001  # of somebody else's property: it is no part of what happened
        return type(broken)


def said(error: BaseException) -> str:
    """Return str() of *error*, which may be somebody else's and broken."""
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001
        return f"{type(error).__name__}, which cannot be told: {type(broken).__name__}"


def _exceptions(values: Iterable[object]) -> Iterator[BaseException]:
    for value in values:
        if isinstance(value, BaseException):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from (one for one in value if isinstance(one, BaseException))
