"""Operators of other versions: upgraded in mid-run, and objects that an older or a newer one wrote."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.conftest import CRDS
from cluster.control_plane import ControlPlane, control_plane
from cluster.kubectl import KubectlError
from cluster.on_control_plane.operating import MAIN, Field, as_if_undisturbed, children, condition
from make import cli, runs
from make.operator import eventually
from make.runs import keys

from ixt_operator.adapters.kubernetes.client import CONFIG_MAPS, JOBS, PODS, RUNS

TRAIN = "pretrain/train/plain-s0"
ANNOTATE = "pretrain/annotate/0-15"


@pytest.mark.parametrize("at", [ANNOTATE, "pretrain/train/conditioned-s0"])
async def test_an_upgrade_in_mid_run_touches_no_child(field: Field, at: str) -> None:
    runtime = cli.stubs(f"upgraded-{field.kubectl.namespace}")
    for role in runtime["spec"]["roles"]:
        role["template"] = MAIN
    field.kubectl.apply(runtime)
    field.hold(at)
    async with field.operator():
        name = field.apply(runtimeRef={"name": runtime["metadata"]["name"]})
        await field.running(name, at)
    before = await versions(field, name)
    assert any("judge" in child for child in before) == (at == ANNOTATE)

    for role in runtime["spec"]["roles"]:
        role["template"] = {"spec": {"containers": [{"name": "main", "image": "stub:2"}]}}
    field.kubectl.apply({**runtime, "spec": {**runtime["spec"], "engineArgs": ["--max-num-seqs=8"]}})
    async with field.operator("--resync-seconds=1", "--lease-name=newer") as newer:
        await eventually(lambda: 'reconciles_total{outcome="ok"}' in newer.metrics())
        await eventually(lambda: looks(newer.metrics()) >= 3)
        assert await versions(field, name) == before
        field.go_on()
        await field.until_phase(name, "Complete")
    await as_if_undisturbed(field, name)
    field.kubectl("delete", "ixtruntime", runtime["metadata"]["name"])


def looks(metrics: str) -> float:
    """How often an operator has looked at runs."""
    lines = (line for line in metrics.splitlines() if line.startswith("ixt_operator_reconciles_total"))
    return sum(float(line.split()[1]) for line in lines)


async def versions(field: Field, name: str) -> dict[str, tuple[str, int]]:
    """What would differ if a child had been written: its uid, and the generation of its spec."""
    found = {child: (uid, 0) for child, uid in (await children(field, name)).items()}
    for kind in ("jobs", "deployments"):
        for entry in field.kubectl.json("get", kind, "-l", f"ixt.dev/run={name}")["items"]:
            metadata = entry["metadata"]
            found[f"{kind}/{metadata['name']}"] = (metadata["uid"], metadata["generation"])
    return found


async def test_what_the_crd_does_not_know_is_not_stored(field: Field) -> None:
    manifest = runs.applied(storage={"uri": "pvc://claim/runs"}, **cli.PLAIN)
    manifest["spec"]["later"] = {"and": "greater"}
    with pytest.raises(KubectlError, match=r'unknown field "spec.later"'):
        field.kubectl("create", "--validate=strict", "-f", "-", stdin=json.dumps(manifest))
    field.kubectl("create", "--validate=false", "-f", "-", stdin=json.dumps(manifest))
    assert "later" not in (await field.run("test"))["spec"]

    def write(status: Any) -> str:
        patch = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
        return field.kubectl.run("patch", "ixtrun", "test", *patch).stderr

    assert "status.phase: Unsupported value" in write({"phase": "Warping"})
    assert write({"later": 1, "summary": {"message": "x", "later": "y"}}).count("unknown field") in (0, 2)
    status = (await field.run("test"))["status"]
    assert "later" not in status
    assert status["summary"]["message"] == "x"


async def test_a_status_that_says_little_is_written_anew(field: Field) -> None:
    name = field.apply(**cli.PLAIN)
    known = {"phase": "Complete", "conditions": [], "summary": {"message": "x"}}
    await field.client.merge(RUNS, field.kubectl.namespace, name, {"status": known}, "status")
    async with field.operator():
        status = await field.until(name, lambda status: bool(status.get("completionTime")))
    assert status["phase"] == "Complete"
    assert all(keys(status).values())


class TestNewerCRD:
    """The CRDs of a newer version are on the cluster, with fields and words that this operator's lack."""

    @pytest.fixture(scope="class")
    @staticmethod
    def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
        folder = tmp_path_factory.mktemp("newer")
        for file in CRDS.iterdir():
            (folder / file.name).write_text(loosened(file))
        with control_plane(tmp_path_factory.mktemp("plane"), crds=folder) as plane:
            yield plane

    async def test_a_field_of_the_spec_that_is_not_known_is_named(self, field: Field) -> None:
        async with field.operator():
            name = field.apply(**cli.PLAIN, later={"and": "greater"})
            status = await field.until(name, lambda status: bool(condition(status, "Accepted")))
            accepted = condition(status, "Accepted")
            assert (accepted["status"], accepted["reason"]) == ("False", "InvalidSpec")
            assert "spec.later: Extra inputs are not permitted" in accepted["message"]
            assert "are CRDs and operator of one version?" in accepted["message"]
            field.edit(name, later=None)
            await field.until_phase(name, "Complete")

    async def test_a_status_with_words_that_are_not_known_is_read_as_far_as_it_can_be(
        self, field: Field
    ) -> None:
        field.hold(TRAIN)
        async with field.operator():
            name = field.apply(**cli.PLAIN)
            await field.running(name, TRAIN)
        status = (await field.run(name))["status"]
        started = status["startTime"]
        time = {"lastTransitionTime": started}
        status["phase"] = "Warping"
        status["later"] = 1
        status["conditions"] += [{"type": "Later", "status": "True", "reason": "Better", **time}]
        status["stages"][0]["steps"][0] |= {"state": "Dreaming", "attemptsByFault": {"Cosmic": 2}}
        await field.client.merge(RUNS, field.kubectl.namespace, name, {"status": status}, "status")
        async with field.operator("--lease-name=next"):
            await field.until(name, lambda status: status["phase"] == "Running")
            field.go_on()
            status = await field.until_phase(name, "Complete")
        assert status["startTime"] == started
        await as_if_undisturbed(field, name)

    async def test_a_run_that_a_newer_one_completed_is_left_as_it_is(self, field: Field) -> None:
        async with field.operator():
            name = field.apply(**cli.PLAIN)
            await field.until_phase(name, "Complete")
        status = (await field.run(name))["status"]
        for entry in status["conditions"]:
            entry["reason"] = "Better"
        space = field.kubectl.namespace
        await field.client.merge(RUNS, space, name, {"status": status}, "status")
        version = (await field.run(name))["metadata"]["resourceVersion"]
        async with field.operator("--lease-name=next", "--resync-seconds=1") as operator:
            await eventually(lambda: looks(operator.metrics()) >= 2)
        assert (await field.run(name))["metadata"]["resourceVersion"] == version


