"""The table of metrics: what Prometheus' conventions and the figures of steps ask of it."""

import re
from pathlib import Path

import pytest

from ixt_operator.generate.metrics import table
from ixt_workloads.contract.metrics import METRICS, NODE, STEP_METRICS, Metric, Type


def test_each_name_is_there_once() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_name_keeps_the_conventions(metric: Metric) -> None:
    assert re.fullmatch(r"ixt_[a-z]+(_[a-z]+)*", metric.name)
    assert metric.name.endswith("_total") == (metric.type is Type.COUNTER)
    assert bool(metric.buckets) == (metric.type is Type.HISTOGRAM)
    assert not metric.name.endswith(("_count", "_sum", "_bucket", "_created"))
    assert not re.search("_(ms|minutes|hours|percent|kb|mb)(_|$)", metric.name)
    assert metric.help and not metric.help.endswith(".")
    assert list(metric.buckets) == sorted(set(metric.buckets))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_no_label_is_there_twice(metric: Metric) -> None:
    """Also with those of its step before its own."""
    labels = (*(NODE if metric.name in STEP_METRICS else ()), *metric.labels)
    assert len(set(labels)) == len(labels)
    assert not {"job", "instance", "le"} & set(labels)
    assert all(re.fullmatch("[a-z]+", label) for label in labels)


def test_the_documents_table_is_the_generated_one() -> None:
    assert (Path(__file__).parents[2] / "docs/metrics.md").read_text() == table(), "run: make crds"


def test_the_documents_table_has_each_metric_once() -> None:
    for metric in METRICS:
        assert table().count(f"| `{metric.name}` |") == 1
