"""A double of the API server for the operator's client: it keeps objects, and versions and uids as the real
one does. There are no controllers; tests play them. What a real one says: tests/cluster/on_control_plane."""

import copy
import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from kubernetes.aio.client import ApiClient

from ixt_operator.adapters.kubernetes.client import ApiError, Client, Object
from make.objects import time

PATH = re.compile(
    r"(/api/v1|/apis/[^/]+/[^/]+)(/namespaces/(?P<space>[^/]+))?/(?P<plural>[^/]+)"
    r"(/(?P<name>[^/]+)(/(?P<part>status))?)?"
)


class Api(Client):
    """A client whose requests are answered here."""

    def __init__(self) -> None:
        super().__init__(cast(ApiClient, None))
        self.objects: dict[str, Object] = {}
        """By path."""
        self.calls: list[tuple[str, str]] = []
        """Method and last part of the path of every request."""
        self.refused: dict[tuple[str, str], ApiError] = {}
        """What methods on which resources (plural) are answered with."""
        self.forbids_writes = False
        self._versions = itertools.count(100)

    def put(self, manifest: Object, path: str) -> Object:
        """Have an object, as of now; what it is."""
        metadata = {"uid": f"uid-of-{path}", "creationTimestamp": time(), **manifest["metadata"]}
        metadata["resourceVersion"] = str(next(self._versions))
        self.objects[path] = copy.deepcopy({**manifest, "metadata": metadata})
        return copy.deepcopy(self.objects[path])

    async def request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        take: Callable[[Object], Object] | None = None,
    ) -> Object:
        found = PATH.fullmatch(path)
        assert found, path
        plural, name, part = found["plural"], found["name"], found["part"]
        self.calls.append((method, "/".join(each for each in (plural, name, part) if each)))
        if error := self.refused.get((method, plural)):
            raise error
        body = copy.deepcopy(body or {})
        if plural == "selfsubjectaccessreviews":
            return {"status": {"allowed": not self.forbids_writes}}
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                raise ApiError(409, "AlreadyExists", f"{path} already exists")
            body["metadata"]["uid"] = f"uid-{next(self._versions)}"
            return self.put(body, path)
        if name is None:
            return self._list(path, query or {})
        place = path.removesuffix("/status") if part else path
        old = self.objects.get(place)
        if "apply-patch" in content_type:
            return self.put(body, place)
        if old is None:
            raise ApiError(404, "NotFound", f"{place} not found")
        if method == "DELETE":
            return self._delete(place, old, body)
        if method == "PATCH":
            if not _same(body, old):
                raise ApiError(409, "Conflict", f"{place} has changed")
            return self.put(merged(old, body), place)
        if method == "PUT":
            same = [
                body["metadata"].get(field) == old["metadata"][field] for field in ("uid", "resourceVersion")
            ]
            if not all(same):
                raise ApiError(409, "Conflict", f"{place} has changed")
            return self.put({**old, "status": body["status"]} if part else body, place)
        return copy.deepcopy(old)

    def _list(self, path: str, query: Mapping[str, str]) -> Object:
        wanted = dict(each.split("=") for each in query.get("labelSelector", "").split(",") if each)
        found = [
            copy.deepcopy(each)
            for place, each in self.objects.items()
            if _is_in(place, path) and wanted.items() <= each["metadata"].get("labels", {}).items()
        ]
        return {"items": found, "metadata": {"resourceVersion": str(next(self._versions))}}

    def _delete(self, path: str, old: Object, options: Object) -> Object:
        """Foreground: it stays until the garbage collector, which is not here, is done."""
        if not options.get("preconditions", {}).items() <= old["metadata"].items():
            raise ApiError(409, "Conflict", f"{path} is another")
        if options["propagationPolicy"] == "Foreground":
            return self.put({**old, "metadata": {**old["metadata"], "deletionTimestamp": time()}}, path)
        return self.objects.pop(path)


def merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    old = old if isinstance(old, dict) else {}
    changed = {name: merged(old.get(name), value) for name, value in patch.items() if value is not None}
    return {**{name: value for name, value in old.items() if name not in patch}, **changed}


def _same(patch: Object, old: Object) -> bool:
    """Whether a patch, if it names a uid and a version, names those of the object."""
    given = patch.get("metadata", {})
    return all(
        given.get(field, old["metadata"][field]) == old["metadata"][field]
        for field in ("uid", "resourceVersion")
    )


def _is_in(path: str, collection: str) -> bool:
    """Whether an object is listed there: a collection without a namespace has those of all."""
    place, _, _ = path.rpartition("/")
    return collection in (place, re.sub("/namespaces/[^/]+", "", place))
