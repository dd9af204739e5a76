"""What panels answer when Prometheus has what the operator tells, by Prometheus' own engine."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from make.exposed import Cluster, read
from monitoring.promtool import promtool

from ixt_dashboards.expressions import expressions
from ixt_dashboards.files import dashboards
from ixt_operator.controller import exporter
from ixt_operator.controller.scrape import RunSeries
from ixt_workloads.contract.metrics import Spending

GRAFANA = {"namespace": "default", "run": "test", "stage": ".*", "arm": ".+", "__range": "5m"}
EXPRESSIONS = {each.place: each.text for each in expressions(*dashboards())}


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def check(cluster: Cluster, place: str, answers: Mapping[str, float], folder: Path) -> None:
    """The expression at a place answers this, by labels in PromQL, of what is told of a cluster's runs."""
    runs = RunSeries(cluster.cache, cluster.progress, cluster.positions, lambda why: None)
    told = read(exporter.exposition(lambda: runs.lines(0.0), "")[0])
    text = re.sub(r"\$(\w+)", lambda found: GRAFANA[found[1]], EXPRESSIONS[place])
    test: dict[str, Any] = {
        "interval": "1m",
        "input_series": [
            {"series": _selector(name, dict(labels)), "values": f"{value!r}x5"}
            for name, values in told.items()
            if name.startswith("ixt_")
            for labels, value in values.items()
        ],
        "promql_expr_test": [{
            "eval_time": "5m", "expr": text,
            "exp_samples": [{"labels": labels, "value": value} for labels, value in answers.items()],
        }],
    }  # fmt: skip
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump({"tests": [test]}))
    promtool("test", "rules", file)


def _selector(name: str, labels: Mapping[str, str]) -> str:
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


@pytest.mark.parametrize("phase", ["Running", "Complete"])
def test_the_gain_at_equal_flops_is_that_of_the_status(phase: str, cluster: Cluster, tmp_path: Path) -> None:
    gain = {"stage": "sft", "arm": "conditioned", "baseline": "plain"}
    cluster.run(
        phase=phase,
        gains=[
            {**gain, "measure": "Accuracy", "gain": "0.374000"},
            {**gain, "arm": "shuffled", "measure": "Accuracy", "gain": "-0.010000"},
        ],
    )
    labels = '{{stage="sft", arm="{}", baseline="plain", measure="Accuracy"}}'
    answers = {labels.format("conditioned"): 0.374, labels.format("shuffled"): -0.01}
    check(cluster, "ixt / Run: Gain at equal FLOPs A", answers, tmp_path)


@pytest.mark.parametrize("device", ["gpu", "cpu"])
@pytest.mark.parametrize("panel", ["Device-hours by purpose", "Device-hours over time"])
def test_hours_of_devices_have_what_is_not_saved_yet(
    panel: str, device: str, cluster: Cluster, tmp_path: Path
) -> None:
    """So they grow while a step runs, not at its checkpoints only."""
    account = {"since": 1, "until": 2, "gpus": device == "gpu", "unsaved": 3_600_000, "work": "Training"}
    counted = {f"{device}Seconds": {"Starting": 1800, "Training": 7200}}
    cluster.run(cost=counted, internal={"accounts": {"a": account}})
    hours = dict.fromkeys(Spending, 0.0) | {Spending.STARTING: 0.5, Spending.TRAINING: 3.0}
    answers = {f'{{purpose="{purpose}"}}': number for purpose, number in hours.items()}
    check(cluster, f"ixt / Run: {panel} A", answers, tmp_path)
    cluster.run(phase="Complete", cost=counted, internal={"accounts": {"a": account}})
    answers['{purpose="Training"}'] = 2.0
    check(cluster, f"ixt / Run: {panel} A", answers, tmp_path)
