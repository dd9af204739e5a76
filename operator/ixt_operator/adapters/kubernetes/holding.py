"""What a pod holds of its node, and since when. Pure."""

from typing import Any

from ixt_operator.adapters.kubernetes.conditions import since
from ixt_operator.api.resources import amount_of, gpus_of
from ixt_operator.api.status import unix
from ixt_operator.render.names import Object


def held(pod: Object) -> dict[str, Any]:
    """GPUs and processors that a pod holds and since when, as fields of ProcessState: the sums over its
    containers, of processors what they request, else what they are limited to."""
    asked = [container.get("resources", {}) for container in pod["spec"].get("containers", ())]
    return {
        "held_since": _held_since(pod),
        "gpus": sum(map(gpus_of, asked)),
        "cpus": sum(map(_cpus, asked)),
    }


def _held_since(pod: Object) -> float | None:
    """Since when a node keeps room for a pod: it was scheduled, or started where no scheduler took part."""
    started = pod.get("status", {}).get("startTime")
    scheduled = since(pod, "PodScheduled")
    return unix(started) if scheduled is None and started else scheduled


def _cpus(resources: Object) -> float:
    requested = resources.get("requests", {}).get("cpu")
    return amount_of(resources.get("limits", {}).get("cpu", 0) if requested is None else requested)
