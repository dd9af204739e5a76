"""Hands that are not the operator's: children that a person edited or deleted, and objects of others under
the names of children."""

import json
from typing import Any

import pytest
from cluster.on_control_plane.operating import Field, as_if_undisturbed, committed, condition, jobs_made
from make import cli
from make.operator import eventually
from make.runs import keys

from ixt_operator.adapters.kubernetes.client import (
    DEPLOYMENTS,
    JOBS,
    SERVICES,
    Object,
    Resource,
    resource_of,
)
from ixt_operator.api.run import IXTRun
from ixt_operator.planner.building import child_name
from ixt_workloads.contract.graph import OfNode

ANNOTATE = "pretrain/annotate/0-15"
PREPARE = "pretrain/prepare/plain"
TRAIN = "pretrain/train/plain-s0"


async def job_of(field: Field, name: str, node: str) -> str:
    """Name of the Job of a run's node."""
    jobs = await field.client.list(JOBS, field.kubectl.namespace, labels=f"ixt.dev/run={name}")
    return next(
        str(job["metadata"]["name"]) for job in jobs if job["metadata"]["annotations"]["ixt.dev/node"] == node
    )


@pytest.mark.parametrize("node", ["pretrain/inventory", PREPARE, TRAIN])
async def test_a_job_that_is_deleted_is_made_anew_if_it_is_needed(field: Field, node: str) -> None:
    field.hold(TRAIN)
    async with field.operator():
        name = field.apply(**cli.PLAIN)
        await field.running(name, TRAIN)
        field.kubectl("delete", "job", await job_of(field, name, node))
        field.go_on()
        status = await field.until_phase(name, "Complete")
    assert not any(step.get("attemptsByFault") for stage in status["stages"] for step in stage["steps"])
    assert set(committed(field).values()) == {1}


LABELS = {
    "run-uid": "ixt.dev/run-uid-",
    "child": "ixt.dev/child=another",
    "key": "ixt.dev/key=another",
    "attempt": "ixt.dev/attempt=first",
    "manager": "app.kubernetes.io/managed-by-",
    "own": "a-person=was-here",
}


@pytest.mark.parametrize("label", LABELS)
async def test_a_label_that_is_edited_does_not_keep_the_run_from_its_end(field: Field, label: str) -> None:
    field.hold(TRAIN)
    async with field.operator("--resync-seconds=1"):
        name = field.apply(**cli.PLAIN)
        await field.running(name, TRAIN)
        job = await job_of(field, name, TRAIN)
        field.kubectl("label", "--overwrite", "job", job, LABELS[label])
        field.go_on()
        await field.until_phase(name, "Complete")
        field.kubectl("delete", "job", job, "--ignore-not-found")
        field.apply(name="next", **cli.PLAIN)
        await field.until_phase("next", "Complete")
    assert set(committed(field).values()) == {1}


async def test_a_judge_that_is_scaled_down_or_deleted_comes_back(field: Field) -> None:
    field.hold(ANNOTATE)
    async with field.operator():
        name = field.apply()
        await field.running(name, ANNOTATE)

        async def judges() -> list[tuple[str, int]]:
            found = await field.client.list(
                DEPLOYMENTS, field.kubectl.namespace, labels=f"ixt.dev/run={name}"
            )
            return [(each["metadata"]["uid"], each["status"].get("readyReplicas", 0)) for each in found]

        ((uid, _),) = await judges()
        judge = field.kubectl("get", "deployments", "-o", "name").strip()
        before = field.kubectl.json("get", judge)["metadata"]["generation"]
        field.kubectl("scale", judge, "--replicas=0")
        # Its pod may live on: Kubernetes' controllers need not have seen the 0.
        await eventually(
            lambda: field.kubectl.json("get", judge),
            lambda found: found["metadata"]["generation"] >= before + 2 and found["spec"]["replicas"] == 1,
        )
        await eventually(judges, lambda found: found == [(uid, 1)])
        field.kubectl("delete", judge)
        await eventually(judges, lambda found: len(found) == 1 and found[0][0] != uid and found[0][1] == 1)
        field.go_on()
        await field.until_phase(name, "Complete")
    await as_if_undisturbed(field, name)


async def test_a_judges_service_that_is_deleted_comes_back_with_the_next_attempt(field: Field) -> None:
    field.misbehave({ANNOTATE: {"1": {"hang": True}}})
    async with field.operator():
        name = field.apply()
        pod = await field.running(name, ANNOTATE)
        (service,) = field.kubectl.json("get", "services", "-l", f"ixt.dev/run={name}")["items"]
        field.kubectl("delete", "service", service["metadata"]["name"])
        field.hold(ANNOTATE)
        field.kubelet.disrupt(pod, "EvictionByEvictionAPI")
        await field.running(name, ANNOTATE, attempt=2)
        (again,) = field.kubectl.json("get", "services", "-l", f"ixt.dev/run={name}")["items"]
        assert (again["metadata"]["name"], again["spec"]) == (service["metadata"]["name"], service["spec"])
        field.go_on()
        await field.until_phase(name, "Complete")


