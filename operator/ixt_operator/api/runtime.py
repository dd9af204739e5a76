"""IXTRuntime: how an administrator wants the pods of runs to look."""

from typing import Annotated, Any, Literal

from pydantic import Field

from ixt_operator.api.meta import API_VERSION, ObjectMeta
from ixt_operator.api.rules import Spec
from ixt_workloads.contract.base import Model
from ixt_workloads.contract.kinds import Role

MAIN = "main"
"""Name of the container that runs the step."""


PodTemplate = Annotated[
    dict[str, Any],
    Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
]


class RuntimeRole(Model):
    """The pods of one role."""

    name: Role
    """The role."""
    template: PodTemplate = {}
    """A Kubernetes PodTemplateSpec. The container named `main` runs the step; the run's overrides and then
    what the operator owns (command, config, probes, labels) are laid over it."""
    command: Annotated[tuple[Annotated[str, Field(max_length=1024)], ...], Field(max_length=32)] = ()
    """Put before the operator's command in the main container, for example a profiler. Usually empty. When it
    exits with 75, its machine is sick, and the run's later steps avoid it."""


class RuntimeSpec(Spec):
    """How the pods of runs look."""

    roles: Annotated[tuple[RuntimeRole, ...], Field(min_length=1, max_length=4)]
    """The roles. One that is missing cannot be run with this runtime."""
    engine_args: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...], Field(max_length=64)
    ] = ()
    """Options of vLLM for every judge, before the run's own. Not limited to the options that runs may set."""

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
