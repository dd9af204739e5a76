"""The API's reference, from the same schema as the CRDs: `python -m ixt_operator.generate.reference FILE`."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ixt_operator.api.engine import ENGINE_ARGUMENT_PATTERN, ENGINE_ARGUMENTS, REFUSED
from ixt_operator.api.meta import API_VERSION
from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.generate.crd import openapi

HEAD = f"""\
# API reference: {API_VERSION}

Made by `make crds` from the models in `operator/ixt_operator/api`;
`kubectl explain ixtrun.spec` shows the same. Numbers with a fraction are strings (`"3e-4"`), since the
API has no floats. In files that `ixt` reads, a URI may also be a path that starts with `./`, `../` or `/`.
"""


def reference() -> str:
    """The reference as Markdown."""
    return "\n".join([HEAD, *_kind(IXTRun, ("spec", "status")), *_kind(IXTRuntime, ("spec",))])


def _kind(model: type[IXTRun | IXTRuntime], parts: tuple[str, ...]) -> Iterator[str]:
    schema = openapi(model)
    yield f"## {model.__name__}\n\n{schema['description']}\n"
    for part in parts:
        yield f"### {model.__name__}.{part}\n\n| Field | Type | Default | Description |\n|---|---|---|---|"
        yield from _rows(schema["properties"][part], f"{part}.")
        yield ""


def _rows(schema: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        required = " (required)" if name in schema.get("required", ()) else ""
        default = f"`{_plain(field['default'])}`" if field.get("default") not in (None, {}) else ""
        yield f"| `{path}` | {_type(field)}{required} | {default} | {_text(field)} |"
        items = field.get("items", field)
        # All patches of pods have the same fields.
        if prefix != "spec.pods." or name == "all":
            yield from _rows(items, f"{path}{'[]' if 'items' in field else ''}.")


def _type(field: dict[str, Any]) -> str:
    low, high = field.get("minimum"), field.get("maximum")
    match field.get("type"):
        case "array":
            return f"list of {_type(field['items'])}, at most {field['maxItems']}"
        case "object" if "additionalProperties" in field:
            return f"map to {_type(field['additionalProperties'])}, at most {field['maxProperties']}"
        case "integer":
            return f"integer, {low} to {high}"
        case "string" if "enum" in field:
            return " or ".join(f"`{word}`" for word in field["enum"])
        case "string":
            return f"string, at most {field['maxLength']}"
        case None:
            return "integer or string"
        case other:
            return str(other)


def _text(field: dict[str, Any]) -> str:
    rules = [rule["message"] for rule in field.get("x-kubernetes-validations", ())]
    rules += [rule["message"] for rule in field.get("items", {}).get("x-kubernetes-validations", ())]
    text = " ".join([field["description"], *(f"*Rule: {rule}.*" for rule in rules)])
    if field.get("items", {}).get("pattern") == ENGINE_ARGUMENT_PATTERN:
        refused = "; ".join(f"what {why} ({_options(names.split())})" for why, names in REFUSED.items())
        text += f" ixt knows {_options(ENGINE_ARGUMENTS)} and warns of others. Refused is {refused}."
    return text.replace("|", "\\|")


def _options(names: Iterable[str]) -> str:
    return ", ".join(f"`--{name}`" for name in names)


def _plain(value: Any) -> str:
    return str(value).replace("'", "")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference())
