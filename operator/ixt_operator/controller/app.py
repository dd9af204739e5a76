"""The operator's process: `python -m ixt_operator.controller.app`.

Replicas compete for a Lease; the one that has it runs the Operator. Whoever loses the Lease ends.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, NoReturn

import typer
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from ixt_operator.adapters.kubernetes.client import RUNS, TIMEOUT_SECONDS, Client
from ixt_operator.adapters.kubernetes.lease import Elector, LostLease
from ixt_operator.controller import exporter
from ixt_operator.controller.operator import Operator, first_of
from ixt_operator.controller.serving import serve

log = logging.getLogger("ixt")

RESYNC_SECONDS = 600.0
"""A watch that was interrupted does not tell what was deleted meanwhile: this often everything is listed."""


async def lead(
    namespaces: tuple[str, ...],
    lease: tuple[str, str],
    port: int,
    resync_seconds: float,
    request_seconds: float,
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
        try:
            server = await serve(port)
        except OSError as error:
            _stop(f"no server for probes and metrics: {error}; set --port")
        try:
            await first_of(elector.acquire(), stop.wait())
            if elector.leading:
                await first_of(_keep(elector), operator.work(), stop.wait())
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
    lease = lease_namespace, lease_name
    sys.exit(asyncio.run(lead(tuple(namespace or ()), lease, port, resync_seconds, request_seconds)))


if __name__ == "__main__":
    app()
