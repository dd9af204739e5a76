"""Names, labels and places that the manifests of a child share. Pure."""

import re

from ixt_operator.api.meta import API_VERSION
from ixt_operator.api.run import IXTRun
from ixt_operator.planner.building import HTTP_PORT
from ixt_operator.planner.child import Child

CONFIG_FOLDER = "/ixt/task"
TASK_FILE = "task.json"
VOLUMES_FOLDER = "/ixt/volumes"
MANAGER = "ixt-operator"
PLACE_SECONDS = 60
"""What a server's pods have to be placed in, before their time to become ready."""
RUN, RUN_UID = "ixt.dev/run", "ixt.dev/run-uid"
CHILD, NODE, KEY, ATTEMPT = "ixt.dev/child", "ixt.dev/node", "ixt.dev/key", "ixt.dev/attempt"
"""Labels of all that belongs to a child. NODE is an annotation as well."""
MANAGED_BY = "app.kubernetes.io/managed-by"
QUEUE = "kueue.x-k8s.io/queue-name"
"""Label of what Kueue admits: its LocalQueue."""


def labels(run: IXTRun, child: Child) -> dict[str, str]:
    """Labels of everything that belongs to a child. Key and attempt decide whether it is current."""
    return {
        "app.kubernetes.io/name": "ixt",
        MANAGED_BY: MANAGER,
        "app.kubernetes.io/component": child.role.lower(),
        RUN: run.metadata.name,
        **({RUN_UID: run.metadata.uid} if run.metadata.uid else {}),
        CHILD: child.name,
        NODE: _label_value(child.node),
        KEY: child.key,
        ATTEMPT: str(child.attempt),
    }


def annotations(child: Child) -> dict[str, str]:
    """The node's name in full: as a label it would lose its slashes."""
    return {NODE: child.node}


def selector(child: Child) -> dict[str, str]:
    """Labels that pick a child's pods and no others."""
    return {CHILD: child.name}


def metadata(run: IXTRun, child: Child) -> dict[str, object]:
    """Metadata of an object of a child: owned by the run, so that it goes with it."""
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


def _label_value(text: str) -> str:
    """A node's name as a label value: at most 63 of letters, digits, -, _ and `.`."""
    return re.sub(r"[^A-Za-z0-9_.-]", ".", text)[:63].strip("-_.")
