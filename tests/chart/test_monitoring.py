"""What the chart brings for Grafana and Prometheus: what is built, with its values."""

import json
from typing import Any

import pytest
import yaml
from make.chart import CHART, RELEASE, Manifest, named, of_kind, rendered

from ixt_dashboards import rules
from ixt_dashboards.alerts import THRESHOLDS
from ixt_dashboards.files import dashboards
from ixt_dashboards.page import RUNBOOKS

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
DASHBOARDS = "dashboards.enabled=true"
ALERTS = "alerts.enabled=true"
MONITORS = "metrics.monitors.enabled=true"
OPERATOR = "dashboards.grafanaOperator.enabled=true"
UIDS = [str(made.uid) for made in dashboards()]
MIB = 1 << 20


def of_grafana(*settings: str) -> dict[str, Manifest]:
    """ConfigMaps with a dashboard, by the dashboard's file."""
    return {name: each for each in of_kind(rendered(*settings), "ConfigMap") for name in each["data"]}


def groups(*settings: str) -> dict[str, Any]:
    (rule,) = of_kind(rendered(*settings), "PrometheusRule")
    return {group["name"]: group for group in rule["spec"]["groups"]}


def test_the_thresholds_in_the_values_are_the_defaults() -> None:
    assert VALUES["alerts"]["thresholds"] == THRESHOLDS
    assert VALUES["alerts"]["runbooks"] == RUNBOOKS


def test_nothing_of_it_comes_unasked() -> None:
    kinds = {each["kind"] for each in rendered()}
    assert not kinds & {"ConfigMap", "GrafanaDashboard", "PrometheusRule"}


def test_the_sidecar_finds_all_dashboards() -> None:
    found = of_grafana(DASHBOARDS)
    assert set(found) == {f"{uid}.json" for uid in UIDS}
    for file, each in found.items():
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert each["metadata"]["annotations"] == {"grafana_folder": "ixt"}
        text = each["data"][file]
        assert json.loads(text) == json.loads((CHART / "dashboards" / file).read_text())
        assert len(json.dumps(each)) < MIB


def test_the_grafana_operator_finds_them_without_the_sidecar() -> None:
    manifests = rendered(OPERATOR)
    made = of_kind(manifests, "GrafanaDashboard")
    assert len(made) == len(UIDS)
    for each in made:
        assert each["apiVersion"] == "grafana.integreatly.org/v1beta1"
        source = each["spec"]["configMapRef"]
        config = named(manifests, "ConfigMap", source["name"])
        assert source["key"] in config["data"]
        assert "grafana_dashboard" not in config["metadata"]["labels"]
        assert each["spec"]["instanceSelector"] == {"matchLabels": {"dashboards": "grafana"}}


def test_links_lead_to_the_runbooks_that_the_values_name() -> None:
    place = "https://wiki.example.com/ixt"
    (text,) = of_grafana(DASHBOARDS, f"alerts.runbooks={place}")["ixt-run.json"]["data"].values()
    variables = {each["name"]: each for each in json.loads(text)["templating"]["list"]}
    assert variables["runbooks"]["query"] == place
    alarms = groups(ALERTS, f"alerts.runbooks={place}")["ixt.alerts"]["rules"]
    assert {each["annotations"]["runbook_url"] for each in alarms} == {
        f"{place}/{each['alert']}.md" for each in alarms
    }


def test_the_rules_are_the_built_ones() -> None:
    found = groups(ALERTS, "alerts.labels.release=monitoring")
    assert list(found.values()) == [rules.recordings_group(), rules.alerts_group()]
    rule = named(rendered(ALERTS, "alerts.labels.release=monitoring"), "PrometheusRule", RELEASE)
    assert rule["metadata"]["labels"]["release"] == "monitoring"


def test_dashboards_bring_the_recordings_where_there_is_a_prometheus_operator() -> None:
    assert list(groups(DASHBOARDS, MONITORS)) == ["ixt.recordings"]
    assert of_kind(rendered(DASHBOARDS), "PrometheusRule") == []


@pytest.mark.parametrize("name", THRESHOLDS)
def test_a_threshold_changes_the_alerts_that_it_is_about(name: str) -> None:
    value = "7h" if isinstance(THRESHOLDS[name], str) else "7" if name == "queueSeconds" else "0.75"
    if name in ("lossSpike", "slowRank", "checkpointIntervals"):
        value = "7.5"
    found = groups(ALERTS, f"alerts.thresholds.{name}={value}")["ixt.alerts"]
    assert found == rules.alerts_group(lambda each: value if each == name else str(THRESHOLDS[each]))
    assert found != rules.alerts_group()
