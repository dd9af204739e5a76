"""Whether a judge can be believed, from a first sample of documents and before all of them are paid for.

Each document of the sample is read twice, and once rewritten in a way that changes nothing about its quality:
in lower case, with other white space, or under a heading as Wikipedia has them. A judge that says something
else then does not judge the document.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from statistics import StatisticsError, correlation, fmean
from typing import NamedTuple

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.rubrics import RubricText
from ixt_workloads.contract.settings import Gate, Gates
from ixt_workloads.feedback.answers import copied
from ixt_workloads.steps.annotate.rows import Document, Row

PROBED = 32
"""Documents of the sample, each read three times."""
LEAST = 500
"""Documents from which on a sample pays: fewer are read as fast."""
LEAST_REFERENCES = 10
"""Documents of the sample that must have a second score before the two are compared."""
SHOWN = 2
SHOWN_CHARACTERS = 60

Read = Callable[[Document], Awaitable[Row]]


class Probe(NamedTuple):
    """What the sample says of the judge. Shares in percent; None: not known."""

    documents: int
    disagreement: float | None
    """Mean difference between two readings of a document, of the rubric's scale."""
    rewriting: float | None
    """The same between a document and its rewriting."""
    reference: float | None
    """Rank correlation with the reference that the documents carry, times 100."""
    one_score: float
    """Documents with the most frequent score."""
    truncated: float
    overlap: float
    """8-grams of the critiques that are copied from their documents."""
    samples: tuple[str, ...]
    """Some documents with their scores and the beginnings of their critiques."""
    second: float | None = None
    """Rank correlation with the scores of a second judge, times 100."""

    def beside(self, rows: Sequence[Row], others: Sequence[Row]) -> "Probe":
        """The same with what a second judge's rows say; `rows` begin with the judge's own."""
        pairs = [(row.score, other.score) for row, other in zip(rows, others, strict=False)]
        return self._replace(second=_agreement(pairs))

    def words(self) -> str:
        """For people."""
        said = [
            f"differs from itself by {_percent(self.disagreement)} of the scale",
            f"by {_percent(self.rewriting)} after harmless rewriting",
            f"gives {_percent(self.one_score)} the same score",
        ]
        if self.reference is not None:
            said.append(f"rank correlation with the reference {self.reference / 100:.2f}")
        if self.second is not None:
            said.append(f"rank correlation with the second judge {self.second / 100:.2f}")
        return f"the judge on {self.documents} documents: {', '.join(said)}; {'; '.join(self.samples)}"

    def check(self, gates: Gates) -> list[str]:
        """What is beyond a limit and only warned of. Raises StepError(DATA) for what is not."""
        warned = []
        for gate, found, limit, what, hint in (
            (Gate.DISAGREEMENT, self.disagreement, gates.max_disagreement_percent,
             "of the scale lie between two readings of a document", "lower sampling.temperature"),
            (Gate.REWRITING, self.rewriting, gates.max_rewriting_percent,
             "of the scale lie between a document and its harmless rewriting (case, white space, a heading)",
             "say in the rubric that form does not count, or take another judge"),
            (Gate.REFERENCE, None if self.reference is None else -self.reference,
             -gates.min_reference_percent, "is the rank correlation with the reference",
             "compare the rubric with what the reference means"),
            (Gate.ONE_SCORE, self.one_score, gates.max_one_score_percent,
             "of the documents get the same score", "describe the levels of the rubric in words"),
            (Gate.TRUNCATED, self.truncated, gates.max_truncated_percent,
             "of the documents do not fit the judge's context", "raise the judge's context"),
            (Gate.OVERLAP, self.overlap, gates.max_overlap_percent,
             "of the critiques' 8-grams are copied from their documents: feedback leaks the text",
             "tell the judge in the rubric not to quote"),
        ):  # fmt: skip
            if found is None or found <= limit:
                continue
            name = f"{'min' if gate is Gate.REFERENCE else 'max'}{gate}Percent = {abs(limit)}"
            words = f"{abs(found):.0f} % {what}, on the first {self.documents} documents (gates.{name})"
            if gate not in gates.warn:
                raise StepError(Exit.DATA, words, f"{hint}; or change the gate, or list {gate} in gates.warn")
            warned.append(words)
        return warned

    def summary(self) -> dict[str, float | int | None]:
        """For the artifact's summary."""
        found = {name: value for name, value in self._asdict().items() if name != "samples"}
        return {name: round(value, 2) if isinstance(value, float) else value for name, value in found.items()}


async def probe(read: Read, documents: Sequence[Document], rubric: RubricText) -> tuple[Probe, list[Row]]:
    """What the first documents say of the judge, and all rows that were paid for it."""
    asked = [
        *documents,
        *documents,
        *(replace(each, text=rewritten(each.text, place)) for place, each in enumerate(documents)),
    ]
    rows = list(await asyncio.gather(*map(read, asked)))
    number = len(documents)
    first, again, changed = rows[:number], rows[number : 2 * number], rows[2 * number :]
    scores = Counter(row.score for row in first if row.score is not None)
    grams = [copied(row.critique, each.text) for row, each in zip(first, documents, strict=True)]
    found = Probe(
        documents=number,
        disagreement=_difference(first, again, rubric),
        rewriting=_difference(first, changed, rubric),
        reference=_agreement([(row.score, each.score) for row, each in zip(first, documents, strict=True)]),
        one_score=100 * max(scores.values(), default=0) / max(scores.total(), 1),
        truncated=100 * fmean(row.truncated for row in first),
        overlap=100 * sum(same for same, _ in grams) / max(sum(every for _, every in grams), 1),
        samples=tuple(_shown(row) for row in first if row.score is not None)[:SHOWN],
    )
    return found, rows


def rewritten(text: str, place: int) -> str:
    """The same text in another form; which one goes by its place."""
    match place % 3:
        case 0:
            return text.lower()
        case 1:
            return re.sub(r"[ \t]+", "  ", text).replace("\n", "\n\n")
    return f"== Overview ==\n\n{text}\n\n== See also =="


def _difference(ones: Sequence[Row], others: Sequence[Row], rubric: RubricText) -> float | None:
    """Mean difference of the scores, axis by axis, in percent of the scale."""
    found = []
    for one, other in zip(ones, others, strict=True):
        left, right = json.loads(one.axes), json.loads(other.axes)
        found += [abs(left[axis] - right[axis]) for axis in left if axis in right]
    return 100 * fmean(found) / (rubric.max_score - rubric.min_score) if found else None


def _agreement(pairs: Sequence[tuple[float | None, float | None]]) -> float | None:
    """Rank correlation of pairs of scores, times 100; None where too few have both."""
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    if len(known) < LEAST_REFERENCES:
        return None
    ones, others = (_ranks(values) for values in zip(*known, strict=True))
    try:
        return 100 * correlation(ones, others)
    except StatisticsError:  # one of them is always the same
        return 0.0


def _ranks(values: Sequence[float]) -> list[float]:
    """Rank of each value; equal ones share the middle of theirs."""
    return [sum(other < value for other in values) + values.count(value) / 2 for value in values]


def _shown(row: Row) -> str:
    critique = row.critique[:SHOWN_CHARACTERS] + ("…" if len(row.critique) > SHOWN_CHARACTERS else "")
    return f"{row.id[:8]} {row.score:.3g} “{critique}”"


def _percent(value: float | None) -> str:
    return "an unknown share" if value is None else f"{value:.0f} %"
