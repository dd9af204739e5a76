"""What the leader runs: kopf, whose handlers only take objects into the cache and runs into the queue, and
the workers that look at runs."""

import asyncio
import itertools
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import kopf

from ixt_operator.adapters.kubernetes.cache import CHILDREN, Cache, slim
from ixt_operator.adapters.kubernetes.client import PAGE, RUNS, RUNTIMES, ApiError, Client, Object, Resource
from ixt_operator.adapters.kubernetes.explaining import Explainer
from ixt_operator.controller import exporter
from ixt_operator.controller.connecting import Login
from ixt_operator.controller.look import RunName, Runs
from ixt_operator.controller.poll import Progresses
from ixt_operator.controller.queue import Behind, Queue, Retry, backoff
from ixt_operator.controller.queues import Positions
from ixt_operator.controller.scrape import RunSeries
from ixt_operator.render.names import MANAGED_BY, MANAGER, RUN
from ixt_operator.render.network import Network

log = logging.getLogger("ixt")

WORKERS = 16
OURS = f"{MANAGED_BY}={MANAGER}"
UNSERVED_SECONDS = 15.0
"""Between two tries to serve a namespace that forbids it, and between two times that it is asked whether it
does.
"""
REVIEWS = Resource("authorization.k8s.io/v1", "selfsubjectaccessreviews")


