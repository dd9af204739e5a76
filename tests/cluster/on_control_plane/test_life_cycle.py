"""What users do to a run as a whole while it goes: suspend it, delete it, let it expire, take it up again."""

import pytest
from cluster.on_control_plane.operating import (
    Field,
    children,
    committed,
    condition,
    jobs_ever,
    jobs_made,
    step,
    told,
)
from make import cli
from make.operator import eventually

from ixt_operator.adapters.kubernetes.client import RUNS, Object
from ixt_operator.api.run import KEEP_CHILDREN

PREPARE = "pretrain/prepare/plain"
TRAIN = "pretrain/train/plain-s0"
STEPS = {
    "inventory": "pretrain/inventory",
    "annotate": "pretrain/annotate/0-15",
    "prepare": "pretrain/prepare/conditioned",
    "train": "pretrain/train/conditioned-s0",
    "evaluate": "pretrain/evaluate/conditioned-s0",
}


def suspended(status: Object) -> bool:
    return condition(status, "Suspended").get("status") == "True"


async def gone(field: Field, name: str) -> None:
    """Delete a run and wait until nothing is left of it."""
    field.kubectl("delete", "ixtrun", name)
    await eventually(lambda: children(field, name), lambda left: left == {})
    assert field.kubelet.alive() == []


@pytest.mark.parametrize("at", STEPS)
async def test_suspended_at_any_step_it_frees_everything_and_goes_on(field: Field, at: str) -> None:
    field.hold(STEPS[at])
    async with field.operator():
        name = field.apply()
        await field.running(name, STEPS[at])
        field.edit(name, suspend=True)
        status = await field.until(name, suspended)
        assert status["phase"] == "Suspended"
        assert field.kubelet.alive() == []
        field.go_on()
        field.edit(name, suspend=False)
        status = await field.until_phase(name, "Complete")
    steps = [step for stage in status["stages"] for step in stage["steps"]]
    assert not any(step.get("attemptsByFault") for step in steps), "to be suspended is no fault"
    assert set(committed(field).values()) == {1}, "what was done before is not done again"


async def test_suspended_from_the_start_it_makes_nothing_until_it_goes_on(field: Field) -> None:
    async with field.operator():
        name = field.apply(**cli.PLAIN, suspend=True)
        status = await field.until(name, suspended)
        assert f"kubectl ixt resume {name}" in condition(status, "Suspended")["message"]
        assert await children(field, name) == {}
        field.edit(name, suspend=False)
        await field.until_phase(name, "Complete")


@pytest.mark.parametrize("at", STEPS)
async def test_deleted_at_any_step_it_leaves_nothing(field: Field, at: str) -> None:
    field.hold(STEPS[at])
    async with field.operator():
        name = field.apply()
        await field.running(name, STEPS[at])
        await gone(field, name)


async def test_deleted_before_it_began_and_after_it_ended_it_leaves_nothing(field: Field) -> None:
    async with field.operator():
        name = field.apply(**cli.PLAIN, runtimeRef={"name": "none-of-this-name"})
        await field.until(name, lambda status: bool(condition(status, "Accepted")))
        await gone(field, name)

        name = field.apply(**cli.PLAIN)
        await field.until_phase(name, "Complete")
        assert len(await children(field, name)) > len(STEPS)
        await gone(field, name)

        field.misbehave({TRAIN: {"*": {"exit": 65}}})
        name = field.apply(**cli.PLAIN, storage={"uri": "pvc://claim/other"})
        await field.until_phase(name, "Failed")
        await gone(field, name)

        field.misbehave({})
        field.apply(**cli.PLAIN)
        await field.until_phase(name, "Complete")


@pytest.mark.parametrize("exit_code", [0, 65])
async def test_a_finished_run_goes_when_its_time_is_over(field: Field, exit_code: int) -> None:
    field.misbehave({TRAIN: {"*": {"exit": exit_code}}} if exit_code else {})
    async with field.operator():
        name = field.apply(**cli.PLAIN, ttlSecondsAfterFinished=2)
        assert await told(field, name, "UserFault" if exit_code else "RunComplete")
        await eventually(lambda: field.client.list(RUNS, field.kubectl.namespace), lambda found: found == [])
        await eventually(lambda: children(field, name), lambda left: left == {})
    assert set(jobs_ever(field).values()) == {1}


async def test_past_its_deadline_it_fails_frees_everything_and_goes_on_with_a_longer_one(
    field: Field,
) -> None:
    field.hold(TRAIN)
    async with field.operator():
        name = field.apply(**cli.PLAIN)
        await field.running(name, TRAIN)
        field.edit(name, activeDeadlineSeconds=1)
        status = await field.until_phase(name, "Failed")
        failed = condition(status, "Failed")
        assert failed["reason"] == "DeadlineExceeded"
        assert "activeDeadlineSeconds=1: raise it" in failed["message"]
        await eventually(lambda: field.kubelet.alive() == [])
        field.go_on()
        field.edit(name, activeDeadlineSeconds=600)
        status = await field.until_phase(name, "Complete")
    assert (await jobs_made(field, name))[PREPARE, "1"] == 1
    assert condition(status, "Failed")["status"] == "False"


async def test_an_edit_takes_a_failed_run_up_where_it_stopped(field: Field) -> None:
    field.misbehave({TRAIN: {"*": {"exit": 65}}})
    async with field.operator():
        name = field.apply(**cli.PLAIN)
        failed = await field.until_phase(name, "Failed")
        field.misbehave({})
        field.edit(name, failurePolicy={"application": 2})
        status = await field.until_phase(name, "Complete")
    jobs = await jobs_made(field, name)
    assert jobs[PREPARE, "1"] == 1
    assert (PREPARE, "2") not in jobs
    assert jobs[TRAIN, "2"] == 1, "a number of an attempt is not given twice"
    assert step(status)["key"] == step(failed)["key"]
    assert set(committed(field).values()) == {1}


async def test_what_an_ended_run_made_goes_once_it_is_not_kept_and_an_edit_finds_what_is_committed(
    field: Field,
) -> None:
    async with field.operator():
        name = field.apply(**cli.PLAIN)
        before = await field.until_phase(name, "Complete")
        assert await children(field, name)
        field.kubectl("annotate", "ixtrun", name, f"{KEEP_CHILDREN}-")
        await eventually(lambda: children(field, name), lambda left: left == {})
        assert (await field.run(name))["status"] == before
        field.edit(name, maxParallelLanes=2)
        await field.until(name, lambda status: status["observedGeneration"] > before["observedGeneration"])
        status = await field.until_phase(name, "Complete")
        await eventually(lambda: children(field, name), lambda left: left == {})
    assert [step["key"] for stage in status["stages"] for step in stage["steps"]] == [
        step["key"] for stage in before["stages"] for step in stage["steps"]
    ]
    assert status["cost"].get("flops") == before["cost"].get("flops")
    assert set(committed(field).values()) == {1}
