"""A cache of what the watches saw last: the objects of every run, and the runs and runtimes themselves.

Observations are made from it. It may lag behind the API server, but what this process writes is put in at
once. Of each object only what is read is kept, so that a thousand runs take little memory.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ixt_operator.adapters.kubernetes.client import (
    DEPLOYMENTS,
    JOBS,
    PODS,
    RUNS,
    Listing,
    Object,
    Resource,
    owned_by,
    verb_of,
)
from ixt_operator.adapters.kubernetes.pod import INDEX
from ixt_operator.adapters.kubernetes.translate import Seen
from ixt_operator.api.meta import GROUP
from ixt_operator.api.pods import within_bounds
from ixt_operator.api.run import KEEP_CHILDREN, TAKE_OVER
from ixt_operator.render.names import AVOIDS, CHILD, KUEUE, QUEUE, RUN_UID

CHILDREN = (JOBS, DEPLOYMENTS, PODS)

_FIELDS = ("apiVersion", "kind", "spec", "status")
_METADATA = (
    "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
    "deletionGracePeriodSeconds", "ownerReferences",
)  # fmt: skip
_LABELS = (f"{GROUP}/", "app.kubernetes.io/", "batch.kubernetes.io/", QUEUE, "pod-template-hash")
"""Beginnings of the labels that are read."""
_ANNOTATIONS = (INDEX, AVOIDS, KEEP_CHILDREN, TAKE_OVER)
_SPEC = ("suspend", "parallelism", "completions", "replicas", "progressDeadlineSeconds")

MOST_LABELS = 64
"""Labels of a run that are kept, and annotations of an object."""

MOST_CONTAINERS = 64
"""Containers of a pod that are kept."""

WORD_LENGTH = 64
"""Characters of the longest string that is held once for all objects; longer ones are seldom equal."""


Place = tuple[Resource, str, str]
"""A resource, a namespace, and the name of an object or the uid of its run."""


class Cache:
    """Objects by resource and uid, and the children's also by their run."""

    def __init__(self) -> None:
        self._objects: dict[Resource, dict[str, Object]] = defaultdict(dict)
        self._of_run: dict[Place, set[str]] = defaultdict(set)
        self._named: dict[Place, str] = {}
        self._gone: dict[str, int] = {}
        """Uids of deleted objects, with the version at which each was: a list that was begun before has
        them."""
        self._gone_before: dict[str, int] = {}
        """The same from before the last `renew`."""
        self._words: dict[str, str] = {}

    def renew(self) -> None:
        """Forget objects that were deleted before the last call, and words that no object has any more. To be
        called before everything is listed."""
        self._gone, self._gone_before = {}, self._gone
        self._words = {}

    def put(self, resource: Resource, manifest: Object) -> bool:
        """Take an object, unless a newer version of it is there or was deleted; whether it was news."""
        uid, version = manifest["metadata"]["uid"], _version(manifest)
        if version <= max(self._gone.get(uid, -1), self._gone_before.get(uid, -1)):
            return False
        old = self._objects[resource].get(uid)
        if old is not None and _version(old) > version:
            return False
        news = old is None or _version(old) < version
        self._remove(resource, uid)  # its labels may have been others
        self._objects[resource][uid] = _shared(slim(resource, manifest), self._words)
        self._of_run[_group(resource, manifest)].add(uid)
        self._named[_place(resource, manifest)] = uid
        return news

    def drop(self, resource: Resource, manifest: Object, successor: Object | None = None) -> None:
        """Forget an object that is gone, and take none of its versions again that are older than `successor`,
        the object that has its name now, or than itself."""
        uid = manifest["metadata"]["uid"]
        self._remove(resource, uid)
        self._gone[uid] = _version(successor or manifest)

    def replace(self, resource: Resource, listing: Listing, namespace: str = "", run: str = "") -> None:
        """Take a list of all objects of a namespace or of all, of one run (its uid) or of all. What it lacks
        is gone, unless it is newer than the list."""
        listed = {manifest["metadata"]["uid"] for manifest in listing}
        objects = self._objects[resource]
        if run:
            known = set(self._of_run.get((resource, namespace, run), ()))
        else:
            known = {
                uid for uid, each in objects.items() if namespace in ("", each["metadata"].get("namespace"))
            }
        for uid in known - listed:
            if _version(objects[uid]) <= listing.version:
                self._remove(resource, uid)
                self._gone[uid] = listing.version
        for manifest in listing:
            self.put(resource, manifest)

    def all(self, resource: Resource) -> list[Object]:
        """All objects of a resource."""
        return list(self._objects[resource].values())

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """One object by its name."""
        uid = self._named.get((resource, namespace, name))
        return self._objects[resource].get(uid) if uid else None

    def of_run(self, namespace: str, uid: str) -> Seen:
        """The objects of a run's children. Copies that somebody made, which have the run's label but not its
        ownership, are left out."""
        jobs, deployments, pods = (
            [
                self._objects[resource][each]
                for each in sorted(self._of_run.get((resource, namespace, uid), ()))
            ]
            for resource in CHILDREN
        )
        own = tuple(job for job in jobs if owned_by(job, uid))
        uids = {job["metadata"]["name"]: job["metadata"]["uid"] for job in own}
        return Seen(
            own,
            tuple(deployment for deployment in deployments if owned_by(deployment, uid)),
            tuple(pod for pod in pods if _is_childs(pod, uids)),
        )

    def _remove(self, resource: Resource, uid: str) -> None:
        """Remove an object from where it was put, by its labels and name of that time."""
        stored = self._objects[resource].pop(uid, None)
        if stored is None:
            return
        if self._named.get(_place(resource, stored)) == uid:
            del self._named[_place(resource, stored)]
        members = self._of_run[_group(resource, stored)]
        members.discard(uid)
        if not members:
            del self._of_run[_group(resource, stored)]


