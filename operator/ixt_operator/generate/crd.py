"""CustomResourceDefinitions, made from the models: `python -m ixt_operator.generate.crd crds`.

pydantic's JSON schema is made a structural one: references are written out, an optional field has no null,
unknown fields are not mentioned (the API server prunes them), named lists are maps by name, and relations
between fields are CEL rules.
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from ixt_operator.api.meta import GROUP, VERSION
from ixt_operator.api.rules import Checked
from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import MAIN, IXTRuntime
from ixt_operator.manifests.documents import dump
from ixt_workloads.contract.base import Model
from ixt_workloads.contract.kinds import Role

Schema = dict[str, Any]

KEPT = """
    type description enum format pattern minimum maximum minLength maxLength minItems maxItems maxProperties
    required x-kubernetes-preserve-unknown-fields x-kubernetes-int-or-string x-kubernetes-validations
"""
"""Keywords that mean the same in JSON schema and in a CRD."""

_IMAGE = f'.spec.roles[?(@.name=="{{role}}")].template.spec.containers[?(@.name=="{MAIN}")].image'

COLUMNS = (
    ("Phase", "string", ".status.phase", 0),
    ("Stage", "string", ".status.summary.stage", 0),
    ("Step", "string", ".status.summary.step", 0),
    ("Progress", "integer", ".status.summary.progressPercent", 0),
    ("ETA Seconds", "integer", ".status.summary.etaSeconds", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Message", "string", ".status.summary.message", 1),
)
"""Columns of `kubectl get ixt`: name, type, path and priority; above 0, only -o wide shows it."""

RUNTIME_COLUMNS = (
    *((role.value, "string", _IMAGE.format(role=role), 0) for role in Role),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)
"""Columns of `kubectl get ixtruntime`: each role that it has, with its image."""


def crds() -> dict[str, str]:
    """The CRDs as YAML, by file name."""
    return {
        f"{GROUP}_{crd['spec']['names']['plural']}.yaml": dump(crd)
        for crd in (_run_crd(), _crd(IXTRuntime, "Cluster", ["ixtrt"], RUNTIME_COLUMNS))
    }


def _run_crd() -> dict[str, Any]:
    crd = _crd(IXTRun, "Namespaced", ["ixt"], COLUMNS)
    crd["spec"]["versions"][0]["subresources"] = {"status": {}}
    return crd


def _crd(
    model: type[BaseModel], scope: str, short: list[str], columns: Iterable[tuple[str, str, str, int]]
) -> dict[str, Any]:
    kind = model.__name__
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.lower()}s.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": f"{kind.lower()}s",
                "singular": kind.lower(),
                "shortNames": short,
            },
            "scope": scope,
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": openapi(model)},
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path, "priority": priority}
                        for name, kind, path, priority in columns
                    ],
                }
            ],
        },
    }


def openapi(model: type[BaseModel]) -> Schema:
    """The structural schema of a kind."""
    source = model.model_json_schema(schema_generator=_WithRules)
    for given in ("apiVersion", "kind", "metadata"):
        del source["properties"][given]
    source["required"] = ["spec"]
    schema = _structural(source, source["$defs"], "")
    schema["properties"] = {
        "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}"},
        "kind": {"type": "string", "description": model.__name__},
        "metadata": {"type": "object"},
        **schema["properties"],
    }
    return schema


class _WithRules(GenerateJsonSchema):
    """JSON schema with each model's rules beside its properties, and the docstrings of these; objects'
    defaults without their own defaults."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, BaseModel):
            return dft.model_dump(mode="json", exclude_defaults=True)
        if isinstance(dft, tuple):
            return [self.encode_default(item) for item in dft]
        return super().encode_default(dft)

    def model_schema(self, schema: Any) -> Schema:
        found = super().model_schema(schema)
        described = _docstrings(schema["cls"])
        for name, field in schema["cls"].model_fields.items():
            if name in described:
                found["properties"][field.alias].setdefault("description", described[name])
        if issubclass(schema["cls"], Checked) and (
            rules := (*schema["cls"].rules, *schema["cls"].transitions)
        ):
            found["x-kubernetes-validations"] = [
                {"rule": rule.cel, "message": rule.message}
                | ({"fieldPath": f".{rule.field}"} if rule.field else {})
                for rule in rules
            ]
        return found


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """What stands below each field of a model, its own and inherited ones."""
    found = {}
    for cls in reversed(getattr(model, "described_by", model).__mro__):
        if not issubclass(cls, Model) or cls is Model:
            continue
        statements = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(cls))))
        (body,) = (each.body for each in statements if isinstance(each, ast.ClassDef))
        for pair in pairwise(body):
            match pair:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = inspect.cleandoc(text)
    return found


