"""The pod template of a child: the runtime's, with the run's patches and what the operator owns. Pure."""

from collections.abc import Iterable

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.planner.child import Child
from ixt_operator.render.api_key import API_KEY, secret_name
from ixt_operator.render.names import (
    CONFIG_FOLDER,
    NODE,
    TASK_FILE,
    VOLUMES_FOLDER,
    Object,
    labels,
    passed_on,
)
from ixt_operator.render.ports import main_container, url
from ixt_operator.render.trainer_pod import trainer_pod
from ixt_workloads.contract.configs import InventoryConfig
from ixt_workloads.contract.credentials import prefix_of
from ixt_workloads.contract.trainer_pod import TRAINER_POD

LOST_NODE_SECONDS = 30
"""Pods leave a node that is not ready after this long (the default is five minutes)."""


def pod_template(run: IXTRun, runtime: IXTRuntime, child: Child, template: Object) -> Object:
    """The PodTemplateSpec of a child, made of the merged `template` of its role, which is changed."""
    spec: Object = template.setdefault("spec", {})
    main = main_container(spec)
    _own(run, runtime, spec, main, child)
    metadata: Object = template.setdefault("metadata", {})
    passed = passed_on(run, runtime)
    metadata["labels"] = {**passed["labels"], **metadata.get("labels", {}), **labels(run, child)}
    annotations = {**passed["annotations"], **metadata.get("annotations", {})}
    metadata["annotations"] = {**annotations, NODE: child.node}
    return template


def _own(run: IXTRun, runtime: IXTRuntime, spec: Object, main: Object, child: Child) -> None:
    """Set what the operator owns."""
    spec["automountServiceAccountToken"] = False
    spec["enableServiceLinks"] = False
    spec["terminationGracePeriodSeconds"] = child.grace_seconds
    spec["restartPolicy"] = "Always" if child.server else "Never"
    spec["tolerations"] = _tolerations(spec.get("tolerations", []))
    if "rendezvous" in child.ports:
        spec["subdomain"] = child.name
    if spec.get("hostNetwork"):
        spec.setdefault("dnsPolicy", "ClusterFirstWithHostNet")  # else it would not know the cluster's names
    if child.avoid_hosts:
        _avoid(spec, child.avoid_hosts)
    main["command"] = list(child.argv)
    main.pop("args", None)
    main["env"] = _merged_by_name(main.get("env", []), _environment(run, runtime, child))
    if child.secrets or child.credentials:
        main["envFrom"] = [
            *main.get("envFrom", []),
            *({"secretRef": {"name": name}} for name in child.secrets),
            *({"prefix": prefix_of(name), "secretRef": {"name": name}} for name in child.credentials),
        ]
    main["ports"] = [{"name": name, "containerPort": port} for name, port in child.ports.items()]
    main["terminationMessagePolicy"] = "FallbackToLogsOnError"
    if child.resources:
        # Instead of what it asks for otherwise; claims of devices (resources.claims) stay.
        kept = {name: value for name, value in main.get("resources", {}).items() if name == "claims"}
        main["resources"] = {**kept, **child.resources}
    if child.server and child.ready_path:
        _probe(main, child)
    if child.drain:
        # A pod leaves its Service when it is deleted, and gets SIGTERM when this command has ended.
        drain = {"exec": {"command": list(child.drain)}}
        main["lifecycle"] = {**main.get("lifecycle", {}), "preStop": drain}
    mounts: list[Object] = main.setdefault("volumeMounts", [])
    volumes: list[Object] = spec.setdefault("volumes", [])
    mounts.append({"name": "ixt-task", "mountPath": CONFIG_FOLDER, "readOnly": True})
    volumes.append({"name": "ixt-task", "configMap": {"name": child.name}})
    for number, (claim, writable) in enumerate(child.claims.items()):
        # A claim's name may have dots and 253 characters, a volume's may not.
        mount = {"name": f"ixt-claim-{number}", "mountPath": f"{VOLUMES_FOLDER}/{claim}"}
        mounts.append(mount if writable else {**mount, "readOnly": True})
        volumes.append({"name": f"ixt-claim-{number}", "persistentVolumeClaim": {"claimName": claim}})


