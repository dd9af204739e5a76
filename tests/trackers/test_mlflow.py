"""MLflow, against its own server."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from make.trackers import point, training

from ixt_workloads.contract.credentials import SecretRef, prefix_of
from ixt_workloads.contract.trackers import MLflow
from ixt_workloads.trackers import mlflow
from ixt_workloads.trackers.points import Tracked
from ixt_workloads.trackers.sending import RefusedError, Tracker


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """The tracker sets what its library reads there."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ |= before


def opened(uri: str, of: Tracked) -> Tracker:
    return mlflow.opener(MLflow(uri=uri, experiment="sums"), of)()


def runs(uri: str, of: Tracked) -> Any:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("sums")
    assert experiment
    return client, client.search_runs([experiment.experiment_id], f"tags.`ixt.id` = '{of.id}'")


def curve(uri: str, of: Tracked, name: str) -> list[tuple[int, float]]:
    client, (run,) = runs(uri, of)
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]


def test_a_training_is_a_run(mlflow_uri: str, tmp_path: Path) -> None:
    of = training(tmp_path, id="1" * 16)
    tracker = opened(mlflow_uri, of)
    tracker.log([point(1), point(2, **{"evaluation/score/Best/sums": 0.5})])
    tracker.close(succeeded=True)
    _, (run,) = runs(mlflow_uri, of)
    assert run.info.run_name == "test/pretrain/conditioned-s0"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.optimizer.learningRate": "3e-4", "seed": "0"}
    assert run.data.tags["ixt.train"] == "key-1"
    assert run.data.tags["ixt.pin/judge"] == "judge-1"
    assert curve(mlflow_uri, of, "training/loss") == [(1, 10.0), (2, 5.0)]
    assert curve(mlflow_uri, of, "training/tokens") == [(1, 100.0), (2, 200.0)]
    assert curve(mlflow_uri, of, "evaluation/score/Best/sums") == [(2, 0.5)]


def test_a_resume_goes_on_in_the_same_run_and_tells_nothing_twice(mlflow_uri: str, tmp_path: Path) -> None:
    of = training(tmp_path, id="2" * 16)
    first = opened(mlflow_uri, of)
    first.log([point(1), point(2), point(3)])
    first.close(succeeded=False)
    _, (run,) = runs(mlflow_uri, of)
    assert run.info.status == "KILLED"
    # Another number of nodes, say: a parameter that is told already cannot change.
    second = opened(mlflow_uri, training(tmp_path, id=of.id, config={"seed": 1, "train.numNodes": 2}))
    second.log([point(2), point(3), point(4)])
    second.close(succeeded=True)
    assert [step for step, _ in curve(mlflow_uri, of, "training/loss")] == [1, 2, 3, 4]
    _, (run,) = runs(mlflow_uri, of)
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == "0"
    assert run.data.params["train.numNodes"] == "2"


def test_the_evaluation_adds_to_the_run(mlflow_uri: str, tmp_path: Path) -> None:
    of = training(tmp_path, id="3" * 16)
    first = opened(mlflow_uri, of)
    first.log([point(7)])
    first.close(succeeded=True)
    after = training(tmp_path, id=of.id, trains=False, config={}, lineage={"evaluate": "key-2"})
    second = opened(mlflow_uri, after)
    second.log([point(7)._replace(figures={"evaluation/loss/Best": 1.25})])
    second.close(succeeded=True)
    _, (run,) = runs(mlflow_uri, of)
    assert (run.data.tags["ixt.train"], run.data.tags["ixt.evaluate"]) == ("key-1", "key-2")
    assert curve(mlflow_uri, of, "evaluation/loss/Best") == [(7, 1.25)]


def test_a_large_config_and_many_figures_fit(mlflow_uri: str, tmp_path: Path) -> None:
    config: dict[str, str | int] = {f"field.{number}": number for number in range(250)}
    of = training(tmp_path, id="4" * 16, config=config | {"long": "x" * 10_000})
    tracker = opened(mlflow_uri, of)
    tracker.log([point(step, **{f"m/{number}": 1.0 for number in range(30)}) for step in range(1, 101)])
    tracker.close(succeeded=True)
    _, (run,) = runs(mlflow_uri, of)
    assert len(run.data.params) == 251
    assert len(curve(mlflow_uri, of, "m/29")) == 100


def test_what_the_server_refuses_is_said(mlflow_uri: str, tmp_path: Path) -> None:
    tracker = opened(mlflow_uri, training(tmp_path, id="5" * 16))
    with pytest.raises(RefusedError, match="name"):
        tracker.log([point(1, **{"bad:name?": 1.0})])


def test_a_secret_of_its_own_replaces_what_the_environment_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "somebody")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "else")
    monkeypatch.setenv(prefix_of("keys") + "MLFLOW_TRACKING_TOKEN", "token-1")
    settings = MLflow(uri="http://mlflow", credentials_secret_ref=SecretRef(name="keys"))
    mlflow.opener(settings, training(tmp_path))
    assert os.environ["MLFLOW_TRACKING_TOKEN"] == "token-1"
    assert "MLFLOW_TRACKING_USERNAME" not in os.environ
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
