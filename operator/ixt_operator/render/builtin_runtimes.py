"""The runtimes that the chart ships: `cpu` and `nvidia`."""

from typing import Any, NamedTuple

from ixt_operator.api.meta import ObjectMeta
from ixt_operator.api.runtime import MAIN, IXTRuntime, RuntimeRole, RuntimeSpec
from ixt_workloads.contract.kinds import Role

SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
POD_SECURITY: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "fsGroup": 65532,
    # Else the kubelet changes the owner of each file of a large volume at each start of a pod.
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""With SECURITY: the restricted Pod Security Standard."""


class Limits(NamedTuple):
    """The most that a pod takes of its node, as amounts of Kubernetes: whatever data or a judge says, others
    on the node keep theirs."""

    memory: str
    """Of judge, trainer and evaluator; /dev/shm counts as memory."""
    worker_memory: str
    tmp: str
    """Of the disk, below /tmp."""
    cache: str
    """Of the disk: what is fetched from hubs and object stores."""
    shm: str


LIMITS = {
    "cpu": Limits("16Gi", "16Gi", "16Gi", "64Gi", "4Gi"),
    "nvidia": Limits("192Gi", "32Gi", "64Gi", "512Gi", "64Gi"),
}


def cpu(image: str, limits: Limits = LIMITS["cpu"]) -> IXTRuntime:
    """Everything on CPUs: the default, for small models and for trying things out."""
    small = {"requests": {"cpu": "500m", "memory": "2Gi"}}
    special = {Role.WORKER: _limited(small, limits.worker_memory)}
    own = _limited(small, limits.memory)
    return _runtime("cpu", image, special, own, limits, engine_args=("--enforce-eager",))


def nvidia(image: str, limits: Limits = LIMITS["nvidia"]) -> IXTRuntime:
    """One NVIDIA GPU for each pod of judge, trainer and evaluator; workers on CPUs."""
    gpu = {"requests": {"cpu": "4", "memory": "32Gi"}, "limits": {"nvidia.com/gpu": "1"}}
    worker = {"requests": {"cpu": "2", "memory": "8Gi"}}
    special = {Role.WORKER: _limited(worker, limits.worker_memory)}
    return _runtime("nvidia", image, special, _limited(gpu, limits.memory), limits)


BUILTIN_RUNTIMES = {"cpu": cpu, "nvidia": nvidia}
"""The runtimes by name, made for an image."""


def _limited(resources: dict[str, Any], memory: str) -> dict[str, Any]:
    return {**resources, "limits": {**resources.get("limits", {}), "memory": memory}}


def _runtime(
    name: str,
    image: str,
    special: dict[Role, Any],
    resources: Any,
    limits: Limits,
    engine_args: tuple[str, ...] = (),
) -> IXTRuntime:
    roles = tuple(
        RuntimeRole(name=role, template=_template(image, special.get(role, resources), limits))
        for role in Role
    )
    return IXTRuntime(metadata=ObjectMeta(name=name), spec=RuntimeSpec(roles=roles, engine_args=engine_args))


def _template(image: str, resources: Any, limits: Limits) -> dict[str, Any]:
    main = {
        "name": MAIN,
        "image": image,
        "resources": resources,
        "securityContext": SECURITY,
        "env": [
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 - an emptyDir of the pod's own
            {"name": "XDG_CACHE_HOME", "value": "/cache"},
        ],
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            {"name": "cache", "mountPath": "/cache"},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
        ],
    }
    return {
        "spec": {
            "securityContext": POD_SECURITY,
            "containers": [main],
            "volumes": [
                {"name": "tmp", "emptyDir": {"sizeLimit": limits.tmp}},
                # Caches of hubs and engines, for a container that is started again in its pod. A runtime of
                # one's own may have a volume claim here, which serves all pods.
                {"name": "cache", "emptyDir": {"sizeLimit": limits.cache}},
                # Ranks and engines of a pod share tensors here; without it a container has 64 MB.
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": limits.shm}},
            ],
        }
    }
