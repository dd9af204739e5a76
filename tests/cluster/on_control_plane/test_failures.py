"""How steps fail, and what the run makes of it: retried, or ended with a word that says what to do."""

import json
from typing import Any

import pytest
from cluster.on_control_plane.operating import MAIN, Field, condition, jobs_made, step, told
from make import cli

from ixt_workloads.contract.exits import Exit

TRAIN = "pretrain/train/plain-s0"


async def test_a_users_fault_ends_the_run_and_names_pod_cause_and_next_step(field: Field) -> None:
    field.misbehave({TRAIN: {"*": {"exit": int(Exit.DATA), "message": "the data are empty"}}})
    async with field.operator():
        name = field.apply(**cli.PLAIN)
        status = await field.until_phase(name, "Failed")
        failed = condition(status, "Failed")
        assert await told(field, name, "UserFault") == [failed["message"]]
        assert "the data are empty" in (await told(field, name, "AttemptFailed"))[0]
    pod = await field.pod(name, TRAIN, "Failed")
    assert failed["reason"] == "UserFault"
    for word in (f"pod {pod['metadata']['name']}", "the data are empty", "take it out of the script"):
        assert word in failed["message"]
    assert (await jobs_made(field, name))[TRAIN, "1"] == 1


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ({"exit": 1}, "Application"),
        ({"exit": int(Exit.DIVERGED)}, "Diverged"),
        ({"exit": int(Exit.HUNG)}, "Hung"),
        ({"exit": int(Exit.OUT_OF_MEMORY)}, "OutOfMemory"),
    ],
)
async def test_a_fault_is_retried_as_often_as_the_run_allows(
    field: Field, told: dict[str, Any], fault: str
) -> None:
    field.misbehave({TRAIN: {"1": told}})
    budget = {"application": 1, "diverged": 1, "hung": 1, "outOfMemory": 1}
    async with field.operator():
        name = field.apply(**cli.PLAIN, failurePolicy=budget)
        status = await field.until_phase(name, "Complete")
        assert step(status)["attemptsByFault"] == {fault: 1}
        assert (await jobs_made(field, name))[TRAIN, "2"] == 1
        field.misbehave({TRAIN: {"*": told}})
        field.apply(name="again", storage={"uri": "pvc://claim/again"}, **cli.PLAIN, failurePolicy=budget)
        status = await field.until_phase("again", "Failed")
    assert condition(status, "Failed")["reason"] == "RestartsExhausted"
    assert step(status)["attemptsByFault"] == {fault: 2}


@pytest.mark.parametrize("reason", ["EvictionByEvictionAPI", "PreemptionByScheduler", "TerminationByKubelet"])
async def test_a_pod_that_is_put_out_is_tried_again_and_is_nobodys_fault(field: Field, reason: str) -> None:
    field.misbehave({TRAIN: {"1": {"hang": True}}})
    async with field.operator():
        name = field.apply(**cli.PLAIN)
        pod = await field.running(name, TRAIN)
        field.kubelet.disrupt(pod, reason)
        status = await field.until_phase(name, "Complete")
    assert step(status)["attemptsByFault"] == {"Infrastructure": 1}


async def test_a_missing_runtime_is_named_and_waited_for(field: Field) -> None:
    late = f"late-{field.kubectl.namespace}"
    async with field.operator():
        name = field.apply(**cli.PLAIN, runtimeRef={"name": late})
        status = await field.until(name, lambda status: bool(condition(status, "Accepted")))
        accepted = condition(status, "Accepted")
        assert accepted["reason"] == "RuntimeNotFound"
        assert f"there is no IXTRuntime {late}" in accepted["message"]
        runtime = cli.stubs(late)
        for role in runtime["spec"]["roles"]:
            role["template"] = MAIN
        field.kubectl.apply(runtime)
        try:
            await field.until_phase(name, "Complete")
        finally:
            field.kubectl("delete", "ixtruntime", late)


RUBRIC = {
    "instructions": "Judge it.",
    "axes": ["depth"],
    "minScore": 1,
    "maxScore": 5,
    "idealCritique": "Fine.",
    "worstCritique": "Bad.",
}


async def test_a_rubric_in_a_config_map_is_waited_for_and_checked(field: Field) -> None:
    def write(text: str) -> None:
        field.kubectl.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "rubric"},
                "data": {"rubric.yaml": text},
            }
        )

    def accepted(reason: str) -> Any:
        return lambda status: condition(status, "Accepted").get("reason") == reason

    reference = {"configMapKeyRef": {"name": "rubric", "key": "rubric.yaml"}}
    async with field.operator():
        name = field.apply(judge={"model": "file:///judge", "rubric": reference})
        status = await field.until(name, accepted("ReferenceNotFound"))
        assert "ConfigMap rubric does not exist" in condition(status, "Accepted")["message"]
        write("axes: [")
        status = await field.until(name, accepted("InvalidSpec"))
        assert "ConfigMap rubric, key rubric.yaml" in condition(status, "Accepted")["message"]
        write(json.dumps(RUBRIC))
        await field.until_phase(name, "Complete")


async def test_pod_security_that_refuses_a_runtime_is_named(field: Field) -> None:
    space = field.kubectl.namespace
    field.kubectl("label", "namespace", space, "pod-security.kubernetes.io/enforce=restricted")
    runtime = cli.stubs(f"bad-{space}")
    container = {"name": "main", "image": "stub:1", "securityContext": {"privileged": True}}
    for role in runtime["spec"]["roles"]:
        role["template"] = {"spec": {"containers": [container]}}
    field.kubectl.apply(runtime)
    try:
        async with field.operator():
            name = field.apply(**cli.PLAIN, runtimeRef={"name": f"bad-{space}"})
            status = await field.until(
                name, lambda s: "violates PodSecurity" in s.get("summary", {}).get("message", "")
            )
            assert "privileged" in status["summary"]["message"]
    finally:
        field.kubectl("delete", "ixtruntime", f"bad-{space}")
