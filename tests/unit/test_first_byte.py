"""Early data saves a round trip: the time to the first byte over a path with a delay, and the path itself."""

from __future__ import annotations

import socket
import threading
import time

from bench.delay import delayed
from bench.ttfb import WAYS, measure


def test_delayed_path_takes_a_round_trip_to_connect_and_one_to_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo() -> None:
            sock, _ = server.accept()
            with sock:
                while data := sock.recv(100):
                    sock.sendall(data)

        thread = threading.Thread(target=echo, daemon=True)
        thread.start()
        with delayed(server.getsockname()[1], one_way_seconds=0.05) as port:
            begun = time.monotonic()
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.settimeout(10)
                seconds = []
                for _ in range(3):
                    client.sendall(b"?")
                    assert client.recv(1) == b"?"
                    seconds.append(time.monotonic() - begun)
                client.shutdown(socket.SHUT_WR)
                assert client.recv(1) == b""
        thread.join(10)
    assert seconds[0] >= 0.2  # what comes first waits for the SYN's round trip too
    assert seconds[1] - seconds[0] >= 0.1
    assert seconds[2] < 5


def test_early_data_saves_a_round_trip_to_the_first_byte() -> None:
    rtt = 0.1
    seconds = {way: min(times) for way, times in measure(3, rtt)["seconds"].items()}
    full, resumed, early = (seconds[way] / rtt for way in WAYS)
    # The path cannot be faster than it is; how much slower depends on what else this machine does.
    assert full >= 3
    assert resumed >= 3
    assert 2 <= early < 2.9
    assert full - early > 0.6
