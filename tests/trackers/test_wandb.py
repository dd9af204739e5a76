"""Weights & Biases in its offline mode: what it would send, read from its own file."""

import json
from pathlib import Path
from typing import Any

import pytest
from make.trackers import point, training, until, wandb_records

from ixt_workloads.contract.credentials import SecretRef, prefix_of
from ixt_workloads.contract.trackers import Wandb
from ixt_workloads.trackers import wandb
from ixt_workloads.trackers.points import Tracked
from ixt_workloads.trackers.sending import Tracker

KEY = "k" * 40


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    # The tracker sets these.
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv(prefix_of("keys") + "WANDB_API_KEY", KEY)


def opened(of: Tracked) -> Tracker:
    settings = Wandb(
        project="sums",
        entity="team",
        base_url="http://127.0.0.1:9",
        credentials_secret_ref=SecretRef(name="keys"),
    )
    return wandb.opener(settings, of)()


def closed(tracker: Tracker, folder: Path, *, succeeded: bool = True) -> None:
    """Close it, and wait for the library's own process to have written its file."""
    tracker.close(succeeded=succeeded)
    until(lambda: records(folder, "exit"))


def records(folder: Path, kind: str) -> list[Any]:
    return [
        getattr(record, kind)
        for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
        for record in wandb_records(file)
        if record.WhichOneof("record_type") == kind
    ]


def history(folder: Path) -> list[dict[str, Any]]:
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row.item}
        for row in records(folder, "history")
    ]


def test_a_training_is_a_run(tmp_path: Path) -> None:
    tracker = opened(training(tmp_path))
    tracker.log([point(1), point(2, **{"evaluation/score/Best/sums": 0.5})])
    closed(tracker, tmp_path)
    (run,) = records(tmp_path, "run")
    assert (run.entity, run.project, run.run_group) == ("team", "sums", "test")
    assert (run.run_id, run.display_name) == ("0123456789abcdef", "test/pretrain/conditioned-s0")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["train.optimizer.learningRate"] == "3e-4"
    assert config["lineage/pin/judge"] == "judge-1"
    rows = history(tmp_path)
    assert [row["_step"] for row in rows] == [1, 2]
    assert [row["training/loss"] for row in rows] == [10.0, 5.0]
    assert [row["training/tokens"] for row in rows] == [100, 200]
    assert rows[1]["evaluation/score/Best/sums"] == 0.5
    axes = {metric.glob_name: metric.step_metric for metric in records(tmp_path, "metric")}
    assert axes["*"] == "training/tokens"
    assert [ended.exit_code for ended in records(tmp_path, "exit")] == [0]


def test_a_resume_has_the_same_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first", "second"):
        # Each attempt has a pod's own folder: the library names files by the second.
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.setenv("WANDB_DIR", str(folder))
        tracker = opened(training(tmp_path))
        tracker.log([point(1), point(2)])
        closed(tracker, folder, succeeded=False)
        assert {run.run_id for run in records(folder, "run")} == {"0123456789abcdef"}
        assert [row["_step"] for row in history(folder)] == [1, 2]


def test_nothing_but_the_training_is_told(tmp_path: Path) -> None:
    tracker = opened(training(tmp_path))
    tracker.log([point(1)])
    closed(tracker, tmp_path)
    assert not list(tmp_path.glob("wandb/offline-run-*/files/*"))
    for kind in ("environment", "stats", "output", "output_raw", "artifact"):
        assert records(tmp_path, kind) == []
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or KEY.encode() not in file.read_bytes()
