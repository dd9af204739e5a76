"""Whatever is wrong with a manifest is told at once, and nothing is told because of something else."""

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from make import runs
from make.limits import LIMITS, Limit, put
from make.schemas import RUN, inside, schemas

from ixt_operator.manifests.loading import ManifestError, loads

RELATIONS = {
    rule["message"]: rule["rule"]
    for _, schema in schemas(RUN)
    for rule in schema.get("x-kubernetes-validations", ())
}


def told(text: str) -> list[str]:
    """What is wrong, without the file's name."""
    try:
        loads(text, "run.yaml", Path("/"))
    except ManifestError as error:
        return [str(problem).removeprefix("run.yaml:") for problem in error.problems]
    return []


def broken(base: dict[str, Any], *limits: Limit) -> set[str]:
    """What is told of a run with these values."""
    manifest = runs.manifest(**deepcopy(base))
    for limit in limits:
        put(manifest, limit.path, deepcopy(limit.bad))
    return set(told(json.dumps(manifest)))


def steps(path: str) -> list[str]:
    return re.findall(r"[^.\[\]]+", path)


def overlap(one: str, other: str) -> bool:
    return all(left == right for left, right in zip(steps(one), steps(other), strict=False))


def sets(limit: Limit) -> set[str]:
    """Names of the fields that a case sets."""
    return {step for path in ("", *inside(limit.bad)) for step in steps(f"{limit.path}{path}")[-1:]}


def compares(limit: Limit) -> set[str]:
    """Words of the relation that a case breaks, if it breaks one."""
    relation = next((rule for message, rule in RELATIONS.items() if message.startswith(limit.message)), "")
    return set(re.findall(r"\w+", relation))


def apart(one: Limit, other: Limit) -> bool:
    """Neither sets what the other sets or stands on."""
    return not (
        overlap(one.path, other.path)
        or one.base.keys() & other.base.keys()
        or any(overlap(one.path, f"spec.{name}") for name in other.base)
        or any(overlap(other.path, f"spec.{name}") for name in one.base)
    )


@given(st.sampled_from(LIMITS), st.sampled_from(LIMITS))
@settings(deadline=None, max_examples=300)
def test_two_problems_are_told_as_each_is_alone(one: Limit, other: Limit) -> None:
    """At most that, where one of them leaves open whether a relation holds that the other breaks."""
    assume(apart(one, other))
    base = {**one.base, **other.base}
    assume(broken(base) == set())
    alone, together = broken(base, one) | broken(base, other), broken(base, one, other)
    assert together <= alone
    assert together == alone or sets(one) & compares(other) or sets(other) & compares(one)


def test_all_layers_are_told_at_once() -> None:
    """What is no YAML or cannot be read, fields, relations and repetitions, in every document of a file."""
    text = """\
apiVersion: ixt.dev/v1
kind: ixtrun
metadata: {name: a}
spec:
  storage: {uri: ./x, credentialsSecretRef: {name: keys}}
  model: {source: ./m, config: ./m}
  judge: !secret x
  arms:
  - {name: a, method: NexToken, method: NextToken, samplePercent: 3, seeds: [1, -1, 1.0]}
  - {name: a, samplePercent: ~, tokens_percent: 3}
  stages:
  - {name: a, type: SFT, datasets: [{name: d, uri: ./d}], train: {maxTokens: 1e6, batchTokens: 1e7}}
  - {name: b, type: SFT, datasets: [{name: d, uri: ./d}], train: {max_tokens: 1_000_000, batchTokens: 1000}}
---
spec: [
---
kind: IXTRuntime
spec: {roles: []}
"""
    assert told(text) == [
        "1: apiVersion: must be ixt.dev/v1alpha1, not 'ixt.dev/v1'",
        "2: kind: must be IXTRun or IXTRuntime, not 'ixtrun': did you mean IXTRun?",
        "5: spec.storage.credentialsSecretRef: credentialsSecretRef is for s3:// and gs:// only: leave it "
        "out",
        "6: spec.model: exactly one of source, or config with tokenizer, must be set",
        "7: spec.judge: cannot be read as !secret",
        "9: spec.arms[0].method: is given in line 9 already",
        "9: spec.arms[0].seeds[1]: must be at least 0, not -1",
        "9: spec.arms[0].seeds[2]: another of seeds is 1 already",
        "10: spec.arms[1].name: another of arms is named 'a' already",
        "10: spec.arms[1].tokens_percent: unknown field: did you mean tokensPercent?",
        "12: spec.stages[0].datasets: an SFT stage trains on conversations: set messagesField in each of its "
        "datasets",
        "12: spec.stages[0].train: train.batchTokens must be a multiple of prepare.sequenceLength",
        "12: spec.stages[0].train.batchTokens: batchTokens must be at most maxTokens",
        "13: spec.stages[1].datasets: an SFT stage trains on conversations: set messagesField in each of its "
        "datasets",
        "13: spec.stages[1].train: train.batchTokens must be a multiple of prepare.sequenceLength",
        "13: spec.stages[1].train.maxTokens: is required",
        "13: spec.stages[1].train.max_tokens: unknown field: did you mean maxTokens?",
        "16: not valid YAML: while parsing a flow node did not find expected node content",
        "17: apiVersion: must be ixt.dev/v1alpha1, not nothing",
        "17: metadata: is required",
        "18: spec.roles: must have at least 1 item(s)",
    ]


