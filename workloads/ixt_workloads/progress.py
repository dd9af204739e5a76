"""Progress of a running step over HTTP: /progress for people and the operator, /metrics for Prometheus."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from ixt_workloads import listening
from ixt_workloads.contract.metrics import STEP_METRICS, Metric
from ixt_workloads.contract.results import Figures, Progress, Spent
from ixt_workloads.exposition import Answer, encoded, families, serve
from ixt_workloads.listening import Server

WINDOW_SECONDS = 30.0
"""Rates are averaged over this long, or over three updates where those are rarer, so that an ETA does not
jump with every shard, and what stands still soon shows no rate."""

APART_SECONDS = 0.25
"""Updates that come faster are kept this far apart."""

STEADY_SECONDS = 3.0
"""Before, nothing is told of how long the rest will take."""

MOST_KEPT = 256
"""Of earlier updates; when there are more, every other one is forgotten."""


class Reporter(Collector):
    """Holds what one process tells of itself. Thread-safe. Without a port it serves nothing."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        age: float = 0.0,
    ) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._latest: tuple[float, float | None, str, str] = (0, None, "", "")
        self._updates: deque[tuple[float, float]] = deque()
        self._history: list[tuple[float, float]] = []
        """Some of all updates: when, and what was done."""
        self._figures: Figures = {}
        self._began = clock() - age
        self._worked: float | None = None
        self._waited = 0.0
        self._saved: tuple[float, float] | None = None
        """When all work was saved last, and the seconds waited until then."""
        self._host, self._port = host, port
        self._server: Server | None = None

    @classmethod
    def from_environment(cls) -> Self:
        """A reporter on $IXT_PORT_PROGRESS of $IXT_HOST; without a port it serves nothing."""
        port = os.environ.get("IXT_PORT_PROGRESS")
        return cls(listening.host(), int(port) if port else None, age=_age())

    def __enter__(self) -> Self:
        if self._port is not None:
            answers: dict[str, Answer] = {
                "/progress": lambda _: (self.progress().model_dump_json().encode(), "application/json"),
                "/metrics": lambda accept: encoded(self, accept),
            }
            self._server = serve(self._host, self._port, answers)
        return self

    def __exit__(self, *_: object) -> None:
        if self._server:
            # In the background: the server looks only every 0.2 s whether it shall stop.
            threading.Thread(target=_close, args=(self._server,), daemon=True).start()

    def update(self, done: float, total: float | None, unit: str, message: str = "") -> None:
        """Set the progress. With the first update the process has started and works."""
        now = self._clock()
        with self._lock:
            self._worked = now if self._worked is None else self._worked
            updates = self._updates
            if not updates or done != updates[-1][1]:
                if len(updates) > 1 and updates[-1][0] - updates[-2][0] < APART_SECONDS:
                    updates.pop()
                updates.append((now, done))
                self._keep(now, done)
            while len(self._updates) > 4 and self._updates[1][0] < now - WINDOW_SECONDS:
                self._updates.popleft()
            self._latest = (done, total, unit, message)

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Set a gauge."""
        with self._lock:
            self._figures.setdefault(metric.name, {})[",".join(labels)] = float(value)

    def add(self, metric: Metric, number: float = 1, *labels: str) -> None:
        """Add to a counter."""
        with self._lock:
            values = self._figures.setdefault(metric.name, {})
            name = ",".join(labels)
            values[name] = values.get(name, 0.0) + number

    def tell(self, figures: Figures) -> None:
        """Take the figures of another process, in place of those told before of the same metrics."""
        with self._lock:
            self._figures.update({name: dict(values) for name, values in figures.items()})

    def relay(self, progress: Progress) -> None:
        """Tell what another process that works for this one has told, how its time went included. What came
        before its first word, this process counts as its own start."""
        with self._lock:
            self.update(progress.done, progress.total, progress.unit, progress.message)
            self.tell(progress.figures)
            self._waited = progress.spent.waiting
            at = self._clock() - progress.spent.unsaved
            before = at - (self._worked or at) - progress.spent.saved
            self._saved = at, max(0.0, before)

    def waited(self, seconds: float) -> None:
        """Count time for which this process waited for others."""
        with self._lock:
            self._waited += seconds

    def saved(self, ago: float = 0.0) -> None:
        """All work up to so many seconds ago will last, whatever becomes of this process."""
        with self._lock:
            at, waited = max(self._saved or (0.0, 0.0), (self._clock() - ago, self._waited))
            self._saved = at, waited

    def progress(self) -> Progress:
        """The latest progress, with the rate as of now."""
        with self._lock:
            done, total, unit, message = self._latest
            return Progress(
                done=done,
                total=total,
                unit=unit,
                per_second=self._rate(),
                steady_per_second=self._steady(),
                message=message[:512],
                spent=self.spent(),
                figures=self.figures(),
            )

    def figures(self) -> Figures:
        """The latest figures. Speeds are 0 once nothing moves."""
        with self._lock:
            still = self._rate() == 0
            return {
                name: dict.fromkeys(values, 0.0) if still and STEP_METRICS[name].fades else dict(values)
                for name, values in self._figures.items()
            }

    def spent(self) -> Spent:
        """How the time went so far."""
        with self._lock:
            now = self._clock()
            worked = now if self._worked is None else self._worked
            saved_at, waited_before = (
                self._saved if self._saved and self._worked is not None else (worked, 0.0)
            )
            saved = max(0.0, saved_at - worked - waited_before)
            waiting = min(self._waited, now - worked - saved)
        return Spent(
            starting=worked - self._began,
            waiting=waiting,
            saved=saved,
            unsaved=now - worked - saved - waiting,
        )

    def collect(self) -> Iterable[Family]:
        """The figures for Prometheus."""
        return families(self.figures())

    def _keep(self, now: float, done: float) -> None:
        history = self._history
        if not history or now - history[-1][0] >= max(APART_SECONDS, (now - history[0][0]) / MOST_KEPT):
            history.append((now, done))
        if len(history) > MOST_KEPT:
            del history[1::2]

    def _steady(self) -> float | None:
        """The rate over the second half of the time since the first update."""
        if not self._history:
            return None
        now, (began, _) = self._clock(), self._history[0]
        if now - began < STEADY_SECONDS:
            return None
        half = (began + now) / 2
        _, done_then = max(update for update in self._history if update[0] <= half)
        return max(0.0, self._latest[0] - done_then) / (now - half)

    def _rate(self) -> float | None:
        if len(self._updates) < 2:
            return None
        now = self._clock()
        (last, done), (before, _) = self._updates[-1], self._updates[-2]
        window = max(WINDOW_SECONDS, 3 * (last - before))
        if now - last > window:
            return 0.0
        inside = [update for update in self._updates if update[0] >= now - window]
        first, first_done = inside[0] if len(inside) > 1 else self._updates[-2]
        return max(0.0, done - first_done) / (now - first) if now > first else None


def _age() -> float:
    """Seconds since this process was started: imports of engines take long."""
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK"))


def _close(server: Server) -> None:
    server.shutdown()
    server.server_close()
