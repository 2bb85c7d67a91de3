"""How much an `SSLObject` takes at once: all of it, for libraries written for OpenSSL's do not look."""

from __future__ import annotations

import ssl

import pytest

from tests.unit.test_ssl_context import contexts


@pytest.mark.parametrize("size", [0, 1, 2**18, 2**18 + 1, 1_000_000])
def test_object_write_takes_all_of_the_data(size: int) -> None:
    client, server = contexts()
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(down, up, server_hostname="localhost")
    other = server.wrap_bio(up, down, server_side=True)
    waiting = [one, other]
    while waiting:
        end = waiting.pop(0)
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(end)
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert one.write(memoryview(data)) == size
    received = b""
    while len(received) < size:
        received += other.read(2**16)
    assert received == data
    with pytest.raises(ssl.SSLWantReadError):
        other.read()
