"""Garbage: artifacts that no run needs, unfinished work that nobody continues, claims that nobody holds.

Marks are runs/<uid>/<stage>.json, {"keys": [...], ...}: a stage's file must be there before its steps look
for artifacts, and the folder goes when the run is deleted. A run needs what any of its stages names. Age
protects what a run that is just starting may reuse.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from ixt_workloads.store.base import ObjectInfo, Store
from ixt_workloads.store.errors import StoreError
from ixt_workloads.store.manifest import MANIFEST

Kind = Literal["Artifact", "Work", "Claim"]


@dataclass(frozen=True)
class Garbage:
    """One thing to delete."""

    kind: Kind
    path: str
    """Its folder."""
    size: int
    """Bytes."""
    modified: datetime
    """When the newest of its files was written."""


def plan_gc(store: Store, older_than: timedelta, now: datetime | None = None) -> list[Garbage]:
    """What nobody refers to and nobody wrote to for `older_than`. Deletes nothing.

    Raises StoreError when a run's marks cannot be read: then everything may be in use.
    """
    marks = _marks(store)
    before = (now or datetime.now(UTC)) - older_than
    artifacts = list(_folders(store, "artifacts", 2))
    done = {_key(folder) for folder, infos in artifacts if f"{folder}/{MANIFEST}" in {i.path for i in infos}}
    used = set().union(*marks.values())
    found = [_garbage("Artifact", *item) for item in artifacts if _key(item[0]) not in used]
    found += [
        _garbage("Work", folder, infos)
        for folder, infos in _folders(store, "work", 3)
        if _key(folder) in done or not _continued(folder, marks)
    ]
    found += [_garbage("Claim", *item) for item in _folders(store, "claims", 2)]
    return [item for item in found if item.modified < before]


def sweep(store: Store, garbage: Iterable[Garbage]) -> Iterator[Garbage]:
    """Delete what was planned unless it came into use since, yielding each as it is gone.

    Manifests go first: an artifact that is only half deleted must not look whole.
    """
    planned = list(garbage)
    used = set().union(*_marks(store).values())
    for item in planned:
        if item.kind == "Artifact" and _key(item.path) in used:
            continue
        if any(info.modified > item.modified for info in store.list(item.path)):
            continue
        if item.kind == "Artifact":
            store.delete(f"{item.path}/{MANIFEST}")
        store.delete_tree(item.path)
        yield item


def _marks(store: Store) -> dict[str, set[str]]:
    """Keys that each run needs, by the run's uid."""
    marks: dict[str, set[str]] = defaultdict(set)
    for info in store.list("runs"):
        try:
            keys = set(json.loads(store.get(info.path))["keys"])
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{store.uri}/{info.path} does not say which artifacts its run needs",
                "delete it if that run is gone; nothing is swept before",
            ) from error
        marks[info.path.split("/")[1]] |= keys
    return marks


def _continued(folder: str, marks: dict[str, set[str]]) -> bool:
    """Whether the run that owns a folder work/<key>/<uid> still needs the key."""
    return any(_key(folder) in marks.get(uid, ()) for uid in folder.split("/")[2:])


def _folders(store: Store, top: str, depth: int) -> Iterator[tuple[str, list[ObjectInfo]]]:
    groups: dict[str, list[ObjectInfo]] = defaultdict(list)
    for info in store.list(top):
        groups["/".join(info.path.split("/")[:depth])].append(info)
    yield from groups.items()


def _garbage(kind: Kind, folder: str, infos: list[ObjectInfo]) -> Garbage:
    return Garbage(kind, folder, sum(info.size for info in infos), max(info.modified for info in infos))


def _key(folder: str) -> str:
    return folder.split("/")[1]
