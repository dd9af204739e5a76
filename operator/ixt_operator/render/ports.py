"""Ports of pods that share their node's network (`hostNetwork`), where a runtime or a run allows that. Pure.

All pods of a node share its ports then, so each child has its own: they follow from its name, and with that
from its attempt, so that the one after a port was taken gets another. Two pods that have a port in common,
the scheduler puts on different nodes; so it does with the processes of one child.
"""

import copy
import hashlib
from functools import reduce

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import MAIN, IXTRuntime
from ixt_operator.planner.building import HTTP_PORT, patches
from ixt_operator.planner.child import Child
from ixt_operator.render.merging import patched
from ixt_operator.render.names import Object
from ixt_workloads.contract.kinds import KINDS, Role

FIRST, COUNT = 20_000, 10_000
"""The range: below those of NodePorts and of connections that go out."""


def own_ports(template: Object, child: Child) -> Child:
    """The child with ports of its own, if its pods share their node's network by their merged template."""
    if not _on_host(template):
        return child
    ports = {name: _port(child.name, place) for place, name in enumerate(sorted(child.ports))}
    return child.model_copy(update={"ports": ports})


def url(run: IXTRun, runtime: IXTRuntime, child: Child, server: str) -> str:
    """Base URL of the headless Service of a server that a child talks to; its name resolves to one address
    for each ready replica."""
    namespace, serving = run.metadata.namespace, KINDS[child.kind].server
    own = serving is not None and _on_host(merged_template(run, runtime, serving.role))
    port = _port(server, 0) if own else HTTP_PORT
    return f"http://{server}{f'.{namespace}.svc' if namespace else ''}:{port}"


def merged_template(run: IXTRun, runtime: IXTRuntime, role: Role) -> Object:
    """The runtime's template of a role with the run's patches laid over it, by which it has its main
    container. Raises KeyError when the runtime has no such role."""
    entry = runtime.spec.role(role)
    if entry is None:
        raise KeyError(f"runtime {runtime.metadata.name} has no role {role}")
    template = copy.deepcopy(dict(entry.template))
    main_container(template.setdefault("spec", {}))
    found: Object = reduce(patched, patches(run, role), template)
    return found


def main_container(spec: Object) -> Object:
    """The container of a pod that runs the step; it is added where there is none."""
    containers: list[Object] = spec.setdefault("containers", [])
    for container in containers:
        if container.get("name") == MAIN:
            return container
    containers.insert(0, {"name": MAIN})
    return containers[0]


def _on_host(template: Object) -> bool:
    return bool(template.get("spec", {}).get("hostNetwork"))


def _port(child: str, place: int) -> int:
    """A child's port at this place in the order of its ports' names."""
    number = int.from_bytes(hashlib.sha256(child.encode()).digest()[:4])
    return FIRST + (number + place) % COUNT
