"""The operator's process: `python -m ixt_operator.controller.app`.

Replicas compete for a Lease; the one that has it runs the Operator. Whoever loses it stops all that and
competes again, in the same process: Kubernetes holds a pod back that ends again and again, as one would on
an overloaded machine.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import uuid
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple, NoReturn

import typer
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from ixt_operator.adapters.kubernetes.client import TIMEOUT_SECONDS, Client
from ixt_operator.adapters.kubernetes.lease import Elector, LostLease, Times
from ixt_operator.controller import exporter
from ixt_operator.controller.guarding import Access, Certificate
from ixt_operator.controller.operator import Operator, first_of
from ixt_operator.controller.series import Lines
from ixt_operator.controller.serving import Secure, serve
from ixt_operator.render.network import Network
from ixt_workloads import logs

log = logging.getLogger("ixt")

RESYNC_SECONDS = 600.0
"""A watch that was interrupted does not tell what was deleted meanwhile: this often everything is listed."""
CANCEL_SECONDS = 30.0
"""For so long work that is cancelled may take to end."""


class Options(NamedTuple):
    """What the process is told by its command line."""

    namespaces: tuple[str, ...]
    lease: tuple[str, str]
    """Namespace and name."""
    times: Times
    port: int
    resync_seconds: float
    request_seconds: float
    ttl: int | None
    """ttlSecondsAfterFinished of runs that set none."""
    metrics_port: int
    certificate: Path | None
    network: Network | None
    """Whom NetworkPolicies of runs let in; None where the operator makes none."""


class Leading(NamedTuple):
    """One term: from competing for the Lease to giving it back or losing it."""

    elector: Elector
    operator: Operator


async def lead(options: Options) -> int:
    """Compete for the Lease, then work until a signal; the exit code. Who loses the Lease competes anew."""
    stop = asyncio.Event()
    async with ApiClient(await _configuration()) as api:
        term = _term(api, options)

        def runs() -> Iterable[Lines]:
            """Of runs the leader alone tells: another's cache is empty or old."""
            return term.operator.series.lines(term.operator.client.now()) if term.elector.leading else ()

        def unready() -> str:
            """Why this replica neither leads in sync nor waits in good order, if it does not."""
            if term.elector.leading:
                return "" if term.operator.in_sync else "leads, and has not listed all objects lately"
            return "" if term.elector.in_touch else "cannot read the Lease"

        exporter.queue_depth.set_function(lambda: len(term.operator.queue))
        exporter.queue_oldest.set_function(lambda: float(term.operator.queue.oldest()))
        exporter.pods_silent.set_function(lambda: len(term.operator.progress.silent))
        exporter.leader.set_function(lambda: term.elector.leading)
        secure = None
        if options.certificate:
            reviewing = Client(api, seen=exporter.count_request)
            secure = Secure(options.metrics_port, Certificate(options.certificate), Access(reviewing))
        try:
            shown = partial(exporter.exposition, runs)
            server = await serve(options.port, shown, unready, secure)
        except OSError as error:
            flags = "--port, --metrics-port or --metrics-certificate" if secure else "--port"
            _stop(f"no server for probes and metrics: {error}; set {flags}")
        try:
            while not stop.is_set():
                _hear(stop)
                if await _serve_term(term, stop):
                    break
                term = _term(api, options)
        finally:
            await server.cleanup()
    return 0


def _term(api: ApiClient, options: Options) -> Leading:
    identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
    elector = Elector(Client(api, seen=exporter.count_request), *options.lease, identity, options.times)
    client = Client(api, elector.fence, exporter.count_request, options.request_seconds)
    told = (options.namespaces, options.resync_seconds, options.ttl, options.network)
    return Leading(elector, Operator(client, *told))


def _hear(stop: asyncio.Event) -> None:
    """Have signals end the process in good order. kopf takes them over while it works."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def _serve_term(term: Leading, stop: asyncio.Event) -> bool:
    """Wait for the Lease, then work; True when that ended in good order, False when the Lease was lost.

    What was under way when it was lost writes nothing more, since the fence lets nothing through. It is
    cancelled; what does not let itself be cancelled ends with the process.
    """
    elector, operator = term
    await first_of(elector.acquire(), stop.wait())
    if not elector.leading:
        return stop.is_set()
    loop = asyncio.get_running_loop()
    last: asyncio.TimerHandle | None = None

    async def keep() -> None:
        nonlocal last
        try:
            await elector.keep()
        finally:
            last = loop.call_later(CANCEL_SECONDS, os._exit, 0)

    try:
        await first_of(keep(), operator.work(), stop.wait())
        await elector.release()
    except LostLease as lost:
        log.warning("%s: it competes for it anew", lost)
        return False
    finally:
        exporter.namespace_unserved.clear()
        if last:
            last.cancel()
    return True


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
    metrics_certificate: Annotated[
        Path | None,
        typer.Option(
            help="Folder with tls.crt and tls.key: /metrics is served over TLS, on a port of its own, to "
            "those whom the API server lets get it."
        ),
    ] = None,
    metrics_port: Annotated[int, typer.Option(help="Port of /metrics over TLS.")] = 8443,
    lease_duration: Annotated[
        float, typer.Option(help="Seconds after which a Lease that is not renewed is taken over.")
    ] = Times().lease_duration,
    renew_deadline: Annotated[
        float, typer.Option(help="Seconds after its last renewal at which the leader stops.")
    ] = Times().renew_deadline,
    retry_period: Annotated[
        float, typer.Option(help="Seconds between two renewals, and two tries to acquire the Lease.")
    ] = Times().retry_period,
    ttl_seconds_after_finished: Annotated[
        int | None,
        typer.Option(
            min=0, help="Seconds after which finished runs are deleted that do not say so themselves."
        ),
    ] = None,
    network_policies: Annotated[
        bool,
        typer.Option(
            help="Make NetworkPolicies of each run: its judges are reached by its own steps alone, its "
            "trainers by each other.",
        ),
    ] = False,
    monitoring_namespace: Annotated[
        list[str] | None,
        typer.Option(
            help="Namespaces that these policies let read metrics; repeatable.  [default: none]",
            show_default=False,
        ),
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Carry IXTRuns out on the cluster that the kubeconfig or the pod's service account names."""
    logs.start(log_level)
    for noisy in ("kopf", "aiohttp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Most objects here are JSON, which has no cycles. By default every 700 new ones are searched for cycles,
    # which takes longer than to parse them.
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    times = Times(lease_duration, renew_deadline, retry_period)
    if not times.sound:
        _stop(
            "--retry-period must be at most half of --renew-deadline, and both together at most "
            "--lease-duration"
        )
    options = Options(
        namespaces=tuple(namespace or ()),
        lease=(lease_namespace, lease_name),
        times=times,
        port=port,
        resync_seconds=resync_seconds,
        request_seconds=request_seconds,
        ttl=ttl_seconds_after_finished,
        metrics_port=metrics_port,
        certificate=metrics_certificate,
        network=Network(lease_namespace, tuple(monitoring_namespace or ())) if network_policies else None,
    )
    sys.exit(asyncio.run(lead(options)))


if __name__ == "__main__":
    app()
