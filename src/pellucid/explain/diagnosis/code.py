"""What one stable code of a diagnosis is made of. The texts are in the three tables beside this file."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Code"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One kind of failure, as `pellucid explain CODE` tells of it.

    code:        stable; what programs compare and people search for.
    title:       half a line: what happened.
    explanation: what it means and how it comes about; paragraphs are separated by an empty line.
    example:     what it looks like, or how to see it.
    remedy:      what can be done, the likeliest first; each begins with a verb.
    """

    code: str
    title: str
    explanation: str
    example: str
    remedy: tuple[str, ...]

    def __str__(self) -> str:
        return self.code


def code(name: str, title: str, explanation: str, *, example: str, remedy: tuple[str, ...]) -> Code:
    """Return the code. The line breaks inside a paragraph of *explanation* are the source's, and do not count."""
    paragraphs = (" ".join(part.split()) for part in explanation.strip().split("\n\n"))
    return Code(code=name, title=title, explanation="\n\n".join(paragraphs), example=example.strip("\n"), remedy=remedy)
