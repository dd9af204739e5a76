"""Alerts fire when they should, are silent when they should, and say where to look."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import RowPanel
from monitoring.alarms import ALARMS, Alarm
from monitoring.promtool import promtool

from ixt_dashboards import rules
from ixt_dashboards.alerts import THRESHOLDS, alerts
from ixt_dashboards.expressions import panels
from ixt_dashboards.files import dashboards
from ixt_dashboards.page import RUNBOOKS
from ixt_operator.api.status import Reason
from ixt_operator.cli.kubectl import app
from ixt_workloads.contract.metrics import Refusal

ROOT = Path(__file__).parents[2]
ALERTS = {alert.name: alert for alert in alerts()}


def as_promtool_reads_it(alarm: Alarm) -> dict[str, Any]:
    """A unit test in promtool's format."""
    name = alarm.alert
    words = {"$value": "", **{f"$labels.{label}": value for label, value in alarm.labels.items()}}
    description = re.sub(r"{{ (\S+) }}", lambda found: words.get(found[1], ""), ALERTS[name].first)
    firing = {
        "exp_labels": alarm.labels,
        "exp_annotations": {
            "summary": alarm.summary,
            "description": description,
            "runbook_url": f"{RUNBOOKS}/{name}.md",
        },
    }
    silent = [{"eval_time": f"{minute}m", "alertname": name, "exp_alerts": []} for minute in alarm.silent]
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in alarm.series.items()],
        "alert_rule_test": [
            *silent, {"eval_time": f"{alarm.fires}m", "alertname": name, "exp_alerts": [firing]}
        ],
    }  # fmt: skip


def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(rules.file())
    promtool("check", "rules", file)


@pytest.mark.parametrize("rule_file", ["rules.yaml", "dashboards/rules-local.yaml"])
def test_prometheus_takes_what_the_documentation_configures(rule_file: str, tmp_path: Path) -> None:
    blocks = re.findall("```yaml\n(.*?)```", (ROOT / "docs/monitoring.md").read_text(), re.DOTALL)
    (text,) = (block for block in blocks if f"[{rule_file}]" in block)
    # Grafana takes 15 seconds for granted where nobody tells it more: rates look back on four scrapes.
    assert yaml.safe_load(text)["global"] == {"scrape_interval": "15s"}
    (tmp_path / "dashboards").mkdir()
    (tmp_path / rule_file).write_text((ROOT / "dashboards" / Path(rule_file).name).read_text())
    (tmp_path / "prometheus.yml").write_text(text)
    assert "SUCCESS" in promtool("check", "config", tmp_path / "prometheus.yml")


@pytest.mark.parametrize(
    "alarm", ALARMS, ids=[f"{place}-{alarm.alert}" for place, alarm in enumerate(ALARMS)]
)
def test_an_alert_fires_and_falls_silent(alarm: Alarm, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(rules.file())
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "group_eval_order": ["ixt.recordings", "ixt.alerts"],
        "tests": [as_promtool_reads_it(alarm)],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump(test))
    promtool("test", "rules", file)


def test_a_run_on_one_machine_misses_no_operator() -> None:
    local, every = (set(re.findall(r"alert: (\w+)", text)) for text in (rules.file_of_runs(), rules.file()))
    assert every - local == {
        "IXTNoLeader", "IXTQueueStuck", "IXTReconcileErrors", "IXTNamespaceUnserved", "IXTFiguresMissing",
    }  # fmt: skip


def test_every_alert_is_tried() -> None:
    assert {alarm.alert for alarm in ALARMS} == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_its_runbook(name: str) -> None:
    text = (ROOT / RUNBOOKS / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["What it means", "How to look", "What to do"]


PATHS = set(re.findall(r"`((?:spec|status)\.[\w.\[\]]+)`", (ROOT / "docs/api.md").read_text()))
VALUES = yaml.safe_load((ROOT / "charts/ixt-operator/values.yaml").read_text())
TITLES = {
    word
    for made in dashboards()
    for word in (
        *(str(panel.title) for panel in panels(made)),
        *(str(row.title) for row in made.panels or [] if isinstance(row, RowPanel)),
    )
}
OTHERS = {"unforeseen error", "length", "--max-num-seqs", "pod", *Reason}
"""Words of logs, of vLLM, of Kueue, and reasons of conditions."""


def in_values(words: list[str]) -> bool:
    """Whether the chart has a value of this path."""
    found: Any = VALUES
    for word in words:
        if not isinstance(found, dict) or word not in found:
            return False
        found = found[word]
    return True


@pytest.mark.parametrize("name", ALERTS)
def test_a_runbook_names_what_there_is(name: str) -> None:
    """Panels and rows in quotes; fields, values, thresholds, files and commands as code."""
    text = (ROOT / RUNBOOKS / f"{name}.md").read_text()
    said = " ".join(re.sub("```.*?```", "", text, flags=re.DOTALL).split())
    assert set(re.findall('"([^"]+)"', said)) <= TITLES | OTHERS
    assert set(re.findall(r"\brow ([A-Z]\w+)", said)) <= TITLES
    for threshold in re.findall(r"\(`(\w+)`\)", said):
        assert threshold in THRESHOLDS
    fields = {path.replace("[]", "") for path in PATHS}
    for word in re.findall("`([^` ]+)`", said):
        assert (
            word in OTHERS
            or word in THRESHOLDS
            or (ROOT / word).exists()
            or any(f".{field}".endswith(f".{word}") for field in fields)
            or in_values(word.split("."))
        ), word
    assert set(re.findall(r"kubectl ixt (\w+)", text)) <= {
        each.callback.__name__ for each in app.registered_commands if each.callback
    }
    assert set(re.findall(r"\bIXT[A-Z]\w+", said)) <= {"IXTRuntime", *ALERTS}


def test_the_runbook_of_missing_figures_has_each_reason() -> None:
    text = (ROOT / RUNBOOKS / "IXTFiguresMissing.md").read_text()
    assert [reason for reason in Refusal if not re.search(rf"\b{reason}\b", text)] == []


def test_no_runbook_is_about_an_alert_that_is_gone() -> None:
    assert {file.stem for file in (ROOT / RUNBOOKS).glob("IXT*.md")} == set(ALERTS)
