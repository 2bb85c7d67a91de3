"""What the runner starts for each test: hands everything to warm.py and waits for the exit code.

Run with `python -I -S -E`; only what the interpreter has loaded anyway is imported, since a thousand tests pay for it.
"""

import _socket
import sys


def launch(path, arguments):
    """Run a test in the warm process that listens on *path*. Returns its exit code."""
    server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    server.connect(path)
    data = b"".join(argument.encode("utf-8", "surrogateescape") + b"\0" for argument in arguments)
    streams = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
    server.sendmsg([len(data).to_bytes(4, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
    server.sendall(data)
    return (server.recv(1) or b"\1")[0]


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1], sys.argv[2:]))
