"""What a run changes about its pods: patches of the runtime's templates, in the shape of Kubernetes' Pod."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from ixt_operator.api.runtime import MAIN
from ixt_workloads.contract.base import Model

MERGE_KEYS = {
    "containers": "name",
    "env": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ports": "containerPort",
    "resourceClaims": "name",
    "schedulingGates": "name",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
"""Lists of a pod whose items are merged by a key; others are replaced (Kubernetes: patchMergeKey)."""

DIRECTIVE = "$patch"
"""In an item of such a list: `delete` takes the item of its key out, `replace` puts it in its place whole."""

POD_FIELDS = [
    "activeDeadlineSeconds",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "ephemeralContainers",
    "hostname",
    "restartPolicy",
    "setHostnameAsFQDN",
    "subdomain",
    "terminationGracePeriodSeconds",
]
"""Fields of a pod's spec that are the operator's."""

MAIN_FIELDS = [
    "args",
    "command",
    "livenessProbe",
    "ports",
    "readinessProbe",
    "restartPolicy",
    "startupProbe",
    "stdin",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
]
"""Fields of the main container that are the operator's."""

MAX_LEVELS = 32
"""Of a patch: pods have about 15."""

MAX_VALUES = 2_000
"""Of metadata or spec of a patch: large pods have a few hundred."""

TOO_LARGE = "tooLarge"
"""What stands, alone and as a field, for metadata or a spec that had more values (`within_bounds`)."""

OWN_LABELS = (
    "ixt.dev/",
    "batch.kubernetes.io/",
    *(f"app.kubernetes.io/{name}" for name in ("name", "component", "managed-by")),
)
"""Labels and annotations that are the operator's or Kubernetes' own; what ends in a slash is a prefix."""

PLAIN_VOLUMES = (
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
)
"""Kinds of volumes that Pod Security's restricted standard has; a node mounts others with its own rights."""

ASKED_BY_THE_NODE = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
"""Fields of a container by which the node's kubelet asks an address: the pod's, unless they name a host."""

SECURITY_ANNOTATIONS = (
    "container.apparmor.security.beta.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
)
"""Beginnings of annotations that stand for a securityContext."""

_OWN_FOLDER = "/ixt"

_Check = Callable[[Mapping[str, Any]], Iterator[str]]


def _metadata(metadata: Mapping[str, Any]) -> Iterator[str]:
    for name, values in metadata.items():
        if name not in ("labels", "annotations"):
            yield f"has no {name}: it has labels and annotations"
        elif not isinstance(values, Mapping):
            yield f"{name} must be a mapping"
        else:
            for label, value in values.items():
                if any(label.startswith(own) if own.endswith("/") else label == own for own in OWN_LABELS):
                    yield f"{name}: {label} is the operator's: leave it out"
                if value is not None and not isinstance(value, str):
                    yield f"{name}: {label} must be a string"


def _deep(value: Any, levels: int) -> bool:
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return any(levels == 0 or _deep(item, levels - 1) for item in items)


def within_bounds(pods: Any) -> Any:
    """The patches of a run with TOO_LARGE in place of parts that have more than MAX_VALUES values: three
    bytes of text may become a hundred in memory."""
    if not isinstance(pods, Mapping):
        return pods
    return {
        role: {part: {TOO_LARGE: True} if _large(value) else value for part, value in patch.items()}
        if isinstance(patch, Mapping)
        else patch
        for role, patch in pods.items()
    }


def _large(value: Any) -> bool:
    left, found = [value], 0
    while left and found <= MAX_VALUES:
        value = left.pop()
        items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
        found += len(items)
        left += items if found <= MAX_VALUES else ()
    return found > MAX_VALUES


def _spec(spec: Mapping[str, Any]) -> Iterator[str]:
    if _deep(spec, MAX_LEVELS):
        yield f"is nested deeper than {MAX_LEVELS} levels, as no pod is"
        return
    yield from (f"{name} is the operator's: leave it out" for name in POD_FIELDS if name in spec)
    yield from _lists(spec, "")
    if shaped := not any(_lists(spec, "")):
        for volume in spec.get("volumes") or ():
            if str(volume.get("name", "")).startswith("ixt-"):
                yield f"volumes: {volume['name']} is a name of the operator's: choose another"
    for container in (spec.get("containers") or ()) if shaped else ():
        if container.get("name") == MAIN:
            yield from _main(container)
        if container.get(DIRECTIVE) == "replace":
            yield f"containers: {DIRECTIVE}: replace would take the main container out: leave it out"


