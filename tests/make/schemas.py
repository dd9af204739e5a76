"""The schema of runs, as a test walks it and as plain JSON schema."""

from collections.abc import Iterator
from typing import Any

import jsonschema

from ixt_operator.api.run import IXTRun
from ixt_operator.generate.crd import openapi

Schema = dict[str, Any]

RUN = openapi(IXTRun)


def schemas(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema below one with its path, for example spec.stages[].name or spec.pods.judge.limits.*"""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from schemas(field, f"{path}.{name}" if path else name)
    if "items" in schema:
        yield from schemas(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from schemas(schema["additionalProperties"], f"{path}.*")


def _plain(schema: Schema) -> Schema:
    """int-or-string in the words of plain JSON schema."""
    found = {
        name: {key: _plain(item) for key, item in value.items()} if name == "properties" else value
        for name, value in schema.items()
    }
    for name in ("items", "additionalProperties"):
        if name in found:
            found[name] = _plain(found[name])
    if found.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    return found


VALIDATOR = jsonschema.Draft202012Validator(_plain(RUN))
"""Finds what the schema forbids, without rules and the uniqueness of lists."""

RULES = [
    rule["message"]
    for _, schema in schemas(RUN)
    for rule in schema.get("x-kubernetes-validations", ())
    if "oldSelf" not in rule["rule"]
]
"""Messages of the rules in CEL, without those that compare with the object before an update."""


def inside(value: Any) -> Iterator[str]:
    """Every path below a value, for example .stages[0].name"""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        step = f"[{name}]" if isinstance(name, int) else f".{name}"
        yield step
        yield from (step + below for below in inside(item))
