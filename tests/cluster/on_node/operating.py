"""A namespace on the node in which runs are carried out: the operator is the chart's, pods really run.

Pods run the virtual environment and this checkout, mounted read-only (cluster/python.py), on the restricted
Pod Security level; their volume is a folder of this machine.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import certifi
from cluster import python, quickstart, volumes
from cluster.kubectl import Kubectl
from make import cli, processes, runs
from make.chart import NAMESPACE

from ixt_operator.api.meta import API_VERSION
from ixt_operator.api.run import KEEP_CHILDREN
from ixt_operator.render.builtin_runtimes import cpu
from ixt_workloads.contract.kinds import Role

CLAIM = "ixt-quickstart"
"""The one that the quickstart's manifest names."""
SCRIPT = "script.json"
IMAGE = python.IMAGE
OPERATOR = "app.kubernetes.io/name=ixt-operator"
"""Picks the operator's pods."""
PATIENCE_SECONDS = 120


def until(holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something holds that kubectl tells: asking it takes time from the pods."""
    processes.until(holds, seconds, every=0.5)


@dataclass(frozen=True)
class Site:
    """Where a test works. Its runtimes are called `NAMESPACE-stubs` and `NAMESPACE-engines`."""

    kubectl: Kubectl
    folder: Path
    mounted: python.Mounted

    @property
    def name(self) -> str:
        return self.kubectl.namespace

    @property
    def volume(self) -> Path:
        """What the claim CLAIM holds; its parent is an IXT_PVC_ROOT."""
        return self.folder / "volumes" / CLAIM

    def adapt(self, pod: dict[str, Any]) -> None:
        """Have a pod run this checkout's Python instead of that of an image."""
        (main,) = pod["containers"]
        _with_python(main, self.mounted)
        pod["volumes"] += self.mounted.volumes
        image = "/opt/ixt/quickstart"
        main["command"] = [word.replace(image, str(quickstart.FOLDER)) for word in main["command"]]

    def apply(self, *, name: str = "test", **spec: Any) -> str:
        """Apply a run, over stubs unless told otherwise, whose children stay to be looked at; its name."""
        given = {
            "storage": {"uri": f"pvc://{CLAIM}/runs"},
            "runtimeRef": {"name": f"{self.name}-stubs"},
            **spec,
        }
        manifest = runs.applied(name=name, **given)
        manifest["metadata"]["annotations"] = {KEEP_CHILDREN: "true"}
        self.kubectl.apply(manifest)
        return name

    def misbehave(self, script: dict[str, Any]) -> None:
        """Tell the stubs what to do wrong (see make/stub.py)."""
        new = self.volume / "script.new"
        new.write_text(json.dumps(script))
        new.rename(self.volume / SCRIPT)

    def wait(self, condition: str, seconds: int = PATIENCE_SECONDS) -> None:
        """Wait until the run has a condition; what it says instead is in the error."""

        def settled() -> bool:
            return bool({condition, "Complete", "Failed"} & self.conditions())

        try:
            until(settled, seconds)
        finally:
            assert condition in self.conditions(), self.story()

    def conditions(self, name: str = "test") -> set[str]:
        """Types of the conditions that hold of a run."""
        entries = self.status(name).get("conditions", ())
        return {entry["type"] for entry in entries if entry["status"] == "True"}

    def status(self, name: str = "test") -> dict[str, Any]:
        found: dict[str, Any] = self.kubectl.json("get", "ixtrun", name).get("status", {})
        return found

    def step(self, node: str, name: str = "test") -> dict[str, Any]:
        """A step's status; {} before there is one. `node` is `stage/step`."""
        stage, _, wanted = node.partition("/")
        for found in self.status(name).get("stages", ()):
            for step in found["steps"]:
                if (found["name"], step["name"]) == (stage, wanted):
                    return dict(step)
        return {}

    def pods(self, node: str, attempt: int | None = None) -> list[dict[str, Any]]:
        """The pods of a node of the graph."""
        labels = "ixt.dev/run" + (f",ixt.dev/attempt={attempt}" if attempt is not None else "")
        pods = self.kubectl.json("get", "pods", "-l", labels)["items"]
        return [pod for pod in pods if pod["metadata"]["annotations"]["ixt.dev/node"] == node]

    def children(self) -> list[str]:
        """All that a run's steps have in the cluster, with their uids."""
        kinds = "jobs,deployments,services,configmaps,pods"
        found = self.kubectl.json("get", kinds, "-l", "ixt.dev/run")["items"]
        return sorted(
            f"{each['kind']} {each['metadata']['name']} {each['metadata']['uid']}" for each in found
        )

    def story(self) -> str:
        """What there is, for whoever reads why a test failed."""
        commands = (
            ("get", "ixtruns", "-o", "jsonpath={.items[*].status}"),
            ("get", "pods", "-o", "wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
            ("logs", "-l", "ixt.dev/run", "--tail=15", "--prefix"),
            ("logs", f"--namespace={NAMESPACE}", "-l", OPERATOR, "--tail=20", "--prefix"),
        )
        return "\n".join(self.kubectl.run(*command).stdout[-6000:] for command in commands)


@contextmanager
def site(kubectl: Kubectl, folder: Path) -> Iterator[Site]:
    """A site in kubectl's namespace."""
    volume = folder / "volumes" / CLAIM
    volume.mkdir(parents=True)
    volume.chmod(0o777)  # Pods are not root.
    kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
    claimed = {"namespace": kubectl.namespace, "name": CLAIM}
    name = f"{kubectl.namespace}-{CLAIM}"
    kubectl.apply(volumes.volume(name, volume, "2Gi", claimRef=claimed), quickstart.claim())
    with python.mounted(kubectl) as mounted:
        # What engines ask for is counted: of less, a test's work would come to no second.
        for kind, command, processors in (("stubs", cli.STUB, "50m"), ("engines", (), "200m")):
            kubectl.apply(runtime(f"{kubectl.namespace}-{kind}", mounted, command, processors))
        found = Site(kubectl, folder, mounted)
        found.misbehave({})
        try:
            yield found
        finally:
            kubectl("delete", "ixtruns", "--all", "--wait=false")
            kubectl("delete", "ixtruntime", *(f"{kubectl.namespace}-{kind}" for kind in ("stubs", "engines")))
            kubectl("delete", "pv", f"{kubectl.namespace}-{CLAIM}", "--wait=false")


def runtime(name: str, mounted: python.Mounted, command: tuple[str, ...], processors: str) -> dict[str, Any]:
    """The chart's runtime `cpu` for pods that mount their Python. They ask for little: two cores are all."""
    found = cpu(IMAGE).model_dump(mode="json", exclude_defaults=True)
    for role in found["spec"]["roles"]:
        spec = role["template"]["spec"]
        (main,) = spec["containers"]
        _with_python(main, mounted)
        main["resources"]["requests"]["cpu"] = processors
        main["env"].append({"name": "IXT_STUB_SCRIPT", "value": f"/ixt/volumes/{CLAIM}/{SCRIPT}"})
        spec["volumes"] += mounted.volumes
        role["command"] = list(command)
    roles = found["spec"]["roles"]
    assert {role["name"] for role in roles} == {role.value for role in Role}
    return {**found, "apiVersion": API_VERSION, "kind": "IXTRuntime", "metadata": {"name": name}}


def _with_python(main: dict[str, Any], mounted: python.Mounted) -> None:
    main["image"] = IMAGE
    main["imagePullPolicy"] = "Never"
    main["resources"] = {"requests": {"cpu": "50m", "memory": "64Mi"}}
    main.setdefault("env", []).extend(
        [
            {"name": "PATH", "value": f"{Path(python.EXECUTABLE).parent}:/usr/bin:/bin"},
            # This checkout's packages, whichever one the environment was installed from.
            {"name": "PYTHONPATH", "value": f"{python.ROOT / 'workloads'}:{python.ROOT / 'operator'}"},
            {"name": "OMP_NUM_THREADS", "value": "1"},
            # The image is empty; clients of buckets want authorities, though they speak to one without TLS.
            {"name": "SSL_CERT_FILE", "value": certifi.where()},
        ]
    )
    main["volumeMounts"] += mounted.mounts