def _main(main: Mapping[str, Any]) -> Iterator[str]:
    where = f"containers[{MAIN}]"
    yield from (f"{where}.{name} is the operator's: leave it out" for name in MAIN_FIELDS if name in main)
    if DIRECTIVE in main:
        yield f"{where} runs the step: it cannot be deleted or replaced"
    for variable in main.get("env") or ():
        if variable["name"].startswith("IXT_"):
            yield f"{where}.env: {variable['name']}: names that start with IXT_ are set by the operator"
    for mount in main.get("volumeMounts") or ():
        if f"{mount['mountPath']}/".startswith(f"{_OWN_FOLDER}/"):
            yield f"{where}.volumeMounts: {mount['mountPath']} is below {_OWN_FOLDER}, the operator's"


def _lists(value: Any, path: str) -> Iterator[str]:
    """What is wrong with lists that are merged by a key."""
    for name, item in value.items() if isinstance(value, Mapping) else ():
        place = f"{path}{name}"
        if name not in MERGE_KEYS:
            yield from _lists(item, f"{place}.")
        elif item is not None and not isinstance(item, list):
            yield f"{place} must be a list"
        else:
            for index, entry in enumerate(item or ()):
                key = MERGE_KEYS[name]
                if not isinstance(entry, Mapping) or (key not in entry and DIRECTIVE not in entry):
                    yield f"{place}[{index}] needs {key}, by which it is merged"
                yield from _lists(entry, f"{place}[{index}].")


def _checked(check: _Check) -> AfterValidator:
    def validate(value: dict[str, Any]) -> dict[str, Any]:
        large = TOO_LARGE in value or _large(value)
        for why in (f"has more than {MAX_VALUES:,} values, as no pod does",) if large else check(value):
            # Only Python asks: the API server takes the pod's own fields as they come.
            raise PydanticCustomError("refused_option", "{why}", {"why": why})
        return value

    return AfterValidator(validate)


_AS_GIVEN = Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})


class PodPatch(Model):
    """A strategic merge patch of a PodTemplateSpec. Maps are merged, named lists by their items' names, other
    lists replaced; null takes out. What the operator owns is refused."""

    metadata: Annotated[dict[str, Any], _checked(_metadata), _AS_GIVEN] = {}
    """Labels and annotations of the pods."""
    spec: Annotated[dict[str, Any], _checked(_spec), _AS_GIVEN] = {}
    """Fields of a Kubernetes PodSpec: containers (the step's is named main), volumes, affinity, and so on."""


def overridden(patch: PodPatch) -> Iterator[tuple[str, str]]:
    """The fields of a pod and its containers that a patch sets, by the names that allowedOverrides of a
    runtime has for them, each with its place in the patch."""
    for name, values in patch.metadata.items():
        yield name, f"metadata.{name}"
        for key in values:
            if key.startswith(SECURITY_ANNOTATIONS):
                yield "securityContext", f"metadata.{name}.{key}"
    for name, value in patch.spec.items():
        place = f"spec.{name}"
        if name not in ("containers", "initContainers"):
            yield name, place
        for item in (value or ()) if isinstance(value, list) else ():
            if name == "volumes":
                kinds = item.keys() - {"name", DIRECTIVE, *PLAIN_VOLUMES}
                yield from ((kind, f"{place}[{item.get('name')}].{kind}") for kind in sorted(kinds))
            if name in ("containers", "initContainers"):
                yield from _of_container(name, item, f"{place}[{item.get('name')}]")


def _of_container(name: str, container: Mapping[str, Any], place: str) -> Iterator[tuple[str, str]]:
    for field, value in container.items():
        if field in ASKED_BY_THE_NODE and _names_a_host(value):
            yield "host", f"{place}.{field}"
    if name == "containers" and container.get("name") == MAIN:
        yield from ((field, f"{place}.{field}") for field in container if field != "name")
        return
    yield name, place
    if "securityContext" in container:
        yield "securityContext", f"{place}.securityContext"
    if any(isinstance(port, Mapping) and "hostPort" in port for port in container.get("ports") or ()):
        yield "hostPort", f"{place}.ports"


def _names_a_host(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value.get("host")) or any(map(_names_a_host, value.values()))
    return False


class Pods(Model):
    """Patches of the runtime's pods."""

    all: PodPatch = PodPatch()
    """Of all pods of the run; those below are laid over it."""
    judge: PodPatch = PodPatch()
    """Of pods that serve the judge."""
    worker: PodPatch = PodPatch()
    """Of pods of all other steps."""
    trainer: PodPatch = PodPatch()
    """Of pods that train."""
    evaluator: PodPatch = PodPatch()
    """Of pods that evaluate."""
