"""A child as Kubernetes manifests. Pure; golden files in tests/golden/render show what comes out."""

import base64
import gzip
from typing import Any

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.planner.child import Child
from ixt_operator.render.names import PLACE_SECONDS, QUEUE, TASK_FILE, labels, metadata, selector
from ixt_operator.render.template import pod_template
from ixt_workloads.contract.versions import write_task

Manifest = dict[str, Any]

READABLE_BYTES = 256 * 1024
"""Larger tasks are compressed."""


def render(run: IXTRun, runtime: IXTRuntime, child: Child) -> tuple[Manifest, ...]:
    """The objects of a child in the order in which they are created: what its pods need comes first."""
    template = pod_template(run, runtime, child)
    objects = [_config(run, child)]
    if child.server or "rendezvous" in child.ports:
        objects.append(_service(run, child))
    workload = _deployment if child.server else _job
    return (*objects, workload(run, child, template))


def _config(run: IXTRun, child: Child) -> Manifest:
    """The ConfigMap with the child's task, compressed when it is large: that of the report of a thousand
    lanes exceeds the 1 MiB that a ConfigMap holds. Steps read both."""
    text = write_task(child.task) if child.task else "{}"
    if len(text.encode()) <= READABLE_BYTES:
        data: Manifest = {"data": {TASK_FILE: text}}
    else:
        packed = gzip.compress(text.encode(), mtime=0)
        data = {"binaryData": {TASK_FILE: base64.b64encode(packed).decode()}}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(run, child),
        "immutable": True,
        **data,
    }


def _service(run: IXTRun, child: Child) -> Manifest:
    """A headless Service: clients see every replica, and ranks find index 0 by name before it is ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(run, child),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": not child.server,
            "selector": selector(child),
            "ports": [{"name": name, "port": port} for name, port in child.ports.items()],
        },
    }


def _deployment(run: IXTRun, child: Child, template: Manifest) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(run, child),
        "spec": {
            "replicas": child.indexes,
            "selector": {"matchLabels": selector(child)},
            # A GPU that the old pod still holds cannot be given to a new one.
            "strategy": {"type": "Recreate"},
            "progressDeadlineSeconds": child.ready_seconds + PLACE_SECONDS,
            "revisionHistoryLimit": 0,
            "template": template,
        },
    }


def _job(run: IXTRun, child: Child, template: Manifest) -> Manifest:
    """An Indexed Job that is one attempt, since the planner decides about retries. completions = parallelism
    is the shape that Kueue and gang scheduling understand."""
    spec: Manifest = {
        "completionMode": "Indexed",
        "completions": child.indexes,
        "parallelism": child.indexes,
        "backoffLimit": 0,
        # A pod that is being deleted is not a failed one yet: without this a Job replaces it at once.
        "podReplacementPolicy": "Failed",
        "template": template,
    }
    found = metadata(run, child)
    if run.spec.queue_name:
        spec["suspend"] = True
        found["labels"] = {**labels(run, child), QUEUE: run.spec.queue_name}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": found, "spec": spec}
