"""Feedback as text in front of a document or in the system text of a conversation. Pure.

Levels are plain text: no token is added to the vocabulary, so any checkpoint can be trained on.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ixt_workloads.contract.rubrics import RubricText
from ixt_workloads.contract.settings import FeedbackFormat

SEPARATOR = "\n\n"
"""Between feedback and document, and between feedback and a user's own system text."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def clean(critique: str) -> str:
    """A critique on one line: what follows a line break would read as part of the document."""
    return _CONTROL.sub(" ", critique).strip()


COLUMNS = ("critique",)
"""Columns of the feedback on a document that `said` reads."""


def said(form: FeedbackFormat, feedback: Mapping[str, Any]) -> str:
    """What a prefix in this format says of a document besides its level, on one line; empty for nothing."""
    return clean(feedback["critique"] or "") if form.says else ""


def ends(form: FeedbackFormat, rubric: RubricText) -> tuple[str, str]:
    """What is said of the best and of the worst document that the rubric knows."""
    return said(form, {"critique": rubric.ideal_critique}), said(form, {"critique": rubric.worst_critique})


def prefix(form: FeedbackFormat, level: int, levels: int, words: str) -> str:
    """The text that stands before a document: the level's line, that of what is `said`, a blank line."""
    lines = []
    if form.shows_level:
        lines.append(f"Quality: {level}/{levels}")
    if form.needs_critique:
        lines.append(f"Critique: {clean(words)}")
    return "\n".join(lines) + SEPARATOR


def conditioned(messages: Sequence[Mapping[str, str]], feedback: str) -> list[dict[str, str]]:
    """A conversation with the feedback at the start of its system text, before a user's own."""
    turns = [dict(message) for message in messages]
    text = feedback.rstrip("\n")
    if turns and turns[0]["role"] == "system":
        own = turns[0]["content"]
        return [{"role": "system", "content": f"{text}{SEPARATOR}{own}" if own else text}, *turns[1:]]
    return [{"role": "system", "content": text}, *turns]
