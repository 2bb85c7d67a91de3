"""What connections share: one value in many hands, with secrets in it; never copied, never pickled by accident."""

from __future__ import annotations

from typing import NoReturn, TypeVar

S = TypeVar("S", bound="Shared")


class Shared:
    """A copy of a configuration keeps using the same store: copy and deepcopy return the store itself."""

    __slots__ = ()

    def __copy__(self: S) -> S:
        return self

    def __deepcopy__(self: S, memo: object) -> S:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds secrets and a lock: it is not pickled")
