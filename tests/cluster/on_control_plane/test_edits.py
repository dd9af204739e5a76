"""Edits of a run while it goes, at every step: what docs/mutability.md says is what happens."""

from typing import Any

import pytest
from cluster.on_control_plane.operating import Field, as_if_undisturbed, committed
from make import runs
from make.operator import eventually
from make.runs import keys

from ixt_operator.adapters.kubernetes.client import DEPLOYMENTS, JOBS, Object

STEPS = {
    "inventory": "pretrain/inventory",
    "annotate": "pretrain/annotate/0-15",
    "prepare": "pretrain/prepare/conditioned",
    "train": "pretrain/train/conditioned-s0",
    "evaluate": "pretrain/evaluate/conditioned-s0",
    "report": "report",
}

AT_ONCE: dict[str, Any] = {
    "maxParallelLanes": 2,
    "failurePolicy": {"hung": 1},
    "activeDeadlineSeconds": 3600,
    "schedulingTimeoutSeconds": 600,
    "ttlSecondsAfterFinished": 3600,
    "pods": {"trainer": runs.patch(env=[{"name": "ANYTHING", "value": "else"}])},
    "stages": [
        runs.stage(train={"checkpoint": {"intervalSeconds": 60}}, annotate={"deadlineSeconds": 600}),
    ],
}
"""Fields that are in no key."""

REKEYING: dict[str, dict[str, Any]] = {
    "conditioning": {"conditioning": {"levels": 3}},
    "maxTokens": {"stages": [runs.stage(train={"maxTokens": 131_072})]},
}
REUSED = {
    "conditioning": {"inventory", "annotate/0-15", "annotate/holdout"},
    "maxTokens": {"inventory", "annotate/0-15", "annotate/holdout", "prepare/conditioned"},
}
"""Steps that keep their keys."""


def complete(generation: int) -> Any:
    """Whether a status tells of the end of a spec's generation."""
    return lambda status: status.get("phase") == "Complete" and status.get("observedGeneration") == generation


@pytest.mark.parametrize("at", STEPS)
async def test_an_edit_of_what_is_in_no_key_re_creates_nothing(field: Field, at: str) -> None:
    field.hold(STEPS[at])
    async with field.operator():
        name = field.apply(stages=[runs.stage()])
        pod = await field.running(name, STEPS[at])
        field.edit(name, **AT_ONCE)
        await field.until(name, lambda status: status.get("observedGeneration") == 2)
        assert pod["metadata"]["name"] in field.kubelet.alive()
        field.go_on()
        await field.until(name, complete(2))
    await as_if_undisturbed(field, name)
    assert set(committed(field).values()) == {1}


@pytest.mark.parametrize(("at", "edit"), [(at, [*REKEYING][index % 2]) for index, at in enumerate(STEPS)])
async def test_an_edit_of_what_is_in_a_key_makes_anew_what_it_concerns(
    field: Field, at: str, edit: str
) -> None:
    field.hold(STEPS[at])
    async with field.operator():
        name = field.apply(stages=[runs.stage()])
        await field.running(name, STEPS[at])
        before = keys(await field.until(name, lambda _: True))
        field.edit(name, **REKEYING[edit])
        field.go_on()
        status = await field.until(name, complete(2))
        jobs = await field.client.list(JOBS, field.kubectl.namespace, labels=f"ixt.dev/run={name}")
        field.apply(name="fresh", **{"stages": [runs.stage()], **REKEYING[edit]})
        fresh = await field.until_phase("fresh", "Complete")

    assert of_steps(keys(status)) == of_steps(keys(fresh))
    assert all(
        step["cached"] for stage in fresh["stages"] for step in stage["steps"] if step["name"] != "report"
    )
    assert set(committed(field).values()) == {1}
    after = keys(status)
    kept = {node for node, key in before.items() if key and key == after[node]}
    changed = {node for node, key in before.items() if key and key != after[node]}
    known = {node for node, key in before.items() if key}
    assert {node.removeprefix("pretrain/") for node in kept} == REUSED[edit] & {
        node.removeprefix("pretrain/") for node in known
    }
    assert changed == known - kept
    made = [(job["metadata"]["annotations"]["ixt.dev/node"], label(job, "key")) for job in jobs]
    assert len(made) == len(set(made)), "one attempt of each"

    # Which field it was is known also when all attempts with their tasks are gone.
    if at == "train":
        field.kubectl("delete", "jobs,configmaps", "-l", "ixt.dev/child", "--wait=false")
        because = f"because train.maxTokens of {STEPS[at]} changed: 65536 -> 131072"
        assert because in field.kubectl.ixt("why", name, STEPS[at])


def label(manifest: Object, name: str) -> str:
    return str(manifest["metadata"]["labels"][f"ixt.dev/{name}"])


def of_steps(found: dict[str, str]) -> dict[str, str]:
    """Without the report's, which is the run's own."""
    return {node: key for node, key in found.items() if not node.endswith("/report")}


async def test_the_number_of_judges_follows_an_edit_at_once(field: Field) -> None:
    field.hold(STEPS["annotate"])
    async with field.operator():
        name = field.apply()
        await field.running(name, STEPS["annotate"])

        async def servers() -> list[tuple[str, int]]:
            found = await field.client.list(
                DEPLOYMENTS, field.kubectl.namespace, labels=f"ixt.dev/run={name}"
            )
            return [(each["metadata"]["uid"], each["status"].get("readyReplicas", 0)) for each in found]

        ((uid, _),) = await eventually(servers, lambda found: [ready for _, ready in found] == [1])
        judge = {"model": "file:///judge", "engine": {"maxReplicas": 2}}
        field.edit(name, judge=judge)
        await eventually(servers, lambda found: found == [(uid, 2)])
        field.go_on()
        await field.until_phase(name, "Complete")
    await as_if_undisturbed(field, name)


async def test_a_stage_that_is_added_is_done_and_an_arm_that_is_left_out_is_not(field: Field) -> None:
    arms = [runs.arm("conditioned"), runs.arm("plain", "NextToken")]
    field.hold(STEPS["train"])
    async with field.operator():
        name = field.apply(stages=[runs.stage()], arms=arms)
        await field.running(name, STEPS["train"])
        field.edit(name, stages=[runs.stage(), runs.stage("more")], arms=arms[1:])
        field.go_on()
        status = await field.until(name, complete(2))
    names = [step["name"] for step in status["stages"][1]["steps"]]
    assert "train/plain" in names
    assert "train/conditioned" not in names
    assert not any("conditioned" in name for name in keys(status))
    assert set(committed(field).values()) == {1}