def run_uid(manifest: Object) -> str:
    """The uid of the run that an object belongs to; of a run, its own."""
    metadata = manifest["metadata"]
    return str(metadata.get("labels", {}).get(RUN_UID, "") or metadata["uid"])


def _group(resource: Resource, manifest: Object) -> Place:
    return resource, manifest["metadata"].get("namespace", ""), run_uid(manifest)


def _place(resource: Resource, manifest: Object) -> Place:
    metadata = manifest["metadata"]
    return resource, metadata.get("namespace", ""), metadata["name"]


def _version(manifest: Object) -> int:
    """Versions of one resource are comparable as numbers (KEP 5504, Kubernetes 1.35)."""
    return int(manifest["metadata"].get("resourceVersion") or 0)


def slim(resource: Resource, manifest: Object) -> Object:
    """The parts of an object that are read: what else tenants write into their objects takes no memory. Of
    these parts it makes the same again."""
    kept = {name: value for name, value in manifest.items() if name in _FIELDS}
    metadata = manifest["metadata"]
    kept["metadata"] = {name: metadata[name] for name in _METADATA if name in metadata}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    # Those of a run may go onto what is made for it (`passed_on`).
    of_run = dict(list(labels.items())[:MOST_LABELS]) if resource == RUNS else {}
    if found := of_run | {name: value for name, value in labels.items() if name.startswith(_LABELS)}:
        kept["metadata"]["labels"] = found
    if read := [name for name in annotations if name in _ANNOTATIONS or name.startswith(KUEUE)]:
        found = {name: annotations[name][:WORD_LENGTH] for name in read[:MOST_LABELS]}
        kept["metadata"]["annotations"] = found
    # Of these only when the status was written last (conditions.py).
    entries = [each for each in metadata.get("managedFields", ()) if each.get("subresource") == "status"]
    if entries and resource in CHILDREN:
        last = max(str(each.get("time", "")) for each in entries)
        kept["metadata"]["managedFields"] = [{"subresource": "status", "time": last}]
    if resource == RUNS and "finalizers" in metadata:
        kept["metadata"]["finalizers"] = metadata["finalizers"]
    if resource == RUNS and "pods" in manifest.get("spec", {}):
        kept["spec"] = manifest["spec"] | {"pods": within_bounds(manifest["spec"]["pods"])}
    if resource == PODS:
        spec = manifest.get("spec", {})
        shown = ("resources", "ports") if spec.get("hostNetwork") else ("resources",)
        containers = spec.get("containers", ())[:MOST_CONTAINERS]
        asked = [{name: each.get(name, {}) for name in shown} for each in containers]
        kept["spec"] = {"nodeName": spec.get("nodeName", ""), "containers": asked}
        if spec.get("hostNetwork"):
            kept["spec"]["hostNetwork"] = True
        if "activeDeadlineSeconds" in spec:
            kept["spec"]["activeDeadlineSeconds"] = spec["activeDeadlineSeconds"]
    elif resource in (JOBS, DEPLOYMENTS):
        kept["spec"] = {name: manifest["spec"][name] for name in _SPEC if name in manifest["spec"]}
    return kept


def slimmer(path: str) -> Callable[[Object], Object]:
    """What `slim` makes of objects that are read at a path of the API server; others stay as they are."""
    plural = verb_of("GET", path)[1]
    return next((partial(slim, each) for each in (*CHILDREN, RUNS) if each.plural == plural), lambda it: it)


def _shared(value: Any, words: dict[str, str]) -> Any:
    """A JSON value whose strings are held once, since most are in every object. (sys.intern does not do: in
    some releases of Python 3.12 what is interned stays for ever.)"""
    if isinstance(value, dict):
        return {words.setdefault(name, name): _shared(item, words) for name, item in value.items()}
    if isinstance(value, list):
        return [_shared(item, words) for item in value]
    return words.setdefault(value, value) if isinstance(value, str) and len(value) <= WORD_LENGTH else value


def _is_childs(pod: Object, jobs: Mapping[str, str]) -> bool:
    """Whether a pod was made for a child of a run, not copied with its labels. `jobs` are the run's Jobs,
    uids by name; the child's own may be gone."""
    metadata = pod["metadata"]
    labels = metadata.get("labels", {})
    owners: list[Object] = metadata.get("ownerReferences", [])
    owner = next((each for each in owners if each.get("controller")), {})
    match owner.get("kind"):
        case "Job" if owner["name"] in jobs:
            return bool(owner["uid"] == jobs[owner["name"]])
        case "Job":
            return bool(owner["name"] == labels.get(CHILD))
        case "ReplicaSet":
            return bool(owner["name"] == f"{labels.get(CHILD)}-{labels.get('pod-template-hash')}")
    return False
