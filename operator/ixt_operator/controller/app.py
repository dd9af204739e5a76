"""The operator's process: `python -m ixt_operator.controller.app`.

Replicas compete for a Lease; the one that has it runs kopf, whose handlers only take objects into the cache
and runs into the queue, and the workers that look at runs. Whoever loses the Lease ends.
"""

import asyncio
import gc
import itertools
import logging
import os
import signal
import socket
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import kopf
import typer
from aiohttp import web
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from prometheus_client import generate_latest

from ixt_operator.adapters.kubernetes.cache import CHILDREN, Cache
from ixt_operator.adapters.kubernetes.client import (
    RUNS,
    RUNTIMES,
    TIMEOUT_SECONDS,
    ApiError,
    Client,
    Object,
    Resource,
)
from ixt_operator.adapters.kubernetes.lease import Elector, LostLease
from ixt_operator.controller import exporter
from ixt_operator.controller.cluster import Key, Runs
from ixt_operator.controller.poll import Progresses
from ixt_operator.controller.queue import Queue, backoff
from ixt_operator.render.names import MANAGED_BY, MANAGER, RUN

log = logging.getLogger("ixt")

WORKERS = 16
RESYNC_SECONDS = 600.0
"""A watch that was interrupted does not tell what was deleted meanwhile: this often everything is listed."""

OURS = f"{MANAGED_BY}={MANAGER}"


class Operator:
    """What one leader holds."""

    def __init__(self, client: Client, namespaces: tuple[str, ...], resync_seconds: float) -> None:
        self.client = client
        self.resync_seconds = resync_seconds
        self.namespaces = namespaces
        self.cache = Cache()
        self.queue: Queue[Key] = Queue()
        self.progress = Progresses()
        self.runs = Runs(client, self.cache, self.progress)

    async def work(self) -> None:
        """List what there is, then look at runs until kopf hears a signal, which it answers itself."""
        await self.first_sync()
        await _first(
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
            RUNS: self.enqueue,
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

    def enqueue(self, run: Object) -> None:
        """A run changed."""
        self.queue.add(Key.of(run))

    def enqueue_owner(self, child: Object) -> None:
        """An object of a run changed."""
        metadata = child["metadata"]
        self.queue.add(Key(metadata["namespace"], metadata.get("labels", {}).get(RUN, "")))

    def enqueue_users(self, runtime: Object) -> None:
        """A runtime changed: runs may wait for it."""
        for run in self.cache.all(RUNS):
            if run["spec"].get("runtimeRef", {}).get("name", "cpu") == runtime["metadata"]["name"]:
                self.enqueue(run)

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
            self.enqueue(run)


class _NoDiffs(kopf.DiffBaseStorage):
    """kopf tells its handlers what changed in an object, for which it copies all of it at every event. None
    of ours asks."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


async def lead(
    namespaces: tuple[str, ...], lease: Key, port: int, resync_seconds: float, request_seconds: float
) -> int:
    """Compete for the Lease, then work until a signal or its loss; the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with ApiClient(await _configuration()) as api:
        name = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        elector = Elector(Client(api, seen=exporter.count_request), *lease, name)
        client = Client(api, lambda: _fence(elector), exporter.count_request, request_seconds)
        operator = Operator(client, namespaces, resync_seconds)
        exporter.registry.register(exporter.RunCollector(lambda: operator.cache.all(RUNS)))
        exporter.queue_depth.set_function(lambda: len(operator.queue))
        exporter.leader.set_function(lambda: elector.leading)
        server = await _serve(port)
        try:
            await _first(elector.acquire(), stop.wait())
            if elector.leading:
                await _first(_keep(elector), operator.work(), stop.wait())
                await elector.release()
        finally:
            await server.cleanup()
    return 0


@contextmanager
def _lost_lease_ends_the_process() -> Iterator[None]:
    """At once: whatever is under way here rests on a Lease that another process holds. Even to stop kopf in
    good order would take too long."""
    try:
        yield
    except LostLease as lost:
        log.error("%s", lost)  # noqa: TRY400 - no traceback: it is no fault
        logging.shutdown()
        os._exit(1)


def _fence(elector: Elector) -> None:
    with _lost_lease_ends_the_process():
        elector.fence()


async def _keep(elector: Elector) -> None:
    with _lost_lease_ends_the_process():
        await elector.keep()


async def _first(*works: Awaitable[Any]) -> None:
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


async def _serve(port: int) -> web.AppRunner:
    """/healthz, /readyz and /metrics, on the leader and on those who wait."""

    async def ok(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(exporter.registry), content_type="text/plain", charset="utf-8"
        )

    app = web.Application()
    app.router.add_get("/healthz", ok)
    app.router.add_get("/readyz", ok)
    app.router.add_get("/metrics", scrape)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
    except OSError as error:
        _stop(f"no server for probes and metrics: {error}; set --port")
    return runner


async def _configuration() -> Configuration:
    """In a pod: its service account. Elsewhere: the kubeconfig."""
    found, file = Configuration(), os.environ.get("KUBECONFIG")
    # Else ~/.netrc is looked for at each request, in a thread.
    found.client_session_kwargs = {"trust_env": False}
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and not file:
            config.load_incluster_config(found)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(file, client_configuration=found)  # type: ignore[no-untyped-call]
    except config.ConfigException as error:
        _stop(f"no cluster to serve: {error}; set KUBECONFIG")
    return found


def _stop(message: str) -> NoReturn:
    """End before the work has begun: the message says all, and what to do."""
    log.error(message)
    sys.exit(2)


def _login(**arguments: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    namespace: Annotated[
        list[str] | None,
        typer.Option(help="Namespaces to serve; repeatable.  [default: all]", show_default=False),
    ] = None,
    lease_namespace: Annotated[
        str, typer.Option(envvar="POD_NAMESPACE", help="Namespace of the Lease.")
    ] = "ixt-system",
    lease_name: Annotated[
        str, typer.Option(help="Name of the Lease that replicas compete for.")
    ] = "ixt-operator",
    port: Annotated[int, typer.Option(help="Port of /healthz, /readyz and /metrics.")] = 8080,
    resync_seconds: Annotated[
        float, typer.Option(min=1, help="Seconds between two listings of everything there is.")
    ] = RESYNC_SECONDS,
    request_seconds: Annotated[
        float, typer.Option(min=1, help="Seconds after which a request without an answer has failed.")
    ] = TIMEOUT_SECONDS,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Carry IXTRuns out on the cluster that the kubeconfig or the pod's service account names."""
    logging.basicConfig(
        level=log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    for noisy in ("kopf", "aiohttp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Most objects here are JSON, which has no cycles. By default every 700 new ones are searched for cycles,
    # which takes longer than to parse them.
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    lease = Key(lease_namespace, lease_name)
    sys.exit(asyncio.run(lead(tuple(namespace or ()), lease, port, resync_seconds, request_seconds)))


if __name__ == "__main__":
    app()
