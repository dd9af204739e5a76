"""What may change while a run exists: docs/mutability.md, every row tried against the planner's keys."""

import pytest
from make import runs
from make.changes import BEFORE, CHANGES, ROWS, changed
from make.schemas import RUN, schemas

from ixt_operator.api.run import IXTRun
from ixt_operator.generate.crd import openapi
from ixt_operator.planner.nodes import resolve_run

PINS = {name: f"{name}-1" for name in ("datasets", "judge", "model", "tokenizer", "tasks", "harness")}


def edited(field: str) -> IXTRun:
    return IXTRun.model_validate(changed(field))


def keys(run: IXTRun, pins: dict[str, str]) -> dict[str, str]:
    found = resolve_run(run, {stage.name: pins for stage in run.spec.stages})
    return {name: keyed.key for name, keyed in found.items()}


def test_every_row_is_tried() -> None:
    assert list(ROWS) == list(CHANGES)


@pytest.mark.parametrize("field", [field for field, may in ROWS.items() if may == "any time"])
def test_what_may_change_at_any_time_is_in_no_key(field: str) -> None:
    old, new = runs.run(**BEFORE), edited(field)
    assert old != new
    assert keys(old, PINS) == keys(new, PINS)


@pytest.mark.parametrize("field", [field for field, may in ROWS.items() if may == "with re-keying"])
def test_what_changes_the_meaning_changes_keys(field: str) -> None:
    old, new = runs.run(**BEFORE), edited(field)
    # New weights show in the pin that Inventory finds, not in the spec.
    pins = PINS | {"judge": "judge-2"} if field == "judge.model" else PINS
    assert keys(old, PINS) != keys(new, pins)


def test_new_conditioning_annotates_nothing_again() -> None:
    old, new = keys(runs.run(**BEFORE), PINS), keys(edited("conditioning"), PINS)
    same = {name for name in old if old[name] == new.get(name)}
    assert same == {name for name in old if "/inventory" in name or "/annotate/" in name}


def test_another_harness_trains_nothing_again() -> None:
    old, new = keys(runs.run(**BEFORE), PINS), keys(edited("stages[].evaluate.harness"), PINS)
    assert {name for name in old if old[name] != new[name]} == {
        name for name in old if "/evaluate/" in name or name == "report"
    }
    others = keys(runs.run(**BEFORE), PINS | {"harness": "harness-2"})
    assert {name for name in old if old[name] != others[name]} == {
        name for name in old if "/evaluate/" in name or name == "report"
    }


def test_every_field_of_the_spec_is_in_the_table() -> None:
    spec = openapi(IXTRun)["properties"]["spec"]["properties"]
    stage = spec["stages"]["items"]["properties"]
    fields = set(spec) | {f"stages[].{name}" for name in stage}
    for parent, schema in (
        ("storage", spec["storage"]),
        ("stages[].annotate", stage["annotate"]),
        ("stages[].prepare", stage["prepare"]),
        ("stages[].train", stage["train"]),
    ):
        fields = fields - {parent} | {f"{parent}.{name}" for name in schema["properties"]}
    told = ("rubric", "sampling", "systemPrompt", "chatTemplateKwargs", "reasoningParser")
    judge = {f"judge.{name}" for name in ("engine", "model", "second", *told)}
    credentials = {
        path.removeprefix("spec.") for path, _ in schemas(RUN) if path.endswith(".credentialsSecretRef")
    }
    harness = {"stages[].evaluate.harness"}
    assert fields - {"judge"} | judge | credentials | harness == set(ROWS)
