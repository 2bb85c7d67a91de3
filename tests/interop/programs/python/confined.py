"""A server that cannot be told to listen on loopback only, in a network namespace where there is nothing but loopback.

`unshare --net python confined.py FD PORT COMMAND…`: FD is a listening socket of the namespace we come from (a socket
stays in the one it was made in), PORT where COMMAND listens in the new one. What connects to the first is passed on
to the second. Ends when COMMAND does; takes it along when it is terminated.

Run by path, so that it starts with nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import fcntl
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

SILENCE_SECONDS = 60.0
START_SECONDS = 20.0
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


def main() -> int:
    number, port, *command = sys.argv[1:]
    _start_loopback()
    listener = socket.socket(fileno=int(number))
    listener.set_inheritable(False)
    # setpriv: the server ends with us even when nobody lets us say so.
    server = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command])
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    threading.Thread(target=_accept, args=(listener, int(port)), daemon=True).start()
    return server.wait()


def _start_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack_from("h", fcntl.ioctl(sock, _SIOCGIFFLAGS, request), 16)[0]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def _accept(listener: socket.socket, port: int) -> None:
    while True:
        outside, _ = listener.accept()
        threading.Thread(target=_bridge, args=(outside, port), daemon=True).start()


def _bridge(outside: socket.socket, port: int) -> None:
    with outside, _connected(port) as inside:
        for sock in (outside, inside):
            sock.settimeout(SILENCE_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=_pump, args=(inside, outside), daemon=True)
        back.start()
        _pump(outside, inside)
        back.join()


def _connected(port: int) -> socket.socket:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), START_SECONDS)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass on what comes from *source*, its end as an end and its reset as a reset."""
    try:
        while data := source.recv(2**16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for sock in (source, sink):
            # One of them is gone already; shutting down wakes the other direction's thread.
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
                sock.shutdown(socket.SHUT_RD)


if __name__ == "__main__":
    sys.exit(main())
