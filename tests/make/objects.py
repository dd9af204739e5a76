"""Objects as a cluster has them: what the API server and the controllers add to a rendered child."""

from typing import Any

from ixt_operator.api.status import rfc3339
from ixt_operator.planner.child import Child
from ixt_operator.render.render import render
from make import runs

Object = dict[str, Any]

NOW = 1_800_000_000.0
"""When everything here was created, in Unix seconds."""


def time(after: float = 0.0) -> str:
    """A time of the API, some seconds after NOW."""
    return rfc3339(NOW + after)


def workload(child: Child, **status: Any) -> Object:
    """The Job or Deployment of a child, with a status."""
    manifest = dict(render(runs.run(), runs.runtime(), child)[-1])
    manifest["metadata"] = _created(manifest["metadata"])
    return {**manifest, "status": status}


def pod(
    child: Child, index: int = 0, *, name: str = "", deleted: float | None = None, **status: Any
) -> Object:
    """A pod of a child. `deleted`: seconds after NOW at which its grace ends."""
    template = workload(child)["spec"]["template"]
    metadata = {**template["metadata"], "name": name or f"{child.name}-{index}-x", "namespace": "default"}
    annotations = {**metadata["annotations"], "batch.kubernetes.io/job-completion-index": str(index)}
    metadata = _created({**metadata, "annotations": annotations})
    if child.server:
        metadata["labels"] = {**metadata["labels"], "pod-template-hash": "5d8f7"}
    metadata["ownerReferences"] = [controller(child)]
    if deleted is not None:
        metadata["deletionTimestamp"] = time(deleted)
    return {"metadata": metadata, "spec": {"nodeName": "node-1"}, "status": {"phase": "Pending", **status}}


def controller(child: Child) -> Object:
    """The owner reference of a child's pods."""
    if not child.server:
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": child.name}
    else:
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{child.name}-5d8f7"}
    return {**owner, "uid": f"uid-{owner['name']}", "controller": True}


def container(**state: Any) -> dict[str, Any]:
    """The part of a pod's status that tells of its main container."""
    restarts, last = state.pop("restarts", 0), state.pop("last", {})
    status = {"name": "main", "restartCount": restarts, "state": state}
    return {"containerStatuses": [{**status, "lastState": last} if last else status]}


def terminated(code: int, message: str = "", reason: str = "Error", after: float = 60.0) -> dict[str, Any]:
    """How a container ended."""
    return {"exitCode": code, "reason": reason, "message": message, "finishedAt": time(after)}


def condition(
    type_: str, reason: str = "", status: str = "True", message: str = "", after: float = 0.0
) -> Object:
    """A condition of any object."""
    return {
        "type": type_, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": time(after),
    }  # fmt: skip


def told(manifest: Object, after: float) -> Object:
    """The object, with when its status was written as the API server keeps account of it."""
    fields = [
        {"manager": "ixt-operator", "operation": "Update", "time": time(999), "fieldsV1": {"f:metadata": {}}},
        {"manager": "kubelet", "operation": "Update", "time": time(after), "subresource": "status"},
        {
            "manager": "job-controller",
            "operation": "Update",
            "time": time(after - 9),
            "subresource": "status",
        },
    ]
    return {**manifest, "metadata": {**manifest["metadata"], "managedFields": fields}}


def _created(metadata: Object) -> Object:
    uid = f"uid-{metadata['name']}"
    return {**metadata, "uid": uid, "creationTimestamp": time(), "resourceVersion": "1"}
