"""Steps with trackers: what these have of a training, and what a training has of those that misbehave."""

import json
import signal
from pathlib import Path

import pytest
from make.tasks import run_step, task
from make.trackers import BAD, scalars
from make.training import artifact, launch, losses, train_here, train_task, until_saved

from ixt_workloads.contract.configs import EvaluateConfig
from ixt_workloads.contract.exits import Exit
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.results import Outcome, Result
from ixt_workloads.contract.settings import Evaluate
from ixt_workloads.contract.trackers import MLflow, TensorBoard, Trackers, Wandb

pytestmark = pytest.mark.engine

ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def with_trackers(wanted: Task, **trackers: object) -> Task:
    config = wanted.config.model_copy(update={"trackers": Trackers(**trackers)})
    return wanted.model_copy(update={"config": config, "stage": "pretrain", "arm": "plain", "seed": 1})


def result(folder: Path) -> Result:
    return Result.model_validate_json((folder / "result.json").read_bytes())


def event_folder(folder: Path) -> Path:
    (found,) = (folder / "storage" / "tensorboard" / "test" / "pretrain" / "plain-s1").iterdir()
    return found


def test_a_training_and_its_evaluation_are_one_curve(tmp_path: Path) -> None:
    wanted = with_trackers(train_task(tmp_path, steps=12), tensorboard=TensorBoard())
    trained = run_step(wanted, tmp_path / "train", env=ONE_THREAD)
    assert trained.code == Exit.OK, trained.log
    config = EvaluateConfig(
        stage_type=wanted.config.stage_type,
        evaluate=Evaluate(),
        seed=1,
        trackers=Trackers(tensorboard=TensorBoard()),
    )
    inputs = {"train": wanted.key, "prepare": wanted.inputs["prepare"]}
    scoring = task(config, tmp_path / "storage", inputs, stage="pretrain", arm="plain", seed=1)
    evaluated = run_step(scoring, tmp_path / "evaluate", env=ONE_THREAD)
    assert evaluated.code == Exit.OK, evaluated.log
    folder = event_folder(tmp_path)
    curve = scalars(folder, "training/loss")
    tokens = artifact(wanted).summary["tokens"]
    assert curve[-1][0] == 12
    assert scalars(folder, "training/learning_rate")[-1][0] == 12
    assert scalars(folder, "training/tokens")[-1] == (12, tokens)
    assert scalars(folder, "cost/training_flops") == [(12, pytest.approx(trained.result.flops["training"]))]
    assert [step for step, _ in scalars(folder, "evaluation/loss/Best")] == [12]
    assert [step for step, _ in scalars(folder, "cost/evaluation_flops")] == [12]
    # The same without any tracker, in the storage and in the log.
    (kept,) = (tmp_path / "storage" / "curves" / "test" / "pretrain" / "plain-s1").iterdir()
    trains, evaluates = (
        [json.loads(line) for line in file.read_text().splitlines()]
        for file in sorted(kept.iterdir(), key=lambda file: "evaluate" in file.name)
    )
    assert [(point["step"], point["figures"]["training/loss"]) for point in trains[:-1]] == [
        (step, pytest.approx(loss)) for step, loss in curve
    ]
    assert {"training/learning_rate", "training/tokens_per_second"} <= trains[-2]["figures"].keys()
    assert evaluates[-1]["figures"]["evaluation/loss/Best"] > 0
    logged = [json.loads(line) for line in trained.log.splitlines() if '"point"' in line]
    assert [line["point"]["step"] for line in logged] == [point["step"] for point in trains]
    assert (logged[0]["stage"], logged[0]["arm"], logged[0]["seed"]) == ("pretrain", "plain", 1)
    assert "tokens/s" in logged[-2]["message"]


def test_a_training_that_was_stopped_goes_on_in_the_same_curve(tmp_path: Path) -> None:
    wanted = with_trackers(train_task(tmp_path, steps=400), tensorboard=TensorBoard())
    stopped = launch(wanted, tmp_path / "first")
    until_saved(lambda: stopped.poll() is None, wanted, tmp_path / "storage")
    stopped.send_signal(signal.SIGTERM)
    stopped.communicate(timeout=120)
    again = run_step(wanted.model_copy(update={"attempt": 1}), tmp_path / "second", env=ONE_THREAD)
    assert again.code == Exit.OK, again.log
    folder = event_folder(tmp_path)
    assert len(list(folder.iterdir())) == 2
    steps = [step for step, _ in scalars(folder, "training/loss")]
    assert steps == sorted(set(steps))
    assert steps[-1] == 400


@pytest.mark.parametrize(("first", "second"), [("silent", "refused"), ("broken", "slow")])
def test_a_tracker_that_misbehaves_costs_a_training_nothing(
    first: str, second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    without = train_task(tmp_path, steps=12)
    train_here(without)
    with BAD[first]() as one, BAD[second]() as other:
        wanted = with_trackers(
            without,
            tensorboard=TensorBoard(),
            mlflow=MLflow(uri=one),
            wandb=Wandb(project="sums", base_url=other),
        ).model_copy(update={"key": "0" * len(without.key)})
        ran = run_step(wanted, tmp_path / "train", env=ONE_THREAD)
    assert ran.code == Exit.OK, ran.log
    assert ran.result.outcome is Outcome.COMMITTED
    assert losses(artifact(wanted)) == pytest.approx(losses(artifact(without)), rel=1e-5)
    own, *said = ran.result.message.split("; ")
    assert own.startswith("trained ")
    assert [words.split(":")[0] for words in said] == ["MLflow", "Weights & Biases"]
    assert all(words.endswith("dropped") for words in said)
    # Those that work are none the worse for it.
    assert scalars(event_folder(tmp_path), "training/loss")[-1][0] == 12
    assert "k" * 40 not in ran.log + json.dumps(ran.result.model_dump(mode="json"))