async def test_a_copy_of_a_job_is_nobodys_child(field: Field) -> None:
    """As `kubectl get -o yaml`, edited and applied: it has all labels, but no owner."""
    field.hold(TRAIN)
    async with field.operator():
        name = field.apply(**cli.PLAIN)
        await field.running(name, TRAIN)
        job = field.kubectl.json("get", "job", await job_of(field, name, TRAIN))
        copy = copied(job)
        field.kubectl("create", "-f", "-", stdin=json.dumps(copy))
        field.go_on()
        await field.until_phase(name, "Complete")
    assert field.kubectl.json("get", "job", "copy")["metadata"]["labels"]["ixt.dev/run"] == name
    await_jobs = await jobs_made(field, name)
    assert await_jobs[TRAIN, "1"] == 2, "the run's own and the copy, which is still there"


def copied(job: Object) -> Object:
    labels = {name: value for name, value in job["metadata"]["labels"].items() if "ixt.dev" in name}
    labels["app.kubernetes.io/managed-by"] = "ixt-operator"
    container = {"name": "main", "image": "other:1"}
    pod = {
        "spec": {"containers": [container], "restartPolicy": "Never", "schedulingGates": [{"name": "a/b"}]}
    }
    annotations = {"ixt.dev/node": TRAIN}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "copy", "labels": labels, "annotations": annotations},
        "spec": {"template": pod},
    }


def foreign(kind: str, name: str) -> Object:
    """An object of another owner."""
    pod = {"containers": [{"name": "main", "image": "other:1"}], "schedulingGates": [{"name": "a/b"}]}
    labels = {"app": "other"}
    specs: dict[str, tuple[str, Any]] = {
        "ConfigMap": ("v1", None),
        "Service": ("v1", {"ports": [{"port": 80}], "selector": labels}),
        "Job": ("batch/v1", {"template": {"spec": {**pod, "restartPolicy": "Never"}}}),
        "Deployment": (
            "apps/v1",
            {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
        ),
    }
    version, spec = specs[kind]
    manifest = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels}}
    return {**manifest, "spec": spec} if spec else {**manifest, "data": {"a": "b"}}


async def refused(field: Field, name: str, kind: str, child: str) -> None:
    """Wait until a run says that a foreign object bears a child's name; then remove the object, as it is
    told to, after a look whether it is as it was."""

    def says(status: Object) -> bool:
        return condition(status, "Progressing").get("reason") == "CreateRefused"

    status = await field.until(name, says)
    message = condition(status, "Progressing")["message"]
    assert f"{kind} {child} exists in namespace {field.kubectl.namespace} and is not this run's" in message
    assert "delete or rename it" in message
    assert status["summary"]["message"] == message
    found = field.kubectl.json("get", kind, child)["metadata"]
    assert found["labels"] == {"app": "other"}
    assert "ownerReferences" not in found
    field.kubectl("delete", kind, child)


@pytest.mark.parametrize("kind", ["ConfigMap", "Service", "Job"])
async def test_a_foreign_object_under_a_childs_name_is_named_and_left_alone(field: Field, kind: str) -> None:
    field.hold(PREPARE)
    async with field.operator():
        name = field.apply(**cli.PLAIN)
        await field.running(name, PREPARE)
        manifest = await field.run(name)
        key = keys(manifest["status"])["pretrain/train/plain"]
        run = IXTRun.model_validate(manifest)
        child = child_name(run, OfNode(kind="Train", stage="pretrain", arm="plain", seed=0), key, 1)
        field.kubectl.apply(foreign(kind, child))
        field.go_on()
        await refused(field, name, kind, child)
        await field.until_phase(name, "Complete")
    await as_if_undisturbed(field, name)


@pytest.mark.parametrize(("kind", "resource"), [("Deployment", DEPLOYMENTS), ("Service", SERVICES)])
async def test_a_foreign_object_under_a_judges_name_is_named_and_left_alone(
    field: Field, kind: str, resource: Resource
) -> None:
    field.hold(ANNOTATE)
    async with field.operator():
        name = field.apply()
        await field.running(name, ANNOTATE)
        (judge,) = field.kubectl.json("get", "deployments")["items"]
        child = judge["metadata"]["name"]
        field.edit(name, suspend=True)
        await field.until(name, lambda status: status["phase"] == "Suspended")
        await eventually(
            lambda: field.client.get(resource, field.kubectl.namespace, child), lambda found: found is None
        )
        field.kubectl.apply(foreign(kind, child))
        field.go_on()
        field.edit(name, suspend=False)
        await refused(field, name, kind, child)
        await field.until_phase(name, "Complete")


async def test_deletes_leave_what_bears_a_childs_name_alone(field: Field) -> None:
    """The ConfigMap of a judge, replaced by a person's while the judge served."""
    field.hold(ANNOTATE)
    async with field.operator():
        name = field.apply()
        await field.running(name, ANNOTATE)
        (judge,) = field.kubectl.json("get", "deployments")["items"]
        mine = foreign("ConfigMap", judge["metadata"]["name"])
        field.kubectl("delete", "configmap", mine["metadata"]["name"])
        field.kubectl.apply(mine)
        field.go_on()
        await field.until_phase(name, "Complete")
    found = await field.client.get(resource_of(mine), field.kubectl.namespace, mine["metadata"]["name"])
    assert found
    assert found["data"] == {"a": "b"}
