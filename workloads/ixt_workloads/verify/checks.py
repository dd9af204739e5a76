"""The verifiers that run no code of others: a function for each type, from a sample to a verdict."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

from ixt_workloads.contract.verifiers import Verifier, VerifierType
from ixt_workloads.verify.answers import (
    after_reasoning,
    answer_of,
    fenced,
    number,
    number_in,
    same_words,
    texts_of,
)
from ixt_workloads.verify.samples import Sample, Verdict, failure, right

Check = Callable[[Verifier, Sample], Verdict]

NO_ANSWER = Verdict(0.0, "verifier.extract matches nothing")


def exact_match(verifier: Verifier, sample: Sample) -> Verdict:
    """The answer is a reference, but for white space."""
    answer = answer_of(verifier, sample.completion)
    if answer is None:
        return NO_ANSWER
    return right(any(same_words(answer, text) for text in texts_of(sample.reference)), "is not the reference")


def numeric(verifier: Verifier, sample: Sample) -> Verdict:
    """The answer's number is the reference's."""
    answer = answer_of(verifier, sample.completion)
    if answer is None:
        return NO_ANSWER
    wanted = [
        number(text) if number(text) is not None else number_in(text) for text in texts_of(sample.reference)
    ]
    if all(value is None for value in wanted):
        return failure("its reference is no number")
    found = number_in(answer)
    if found is None:
        return right(found=False, reason="has no number")
    share = float(verifier.tolerance)
    same = any(value is not None and math.isclose(found, value, rel_tol=share) for value in wanted)
    return right(same, f"is {found:g}, not the reference")


def pattern(verifier: Verifier, sample: Sample) -> Verdict:
    """A regular expression is found in the answer."""
    answer = answer_of(verifier, sample.completion)
    if answer is None:
        return NO_ANSWER
    wanted = [verifier.pattern] if verifier.pattern else texts_of(sample.reference)
    return right(any(re.search(each, answer, re.MULTILINE) for each in wanted), "does not match")


def mathematics(verifier: Verifier, sample: Sample) -> Verdict:
    """The answer is the same mathematics as the reference, by math-verify."""
    from math_verify import parse, verify

    answer = answer_of(verifier, sample.completion)
    if answer is None:
        return NO_ANSWER
    # Its own time limits are signals; this process has one already.
    wanted = [parse(_in_dollars(text), parsing_timeout=None) for text in texts_of(sample.reference)]
    if not any(wanted):
        return failure("its reference is no mathematics that math-verify reads")
    found = parse(answer, parsing_timeout=None)
    if not found:
        return right(found=False, reason="has no mathematics")
    same = any(verify(gold, found, timeout_seconds=None) for gold in wanted if gold)
    return right(same, "is not the same as the reference")


def json_schema(verifier: Verifier, sample: Sample) -> Verdict:
    """The answer is JSON of a schema."""
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry

    schema = verifier.schema_text or sample.reference
    try:
        schema = json.loads(schema) if isinstance(schema, str) else schema
        kind = validator_for(schema)
        kind.check_schema(schema)
    except (ValueError, SchemaError) as error:
        return failure(f"the schema is none: {_line(error)}")
    answer = answer_of(verifier, sample.completion)
    if answer is None:
        return NO_ANSWER
    if verifier.extract is None:
        answer = fenced(answer, ("json",)) or answer
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError) as error:
        return right(found=False, reason=f"is no JSON: {_line(error)}")
    # An own registry: none of the schema's references is fetched from elsewhere.
    problem = next(kind(schema, registry=Registry()).iter_errors(value), None)
    return right(problem is None, f"{problem.json_path}: {problem.message}" if problem else "")


def code_of(verifier: Verifier, sample: Sample) -> str | None:
    """The Python of an answer."""
    if verifier.extract is not None:
        return answer_of(verifier, sample.completion)
    said = after_reasoning(sample.completion)
    return fenced(said, ("python", "py", "python3")) or said


CHECKS: dict[VerifierType, Check] = {
    VerifierType.EXACT_MATCH: exact_match,
    VerifierType.NUMERIC: numeric,
    VerifierType.PATTERN: pattern,
    VerifierType.MATH: mathematics,
    VerifierType.JSON_SCHEMA: json_schema,
}


def _in_dollars(text: str) -> str:
    """A reference as math-verify finds it: LaTeX is looked for between dollars or in a box only."""
    marked = "$" in text or "\\boxed" in text or "\\(" in text or "\\[" in text
    return text if marked else f"${text}$"


def _line(error: Any) -> str:
    return str(error).strip().partition("\n")[0][:200]
