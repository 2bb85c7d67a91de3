"""An adapter for requests: `session.mount("https://", HTTPAdapter())`. requests has no parameter for a context.

As with any context of ours in requests, the roots of `verify` and of certifi, which requests brings, are trusted too.
"""

from __future__ import annotations

from typing import Any

import requests.adapters

from pellucid.integrations.ssl_context import SSLContext

__all__ = ["HTTPAdapter"]


class HTTPAdapter(requests.adapters.HTTPAdapter):
    """A `requests.adapters.HTTPAdapter` whose TLS, to proxies too, is Pellucid's.

    context: None: the default one, for all connections of this adapter.   settings: as requests' adapter takes them.
    """

    def __init__(self, context: SSLContext | None = None, **settings: Any) -> None:  # Any: requests'
        self._context = SSLContext() if context is None else context
        super().__init__(**settings)

    def init_poolmanager(self, *arguments: Any, **settings: Any) -> None:  # Any: urllib3's
        super().init_poolmanager(*arguments, **settings, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **settings: Any) -> Any:  # Any: urllib3's
        settings |= {"ssl_context": self._context, "proxy_ssl_context": self._context}
        return super().proxy_manager_for(proxy, **settings)
