"""What watches saw last: the objects of every run, and the runs and runtimes themselves.

Reads of the planner come from here. It may lag behind the API server, never ahead of it; what is written is
put in at once. Objects are cut down to what is read of them, so that a thousand runs take little memory.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from ixt_operator.adapters.kubernetes.client import DEPLOYMENTS, JOBS, PODS, Object, Resource, owned_by
from ixt_operator.adapters.kubernetes.observe import Seen

RUN_UID = "ixt.dev/run-uid"
"""Label of all that belongs to a run."""

CHILDREN = (JOBS, DEPLOYMENTS, PODS)


class Cache:
    """Objects by resource and uid, and the children's also by their run."""

    def __init__(self) -> None:
        self._objects: dict[Resource, dict[str, Object]] = defaultdict(dict)
        self._of_run: dict[tuple[Resource, str], set[str]] = defaultdict(set)
        self._named: dict[tuple[Resource, str, str], str] = {}

    def put(self, resource: Resource, manifest: Object) -> bool:
        """Take an object, unless a newer version of it is there; whether it was news."""
        uid = manifest["metadata"]["uid"]
        old = self._objects[resource].get(uid)
        if old is not None and _version(old) > _version(manifest):
            return False
        news = old is None or _version(old) < _version(manifest)
        if old:
            self.drop(resource, old)  # its labels may have been others
        self._objects[resource][uid] = _slim(resource, manifest)
        self._of_run[resource, run_uid(manifest)].add(uid)
        self._named[_place(resource, manifest)] = uid
        return news

    def drop(self, resource: Resource, manifest: Object) -> None:
        """Forget an object that is gone."""
        uid = manifest["metadata"]["uid"]
        self._objects[resource].pop(uid, None)
        if self._named.get(_place(resource, manifest)) == uid:
            del self._named[_place(resource, manifest)]
        members = self._of_run[resource, run_uid(manifest)]
        members.discard(uid)
        if not members:
            del self._of_run[resource, run_uid(manifest)]

    def replace(self, resource: Resource, manifests: Iterable[Object], run: str | None = None) -> None:
        """Take a list as all that there is, of one run or of all: what it lacks is gone."""
        listed = {manifest["metadata"]["uid"]: manifest for manifest in manifests}
        known = set(self._objects[resource]) if run is None else set(self._of_run.get((resource, run), ()))
        for uid in known - listed.keys():
            self.drop(resource, self._objects[resource][uid])
        for manifest in listed.values():
            self.put(resource, manifest)

    def all(self, resource: Resource) -> list[Object]:
        """All objects of a resource."""
        return list(self._objects[resource].values())

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """One object by its name."""
        uid = self._named.get((resource, namespace, name))
        return self._objects[resource].get(uid) if uid else None

    def of_run(self, uid: str) -> Seen:
        """The children of a run: what bears its label but is not owned by it is a copy that somebody made."""
        jobs, deployments, pods = (
            tuple(self._objects[resource][each] for each in sorted(self._of_run.get((resource, uid), ())))
            for resource in CHILDREN
        )
        return Seen(
            tuple(job for job in jobs if owned_by(job, uid)),
            tuple(deployment for deployment in deployments if owned_by(deployment, uid)),
            pods,
        )


def run_uid(manifest: Object) -> str:
    """The uid of the run that an object belongs to; of a run, its own."""
    metadata = manifest["metadata"]
    return str(metadata.get("labels", {}).get(RUN_UID, "") or metadata["uid"])


def _place(resource: Resource, manifest: Object) -> tuple[Resource, str, str]:
    metadata = manifest["metadata"]
    return resource, metadata.get("namespace", ""), metadata["name"]


def _version(manifest: Object) -> int:
    """Versions of one resource are comparable as numbers (KEP 5504, Kubernetes 1.35)."""
    return int(manifest["metadata"].get("resourceVersion") or 0)


def _slim(resource: Resource, manifest: Object) -> Object:
    metadata = {
        name: value
        for name, value in manifest["metadata"].items()
        if name not in ("managedFields", "finalizers")
    }
    slim = {**manifest, "metadata": metadata}
    match resource:
        case _ if resource == PODS:
            slim["spec"] = {"nodeName": manifest.get("spec", {}).get("nodeName", "")}
        case _ if resource in (JOBS, DEPLOYMENTS):
            slim["spec"] = {name: value for name, value in manifest["spec"].items() if name != "template"}
    return {sys.intern(name): _shared(value) for name, value in slim.items()}


def _shared(value: Any) -> Any:
    """A JSON value whose strings are held once: the same names and words are in every object."""
    if isinstance(value, dict):
        return {sys.intern(name): _shared(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_shared(item) for item in value]
    return sys.intern(value) if isinstance(value, str) else value
