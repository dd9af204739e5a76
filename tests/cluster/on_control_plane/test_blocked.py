"""Pods that do not start, machines that are lost, judges that never serve: the run ends or goes on, and says
what a person needs to know: the pod, the cause, the last lines, what to do next."""

import json
from typing import Any

import pytest
from cluster.on_control_plane.operating import Field, committed, condition, jobs_made, step, told
from make import cli
from make.kubelet import now
from make.operator import eventually

from ixt_operator.adapters.kubernetes.client import PODS, Object

TRAIN = "pretrain/train/plain-s0"
JUDGE = "pretrain/judge"
UNSCHEDULABLE = {
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
        }
    ]
}


def waiting(reason: str, message: str) -> Object:
    """The status of a pod whose container waits."""
    state = {"waiting": {"reason": reason, "message": message}}
    container = {"name": "main", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
    return {"containerStatuses": [{**container, "state": state}]}


@pytest.mark.parametrize(
    ("pod_status", "words"),
    [
        (UNSCHEDULABLE, "Unschedulable: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
        (waiting("ImagePullBackOff", 'pulling "stub:1": no such tag'), 'ImagePullBackOff: pulling "stub:1"'),
        (waiting("CreateContainerConfigError", 'secret "keys" not found'), 'secret "keys" not found'),
    ],
    ids=["unschedulable", "image", "secret"],
)
async def test_a_pod_that_cannot_start_ends_the_run_in_its_time(
    field: Field, pod_status: Object, words: str
) -> None:
    async with field.operator():
        field.kubelet.silent = True
        name = field.apply(**cli.PLAIN, schedulingTimeoutSeconds=600)
        pod = await field.pod(name, "pretrain/inventory", "Pending")
        status: dict[str, Any] = {"startTime": now(60), **json.loads(json.dumps(pod_status))}
        for entry in status.get("conditions", ()):
            entry["lastTransitionTime"] = now(60)
        space, pod_name = field.kubectl.namespace, pod["metadata"]["name"]
        await field.client.merge(PODS, space, pod_name, {"status": status}, "status")
        found = await field.until(name, lambda status: words in status["summary"].get("message", ""))
        message = found["summary"]["message"]
        assert message.startswith("pretrain/inventory: cannot start yet: ")
        assert message.endswith(f"(pod {pod_name}, container main)")
        assert words in step(found, "inventory")["message"]
        (warning,) = await told(field, name, "StepBlocked")
        assert words in warning
        field.edit(name, schedulingTimeoutSeconds=60)
        found = await field.until_phase(name, "Failed")
        failed = condition(found, "Failed")
        assert failed["reason"] == "SchedulingTimeout"
        for word in (f"pod {pod_name}, container main", words, "mend that, or raise it"):
            assert word in failed["message"]
        assert await told(field, name, "SchedulingTimeout") == [failed["message"]]


async def test_two_losses_on_one_machine_and_the_next_attempt_is_elsewhere(field: Field) -> None:
    bad, good = field.kubelet.nodes
    field.misbehave({TRAIN: {attempt: {"hang": True} for attempt in ("1", "2")}})
    async with field.operator():
        name = field.apply(**cli.PLAIN)
        for attempt in (1, 2):
            pod = await field.running(name, TRAIN, attempt)
            assert pod["spec"]["nodeName"] == bad
            field.kubelet.disrupt(pod, "DeletionByTaintManager")
        status = await field.until_phase(name, "Complete")
        pod = await field.pod(name, TRAIN, "Succeeded", attempt=3)
        messages = await told(field, name, "AttemptFailed")
    assert pod["spec"]["nodeName"] == good
    assert step(status)["attemptsByFault"] == {"Infrastructure": 2}
    assert all(f"its node {bad} was lost" in message for message in messages), messages


@pytest.mark.parametrize("out_of_service", [False, True])
async def test_a_pod_on_a_machine_that_fell_silent_is_tried_again_on_another(
    field: Field, out_of_service: bool
) -> None:
    """The node object is kept, the pod is to go and does not; with the taint out-of-service Kubernetes itself
    removes the pod, else the operator calls it lost."""
    bad, good = field.kubelet.nodes
    field.misbehave({TRAIN: {"1": {"hang": True}}})
    async with field.operator():
        name = field.apply(**cli.PLAIN)
        pod = await field.running(name, TRAIN)
        field.lose(bad)
        if out_of_service:
            field.kubectl("taint", "node", bad, "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute")
        field.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false", "--grace-period=1")
        status = await field.until_phase(name, "Complete", seconds=180)
        again = await field.pod(name, TRAIN, "Succeeded", attempt=2)
    assert again["spec"]["nodeName"] == good
    assert step(status)["attemptsByFault"] == {"Infrastructure": 1}
    assert set(committed(field).values()) == {1}
    assert (await jobs_made(field, name))[TRAIN, "2"] == 1


async def test_a_judge_that_is_never_ready_ends_the_run(field: Field) -> None:
    field.misbehave({JUDGE: {"*": {"hang": True}}})
    async with field.operator():
        name = field.apply()
        pod = await field.running(name, JUDGE)
        log = f"kubectl logs -n {field.kubectl.namespace} {pod['metadata']['name']} -c main"
        found = await field.until(name, lambda status: log in status["summary"].get("message", ""))
        assert "the judge is starting" in found["summary"]["message"]
        # Its time to start is half an hour; here it is over at once.
        late = json.dumps({"spec": {"progressDeadlineSeconds": 1, "minReadySeconds": 0}})
        (judge,) = field.kubectl.json("get", "deployments")["items"]
        field.kubectl("patch", "deployment", judge["metadata"]["name"], "--type=merge", "-p", late)
        status = await field.until_phase(name, "Failed")
        await eventually(lambda: field.kubectl.json("get", "deployments")["items"] == [])
    failed = condition(status, "Failed")
    assert failed["reason"] == "RestartsExhausted"
    assert "judge of stage pretrain: was not ready in time" in failed["message"]
    assert f"log: {log}" in failed["message"]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"exit": 1}, ["ended 2 times", "failurePolicy.application=1 allows: told to fail", "-c main"]),
        ({"exit": 66, "message": "no weights there"}, ["no weights there", "take it out of the script"]),
    ],
    ids=["crash loop", "user's fault"],
)
async def test_a_judge_that_ends_again_and_again_ends_the_run(
    field: Field, told: Object, words: list[str]
) -> None:
    field.misbehave({JUDGE: {"*": told}})
    async with field.operator():
        name = field.apply(failurePolicy={"application": 1})
        status = await field.until_phase(name, "Failed")
    message = condition(status, "Failed")["message"]
    assert message.startswith("judge of stage pretrain: ")
    for word in words:
        assert word in message
