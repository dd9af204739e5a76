"""One operator for many namespaces, of which some are forbidden or hostile."""

import json
from collections.abc import Callable
from pathlib import Path

from cluster.kubectl import Kubectl
from cluster.on_control_plane.operating import Field
from make import bombs, cli, runs
from make.operator import eventually

from ixt_operator.adapters.kubernetes.client import RUNS, Object

SPACES = 20
MOST_BYTES = 200 * 2**20


def other(field: Field, *names: str) -> list[Kubectl]:
    """More namespaces, which go with the test's cluster."""
    spaces = [field.kubectl.within(f"{field.kubectl.namespace}-{name}") for name in names]
    field.kubectl.apply(
        *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": each.namespace}} for each in spaces)
    )
    return spaces


def allow(space: Kubectl, account: str) -> None:
    """Let an account of another namespace do everything in this one."""
    space("create", "rolebinding", "operator", "--clusterrole=cluster-admin", f"--serviceaccount={account}")


def account(field: Field, folder: Path) -> tuple[str, Path]:
    """A service account that may read what belongs to no namespace, and its kubeconfig."""
    home = field.kubectl
    home("create", "serviceaccount", "operator")
    name, resources = f"{home.namespace}:operator", "ixtruntimes.ixt.dev,nodes"
    role = f"ixt-{home.namespace}"
    home("create", "clusterrole", role, "--verb=get,list,watch", f"--resource={resources}")
    home("create", "clusterrolebinding", role, f"--clusterrole={role}", f"--serviceaccount={name}")
    found = home.json("config", "view", "--raw")
    found["users"][0]["user"] = {"token": home("create", "token", "operator").strip()}
    file = folder / "account.kubeconfig"
    file.write_text(json.dumps(found))
    return name, file


async def test_a_forbidden_namespace_of_three_waits_for_its_rights_alone(
    field: Field, tmp_path: Path
) -> None:
    also, forbidden = other(field, "also", "forbidden")
    name, kubeconfig = account(field, tmp_path)
    allow(field.kubectl, name)
    allow(also, name)
    flags = [f"--namespace={space.namespace}" for space in (also, forbidden)]
    for space in (also, forbidden):
        space.apply(runs.applied(storage={"uri": "pvc://claim/runs"}, runtimeRef={"name": "stubs"}))

    async def phase(space: Kubectl) -> str:
        run = await field.client.get(RUNS, space.namespace, "test")
        assert run
        return str(run.get("status", {}).get("phase"))

    async with field.operator(*flags, kubeconfig=kubeconfig) as operator:
        await field.until_phase(field.apply(**cli.PLAIN), "Complete")
        await eventually(lambda: phase(also), lambda found: found == "Running")
        assert await phase(forbidden) == "None"
        assert "forbidden" in operator.log.read_text()
        allow(forbidden, name)
        await eventually(lambda: phase(forbidden), lambda found: found == "Running")
        # Rights that go in mid-life are missed at the first write, long before the next full listing.
        unserved = f'ixt_operator_namespace_unserved{{namespace="{forbidden.namespace}"}} 1.0'
        forbidden("delete", "rolebinding", "operator")
        forbidden("patch", "ixtrun", "test", "--type=merge", "-p", '{"spec": {"suspend": true}}')
        await eventually(operator.metrics, lambda found: unserved in found)
        allow(forbidden, name)
        await eventually(lambda: phase(forbidden), lambda found: found == "Suspended")
        assert operator.process.is_alive()


def rubric(text: str) -> Callable[[str], list[Object]]:
    """A run whose rubric is a bomb."""
    judge = {"model": "file:///judge", "rubric": {"configMapKeyRef": {"name": "rubric", "key": "text"}}}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rubric"}, "data": {"text": text}}
    return lambda _: [config, runs.applied(judge=judge, runtimeRef={"name": "stubs"})]


def jobs(_: str) -> list[Object]:
    """Jobs with the labels of a run's children and much that nobody asked for."""
    labels = {"app.kubernetes.io/managed-by": "ixt-operator", "ixt.dev/run": "test", "ixt.dev/run-uid": "u"}
    pod = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "a"}]}}
    return [
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": f"job-{index}", "labels": labels, "annotations": {"a": "x" * 250_000}},
            "spec": {"suspend": True, "template": pod},
        }
        for index in range(12)
    ] + [runs.applied(runtimeRef={"name": "stubs"})]


def annotated(_: str) -> list[Object]:
    run = runs.applied(runtimeRef={"name": "stubs"})
    run["metadata"]["annotations"] = {"a": "\x1b[2J" + "x" * 250_000, "ixt.dev/take-over": "y" * 10_000}
    return [run]


def maximal(_: str) -> list[Object]:
    """The largest run that there is."""
    run = runs.maximal()
    run["metadata"]["name"] = "test"
    run["spec"] |= {"runtimeRef": {"name": "stubs"}, "suspend": False}
    del run["spec"]["pods"]
    return [run]


def lent_elsewhere(space: str) -> list[Object]:
    """A run that names a runtime of others, which lends more than its own may have."""
    return [runs.applied(runtimeRef={"name": f"{space.rpartition('-hostile-')[0]}-private"})]


def deep(_: str) -> list[Object]:
    """A run whose patch of pods, which the API server takes as it is, is nested deeper than parsers take."""
    return [runs.applied(pods={"all": {"spec": {"affinity": bombs.DEEP}}}, runtimeRef={"name": "stubs"})]


ATTACKS = (
    deep,
    rubric(bombs.LAUGHS),
    rubric(bombs.BRACKETS),
    rubric(bombs.SEXAGESIMAL),
    rubric(bombs.LONG),
    jobs,
    annotated,
    maximal,
    lent_elsewhere,
)


async def test_twenty_hostile_namespaces_keep_no_honest_run_from_its_end(field: Field) -> None:
    private = field.kubectl.json("get", "ixtruntime", "stubs")
    private = {**private, "metadata": {"name": f"{field.kubectl.namespace}-private"}}
    private["spec"]["allowedNamespaces"] = {"matchLabels": {"team": "administrators"}}
    field.kubectl.apply(private)
    spaces = other(field, *(f"hostile-{number}" for number in range(SPACES)))
    for number, space in enumerate(spaces):
        items = ATTACKS[number % len(ATTACKS)](space.namespace)
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        space("create", "-f", "-", stdin=bombs.deepened(text))

    async def unheard() -> list[str]:
        """Namespaces whose run nobody has looked at yet."""
        found = [await field.client.get(RUNS, space.namespace, "test") for space in spaces]
        return [run["metadata"]["namespace"] for run in found if run and not run.get("status")]

    flags = [f"--namespace={space.namespace}" for space in spaces]
    async with field.operator(*flags) as operator:
        await field.until_phase(field.apply(**cli.PLAIN), "Complete")
        await eventually(unheard, lambda left: not left)
        assert operator.process.is_alive()
        lent = await field.client.get(RUNS, spaces[ATTACKS.index(lent_elsewhere)].namespace, "test")
        assert lent
        assert "is not for runs of namespace" in lent["status"]["summary"]["message"]
        nested = await field.client.get(RUNS, spaces[ATTACKS.index(deep)].namespace, "test")
        assert nested
        assert "is nested deeper than 32 levels" in nested["status"]["summary"]["message"]
        assert peak(operator.process.pid) < MOST_BYTES
    log = operator.log.read_text()
    assert "unforeseen error" not in log
    assert log.count("leads") <= 1, "it led all the time"


def peak(pid: int | None) -> int:
    """The most memory that a process has had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
