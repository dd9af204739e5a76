"""Feedback as text in front of a document or in the system text of a conversation. Pure.

Levels are plain text: no token is added to the vocabulary, so any checkpoint can be trained on.
"""

import json
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


COLUMNS = ("critique", "axes")
"""Columns of the feedback on a document that `said` reads."""


def said(form: FeedbackFormat, feedback: Mapping[str, Any]) -> str:
    """What a prefix in this format says of a document besides its level, on one line; empty for nothing."""
    if form.needs_axes:
        axes = json.loads(feedback["axes"] or "{}")
        return ", ".join(f"{name.replace('_', ' ')} {score}" for name, score in axes.items())
    return clean(feedback["critique"] or "") if form.needs_critique else ""


def ends(form: FeedbackFormat, rubric: RubricText) -> tuple[str, str]:
    """What is said of the best and of the worst document that the rubric knows."""
    found = (
        said(form, {"critique": critique, "axes": json.dumps(dict.fromkeys(rubric.axes, score))})
        for critique, score in (
            (rubric.ideal_critique, rubric.max_score),
            (rubric.worst_critique, rubric.min_score),
        )
    )
    best, worst = found
    return best, worst


def prefix(form: FeedbackFormat, level: int, levels: int, words: str) -> str:
    """The text that stands before a document: the level's line, that of what is `said`, a blank line."""
    lines = []
    if form.shows_level:
        lines.append(f"Quality: {level}/{levels}")
    if form.needs_critique:
        lines.append(f"Critique: {clean(words)}")
    if form.needs_axes:
        lines.append(f"Scores: {clean(words)}")
    return "\n".join(lines) + SEPARATOR


def conditioned(
    turns: Sequence[Mapping[str, Any]], feedback: str, role: str = "system"
) -> list[dict[str, Any]]:
    """A conversation with the feedback at the start of its system text, before a user's own.

    With `role` "user" it stands at the start of the first turn, which is the user's: for chat templates that
    take no system text.
    """
    found = [dict(turn) for turn in turns]
    text = feedback.rstrip("\n")
    if found and found[0]["role"] == role:
        own = found[0]["content"]
        found[0]["content"] = f"{text}{SEPARATOR}{own}" if own else text
        return found
    return [{"role": "system", "content": text}, *found]
