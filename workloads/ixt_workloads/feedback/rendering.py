"""Feedback as text in front of a document or in the system text of a conversation. Pure.

Levels are plain text: no token is added to the vocabulary, so any checkpoint can be trained on.
"""

import re
from collections.abc import Mapping, Sequence

from ixt_workloads.contract.settings import FeedbackFormat

SEPARATOR = "\n\n"
"""Between feedback and document, and between feedback and a user's own system text."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def clean(critique: str) -> str:
    """A critique on one line: what follows a line break would read as part of the document."""
    return _CONTROL.sub(" ", critique).strip()


def prefix(form: FeedbackFormat, level: int, levels: int, critique: str) -> str:
    """The text that stands before a document: the level's line, the critique's line, a blank line."""
    lines = []
    if form.shows_level:
        lines.append(f"Quality: {level}/{levels}")
    if form.needs_critique:
        lines.append(f"Critique: {clean(critique)}")
    return "\n".join(lines) + SEPARATOR


def conditioned(messages: Sequence[Mapping[str, str]], feedback: str) -> list[dict[str, str]]:
    """A conversation with the feedback at the start of its system text, before a user's own."""
    turns = [dict(message) for message in messages]
    text = feedback.rstrip("\n")
    if turns and turns[0]["role"] == "system":
        own = turns[0]["content"]
        return [{"role": "system", "content": f"{text}{SEPARATOR}{own}" if own else text}, *turns[1:]]
    return [{"role": "system", "content": text}, *turns]
