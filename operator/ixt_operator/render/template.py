"""The pod template of a child: the runtime's, with the run's overrides and what the operator owns. Pure."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import MAIN, IXTRuntime
from ixt_operator.planner.child import Child
from ixt_operator.render.names import CONFIG_FOLDER, TASK_FILE, VOLUMES_FOLDER, annotations, labels, url
from ixt_workloads.contract.credentials import prefix_of

Manifest = dict[str, Any]

LOST_NODE_SECONDS = 30
"""Pods leave a node that is not ready after this long (the default is five minutes)."""


def pod_template(run: IXTRun, runtime: IXTRuntime, child: Child) -> Manifest:
    """The PodTemplateSpec of a child.

    Raises KeyError when the runtime has no such role.
    """
    role = runtime.spec.role(child.role)
    if role is None:
        raise KeyError(f"runtime {runtime.metadata.name} has no role {child.role}")
    template = copy.deepcopy(dict(role.template))
    spec: Manifest = template.setdefault("spec", {})
    main = _main(spec)
    _override(spec, main, child.overrides)
    _own(run, spec, main, child)
    metadata: Manifest = template.setdefault("metadata", {})
    metadata["labels"] = {**metadata.get("labels", {}), **labels(run, child)}
    metadata["annotations"] = {**metadata.get("annotations", {}), **annotations(child)}
    return template


def _main(spec: Manifest) -> Manifest:
    containers: list[Manifest] = spec.setdefault("containers", [])
    for container in containers:
        if container.get("name") == MAIN:
            return container
    containers.insert(0, {"name": MAIN})
    return containers[0]


def _override(spec: Manifest, main: Manifest, overrides: Mapping[str, Any]) -> None:
    """Lay the run's overrides over a template: scalars replace, lists and maps are added."""
    for name in ("serviceAccountName", "priorityClassName"):
        if name in overrides:
            spec[name] = overrides[name]
    for name in ("tolerations", "imagePullSecrets"):
        if name in overrides:
            spec[name] = [*spec.get(name, []), *overrides[name]]
    if "nodeSelector" in overrides:
        spec["nodeSelector"] = {**spec.get("nodeSelector", {}), **overrides["nodeSelector"]}
    for name in ("image", "resources"):
        if name in overrides:
            main[name] = overrides[name]
    if "env" in overrides:
        main["env"] = _merged_by_name(main.get("env", []), overrides["env"])


def _own(run: IXTRun, spec: Manifest, main: Manifest, child: Child) -> None:
    """Set what the operator owns."""
    spec["automountServiceAccountToken"] = False
    spec["enableServiceLinks"] = False
    spec["terminationGracePeriodSeconds"] = child.grace_seconds
    spec["restartPolicy"] = "Always" if child.server else "Never"
    spec["tolerations"] = [
        *spec.get("tolerations", []),
        *(
            {
                "key": f"node.kubernetes.io/{condition}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": LOST_NODE_SECONDS,
            }
            for condition in ("not-ready", "unreachable")
        ),
    ]
    if "rendezvous" in child.ports:
        spec["subdomain"] = child.name
    if child.avoid_hosts:
        _avoid(spec, child.avoid_hosts)
    main["command"] = list(child.argv)
    main.pop("args", None)
    main["env"] = _merged_by_name(main.get("env", []), _environment(run, child))
    if child.secrets or child.credentials:
        main["envFrom"] = [
            *main.get("envFrom", []),
            *({"secretRef": {"name": name}} for name in child.secrets),
            *({"prefix": prefix_of(name), "secretRef": {"name": name}} for name in child.credentials),
        ]
    main["ports"] = [{"name": name, "containerPort": port} for name, port in child.ports.items()]
    main["terminationMessagePolicy"] = "FallbackToLogsOnError"
    if child.resources:
        main["resources"] = child.resources
    if child.server and child.ready_path:
        _probe(main, child)
    if child.drain:
        # A pod leaves its Service when it is deleted, and gets SIGTERM when this command has ended.
        main["lifecycle"] = {**main.get("lifecycle", {}), "preStop": {"exec": {"command": list(child.drain)}}}
    mounts: list[Manifest] = main.setdefault("volumeMounts", [])
    volumes: list[Manifest] = spec.setdefault("volumes", [])
    mounts.append({"name": "ixt-task", "mountPath": CONFIG_FOLDER, "readOnly": True})
    volumes.append({"name": "ixt-task", "configMap": {"name": child.name}})
    for number, claim in enumerate(child.claims):
        # A claim's name may have dots and 253 characters, a volume's may not.
        mounts.append({"name": f"ixt-claim-{number}", "mountPath": f"{VOLUMES_FOLDER}/{claim}"})
        volumes.append({"name": f"ixt-claim-{number}", "persistentVolumeClaim": {"claimName": claim}})


def _avoid(spec: Manifest, hosts: Iterable[str]) -> None:
    """Keep a pod off these nodes, by each of the template's own node selector terms, which are
    alternatives."""
    node: Manifest = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    required: Manifest = node.setdefault("requiredDuringSchedulingIgnoredDuringExecution", {})
    terms: list[Manifest] = required.setdefault("nodeSelectorTerms", [{}])
    for term in terms:
        away = ({"key": "metadata.name", "operator": "NotIn", "values": [host]} for host in hosts)
        term["matchFields"] = [*term.get("matchFields", []), *away]


def _probe(main: Manifest, child: Child) -> None:
    """Set the probes of a server. It has ready_seconds to start; after that it gets no requests when it did
    not answer for half a minute, and is started anew when it did not for two minutes."""
    get = {"httpGet": {"path": child.ready_path, "port": "http"}, "timeoutSeconds": 5}
    main["startupProbe"] = {**get, "periodSeconds": 5, "failureThreshold": -(-child.ready_seconds // 5)}
    main["readinessProbe"] = {**get, "periodSeconds": 5, "failureThreshold": 6}
    main["livenessProbe"] = {**get, "periodSeconds": 15, "failureThreshold": 8}


def _environment(run: IXTRun, child: Child) -> list[Manifest]:
    values: dict[str, str] = {
        "IXT_TASK": f"{CONFIG_FOLDER}/{TASK_FILE}",
        "IXT_RESULT": "/dev/termination-log",
        "IXT_HOST": "0.0.0.0",  # noqa: S104 - the pod's own address
        "IXT_PVC_ROOT": VOLUMES_FOLDER,
    }
    values |= {f"IXT_PORT_{name.upper()}": str(port) for name, port in child.ports.items()}
    if "rendezvous" in child.ports:
        namespace = run.metadata.namespace
        host = f"{child.name}-0.{child.name}" + (f".{namespace}.svc" if namespace else "")
        values["IXT_LEADER"] = f"{host}:{child.ports['rendezvous']}"
    values |= {f"IXT_{name}_URLS": url(run, server) for name, server in child.servers.items()}
    values |= child.env
    found: list[Manifest] = [{"name": name, "value": value} for name, value in values.items()]
    if not child.server:
        index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
        found.append({"name": "IXT_INDEX", "valueFrom": {"fieldRef": {"fieldPath": index}}})
    for name, (secret, key) in child.secret_env.items():
        found.append({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
    return found


def _merged_by_name(old: list[Manifest], new: list[Manifest]) -> list[Manifest]:
    named = {entry["name"]: entry for entry in old}
    named |= {entry["name"]: entry for entry in new}
    return list(named.values())
