"""What every Kubernetes object has, and field types that the API's models share."""

from typing import Annotated, Final

from pydantic import Field

from ixt_workloads.contract.base import Lenient, ObjectName

GROUP: Final = "ixt.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = "ixt.dev/v1alpha1"

LabelKey = Annotated[str, Field(min_length=1, max_length=317)]
LabelValue = Annotated[str, Field(max_length=63)]


Distinct = Field(json_schema_extra={"uniqueItems": True})
"""Marks a list of scalars without repetitions (x-kubernetes-list-type: set)."""

Whole = Field(json_schema_extra={"x-kubernetes-list-type": "atomic"})
"""Marks a named list that one program writes as a whole: the API server keeps no account of who owns which
field of which item, which for a status would take more room than the status."""


class ObjectMeta(Lenient):
    """The metadata that the operator reads; what else an object carries is ignored."""

    name: ObjectName
    """Name of the object, unique in its namespace."""
    namespace: Annotated[str, Field(max_length=63)] = ""
    """Namespace of the object; empty for a run on this machine."""
    uid: Annotated[str, Field(max_length=64)] = ""
    """Given by the API server."""
    generation: int = 0
    """Given by the API server: counts the changes of the spec."""
    labels: dict[str, str] = {}
    """Labels of the object."""
    annotations: dict[str, str] = {}
    """Annotations of the object."""
