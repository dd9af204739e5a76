"""The CRDs on a real API server: what a user of kubectl sees."""

import json
import re
from pathlib import Path

import pytest
import yaml
from cluster.base import Cluster
from cluster.kubectl import Kubectl
from make import runs

from ixt_operator.api.meta import API_VERSION
from ixt_operator.generate.crd import crds
from ixt_operator.render.builtin_runtimes import cpu

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*/*.yaml"))
"""Runs, and what fills the volume of one."""


def test_the_crds_are_established_without_complaint(cluster: Cluster) -> None:
    for text in crds().values():
        name = yaml.safe_load(text)["metadata"]["name"]
        conditions = cluster.kubectl().json("get", "crd", name)["status"]["conditions"]
        held = {condition["type"]: condition["status"] for condition in conditions}
        # NonStructuralSchema would be there if the API server had something to say.
        assert held == {"NamesAccepted": "True", "Established": "True"}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: f"{file.parent.name}-{file.name}")
def test_an_example_is_accepted(kubectl: Kubectl, file: Path) -> None:
    done = kubectl.run("create", "--validate=strict", "-f", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"(\S+/\S+ created\n)+", done.stdout)


@pytest.mark.parametrize("runtime", ["cpu", "nvidia"])
def test_a_runtime_of_the_chart_is_accepted(kubectl: Kubectl, runtime: str) -> None:
    manifest = runs.RUNTIMES[runtime].model_dump(mode="json")
    printed = kubectl(
        "create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(manifest)
    )
    assert printed == f"ixtruntime.ixt.dev/{runtime} created (server dry run)\n"


def test_a_run_that_breaks_a_rule_is_refused_in_its_words(kubectl: Kubectl) -> None:
    manifest = runs.applied(stages=[runs.stage(train={"batchTokens": 1000})])
    done = kubectl.run("create", "-f", "-", stdin=json.dumps(manifest))
    assert done.returncode == 1
    assert done.stderr == (
        'The IXTRun "test" is invalid: spec.stages[0].train: Invalid value: '
        "train.batchTokens must be a multiple of prepare.sequenceLength\n"
    )


def test_an_unknown_field_is_refused(kubectl: Kubectl) -> None:
    """`extends` is one too: manifests of files only have it."""
    manifest = {**runs.applied(suspended=True), "extends": "base.yaml"}
    done = kubectl.run("create", "--validate=strict", "-f", "-", stdin=json.dumps(manifest))
    assert 'unknown field "spec.suspended"' in done.stderr
    assert 'unknown field "extends"' in done.stderr


def test_kubectl_explain_reads_as_documentation(kubectl: Kubectl) -> None:
    shown = kubectl("explain", "ixtrun.spec.stages")
    words = " ".join(shown.split())
    assert "GROUP: ixt.dev KIND: IXTRun VERSION: v1alpha1" in words
    assert "FIELD: stages <[]Object>" in words
    assert "DESCRIPTION: The stages, in order." in words
    assert "name <string> -required- Name of the stage, unique in the run." in words
    assert "train <Object> -required-" in words
    undocumented = re.findall(r"^  (\w+)\t<.*>.*\n    <no description>", shown, re.MULTILINE)
    assert undocumented == []


def test_kubectl_get_shows_where_a_run_is(kubectl: Kubectl) -> None:
    manifest = runs.applied(name="shown")
    kubectl.apply(manifest)
    summary = {"stage": "pretrain", "step": "train/conditioned", "progressPercent": 42, "etaSeconds": 4320}
    status = json.dumps({"status": {"phase": "Running", "summary": summary}})
    kubectl("patch", "ixtrun", "shown", "--subresource=status", "--type=merge", "-p", status)
    header, line = kubectl("get", "ixt").splitlines()
    assert header.split() == ["NAME", "PHASE", "STAGE", "STEP", "PROGRESS", "ETA", "SECONDS", "AGE"]
    assert line.split()[:-1] == ["shown", "Running", "pretrain", "train/conditioned", "42", "4320"]
    assert re.fullmatch(r"\d+s", line.split()[-1])


def test_a_status_is_written_by_its_subresource_alone(kubectl: Kubectl) -> None:
    manifest = runs.applied(name="kept", suspend=True) | {"status": {"phase": "Complete"}}
    kubectl.apply(manifest)
    assert "status" not in kubectl.json("get", "ixtrun", "kept")
    kubectl(
        "patch", "ixt", "kept", "--subresource=status", "--type=merge", "-p", '{"status":{"phase":"Running"}}'
    )
    found = kubectl.json("get", "ixtrun", "kept")
    assert found["status"]["phase"] == "Running"
    assert found["metadata"]["generation"] == 1


def test_a_runtime_shows_its_roles_and_their_images(kubectl: Kubectl) -> None:
    name = f"shown-{kubectl.namespace}"
    runtime = cpu("registry.example/ixt:1").model_dump(mode="json", by_alias=True, exclude_defaults=True)
    runtime = {**runtime, "apiVersion": API_VERSION, "kind": "IXTRuntime", "metadata": {"name": name}}
    runtime["spec"]["roles"] = [each for each in runtime["spec"]["roles"] if each["name"] != "Evaluator"]
    kubectl.apply(runtime)
    try:
        head, line = kubectl("get", "ixtruntime", name).splitlines()
    finally:
        kubectl("delete", "ixtruntime", name)
    assert head.split() == ["NAME", "JUDGE", "WORKER", "TRAINER", "EVALUATOR", "AGE"]
    assert line.split()[1:4] == ["registry.example/ixt:1"] * 3
