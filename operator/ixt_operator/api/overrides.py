"""What a run may change about the pods of a role. The shapes are those of Kubernetes' own Pod."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ixt_operator.api.meta import LabelKey, LabelValue
from ixt_operator.api.rules import Checked, Rule
from ixt_workloads.contract.base import Model, ObjectName

QUANTITY_PATTERN = (
    r"^(\+?([0-9]+\.?[0-9]*|\.[0-9]+)|-(0+\.?0*|\.0+))([eE][-+]?[0-9]{1,3}|[kMGTPEmun]|[KMGTPE]i)?$"
)
"""An amount of at least 0 as Kubernetes documents it. Its parser hangs on exponents such as 99999999."""


def _quantity(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, float) or value >= 2**63:
        raise ValueError(f"write the number as a string: '{value}'")
    return str(value)


_Amount = Annotated[str, Field(pattern=QUANTITY_PATTERN, max_length=32)]

Quantity = Annotated[
    _Amount,
    BeforeValidator(_quantity, json_schema_input_type=_Amount),
    Field(json_schema_extra={"x-kubernetes-int-or-string": True, "minimum": 0}),
]
"""An amount as Kubernetes writes it: 2, "500m", "16Gi"."""

Quantities = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=317)], Quantity], Field(max_length=16)
]


class Resources(Model):
    """Resources of one pod's main container, as in Kubernetes."""

    requests: Quantities = {}
    """Amounts that the pod is scheduled by, for example {cpu: 4, memory: 16Gi}."""
    limits: Quantities = {}
    """Amounts that the container cannot exceed; devices such as nvidia.com/gpu go here."""


DataKey = Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", min_length=1, max_length=253)]


class KeyRef(Model):
    """A key of a Secret or ConfigMap in the run's namespace."""

    name: ObjectName
    """Name of the object."""
    key: DataKey
    """Key in the object's data."""


class EnvVarSource(Model):
    """Where the value of a variable comes from."""

    secret_key_ref: KeyRef
    """A key of a Secret in the run's namespace."""


class EnvVar(Checked):
    """An environment variable. Names that start with IXT_ belong to the operator."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", min_length=1, max_length=128)]
    """Name of the variable."""
    value: Annotated[str | None, Field(max_length=4096)] = None
    """Its value."""
    value_from: EnvVarSource | None = None
    """Where the value comes from; instead of value."""

    rules = (
        Rule(
            "has(self.value) != has(self.valueFrom)",
            "exactly one of value and valueFrom must be set",
            lambda self: (self.value is None) != (self.value_from is None),
        ),
        Rule(
            "!self.name.startsWith('IXT_')",
            "names that start with IXT_ are set by the operator: choose another",
            lambda self: not self.name.startswith("IXT_"),
            "name",
        ),
    )


class TolerationOperator(StrEnum):
    """How a taint's value is compared."""

    EQUAL = "Equal"
    EXISTS = "Exists"


class TaintEffect(StrEnum):
    """What a taint does."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(Model):
    """Lets pods run on nodes with a taint, as in Kubernetes."""

    key: Annotated[str | None, Field(max_length=317)] = None
    """Key of the taint. Unset, with operator Exists: every taint."""
    operator: TolerationOperator = TolerationOperator.EQUAL
    """How the value is compared."""
    value: Annotated[str | None, Field(max_length=63)] = None
    """Value of the taint, for operator Equal."""
    effect: TaintEffect | None = None
    """Effect of the taint. Unset: every effect."""
    toleration_seconds: Annotated[int | None, Field(ge=0, le=31_536_000)] = None
    """How long pods stay on a node after it was tainted NoExecute. Unset: for ever."""


class LocalRef(Model):
    """An object in the run's namespace."""

    name: ObjectName
    """Name of the object."""


class PodOverrides(Model):
    """What this run changes about the pods of one role; all else comes from the IXTRuntime."""

    resources: Resources | None = None
    """Resources of a pod's main container, instead of the runtime's."""
    image: Annotated[str | None, Field(pattern=r"^[^\s]+$", min_length=1, max_length=512)] = None
    """Container image, instead of the runtime's."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=64)] = ()
    """Environment variables, added to the runtime's."""
    service_account_name: ObjectName | None = None
    """Service account of the pods. Its API token is never mounted."""
    node_selector: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] = {}
    """Labels that a node must have, added to the runtime's."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] = ()
    """Taints that the pods tolerate, added to the runtime's."""
    priority_class_name: ObjectName | None = None
    """Priority class of the pods."""
    image_pull_secrets: Annotated[tuple[LocalRef, ...], Field(max_length=8)] = ()
    """Secrets to pull the image with, added to the runtime's."""


class Pods(Model):
    """Changes to pods by role."""

    judge: PodOverrides = PodOverrides()
    """Pods that serve the judge."""
    worker: PodOverrides = PodOverrides()
    """Pods of all other steps."""
    trainer: PodOverrides = PodOverrides()
    """Pods that train."""
    evaluator: PodOverrides = PodOverrides()
    """Pods that evaluate."""
