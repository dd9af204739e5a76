"""Prompts with their samples, the parquet file that they stand in, and the tally in its footer."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.metrics import (
    ALIKE,
    GENERATED_TOKENS,
    PROMPTS,
    SAMPLES,
    PromptResult,
    SampleResult,
)
from ixt_workloads.contract.results import Figures
from ixt_workloads.data.chat import Conversation
from ixt_workloads.data.counts import Counts
from ixt_workloads.data.parquet import parquet, with_counts
from ixt_workloads.steps.inventory.spill import COLUMNS

CONVINCING = 50
"""Prompts from which on too many without samples end the step."""
MOST_UNANSWERED_PERCENT = 50
LONGEST_REASON = 300
CUT = "length"
"""How an answer ends that the limit of tokens ended."""

SCHEMA = pa.schema(
    [
        *COLUMNS,
        ("answer", pa.large_string()),
        ("extra", pa.large_string()),
        ("prompt_id", pa.string()),
        ("sample_index", pa.int16()),
        ("completion", pa.large_string()),
        ("completion_tokens", pa.int32()),
        ("finish", pa.string()),
        ("prefix", pa.string()),
    ]
)
"""An Inventory's columns, so that samples are annotated and prepared as documents are, and more."""


@dataclass(frozen=True)
class Prompt:
    """A prompt as it is asked."""

    id: str
    source: str
    conversation: Conversation
    answer: str | None
    """The ground truth as JSON, as is `extra`."""
    extra: str | None
    prefix: str
    """Name of the feedback under which it is asked."""
    ids: tuple[int, ...]
    """Its tokens, feedback included; none where the chat template refuses it."""
    refused: str = ""
    """Why it does."""


@dataclass(frozen=True)
class Sample:
    """One answer to a prompt."""

    text: str
    finish: str
    """`stop`, or `length` where it was cut."""
    tokens: int

    @property
    def result(self) -> SampleResult:
        """How it ended."""
        if not self.text.strip():
            return SampleResult.EMPTY
        return SampleResult.CUT if self.finish == CUT else SampleResult.COMPLETE


@dataclass(frozen=True)
class Answered:
    """What came of a prompt."""

    prompt: Prompt
    samples: tuple[Sample, ...] = ()
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    """Of all samples."""
    result: PromptResult = PromptResult.ANSWERED
    reason: str = ""
    """Why there are no samples."""

    @property
    def computed(self) -> int:
        """Tokens that the policy ran through its layers."""
        return self.prompt_tokens - self.cached_tokens + self.completion_tokens

    @property
    def context(self) -> float:
        """Mean length of prompt and sample, in tokens."""
        return self.prompt_tokens + self.completion_tokens / max(1, len(self.samples))


@dataclass
class Tally(Counts):
    """Counts over the prompts of a file; those of all files give the artifact's summary."""

    prompts: int = 0
    samples: int = 0
    cut: int = 0
    """Samples that reached maxTokens."""
    empty: int = 0
    alike: int = 0
    """Prompts of which all samples are the same."""
    flops: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    """`prompt`, `cached` and `completion`."""
    unanswered: Counter[str] = field(default_factory=Counter)
    """Prompts without samples by reason."""
    results: Counter[str] = field(default_factory=Counter)
    """Prompts by `PromptResult`."""
    ends: Counter[str] = field(default_factory=Counter)
    """Samples by `SampleResult`."""

    def figures(self) -> Figures:
        """These counts for Prometheus."""
        return {
            PROMPTS.name: {**dict.fromkeys(PromptResult, 0.0), **self.results},
            SAMPLES.name: {**dict.fromkeys(SampleResult, 0.0), **self.ends},
            ALIKE.name: {"": self.alike},
            GENERATED_TOKENS.name: dict(self.tokens),
        }

    def check(self, at_least: int) -> None:
        """Raise StepError when too many prompts have no sample, from `at_least` prompts on."""
        lost = self.unanswered.total()
        if self.prompts < at_least or 100 * lost <= MOST_UNANSWERED_PERCENT * self.prompts:
            return
        reason, count = self.unanswered.most_common(1)[0]
        raise StepError(
            Exit.DATA,
            f"{lost:,} of {self.prompts:,} prompts cannot be answered, {count:,} of them: {reason}",
            "shorten the prompts, lower rollout.maxTokens, or give prompts that the chat template takes",
        )

    def summary(self, *, evaluates: bool = False) -> dict[str, Any]:
        """The artifact's summary; no lane pays for answers by which it `evaluates` a policy."""
        return {
            # As an Inventory's: whoever reads samples as documents looks for these.
            "documents": self.samples,
            "holdout": 0,
            "prompts": self.prompts,
            "samples": self.samples,
            "cut": self.cut,
            "empty": self.empty,
            "alike": self.alike,
            "evaluationFlops" if evaluates else "flops": self.flops,
            "tokens": dict(sorted(self.tokens.items())),
            "unanswered": dict(self.unanswered.most_common(5)),
        }

    def told(self) -> str:
        """The summary in a line."""
        share = 100 * self.cut / max(1, self.samples)
        said = [f"{self.samples:,} samples of {self.prompts:,} prompts", f"{share:.0f} % cut at maxTokens"]
        if self.empty:
            said.append(f"{self.empty:,} empty")
        if self.alike:
            said.append(f"{self.alike:,} prompts whose samples are all alike")
        said += [f"{count:,} prompts unanswered: {why}" for why, count in self.unanswered.most_common(2)]
        return "; ".join(said)


def tally_of_prompt(found: Answered, flops: int) -> Tally:
    """What a prompt counts that cost so many FLOPs."""
    texts = [sample.text for sample in found.samples]
    return Tally(
        prompts=1,
        samples=len(texts),
        cut=sum(sample.finish == CUT for sample in found.samples),
        empty=sum(not text.strip() for text in texts),
        alike=len(texts) > 1 and len(set(texts)) == 1,
        flops=flops,
        tokens=Counter(
            prompt=found.prompt_tokens, cached=found.cached_tokens, completion=found.completion_tokens
        ),
        unanswered=Counter() if texts else Counter({found.reason[:LONGEST_REASON]: 1}),
        results=Counter({found.result: 1}),
        ends=Counter(sample.result for sample in found.samples),
    )


def to_parquet(answered: Sequence[Answered], round_: int, tally: Tally) -> bytes:
    """A file of samples: the same bytes for the same samples."""
    rows = [
        _row(found.prompt, sample, place, round_)
        for found in answered
        for place, sample in enumerate(found.samples)
    ]
    return parquet(with_counts(pa.Table.from_pylist(rows, SCHEMA), tally), row_group_size=1024)


def _row(prompt: Prompt, sample: Sample, place: int, round_: int) -> dict[str, Any]:
    asked = prompt.conversation
    talk = Conversation([*asked.turns, {"role": "assistant", "content": sample.text}], asked.tools)
    return {
        # A dash would make it the copy of a document.
        "id": f"{prompt.id.replace('-', 'c')}.{round_}.{prompt.prefix}.{place}",
        "source": prompt.source,
        "text": talk.as_text(),
        "messages": talk.to_json(),
        "sample": 0,
        "answer": prompt.answer,
        "extra": prompt.extra,
        "prompt_id": prompt.id,
        "sample_index": place,
        "completion": sample.text,
        "completion_tokens": sample.tokens,
        "finish": sample.finish,
        "prefix": prompt.prefix,
    }
