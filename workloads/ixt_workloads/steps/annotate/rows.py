"""Feedback as rows, the parquet file of a shard, and the tally that stands in its footer."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.figures import in_buckets
from ixt_workloads.contract.metrics import (
    CONTRADICTED,
    DOCUMENTS,
    DOCUMENTS_CUT,
    OVERLAP,
    QUOTED,
    RIGHT,
    SCORES,
    TOKEN_KINDS,
    TOKENS,
    VERIFIED,
    DocumentResult,
    VerifierResult,
)
from ixt_workloads.contract.results import Figures
from ixt_workloads.contract.settings import Gate, Gates
from ixt_workloads.data.counts import Counts
from ixt_workloads.data.parquet import parquet, with_counts
from ixt_workloads.feedback.answers import copied
from ixt_workloads.verify.samples import Sample, Verdict

CONVINCING = 50
"""Documents after which a gate may fail the run, before all are read."""

EXAMPLES = 3
"""Documents of each kind of failure that a shard tells."""

MAX_BINS = 25
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("status", pa.string()),
        ("score", pa.float64()),
        ("axes", pa.string()),
        ("critique", pa.string()),
        ("reasoning", pa.string()),
        ("truncated", pa.bool_()),
        *((f"{kind}_tokens", pa.int32()) for kind in TOKEN_KINDS),
        ("tries", pa.int8()),
        ("reason", pa.string()),
        ("fingerprint", pa.string()),
    ]
)
ANSWERS_SCHEMA = pa.schema([*SCHEMA, ("verified", pa.float64()), ("verdict", pa.string())])
"""Of the feedback on a model's answers to prompts."""


class Answer(NamedTuple):
    """What is known of a document that is a model's answer to a prompt."""

    sample: Sample
    asked: str
    """The prompt as text."""
    reference: str
    """The reference answer as text; empty for none."""
    verdict: Verdict | None = None
    """Of the verifier, once it has said one."""


@dataclass(frozen=True)
class Document:
    """What is read of a document of the inventory."""

    id: str
    text: str
    score: float | None = None
    """Existing feedback, as is `critique`."""
    critique: str | None = None
    answer: Answer | None = None


@dataclass
class Row:
    """Feedback on one document; the columns are described in docs/artifacts.md."""

    id: str
    status: str = "invalid"
    score: float | None = None
    axes: str = "{}"
    critique: str = ""
    reasoning: str = ""
    truncated: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    feedback_tokens: int = 0
    wasted_tokens: int = 0
    tries: int = 0
    fingerprint: str = ""
    reason: str = ""
    """Why the last answer was rejected; empty where it is valid."""
    result: DocumentResult = DocumentResult.OTHER
    """The kind of `reason`; no column, as are the last four."""
    verified: float | None = None
    """How right the verifier found an answer, from 0 to 1; None: not known."""
    verdict: str = ""
    """Why it is not 1."""
    verifier: VerifierResult | None = None
    """The kind of what it said."""
    right: bool | None = None
    contradicts: bool | None = None
    """The judge's score contradicts the verifier; None where not both said something."""
    quotes: bool | None = None
    """The critique held the reference answer; None without a reference."""

    def tokens(self) -> dict[str, int]:
        """Tokens by kind."""
        return {kind: getattr(self, f"{kind}_tokens") for kind in TOKEN_KINDS}

    def computed(self) -> int:
        """Tokens that the judge ran through its layers for this document."""
        used = self.tokens()
        return sum(used.values()) - 2 * used["cached"]

    def context(self) -> float:
        """Mean length of a conversation about this document, in tokens."""
        used = self.tokens()
        return (sum(used.values()) - used["cached"]) / max(self.tries, 1)


