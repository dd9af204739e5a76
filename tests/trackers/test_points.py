"""What trackers are told of a training."""

from pathlib import Path

from make.tasks import task

from ixt_workloads.contract.configs import EvaluateConfig, TrainConfig
from ixt_workloads.contract.credentials import SecretRef
from ixt_workloads.contract.results import Progress
from ixt_workloads.contract.settings import EvalTask, Evaluate, ModelSource, StageType, Train
from ixt_workloads.contract.trackers import MLflow, Trackers
from ixt_workloads.store import open_store
from ixt_workloads.trackers.points import Tracked, named, thinned, tracked

SECRET = SecretRef(name="secret-keys")


def of(
    folder: Path, *, seed: int = 1, attempt: int = 0, uid: str = "uid-1", evaluates: bool = False
) -> Tracked:
    evaluate = Evaluate(tasks=(EvalTask(name="sums", uri="s3://b/sums", credentials_secret_ref=SECRET),))
    train = TrainConfig(
        stage_type=StageType.PRETRAIN,
        train=Train(max_tokens=1000),
        seed=seed,
        evaluate=evaluate,
        model=ModelSource(source="s3://b/m", credentials_secret_ref=SECRET),
        trackers=Trackers(mlflow=MLflow(uri="http://mlflow", credentials_secret_ref=SECRET)),
    )
    own = {"arm": "conditioned", "seed": seed, "run_uid": uid, "attempt": attempt}
    found = task(train, folder, {"prepare": "prepared"}, {"judge": "judge-1"}, **own)
    if evaluates:
        scores = EvaluateConfig(stage_type=StageType.PRETRAIN, evaluate=evaluate, seed=seed)
        found = task(scores, folder, {"train": found.key, "prepare": "prepared"}, **own)
    return tracked(found, open_store(f"file://{folder}"))


def test_attempts_and_the_evaluation_of_a_training_belong_together(tmp_path: Path) -> None:
    first = of(tmp_path)
    assert first.id == of(tmp_path, attempt=3).id == of(tmp_path, evaluates=True).id
    assert len({first.id, of(tmp_path, seed=2).id, of(tmp_path, uid="uid-2").id}) == 3
    assert first.name == "test/stage/conditioned-s1"


def test_config_and_lineage_are_told_and_no_secret(tmp_path: Path) -> None:
    found = of(tmp_path)
    assert found.config["train.maxTokens"] == 1000
    assert found.config["train.optimizer.learningRate"] == "3e-4"
    assert found.config["evaluate.tasks.0.name"] == "sums"
    assert found.lineage["prepare"] == "prepared"
    assert found.lineage["pin/judge"] == "judge-1"
    assert "secret-keys" not in str(found.config)
    assert "mlflow" not in str(found.config)


def test_figures_have_names_for_people() -> None:
    figures = {
        "ixt_training_loss": {"": 1.5},
        "ixt_evaluation_score": {"Best,sums": 0.5},
        "ixt_training_gradient_norm": {"": float("inf")},
    }
    assert named(figures) == {"training/loss": 1.5, "evaluation/score/Best/sums": 0.5}


def progress(done: int, total: int, **scores: float) -> Progress:
    figures = {"ixt_training_loss": {"": 2.0}, "ixt_training_steps": {"": done // 10}}
    told = {"ixt_evaluation_score": {f"{name},sums": value for name, value in scores.items()}}
    return Progress(done=done, total=total, unit="tokens", figures=figures | (told if scores else {}))


def test_a_short_training_has_its_first_point_and_a_thousand_more() -> None:
    point = thinned(lambda: 0.0)
    points = [found for done in range(10, 100_001, 10) if (found := point(progress(done, 100_000)))]
    assert len(points) == 1001
    assert (points[-1].step, points[-1].tokens) == (10_000, 100_000)


def test_a_long_training_has_a_point_every_ten_seconds() -> None:
    now = 0.0
    point = thinned(lambda: now)
    times = []
    for second in range(1, 101):
        now = float(second)
        if point(progress(second, 10**9)):
            times.append(second)
    assert times == list(range(1, 101, 10))


def test_an_evaluation_is_told_once_when_it_is_new() -> None:
    point = thinned(lambda: 0.0)
    told = [
        point(progress(10, 10**6)),
        point(progress(20, 10**6, Best=0.5)),
        point(progress(30, 10**6, Best=0.5)),
        point(progress(5000, 10**6, Best=0.5)),
        point(progress(6000, 10**6, Best=0.6)),
    ]
    scores = [found and found.figures.get("evaluation/score/Best/sums") for found in told]
    assert scores == [None, 0.5, None, None, 0.6]
    assert [found is None for found in told] == [False, False, True, False, False]


def test_figures_that_were_told_before_make_no_second_point_of_their_step() -> None:
    now = 0.0
    point = thinned(lambda: now)
    told = progress(150, 1000)
    assert point(told).step == 15
    now = 20.0
    assert point(told.model_copy(update={"done": 300})) is None
    scored = progress(150, 1000, Best=0.5).model_copy(update={"done": 300})
    found = point(scored)
    assert (found.step, set(found.figures)) == (15, {"evaluation/score/Best/sums", "training/tokens"})
