"""JA4 against the vectors of its specification, and the cases that it spells out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.explain.ja4 import ja4
from pellucid.messages.handshake import ClientHello, Extension
from pellucid.registry import GREASE_VALUES

SUITES = "1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035"
EXTENSIONS = "001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015"
SCHEMES = "0403,0804,0401,0503,0805,0501,0806,0601"

ALPN, SIGNATURE_ALGORITHMS, SUPPORTED_VERSIONS = 0x0010, 0x000D, 0x002B


def codes(listed: str) -> list[int]:
    return [int(code, 16) for code in listed.split(",") if code]


def packed(values: list[int]) -> bytes:
    return b"".join(value.to_bytes(2, "big") for value in values)


def counted(data: bytes, size: int) -> bytes:
    return len(data).to_bytes(size, "big") + data


def client_hello(
    *,
    suites: list[int] | None = None,
    extensions: list[int] | None = None,
    schemes: list[int] | None = None,
    versions: list[int] | None = None,
    protocols: list[bytes] | None = None,
    legacy_version: int = 0x0303,
) -> ClientHello:
    protocols = [b"h2", b"http/1.1"] if protocols is None else protocols
    bodies = {
        ALPN: counted(b"".join(counted(name, 1) for name in protocols), 2),
        SIGNATURE_ALGORITHMS: counted(packed(codes(SCHEMES) if schemes is None else schemes), 2),
        SUPPORTED_VERSIONS: counted(packed([0x0304, 0x0303] if versions is None else versions), 1),
    }
    kinds = codes(EXTENSIONS) if extensions is None else extensions
    return ClientHello(
        legacy_version=legacy_version,
        random=bytes(32),
        legacy_session_id=b"",
        cipher_suites=tuple(codes(SUITES) if suites is None else suites),
        legacy_compression_methods=b"\0",
        extensions=tuple(Extension(kind, bodies.get(kind, b"")) for kind in kinds),
    )


def test_ja4_of_the_specification_s_example_is_its_fingerprint() -> None:
    found = ja4(client_hello())
    assert found.fingerprint == "t13d1516h2_8daaf6152771_e5627efa2ab1"
    assert found.original == "t13d1516h2_acb858a92679_18f69afefd3d"
    assert found.original_raw == f"t13d1516h2_{SUITES}_{EXTENSIONS}_{SCHEMES}"
    assert found.raw == (
        "t13d1516h2_002f,0035,009c,009d,1301,1302,1303,c013,c014,c02b,c02c,c02f,c030,cca8,cca9_"
        "0005,000a,000b,000d,0012,0015,0017,001b,0023,002b,002d,0033,4469,ff01_"
        "0403,0804,0401,0503,0805,0501,0806,0601"
    )


def test_ja4_without_signature_algorithms_ends_without_an_underscore() -> None:
    found = ja4(client_hello(schemes=[]))
    assert found.fingerprint == "t13d1516h2_8daaf6152771_6d807ffa2a79"
    assert found.raw.endswith("4469,ff01")


@given(
    greases=st.tuples(*[st.sampled_from(GREASE_VALUES)] * 5),
    places=st.tuples(*[st.integers(min_value=0, max_value=8)] * 4),
    shuffled=st.permutations(codes(EXTENSIONS)),
)
def test_ja4_ignores_grease_wherever_it_stands_and_the_order(
    greases: tuple[int, ...], places: tuple[int, ...], shuffled: list[int]
) -> None:
    lists = [codes(SUITES), list(shuffled), codes(SCHEMES), [0x0304, 0x0303]]
    for values, grease, place in zip(lists, greases, places, strict=False):
        values.insert(place, grease)
    lists[1].append(greases[4])
    suites, extensions, schemes, versions = lists
    hello = client_hello(suites=suites, extensions=extensions, schemes=schemes, versions=versions)
    assert ja4(hello).fingerprint == "t13d1516h2_8daaf6152771_e5627efa2ab1"


@pytest.mark.parametrize(
    ("protocol", "ends"),
    [
        (b"h2", "h2"),
        (b"http/1.1", "h1"),
        (b"x", "xx"),
        (b"", "00"),
        (b"\xab", "ab"),
        (b"\xab\xcd", "ad"),
        (b"0\xab", "3b"),
        (b"01\xab\xcd", "3d"),
        (b"0\xab\xcd1", "01"),
    ],
)
def test_ja4_takes_the_ends_of_the_first_protocol(protocol: bytes, ends: str) -> None:
    assert ja4(client_hello(protocols=[protocol])).a == f"t13d1516{ends}"


@pytest.mark.parametrize(
    ("legacy", "versions", "shown"),
    [(0x0303, [0x0303, 0x0302], "12"), (0x0304, [0x0301], "10"), (0x0300, [0x0002], "s2"), (0x0303, [0x7F1C], "00")],
)
def test_ja4_takes_the_highest_version(legacy: int, versions: list[int], shown: str) -> None:
    assert ja4(client_hello(versions=versions, legacy_version=legacy)).a[1:3] == shown


def test_ja4_of_an_older_hello_tells_its_legacy_version_and_that_nothing_is_there() -> None:
    found = ja4(client_hello(suites=[GREASE_VALUES[0]], extensions=[]))
    assert found.fingerprint == "t12i000000_000000000000_000000000000"


def test_ja4_counts_no_further_than_99() -> None:
    assert ja4(client_hello(suites=list(range(0x2000, 0x2100)))).a == "t13d9916h2"


@given(st.lists(st.tuples(st.sampled_from([ALPN, SIGNATURE_ALGORITHMS, SUPPORTED_VERSIONS, 0]), st.binary())))
def test_ja4_of_any_extensions_is_a_fingerprint(extensions: list[tuple[int, bytes]]) -> None:
    hello = client_hello()
    wild = ClientHello(
        legacy_version=hello.legacy_version,
        random=hello.random,
        legacy_session_id=b"",
        cipher_suites=hello.cipher_suites,
        legacy_compression_methods=b"\0",
        extensions=tuple(Extension(code, data) for code, data in extensions),
    )
    assert len(ja4(wild).fingerprint) == 36
