"""Names, labels and paths that the manifests of a child share. Pure."""

import hashlib
from collections.abc import Mapping
from typing import Any

from ixt_operator.api.meta import API_VERSION
from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.planner.child import Child
from ixt_workloads.contract.graph import OfNode

Object = dict[str, Any]
"""An object of Kubernetes, or a part of one, as plain JSON values."""

CONFIG_FOLDER = "/ixt/task"
TASK_FILE = "task.json"
VOLUMES_FOLDER = "/ixt/volumes"
MANAGER = "ixt-operator"
PLACE_SECONDS = 60
"""Seconds in which a server's pods are to be scheduled; then their time to become ready begins."""
RUN, RUN_UID = "ixt.dev/run", "ixt.dev/run-uid"
CHILD, KEY, ATTEMPT = "ixt.dev/child", "ixt.dev/key", "ixt.dev/attempt"
OF_NODE = {name: f"ixt.dev/{name}" for name in OfNode.model_fields}
"""Labels of the fields of a child's node."""
NODE = "ixt.dev/node"
"""Annotation with the node's name, for people; a label may not have its slashes."""
AVOIDS = "ixt.dev/avoids"
"""Annotation with the machines that a child must not run on."""
STARTED = "ixt.dev/started"
"""Label of what a run was started with: the generation of its spec."""
MANAGED_BY = "app.kubernetes.io/managed-by"
NAME, COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"
SPACE = "kubernetes.io/metadata.name"
"""Label that every namespace has, with its name."""
OWN = ("ixt.dev/", "app.kubernetes.io/")
KUEUE = "kueue.x-k8s.io/"
QUEUE = f"{KUEUE}queue-name"
"""Label with the LocalQueue by which Kueue admits an object."""


def labels(run: IXTRun, child: Child) -> dict[str, str]:
    """Labels of everything that belongs to a child. Key and attempt decide whether it is current."""
    return {
        NAME: "ixt",
        MANAGED_BY: MANAGER,
        COMPONENT: child.role.lower(),
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


def passed_on(run: IXTRun, runtime: IXTRuntime) -> Object:
    """Labels and annotations of a run that its Jobs, judges and pods have as well: those that the runtime
    names, and Kueue's, but for its queue, which `spec.queueName` says."""
    prefixes = (*runtime.spec.label_prefixes, KUEUE)
    return {
        "labels": {
            name: value
            for name, value in run.metadata.labels.items()
            if name.startswith(prefixes) and name != QUEUE and not name.startswith(OWN)
        },
        "annotations": {
            name: value for name, value in run.metadata.annotations.items() if name.startswith(KUEUE)
        },
    }


def fields_of_node(labels: Mapping[str, str]) -> dict[str, Any]:
    """The node's fields from labels. A person may have edited them: what cannot be read is left empty."""
    found: dict[str, Any] = {name: labels.get(label, "") for name, label in OF_NODE.items()}
    numbers = {name: int(found[name]) if found[name].isdecimal() else None for name in ("seed", "round")}
    return found | numbers | {"server": bool(found["server"])}


def metadata(run: IXTRun, child: Child) -> Object:
    """Metadata of an object of a child. The run owns it, so that it is deleted with the run."""
    found: Object = {"name": child.name}
    if run.metadata.namespace:
        found["namespace"] = run.metadata.namespace
    found["labels"] = labels(run, child)
    found["annotations"] = {NODE: child.node}
    if child.avoid_hosts:
        found["annotations"][AVOIDS] = ",".join(child.avoid_hosts)
    if run.metadata.uid:
        found["ownerReferences"] = [owner(run)]
    return found


def name_of_run(run: IXTRun, what: str) -> str:
    """Name of an object that children of a run share. Names of children have no dots. The run's uid is in it:
    no name can be taken before the run is there, and a run that is made anew gets an object of its own."""
    return f"{run.metadata.name}.{what}-{hashlib.sha256(run.metadata.uid.encode()).hexdigest()[:10]}"


def metadata_of_run(run: IXTRun, name: str) -> Object:
    """Metadata of an object that children of a run share, and that goes with the run."""
    found: Object = {"name": name}
    if run.metadata.namespace:
        found["namespace"] = run.metadata.namespace
    found["labels"] = {NAME: "ixt", MANAGED_BY: MANAGER, RUN: run.metadata.name}
    if run.metadata.uid:
        found["labels"][RUN_UID] = run.metadata.uid
        found["ownerReferences"] = [owner(run)]
    return found


def owner(run: IXTRun) -> Object:
    """The reference of an object to the run that owns it."""
    return {
        "apiVersion": API_VERSION,
        "kind": "IXTRun",
        "name": run.metadata.name,
        "uid": run.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
