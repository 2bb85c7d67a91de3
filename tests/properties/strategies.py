"""Values of every wire type, derived from its declaration: a codec's `kind` is the RFC's notation, and is read here.

Sizes stay small (a few hundred bytes) but for the bounds, which tests/unit/test_wire.py stands on.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, Final

from hypothesis import strategies as st

from pellucid.messages import extensions as x
from pellucid.messages import handshake as messages
from pellucid.wire import Codec, WireStruct

_ROOM: Final = 96  # bytes beyond a type's minimum
_BOUNDS: Final = re.compile(r"(.*)<(\d+|2\^\d+-1)\.\.(\d+|2\^\d+-1)>")

STRUCTS: Final[dict[str, type[WireStruct]]] = {
    thing.__name__: thing
    for module in (messages, x)
    for thing in vars(module).values()
    if isinstance(thing, type) and issubclass(thing, WireStruct) and thing is not WireStruct
}

host_names: Final = st.lists(
    st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=12), min_size=1, max_size=4
).map(".".join)

_NAMED: Final[dict[str, Callable[[], st.SearchStrategy[Any]]]] = {
    "Extension": lambda: st.builds(messages.Extension, st.integers(0, 0xFFFF), st.binary(max_size=40)),
    "KeyShareEntry": lambda: st.builds(x.KeyShareEntry, st.integers(0, 0xFFFF), st.binary(min_size=1, max_size=80)),
    "ServerNameList": lambda: host_names.filter(lambda name: not name.rpartition(".")[2].isdigit()),
    "ProtocolNameList": lambda: st.binary(min_size=1, max_size=30),
    "CertificateStatusRequest": lambda: structures(x.OCSPStatusRequest).map(
        lambda request: x.CertificateStatusRequest(1, request.encode())
    ),
    "OCSPResponse": lambda: st.binary(min_size=1, max_size=80),
    "DistinguishedName": lambda: st.binary(min_size=1, max_size=40),
    "RecordSizeLimit": lambda: st.integers(64, 2**16 - 1),
    "opaque[rest]": lambda: st.binary(max_size=64),
    "empty": lambda: st.just(True),
}


def values(codec: Codec[Any]) -> st.SearchStrategy[Any]:
    """What the codec can encode, and decodes to itself."""
    return _of_kind(codec.kind)


def structures(struct: type[WireStruct]) -> st.SearchStrategy[Any]:
    fields = dataclasses.fields(struct)  # type: ignore[arg-type]  # wire_struct made it a dataclass
    return st.builds(struct, *(values(field.metadata["codec"]) for field in fields))


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 2 ** int(text[2:-2]) - 1


def _of_kind(kind: str) -> st.SearchStrategy[Any]:
    if kind in _NAMED:
        return _NAMED[kind]()
    if kind in STRUCTS:
        return structures(STRUCTS[kind])
    if found := re.fullmatch(r"uint(\d+)", kind):
        return st.integers(0, 2 ** int(found[1]) - 1)
    if found := re.fullmatch(r"opaque\[(\d+)\]", kind):
        return st.binary(min_size=int(found[1]), max_size=int(found[1]))
    bounded = _BOUNDS.fullmatch(kind)
    if bounded is None:
        raise AssertionError(f"no strategy for {kind}: the notation has grown")
    item, minimum, maximum = bounded[1], _number(bounded[2]), _number(bounded[3])
    room = min(maximum, minimum + _ROOM)
    if item == "CertificateCompressionAlgorithm":
        return st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=maximum // 2, unique=True).map(tuple)
    if item == "CertificateType":  # X.509 alone is what the extension's absence says
        return st.lists(st.integers(0, 0xFF), min_size=1, max_size=8, unique=True).map(tuple).filter((0,).__ne__)
    if item == "opaque":
        return st.binary(min_size=minimum, max_size=room)
    if found := re.fullmatch(r"uint(\d+)", item):
        size = int(found[1]) // 8
        return st.lists(_of_kind(item), min_size=-(-minimum // size), max_size=room // size).map(tuple)
    return st.lists(_of_kind(item), min_size=1 if minimum else 0, max_size=4).map(tuple)
