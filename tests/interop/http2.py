"""The least HTTP/2 there is, for peers that speak it once they have agreed on it: one GET, one answer."""

from __future__ import annotations

import h2.config
import h2.connection
import h2.events

from tests.interop.exchange import PAGE, TOKEN, Stream, WrongAnswer, ended_abruptly


def get(stream: Stream, path: str) -> bytes:
    """Return the body of *path*."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    number = connection.get_next_available_stream_id()
    headers = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
    connection.send_headers(number, headers, end_stream=True)
    stream.sendall(connection.data_to_send())
    body = bytearray()
    while data := stream.recv(2**16):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                body += event.data
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                connection.close_connection()
                stream.sendall(connection.data_to_send())
                return bytes(body)
        stream.sendall(connection.data_to_send())
    raise WrongAnswer(f"the stream ended after {len(body)} bytes of an HTTP/2 response")


def answer(stream: Stream, received: bytes) -> int:
    """Answer requests for /page with PAGE, all others with TOKEN, until the client goes; return how many.

    received: what was read already.
    """
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    connection.initiate_connection()
    stream.sendall(connection.data_to_send())
    answered = 0
    data = received
    while data:
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                page = (b":path", b"/page") in event.headers
                headers = [(":status", "200"), ("content-type", "text/html" if page else "text/plain")]
                connection.send_headers(event.stream_id, headers)
                connection.send_data(event.stream_id, PAGE if page else TOKEN, end_stream=True)
                answered += 1
        if pending := connection.data_to_send():
            stream.sendall(pending)
        try:
            data = stream.recv(2**16)
        except OSError as error:
            # curl leaves an HTTP/2 connection without close_notify: what counts is that it was served.
            if not answered or not ended_abruptly(error):
                raise
            break
    return answered
