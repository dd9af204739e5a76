"""A child as Kubernetes manifests. Pure; golden files in tests/golden/render show what comes out."""

from typing import Any

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.planner.child import Child
from ixt_operator.render.api_key import secret
from ixt_operator.render.config_map import packed
from ixt_operator.render.names import CHILD, PLACE_SECONDS, QUEUE, TASK_FILE, Object, metadata, passed_on
from ixt_operator.render.network import Network, policy
from ixt_operator.render.ports import merged_template, own_ports
from ixt_operator.render.template import pod_template
from ixt_workloads.contract.versions import write_task


def render(
    run: IXTRun, runtime: IXTRuntime, child: Child, network: Network | None = None
) -> tuple[Object, ...]:
    """The objects of a child in the order in which they are created: what its pods need comes first. With
    `network` there is a policy of who may reach them. Raises KeyError when the runtime lacks the child's
    role."""
    merged = merged_template(run, runtime, child.role)
    child = own_ports(merged, child)
    template = pod_template(run, runtime, child, merged)
    objects = [policy(run, child.role, network)] if network else []
    objects.append(_config(run, child))
    if child.server and child.api_keys:
        objects.append(secret(run))
    if child.server or "rendezvous" in child.ports:
        objects.append(_service(run, child))
    workload = (_deployment if child.server else _job)(run, child, template)
    for field, values in passed_on(run, runtime).items():
        workload["metadata"][field] = {**values, **workload["metadata"][field]}
    return (*objects, workload)


def _config(run: IXTRun, child: Child) -> Object:
    """The ConfigMap with the child's task. That of the report of a thousand lanes would exceed what one
    holds; steps read it compressed as well."""
    data = packed(TASK_FILE, write_task(child.task) if child.task else "{}")
    return _object("v1", "ConfigMap", run, child, immutable=True, **data)


def _service(run: IXTRun, child: Child) -> Object:
    """A headless Service: clients see every replica, and ranks find index 0 by name before it is ready."""
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": not child.server,
        "selector": {CHILD: child.name},
        "ports": [{"name": name, "port": port} for name, port in child.ports.items()],
    }
    return _object("v1", "Service", run, child, spec=spec)


def _deployment(run: IXTRun, child: Child, template: Object) -> Object:
    spec = {
        "replicas": child.indexes,
        "selector": {"matchLabels": {CHILD: child.name}},
        # A GPU that the old pod still holds cannot be given to a new one.
        "strategy": {"type": "Recreate"},
        "progressDeadlineSeconds": child.ready_seconds + PLACE_SECONDS,
        "revisionHistoryLimit": 0,
        "template": template,
    }
    return _object("apps/v1", "Deployment", run, child, spec=spec)


def _job(run: IXTRun, child: Child, template: Object) -> Object:
    """An Indexed Job that is one attempt, since the planner decides about retries. completions = parallelism
    is the shape that Kueue and gang scheduling understand."""
    spec: Object = {
        "completionMode": "Indexed",
        "completions": child.indexes,
        "parallelism": child.indexes,
        "backoffLimit": 0,
        # A pod that is being deleted is not a failed one yet: without this a Job replaces it at once.
        "podReplacementPolicy": "Failed",
        "template": template,
    }
    found = _object("batch/v1", "Job", run, child, spec=spec)
    if run.spec.queue_name:
        spec["suspend"] = True
        found["metadata"]["labels"][QUEUE] = run.spec.queue_name
    return found


def _object(version: str, kind: str, run: IXTRun, child: Child, **fields: Any) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": metadata(run, child), **fields}
