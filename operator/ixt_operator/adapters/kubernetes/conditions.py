"""What the conditions of an object say, and when. Pure.

Only times of the API server's clock may be compared with each other: creation, deletion, the last write of a
status (`told_at`), and the binding of a pod to its node, which the API server notes itself. All other times
in a status are those of whoever wrote it, a kubelet or a controller on another machine.
"""

from collections.abc import Mapping
from typing import Any

from ixt_operator.api.status import unix
from ixt_operator.render.names import Object


def holding(manifest: Mapping[str, Any], *types: str) -> list[Object]:
    """Conditions of these types that hold."""
    conditions = manifest.get("status", {}).get("conditions", ())
    return [entry for entry in conditions if entry["type"] in types and entry["status"] == "True"]


def told_at(manifest: Mapping[str, Any]) -> float | None:
    """When the status was written last, in Unix seconds by the API server's clock."""
    entries = manifest["metadata"].get("managedFields", ())
    times = [each["time"] for each in entries if each.get("subresource") == "status" and each.get("time")]
    return unix(max(times)) if times else None


def told_or_made_at(manifest: Mapping[str, Any]) -> float:
    """The same; of an object whose status nobody has written, when it was made."""
    told = told_at(manifest)
    return unix(manifest["metadata"]["creationTimestamp"]) if told is None else told


def since(manifest: Mapping[str, Any], type_: str) -> float | None:
    """Since when a condition holds, in Unix seconds by the clock of whoever wrote it; None while it does
    not."""
    for condition in holding(manifest, type_):
        return unix(condition.get("lastTransitionTime") or manifest["metadata"]["creationTimestamp"])
    return None
