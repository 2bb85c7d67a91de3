"""How often this process was forked: a socket of before then may have two owners."""

from __future__ import annotations

import os

__all__ = ["Forks"]


class Forks:
    """count: how often this process was forked, it and its ancestors."""

    count = 0

    @classmethod
    def one_more(cls) -> None:
        cls.count += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=Forks.one_more)
