"""Examining servers: which TLS 1.3 they speak, how they behave, what it is worth. `inspect("example.org")`."""

from __future__ import annotations

from pellucid.inspection.document import document
from pellucid.inspection.examine import FIRST, Examination, examine, examine_all, given_up, inspect
from pellucid.inspection.facts import Facts
from pellucid.inspection.target import Settings, Target
from pellucid.inspection.verdict import Judgement, Reason, Verdict

__all__ = [
    "FIRST",
    "Examination",
    "Facts",
    "Judgement",
    "Reason",
    "Settings",
    "Target",
    "Verdict",
    "document",
    "examine",
    "examine_all",
    "given_up",
    "inspect",
]
