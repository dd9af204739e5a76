"""Edits of a run that exists: the API server refuses what docs/mutability.md says may never change."""

import json
from typing import Any

import pytest
from cluster.kubectl import Kubectl
from make import runs
from make.changes import BEFORE, ROWS, changed


def stored(kubectl: Kubectl, **spec: Any) -> None:
    kubectl.apply(runs.applied(**{**BEFORE, **spec}))


def replaced(kubectl: Kubectl, spec: Any) -> str:
    """Replace the run's spec; what the API server says against it."""
    manifest = {**runs.applied(), "spec": spec}
    return kubectl.run("replace", "-f", "-", stdin=json.dumps(manifest)).stderr


def begun(kubectl: Kubectl, *stages: str) -> None:
    """Say of stages that they have started, as the operator does."""
    steps = [
        {"name": "inventory", "kind": "Inventory", "state": "Complete"},
        {"name": "prepare/conditioned", "kind": "Prepare", "state": "Running"},
    ]
    status = {"status": {"stages": [{"name": name, "steps": steps} for name in stages]}}
    kubectl("patch", "ixtrun", "test", "--subresource=status", "--type=merge", "-p", json.dumps(status))


@pytest.mark.parametrize(
    "field", [field for field, may in ROWS.items() if may in ("any time", "with re-keying")]
)
def test_what_may_change_is_changed(kubectl: Kubectl, field: str) -> None:
    stored(kubectl)
    assert replaced(kubectl, changed(field)["spec"]) == ""


@pytest.mark.parametrize("field", [field for field, may in ROWS.items() if may == "never"])
def test_what_may_never_change_is_refused_by_name(kubectl: Kubectl, field: str) -> None:
    stored(kubectl)
    said = replaced(kubectl, changed(field)["spec"])
    assert f"spec.{field}: Invalid value" in said
    assert "may not change, since " in said
    assert said.endswith("make a new run\n")


def test_a_stage_that_has_not_started_may_be_renamed_moved_and_removed(kubectl: Kubectl) -> None:
    stored(kubectl, stages=[runs.stage("a"), runs.stage("b"), runs.stage("c")])
    begun(kubectl, "a")
    moved = runs.manifest(**{**BEFORE, "stages": [runs.stage("a"), runs.stage("c"), runs.stage("new")]})
    assert replaced(kubectl, moved["spec"]) == ""


@pytest.mark.parametrize("names", [["a", "x", "c"], ["b", "a", "c"], ["a"], ["new", "a", "b"]])
def test_a_stage_that_has_started_keeps_its_name_and_place(kubectl: Kubectl, names: list[str]) -> None:
    stored(kubectl, stages=[runs.stage("a"), runs.stage("b"), runs.stage("c")])
    begun(kubectl, "a", "b")
    spec = runs.manifest(**{**BEFORE, "stages": [runs.stage(name) for name in names]})["spec"]
    assert "a stage that has started keeps its name and place" in replaced(kubectl, spec)
    spec = runs.manifest(**{**BEFORE, "stages": [runs.stage(name) for name in ("a", "b", "c", "d")]})["spec"]
    assert replaced(kubectl, spec) == ""
