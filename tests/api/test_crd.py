"""The generated CRDs: current, structural, bounded, and of one mind with the models."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from make import rollouts, runs
from make.limits import LIMITS, Limit
from make.schemas import RULES, RUN, VALIDATOR, inside, schemas

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.generate.crd import crds, openapi
from ixt_operator.generate.reference import reference
from ixt_operator.manifests.documents import yaml_documents

FOLDER = Path(__file__).parents[2] / "crds"
FORBIDDEN = {
    *("$ref", "$defs", "title", "const", "anyOf", "allOf", "oneOf", "not", "nullable", "uniqueItems"),
    *("exclusiveMinimum", "exclusiveMaximum", "patternProperties", "definitions"),
}
"""Keywords that a structural schema may not have, or that ours has no need for."""


def test_the_files_are_current() -> None:
    committed = {path.name: path.read_text() for path in FOLDER.glob("*.yaml")}
    assert committed == crds(), "run: make crds"


@pytest.mark.parametrize("text", crds().values(), ids=crds())
def test_both_yaml_readers_see_the_same(text: str) -> None:
    assert yaml.safe_load(text) == next(yaml_documents(text)).value


EVERY = [
    pytest.param(path, schema, id=f"{kind.__name__}.{path}")
    for kind in (IXTRun, IXTRuntime)
    for path, schema in schemas(openapi(kind))
]


@pytest.mark.parametrize(("path", "schema"), EVERY)
def test_every_schema_is_structural_and_bounded(path: str, schema: dict[str, Any]) -> None:
    assert not FORBIDDEN & schema.keys()
    assert not {"properties", "additionalProperties"} <= schema.keys()
    if path not in ("", "metadata", "apiVersion", "kind"):
        assert schema.get("description") or path.endswith(("[]", ".*")), "a field needs a docstring"
    match schema.get("type"):
        case None:
            assert schema["x-kubernetes-int-or-string"]
            assert schema["pattern"]
        case "integer":
            assert schema["minimum"] <= schema["maximum"]
            assert schema["format"] == ("int32" if schema["maximum"] < 2**31 else "int64")
        case "string":
            assert {"maxLength", "enum"} & schema.keys() or path in ("apiVersion", "kind")
            re.compile(schema.get("pattern", ""))
        case "array":
            assert schema["maxItems"]
            assert schema["x-kubernetes-list-type"] in ("map", "set", "atomic")
            for key in schema.get("x-kubernetes-list-map-keys", []):
                assert key in schema["items"]["required"]
        case "object":
            assert set(schema.get("required", ())) <= schema.get("properties", {}).keys()
            assert "additionalProperties" not in schema or schema["maxProperties"]
        case "boolean":
            assert path == "spec.suspend" or path.startswith("status."), "enums, not booleans"
        case other:
            pytest.fail(f"type {other}")
    for rule in schema.get("x-kubernetes-validations", ()):
        assert "\n" not in rule["rule"] + rule["message"]
        assert rule.get("fieldPath", "").removeprefix(".") in {"", *schema["properties"]}
    if "default" in schema:
        jsonschema.validate(schema["default"], schema)


def test_named_lists_are_maps_by_name() -> None:
    named = {
        path: schema["x-kubernetes-list-map-keys"]
        for path, schema in schemas(RUN)
        if schema.get("x-kubernetes-list-type") == "map"
    }
    assert {path for path, keys in named.items() if keys == ["name"]} >= {
        *(
            "spec.arms",
            "spec.stages",
            "spec.stages[].datasets",
            "spec.stages[].evaluate.tasks",
        ),
        "status.stages[].steps",
    }
    assert named["status.conditions"] == ["type"]
    assert "status.stages" not in named, "written as a whole"


def test_what_kubectl_shows() -> None:
    crd = yaml.safe_load(crds()["ixt.dev_ixtruns.yaml"])["spec"]
    (version,) = crd["versions"]
    assert crd["names"]["shortNames"] == ["ixt"]
    assert version["subresources"] == {"status": {}}
    columns = {column["name"]: column["jsonPath"] for column in version["additionalPrinterColumns"]}
    assert list(columns) == ["Phase", "Stage", "Step", "Progress", "ETA Seconds", "Age", "Message"]
    wide = [column["name"] for column in version["additionalPrinterColumns"] if column.get("priority")]
    assert wide == ["Message"]
    paths = {f".{path}" for path, _ in schemas(version["schema"]["openAPIV3Schema"])}
    assert set(columns.values()) - paths == {".metadata.creationTimestamp"}


def test_defaults_of_the_schema_make_the_same_run() -> None:
    """What the API server fills in changes nothing that the models would not have filled in."""
    assert IXTRun.model_validate(filled(runs.manifest(), RUN)) == runs.run()


def filled(value: Any, schema: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [filled(item, schema["items"]) for item in value]
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    defaults = {name: field["default"] for name, field in schema["properties"].items() if "default" in field}
    return {
        name: filled(item, schema["properties"].get(name, {})) for name, item in {**defaults, **value}.items()
    }


LEAVES = {
    path
    for path, schema in schemas(RUN["properties"]["spec"], "spec")
    if schema.get("type") != "object" and not path.endswith(("[]", ".*"))
}
BY_LIST_TYPE = re.compile("another of")


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: f"{limit.path}: {limit.message}"[:90])
def test_the_schema_draws_the_same_line_as_the_models(limit: Limit) -> None:
    assert VALIDATOR.is_valid(limit.manifest(limit.good))
    relation = any(rule.startswith(limit.message) for rule in RULES) or BY_LIST_TYPE.search(limit.message)
    assert VALIDATOR.is_valid(limit.manifest(limit.bad)) == bool(relation)


def test_every_rule_and_every_field_is_tried_on_both_sides() -> None:
    limits = [*LIMITS, *rollouts.LIMITS]
    messages = [limit.message for limit in limits]
    assert not [rule for rule in RULES if not any(message in rule for message in messages)]
    tried = {
        re.sub(r"\[\d+\]", "[]", f"{limit.path}{below}")
        for limit in limits
        for value in (limit.good, limit.bad)
        for below in ("", *inside(value))
    }
    pods = re.compile(r"spec\.pods\.(judge|worker|evaluator)\b")
    assert {path for path in LEAVES - tried if not pods.match(path)} == set()


def test_the_maximal_run_sets_every_field_that_no_other_one_excludes() -> None:
    manifest = runs.maximal()
    assert IXTRun.model_validate(manifest).metadata.name == manifest["metadata"]["name"]
    given = {re.sub(r"\[\d+\]", "[]", path).removeprefix(".") for path in inside(manifest)}
    excluded = re.compile(
        r"\.(endpoint|builtin|configMapKeyRef|valueFrom|referenceField|rollout)\b|^spec\.model\.(config|tokenizer)$"
    )
    assert {path for path in LEAVES - given if not excluded.search(path)} == set()


def test_the_reference_is_current() -> None:
    committed = (FOLDER.parent / "docs" / "api.md").read_text()
    assert committed == reference(), "run: python -m ixt_operator.generate.reference docs/api.md"
