"""Trainings of arms that are compared end where they have spent as many FLOPs as the reference arm."""

from pathlib import Path

import pytest
from make.prepared import LENGTH, prepared, sums
from make.training import BATCH, artifact, train_here, train_task

from ixt_workloads.contract.configs import ReferenceStage
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.settings import Optimizer, Train

DOCUMENTS = sums(300)
ANNOTATION = 4_000_000_000
STEPS = 12


def arms(folder: Path, annotation: int, **reference: int) -> tuple[Task, Task]:
    """The training of a conditioned arm, which is the reference, and that of one without feedback."""
    conditioned = prepared(folder / "storage", DOCUMENTS, feedback=annotation)
    plain = prepared(folder / "storage", [(0, text) for _, text in DOCUMENTS], conditioned=False)
    first = train_task(folder, steps=STEPS, key=conditioned)
    config = first.config.model_copy(
        update={
            "reference": (ReferenceStage(sequences=STEPS * BATCH // LENGTH),),
            "eval_points": 4,
            # Decides nothing with a reference.
            "train": Train(max_tokens=BATCH, batch_tokens=BATCH, precision="FP32",
                           optimizer=Optimizer(learning_rate="3e-3")),
        }
    )  # fmt: skip
    second = train_task(folder, steps=STEPS, key=plain)
    inputs = {**second.inputs, "reference/0": conditioned}
    return first, second.model_copy(update={"config": config, "inputs": inputs, "key": "planned"})


def test_an_arm_ends_at_the_flops_of_the_reference_with_its_schedule(tmp_path: Path) -> None:
    reference, planned = arms(tmp_path, ANNOTATION)
    train_here(reference)
    train_here(planned)
    first, second = artifact(reference), artifact(planned)
    step = second.summary["flops"] / second.summary["steps"]
    assert second.summary["steps"] > STEPS
    assert second.summary["flops"] == pytest.approx(first.summary["flops"] + ANNOTATION, abs=step)
    points = second.read_json("curve.json")["points"]
    assert points[-1]["step"] == second.summary["steps"]
    assert points[-1]["learningRate"] == pytest.approx(3e-4)
    # Before the first step, and four times from then on.
    assert sum("evaluation" in point for point in points) == 5


def test_an_arm_that_has_spent_it_all_before_is_refused(tmp_path: Path) -> None:
    plain, _ = arms(tmp_path, 0)
    dear = prepared(tmp_path / "storage", DOCUMENTS, feedback=10**15)
    reference = (ReferenceStage(sequences=STEPS * BATCH // LENGTH),)
    task = train_task(tmp_path, key=dear)
    task = task.model_copy(
        update={
            "config": task.config.model_copy(update={"reference": reference}),
            "inputs": {**task.inputs, "reference/0": plain.inputs["prepare"]},
        }
    )
    with pytest.raises(StepError, match=r"nothing is left to train .* 1e\+15 FLOPs, annotation inc") as why:
        train_here(task)
    assert why.value.code is Exit.CONFIG
    assert "samplePercent" in why.value.hint
