"""What a cluster would refuse about a manifest, as far as it can be told without one.

Rules of the API server's validation and of the restricted Pod Security Standard
(https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted).
"""

import base64
import re
from collections.abc import Iterator
from typing import Any

Manifest = dict[str, Any]

DNS_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
ENV = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
VERSIONS = {
    "ConfigMap": "v1",
    "Secret": "v1",
    "Service": "v1",
    "Job": "batch/v1",
    "Deployment": "apps/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
}
OF_RUNS = ("Secret", "NetworkPolicy")
"""What the children of a run share. Its name is no label."""
VOLUME_KINDS = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
MAX_CONFIG_BYTES = 1024 * 1024


def problems(manifest: Manifest) -> list[str]:
    """What is wrong, with the object's kind and name in front."""
    metadata = manifest.get("metadata", {})
    checks = {
        "ConfigMap": _config_map,
        "Secret": _secret,
        "Service": _service,
        "Job": _job,
        "Deployment": _deployment,
        "NetworkPolicy": _network_policy,
    }
    check = checks.get(manifest.get("kind", ""))
    if check is None:
        return [f"kind {manifest.get('kind')} is not expected"]
    found = [*_object(manifest), *check(manifest)]
    return [f"{manifest['kind']} {metadata.get('name')}: {problem}" for problem in found]


def _object(manifest: Manifest) -> Iterator[str]:
    if manifest["apiVersion"] != VERSIONS[manifest["kind"]]:
        yield f"apiVersion {manifest['apiVersion']}"
    metadata = manifest["metadata"]
    pattern = DNS_1035 if manifest["kind"] == "Service" else DNS_1123
    if manifest["kind"] in OF_RUNS:
        if not all(map(DNS_1123.fullmatch, metadata["name"].split("."))) or len(metadata["name"]) > 253:
            yield "name is no DNS name"
    elif not pattern.fullmatch(metadata["name"]) or len(metadata["name"]) > 52:
        yield "name is no label of at most 52 characters"
    owners = metadata.get("ownerReferences", [])
    if [(o["kind"], o["apiVersion"], o["controller"]) for o in owners] != [
        ("IXTRun", "ixt.dev/v1alpha1", True)
    ]:
        yield f"owners {owners}"
    elif not owners[0]["uid"] or not owners[0]["name"]:
        yield "owner without name or uid"
    yield from _labels(metadata)


def _labels(metadata: Manifest) -> Iterator[str]:
    for name, value in metadata.get("labels", {}).items():
        if not LABEL.fullmatch(value) or len(value) > 63:
            yield f"label {name}: {value}"
        if not LABEL.fullmatch(name.rpartition("/")[2]) or len(name.rpartition("/")[2]) > 63:
            yield f"label {name}"


def _config_map(manifest: Manifest) -> Iterator[str]:
    size = sum(len(text.encode()) for text in manifest.get("data", {}).values())
    size += sum(len(base64.b64decode(text)) for text in manifest.get("binaryData", {}).values())
    if size > MAX_CONFIG_BYTES:
        yield f"has {size} bytes"


def _secret(manifest: Manifest) -> Iterator[str]:
    if "data" in manifest or "stringData" in manifest:
        yield "a manifest with a secret in it"


def _network_policy(manifest: Manifest) -> Iterator[str]:
    spec = manifest["spec"]
    if spec["policyTypes"] != ["Ingress"] or not spec["podSelector"]["matchLabels"]:
        yield "picks all pods, or cuts off what they reach"
    for rule in spec["ingress"]:
        if not rule.get("from"):
            yield "lets in everybody"


def _service(manifest: Manifest) -> Iterator[str]:
    spec = manifest["spec"]
    if not spec["selector"]:
        yield "selects nothing"
    yield from _ports(spec["ports"], "port")


def _ports(ports: list[Manifest], field: str) -> Iterator[str]:
    for port in ports:
        if not DNS_1123.fullmatch(port["name"]) or len(port["name"]) > 15:
            yield f"port {port['name']}"
        if not 1024 <= port[field] <= 65535:
            yield f"port {port[field]}"


def _job(manifest: Manifest) -> Iterator[str]:
    spec = manifest["spec"]
    if spec["completionMode"] != "Indexed" or spec["completions"] != spec["parallelism"]:
        yield "is no gang"
    if spec["backoffLimit"] != 0:
        yield "retries by itself"
    if spec["template"]["spec"]["restartPolicy"] != "Never":
        yield "restarts by itself"
    # An indexed pod's host name is the Job's name with the index.
    if len(f"{manifest['metadata']['name']}-{spec['completions'] - 1}") > 63:
        yield "host names are too long"
    yield from pod_problems(spec["template"])


def _deployment(manifest: Manifest) -> Iterator[str]:
    spec = manifest["spec"]
    chosen, labels = spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"]
    if not chosen.items() <= labels.items():
        yield "does not select its own pods"
    if spec["template"]["spec"]["restartPolicy"] != "Always":
        yield "restartPolicy must be Always"
    yield from pod_problems(spec["template"])


def pod_problems(template: Manifest, *, token: bool = False) -> Iterator[str]:
    """What is wrong with a pod; `token` says whether it is to have an API token."""
    spec = template["spec"]
    yield from _labels(template["metadata"])
    if spec.get("automountServiceAccountToken") is not token:
        yield "mounts no API token" if token else "mounts an API token"
    for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(forbidden):
            yield forbidden
    volumes = {volume["name"]: set(volume) - {"name"} for volume in spec.get("volumes", [])}
    if len(volumes) != len(spec.get("volumes", [])):
        yield "volumes with one name"
    for name, kinds in volumes.items():
        if not DNS_1123.fullmatch(name) or len(name) > 63:
            yield f"volume {name}"
        if len(kinds) != 1 or not kinds <= VOLUME_KINDS:
            yield f"volume {name} is {kinds}"
    pod_security = spec.get("securityContext", {})
    if pod_security.get("runAsUser") == 0:
        yield "runs as root"
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        yield from (
            f"{container['name']}: {problem}" for problem in _container(container, pod_security, volumes)
        )


def _container(container: Manifest, pod: Manifest, volumes: dict[str, set[str]]) -> Iterator[str]:
    own = container.get("securityContext", {})
    if not own.get("runAsNonRoot", pod.get("runAsNonRoot")):
        yield "may run as root"
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield "may escalate"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "has capabilities"
    if (own.get("seccompProfile") or pod.get("seccompProfile", {})).get("type") not in (
        "RuntimeDefault",
        "Localhost",
    ):
        yield "has no seccomp profile"
    if not container.get("image"):
        yield "has no image"
    names = [entry["name"] for entry in container.get("env", [])]
    if len(set(names)) != len(names):
        yield "sets a variable twice"
    for entry in container.get("env", []):
        if not ENV.fullmatch(entry["name"]):
            yield f"variable {entry['name']}"
        if ("value" in entry) == ("valueFrom" in entry):
            yield f"variable {entry['name']} needs one of value and valueFrom"
        if not isinstance(entry.get("value", ""), str):
            yield f"variable {entry['name']} is no string"
    paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
    if len(set(paths)) != len(paths):
        yield "mounts one path twice"
    for mount in container.get("volumeMounts", []):
        if mount["name"] not in volumes:
            yield f"mounts {mount['name']}, which is no volume"
    yield from _ports(container.get("ports", []), "containerPort")
