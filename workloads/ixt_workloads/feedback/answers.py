"""What a judge is asked and what it may answer: prompt, grammar and validation. Pure."""

import json
import re
from dataclasses import dataclass
from typing import Any

from ixt_workloads.contract.rubrics import RubricText

CRITIQUE = "critique"
NGRAM = 8
"""Words in a row that count as copied: so many hardly ever agree by chance."""

_NOT_PRINTED = re.compile(r"[\x00-\x20\x7f]+")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Feedback:
    """A valid answer."""

    critique: str
    """One paragraph: runs of white space and control characters are single spaces."""
    axes: dict[str, int]
    """In the rubric's order."""

    @property
    def score(self) -> float:
        """Raw score of the document: the mean over the axes, on the rubric's scale."""
        return sum(self.axes.values()) / len(self.axes)


@dataclass(frozen=True)
class Rejected:
    """An answer that is no feedback, and why."""

    reason: str


def messages(rubric: RubricText, document: str) -> list[dict[str, str]]:
    """The judge's conversation: one user turn with instructions, a blank line and the document."""
    return [{"role": "user", "content": f"{rubric.instructions}\n\n{document}"}]


def schema(rubric: RubricText) -> dict[str, Any]:
    """JSON schema of an answer: the critique first, so that the scores follow from it.

    The critique has neither `maxLength` nor `pattern`. With the first xgrammar 0.2.8 lets raw control
    characters into strings; a pattern is taken to mean the JSON text, where it forbids quotation marks, and
    a bounded repetition in one fails to compile.
    """
    score = {"type": "integer", "minimum": rubric.min_score, "maximum": rubric.max_score}
    return {
        "type": "object",
        "properties": {CRITIQUE: {"type": "string"}, **dict.fromkeys(rubric.axes, score)},
        "required": [CRITIQUE, *rubric.axes],
        "additionalProperties": False,
    }


def parse(content: str | None, finish_reason: str | None, rubric: RubricText) -> Feedback | Rejected:
    """Check an answer against the schema, since not every engine keeps a grammar. Never raises."""
    if finish_reason != "stop":
        return Rejected(f"the answer ended by {finish_reason or 'nothing'} instead of stop")
    if not content:
        return Rejected("the answer is empty: reasoning never ended, or nothing was said")
    try:
        value = json.loads(content, strict=False)
    except (ValueError, RecursionError) as error:
        return Rejected(f"the answer is not JSON: {str(error)[:100]}")
    expected = {CRITIQUE, *rubric.axes}
    if not isinstance(value, dict) or value.keys() != expected:
        return Rejected(f"the answer is not an object of {', '.join(sorted(expected))}")
    critique = value[CRITIQUE]
    if not isinstance(critique, str):
        return Rejected("the critique is not a string")
    critique = _NOT_PRINTED.sub(" ", critique).strip()
    if not critique:
        return Rejected("the critique is empty")
    if any("\ud800" <= character <= "\udfff" for character in critique):
        return Rejected("the critique is not valid Unicode")
    for axis in rubric.axes:
        # bool is a subclass of int.
        if type(value[axis]) is not int or not rubric.min_score <= value[axis] <= rubric.max_score:
            return Rejected(f"{axis} is not an integer from {rubric.min_score} to {rubric.max_score}")
    return Feedback(critique, {axis: value[axis] for axis in rubric.axes})


def copied(critique: str, document: str) -> tuple[int, int]:
    """How many of the critique's 8-grams of words stand in the document, and how many it has."""
    words = _WORD.findall(critique.lower())
    runs = [f" {' '.join(words[start : start + NGRAM])} " for start in range(len(words) - NGRAM + 1)]
    if not runs:
        return 0, 0
    text = f" {' '.join(_WORD.findall(document.lower()))} "
    return sum(run in text for run in runs), len(runs)