def loosened(file: Path) -> str:
    """A CRD that takes fields and words which this version does not know."""
    crd = yaml.safe_load(file.read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for part in ("spec", "status"):
        if part in schema["properties"]:
            _loosen(schema["properties"][part])
    return json.dumps(crd)


def _loosen(schema: Any) -> None:
    if isinstance(schema, dict):
        if isinstance(schema.get("enum"), list):
            del schema["enum"]
        if schema.get("type") == "object" and "properties" in schema:
            schema["x-kubernetes-preserve-unknown-fields"] = True
        for value in schema.values():
            _loosen(value)


async def test_the_largest_run_is_begun(field: Field) -> None:
    """Every list, name and number at its bound: what comes of it still fits the API server's bounds."""
    manifest = runs.maximal()
    spec = manifest["spec"]
    spec["storage"] = {"uri": f"pvc://{'c' * 200}/{'p' * 40}", "shared": "Disabled"}
    spec["suspend"] = False
    del spec["queueName"]  # nobody here admits its Jobs
    runtime = cli.stubs(spec["runtimeRef"]["name"])
    for role in runtime["spec"]["roles"]:
        role["template"] = MAIN
    overrides = spec["pods"]["worker"]["spec"]
    account = {"apiVersion": "v1", "kind": "ServiceAccount"}
    priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1}
    needs = [
        {**account, "metadata": {"name": overrides["serviceAccountName"]}},
        {**priority, "metadata": {"name": overrides["priorityClassName"]}},
        runtime,
    ]
    field.kubectl.apply(*needs)
    field.kubelet.silent = True
    try:
        field.kubectl("create", "--validate=strict", "-f", "-", stdin=json.dumps(manifest))
        name = manifest["metadata"]["name"]
        async with field.operator():
            pod = await field.pod(name, f"{spec['stages'][0]['name']}/inventory", "Pending")
            status = await field.until(name, lambda status: status.get("phase") == "Running")
        (job,) = await field.client.list(JOBS, field.kubectl.namespace)
        configs = await field.client.list(CONFIG_MAPS, field.kubectl.namespace, labels="ixt.dev/run")
        assert len(configs) == 2, "the step's task, and what the run was started with"
        (same,) = await field.client.list(PODS, field.kubectl.namespace)
        assert same["metadata"]["uid"] == pod["metadata"]["uid"]
        for manifest in (job, *configs, pod):
            assert len(json.dumps(manifest)) < 1024 * 1024
        assert len(json.dumps(status)) < 64_000
        assert len(status["stages"]) == len(spec["stages"])
    finally:
        for manifest in needs:
            field.kubectl("delete", manifest["kind"], manifest["metadata"]["name"])
