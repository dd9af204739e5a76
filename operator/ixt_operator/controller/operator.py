"""What the leader runs: kopf, whose handlers only take objects into the cache and runs into the queue, and
the workers that look at runs."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from ixt_operator.adapters.kubernetes.cache import CHILDREN, Cache
from ixt_operator.adapters.kubernetes.client import RUNS, RUNTIMES, ApiError, Client, Object, Resource
from ixt_operator.controller.look import RunName, Runs
from ixt_operator.controller.poll import Progresses
from ixt_operator.controller.queue import Queue, backoff
from ixt_operator.render.names import MANAGED_BY, MANAGER, RUN

log = logging.getLogger("ixt")

WORKERS = 16
OURS = f"{MANAGED_BY}={MANAGER}"


class Operator:
    """What one leader holds: what it watches, the cache, and the queue."""

    def __init__(self, client: Client, namespaces: tuple[str, ...], resync_seconds: float) -> None:
        self.client = client
        self.resync_seconds = resync_seconds
        self.namespaces = namespaces
        self.cache = Cache()
        self.queue: Queue[RunName] = Queue()
        self.progress = Progresses()
        self.runs = Runs(client, self.cache, self.progress)

    async def work(self) -> None:
        """List what there is, then look at runs until kopf hears a signal, which it answers itself."""
        await self.first_sync()
        await first_of(
            self.watch(),
            self.progress.keep(self.cache, self.enqueue_owner),
            self.keep_in_sync(),
            *(self.queue.work(self.runs.look) for _ in range(WORKERS)),
        )

    async def watch(self) -> None:
        """kopf, whose handlers only enqueue."""
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        settings.scanning.disabled = True
        settings.persistence.diffbase_storage = _NoDiffs()
        settings.queueing.idle_timeout = 0.1  # for so long kopf keeps an object's last event
        settings.watching.label_selectors["pods"] = OURS
        settings.watching.label_selectors["jobs.batch"] = OURS
        settings.watching.label_selectors["deployments.apps"] = OURS
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
        kopf.on.login(registry=registry)(_login)
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
        """List everything now and then."""
        while True:
            await asyncio.sleep(self.resync_seconds)
            try:
                await self.resync()
            except ApiError as error:
                log.warning("resync: %s", error)

    async def resync(self) -> None:
        """Bring the cache in line with the API server, and look at every run."""
        self.cache.renew()
        self.cache.replace(RUNTIMES, await self.client.list(RUNTIMES))
        for resource in (*CHILDREN, RUNS):
            labels = "" if resource == RUNS else OURS
            for space in self.namespaces or ("",):
                found = await self.client.list(resource, space, labels=labels)
                self.cache.replace(resource, found, space)
        for run in self.cache.all(RUNS):
            self.queue.add(RunName.of(run))


class _NoDiffs(kopf.DiffBaseStorage):
    """kopf tells its handlers what changed in an object, for which it copies all of it at every event. None
    of ours asks."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


def _login(**arguments: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)


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
