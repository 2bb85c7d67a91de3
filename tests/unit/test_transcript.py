"""The running hash: messages wait for a suite, a retry puts message_hash first, a fork goes on by itself."""

from __future__ import annotations

import hashlib

import pytest

from pellucid.errors import InternalError
from pellucid.registry import CipherSuite as CS
from pellucid.transcript import Transcript
from tests.support.scripted import suite

SHA256, SHA384 = suite(CS.TLS_AES_128_GCM_SHA256), suite(CS.TLS_AES_256_GCM_SHA384)


def test_messages_wait_for_the_suite_and_are_hashed_in_order() -> None:
    transcript = Transcript()
    transcript.add(b"one")
    transcript.add(b"two")
    with pytest.raises(InternalError):
        transcript.digest()
    transcript.choose(SHA384)
    assert transcript.digest() == hashlib.sha384(b"onetwo").digest()
    transcript.add(b"three")
    transcript.choose(SHA384)
    assert transcript.digest() == hashlib.sha384(b"onetwothree").digest()


@pytest.mark.parametrize(("chosen", "name", "size"), [(SHA256, "sha256", 32), (SHA384, "sha384", 48)])
@pytest.mark.rfc("9846 §4.1", "after a HelloRetryRequest, ClientHello1 counts as message_hash")
def test_retry_puts_message_hash_in_the_first_hellos_place(chosen: object, name: str, size: int) -> None:
    transcript = Transcript()
    transcript.add(b"ClientHello1")
    first = hashlib.new(name, b"ClientHello1").digest()
    assert transcript.replace_by_message_hash(chosen) == first  # type: ignore[arg-type]
    transcript.add(b"HelloRetryRequest")
    synthetic = bytes((254, 0, 0, size)) + first
    assert transcript.digest() == hashlib.new(name, synthetic + b"HelloRetryRequest").digest()
    restored = Transcript()
    restored.add(b"forgotten")
    restored.restore(chosen, first)  # type: ignore[arg-type]
    restored.add(b"HelloRetryRequest")
    assert restored.digest() == transcript.digest()


@pytest.mark.parametrize("chosen", [False, True], ids=["waiting", "hashing"])
def test_fork_and_original_do_not_touch_each_other(chosen: bool) -> None:
    transcript = Transcript()
    transcript.add(b"common")
    if chosen:
        transcript.choose(SHA256)
    fork = transcript.fork()
    fork.add(b"fork")
    transcript.add(b"original")
    for one in (fork, transcript):
        one.choose(SHA256)
    assert fork.digest() == hashlib.sha256(b"commonfork").digest()
    assert transcript.digest() == hashlib.sha256(b"commonoriginal").digest()
