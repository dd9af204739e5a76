"""Patches of pods: what a run may change, and what is the operator's."""

from typing import Any

import pytest
from make import runs
from pydantic import ValidationError

from ixt_operator.api.pods import Pods


def nested(levels: int) -> Any:
    return {"a": [nested(levels - 2)]} if levels > 0 else 1


def refusal(patch: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as error:
        Pods.model_validate({"trainer": patch})
    (problem,) = error.value.errors()
    assert problem["type"] == "refused_option", "the API server takes it: CRDs and operator need not differ"
    return str(problem["msg"])


@pytest.mark.parametrize(
    "patch",
    [
        {"metadata": {"labels": {"team": "a", "kueue.x-k8s.io/priority-class": "high"}}},
        {"metadata": {"annotations": {"cni.example.com/networks": "fast"}}},
        runs.patch(image="mine:1", envFrom=[{"secretRef": {"name": "a"}}]),
        runs.patch(lifecycle={"postStart": {"exec": {"command": ["true"]}}}),
        runs.patch(spec={"hostNetwork": True, "schedulerName": "gang", "runtimeClassName": "kata"}),
        runs.patch(spec={"volumes": [{"name": "cache", "$patch": "delete"}], "securityContext": None}),
        runs.patch(
            spec={"containers": [{"name": "mesh", "command": ["proxy"], "ports": [{"containerPort": 1}]}]}
        ),
        {},
    ],
)
def test_whatever_kubernetes_lets_pods_have_is_taken(patch: dict[str, Any]) -> None:
    Pods.model_validate({"all": patch, "judge": patch, "worker": patch, "trainer": patch, "evaluator": patch})


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ({"metadata": {"name": "x"}}, "has no name: it has labels and annotations"),
        ({"metadata": {"labels": ["a"]}}, "labels must be a mapping"),
        ({"metadata": {"labels": {"a": 1}}}, "labels: a must be a string"),
        (
            {"metadata": {"labels": {"ixt.dev/run": "x"}}},
            "labels: ixt.dev/run is the operator's: leave it out",
        ),
        (
            {"metadata": {"labels": {"app.kubernetes.io/name": "x"}}},
            "labels: app.kubernetes.io/name is the operator's: leave it out",
        ),
        (runs.patch(spec={"affinity": nested(40)}), "is nested deeper than 32 levels, as no pod is"),
        (runs.patch(spec={"restartPolicy": "Always"}), "restartPolicy is the operator's: leave it out"),
        (
            runs.patch(spec={"automountServiceAccountToken": True}),
            "automountServiceAccountToken is the operator's: leave it out",
        ),
        (runs.patch(command=["sh"]), "containers[main].command is the operator's: leave it out"),
        (runs.patch(startupProbe={}), "containers[main].startupProbe is the operator's: leave it out"),
        (
            runs.patch(env=[{"name": "IXT_TASK", "value": "x"}]),
            "containers[main].env: IXT_TASK: names that start with IXT_ are set by the operator",
        ),
        (
            runs.patch(volumeMounts=[{"name": "x", "mountPath": "/ixt/task"}]),
            "containers[main].volumeMounts: /ixt/task is below /ixt, the operator's",
        ),
        (
            runs.patch(spec={"volumes": [{"name": "ixt-task", "emptyDir": {}}]}),
            "volumes: ixt-task is a name of the operator's: choose another",
        ),
        (
            {"spec": {"containers": [{"name": "main", "$patch": "delete"}]}},
            "containers[main] runs the step: it cannot be deleted or replaced",
        ),
        (
            runs.patch(spec={"containers": [{"$patch": "replace"}, {"name": "other"}]}),
            "containers: $patch: replace would take the main container out: leave it out",
        ),
        (runs.patch(spec={"volumes": {"a": {}}}), "volumes must be a list"),
        (runs.patch(env=[{"value": "x"}]), "containers[0].env[0] needs name, by which it is merged"),
    ],
)
def test_what_is_the_operators_is_refused_by_name(patch: dict[str, Any], said: str) -> None:
    assert refusal(patch) == said
