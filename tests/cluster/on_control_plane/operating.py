"""An operator, a kubelet's double and a namespace: what most tests of the operator stand on."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.control_plane import ControlPlane
from cluster.kubectl import Kubectl
from make import cli, runs
from make.kubelet import Kubelet
from make.operator import connected, eventually, operator

from ixt_operator.adapters.kubernetes.client import DEPLOYMENTS, JOBS, RUNS, SERVICES, Client, Object

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
    """The stubs' script (see ixt_workloads.stub)."""
    port: int

    def operator(self, *arguments: str, kubeconfig: Path | None = None, replica: int = 0) -> Any:
        """An operator that serves this namespace alone."""
        namespace = self.kubectl.namespace
        flags = (f"--namespace={namespace}", f"--lease-namespace={namespace}")
        return operator(
            kubeconfig or self.kubeconfig, self.folder, *flags, *arguments, port=self.port + replica
        )

    def apply(self, **spec: Any) -> str:
        """Apply a run over stubs; its name."""
        given = {"storage": {"uri": "pvc://claim/runs"}, "runtimeRef": {"name": "stubs"}, **spec}
        manifest = runs.applied(**given)
        self.kubectl.apply(manifest)
        return str(manifest["metadata"]["name"])

    def misbehave(self, script: dict[str, Any]) -> None:
        """Tell the stubs what to do wrong."""
        new = self.script.with_suffix(".new")
        new.write_text(json.dumps(script))
        new.replace(self.script)

    async def run(self, name: str) -> Object:
        """A run as it is."""
        found = await self.client.get(RUNS, self.kubectl.namespace, name)
        assert found is not None
        return found

    async def until(self, name: str, holds: Callable[[Object], bool], seconds: float = 60) -> Object:
        """A run's status once something holds of it."""

        async def status() -> Object:
            return dict((await self.run(name)).get("status", {}))

        return dict(await eventually(status, holds, seconds))

    async def until_phase(self, name: str, phase: str, seconds: float = 60) -> Object:
        return await self.until(name, lambda status: status.get("phase") == phase, seconds)


def condition(status: Object, type_: str) -> Object:
    """A condition of a status."""
    return next((entry for entry in status.get("conditions", ()) if entry["type"] == type_), {})


def keys(status: Object) -> dict[str, str]:
    """Keys by stage and step."""
    return {
        f"{stage['name']}/{step['name']}": step["key"]
        for stage in status["stages"]
        for step in stage["steps"]
    }


async def jobs_made(field: Field, name: str) -> Counter[tuple[str, str]]:
    """Jobs of a run by node and attempt."""
    jobs = await field.client.list(JOBS, field.kubectl.namespace, labels=f"ixt.dev/run={name}")
    return Counter(
        (job["metadata"]["annotations"]["ixt.dev/node"], job["metadata"]["labels"]["ixt.dev/attempt"])
        for job in jobs
    )


async def left_behind(field: Field, name: str) -> list[str]:
    """Deployments of a run and Services without a Job: what should be gone when it is complete."""
    space, labels = field.kubectl.namespace, f"ixt.dev/run={name}"
    jobs = {job["metadata"]["name"] for job in await field.client.list(JOBS, space, labels=labels)}
    found = await field.client.list(DEPLOYMENTS, space, labels=labels)
    found += await field.client.list(SERVICES, space, labels=labels)
    return [entry["metadata"]["name"] for entry in found if entry["metadata"]["name"] not in jobs]


@asynccontextmanager
async def field(plane: ControlPlane, kubectl: Kubectl, folder: Path, port: int) -> AsyncIterator[Field]:
    """A field without an operator: tests start theirs."""
    runtime = cli.stubs("stubs")
    for role in runtime["spec"]["roles"]:
        role["template"] = MAIN
    kubectl.apply(runtime)
    script, volumes = folder / "script.json", folder / "volumes"
    script.write_text("{}")
    (volumes / "claim").mkdir(parents=True)
    async with connected(plane.kubeconfig) as client:
        env = {"IXT_STUB_SCRIPT": str(script)}
        async with Kubelet(client, folder / "pods", volumes, kubectl.namespace, env) as kubelet:
            yield Field(kubectl, client, kubelet, folder, plane.kubeconfig, script, port)
