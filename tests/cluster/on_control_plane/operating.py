"""An operator, a kubelet's double and a namespace: what most tests of the operator stand on."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.control_plane import ControlPlane
from cluster.kubectl import Kubectl
from make import cli, loopback, runs
from make.kubelet import Kubelet, now
from make.operator import PATIENCE_SECONDS, connected, eventually, operator

from ixt_operator.adapters.kubernetes.client import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    JOBS,
    PODS,
    RUNS,
    SERVICES,
    Client,
    Object,
)
from ixt_operator.api.run import KEEP_CHILDREN

MAIN = {"spec": {"containers": [{"name": "main", "image": "stub:1"}]}}


@dataclass
class Field:
    """Where a test works."""

    kubectl: Kubectl
    client: Client
    kubelet: Kubelet
    folder: Path
    kubeconfig: Path
    script: Path
    """The stubs' script (see make/stub.py)."""
    loopback: int
    """Part of loopback that is this test's (make.loopback)."""

    def operator(self, *arguments: str, kubeconfig: Path | None = None, replica: int = 0) -> Any:
        """An operator that serves this namespace alone."""
        namespace = self.kubectl.namespace
        flags = (f"--namespace={namespace}", f"--lease-namespace={namespace}")
        return operator(
            kubeconfig or self.kubeconfig,
            self.folder,
            *flags,
            *arguments,
            port=loopback.port(self.loopback, replica),
        )

    def apply(self, **spec: Any) -> str:
        """Apply a run over stubs, whose children stay to be looked at; its name."""
        given = {"storage": {"uri": "pvc://claim/runs"}, "runtimeRef": {"name": "stubs"}, **spec}
        manifest = runs.applied(**given)
        manifest["metadata"]["annotations"] = {KEEP_CHILDREN: "true"}
        self.kubectl.apply(manifest)
        return str(manifest["metadata"]["name"])

    def edit(self, name: str, **spec: Any) -> None:
        """Edit fields of a run's spec."""
        self.kubectl("patch", "ixtrun", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def hold(self, *nodes: str) -> None:
        """Have the steps of these nodes wait until `go_on`."""
        self._go.unlink(missing_ok=True)
        self.misbehave({node: {"*": {"wait_for": str(self._go)}} for node in nodes})

    def go_on(self) -> None:
        self._go.touch()

    @property
    def _go(self) -> Path:
        return self.folder / "go-on"

    def misbehave(self, script: dict[str, Any]) -> None:
        """Tell the stubs what to do wrong."""
        new = self.script.with_suffix(".new")
        new.write_text(json.dumps(script))
        new.replace(self.script)

    def lose(self, node: str) -> None:
        """A node falls silent: its kubelet says nothing any more; its object is kept, tainted as such."""
        self.kubelet.lost.add(node)
        self.kubectl("taint", "node", node, "node.kubernetes.io/unreachable:NoSchedule", "--overwrite")
        gone = {"conditions": [{"type": "Ready", "status": "Unknown", "lastTransitionTime": now()}]}
        patch = json.dumps({"status": gone})
        self.kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", patch)

    async def run(self, name: str) -> Object:
        """A run as it is."""
        found = await self.client.get(RUNS, self.kubectl.namespace, name)
        assert found is not None
        return found

    async def until(
        self, name: str, holds: Callable[[Object], bool], seconds: float = PATIENCE_SECONDS
    ) -> Object:
        """A run's status once there is one and something holds of it."""

        async def status() -> Object:
            return dict((await self.run(name)).get("status", {}))

        return dict(await eventually(status, lambda found: bool(found) and holds(found), seconds))

    async def running(self, name: str, node: str, attempt: int = 1) -> Object:
        """The first pod of an attempt of a run's node, once it runs."""
        return await self.pod(name, node, "Running", attempt)

    async def pod(self, name: str, node: str, phase: str, attempt: int = 1) -> Object:
        """The first pod of an attempt of a run's node, once it is in a phase."""
        labels = f"ixt.dev/run={name},ixt.dev/attempt={attempt}"

        async def found() -> Object | None:
            for pod in await self.client.list(PODS, self.kubectl.namespace, labels=labels):
                of_node = pod["metadata"]["annotations"]["ixt.dev/node"] == node
                if of_node and pod["status"].get("phase") == phase:
                    return pod
            return None

        return dict(await eventually(found))

    async def until_phase(self, name: str, phase: str, seconds: float = PATIENCE_SECONDS) -> Object:
        return await self.until(name, lambda status: status.get("phase") == phase, seconds)


def condition(status: Object, type_: str) -> Object:
    """A condition of a status."""
    return next((entry for entry in status.get("conditions", ()) if entry["type"] == type_), {})


def step(status: Object, name: str = "train/plain", stage: str = "pretrain") -> Object:
    """A step's entry in a status."""
    steps = [step for entry in status.get("stages", ()) if entry["name"] == stage for step in entry["steps"]]
    return next((step for step in steps if step["name"] == name), {})


async def told(field: Field, name: str, reason: str) -> list[str]:
    """Messages of a run's Events with a reason, once there are any: they follow the status that they tell of,
    while the operator runs."""
    selected = f"--field-selector=involvedObject.name={name},reason={reason}"

    def messages() -> list[str]:
        return [entry["message"] for entry in field.kubectl.json("get", "events", selected)["items"]]

    return list(await eventually(messages))


async def children(field: Field, name: str) -> dict[str, str]:
    """Uids of the objects of a run's children by kind and name."""
    found = {}
    for resource in (JOBS, DEPLOYMENTS, SERVICES, CONFIG_MAPS, PODS):
        for entry in await field.client.list(resource, field.kubectl.namespace, labels=f"ixt.dev/run={name}"):
            if ".started-" not in entry["metadata"]["name"]:
                found[f"{resource.plural}/{entry['metadata']['name']}"] = entry["metadata"]["uid"]
    return found


def committed(field: Field) -> Counter[str]:
    """How often each key was committed, by whatever run."""
    return Counter(
        result["key"] for result in field.kubelet.results() if result.get("outcome") == "Committed"
    )


async def jobs_made(field: Field, name: str) -> Counter[tuple[str, str]]:
    """Jobs of a run by node and attempt."""
    jobs = await field.client.list(JOBS, field.kubectl.namespace, labels=f"ixt.dev/run={name}")
    return Counter(
        (job["metadata"]["annotations"]["ixt.dev/node"], job["metadata"]["labels"]["ixt.dev/attempt"])
        for job in jobs
    )


def jobs_ever(field: Field) -> Counter[str]:
    """How many Jobs of each name there have been in this namespace, whether they are still there or not: the
    job controller leaves an Event for each pod that it makes."""
    events = field.kubectl.json("get", "events", "--field-selector=reason=SuccessfulCreate")["items"]
    jobs = {
        (entry["involvedObject"]["name"], entry["involvedObject"]["uid"])
        for entry in events
        if entry["involvedObject"]["kind"] == "Job"
    }
    return Counter(name for name, _ in jobs)


async def as_if_undisturbed(field: Field, name: str) -> None:
    """Assert that a run made each child once, at the first attempt, each artifact once, and left nothing."""
    jobs = await jobs_made(field, name)
    assert set(jobs.values()) == {1}, jobs
    assert {attempt for _, attempt in jobs} == {"1"}, jobs
    # What could not be deleted at first is tried again, when the run may be complete already.
    await eventually(lambda: left_behind(field, name), lambda found: found == [])


async def left_behind(field: Field, name: str) -> list[str]:
    """Deployments of a run and Services without a Job: what should be gone when it is complete."""
    space, labels = field.kubectl.namespace, f"ixt.dev/run={name}"
    jobs = {job["metadata"]["name"] for job in await field.client.list(JOBS, space, labels=labels)}
    found = await field.client.list(DEPLOYMENTS, space, labels=labels)
    found += await field.client.list(SERVICES, space, labels=labels)
    return [entry["metadata"]["name"] for entry in found if entry["metadata"]["name"] not in jobs]


@asynccontextmanager
async def field(
    plane: ControlPlane, kubectl: Kubectl, folder: Path, stub: Sequence[str]
) -> AsyncIterator[Field]:
    """A field without an operator: tests start theirs. `stub` is the command of all steps."""
    runtime = cli.stubs("stubs", stub)
    for role in runtime["spec"]["roles"]:
        role["template"] = MAIN
    kubectl.apply(runtime)
    script, volumes = folder / "script.json", folder / "volumes"
    script.write_text("{}")
    (volumes / "claim").mkdir(parents=True)
    env = {"IXT_STUB_SCRIPT": str(script)}
    with loopback.part() as part:
        async with (
            connected(plane.kubeconfig) as client,
            Kubelet(client, folder / "pods", volumes, kubectl.namespace, env, part) as kubelet,
        ):
            yield Field(kubectl, client, kubelet, folder, plane.kubeconfig, script, part)
