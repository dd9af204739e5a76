"""The quickstart on a cluster, as README says it, over little data: what e2e tests on any cluster share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from cluster.kubectl import Kubectl

FOLDER = Path(__file__).parents[2] / "examples" / "quickstart"
FILL = "job/ixt-quickstart-data"
SMALL = ("--documents=300", "--conversations=10", "--tasks=20")
PODS = 2
"""Of the training: on several nodes where there are several."""


def claim() -> dict[str, Any]:
    """The claim that data.yaml makes."""
    return _data()[0]


def fill(kubectl: Kubectl, adapt: Callable[[dict[str, Any]], None]) -> None:
    """Fill the claim by data.yaml's Job, whose pod is adapted to what the cluster has."""
    job = _data()[1]
    pod = job["spec"]["template"]["spec"]
    pod["containers"][0]["command"] += SMALL
    adapt(pod)
    kubectl.apply(job)
    kubectl("wait", "--for=condition=Complete", FILL, "--timeout=300s")


def spec() -> dict[str, Any]:
    """run.yaml's spec, its first stage and arm alone and short; training takes two pods."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / "run.yaml").read_text())["spec"]
    (arm, *_), (stage, *_) = found["arms"], found["stages"]
    stage["train"] |= {"maxTokens": 32768, "evalEveryTokens": 16384, "numNodes": PODS, "numProcPerNode": 1}
    return {**found, "arms": [arm], "stages": [stage]}


def _data() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / "data.yaml").read_text()))
