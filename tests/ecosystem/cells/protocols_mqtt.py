"""MQTT: paho-mqtt against Mosquitto, whose TLS is OpenSSL's."""

from __future__ import annotations

import ssl
import threading
import time
from typing import Any

import paho.mqtt.client as mqtt

from tests.ecosystem import daemons
from tests.ecosystem.matrix import cell, empty, library
from tests.ecosystem.trial import Trial

SECONDS = 20.0
_LARGE = bytes(range(256)) * 4000

library("paho-mqtt")
empty("paho-mqtt", "server", "it is a client; Mosquitto has its own TLS")
empty("paho-mqtt", "HTTP/2", "it does not speak HTTP")
empty("paho-mqtt", "async", "it blocks, or runs a thread of its own")
empty("paho-mqtt", "proxy", "it knows SOCKS proxies only, below TLS")
empty("paho-mqtt", "start_tls", "MQTT has a port for TLS, from the first byte")


def _client(context: ssl.SSLContext) -> mqtt.Client:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.tls_set_context(context)
    return client


@cell("paho-mqtt", "client")
def paho_publishes_to_itself(trial: Trial) -> None:
    """The broker knows it by its certificate; a large message goes both ways, in a thread that polls the socket."""
    server = trial.enter(daemons.mosquitto(trial.authority))
    client = _client(trial.client(credentials=(trial.credential,)))
    came: list[bytes] = []
    subscribed, all_came = threading.Event(), threading.Event()

    def message(_client: Any, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        came.append(message.payload)
        if len(came) == 3:
            all_came.set()

    client.on_connect = lambda *_: client.subscribe("news", qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = message
    client.connect("localhost", server.port)
    client.loop_start()
    try:
        assert subscribed.wait(SECONDS)
        for payload in (b"hello", _LARGE, b"bye"):
            client.publish("news", payload, qos=1)
        assert all_came.wait(SECONDS)
    finally:
        client.disconnect()
        client.loop_stop()
    assert came == [b"hello", _LARGE, b"bye"]
    assert len(trial.handshakes) == 1
    with trial.refuses(ssl.SSLCertVerificationError):
        _client(trial.client()).connect("127.0.0.1", server.port)
    with trial.refuses(ssl.SSLCertVerificationError, code="X509-UNKNOWN-CA"):
        _client(trial.stranger()).connect("localhost", server.port)


@cell("paho-mqtt", "client", "no certificate")
def paho_is_told_that_it_has_none(trial: Trial) -> None:
    """The broker's alert comes after the handshake, with TLS 1.3; the client is told, and does not stay connected."""
    server = trial.enter(daemons.mosquitto(trial.authority))
    client = _client(trial.client())
    ended: list[object] = []
    client.on_disconnect = lambda *arguments: ended.append(arguments[3])
    client.connect("localhost", server.port)
    deadline = time.monotonic() + SECONDS
    while not ended and time.monotonic() < deadline:
        client.loop(0.1)
    assert ended and not client.is_connected()
    with trial.refuses(ssl.SSLCertVerificationError):
        _client(trial.client()).connect("127.0.0.1", server.port)
