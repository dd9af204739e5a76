"""What the operator tells Prometheus: about itself, and about the runs that it knows."""

from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ixt_operator.adapters.kubernetes.client import Object
from ixt_workloads.contract import metrics as names

registry = CollectorRegistry()
leader = Gauge(*names.LEADER, registry=registry)
reconciles = Counter(*names.RECONCILES, registry=registry)
reconcile_seconds = Histogram(*names.RECONCILE_SECONDS, registry=registry)
queue_depth = Gauge(*names.QUEUE_DEPTH, registry=registry)
requests = Counter(*names.REQUESTS, registry=registry)


def count_request(method: str, status: int) -> None:
    """Count a request to the API server. `status` is HTTP's, 0 when no answer came."""
    requests.labels(method, status).inc()


def _family(metric: names.Metric) -> tuple[str, str, None, tuple[str, ...]]:
    return metric.name, metric.help, None, metric.labels


class RunCollector(Collector):
    """Figures of runs, read from their statuses at every scrape: a run that is gone leaves no series."""

    def __init__(self, runs: Callable[[], Iterable[Object]]) -> None:
        self._runs = runs

    def collect(self) -> Iterator[Metric]:
        """The families."""
        phases: Counts[tuple[str, str]] = Counts()
        progress = GaugeMetricFamily(*_family(names.RUN_PROGRESS))
        flops = CounterMetricFamily(*_family(names.RUN_FLOPS))
        failed = GaugeMetricFamily(*_family(names.RUN_ATTEMPTS_FAILED))
        for run in self._runs():
            status, place = run.get("status", {}), (run["metadata"]["namespace"], run["metadata"]["name"])
            phases[place[0], status.get("phase", "Pending")] += 1
            progress.add_metric(place, status.get("summary", {}).get("progressPercent", 0) / 100)
            for purpose, number in status.get("cost", {}).get("flops", {}).items():
                flops.add_metric((*place, purpose), float(number))
            faults: Counts[str] = Counts()
            for stage in status.get("stages", ()):
                for step in stage.get("steps", ()):
                    faults.update(step.get("attemptsByFault", {}))
            for fault, number in faults.items():
                failed.add_metric((*place, fault), number)
        runs = GaugeMetricFamily(*_family(names.RUNS_BY_PHASE))
        for (namespace, phase), number in phases.items():
            runs.add_metric((namespace, phase), number)
        yield from (runs, progress, flops, failed)
