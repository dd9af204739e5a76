"""Volumes by hand, as an administrator makes them: folders of this machine."""

from pathlib import Path
from typing import Any

ANY = ("ReadWriteOnce", "ReadWriteMany")


def volume(
    name: str, folder: Path | str, size: str, modes: tuple[str, ...] = ANY, **spec: Any
) -> dict[str, Any]:
    """A PersistentVolume that is a folder; more fields of its spec as given."""
    own = {
        "accessModes": list(modes),
        "capacity": {"storage": size},
        "hostPath": {"path": str(folder), "type": "Directory"},
    }
    metadata = {"name": name}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": {**own, **spec}}
