"""Figures as Prometheus reads them, and the small server that gives them."""

import threading
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from ixt_workloads.contract.figures import Figures, in_all
from ixt_workloads.contract.metrics import STEP_METRICS, Metric, Type
from ixt_workloads.listening import Server

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

END = b"# EOF\n"
"""Of OpenMetrics."""

Answer = Callable[[str], tuple[bytes, str]]
"""A body and its media type, for the types that are accepted."""


def family(metric: Metric) -> Any:
    """An empty family of a metric."""
    match metric.type:
        case Type.COUNTER:
            return CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
        case Type.HISTOGRAM:
            return HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        case Type.GAUGE:
            return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)


def families(figures: Figures) -> Iterable[Family]:
    """The figures of a step, with the labels that are its own."""
    for name, values in figures.items():
        metric = STEP_METRICS[name]
        found = family(metric)
        if metric.type is Type.HISTOGRAM:
            found.add_metric((), *in_all(metric, values))
        else:
            for own, value in values.items():
                found.add_metric(own.split(",") if metric.labels else (), value)
        yield found


def encoded(
    registry: Collector | CollectorRegistry, accept: str, more: Callable[[bool], str] = lambda _: ""
) -> tuple[bytes, str]:
    """The exposition and its media type: OpenMetrics for who asks for it, else Prometheus' own. `more` gives
    lines to add, told whether they are to be OpenMetrics."""
    encoder, media_type = choose_encoder(accept)
    body = encoder(registry)
    openmetrics = body.endswith(END)
    # Labels may come from strangers.
    lines = more(openmetrics).encode(errors="replace")
    return (body.removesuffix(END) + lines + END if openmetrics else body + lines), media_type


def serve(host: str, port: int, answers: Mapping[str, Answer]) -> Server:
    """A server that answers GET of these paths, in threads, until it is shut down. Raises OSError when the
    port cannot be had."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path)
            if answer is None:
                self.send_error(404)
                return
            body, media_type = answer(self.headers.get("Accept", ""))
            self.send_response(200)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = Server(host, port, Handler)
    threading.Thread(target=server.serve_forever, args=(0.2,), name="http", daemon=True).start()
    return server
