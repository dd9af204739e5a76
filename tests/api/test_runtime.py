"""Runtimes: the two that the chart ships, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from ixt_operator.api.runtime import MAIN, IXTRuntime
from ixt_operator.manifests.loading import ManifestError, loads
from ixt_operator.render.builtin_runtimes import cpu, nvidia
from ixt_workloads.contract.kinds import Role

BUILTIN = [cpu("image:1"), nvidia("image:1")]


@pytest.mark.parametrize("runtime", BUILTIN, ids=lambda runtime: runtime.metadata.name)
def test_a_builtin_runtime_keeps_the_restricted_pod_security_standard(runtime: IXTRuntime) -> None:
    for role in Role:
        entry = runtime.spec.role(role)
        assert entry is not None
        pod = entry.template["spec"]
        (main,) = pod["containers"]
        assert (main["name"], main["image"]) == (MAIN, "image:1")
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert main["securityContext"]["allowPrivilegeEscalation"] is False
        assert main["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert all("emptyDir" in volume for volume in pod["volumes"])


@pytest.mark.parametrize("runtime", BUILTIN, ids=lambda runtime: runtime.metadata.name)
def test_a_builtin_runtime_is_a_valid_manifest(runtime: IXTRuntime) -> None:
    (again,) = loads(runtime.model_dump_json(exclude_none=True), "runtime.yaml", Path("/"))
    assert again == runtime


def test_only_what_computes_gets_a_gpu() -> None:
    gpus = {}
    for role in Role:
        entry = nvidia("image").spec.role(role)
        assert entry is not None
        gpus[role] = (
            entry.template["spec"]["containers"][0]["resources"].get("limits", {}).get("nvidia.com/gpu")
        )
    assert gpus == {Role.JUDGE: "1", Role.WORKER: None, Role.TRAINER: "1", Role.EVALUATOR: "1"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "spec.roles: is required"),
        ({"roles": []}, "spec.roles: must have at least 1 item(s)"),
        ({"roles": [{"name": "Trainor"}]}, "did you mean Trainer?"),
        (
            {"roles": [{"name": "Judge"}, {"name": "Judge"}]},
            "spec.roles[1].name: another of roles is named 'Judge'",
        ),
        ({"roles": [{"name": "Judge", "template": 3}]}, "spec.roles[0].template: must be a mapping, not 3"),
        ({"roles": [{"name": "Judge"}], "engineArgs": [""]}, "spec.engineArgs[0]: must not be empty"),
        (
            {"roles": [{"name": "Judge", "template": {"spec": {"volumes": None}}}]},
            "spec.roles[0].template: spec.volumes is null: leave it out",
        ),
        (
            {
                "roles": [
                    {"name": "Judge", "template": {"spec": {"containers": [{"name": "m", "env": None}]}}}
                ]
            },
            "spec.roles[0].template: spec.containers.0.env is null: leave it out",
        ),
        (
            {"roles": [{"name": "Judge", "template": {"spec": {"containers": [{"name": "judge"}]}}}]},
            "spec.roles[0].template: none of spec.containers is named main, but judge",
        ),
        (
            {"roles": [{"name": "Judge", "template": {"spec": {"containers": {"name": "main"}}}}]},
            "spec.roles[0].template: spec.containers is no list of containers",
        ),
        (
            {
                "roles": [{"name": "Judge"}],
                "allowedNamespaces": {"matchExpressions": [{"key": "team", "operator": "In"}]},
            },
            "spec.allowedNamespaces.matchExpressions[0].values: values are for In and NotIn, which need at",
        ),
        (
            {"roles": [{"name": "Judge"}], "engineArgs": ["--api-key", "x"]},
            "spec.engineArgs[0]: --api-key: each run draws a key of its own",
        ),
        ({"roles": [{"name": "Judge"}], "engineArguments": []}, "unknown field: did you mean engineArgs?"),
    ],
)
def test_a_wrong_runtime_is_refused(spec: dict[str, Any], message: str) -> None:
    manifest = {
        "apiVersion": "ixt.dev/v1alpha1",
        "kind": "IXTRuntime",
        "metadata": {"name": "a"},
        "spec": spec,
    }
    with pytest.raises(ManifestError) as refused:
        loads(json.dumps(manifest), "runtime.yaml", Path("/"))
    assert message in str(refused.value)
