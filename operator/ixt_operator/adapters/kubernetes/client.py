"""The API server as the operator uses it: a few verbs, each under a deadline, with one kind of error.

kubernetes.aio makes the requests (kubeconfig, tokens that change, TLS). Nothing is retried here, since the
queue does that.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import aiohttp
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException

from ixt_operator.render import names
from ixt_operator.render.names import MANAGER
from ixt_workloads.contract.foreign import answer_of, listed, values_of

Object = names.Object

TIMEOUT_SECONDS = 15.0
PAGE = 20
"""Objects of one page of a list. Each may have a megabyte and a half."""
MOST_VALUES = 300_000
"""Values of a page that is built at once; of one with more each object is built by itself."""


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
NODES = Resource("v1", "nodes")
NAMESPACES = Resource("v1", "namespaces")
LEASES = Resource("coordination.k8s.io/v1", "leases")

_OWNERS = (RUNS, JOBS, DEPLOYMENTS)
"""What owns other objects."""


class Listing(list[Object]):
    """A list of objects, and the version of the API server's store that it shows."""

    def __init__(self, objects: Iterable[Object] = (), version: int = 0) -> None:
        super().__init__(objects)
        self.version = version


_PATH = re.compile(
    r"/(?:api/v1|apis/[^/]+/[^/]+)(?:/namespaces/[^/]+)?/(?P<plural>[^/]+)"
    r"(?P<name>/[^/]+(?P<subresource>/[^/]+)?)?"
)


def verb_of(method: str, path: str, *, watch: bool = False) -> tuple[str, str]:
    """Verb and resource of a request, in Kubernetes' words: get, list, watch, create, update, patch or
    delete; and for example jobs or ixtruns/status."""
    found = _PATH.fullmatch(path)
    resource = found["plural"] + (found["subresource"] or "") if found else ""
    verbs = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
    reads = "watch" if watch else "get" if found is None or found["name"] else "list"
    return verbs.get(method, reads), resource


def resource_of(manifest: Mapping[str, Any]) -> Resource:
    """The resource of an object that the operator writes."""
    kind = manifest["kind"].lower()
    return Resource(manifest["apiVersion"], f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s")


CLOCK_SECONDS = 2.0
"""Clocks that differ by less are taken for equal."""


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
    of every request the verb, the resource, the HTTP status, 0 when no answer came, and the seconds that it
    took. A request that is not answered within `timeout` seconds failed.
    """

    def __init__(
        self,
        api: ApiClient,
        fence: Callable[[], None] = lambda: None,
        seen: Callable[[str, str, int, float], None] = lambda verb, resource, status, seconds: None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self._api = api
        self._fence = fence
        self._seen = seen
        self._timeout = timeout
        self._ahead = 0.0
        """Seconds that the API server's clock is ahead of ours."""

    def now(self) -> float:
        """Unix seconds by the API server's clock: other times of objects are compared with no other. To a
        second or two, as it tells its time in whole seconds."""
        return time.time() + self._ahead

    def _hear(self, date: str) -> None:
        """Take note of the API server's time, as an answer's header tells it."""
        try:
            ahead = parsedate_to_datetime(date).timestamp() + 0.5 - time.time()
        except ValueError:
            return
        if abs(ahead - self._ahead) > CLOCK_SECONDS:
            self._ahead = ahead if abs(ahead) > CLOCK_SECONDS else 0.0

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """An object; None when there is none."""
        return await self._if_there(self.request("GET", resource.path(namespace, name)))

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        take: Callable[[Object], Object] = lambda found: found,
    ) -> Listing:
        """All objects of a namespace, or of all of them, page by page. Of each, what `take` makes of it is
        kept, before the next page is asked for."""
        found = Listing()
        async for page in self.pages(resource, namespace, labels=labels, fields=fields, take=take):
            found += page
            found.version = page.version
        return found

    async def pages(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        take: Callable[[Object], Object] = lambda found: found,
    ) -> AsyncIterator[Listing]:
        """The same, a page at a time: what of it is not needed takes no memory while the next is read."""
        query = {"labelSelector": labels, "fieldSelector": fields}
        token = ""
        while True:
            page = await self.request(
                "GET",
                resource.path(namespace),
                query={**query, "limit": str(PAGE), "continue": token},
                take=take,
            )
            yield Listing(map(take, page["items"]), int(page["metadata"].get("resourceVersion") or 0))
            token = page["metadata"].get("continue", "")
            if not token:
                return

    async def create(self, manifest: Object) -> Object | None:
        """Create an object; None when one of its name is there already. A field that the API server does not
        know is refused, not dropped: of the pods' fields some are a user's."""
        path = resource_of(manifest).path(manifest["metadata"].get("namespace", ""))
        try:
            return await self.request("POST", path, manifest, query={"fieldValidation": "Strict"})
        except ApiError as error:
            if error.status == 409 and error.reason == "AlreadyExists":
                return None
            raise

    async def apply(self, manifest: Object) -> Object:
        """Server-side apply: create an object, or change its fields to these; those of ours that are left out
        are removed."""
        return await self.request(
            "PATCH",
            _path(manifest),
            manifest,
            query={"force": "true"},
            content_type="application/apply-patch+yaml",
        )

    async def replace(self, manifest: Object, subresource: str = "") -> Object:
        """Write an object that was read before. Raises ApiError 409 if it has changed since."""
        return await self.request("PUT", _path(manifest, subresource), manifest)

    async def merge(
        self, resource: Resource, namespace: str, name: str, patch: Object, subresource: str = ""
    ) -> Object | None:
        """Change some fields of an object; None when it is gone."""
        path = resource.path(namespace, name, subresource)
        merged = "application/merge-patch+json"
        return await self._if_there(self.request("PATCH", path, patch, content_type=merged))

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

    async def _if_there(self, request: Awaitable[Object]) -> Object | None:
        """The answer to a request; None when there is no such object."""
        try:
            return await request
        except ApiError as error:
            if error.status == 404:
                return None
            raise

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
        """One request. Of a large list of objects each is what `take` makes of it. Raises ApiError."""
        if method != "GET":
            self._fence()
        given = dict(query or {})
        if method not in ("GET", "DELETE"):
            given["fieldManager"] = MANAGER
        parameters = [(name, value) for name, value in given.items() if value]
        headers = {"Accept": "application/json", "Content-Type": content_type}
        status, started = 0, time.monotonic()
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
            status = error.status or 0
            raise ApiError(status, error.reason or "", str(error.reason)) from None
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            said = f"{type(error).__name__} {error}".strip()
            raise ApiError(
                0, "Unreachable", f"{method} {path}: no answer from the API server ({said})"
            ) from None
        finally:
            self._seen(*verb_of(method, path), status, time.monotonic() - started)
        self._hear(answer.headers.get("Date", ""))
        try:
            value = await value_of(text, take)
        except ValueError:
            value = None
        return _answer(method, path, status, answer.headers, text, value)


def _path(manifest: Object, subresource: str = "") -> str:
    metadata = manifest["metadata"]
    return resource_of(manifest).path(metadata.get("namespace", ""), metadata["name"], subresource)


async def value_of(text: bytes, take: Callable[[Object], Object] | None) -> Any:
    """The value of an answer. A large list of objects is built in a thread, of each what `take` makes of it.
    Raises ValueError for what is no JSON."""
    if take is None or values_of(text) <= MOST_VALUES:
        return answer_of(text)
    return await asyncio.to_thread(listed, text, take)


def _answer(
    method: str, path: str, status: int, headers: Mapping[str, str], text: bytes, value: Any
) -> Object:
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
