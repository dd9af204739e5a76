"""Dashboards ask for what there is, say what they show, and are those that lie in the sources."""

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
from monitoring.asked import names, nodes, selectors

from ixt_dashboards import foreign
from ixt_dashboards.expressions import Expression, expressions, of_rules
from ixt_dashboards.files import dashboards, files
from ixt_dashboards.page import UIDS
from ixt_dashboards.recordings import RECORDINGS
from ixt_workloads.contract.metrics import METRICS, NODE, STEP_METRICS, Type

ROOT = Path(__file__).parents[2]
MADE = {str(made.uid): made for made in dashboards()}
ALL = [*expressions(*MADE.values()), *of_rules()]
GRAFANA = {"__rate_interval": "2m", "__range": "6h", "__range_s": "21600"}
TARGET = {"job", "instance", "pod", "namespace", "le"}
"""Labels that scraping gives to every series, and that of a histogram's buckets."""


def filled(text: str) -> str:
    """The expression with Grafana's variables as some value of them."""
    return re.sub(r"\$(\w+)", lambda found: GRAFANA.get(found[1], "value"), text)


def labels_of(name: str) -> set[str] | None:
    """Labels that a metric's series may have; None for those of others, which are free."""
    for metric in METRICS:
        histogram = metric.type is Type.HISTOGRAM
        if name in (
            {f"{metric.name}_{part}" for part in ("bucket", "sum", "count")} if histogram else {metric.name}
        ):
            before = NODE if metric.name in STEP_METRICS else ()
            return {*before, *metric.labels, *TARGET}
    base = re.sub("_(bucket|sum|count)$", "", name)
    if name in foreign.NAMES - foreign.HISTOGRAMS or base in foreign.HISTOGRAMS:
        return None
    if name in {each.name for each in RECORDINGS}:
        return None
    raise AssertionError(f"nobody exports {name}")


@pytest.mark.parametrize("expression", ALL, ids=lambda each: each.place)
def test_an_expression_asks_for_metrics_and_labels_that_there_are(expression: Expression) -> None:
    parsed = promql.parse(filled(expression.text))
    found = list(selectors(parsed))
    for selector in found:
        labels = labels_of(selector.name)
        used = {matcher.name for matcher in selector.matchers.matchers}
        assert labels is None or used <= labels, f"{selector.name} has no label {used - labels}"
    known = set().union(*(labels_of(selector.name) or {"*"} for selector in found))
    made = set(re.findall(r'label_(?:join|replace)\(.*?, "(\w+)"', expression.text))
    for node in nodes(parsed):
        if isinstance(node, promql.AggregateExpr) and node.modifier and "*" not in known:
            assert set(node.modifier.labels) <= known | made, expression.text


def test_what_the_operator_tells_of_runs_is_asked_without_who_told_it() -> None:
    """Otherwise a change of leaders shows everything twice."""
    told = {metric.name for metric in METRICS if "run" in metric.labels or metric.name in STEP_METRICS}
    for expression in ALL:
        if ": variable" in expression.place or "annotation" in expression.place:
            continue
        parsed = promql.parse(filled(expression.text))
        inside = {
            selector.name
            for node in nodes(parsed)
            if isinstance(node, promql.AggregateExpr)
            for selector in selectors(node.expr)
        }
        asked = {re.sub("_(bucket|sum|count)$", "", selector.name) for selector in selectors(parsed)}
        assert asked & told <= {re.sub("_(bucket|sum|count)$", "", name) for name in inside}, expression.place


def test_every_metric_is_shown_or_watched() -> None:
    shown = {name for each in ALL for name in names(filled(each.text))}
    shown |= {re.sub("_(bucket|sum|count)$", "", name) for name in shown}
    assert {metric.name for metric in METRICS} - shown == set(NOT_SHOWN)


def test_vllm_has_the_metrics_that_are_asked_of_it() -> None:
    found = importlib.util.find_spec("vllm")
    if found is None or found.origin is None:
        pytest.skip("without engines there is no vLLM")
    text = (Path(found.origin).parent / "v1/metrics/loggers.py").read_text()
    there = set(re.findall(r'name="(vllm:\w+)"', text))
    asked = {name for name in foreign.NAMES if name.startswith("vllm:")}
    # A counter's name gets its ending when it is exported.
    assert {name for name in asked if not {name, name.removesuffix("_total")} & there} == set()


def test_foreign_metrics_that_are_named_are_asked_for() -> None:
    asked = {name for each in ALL for name in names(filled(each.text))}
    asked |= {re.sub("_(bucket|sum|count)$", "", name) for name in asked}
    assert asked >= foreign.NAMES


NOT_SHOWN = {
    "ixt_run_info": "for joins of one's own",
}
"""Metrics that no dashboard and no rule asks for, and why."""


def panels(tree: Any) -> Iterator[dict[str, Any]]:
    for panel in tree["panels"]:
        if panel["type"] != "row":
            yield panel
        yield from panel.get("panels") or []


@pytest.mark.parametrize("path", sorted(files()), ids=str)
def test_what_is_built_lies_in_the_sources(path: Path) -> None:
    assert (ROOT / path).read_text() == files()[path], "make dashboards"


@pytest.mark.parametrize("uid", MADE)
def test_a_dashboard_is_complete(uid: str) -> None:
    tree = json.loads(files()[Path(f"dashboards/{uid}.json")])
    assert uid in UIDS.values()
    assert (tree["refresh"], tree["schemaVersion"] > 30) == ("30s", True)
    numbers = [panel["id"] for panel in panels(tree)] + [
        each["id"] for each in tree["panels"] if each["type"] == "row"
    ]
    assert len(set(numbers)) == len(numbers)
    for panel in panels(tree):
        about = f"{uid}: {panel['title']}"
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["description"].endswith("."), about
        assert defaults["unit"], about
        assert defaults["noValue"], about
        assert defaults["thresholds"]["steps"], about
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, about
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}, about
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]), about
    titles = [panel["title"] for panel in panels(tree)]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("uid", MADE)
def test_panels_fill_the_grid_and_do_not_overlap(uid: str) -> None:
    tree = json.loads(files()[Path(f"dashboards/{uid}.json")])
    sections: list[list[dict[str, Any]]] = [[]]
    for panel in tree["panels"]:
        if panel["type"] == "row":
            sections.append(panel.get("panels") or [])
        else:
            sections[-1].append(panel)
    for section in sections:
        taken = set()
        for place in (panel["gridPos"] for panel in section):
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not taken & cells
            assert all(x < 24 for x, _ in cells)
            taken |= cells
        rows = {y for _, y in taken}
        assert len(taken) == 24 * len(rows), section[0]["title"] if section else uid


@pytest.mark.parametrize("uid", MADE)
def test_links_between_dashboards_lead_somewhere(uid: str) -> None:
    text = files()[Path(f"dashboards/{uid}.json")]
    linked = set(re.findall(r'"/d/([\w-]+)', text))
    assert linked - {uid} == set(UIDS.values()) - {uid}
    for link in json.loads(text)["links"]:
        assert (link["includeVars"], link["keepTime"]) == (True, True)