def test_what_is_not_known_breaks_no_relation() -> None:
    spec = {
        "judge": None,
        "arms": [runs.arm("a", "NexToken", samplePercent=3)],
        "stages": [runs.stage(type="SFTs", train={"maxTokens": "many", "batchTokens": 10**9})],
    }
    assert [line.split(": ")[1] for line in told(json.dumps(runs.manifest(**spec)))] == [
        "spec.arms[0].method",
        "spec.stages[0].train.maxTokens",
        "spec.stages[0].type",
    ]


def test_a_field_that_is_misspelt_breaks_no_relation() -> None:
    spec = {
        "judge": None,
        "judgee": {"model": "file:///judge"},
        "model": {"sorce": "file:///model"},
        "stages": [
            runs.stage(prepare={"sequenceLenght": 512}, train={"maxTokens": 512, "batch_tokens": 512})
        ],
    }
    manifest = runs.manifest(**spec)
    del manifest["spec"]["stages"][0]["train"]["batchTokens"]
    assert [line.partition("unknown field: ")[2] for line in told(json.dumps(manifest))] == [
        "did you mean judge?",
        "did you mean source?",
        "did you mean sequenceLength?",
        "did you mean batchTokens?",
    ]


def test_a_list_that_is_too_long_hides_nothing() -> None:
    arms = [runs.arm(f"arm-{index}") for index in range(17)]
    arms[2] = runs.arm("arm-1", samplePercent=0)
    limits = {f"device-{index}": -1 for index in range(17)}
    spec = {"arms": arms, "stages": [runs.stage(train={"resourcesPerNode": {"limits": limits}})]}
    fields = [line.split(": ")[1] for line in told(json.dumps(runs.manifest(**spec)))]
    assert fields[:3] == ["spec.arms", "spec.arms[2].name", "spec.arms[2].samplePercent"]
    assert fields[3] == "spec.stages[0].train.resourcesPerNode.limits"
    assert len(fields) == 4 + 16


def test_null_is_nothing() -> None:
    """As the API server leaves it out: of what has a default, of what has none, and of maps; not of lists."""
    none = json.dumps(
        runs.manifest(
            conditioning=dict.fromkeys(("format", "inferenceFeedback")),
            stages=[runs.stage(train={"resourcesPerNode": {"limits": {"cpu": None}}})],
        )
        | {"status": None}
    )
    assert told(none) == []
    assert told(json.dumps(runs.manifest() | {"spec": None})) == ["1: spec: is required"]
    assert told(json.dumps(runs.manifest(arms=[None]))) == ["1: spec.arms[0]: must be a mapping, not nothing"]
    assert told(json.dumps(put(runs.manifest(), "spec.modell", "x")).replace('"x"', "null")) == [
        "1: spec.modell: unknown field: did you mean model?"
    ]
