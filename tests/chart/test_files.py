"""The chart's files, as they are: what is generated is current, values and their schema agree."""

import copy
import json
import tomllib
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml
from make.chart import CHART

from ixt_operator.generate.chart import templates
from ixt_workloads import __version__

ROOT = CHART.parents[1]
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


def test_crds_and_runtimes_are_the_generated_ones() -> None:
    folder = CHART / "templates"
    committed = {
        str(path.relative_to(folder)): path.read_text()
        for part in ("crds", "runtimes")
        for path in (folder / part).iterdir()
    }
    assert committed == templates(), "run: make crds"


def test_nothing_generated_would_be_read_as_a_template() -> None:
    for text in templates().values():
        _, _, body = text.partition("metadata:\n")
        ours = [line for line in body.splitlines() if "{{" in line]
        known = ('include "ixt.', "{{ .Values.runtimes.")
        assert all(any(word in line for word in known) or line == "{{- end }}" for line in ours)


def test_chart_and_package_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {chart["version"], chart["appVersion"], package} == {__version__}


def test_the_schema_is_one_and_takes_the_defaults() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    VALIDATOR.validate(VALUES)


def places(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Objects of the schema whose fields are all named."""
    if "$ref" in schema:
        schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
    if schema.get("properties"):
        yield path
        for name, field in schema["properties"].items():
            yield from places(field, (*path, name))


def inside(values: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        values = values.setdefault(name, {})
    return values


PLACES = [path for path in places(SCHEMA) if path != ("podSecurityContext", "seccompProfile")]


@pytest.mark.parametrize("path", PLACES, ids=".".join)
def test_a_misspelt_value_is_refused_wherever_it_stands(path: tuple[str, ...]) -> None:
    values = copy.deepcopy(VALUES)
    inside(values, path)["misspelt"] = "x"
    (error,) = VALIDATOR.iter_errors(values)
    assert "'misspelt' was unexpected" in error.message
    assert tuple(error.absolute_path) == path


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("replicas",), "2"),
        (("replicas",), -1),
        (("logLevel",), "loud"),
        (("namespaces",), "team-a"),
        (("namespaces",), ["Team"]),
        (("namespaces",), ["a", "a"]),
        (("image", "repository"), ""),
        (("image", "tag"), "a b"),
        (("image", "digest"), "sha256:short"),
        (("image", "pullPolicy"), "Sometimes"),
        (("runtimes", "cpu", "image", "repository"), "image@sha256:0"),
        (("crds", "install"), "no"),
        (("podSecurityContext", "runAsUser"), 0),
        (("podSecurityContext", "runAsNonRoot"), False),
        (("podSecurityContext", "seccompProfile"), {"type": "Unconfined"}),
        (("networkPolicies", "apiServer", "ports"), []),
        (("networkPolicies", "apiServer", "cidrs"), ["anywhere"]),
        (("metrics", "monitors", "interval"), "often"),
        (("metrics", "annotations"), "yes"),
        (("metrics", "secure", "certificateSecret"), "A Secret"),
        (("alerts", "runbooks"), "our wiki"),
        (("alerts", "thresholds", "stalledFor"), "soon"),
        (("alerts", "thresholds", "goodput"), 50),
        (("dashboards", "labels"), {"grafana_dashboard": 1}),
        (("podLabels",), {"team": 1}),
        (("fullnameOverride",), "x" * 51),
    ],
)
def test_a_wrong_value_is_refused(path: tuple[str, ...], value: Any) -> None:
    values = copy.deepcopy(VALUES)
    inside(values, path[:-1])[path[-1]] = value
    assert [tuple(error.absolute_path)[: len(path)] for error in VALIDATOR.iter_errors(values)] == [path]
