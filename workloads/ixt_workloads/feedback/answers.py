"""What a judge is asked and what it may answer: prompt, grammar and validation. Pure."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from ixt_workloads.contract.metrics import DocumentResult
from ixt_workloads.contract.rubrics import DocumentForm, RubricText
from ixt_workloads.feedback.fencing import fenced

CRITIQUE = "critique"
MAX_CRITIQUE = 65_536
"""Characters; 4096 tokens of it at most are ever used."""
NGRAM = 8
"""Words in a row that count as copied: so many hardly ever agree by chance."""

CUT = ("length", "max_tokens", "model_length", "model_context_window_exceeded")
FILTERED = ("content_filter", "safety", "refusal", "prohibited_content", "blocklist", "recitation")
"""Reasons, in lower case, for which answers end early. By any other the answer itself says what it is."""

REPEATED = 256
"""An answer repeats itself if so many characters at its end are one phrase over and over, or white space."""
LONGEST_PHRASE = 86
"""In characters: a phrase comes at least three times."""

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
    result: DocumentResult


def messages(rubric: RubricText, document: str, system: str | None = None) -> list[dict[str, str]]:
    """The judge's conversation: a system text if there is one, and a user turn with instructions, a blank
    line and the document. What all documents have in common comes first, so that engines read it once."""
    told = fenced(document) if rubric.document is DocumentForm.FENCED else document
    asked = {"role": "user", "content": f"{rubric.instructions}\n\n{told}"}
    return [{"role": "system", "content": system}, asked] if system else [asked]


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
    if (finish_reason or "").lower() in (*CUT, *FILTERED):
        said = f"the answer ended by {finish_reason} instead of stop"
        return Rejected(said, _cut_short(content or "", (finish_reason or "").lower()))
    if not content:
        said = "the answer is empty: reasoning never ended, or nothing was said"
        return Rejected(said, DocumentResult.TRUNCATED_THINKING)
    try:
        value = json.loads(content, strict=False)
    except (ValueError, RecursionError) as error:
        return Rejected(f"the answer is not JSON: {str(error)[:100]}", DocumentResult.BAD_JSON)
    expected = {CRITIQUE, *rubric.axes}
    if not isinstance(value, dict) or value.keys() != expected:
        said = f"the answer is not an object of {', '.join(sorted(expected))}"
        return Rejected(said, DocumentResult.BAD_JSON)
    critique = value[CRITIQUE]
    if not isinstance(critique, str):
        return Rejected("the critique is not a string", DocumentResult.BAD_JSON)
    critique = _NOT_PRINTED.sub(" ", critique).strip()
    if len(critique) > MAX_CRITIQUE:
        return Rejected(f"the critique has more than {MAX_CRITIQUE:,} characters", DocumentResult.OTHER)
    if not critique:
        return Rejected("the critique is empty", DocumentResult.OTHER)
    if any("\ud800" <= character <= "\udfff" for character in critique):
        return Rejected("the critique is not valid Unicode", DocumentResult.OTHER)
    for axis in rubric.axes:
        # bool is a subclass of int.
        if type(value[axis]) is not int or not rubric.min_score <= value[axis] <= rubric.max_score:
            said = f"{axis} is not an integer from {rubric.min_score} to {rubric.max_score}"
            return Rejected(said, DocumentResult.OUT_OF_RANGE)
    return Feedback(critique, {axis: value[axis] for axis in rubric.axes})


def _cut_short(content: str, finish_reason: str) -> DocumentResult:
    """What became of an answer that did not end by itself."""
    if finish_reason in FILTERED:
        return DocumentResult.REFUSED
    if not content:
        return DocumentResult.TRUNCATED_THINKING
    tail = content[-REPEATED:]
    repeats = any(tail[period:] == tail[:-period] for period in range(1, LONGEST_PHRASE))
    endless = len(tail) == REPEATED and (repeats or not tail.strip())
    return DocumentResult.REPETITION if endless else DocumentResult.BAD_JSON


def copied(critique: str, document: str) -> tuple[int, int]:
    """How many of the critique's 8-grams of words stand in the document, and how many it has. Takes time in
    proportion to both, however much they repeat."""
    words, text = _WORD.findall(critique.lower()), _WORD.findall(document.lower())
    runs = Counter(tuple(words[start : start + NGRAM]) for start in range(len(words) - NGRAM + 1))
    firsts = {run[0] for run in runs}
    there = {
        run
        for start, word in enumerate(text)
        if word in firsts and (run := tuple(text[start : start + NGRAM])) in runs
    }
    return sum(runs[run] for run in there), runs.total()
