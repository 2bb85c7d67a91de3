"""Examinations as JSON, schema 1: docs/reference/inspect.md has every field. Fields may be added, none changes."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable
from typing import Final

from pellucid.inspection.examine import Examination
from pellucid.verify.report import VerificationReport

__all__ = ["SCHEMA", "document"]

SCHEMA: Final = 1


def document(examinations: Iterable[Examination]) -> dict[str, object]:
    """Return the examinations as values that `json` writes."""
    return {"schema": SCHEMA, "examinations": [_one(examination) for examination in examinations]}


def _one(examination: Examination) -> dict[str, object]:
    target, facts, judgement = examination.target, examination.facts, examination.judgement
    found = {field.name: _plain(getattr(facts, field.name)) for field in dataclasses.fields(facts)}
    address, details = found.pop("address"), found.pop("group_details")
    groups = found["groups"]
    if isinstance(groups, dict):
        groups["details"] = details
    chain = found["chain"]
    if isinstance(chain, dict):
        chain["verification"] = chain.pop("report")
    if isinstance(found["timing"], dict) and facts.timing is not None:
        found["timing"] |= {"sent": facts.timing.sent, "received": facts.timing.received}
    return {
        "host": target.host,
        "port": target.port,
        "server_name": target.server_name,
        "starttls": target.starttls,
        "address": address,
        "verdict": judgement.verdict.value,
        "reasons": [_plain(reason) for reason in judgement.reasons],
        **found,
        "unknown": dict(facts.unknown),
    }


def _plain(value: object) -> object:
    if isinstance(value, VerificationReport):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return value.value if isinstance(value, enum.Enum) else value
