"""Amounts and references as Kubernetes writes them."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

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


_GPU = re.compile(
    r".+/gpu|nvidia\.com/mig-.+|gpu\.intel\.com/(i915|xe)|google\.com/tpu|habana\.ai/gaudi|aws\.amazon\.com/neuron"
)
"""Names of extended resources that are accelerators. Drivers also have names for their parts (tiles, memory,
monitoring), which are not counted. A part that is given out as a device of its own (MIG) is one."""

_UNITS = {"": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3}
_UNITS |= {unit: 1000.0**power for power, unit in enumerate("MGTPE", 2)}
_UNITS |= {f"{unit}i": 1024.0**power for power, unit in enumerate("KMGTPE", 1)}


def amount_of(quantity: Any) -> float:
    """A quantity such as 2, "500m", "16Gi" or "1e3"; 0 for what cannot be read."""
    found = re.fullmatch(r"([0-9.]+(?:[eE][-+]?[0-9]{1,3})?)([numkMGTPE]|[KMGTPE]i)?", str(quantity))
    try:
        return float(found[1]) * _UNITS[found[2] or ""] if found else 0.0
    except ValueError:
        return 0.0


def gpus_of(resources: Mapping[str, Any]) -> int:
    """Accelerators that a container asks for by its resource requirements."""
    # Of extended resources requests and limits are equal, where both are given.
    amounts = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
    return sum(int(amount_of(amount)) for name, amount in amounts.items() if _GPU.fullmatch(name))
