"""Training on a GPU: the same results as without one, by the ways that only a GPU takes."""

import json
import re
import signal
from pathlib import Path

import pytest
import torch
from make.training import artifact, launch, losses, train_task, until_saved

from ixt_workloads.contract.exits import Exit
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.settings import Compile, Parallelism, Precision


@pytest.fixture(autouse=True)
def a_gpu() -> None:
    """No skip: whoever asks for these tests wants to know that there is none."""
    assert torch.cuda.is_available(), "there is no GPU, or its driver is older than torch's CUDA"


def launched(task: Task, folder: Path, **env: str) -> str:
    """Carry out a task as a pod does; the log."""
    process = launch(task, folder, **env)
    log, _ = process.communicate(timeout=240)
    assert process.returncode == 0, log
    return log


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"parallelism": Parallelism.FULLY_SHARD},
        {"precision": Precision.BF16},
        {"precision": Precision.BF16, "compile": Compile.ENABLED},
        {"precision": Precision.BF16, "parallelism": Parallelism.FULLY_SHARD},
        {"precision": Precision.BF16, "parallelism": Parallelism.FULLY_SHARD, "compile": Compile.ENABLED},
    ],
    ids=["fp32", "fp32-sharded", "bf16", "bf16-compiled", "bf16-sharded", "bf16-sharded-compiled"],
)
def test_a_gpu_trains_as_a_cpu_does(tmp_path: Path, settings: dict[str, object]) -> None:
    cpu, gpu = (
        train_task(tmp_path / "a", evaluated=True),
        train_task(tmp_path / "b", evaluated=True, **settings),
    )
    launched(cpu, tmp_path / "0", CUDA_VISIBLE_DEVICES="")
    launched(gpu, tmp_path / "1")
    bf16 = settings.get("precision") is Precision.BF16
    assert losses(artifact(gpu)) == pytest.approx(losses(artifact(cpu)), rel=1e-2 if bf16 else 1e-4)


def test_stopped_on_a_gpu_it_goes_on(tmp_path: Path) -> None:
    first = train_task(tmp_path, steps=4000, precision=Precision.BF16)
    process = launch(first, tmp_path / "0")
    until_saved(lambda: process.poll() is None, first, tmp_path / "storage")
    process.send_signal(signal.SIGTERM)
    log, _ = process.communicate(timeout=60)
    assert process.returncode == Exit.INTERRUPTED, log
    (stopped,) = re.findall(r"stopped after step (\d+) of 4000", log)
    second = first.model_copy(update={"attempt": 1})
    assert "resumed from work/" in launched(second, tmp_path / "1")
    points = artifact(second).read_json("curve.json")["points"]
    before = [point["loss"] for point in points if point["step"] <= int(stopped)]
    after = [point["loss"] for point in points if point["step"] > int(stopped)]
    # Not bit for bit: FlashAttention adds gradients up in no fixed order. New weights would say log(99).
    assert after[0] == pytest.approx(before[-1], rel=0.25)
    assert points[-1]["step"] == 4000


def test_memory_that_is_not_enough_is_told(tmp_path: Path) -> None:
    task = train_task(tmp_path, batch_tokens=1 << 17)
    process = launch(task, tmp_path / "0", PYTORCH_ALLOC_CONF="per_process_memory_fraction:0.0005")
    log, _ = process.communicate(timeout=120)
    assert process.returncode == Exit.OUT_OF_MEMORY, log
    assert "microBatchSequences" in json.loads((tmp_path / "0" / "result.json").read_text())["hint"]
