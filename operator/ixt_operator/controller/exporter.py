"""What the operator tells Prometheus: of itself here, of the runs that it knows in `series.py`."""

from collections import Counter as Counts
from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from ixt_operator.controller.series import Lines, text
from ixt_workloads import __version__
from ixt_workloads.contract import metrics as names
from ixt_workloads.exposition import encoded

# Series of a name of their own, which the table of metrics does not have.
disable_created_metrics()  # type: ignore[no-untyped-call]

registry = CollectorRegistry()
# Its processor time, memory and open files, by the names that every exporter gives them.
ProcessCollector(registry=registry)


def _gauge(metric: names.Metric) -> Gauge:
    return Gauge(metric.name, metric.help, metric.labels, registry=registry)


def _counter(metric: names.Metric) -> Counter:
    return Counter(metric.name, metric.help, metric.labels, registry=registry)


def _histogram(metric: names.Metric) -> Histogram:
    return Histogram(metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=registry)


_gauge(names.BUILD).labels(__version__).set(1)
leader = _gauge(names.LEADER)
reconciles = _counter(names.RECONCILES)
reconcile_seconds = _histogram(names.RECONCILE_SECONDS)
queue_depth = _gauge(names.QUEUE_DEPTH)
queue_oldest = _gauge(names.QUEUE_OLDEST)
requests = _counter(names.REQUESTS)
request_seconds = _histogram(names.REQUEST_SECONDS)
watch_restarts = _counter(names.WATCH_RESTARTS)
last_list = _gauge(names.LAST_LIST)
namespace_unserved = _gauge(names.NAMESPACE_UNSERVED)
pods_silent = _gauge(names.PODS_SILENT)
figures_refused = _counter(names.FIGURES_REFUSED)


def count_request(verb: str, resource: str, status: int, seconds: float) -> None:
    """Count a request to the API server. `status` is HTTP's, 0 when no answer came."""
    requests.labels(verb, resource, status).inc()
    request_seconds.labels(verb, resource).observe(seconds)


def count_refused(why: Counts[str]) -> None:
    """Count figures of pods that were left out."""
    for reason, number in why.items():
        figures_refused.labels(reason).inc(number)


def exposition(runs: Callable[[], Iterable[Lines]], accept: str) -> tuple[bytes, str]:
    """All series, of the operator and of runs, and their media type: OpenMetrics for who asks for it, else
    Prometheus' own."""
    return encoded(registry, accept, lambda openmetrics: text(runs(), openmetrics=openmetrics))
