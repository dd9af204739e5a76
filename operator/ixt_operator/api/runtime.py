"""IXTRuntime: how an administrator wants the pods of runs to look."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ixt_operator.api.engine import option
from ixt_operator.api.meta import API_VERSION, Distinct, LabelKey, ObjectMeta
from ixt_operator.api.rules import Spec
from ixt_operator.api.selector import LabelSelector
from ixt_workloads.contract.base import Model
from ixt_workloads.contract.kinds import Role

MAIN = "main"
"""Name of the container that runs the step."""


DEFAULT_OVERRIDES = (
    "affinity",
    "annotations",
    "containers",
    "dnsConfig",
    "dnsPolicy",
    "env",
    "envFrom",
    "hostAliases",
    "image",
    "imagePullPolicy",
    "imagePullSecrets",
    "initContainers",
    "labels",
    "lifecycle",
    "nodeSelector",
    "priorityClassName",
    "resourceClaims",
    "resources",
    "schedulerName",
    "schedulingGates",
    "serviceAccountName",
    "tolerations",
    "topologySpreadConstraints",
    "volumeDevices",
    "volumeMounts",
    "volumes",
    "workingDir",
)
"""What runs may set of their pods unless a runtime says otherwise."""

ALL_OVERRIDES = "*"


def _makes_a_pod(template: dict[str, Any]) -> dict[str, Any]:
    """Refuse a template that the API server keeps as it is, but of which no pod can be made."""
    if nothing := next(_nulls(template), None):
        raise ValueError(f"{nothing} is null: leave it out, or set it")
    spec = template.get("spec", {})
    containers = spec.get("containers", []) if isinstance(spec, dict) else None
    if not isinstance(containers, list) or not all(isinstance(each, dict) for each in containers):
        raise ValueError("spec.containers is no list of containers")
    names = [str(each.get("name")) for each in containers]
    if names and MAIN not in names:
        raise ValueError(f"none of spec.containers is named {MAIN}, but {', '.join(names)}: name one so")
    return template


def _nulls(value: Any, path: str = "") -> Iterator[str]:
    """Paths of all that is null in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        place = f"{path}.{name}".lstrip(".")
        yield from [place] if item is None else _nulls(item, place)


PodTemplate = Annotated[
    dict[str, Any],
    AfterValidator(_makes_a_pod),
    Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
]


def _no_key_of_its_own(argument: str) -> str:
    """Refuse the option by which steps would be shut out."""
    if argument.startswith("--") and option(argument) == "api-key":
        raise ValueError("--api-key: each run draws a key of its own for its judges: leave it out")
    return argument


class RuntimeRole(Model):
    """The pods of one role."""

    name: Role
    """The role."""
    template: PodTemplate = {}
    """A Kubernetes PodTemplateSpec. The container named `main` runs the step; the run's patches and then
    what the operator owns (command, config, probes, labels) are laid over it."""
    command: Annotated[tuple[Annotated[str, Field(max_length=1024)], ...], Field(max_length=32)] = ()
    """Put before the operator's command in the main container, for example a profiler. Usually empty. When it
    exits with 75, its machine is sick, and the run's later steps avoid it for a day."""


class RuntimeSpec(Spec):
    """How the pods of runs look."""

    roles: Annotated[tuple[RuntimeRole, ...], Field(min_length=1, max_length=4)]
    """The roles. One that is missing cannot be run with this runtime."""
    engine_args: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_no_key_of_its_own)], ...],
        Field(max_length=64),
    ] = ()
    """Options of vLLM for every judge, before the run's own. Not limited to the options that runs may set."""

    label_prefixes: Annotated[tuple[LabelKey, ...], Field(max_length=32), Distinct] = ()
    """Labels of a run whose keys begin with one of these are put on its Jobs, judges and pods, for example
    example.com/ or team. Kueue's own labels and annotations are put there anyway."""

    allowed_namespaces: LabelSelector | None = None
    """Namespaces whose runs may name the runtime, by their labels; each has its name as
    kubernetes.io/metadata.name. Unset: all. Set it where the templates have more than every tenant may have
    (host network, devices, images, node pools)."""

    allowed_overrides: Annotated[
        tuple[Annotated[str, Field(pattern=r"^(\*|[a-zA-Z]+)$", max_length=63)], ...],
        Field(max_length=64),
        Distinct,
    ] = DEFAULT_OVERRIDES
    """Fields of pods and their containers that runs may set by spec.pods and resourcesPerNode. Those of the
    default lend nothing that belongs to the node or lowers Pod Security. `volumes` are of the kinds that Pod
    Security's restricted standard has, others are named by their kind (`hostPath`, `nfs`); `containers` and
    `initContainers` are those beside the main one; `host` is that of probes and lifecycle hooks; "*" is
    everything."""

    def role(self, name: Role) -> RuntimeRole | None:
        """The pods of a role, if the runtime has it."""
        return next((role for role in self.roles if role.name is name), None)


class IXTRuntime(Model):
    """How the pods of runs look: images, devices, node placement. Cluster-scoped; an administrator's."""

    api_version: Literal["ixt.dev/v1alpha1"] = API_VERSION
    """Version of this API."""
    kind: Literal["IXTRuntime"] = "IXTRuntime"
    """IXTRuntime."""
    metadata: ObjectMeta
    """Name of the runtime."""
    spec: RuntimeSpec
    """How the pods of runs look."""
