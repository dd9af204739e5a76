"""Runs whose Jobs Kueue admits: spec.queueName, on the real Kueue."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster.control_plane import ControlPlane
from cluster.kubectl import Kubectl
from cluster.kueue import kueue_plane
from cluster.on_control_plane.operating import (
    MAIN,
    Field,
    as_if_undisturbed,
    committed,
    condition,
    jobs_made,
    step,
)
from make import cli, runs
from make.operator import eventually

from ixt_operator.adapters.kubernetes.client import DEPLOYMENTS, JOBS, PODS, Object
from ixt_operator.api.status import unix

pytestmark = pytest.mark.xdist_group("kueue")  # One worker starts it.

CRDS = Path(__file__).parents[3] / "crds"
ANNOTATE = "pretrain/annotate/0-15"
TRAIN = "pretrain/train/plain-s0"
QUEUED = {**cli.PLAIN, "queueName": "gpus"}
KUEUE = "kueue.x-k8s.io/v1beta2"


@dataclass(frozen=True)
class Queue:
    """The LocalQueue `gpus` of a namespace and the ClusterQueue behind it, both a test's own."""

    kubectl: Kubectl

    @property
    def name(self) -> str:
        return self.kubectl.namespace

    def create(self, pods: int) -> None:
        """Queue that admits so many pods at a time, higher priorities first."""
        quota = {"name": self.name, "resources": [{"name": "pods", "nominalQuota": pods}]}
        spec = {
            "namespaceSelector": {},
            "preemption": {"withinClusterQueue": "LowerPriority"},
            "resourceGroups": [{"coveredResources": ["pods"], "flavors": [quota]}],
        }
        self.kubectl.apply(
            {"apiVersion": KUEUE, "kind": "ResourceFlavor", "metadata": {"name": self.name}},
            {"apiVersion": KUEUE, "kind": "ClusterQueue", "metadata": {"name": self.name}, "spec": spec},
            {
                "apiVersion": KUEUE,
                "kind": "LocalQueue",
                "metadata": {"name": "gpus"},
                "spec": {"clusterQueue": self.name},
            },
        )

    def allow(self, pods: int) -> None:
        path = "/spec/resourceGroups/0/flavors/0/resources/0/nominalQuota"
        patch = [{"op": "replace", "path": path, "value": pods}]
        self.kubectl("patch", "clusterqueue", self.name, "--type=json", "-p", json.dumps(patch))

    def drain(self) -> None:
        """Take back what was admitted, and admit nothing more."""
        self._stop("HoldAndDrain")

    def open(self) -> None:
        self._stop("None")

    def _stop(self, policy: str) -> None:
        patch = json.dumps({"spec": {"stopPolicy": policy}})
        self.kubectl("patch", "clusterqueue", self.name, "--type=merge", "-p", patch)

    def workloads(self) -> list[str]:
        """Names of what Kueue knows of."""
        items = self.kubectl.json("get", "workloads.kueue.x-k8s.io")["items"]
        return [entry["metadata"]["name"] for entry in items]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane with Kueue."""
    with kueue_plane(tmp_path_factory.mktemp("kueue"), CRDS) as plane:
        yield plane


@pytest.fixture
def queue(kubectl: Kubectl) -> Iterator[Queue]:
    """A queue that admits one pod at a time."""
    opened = Queue(kubectl)
    opened.create(pods=1)
    yield opened
    kubectl("delete", "clusterqueue,resourceflavor", opened.name, "--wait=false")


@pytest.fixture
def queued_judges(kubectl: Kubectl, queue: Queue) -> Iterator[str]:
    """A runtime that puts judges into the queue; its name."""
    runtime = cli.stubs(f"queued-{queue.name}")
    for role in runtime["spec"]["roles"]:
        labels = {"kueue.x-k8s.io/queue-name": "gpus"} if role["name"] == "Judge" else {}
        role["template"] = {**MAIN, "metadata": {"labels": labels}}
    kubectl.apply(runtime)
    yield runtime["metadata"]["name"]
    kubectl("delete", "ixtruntime", runtime["metadata"]["name"])


def waits(status: Object) -> bool:
    return "waits for queue gpus" in status.get("summary", {}).get("message", "")


def attempts(status: Object) -> list[int]:
    return [step["attempt"] for stage in status["stages"] for step in stage["steps"]]


def faults(status: Object) -> list[Object]:
    found = [step.get("attemptsByFault") for stage in status["stages"] for step in stage["steps"]]
    return [each for each in found if each]


def given(field: Field, judge: Object, seconds: int) -> None:
    """Change how long a judge has to become ready."""
    patch = json.dumps({"spec": {"progressDeadlineSeconds": seconds, "minReadySeconds": 0}})
    field.kubectl("patch", "deployment", judge["metadata"]["name"], "--type=merge", "-p", patch)


async def serving(field: Field) -> list[Object]:
    """Pods of judges that are ready."""
    pods = await field.client.list(PODS, field.kubectl.namespace)
    return [
        pod
        for pod in pods
        if "readinessProbe" in pod["spec"]["containers"][0]
        and condition(pod["status"], "Ready").get("status") == "True"
    ]


async def jobs(field: Field) -> list[Object]:
    return await field.client.list(JOBS, field.kubectl.namespace)


async def test_a_run_waits_for_its_queue_as_long_as_it_takes(field: Field, queue: Queue) -> None:
    queue.allow(0)
    async with field.operator():
        name = field.apply(**QUEUED, schedulingTimeoutSeconds=1)
        status = await field.until(name, waits)
        assert "kubectl describe workloads" in status["summary"]["message"]
        assert condition(status, "Progressing")["reason"] == "StepsWaiting"
        (job,) = await jobs(field)
        assert job["spec"]["suspend"]
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
        created = unix(job["metadata"]["creationTimestamp"])
        await eventually(lambda: time.time() > created + 3)
        field.edit(name, schedulingTimeoutSeconds=2)
        status = await field.until(name, lambda status: status["observedGeneration"] == 2)
        assert waits(status)
        assert field.kubelet.started == []
        queue.allow(1)
        status = await field.until_phase(name, "Complete")
    assert all(job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus" for job in await jobs(field))
    await as_if_undisturbed(field, name)


async def test_two_runs_share_a_queue_in_turn(field: Field, queue: Queue) -> None:
    field.hold(TRAIN)
    async with field.operator():
        first = field.apply(**QUEUED, name="first")
        await field.running(first, TRAIN)
        second = field.apply(**QUEUED, name="second", storage={"uri": "pvc://claim/second"})
        await field.until(second, waits)
        assert len(field.kubelet.alive()) == 1
        field.go_on()
        for name in (first, second):
            await field.until_phase(name, "Complete")
            await as_if_undisturbed(field, name)


async def test_what_the_queue_takes_back_waits_without_fault_and_goes_on(field: Field, queue: Queue) -> None:
    field.hold(TRAIN)
    async with field.operator():
        name = field.apply(**QUEUED)
        pod = await field.running(name, TRAIN)
        for _ in range(2):
            field.kubelet.lingering = True
            queue.drain()
            await field.pod(name, TRAIN, "Failed")
            status = await field.until(name, waits)
            assert status["phase"] == "Running"
            assert not step(status).get("attemptsByFault")
            field.kubelet.lingering = False
            await eventually(lambda: field.kubelet.alive() == [])
            queue.open()
            before, pod = pod, await field.running(name, TRAIN)
            assert pod["metadata"]["uid"] != before["metadata"]["uid"]
        field.go_on()
        status = await field.until_phase(name, "Complete")
    assert attempts(status) == [1] * len(cli.PLAIN_NODES), "the same attempt goes on"
    assert set(committed(field).values()) == {1}
    await as_if_undisturbed(field, name)


async def test_an_urgent_run_takes_the_place_of_another_which_comes_back(field: Field, queue: Queue) -> None:
    urgent = f"urgent-{queue.name}"
    field.kubectl.apply(
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": urgent},
            "value": 1000,
        }
    )
    field.hold(TRAIN)
    async with field.operator():
        other = field.apply(**QUEUED, name="other")
        await field.running(other, TRAIN)
        pods = {"all": runs.patch(spec={"priorityClassName": urgent})}
        name = field.apply(**QUEUED, name="urgent", storage={"uri": "pvc://claim/urgent"}, pods=pods)
        await field.running(name, TRAIN)
        await field.until(other, waits)
        assert len(field.kubelet.alive()) == 1
        field.go_on()
        for each in (name, other):
            status = await field.until_phase(each, "Complete")
            assert attempts(status) == [1] * len(cli.PLAIN_NODES)
            await as_if_undisturbed(field, each)
    field.kubectl("delete", "priorityclass", urgent)


@pytest.mark.parametrize("queued", [True, False], ids=["waiting", "admitted"])
async def test_a_suspended_run_leaves_its_queue_and_comes_back(
    field: Field, queue: Queue, queued: bool
) -> None:
    field.hold(TRAIN)
    async with field.operator():
        name = field.apply(**QUEUED)
        await field.running(name, TRAIN)
        if queued:
            queue.drain()
            await field.until(name, waits)
        field.edit(name, suspend=True)
        await field.until(name, lambda status: condition(status, "Suspended").get("status") == "True")
        await eventually(lambda: field.kubelet.alive() == [])
        assert (await jobs_made(field, name))[TRAIN, "1"] == 0
        await eventually(queue.workloads, lambda names: not any("-train-" in name for name in names))
        queue.open()
        field.go_on()
        field.edit(name, suspend=False)
        status = await field.until_phase(name, "Complete")
    assert faults(status) == []
    assert (await jobs_made(field, name))[TRAIN, "2"] == 1


async def test_a_deleted_run_leaves_its_queue(field: Field, queue: Queue) -> None:
    field.hold(TRAIN)
    async with field.operator():
        name = field.apply(**QUEUED)
        await field.running(name, TRAIN)
        field.kubectl("delete", "ixtrun", name)
        await eventually(lambda: queue.workloads() == [] and field.kubelet.alive() == [])
        field.go_on()
        field.apply(**QUEUED)
        await field.until_phase(name, "Complete")


async def test_a_fault_of_an_admitted_step_is_tried_again_through_the_queue(
    field: Field, queue: Queue
) -> None:
    field.misbehave({TRAIN: {"1": {"exit": 1}}})
    async with field.operator():
        name = field.apply(**QUEUED, failurePolicy={"application": 1})
        status = await field.until_phase(name, "Complete")
    assert step(status)["attemptsByFault"] == {"Application": 1}


async def test_a_judge_runs_beside_the_queue(field: Field, queue: Queue) -> None:
    async with field.operator():
        name = field.apply(queueName="gpus")
        await field.until_phase(name, "Complete")
    await as_if_undisturbed(field, name)


async def test_a_judge_that_its_runtime_puts_into_a_queue_waits_there_as_long_as_it_takes(
    field: Field, queue: Queue, queued_judges: str
) -> None:
    queue.allow(0)
    async with field.operator():
        name = field.apply(runtimeRef={"name": queued_judges})
        await field.until(name, waits)
        (judge,) = await field.client.list(DEPLOYMENTS, queue.name)
        deadline = judge["spec"]["progressDeadlineSeconds"]
        given(field, judge, 1)
        exceeded = "jsonpath={.status.conditions[?(@.type=='Progressing')].reason}=ProgressDeadlineExceeded"
        field.kubectl("wait", f"--for={exceeded}", "deployment", "--all", "--timeout=60s")
        given(field, judge, deadline)
        field.edit(name, schedulingTimeoutSeconds=1)
        status = await field.until(name, lambda status: status["observedGeneration"] == 2)
        assert waits(status)
        queue.allow(1)
        await field.until_phase(name, "Complete")
    await as_if_undisturbed(field, name)
    await eventually(queue.workloads, lambda names: names == [])


async def test_a_judge_that_its_queue_takes_back_in_mid_annotation_comes_back_without_fault(
    field: Field, queue: Queue, queued_judges: str
) -> None:
    field.hold(ANNOTATE)
    async with field.operator():
        name = field.apply(runtimeRef={"name": queued_judges})
        worker = await field.running(name, ANNOTATE)
        (judge,) = await serving(field)
        queue.drain()
        await eventually(lambda: serving(field), lambda found: not found)
        status = await field.until(name, waits)
        assert status["phase"] == "Running"
        queue.open()
        (again,) = await eventually(lambda: serving(field))
        assert again["metadata"]["uid"] != judge["metadata"]["uid"]
        assert (await field.running(name, ANNOTATE))["metadata"]["uid"] == worker["metadata"]["uid"]
        field.go_on()
        status = await field.until_phase(name, "Complete")
    assert faults(status) == []
    await as_if_undisturbed(field, name)
