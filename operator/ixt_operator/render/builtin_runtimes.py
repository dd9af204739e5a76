"""The runtimes that the chart ships: `cpu` and `nvidia`."""

from typing import Any

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
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""With SECURITY: the restricted Pod Security Standard."""


def cpu(image: str) -> IXTRuntime:
    """Everything on CPUs: the default, for small models and for trying things out."""
    small = {"requests": {"cpu": "500m", "memory": "2Gi"}}
    return _runtime("cpu", image, {}, small, engine_args=("--enforce-eager",))


def nvidia(image: str) -> IXTRuntime:
    """One NVIDIA GPU for each pod of judge, trainer and evaluator; workers on CPUs."""
    gpu = {"requests": {"cpu": "4", "memory": "32Gi"}, "limits": {"nvidia.com/gpu": "1"}}
    worker = {"requests": {"cpu": "2", "memory": "8Gi"}}
    return _runtime("nvidia", image, {Role.WORKER: worker}, gpu)


BUILTIN = {"cpu": cpu, "nvidia": nvidia}
"""The runtimes by name, made for an image."""


def _runtime(
    name: str, image: str, special: dict[Role, Any], resources: Any, engine_args: tuple[str, ...] = ()
) -> IXTRuntime:
    roles = tuple(
        RuntimeRole(name=role, template=_template(image, special.get(role, resources))) for role in Role
    )
    return IXTRuntime(metadata=ObjectMeta(name=name), spec=RuntimeSpec(roles=roles, engine_args=engine_args))


def _template(image: str, resources: Any) -> dict[str, Any]:
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
                {"name": "tmp", "emptyDir": {}},
                # Caches of hubs and engines, for a container that is started again in its pod. A runtime of
                # one's own may have a volume claim here, which serves all pods.
                {"name": "cache", "emptyDir": {}},
                # Ranks and engines of a pod share tensors here; without it a container has 64 MB.
                {"name": "shm", "emptyDir": {"medium": "Memory"}},
            ],
        }
    }
