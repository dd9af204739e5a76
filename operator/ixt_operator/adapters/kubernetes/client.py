"""The API server as the operator uses it: a few verbs, each under a deadline, with one kind of error.

kubernetes.aio makes the requests (kubeconfig, tokens that change, TLS). Nothing is retried here, since the
queue does that.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import aiohttp
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException

from ixt_operator.render.names import MANAGER

Object = dict[str, Any]

TIMEOUT_SECONDS = 15.0
PAGE = 500
"""Objects of one page of a list."""


class Resource(NamedTuple):
    """A kind of object, as paths name it."""

    group_version: str
    plural: str

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Path below the server's root."""
        root = "/api/v1" if self.group_version == "v1" else f"/apis/{self.group_version}"
        space = f"/namespaces/{namespace}" if namespace else ""
        tail = "".join(f"/{part}" for part in (self.plural, name, subresource) if part)
        return f"{root}{space}{tail}"


RUNS = Resource("ixt.dev/v1alpha1", "ixtruns")
RUNTIMES = Resource("ixt.dev/v1alpha1", "ixtruntimes")
JOBS = Resource("batch/v1", "jobs")
DEPLOYMENTS = Resource("apps/v1", "deployments")
PODS = Resource("v1", "pods")
SERVICES = Resource("v1", "services")
CONFIG_MAPS = Resource("v1", "configmaps")
EVENTS = Resource("v1", "events")
LEASES = Resource("coordination.k8s.io/v1", "leases")

_BY_KIND = {
    "Job": JOBS,
    "Deployment": DEPLOYMENTS,
    "Service": SERVICES,
    "ConfigMap": CONFIG_MAPS,
    "Event": EVENTS,
    "Lease": LEASES,
    "IXTRun": RUNS,
}

_OWNERS = (RUNS, JOBS, DEPLOYMENTS)
"""What owns other objects."""


class Listing(list[Object]):
    """A list of objects, and the version of the API server's store that it shows."""

    def __init__(self, objects: Iterable[Object] = (), version: int = 0) -> None:
        super().__init__(objects)
        self.version = version


def resource_of(manifest: Mapping[str, Any]) -> Resource:
    """The resource of an object that the operator writes."""
    return _BY_KIND[manifest["kind"]]


