"""The live page: a visitor's browser sees its own connection.

`view` says what is shown, `page`, `text` and `document` draw it; `asgi` serves it. Nothing here opens a connection.
`app` is the ASGI application for everybody, which shows no secrets; `application()` makes others. They are loaded when
first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pellucid.web.asgi import Application as Application
    from pellucid.web.asgi import app as app
    from pellucid.web.asgi import application as application

__all__ = ["Application", "app", "application"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'pellucid.web' has no attribute {name!r}")
    return getattr(importlib.import_module("pellucid.web.asgi"), name)
