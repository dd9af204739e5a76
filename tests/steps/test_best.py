"""The best evaluated model is exported, whatever stopped the training meanwhile."""

from pathlib import Path
from typing import Any

import pytest
import torch
from make.prepared import LENGTH, prepared, sums
from make.training import artifact, train_here, train_task

from ixt_workloads import models
from ixt_workloads.contract.configs import EvaluateConfig
from ixt_workloads.contract.exits import StepError
from ixt_workloads.contract.settings import (
    Evaluate,
    Export,
    Parallelism,
    Precision,
    Schedule,
    ScheduleType,
    StageType,
)
from ixt_workloads.evaluation import Evaluation
from ixt_workloads.steps.train.best import better
from ixt_workloads.store import Artifact
from ixt_workloads.tokenizer import load_tokenizer

DIVERGING: dict[str, Any] = {
    "steps": 36, "evaluated": True, "anneal_percent": 33, "export": Export.BEST, "learning_rate": "1e-2",
    "schedule": Schedule(type=ScheduleType.CONSTANT),
}  # fmt: skip
"""The last third reads one text again and again, which is not what is held out."""


def losses_of(found: Artifact) -> dict[int, float]:
    """Held-out loss by step."""
    return {
        point["step"]: point["evaluation"]["documents"]["None"]["nll"]
        for point in found.read_json("curve.json")["points"]
        if "evaluation" in point
    }


@pytest.mark.parametrize(
    ("precision", "parallelism"),
    [(Precision.FP32, Parallelism.REPLICATE), (Precision.BF16, Parallelism.FULLY_SHARD)],
)
def test_the_best_evaluated_model_is_exported_also_after_a_stop(
    tmp_path: Path, precision: Precision, parallelism: Parallelism
) -> None:
    key = prepared(tmp_path / "storage", sums(200), anneal=[(2, "a" * 32)] * 40)
    given = {**DIVERGING, "key": key, "precision": precision, "parallelism": parallelism}
    with pytest.raises(StepError, match="stopped after step 30"):
        train_here(train_task(tmp_path, **given), stop_after=29)
    task = train_task(tmp_path, attempt=1, **given)
    result = train_here(task)
    found = artifact(task)
    by_step = losses_of(found)
    best = min((step for step in by_step if step), key=by_step.__getitem__)
    assert best < 30, "the held-out loss rises, or the test shows nothing"
    assert found.summary["exportedStep"] == best
    assert f"exported is step {best} of 36, the best on held-out documents" in result.message
    assert scored(found, key) == pytest.approx(
        by_step[best], rel=1e-4 if precision is Precision.FP32 else 0.02
    )
    assert scored(found, key) < by_step[36]


def scored(found: Artifact, key: str) -> float:
    """Held-out loss of the exported model, scored anew."""
    with models.gathered(found) as folder:
        model, tokenizer = models.load_model(folder), load_tokenizer(folder)
    config = EvaluateConfig(stage_type=StageType.PRETRAIN, evaluate=Evaluate(), seed=1)
    evaluation = Evaluation.of(config, Artifact.open(found.store, key), tokenizer, LENGTH)
    documents = evaluation.score(model, torch.device("cpu"))["documents"]
    return float(documents["None"]["nll"])


def test_the_model_before_the_first_step_is_not_the_trainings_best() -> None:
    told = {"documents": {"None": {"nll": 2.0}}}
    assert better({}, 0, told) is None
    assert better({}, 6, told) == {"step": 6, "loss": 2.0}
    assert better({"step": 6, "loss": 2.0}, 12, told) is None, "of equal ones the first"
    assert better({}, 6, {"documents": {}}) is None
    assert better({}, 6, None) is None
    assert better({}, 6, {"documents": {"None": {"nll": float("nan")}}}) is None
