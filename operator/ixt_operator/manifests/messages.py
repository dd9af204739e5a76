"""pydantic's errors as messages for people: what is wrong, and what to write instead."""

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from difflib import get_close_matches
from functools import reduce
from typing import Any, TypeVar, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from ixt_operator.api.engine import ENGINE_ARGUMENT_PATTERN
from ixt_operator.api.resources import QUANTITY_PATTERN
from ixt_operator.api.rules import FieldPath
from ixt_workloads.contract.base import DECIMAL_PATTERN, NUMBER_PATTERN
from ixt_workloads.contract.trackers import TRACKER_URL

AnyClass = TypeVar("AnyClass")

_URI = "must be a URI without spaces (s3://bucket/path, gs://bucket/path, pvc://claim/path, {}file:///path)"
_NAME = "must be lower-case letters, digits and '-', such as my-name"

PATTERNS = {
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$": _NAME,
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$": _NAME,
    r"^(s3|gs|pvc|hf|file)://[^\s]+$": _URI.format("hf://owner/name, ") + " or a path that starts with ./",
    r"^(s3|gs|pvc|file)://[^\s]+$": _URI.format("") + " or a path that starts with ./",
    NUMBER_PATTERN: "must be a decimal number in quotes, such as '-1.5'",
    DECIMAL_PATTERN: "must be a decimal number of at least 0 in quotes, such as '3e-4'",
    QUANTITY_PATTERN: "must be an amount as Kubernetes writes it, such as 2, '500m' or '16Gi'",
    ENGINE_ARGUMENT_PATTERN: "must be an option of vLLM as --name or --name=value",
    r"^https?://[^\s]+$": "must be a URL: http:// or https://",
    TRACKER_URL: "must be a URL without credentials: http:// or https://",
}
"""What a pattern asks for; other patterns are shown as they are."""


HUB_NAME = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
"""owner/name, as the Hugging Face hub names its repositories."""

_SIZES = {"k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}


def _in_full(given: Any) -> str:
    """What to write instead of a number such as 200M, 1.5B, 2e8 or 1_000."""
    text = str(given).strip().replace("_", "").replace(",", "")
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:[eE]\+?\d{1,2})?)([kKmMbBgGtT]?)", text)
    if not found:
        return ""
    number = Decimal(found[1]) * _SIZES.get(found[2].lower(), 1)
    return f": write {int(number)}" if number == int(number) else ""


def path_of(detail: ErrorDetails) -> FieldPath:
    """The field that one of pydantic's errors is about."""
    return tuple(step for step in detail["loc"] if step != "[key]")


def explain(detail: ErrorDetails, model: type[BaseModel]) -> Iterator[tuple[FieldPath, str]]:
    """The problem that one of pydantic's errors stands for, as path and message, if it is one."""
    given, context = detail["input"], detail.get("ctx", {})
    # pydantic does not count items that are wrong themselves
    if detail["type"] != "too_short" or len(given) < context["min_length"]:
        yield path_of(detail), _message(detail, given, context, model)


def _message(detail: ErrorDetails, given: Any, context: dict[str, Any], model: type[BaseModel]) -> str:
    match detail["type"]:
        case "extra_forbidden":
            name = str(detail["loc"][-1])
            fields = fields_at(model, detail["loc"][:-1])
            return f"unknown field{nearest(name, fields) or ': there are ' + ', '.join(fields)}"
        case "missing":
            return "is required"
        case "int_type" | "int_from_float" | "int_parsing":
            return f"must be a whole number, not {quoted(given)}{_in_full(given)}"
        case "string_type":
            unquoted = isinstance(given, int | float)
            return f"must be text, not {quoted(given)}" + (": put it in quotes" if unquoted else "")
        case "bool_type":
            return f"must be true or false, not {quoted(given)}"
        case "tuple_type":
            return f"must be a list, not {quoted(given)}"
        case "model_type" | "dict_type":
            return f"must be a mapping, not {quoted(given)}"
        case "enum" | "literal_error":
            words = [word.strip("'") for word in re.findall(r"'[^']*'", context["expected"])]
            return f"must be {_either(words)}, not {quoted(given)}{nearest(given, words)}"
        case "string_pattern_mismatch":
            pattern = context["pattern"]
            hub = "hf" in pattern and re.fullmatch(HUB_NAME, str(given))
            meant = f": did you mean hf://{given}?" if hub else ""
            return f"{PATTERNS.get(pattern, f'must match {pattern}')}, not {quoted(given)}{meant}"
        case "greater_than_equal":
            return f"must be at least {context['ge']}, not {given}"
        case "less_than_equal":
            return f"must be at most {context['le']}, not {given}"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters, has {len(given)}"
        case "string_too_short":
            return (
                "must not be empty" if not given else f"must have at least {context['min_length']} characters"
            )
        case "too_short":
            return f"must have at least {context['min_length']} item(s)"
        case "value_error":
            return str(context["error"])
    return detail["msg"]


def fields_at(model: type[BaseModel], path: FieldPath) -> list[str]:
    """Names of the fields of the object at a path."""

    def below(found: type[BaseModel], step: str | int) -> type[BaseModel]:
        for name, field in found.model_fields.items():
            if step == (field.alias or name):
                return model_in(field.annotation) or found
        return found  # an index: the field's own items

    found = reduce(below, path, model)
    return sorted(field.alias or name for name, field in found.model_fields.items())


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation holds: itself, optional, or as the items of a tuple."""
    return class_in(annotation, BaseModel)


def class_in(annotation: Any, kind: type[AnyClass]) -> type[AnyClass] | None:
    """The class of a kind that an annotation holds, likewise."""
    if isinstance(annotation, type) and issubclass(annotation, kind):
        return annotation
    held = (class_in(part, kind) for part in get_args(annotation))
    return next((found for found in held if found), None)


def closest(word: Any, words: Iterable[str]) -> str:
    """The word that was probably meant; empty if there is none."""
    lower = {known.lower(): known for known in words}
    close = get_close_matches(str(word).lower(), lower, 1)
    return lower[close[0]] if close else ""


def nearest(word: Any, words: Iterable[str]) -> str:
    """A question that names the word that was probably meant."""
    close = closest(word, words)
    return f": did you mean {close}?" if close else ""


def _either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def quoted(value: Any) -> str:
    """A value as messages show it: scalars as written, others by their kind."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return f"'{value}'" if len(value) <= 60 else f"'{value[:57]}...'"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
    return str(value)


def shown(path: FieldPath) -> str:
    """A path as people write it: spec.stages[0].train."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")