def _tolerations(given: list[Object]) -> list[Object]:
    """The tolerations, with ours for lost nodes, unless the given ones are about these already: of several
    that match a taint the shortest counts, so that ours would cut off a longer one."""
    ours = []
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        matching = (each for each in given if each.get("key") in (None, "", key))
        if not any(each.get("effect") in (None, "", "NoExecute") for each in matching):
            ours.append(
                {
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": LOST_NODE_SECONDS,
                }
            )
    return [*given, *ours]


def _avoid(spec: Object, hosts: Iterable[str]) -> None:
    """Keep a pod off these nodes, by each of the template's own node selector terms, which are
    alternatives."""
    node: Object = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    required: Object = node.setdefault("requiredDuringSchedulingIgnoredDuringExecution", {})
    terms: list[Object] = required.setdefault("nodeSelectorTerms", [{}])
    for term in terms:
        away = ({"key": "metadata.name", "operator": "NotIn", "values": [host]} for host in hosts)
        term["matchFields"] = [*term.get("matchFields", []), *away]


def _probe(main: Object, child: Child) -> None:
    """Set the probes of a server. It has ready_seconds to start; after that it gets no requests when it did
    not answer for half a minute, and is started anew when it did not for two minutes."""
    get = {"httpGet": {"path": child.ready_path, "port": "http"}, "timeoutSeconds": 5}
    main["startupProbe"] = {**get, "periodSeconds": 5, "failureThreshold": -(-child.ready_seconds // 5)}
    main["readinessProbe"] = {**get, "periodSeconds": 5, "failureThreshold": 6}
    main["livenessProbe"] = {**get, "periodSeconds": 15, "failureThreshold": 8}


def _environment(run: IXTRun, runtime: IXTRuntime, child: Child) -> list[Object]:
    values: dict[str, str] = {
        "IXT_TASK": f"{CONFIG_FOLDER}/{TASK_FILE}",
        "IXT_RESULT": "/dev/termination-log",
        "IXT_HOST": "::",  # all of the pod's addresses, also those of IPv4
        "IXT_PVC_ROOT": VOLUMES_FOLDER,
        "IXT_LOG": "json",
    }
    if run.metadata.namespace:
        values["IXT_NAMESPACE"] = run.metadata.namespace
    values |= {f"IXT_PORT_{name.upper()}": str(port) for name, port in child.ports.items()}
    if "rendezvous" in child.ports:
        namespace = run.metadata.namespace
        host = f"{child.name}-0.{child.name}" + (f".{namespace}.svc" if namespace else "")
        values["IXT_LEADER"] = f"{host}:{child.ports['rendezvous']}"
        values["IXT_PEERS"] = child.name + (f".{namespace}.svc" if namespace else "")
    values |= {f"IXT_{name}_URLS": url(run, runtime, child, server) for name, server in child.servers.items()}
    if child.kind == InventoryConfig.kind and (pod := trainer_pod(run, runtime, child.stage)):
        values[TRAINER_POD] = pod.model_dump_json(exclude_defaults=True)
    values |= child.env
    found: list[Object] = [{"name": name, "value": value} for name, value in values.items()]
    if not child.server:
        index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
        found.append({"name": "IXT_INDEX", "valueFrom": {"fieldRef": {"fieldPath": index}}})
    own = dict.fromkeys(child.api_keys, (secret_name(run), API_KEY))
    for name, (secret, key) in {**child.secret_env, **own}.items():
        found.append({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
    return found


def _merged_by_name(old: list[Object], new: list[Object]) -> list[Object]:
    named = {entry["name"]: entry for entry in old}
    named |= {entry["name"]: entry for entry in new}
    return list(named.values())
