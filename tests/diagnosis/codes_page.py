"""`python -m tests.diagnosis.codes_page`: writes docs/reference/codes.md from the table of codes."""

from __future__ import annotations

import textwrap
from pathlib import Path

from pellucid.explain import CODES
from pellucid.explain.diagnosis.code import Code
from pellucid.explain.diagnosis.codes_alerts import ALERTS
from pellucid.explain.diagnosis.codes_certificates import CERTIFICATES
from pellucid.explain.diagnosis.codes_protocol import PROTOCOL
from pellucid.explain.diagnosis.codes_transport import TRANSPORT

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "codes.md"
_SECTIONS = (
    ("Below TLS, and before it", TRANSPORT),
    ("Certificates", CERTIFICATES),
    ("The protocol", PROTOCOL),
    ("Alerts of the peer", ALERTS),
)


def page() -> str:
    """Return the page: an overview, then each code as `pellucid explain` tells it."""
    lines = [
        "# Codes of a diagnosis",
        "",
        "Every error of Pellucid has a report, `error.report`, with one of these codes; `pellucid get` shows it, and",
        "`pellucid explain CODE` prints what stands here. The codes are stable. This page is made from the table in",
        "`pellucid.explain.diagnosis`, by `python -m tests.diagnosis.codes_page`.",
        "",
        "| code | what happened |",
        "|---|---|",
        *(f"| [{one.code}](#{one.code.lower()}) | {one.title} |" for one in CODES.values()),
    ]
    for title, codes in _SECTIONS:
        lines += ["", f"## {title}"]
        for one in codes:
            lines += ["", *_code(one)]
    return "\n".join(lines) + "\n"


def _code(one: Code) -> list[str]:
    title = one.title[0].upper() + one.title[1:]
    return [
        f"### {one.code}",
        "",
        f"**{title}.**",
        "",
        "\n\n".join(_wrapped(paragraph) for paragraph in one.explanation.split("\n\n")),
        "",
        "```text",
        one.example,
        "```",
        "",
        *(f"- {_escaped(text)}" for text in one.remedy),
    ]


def _wrapped(text: str) -> str:
    return textwrap.fill(_escaped(text), 120, break_long_words=False, break_on_hyphens=False)


def _escaped(text: str) -> str:
    return text.replace("*", "\\*").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
