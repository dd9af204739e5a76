"""Figures of steps: what is taken of a pod's, how those of several become one, and what Prometheus reads."""

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from ixt_workloads.contract.figures import (
    LARGEST,
    MAX_LABEL,
    MAX_SERIES,
    SUM,
    bound,
    in_buckets,
    sound,
    together,
)
from ixt_workloads.contract.metrics import (
    DOCUMENTS,
    LOSS,
    OVERLAP,
    REQUESTS_OPEN,
    ROUTER_LOSS,
    SCORE,
    SCORES,
    STEP_METRICS,
    STEP_SECONDS,
    TOKEN_RATE,
    DocumentResult,
    Metric,
    Type,
)
from ixt_workloads.contract.results import Progress
from ixt_workloads.exposition import encoded, families
from ixt_workloads.progress import Reporter

OPENMETRICS = "application/openmetrics-text; version=1.0.0"

LABELS = st.one_of(
    st.sampled_from(["", "Ok", "Best,sums", "1.0", "+Inf", SUM, ",", "a\nb", 'say "hi"', "\\", "x" * 64]),
    st.text(max_size=80),
)
VALUES = st.one_of(st.floats(), st.sampled_from([math.nan, math.inf, -math.inf, 1e300, -1.0, 0.0]))
HOSTILE = st.dictionaries(
    st.one_of(st.sampled_from(sorted(STEP_METRICS)), st.text(max_size=50)),
    st.dictionaries(LABELS, VALUES, max_size=8),
    max_size=8,
)


class Exposed:
    """A registry of some steps' figures, as the operator has."""

    def __init__(self, told: Mapping[str, Mapping[str, float]]) -> None:
        self.told = told

    def collect(self) -> object:
        return families(self.told)


@given(HOSTILE)
def test_whatever_a_pod_tells_is_bounded_counted_and_can_be_shown(told: dict[str, dict[str, float]]) -> None:
    kept, refused = sound(told)
    values = [value for found in kept.values() for value in found.values()]
    assert len(values) + refused.total() == sum(map(len, told.values()))
    assert all(math.isfinite(value) and abs(value) <= LARGEST for value in values)
    assert set(kept) <= set(STEP_METRICS)
    for accept, parse in ((OPENMETRICS, openmetrics), ("", plain)):
        text = encoded(Exposed(kept), accept)[0].decode()
        assert sum(len(family.samples) for family in parse(text)) >= len(kept)


@pytest.mark.parametrize(
    ("name", "labels", "value", "reason"),
    [
        (LOSS.name, "", math.nan, "NotFinite"),
        (LOSS.name, "", math.inf, "NotFinite"),
        (LOSS.name, "", 1e31, "TooLarge"),
        (LOSS.name, "extra", 1.0, "UnknownLabels"),
        (DOCUMENTS.name, "Ok", -1.0, "Negative"),
        (DOCUMENTS.name, "Ok,more", 1.0, "UnknownLabels"),
        (DOCUMENTS.name, "Fine", 1.0, "UnknownLabels"),
        (REQUESTS_OPEN.name, "Lost", 1.0, "UnknownLabels"),
        (SCORE.name, "Made-up,sums", 1.0, "UnknownLabels"),
        (TOKEN_RATE.name, "", -1.0, "Negative"),
        (OVERLAP.name, "", -0.1, "Negative"),
        (OVERLAP.name, "", 1.1, "TooLarge"),
        (SCORE.name, "Best", 1.0, "UnknownLabels"),
        (SCORE.name, f"Best,{'x' * (MAX_LABEL + 1)}", 1.0, "UnknownLabels"),
        (SCORE.name, "Best,a\nb", 1.0, "UnknownLabels"),
        (DOCUMENTS.name, SUM, -1.0, "Negative"),
        (SCORES.name, "0.3", 1.0, "UnknownLabels"),
        (SCORES.name, "1.0", 0.5, "NoCount"),
        (SCORES.name, "+Inf", -1.0, "NoCount"),
        ("up", "", 1.0, "UnknownMetric"),
    ],
)
def test_what_is_left_out_says_why(name: str, labels: str, value: float, reason: str) -> None:
    kept, refused = sound({name: {labels: value}})
    assert (kept, refused) == ({}, {reason: 1})


