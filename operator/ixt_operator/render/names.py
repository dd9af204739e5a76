"""Names, labels and paths that the manifests of a child share. Pure."""

from collections.abc import Mapping
from typing import Any

from ixt_operator.api.meta import API_VERSION
from ixt_operator.api.run import IXTRun
from ixt_operator.planner.building import HTTP_PORT
from ixt_operator.planner.child import Child

CONFIG_FOLDER = "/ixt/task"
TASK_FILE = "task.json"
VOLUMES_FOLDER = "/ixt/volumes"
MANAGER = "ixt-operator"
PLACE_SECONDS = 60
"""Seconds in which a server's pods are to be scheduled; then their time to become ready begins."""
RUN, RUN_UID = "ixt.dev/run", "ixt.dev/run-uid"
CHILD, KEY, ATTEMPT = "ixt.dev/child", "ixt.dev/key", "ixt.dev/attempt"
OF_NODE = {name: f"ixt.dev/{name}" for name in ("kind", "stage", "arm", "seed", "part", "server")}
"""Labels of the fields of a child's node."""
NODE = "ixt.dev/node"
"""Annotation with the node's name, for people; a label may not have its slashes."""
MANAGED_BY = "app.kubernetes.io/managed-by"
QUEUE = "kueue.x-k8s.io/queue-name"
"""Label with the LocalQueue by which Kueue admits an object."""


def labels(run: IXTRun, child: Child) -> dict[str, str]:
    """Labels of everything that belongs to a child. Key and attempt decide whether it is current."""
    return {
        "app.kubernetes.io/name": "ixt",
        MANAGED_BY: MANAGER,
        "app.kubernetes.io/component": child.role.lower(),
        RUN: run.metadata.name,
        **({RUN_UID: run.metadata.uid} if run.metadata.uid else {}),
        CHILD: child.name,
        KEY: child.key,
        ATTEMPT: str(child.attempt),
        **{
            OF_NODE[name]: str(value)
            for name, value in child.fields_of_node().items()
            if value not in ("", None) and value is not False
        },
    }


def fields_of_node(labels: Mapping[str, str]) -> dict[str, Any]:
    """The node's fields from labels. A person may have edited them: what cannot be read is left empty."""
    found: dict[str, Any] = {name: labels.get(label, "") for name, label in OF_NODE.items()}
    seed = found["seed"]
    return found | {"seed": int(seed) if seed.isdecimal() else None, "server": bool(found["server"])}


def annotations(child: Child) -> dict[str, str]:
    """The node's name in full."""
    return {NODE: child.node}


def selector(child: Child) -> dict[str, str]:
    """Labels that pick a child's pods and no others."""
    return {CHILD: child.name}


def metadata(run: IXTRun, child: Child) -> dict[str, object]:
    """Metadata of an object of a child. The run owns it, so that it is deleted with the run."""
    found: dict[str, object] = {"name": child.name}
    if run.metadata.namespace:
        found["namespace"] = run.metadata.namespace
    found["labels"] = labels(run, child)
    found["annotations"] = annotations(child)
    if run.metadata.uid:
        found["ownerReferences"] = [
            {
                "apiVersion": API_VERSION,
                "kind": "IXTRun",
                "name": run.metadata.name,
                "uid": run.metadata.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
    return found


def url(run: IXTRun, server: str) -> str:
    """Base URL of a server's headless Service; its name resolves to one address for each ready replica."""
    namespace = run.metadata.namespace
    return f"http://{server}{f'.{namespace}.svc' if namespace else ''}:{HTTP_PORT}"
