"""This checkout's Python for pods, without an image of it: its folders as read-only volumes.

Pod Security's restricted level forbids volumes of the host's folders, but not claims: each folder is a
PersistentVolume with a claim of access mode ReadOnlyMany.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.kubectl import Kubectl
from cluster.volumes import volume

IMAGE = "ixt.test/host:1"
EXECUTABLE = str(Path(sys.prefix, "bin", "python"))
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mounted:
    """Parts of a pod that runs EXECUTABLE in IMAGE."""

    volumes: list[dict[str, Any]]
    mounts: list[dict[str, Any]]


@contextmanager
def mounted(kubectl: Kubectl) -> Iterator[Mounted]:
    """Volumes for pods in kubectl's namespace; the claims are called as the volumes are."""
    names = {f"python-{number}": folder for number, folder in enumerate(folders())}
    for name, folder in names.items():
        kubectl.apply(*_volume(name, folder, kubectl.namespace))
    claims = [f"pvc/{name}" for name in names]
    kubectl("wait", "--for=jsonpath={.status.phase}=Bound", *claims, "--timeout=30s")
    try:
        yield Mounted(
            [
                {"name": name, "persistentVolumeClaim": {"claimName": name, "readOnly": True}}
                for name in names
            ],
            [{"name": name, "mountPath": folder, "readOnly": True} for name, folder in names.items()],
        )
    finally:
        volumes = [f"pv/{kubectl.namespace}-{name}" for name in names]
        kubectl("delete", "--wait=false", *volumes)


def folders() -> list[str]:
    """What the interpreter reads: the system's libraries, itself, its packages, and this checkout's."""
    wanted = {Path("/usr"), *(Path(folder).resolve() for folder in (sys.base_prefix, sys.prefix))}
    wanted |= {ROOT / name for name in ("workloads", "operator", "examples", "tests/make")}
    return [
        str(folder)
        for folder in sorted(wanted)
        if not any(folder.is_relative_to(other) for other in wanted - {folder})
    ]


def _volume(name: str, folder: str, namespace: str) -> tuple[dict[str, Any], dict[str, Any]]:
    unique = f"{namespace}-{name}"
    modes, storage = ("ReadOnlyMany",), {"storageClassName": "host"}
    claimed = {"namespace": namespace, "name": name}
    claim = {
        **storage,
        "accessModes": list(modes),
        "volumeName": unique,
        "resources": {"requests": {"storage": "1Gi"}},
    }
    return (
        volume(unique, folder, "1Gi", modes, claimRef=claimed, **storage),
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": claim},
    )