class ApiError(Exception):
    """A request that did not succeed. `status` is HTTP's, 0 when no answer came."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        """Seconds that the server asks to wait."""

    @property
    def refused(self) -> bool:
        """The server refused the request: the same one is refused again until something changes on the
        cluster."""
        return self.status in (400, 403, 404, 405, 413, 422)


class Client:
    """The verbs. Objects are plain JSON values.

    `fence` is called before every write; it raises when this process may not write any more. `seen` is told
    the method and the HTTP status of every request, 0 when no answer came. A request that is not answered
    within `timeout` seconds failed.
    """

    def __init__(
        self,
        api: ApiClient,
        fence: Callable[[], None] = lambda: None,
        seen: Callable[[str, int], None] = lambda method, status: None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self._api = api
        self._fence = fence
        self._seen = seen
        self._timeout = timeout

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """An object; None when there is none."""
        try:
            return await self.request("GET", resource.path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Listing:
        """All objects of a namespace, or of all of them, page by page."""
        query = {"labelSelector": labels, "fieldSelector": fields}
        found = Listing()
        token = ""
        while True:
            page = await self.request(
                "GET", resource.path(namespace), query={**query, "limit": str(PAGE), "continue": token}
            )
            found += page["items"]
            found.version = int(page["metadata"].get("resourceVersion") or 0)
            token = page["metadata"].get("continue", "")
            if not token:
                return found

    async def create(self, manifest: Object) -> Object | None:
        """Create an object; None when one of its name is there already."""
        path = resource_of(manifest).path(manifest["metadata"].get("namespace", ""))
        try:
            return await self.request("POST", path, manifest, query={"fieldManager": MANAGER})
        except ApiError as error:
            if error.status == 409 and error.reason == "AlreadyExists":
                return None
            raise

    async def apply(self, manifest: Object) -> Object:
        """Server-side apply: create an object, or change its fields to these; those of ours that are left out
        are removed."""
        metadata = manifest["metadata"]
        return await self.request(
            "PATCH",
            resource_of(manifest).path(metadata.get("namespace", ""), metadata["name"]),
            manifest,
            query={"fieldManager": MANAGER, "force": "true"},
            content_type="application/apply-patch+yaml",
        )

    async def replace(self, manifest: Object, subresource: str = "") -> Object:
        """Write an object that was read before. Raises ApiError 409 if it has changed since."""
        metadata = manifest["metadata"]
        path = resource_of(manifest).path(metadata.get("namespace", ""), metadata["name"], subresource)
        return await self.request("PUT", path, manifest, query={"fieldManager": MANAGER})

    async def merge(
        self, resource: Resource, namespace: str, name: str, patch: Object, subresource: str = ""
    ) -> Object | None:
        """Change some fields of an object; None when it is gone."""
        try:
            return await self.request(
                "PATCH",
                resource.path(namespace, name, subresource),
                patch,
                query={"fieldManager": MANAGER},
                content_type="application/merge-patch+json",
            )
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        version: str = "",
        grace: int | None = None,
    ) -> None:
        """Delete an object; one that owns others stays until they are gone.

        With `uid` or `version`, only the object of that uid or resource version is deleted. It is no error
        when it is gone, or another object has its name. Raises ApiError 409 when it is of another version.
        """
        options: Object = {"propagationPolicy": "Foreground" if resource in _OWNERS else "Background"}
        asked = {"uid": uid, "resourceVersion": version}
        if preconditions := {name: value for name, value in asked.items() if value}:
            options["preconditions"] = preconditions
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            await self.request("DELETE", resource.path(namespace, name), options)
        except ApiError as error:
            if error.status == 409:
                found = await self.get(resource, namespace, name)
                if found and found["metadata"]["uid"] == uid:
                    raise  # it is still there: the conflict was another one
            elif error.status != 404:
                raise

    async def request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        """One request. Raises ApiError."""
        if method != "GET":
            self._fence()
        parameters = [(name, value) for name, value in (query or {}).items() if value]
        headers = {"Accept": "application/json", "Content-Type": content_type}
        status = 0
        try:
            async with asyncio.timeout(self._timeout):
                request = await self._api.param_serialize(
                    method, path, query_params=parameters, header_params=headers, body=body,
                    auth_settings=["BearerToken"],
                )  # fmt: skip
                limit = aiohttp.ClientTimeout(total=self._timeout)
                answer = await self._api.call_api(*request, _request_timeout=limit)
                text: bytes = await answer.read()  # type: ignore[no-untyped-call]
            status = answer.status
        except ApiException as error:
            raise ApiError(error.status or 0, error.reason or "", str(error.reason)) from None
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            said = f"{type(error).__name__} {error}".strip()
            raise ApiError(
                0, "Unreachable", f"{method} {path}: no answer from the API server ({said})"
            ) from None
        finally:
            self._seen(method, status)
        return _answer(method, path, status, answer.headers, text)


def _answer(method: str, path: str, status: int, headers: Mapping[str, str], text: bytes) -> Object:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if 200 <= status < 300 and isinstance(value, dict):
        return value
    said = value if isinstance(value, dict) else {}
    message = str(said.get("message") or text[:200].decode(errors="replace") or f"HTTP {status}")
    raise ApiError(
        0 if 200 <= status < 300 else status,
        str(said.get("reason") or ""),
        f"{method} {path}: {message}",
        float(after) if (after := headers.get("Retry-After", "")).isdecimal() else 0.0,
    )


def owned_by(manifest: Mapping[str, Any], uid: str) -> bool:
    """Whether an object belongs to the run with this uid."""
    owners: Iterable[Mapping[str, Any]] = manifest["metadata"].get("ownerReferences", ())
    return any(owner.get("uid") == uid for owner in owners)
