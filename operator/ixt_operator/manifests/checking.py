"""One object of a manifest: what it says, and all that is wrong with it at once."""

import json
from collections.abc import Set
from enum import Enum
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ixt_operator.api.rules import UNKNOWN, BrokenRulesError, FieldPath, Problems, broken
from ixt_operator.manifests.messages import class_in, closest, explain, fields_at, model_in, path_of

Read = TypeVar("Read", bound=BaseModel)


def understood(model: type[Read], value: dict[str, Any], unknown: Set[FieldPath]) -> tuple[Read, Problems]:
    """The object that plain values stand for, with the problems of its fields and between them.

    `unknown` are paths of values that could not be read. They and what has a problem are UNKNOWN in the
    object, so that no relation counts as broken because of them.
    """
    problems: Problems = []
    value = _trimmed(model, value, (), problems)
    errors: list[ErrorDetails] = []
    try:
        read = model.model_validate_json(json.dumps(value), strict=True)
        if not problems:
            return read, []
    except ValidationError as error:
        errors = [each for each in error.errors(include_url=False) if not _follows(each, unknown)]
    wrong = {_meant(error, model) for error in errors if error["type"] != "too_short"}
    found = _partial(model, value, wrong | unknown)
    problems += [problem for error in errors for problem in explain(error, model)]
    return found, problems + broken(found)


def _trimmed(annotation: Any, value: Any, path: FieldPath, told: Problems, most: int | None = None) -> Any:
    """A value without what is null, as the API server has it, and without what a list has too much. That is
    told here, since pydantic either looks into a list that is too long or says so."""
    if most is not None and isinstance(value, list | dict) and len(value) > most:
        told.append((path, f"must have at most {most} items, has {len(value)}"))
    if isinstance(value, list):
        return [_trimmed(annotation, item, (*path, index), told) for index, item in enumerate(value[:most])]
    if not isinstance(value, dict):
        return value
    model, kept = model_in(annotation), {}
    fields = {field.alias or name: field for name, field in model.model_fields.items()} if model else {}
    for name, item in [*value.items()][:most]:
        field = fields.get(name)
        if field and item is not None:
            limit = next((mark.max_length for mark in field.metadata if hasattr(mark, "max_length")), None)
            kept[name] = _trimmed(field.annotation, item, (*path, name), told, limit)
        elif item is not None or (model and not field):
            kept[name] = item
    return kept


def _meant(error: ErrorDetails, model: type[BaseModel]) -> FieldPath:
    """The field whose value is not known because of an error: for an unknown one, what was probably meant."""
    *place, name = path_of(error)
    extra = error["type"] == "extra_forbidden"
    return (*place, closest(name, fields_at(model, tuple(place))) if extra else name)


def _follows(error: ErrorDetails, unknown: Set[FieldPath]) -> bool:
    """Whether an error comes from what could not be read, or from a relation: these are asked once more."""
    broken_rules = isinstance(error.get("ctx", {}).get("error"), BrokenRulesError)
    return broken_rules or (error["type"] == "missing" and error["loc"][:-1] in unknown)


def _partial(annotation: Any, value: Any, wrong: Set[FieldPath], path: FieldPath = ()) -> Any:
    """A value of a type, unvalidated, with UNKNOWN in place of what is wrong."""
    if path in wrong:
        return UNKNOWN
    if isinstance(value, list):
        return tuple(_partial(annotation, item, wrong, (*path, index)) for index, item in enumerate(value))
    model = model_in(annotation)
    if model is None or not isinstance(value, dict):
        words = class_in(annotation, Enum)
        return words(value) if words and isinstance(value, str) else value
    fields = {}
    for name, field in model.model_fields.items():
        alias = field.alias or name
        given = alias in value or (*path, alias) in wrong
        fields[name] = (
            _partial(field.annotation, value.get(alias), wrong, (*path, alias))
            if given
            else field.get_default()
        )
    return model.model_construct(**fields)
