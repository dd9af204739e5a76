"""Metrics are named, and told of, as Prometheus' own linter wants it."""

from collections.abc import Iterator
from typing import Any

from monitoring.promtool import promtool
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from ixt_workloads.contract.metrics import METRICS, Type
from ixt_workloads.exposition import encoded, family


class Everything(Collector):
    """Each metric with one series."""

    def collect(self) -> Iterator[Any]:
        for metric in METRICS:
            found = family(metric)
            values = [[("+Inf", 1)], 1] if metric.type is Type.HISTOGRAM else [1]
            found.add_metric(["x"] * len(metric.labels), *values)
            yield found


def test_promtool_finds_no_fault_with_any_metric() -> None:
    registry = CollectorRegistry()
    registry.register(Everything())
    text = encoded(registry, "")[0].decode()
    assert text.count("# TYPE ") == len(METRICS)
    assert promtool("check", "metrics", text=text) == ""
