"""What may change while a run exists: docs/mutability.md, every row tried against the planner's keys."""

import re
from pathlib import Path
from typing import Any

import pytest
from make import runs
from make.limits import put

from ixt_operator.api.crd import openapi
from ixt_operator.api.run import IXTRun
from ixt_operator.plan.nodes import resolve_run

DOCS = Path(__file__).parents[2] / "docs" / "mutability.md"
ROWS = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|", DOCS.read_text(), re.MULTILINE))

CHANGES: dict[str, Any] = {
    "suspend": True,
    "queueName": "batch",
    "runtimeRef": {"name": "nvidia"},
    "pods": {"trainer": {"resources": {"limits": {"cpu": 2}}, "image": "other"}},
    "maxParallelArms": 2,
    "failurePolicy": {"hung": 0},
    "activeDeadlineSeconds": 60,
    "schedulingTimeoutSeconds": 60,
    "ttlSecondsAfterFinished": 60,
    "storage.credentialsSecretName": "others",
    "judge.engine": {"maxReplicas": 4, "tensorParallelSize": 2, "args": ["--max-num-seqs=8"]},
    "stages[].annotate.workers": 4,
    "stages[].annotate.deadlineSeconds": 60,
    "stages[].prepare.workers": 4,
    "stages[].train.numNodes": 4,
    "stages[].train.minNodes": 1,
    "stages[].train.numProcPerNode": 4,
    "stages[].train.microBatchSequences": 4,
    "stages[].train.parallelism": "FullyShard",
    "stages[].train.compile": "Disabled",
    "stages[].train.checkpoint": {"intervalSeconds": 60},
    "stages[].train.resourcesPerNode": {"requests": {"cpu": 2}},
    "judge.rubric": {
        "inline": {"instructions": "Score it.", "idealCritique": "Good.", "worstCritique": "Bad."},
    },
    "judge.sampling": {"temperature": "0.7"},
    "judge.reasoningParser": "deepseek_r1",
    "judge.model": "file:///other",
    "conditioning": {"levels": 3},
    "arms": [runs.arm("conditioned"), runs.arm("plain", "NextToken")],
    "stages[].type": "Midtrain",
    "stages[].datasets": [runs.dataset("other")],
    "stages[].annotate.samplePercent": 50,
    "stages[].annotate.gates": {"maxOverlapPercent": 10},
    "stages[].annotate.from": {"scoreField": "score", "critiqueField": "words"},
    "stages[].conditioning": {"format": "Token"},
    "stages[].prepare.sequenceLength": 512,
    "stages[].train.maxTokens": 131_072,
    "stages[].train.batchTokens": 8192,
    "stages[].train.optimizer": {"learningRate": "1e-3"},
    "stages[].train.schedule": {"type": "Constant"},
    "stages[].train.precision": "FP32",
    "stages[].train.evalEveryTokens": 8192,
    "stages[].evaluate": {"maxNewTokens": 8},
    "stages": [runs.stage(), runs.stage("more")],
    "storage.uri": "s3://bucket/other",
    "storage.shared": "Disabled",
    "model": {"source": "hf://a/b"},
    "stages[].name": "other",
}
"""A change of every row of the table."""

STORAGE = {"uri": "s3://bucket/runs", "credentialsSecretName": "keys"}
PINS = {name: f"{name}-1" for name in ("datasets", "judge", "model", "tokenizer", "tasks")}


def changed(field: str) -> IXTRun:
    manifest = runs.manifest(storage=dict(STORAGE))
    return IXTRun.model_validate(put(manifest, f"spec.{field}".replace("[]", "[0]"), CHANGES[field]))


def keys(run: IXTRun, pins: dict[str, str]) -> dict[str, str]:
    found = resolve_run(run, {stage.name: pins for stage in run.spec.stages})
    return {name: keyed.key for name, keyed in found.items()}


def test_every_row_is_tried() -> None:
    assert list(ROWS) == list(CHANGES)


@pytest.mark.parametrize("field", [field for field, may in ROWS.items() if may == "any time"])
def test_what_may_change_at_any_time_is_in_no_key(field: str) -> None:
    old, new = runs.run(storage=STORAGE), changed(field)
    assert old != new
    assert keys(old, PINS) == keys(new, PINS)


@pytest.mark.parametrize("field", [field for field, may in ROWS.items() if may == "with re-keying"])
def test_what_changes_the_meaning_changes_keys(field: str) -> None:
    old, new = runs.run(storage=STORAGE), changed(field)
    # New weights show in the pin that Inventory finds, not in the spec.
    pins = PINS | {"judge": "judge-2"} if field == "judge.model" else PINS
    assert keys(old, PINS) != keys(new, pins)


def test_new_conditioning_annotates_nothing_again() -> None:
    old, new = keys(runs.run(storage=STORAGE), PINS), keys(changed("conditioning"), PINS)
    same = {name for name in old if old[name] == new.get(name)}
    assert same == {name for name in old if "/inventory" in name or "/annotate/" in name}


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
    judge = {f"judge.{name}" for name in ("engine", "rubric", "sampling", "reasoningParser", "model")}
    assert fields - {"judge"} | judge == set(ROWS)
