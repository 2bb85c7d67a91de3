"""What a socket can do and TLS cannot: only for sockets that are not under TLS, or not at all."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from typing import Any

__all__ = ["PlainOnly"]


class PlainOnly(socket.socket):
    """The part of `SSLSocket` that refuses."""

    _under_tls: bool
    _unwrapped: bool

    def dup(self) -> PlainOnly:
        raise NotImplementedError("a TLS connection cannot be duplicated")

    def recvfrom(self, buflen: int = 1024, flags: int = 0) -> tuple[bytes, Any]:  # Any: an address
        self._only_plain("recvfrom")
        return super().recvfrom(buflen, flags)

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:  # Any: buffer, address
        self._only_plain("recvfrom_into")
        return super().recvfrom_into(buffer, nbytes, flags)

    def recvmsg(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("recvmsg is not for TLS")

    def recvmsg_into(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("recvmsg_into is not for TLS")

    def sendto(self, data: Any, *where: Any) -> int:  # Any: a readable buffer, flags, an address
        self._only_plain("sendto")
        return super().sendto(data, *where)

    def _only_plain(self, name: str) -> None:
        if self._under_tls:
            raise ValueError(f"{name} is not for TLS")
        self._check_not_between()

    def sendmsg(self, buffers: Iterable[Any], *_: Any, **__: Any) -> Any:
        raise NotImplementedError("sendmsg is not for TLS")

    def _check_not_between(self) -> None:
        """Refuse plaintext on an open socket that is not under TLS yet, as the kernel does if there is no peer."""
        if not self._unwrapped and self.fileno() >= 0:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