class Operator:
    """What one leader holds: what it watches, the cache, and the queue."""

    def __init__(
        self,
        client: Client,
        namespaces: tuple[str, ...],
        resync_seconds: float,
        ttl: int | None = None,
        network: Network | None = None,
    ) -> None:
        """`ttl`: ttlSecondsAfterFinished of runs that set none. `network`: for NetworkPolicies of each run;
        without it none are made."""
        self.client = client
        self.resync_seconds = resync_seconds
        self.namespaces = namespaces
        self.cache = Cache()
        self.queue: Queue[RunName] = Queue()
        self.progress = Progresses(exporter.count_refused, client.now)
        self.positions = Positions()
        self.explainer = Explainer(client, self.cache, lambda *run: self.queue.add(RunName(*run)))
        self.runs = Runs(client, self.cache, self.progress, self.explainer, ttl, network)
        self.series = RunSeries(self.cache, self.progress, self.positions, exporter.count_refused)
        self._listed_at: float | None = None
        """When everything was listed last, by the monotonic clock."""
        self.unserved: set[str] = set()
        """Namespaces that cannot be listed, or written to. Their runs are not looked at."""
        self._suspected: set[str] = set()
        """Namespaces of which something was forbidden just now."""
        self._suspicion = asyncio.Event()
        self._asked_at: dict[str, float] = {}
        """When each of several namespaces was listed last, by the monotonic clock."""

    @property
    def in_sync(self) -> bool:
        """Whether everything was listed lately, but for namespaces that cannot be."""
        at = self._listed_at
        return at is not None and time.monotonic() < at + 3 * self.resync_seconds

    async def work(self) -> None:
        """List what there is, then look at runs until kopf hears a signal, which it answers itself."""
        await self.first_sync()
        await first_of(
            self.watch(),
            self.progress.keep(self.cache, self.enqueue_owner),
            self.positions.keep(self.client, self.cache),
            self.explainer.keep(),
            self.keep_in_sync(),
            *(self.queue.work(self.look) for _ in range(WORKERS)),
        )

    async def look(self, key: RunName) -> float | Behind | None:
        """Look at a run, unless of what there is in its namespace only a part may be known."""
        if key.namespace in self.unserved:
            return None
        try:
            return await self.runs.look(key)
        except Retry as retry:
            if retry.forbidden:
                self.suspect(key.namespace)
            raise

    def suspect(self, space: str) -> None:
        """Something of a namespace was forbidden, by a quota or since its rights are gone: it is asked soon
        which."""
        if space in self.namespaces and space not in self.unserved:
            self._suspected.add(space)
            self._suspicion.set()

    async def watch(self) -> None:
        """kopf, whose handlers only enqueue."""
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        settings.scanning.disabled = True
        settings.watching.chunk_size = PAGE  # else it lists all of a kind at once
        settings.persistence.diffbase_storage = _NoDiffs()
        settings.queueing.idle_timeout = 0.1  # for so long kopf keeps an object's last event
        settings.networking.error_backoffs = _Backoffs()
        for plural in ("pods", "jobs.batch", "deployments.apps"):
            settings.watching.label_selectors[plural] = OURS
        await kopf.operator(
            registry=self.registry(),
            settings=settings,
            standalone=True,
            # Left to itself kopf asks for the user's name, and in a pod the user id may have none.
            identity=MANAGER,  # type: ignore[arg-type]  # its NewType of str is not public
            clusterwide=not self.namespaces,
            namespaces=self.namespaces,
        )

    def registry(self) -> kopf.OperatorRegistry:
        """kopf's handlers: one for each kind of object."""
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(Login(self.suspect).__call__)
        handlers: dict[Resource, Callable[[Object], None]] = {
            RUNS: lambda run: self.queue.hasten(RunName.of(run)),
            RUNTIMES: self.enqueue_users,
            **dict.fromkeys(CHILDREN, self.enqueue_owner),
        }
        for resource, enqueue in handlers.items():
            kopf.on.event(*resource.group_version.rpartition("/")[::2], resource.plural, registry=registry)(
                self._handler(resource, enqueue)
            )
        return registry

    def _handler(
        self, resource: Resource, enqueue: Callable[[Object], None]
    ) -> Callable[..., Awaitable[None]]:
        async def take(event: Any, **_: Any) -> None:
            manifest = event["object"]
            if event["type"] == "DELETED":
                self.cache.drop(resource, manifest)
            elif not self.cache.put(resource, manifest):
                return  # an echo of what this operator wrote or listed itself
            enqueue(manifest)

        take.__name__ = take.__qualname__ = f"take_{resource.plural}"
        return take

    def enqueue_owner(self, child: Object) -> None:
        """An object of a run changed."""
        metadata = child["metadata"]
        self.queue.add(RunName(metadata["namespace"], metadata.get("labels", {}).get(RUN, "")))

    def enqueue_users(self, runtime: Object) -> None:
        """A runtime changed: runs may wait for it."""
        for run in self.cache.all(RUNS):
            if run["spec"].get("runtimeRef", {}).get("name", "cpu") == runtime["metadata"]["name"]:
                self.queue.add(RunName.of(run))

    async def first_sync(self) -> None:
        """List everything, however often it takes: nothing is decided on a part of it."""
        for failures in itertools.count():
            try:
                await self.resync()
            except ApiError as error:
                log.warning("cannot list what there is: %s", error)
                await asyncio.sleep(max(error.retry_after, backoff(failures)))
            else:
                return

    async def keep_in_sync(self) -> None:
        """List everything now and then, and what may not or cannot be served more often."""
        due = time.monotonic() + self.resync_seconds
        while True:
            wait = min([due, *map(self._ask_at, self.unserved | self._suspected)]) - time.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, wait)):
                    await self._suspicion.wait()
            self._suspicion.clear()
            now = time.monotonic()
            try:
                if now >= due:
                    due = now + self.resync_seconds
                    await self.resync()
                for space in sorted(self.unserved | self._suspected):
                    if now >= self._ask_at(space):
                        await self.resync_namespace(space)
            except ApiError as error:
                log.warning("resync: %s", error)

    def _ask_at(self, space: str) -> float:
        """When to ask again whether a namespace can be served, by the monotonic clock."""
        return self._asked_at.get(space, -math.inf) + UNSERVED_SECONDS

    async def resync(self) -> None:
        """Bring the cache in line with the API server, and look at every run."""
        self.cache.renew()
        self.cache.replace(RUNTIMES, await self.client.list(RUNTIMES))
        for space in self.namespaces or ("",):
            await self.resync_namespace(space)
        self._listed_at = time.monotonic()
        if not self.unserved:
            exporter.last_list.set_to_current_time()

    async def resync_namespace(self, space: str) -> None:
        """The same for one namespace, or with "" for all. One of several may be forbidden or gone: the others
        are served."""
        self._asked_at[space] = time.monotonic()
        self._suspected.discard(space)
        try:
            for resource in (*CHILDREN, RUNS):
                labels = "" if resource == RUNS else OURS
                found = await self.client.list(resource, space, labels=labels, take=partial(slim, resource))
                self.cache.replace(resource, found, space)
            if space:
                await self._may_tell(space)
        except ApiError as error:
            if not space or error.status not in (403, 404):
                raise
            if space not in self.unserved:
                log.warning("namespace %s cannot be served: %s", space, error)
            self.unserved.add(space)
            exporter.namespace_unserved.labels(space).set(1)
            return
        if space in self.unserved:
            log.info("namespace %s is served again", space)
            self.unserved.discard(space)
            exporter.namespace_unserved.remove(space)
        for run in self.cache.all(RUNS):
            if space in ("", run["metadata"]["namespace"]):
                self.queue.add(RunName.of(run))

    async def _may_tell(self, space: str) -> None:
        """Raise ApiError 403 when what runs of a namespace do may be read, but not told."""
        asked = {
            "namespace": space,
            "verb": "update",
            "group": "ixt.dev",
            "resource": "ixtruns",
            "subresource": "status",
        }
        review: Object = {
            "apiVersion": REVIEWS.group_version,
            "kind": "SelfSubjectAccessReview",
            "metadata": {},
            "spec": {"resourceAttributes": asked},
        }
        try:
            answer = await self.client.request("POST", REVIEWS.path(), review)
        except ApiError as error:
            if error.status not in (403, 404):
                raise
            return  # the cluster lets nobody ask
        if answer.get("status", {}).get("allowed") is False:
            message = f"update of ixtruns/status is forbidden in namespace {space}"
            raise ApiError(403, "Forbidden", message)


class _Backoffs:
    """Seconds between the tries of one of kopf's requests, without end: of several namespaces one that cannot
    be watched must not end the operator."""

    def __iter__(self) -> Iterator[float]:
        return map(backoff, itertools.count())


class _NoDiffs(kopf.DiffBaseStorage):
    """kopf tells its handlers what changed in an object, for which it copies all of it at every event. None
    of ours asks."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


async def first_of(*works: Awaitable[Any]) -> None:
    """Until the first of several ends; the others are cancelled. Raises what it raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