def _structural(source: Schema, defs: dict[str, Schema], path: str) -> Schema:
    """One schema made structural. Raises TypeError for one without bounds, from which the API server counts
    CEL's cost."""
    source = _inlined(source, defs)
    schema = {name: source[name] for name in KEPT.split() if name in source}
    if "const" in source:
        schema["enum"] = [source["const"]]
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    match schema.get("type"):
        case "object" if "properties" in source:
            schema["properties"] = {
                name: _property(field, defs, f"{path}.{name}") for name, field in source["properties"].items()
            }
        case "object" if isinstance(source.get("additionalProperties"), dict):
            schema["additionalProperties"] = _structural(source["additionalProperties"], defs, f"{path}.*")
        case "array":
            schema["items"] = _structural(source["items"], defs, f"{path}[]")
            whole = source.get("x-kubernetes-list-type") == "atomic"
            schema |= _list_type(schema["items"], unique=source.get("uniqueItems", False), whole=whole)
        case "integer":
            schema["format"] = "int32" if source.get("maximum", 2**63) < 2**31 else "int64"
    if missing := _unbounded(schema):
        raise TypeError(f"{path} has no {missing}")
    if schema.get("x-kubernetes-int-or-string"):
        del schema["type"]
    return schema


def _inlined(source: Schema, defs: dict[str, Schema]) -> Schema:
    """A schema with its reference written out and without null. Keywords beside a reference win over its
    own."""
    beside = {name: value for name, value in source.items() if name not in ("$ref", "anyOf")}
    if "$ref" in source:
        return _inlined(defs[source["$ref"].rsplit("/", 1)[1]], defs) | beside
    if "anyOf" in source:
        (choice,) = (option for option in source["anyOf"] if option.get("type") != "null")
        return _inlined(choice, defs) | beside
    return source


def _property(source: Schema, defs: dict[str, Schema], path: str) -> Schema:
    """The schema of a field, with its default. A status has none: what it does not say takes no room."""
    schema = _structural(source, defs, path)
    if path.startswith(".status"):
        return schema
    default = _inlined(source, defs).get("default")
    fields = schema.get("properties", {}).values()
    fills = default == {} and any("default" in field for field in fields)
    if fills or default not in (None, "", [], {}):
        schema["default"] = default
    return schema


def _list_type(items: Schema, *, unique: bool, whole: bool) -> Schema:
    """The keywords that say how the API server merges a list."""
    keys = [name for name in ("name", "type") if name in items.get("required", [])]
    if keys and not whole:
        return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys[:1]}
    return {"x-kubernetes-list-type": "set" if unique else "atomic"}


def _unbounded(schema: Schema) -> str:
    """The keyword that a schema lacks; empty for one that is complete."""
    match schema.get("type"):
        case None:
            return "type"
        case "string" if not {"maxLength", "enum"} & schema.keys():
            return "maxLength"
        case "array" if "maxItems" not in schema:
            return "maxItems"
        case "integer" if not {"minimum", "maximum"} <= schema.keys():
            return "minimum and maximum"
        case "object" if "additionalProperties" in schema and "maxProperties" not in schema:
            return "maxProperties"
        case "number":
            return "place here: the API has no floats"
    return ""


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in crds().items():
        (folder / file).write_text(text)
