"""The series of a run on this machine for Prometheus: those that the operator has of a run in a cluster."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry

from ixt_operator.adapters.local.loop import Look
from ixt_operator.adapters.local.workdir import LocalError
from ixt_operator.api.run import IXTRun
from ixt_operator.controller import series
from ixt_operator.planner.observed import ChildState, Observed, ProcessPhase, ProcessState
from ixt_workloads.contract.figures import sound
from ixt_workloads.exposition import encoded, serve

NAMESPACE = "local"
"""Stands where the series of a cluster have the namespace of the run."""
HOST = "127.0.0.1"


_Processes = Mapping[tuple[str, int], series.Process]
"""By the name of their child and their index."""


class _Shown(NamedTuple):
    """A look, and its processes with what they told last."""

    look: Look
    processes: _Processes


@contextmanager
def scraped(run: IXTRun, port: int | None) -> Iterator[Callable[[Look], None]]:
    """A function to show each look with, whose series are served on a port of loopback until the end; without
    a port nowhere. Raises LocalError when the port cannot be had."""
    if port is None:
        yield lambda look: None
        return
    seen: list[_Shown] = []

    def show(look: Look) -> None:
        seen[:] = [_shown(look, time.time(), seen[0].processes if seen else {})]

    def metrics(accept: str) -> tuple[bytes, str]:
        parts = [part for found in seen for part in _series(run, found)]
        return encoded(
            CollectorRegistry(), accept, lambda openmetrics: series.text(parts, openmetrics=openmetrics)
        )

    try:
        server = serve(HOST, port, {"/metrics": metrics})
    except OSError as error:
        raise LocalError(f"port {port} of {HOST}: {error.strerror}; choose another --metrics-port") from None
    try:
        yield show
    finally:
        server.shutdown()
        server.server_close()


def _shown(look: Look, at: float, before: _Processes) -> _Shown:
    """A look `at` a time (Unix seconds) after one that had shown the processes of `before`."""
    found = {
        (child.name, process.index): _process(process, at, before.get((child.name, process.index)))
        for child in _children(look)
        for process in child.processes
    }
    return _Shown(look, found)


def _children(look: Look) -> list[ChildState]:
    """The attempts whose children are there."""
    return [child for child in look.observed.all if not child.deleting and not child.server]


def _series(run: IXTRun, shown: _Shown) -> Iterator[series.Lines]:
    """All series of a run."""
    look = shown.look
    manifest: dict[str, Any] = {
        "metadata": {"namespace": NAMESPACE, "name": run.metadata.name},
        "spec": run.spec.model_dump(mode="json", exclude_none=True),
        "status": look.status.model_dump(mode="json", exclude_none=True),
    }
    yield series.counted([manifest])
    yield series.told(manifest)
    if not series.finished(manifest):
        attempts = [_attempt(child, shown.processes) for child in _children(look)]
        yield series.live(manifest, attempts, _servers(look.observed), time.time())


def _attempt(child: ChildState, processes: _Processes) -> series.Attempt:
    return series.Attempt(
        child.stage,
        child.step,
        child.kind,
        child.arm,
        "" if child.seed is None else str(child.seed),
        child.attempt,
        child.created_at,
        [processes[child.name, process.index] for process in child.processes],
    )


def _process(process: ProcessState, at: float, before: series.Process | None) -> series.Process:
    """A process as it was seen `at` a time. What it does not tell this time is as it was `before`."""
    last = before or series.Process()
    told = process.result or process.progress
    return series.Process(
        running=process.phase is ProcessPhase.RUNNING,
        figures=sound(told.figures)[0] if told and told.figures else last.figures,
        progress=process.progress or last.progress,
        told_at=at if process.progress else last.told_at,
    )


def _servers(observed: Observed) -> Iterator[series.Server]:
    for child in observed.all:
        if child.server and not child.deleting:
            ready = sum(process.phase is ProcessPhase.READY for process in child.processes)
            yield series.Server(child.stage, child.short, ready, len(child.processes) - ready)
