"""A verifier that is a Python function of the image, with either of the two usual signatures."""

import asyncio
import importlib
import inspect
import math
from collections.abc import Callable
from typing import Any

from ixt_workloads.contract.verifiers import Verifier
from ixt_workloads.verify.samples import Sample, Verdict, failure, right

LIKE_VERL = ("data_source", "solution_str", "ground_truth", "extra_info")
"""Parameters of verl's `compute_score`."""


class UnusableError(Exception):
    """The function is not there, or has neither signature; `str` of it says what to do."""


def loaded(verifier: Verifier) -> Callable[[Sample], Verdict]:
    """The function that verifier.function names, as a check. Raises UnusableError."""
    module, _, name = (verifier.function or "").rpartition(".")
    try:
        function = getattr(importlib.import_module(module), name)
        parameters = inspect.signature(function).parameters
    except BaseException as error:  # noqa: BLE001 - whatever a module of somebody else raises
        raise UnusableError(
            f"{verifier.function} cannot be imported: {type(error).__name__}: {error}"
        ) from None
    any_name = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if "solution_str" in parameters:
        arguments = _like_verl
    elif "completions" in parameters:
        arguments = _like_trl
    else:
        raise UnusableError(
            f"{verifier.function} takes {', '.join(parameters) or 'nothing'}; it must take "
            f"{', '.join(LIKE_VERL)}, or prompts, completions and columns by their names"
        )

    def check(sample: Sample) -> Verdict:
        given = arguments(sample)
        found = function(**{name: value for name, value in given.items() if any_name or name in parameters})
        return _verdict(verifier, asyncio.run(_awaited(found)) if inspect.isawaitable(found) else found)

    return check


def _like_verl(sample: Sample) -> dict[str, Any]:
    columns = sample.columns
    values = (columns.get("data_source"), sample.completion, sample.reference, columns.get("extra_info"))
    return dict(zip(LIKE_VERL, values, strict=True))


def _like_trl(sample: Sample) -> dict[str, Any]:
    """Lists of one: prompts and answers as texts where the row's prompt is a text, else as turns."""
    prompt: Any = sample.prompt
    completion: Any = sample.completion
    if sample.plain:
        prompt = sample.prompt[-1]["content"] if sample.prompt else ""
    else:
        completion = [{"role": "assistant", "content": sample.completion}]
    known = {"ground_truth": sample.reference, "answer": sample.reference, **sample.columns}
    columns = {name: [value] for name, value in known.items()}
    return {**columns, "prompts": [prompt], "completions": [completion]}


def _verdict(verifier: Verifier, found: Any) -> Verdict:
    """What was returned as a verdict: a number, a list of one, or an object with `score`."""
    if isinstance(found, list | tuple) and len(found) == 1:
        found = found[0]
    if isinstance(found, dict) and "score" in found:
        found = found["score"]
    if found is None:
        return Verdict(None, "does not apply")
    try:
        value = float(found)
    except (TypeError, ValueError):
        return failure(f"{verifier.function} returned {type(found).__name__}, not a number or None")
    low, high = float(verifier.min), float(verifier.max)
    if not math.isfinite(value) or not low <= value <= high:
        return failure(
            f"{verifier.function} returned {value:g}, beyond verifier.min and max ({low:g} to {high:g})"
        )
    score = (value - low) / (high - low)
    return (
        right(found=True, reason="") if score == 1 else Verdict(score, f"{verifier.function} says {value:g}")
    )


async def _awaited(found: Any) -> Any:
    return await found
