"""What says whether a model's answer to a prompt is right: the settings of verifiers."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from ixt_workloads.contract.base import Decimal, InKey, Model, NotInKey, Number, Percent

PathToFunction = Annotated[
    str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+$", max_length=256)
]


class VerifierType(StrEnum):
    """How an answer is verified."""

    EXACT_MATCH = "ExactMatch"
    NUMERIC = "Numeric"
    PATTERN = "Pattern"
    MATH = "Math"
    CODE_TESTS = "CodeTests"
    JSON_SCHEMA = "JsonSchema"
    FUNCTION = "Function"


class Verifier(Model):
    """Says how right an answer is, from 0 to 1, or that it does not apply. It runs in processes of its own;
    code of others has no network there and writes no files. An answer on which it fails is invalid."""

    type: Annotated[VerifierType, InKey]
    """ExactMatch: the answer is the reference, but for white space. Numeric: the same number. Pattern: a
    regular expression is found in it. Math: the same by math-verify. CodeTests: its Python passes the
    reference's tests. JsonSchema: it is JSON of that schema. Function: a function of the image says so."""
    function: Annotated[PathToFunction | None, InKey] = None
    """Function: its import path in the image, such as rewards.sums.score. It is called as
    f(data_source, solution_str, ground_truth, extra_info) or f(prompts, completions, **columns), by the names
    of its parameters, and returns a number, or None where it does not apply."""
    revision: Annotated[str | None, InKey, Field(min_length=1, max_length=64)] = None
    """Function: a name for its present code. Change it with the code: the image is in no key."""
    pattern: Annotated[str | None, InKey, Field(min_length=1, max_length=4096)] = None
    """Pattern: the regular expression for all prompts. Unset: each prompt's reference is one."""
    schema_text: Annotated[str | None, InKey, Field(alias="schema", min_length=2, max_length=16_384)] = None
    """JsonSchema: the schema for all prompts, as JSON. Unset: each prompt's reference is one."""
    extract: Annotated[str | None, InKey, Field(min_length=1, max_length=1024)] = None
    """Regular expression whose last match in what the model said is its answer, or the match's first group.
    Unset: for numbers the last \\boxed{}, else what follows the last ####, else the last number; for JSON and
    code the last fenced block, else all; else all that follows reasoning in <think> tags."""
    tolerance: Annotated[Decimal, InKey] = "1e-6"
    """Numeric: numbers are equal that differ by at most this share of the larger one."""
    min: Annotated[Number, InKey] = "0"
    """Function: what it returns for the worst answer, as a string."""
    max: Annotated[Number, InKey] = "1"
    """Function: the same for the best answer."""
    passing_percent: Annotated[Percent, InKey] = 100
    """An answer is right from so many percent on of the way from the worst to the best."""
    timeout_seconds: Annotated[int, InKey, Field(ge=1, le=600)] = 10
    """Most seconds for one answer."""
    memory_mi_b: Annotated[int, NotInKey, Field(ge=128, le=65_536)] = 1024
    """Most address space of the process that verifies, in MiB; there is one for each core of the step."""

    @property
    def needs_reference(self) -> bool:
        """Prompts need a reference answer."""
        by_type = {
            VerifierType.PATTERN: self.pattern is None,
            VerifierType.JSON_SCHEMA: self.schema_text is None,
            VerifierType.FUNCTION: False,
        }
        return by_type.get(self.type, True)

    @property
    def runs_foreign_code(self) -> bool:
        """It runs code that somebody else than ixt wrote: only where that can be confined."""
        return self.type in (VerifierType.CODE_TESTS, VerifierType.FUNCTION)

    def passes(self, score: float | None) -> bool:
        """Whether a score of the verifier, from 0 to 1, means a right answer."""
        return score is not None and 100 * score >= self.passing_percent - 1e-6


class JudgeSees(StrEnum):
    """What a judge is shown of an answer to a prompt."""

    REFERENCE = "Reference"
    """The prompt's reference answer too, which its critique may not quote (gates.maxQuotingPercent)."""
    ANSWER_ONLY = "AnswerOnly"


class EvalSampling(Model):
    """How a model's answers to held-out prompts are sampled."""

    samples: Annotated[int, InKey, Field(ge=1, le=64)] = 8
    """Answers to each prompt and prefix: pass@k is known for k up to it."""
    temperature: Annotated[Decimal, InKey] = "1"
    """0 is greedy decoding."""
    top_p: Annotated[Decimal, InKey] = "1"
    """Nucleus sampling."""
    top_k: Annotated[int | None, InKey, Field(ge=1, le=1_000_000)] = None
    """Only so many of the most likely tokens are drawn from. Unset: from all."""
    max_tokens: Annotated[int | None, InKey, Field(ge=1, le=131_072)] = None
    """Most tokens of an answer. Unset: rollout.maxTokens."""
