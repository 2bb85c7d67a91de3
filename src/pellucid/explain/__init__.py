"""Observers of the trace: recorders, sentences, pictures. They may import all of the core; it never imports them.

The names below are loaded when first used: whoever wants a key log does not pay for the pictures.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pellucid.explain.diagnosis.codes import CODES as CODES
    from pellucid.explain.diagnosis.diagnose import diagnose as diagnose
    from pellucid.explain.diagnosis.report import Diagnosis as Diagnosis
    from pellucid.explain.jsonl import events_to_json as events_to_json
    from pellucid.explain.jsonl import read_jsonl as read_jsonl
    from pellucid.explain.jsonl import write_jsonl as write_jsonl
    from pellucid.explain.keylog import KeyLogWriter as KeyLogWriter
    from pellucid.explain.ladder import LadderPrinter as LadderPrinter
    from pellucid.explain.pcapng import PcapngWriter as PcapngWriter
    from pellucid.explain.pcapng import write_pcapng as write_pcapng
    from pellucid.explain.playback import Replay as Replay
    from pellucid.explain.playback import recording as recording
    from pellucid.explain.playback import replay as replay
    from pellucid.explain.recorder import Recorded as Recorded
    from pellucid.explain.recorder import Recorder as Recorder
    from pellucid.explain.recorder import tee as tee
    from pellucid.explain.sentences import describe as describe
    from pellucid.explain.spans import FieldSpan as FieldSpan
    from pellucid.explain.spans import message_spans as message_spans
    from pellucid.explain.spans import record_spans as record_spans

__all__ = [
    "CODES",
    "Diagnosis",
    "FieldSpan",
    "KeyLogWriter",
    "LadderPrinter",
    "PcapngWriter",
    "Recorded",
    "Recorder",
    "Replay",
    "describe",
    "diagnose",
    "events_to_json",
    "message_spans",
    "read_jsonl",
    "record_spans",
    "recording",
    "replay",
    "tee",
    "write_jsonl",
    "write_pcapng",
]

_HOMES = {
    "CODES": "diagnosis.codes",
    "Diagnosis": "diagnosis.report",
    "FieldSpan": "spans",
    "KeyLogWriter": "keylog",
    "LadderPrinter": "ladder",
    "PcapngWriter": "pcapng",
    "Recorded": "recorder",
    "Recorder": "recorder",
    "Replay": "playback",
    "describe": "sentences",
    "events_to_json": "jsonl",
    "diagnose": "diagnosis.diagnose",
    "message_spans": "spans",
    "read_jsonl": "jsonl",
    "record_spans": "spans",
    "recording": "playback",
    "replay": "playback",
    "tee": "recorder",
    "write_jsonl": "jsonl",
    "write_pcapng": "pcapng",
}
"""public name → the module of this package that has it"""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'pellucid.explain' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pellucid.explain.{_HOMES[name]}"), name)