def test_ten_thousand_series_are_cut_to_what_is_taken() -> None:
    told = {SCORE.name: {f"Best,task-{number}": 0.5 for number in range(10_000)}, LOSS.name: {"": 2.0}}
    kept, refused = sound(told)
    assert len(kept[SCORE.name]) == MAX_SERIES
    assert refused == {"TooMany": 10_001 - MAX_SERIES}


def test_processes_of_a_step_become_one_by_what_the_metric_is() -> None:
    one = {DOCUMENTS.name: {"Ok": 3.0, "BadJson": 1.0}, OVERLAP.name: {"": 0.1}, LOSS.name: {"": 2.0}}
    other = {DOCUMENTS.name: {"Ok": 5.0}, OVERLAP.name: {"": 0.3}, "unknown": {"": 1.0}}
    assert together([one, other]) == {
        DOCUMENTS.name: {"Ok": 8.0, "BadJson": 1.0},
        OVERLAP.name: {"": pytest.approx(0.2)},
        LOSS.name: {"": 2.0},
    }
    assert together([]) == {}


@pytest.mark.parametrize(("accept", "parse"), [(OPENMETRICS, openmetrics), ("text/plain", plain)])
def test_a_scrape_reads_what_a_step_told(accept: str, parse: object) -> None:
    reporter = Reporter()
    reporter.add(DOCUMENTS, 3, DocumentResult.OK)
    reporter.add(DOCUMENTS, 1, DocumentResult.BAD_JSON)
    reporter.set(SCORE, 0.75, "Best", "sums")
    reporter.set(LOSS, 2.25)
    reporter.tell({SCORES.name: in_buckets(SCORES, {1.0: 2, 4.5: 1, 1e6: 1})})
    body, media_type = encoded(reporter, accept)
    assert media_type.startswith(accept.partition(";")[0])
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse(body.decode())  # type: ignore[operator]
        for sample in family.samples
    }
    assert found[DOCUMENTS.name, ("result", "Ok")] == 3
    assert found[DOCUMENTS.name, ("result", "BadJson")] == 1
    assert found[SCORE.name, ("prefix", "Best"), ("task", "sums")] == 0.75
    assert found[(LOSS.name,)] == 2.25
    assert found[f"{SCORES.name}_count",] == 4
    assert found[f"{SCORES.name}_sum",] == 2 + 4.5 + 1e6
    buckets = [found[f"{SCORES.name}_bucket", ("le", bound(upper))] for upper in (*SCORES.buckets, math.inf)]
    assert buckets == sorted(buckets)
    assert found[f"{SCORES.name}_bucket", ("le", "1.0")] == 2
    assert found[f"{SCORES.name}_bucket", ("le", "4.5")] == 3


def one_label_each(metric: Metric) -> list[str]:
    """Labels that a metric of a step may have."""
    return [may[0] if may else "x" for may in metric.values or [()] * len(metric.labels)]


@pytest.mark.parametrize("metric", [LOSS, ROUTER_LOSS], ids=lambda metric: metric.name)
def test_a_loss_may_be_below_0(metric: Metric) -> None:
    told = {metric.name: {"": -1.0}}
    assert sound(told) == (told, {})


def test_each_label_of_a_metric_is_an_enum_or_free() -> None:
    for metric in STEP_METRICS.values():
        assert len(metric.values) in (0, len(metric.labels)), metric.name


def test_figures_survive_the_way_from_a_process_to_the_operator() -> None:
    reporter = Reporter()
    for metric in STEP_METRICS.values():
        if metric.type is Type.HISTOGRAM:
            reporter.tell({metric.name: in_buckets(metric, {3.0: 2})})
        elif metric.type is Type.COUNTER:
            reporter.add(metric, 2, *one_label_each(metric))
        else:
            reporter.set(metric, 0.5, *one_label_each(metric))
    told = Progress.model_validate_json(reporter.progress().model_dump_json()).figures
    kept, refused = sound(told)
    assert kept == told == reporter.figures()
    assert not refused
    assert set(kept) == set(STEP_METRICS)


def test_speeds_fade_and_times_stay() -> None:
    assert TOKEN_RATE.fades
    assert not STEP_SECONDS.fades