@dataclass
class Tally(Counts):
    """Counts over the rows of a shard; those of all shards give the artifact's summary."""

    documents: int = 0
    valid: int = 0
    truncated: int = 0
    copied: int = 0
    """8-grams of critiques that stand in their documents, of `grams`."""
    grams: int = 0
    verified: int = 0
    """Answers with a verdict, `right` of them right ones."""
    right: int = 0
    compared: int = 0
    """Answers that verifier and judge both scored; of `contradicted` they say the opposite."""
    contradicted: int = 0
    referenced: int = 0
    """Critiques on answers to prompts with a reference; `quoted` of them quoted it."""
    quoted: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    """Answers by `VerifierResult`."""
    flops: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    scores: Counter[str] = field(default_factory=Counter)
    """Documents by score, written with six significant digits."""
    results: Counter[str] = field(default_factory=Counter)
    """Documents by `DocumentResult`."""
    examples: Counter[str] = field(default_factory=Counter)
    """Some documents without valid feedback: `<result> <id>: <reason>`."""
    probe: Counter[str] = field(default_factory=Counter)
    """What the first sample said of the judge, see `Probe`."""
    served: Counter[str] = field(default_factory=Counter)
    """Documents by what an endpoint has behind the judge's name, where it tells that."""
    warnings: Counter[str] = field(default_factory=Counter)
    """Gates beyond their limits that only warn, in words."""

    def add_cost(self, row: Row, flops: int) -> None:
        """Count what a reading cost whose feedback is not kept."""
        self.flops += flops
        used = row.tokens()
        cached, wasted = used.pop("cached"), sum(used.values())
        self.tokens.update({"wasted": wasted - cached})

    def add(self, row: Row, document: str, flops: int) -> None:
        """Count a row and the document that it is about."""
        valid = row.status == "ok"
        found, grams = copied(row.critique, document) if valid else (0, 0)
        scores = {f"{row.score:.6g}": 1} if row.score is not None else {}
        self.merge(
            Tally(
                documents=1,
                valid=valid,
                truncated=row.truncated,
                verified=row.verified is not None,
                right=bool(row.right),
                compared=row.contradicts is not None,
                contradicted=bool(row.contradicts),
                referenced=row.quotes is not None,
                quoted=bool(row.quotes),
                verdicts=Counter({row.verifier: 1} if row.verifier else {}),
                copied=found,
                grams=grams,
                flops=flops,
                tokens=Counter(row.tokens()),
                scores=Counter(scores),
                results=Counter({DocumentResult.OK if valid else row.result: 1}),
                examples=self._example(row),
            )
        )

    def _example(self, row: Row) -> Counter[str]:
        """The row as an example, unless there are enough of its kind."""
        known = sum(example.startswith(f"{row.result} ") for example in self.examples)
        wanted = row.status != "ok" and row.reason and known < EXAMPLES
        return Counter({f"{row.result} {row.id}: {row.reason}": 1} if wanted else {})

    def told(self) -> str:
        """How many documents have no feedback, by kind, each with an example; empty where all have."""
        said = []
        for result, count in sorted(self.results.items()):
            if result == DocumentResult.OK:
                continue
            example = next((each for each in sorted(self.examples) if each.startswith(f"{result} ")), "")
            such = f" (such as {example.partition(' ')[2]})" if example else ""
            said.append(f"{count:,} {result}{such}")
        if self.verified:
            said.append(f"{self.right:,} of {self.verified:,} answers are right")
        if self.contradicted:
            said.append(f"the judge contradicts the verifier on {self.contradicted:,} of {self.compared:,}")
        if self.quoted:
            said.append(
                f"{self.quoted:,} of {self.referenced:,} critiques quote the reference and are not used"
            )
        if len(self.served) > 1:
            said.append(f"several models read them behind one name: {', '.join(sorted(self.served))}")
        said += sorted(self.warnings)
        return "; ".join(said)

    def figures(self) -> Figures:
        """These counts for Prometheus."""
        results: dict[str, float] = {**dict.fromkeys(DocumentResult, 0.0), **self.results}
        if not self.results:  # a shard of a version that kept none
            results |= {DocumentResult.OK: self.valid, DocumentResult.OTHER: self.documents - self.valid}
        found: Figures = {
            DOCUMENTS.name: results,
            DOCUMENTS_CUT.name: {"": self.truncated},
            TOKENS.name: dict(self.tokens),
            SCORES.name: in_buckets(SCORES, {float(score): count for score, count in self.scores.items()}),
        }
        if self.grams:
            found[OVERLAP.name] = {"": self.copied / self.grams}
        if self.verdicts:
            found[VERIFIED.name] = {**dict.fromkeys(VerifierResult, 0.0), **self.verdicts}
        for metric, part, whole in (
            (RIGHT, self.right, self.verified),
            (CONTRADICTED, self.contradicted, self.compared),
            (QUOTED, self.quoted, self.referenced),
        ):
            if whole:
                found[metric.name] = {"": part / whole}
        return found

    @property
    def invalid_percent(self) -> float:
        """Documents without valid feedback, in percent."""
        return 100 * (self.documents - self.valid) / max(self.documents, 1)

    @property
    def overlap_percent(self) -> float:
        """Copied 8-grams of the critiques, in percent."""
        return 100 * self.copied / max(self.grams, 1)

    def check(self, gates: Gates, at_least: int, example: str = "") -> None:
        """Raise StepError when a gate's limit is exceeded, from `at_least` documents on."""
        if self.documents < at_least:
            return
        if self.invalid_percent > gates.max_invalid_percent and Gate.INVALID not in gates.warn:
            raise StepError(
                Exit.DATA,
                f"{self.documents - self.valid} of {self.documents} documents lack valid feedback, more than "
                f"gates.maxInvalidPercent = {gates.max_invalid_percent}{': ' if example else ''}{example}",
                "check the judge's chat template, reasoningParser and sampling.maxTokens, or raise the gate",
            )
        if self.overlap_percent > gates.max_overlap_percent and Gate.OVERLAP not in gates.warn:
            raise StepError(
                Exit.DATA,
                f"{self.overlap_percent:.0f} % of the critiques' 8-grams are copied from their documents, "
                f"more than gates.maxOverlapPercent = {gates.max_overlap_percent}: feedback leaks the text",
                "tell the judge in the rubric not to quote, or raise the gate",
            )
        for gate, found, of, limit, what, hint in (
            (Gate.CONTRADICTION, self.contradicted, self.compared, gates.max_contradiction_percent,
             "answers have a judge's score that contradicts the verifier",
             "compare rubric and verifier: is the answer extracted as it should be, does the judge see the "
             "reference"),
            (Gate.QUOTING, self.quoted, self.referenced, gates.max_quoting_percent,
             "critiques quote the reference answer: feedback leaks it",
             "tell the judge in the rubric not to, or set judgeSees to AnswerOnly"),
        ):  # fmt: skip
            if of >= at_least and 100 * found > limit * of and gate not in gates.warn:
                raise StepError(
                    Exit.DATA,
                    f"{found:,} of {of:,} {what}, more than gates.max{gate}Percent = {limit}",
                    f"{hint}; or raise the gate, or list {gate} in gates.warn",
                )

    def summary(self, source: str, parameters: int) -> dict[str, Any]:
        """The artifact's summary."""
        return {
            "documents": self.documents,
            "valid": self.valid,
            "invalid": self.documents - self.valid,
            "truncated": self.truncated,
            "tokens": {kind: self.tokens[kind] for kind in TOKEN_KINDS},
            "flops": self.flops,
            "judgeParameters": parameters,
            "scores": histogram(self.scores),
            "overlapPercent": round(self.overlap_percent, 2),
            "source": source,
            "results": dict(sorted(self.results.items())),
            "probe": dict(sorted(self.probe.items())),
            "served": dict(sorted(self.served.items())),
            "warnings": sorted(self.warnings),
            "examples": sorted(self.examples)[: EXAMPLES * len(DocumentResult)],
            **self._of_answers(),
        }

    def _of_answers(self) -> dict[str, Any]:
        """What the summary says of a model's answers; nothing of other documents."""
        if not (self.verified or self.referenced):
            return {}
        return {
            "verified": self.verified,
            "right": self.right,
            "contradictionPercent": round(100 * self.contradicted / max(self.compared, 1), 2),
            "quotingPercent": round(100 * self.quoted / max(self.referenced, 1), 2),
        }


def histogram(scores: Counter[str]) -> dict[str, int]:
    """Counts by score; beyond 25 different ones, in 20 equal bins named by their lower ends."""
    ordered = sorted(scores.items(), key=lambda item: float(item[0]))
    if len(ordered) <= MAX_BINS:
        return dict(ordered)
    low, high = float(ordered[0][0]), float(ordered[-1][0])
    # Each divided first: their difference may be no finite number.
    width = high / 20 - low / 20
    bins = Counter({f"{low + place * width:.6g}": 0 for place in range(20)})
    names = list(bins)
    for score, count in ordered:
        bins[names[min(int(float(score) / width - low / width), 19)]] += count
    return dict(bins)


def to_parquet(rows: Sequence[Row], tally: Tally, schema: pa.Schema = SCHEMA) -> bytes:
    """The file of a shard: the same bytes for the same rows."""
    columns = [pa.array([getattr(row, column.name) for row in rows], column.type) for column in schema]
    return parquet(with_counts(pa.Table.from_arrays(columns, schema=schema), tally))
