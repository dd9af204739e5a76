"""Train tasks on sums of digits, and training inside the test's own process."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ixt_workloads.contract.configs import TrainConfig
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.results import Result
from ixt_workloads.contract.settings import (
    Checkpoint,
    EvalTask,
    Evaluate,
    ModelSource,
    Optimizer,
    Precision,
    StageType,
    Train,
)
from ixt_workloads.contract.versions import write_task
from ixt_workloads.frame import Step
from ixt_workloads.progress import Reporter
from ixt_workloads.steps.train.ranks import world
from ixt_workloads.steps.train.train import train
from ixt_workloads.store import Artifact, open_storage
from make import loopback
from make.models import config_folder, tokenizer_folder
from make.prepared import LENGTH, prepared, sums
from make.tasks import forks, task

BATCH = 8 * LENGTH


def questions(folder: Path, count: int = 20) -> EvalTask:
    """A task of sums of two digits."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"prompt": f"{i // 10}+{i % 10}=", "answer": str(i // 10 + i % 10)})
        for i in range(0, 100, 100 // count)
    ]
    (folder / "sums.jsonl").write_text("\n".join(lines))
    return EvalTask(name="sums", uri=f"file://{folder / 'sums.jsonl'}")


def scratch(folder: Path, *, chat: bool = False, width: int = 32) -> ModelSource:
    """A model from scratch with the tokenizer of characters."""
    return ModelSource(
        config=f"file://{config_folder(folder / 'config', width=width)}",
        tokenizer=f"file://{tokenizer_folder(folder / 'tokenizer', chat=chat)}",
    )


def train_task(
    folder: Path,
    *,
    steps: int = 12,
    key: str = "",
    model: ModelSource | None = None,
    inputs: Mapping[str, str] | None = None,
    stage_type: StageType = StageType.PRETRAIN,
    attempt: int = 0,
    anneal_percent: int = 0,
    learning_rate: str = "3e-3",
    evaluated: bool = False,
    run_uid: str = "uid-1",
    **fields: Any,
) -> Task:
    """A Train task of so many optimizer steps on a storage of its own in `folder`."""
    values = {
        "max_tokens": steps * BATCH,
        "batch_tokens": BATCH,
        "precision": Precision.FP32,
        "optimizer": Optimizer(learning_rate=learning_rate),
        "checkpoint": Checkpoint(interval_seconds=1, keep=2),
        "eval_every_tokens": 6 * BATCH if evaluated else None,
        **fields,
    }
    config = TrainConfig(
        stage_type=stage_type,
        train=Train(**values),
        seed=1,
        anneal_percent=anneal_percent,
        evaluate=Evaluate(tasks=(questions(folder / "tasks"),) if evaluated else ()),
        model=None if inputs else model or scratch(folder),
    )
    storage = folder / "storage"
    key = key or prepared(storage, sums(300))
    return task(config, storage, {"prepare": key, **(inputs or {})}, attempt=attempt, run_uid=run_uid)


def train_here(task: Task, stop_after: int | None = None, reporter: Reporter | None = None) -> Result:
    """Train in this process as the only rank. `stop_after`: told to stop during this step."""
    result = _train(task, stop_after, reporter)
    assert result is not None
    return result


@contextmanager
def started_ranks(task: Task, ranks: int) -> Iterator[list[BaseProcess]]:
    """Ranks as forks of a process that has imported torch and done nothing else.

    Forks of this process would inherit its dead process groups; whoever collects one of those there waits
    for threads that no fork has.
    """
    with loopback.part() as part:
        arguments = [(task, rank, ranks, loopback.port(part)) for rank in range(ranks)]
        started: list[BaseProcess] = [forks().Process(target=_rank, args=each) for each in arguments]
        for process in started:
            process.start()
        try:
            yield started
        finally:
            for process in started:
                process.kill()
                process.join()


def train_on_ranks(task: Task, ranks: int) -> None:
    """Train in so many processes, to the end."""
    with started_ranks(task, ranks) as started:
        for rank in started:
            rank.join(120)
            assert rank.exitcode == 0


def _rank(task: Task, rank: int, ranks: int, port: int) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    torch.set_num_threads(1)
    _train(task)


def _train(task: Task, stop_after: int | None = None, reporter: Reporter | None = None) -> Result | None:
    stop = threading.Event()
    step = Step(task=task, index=0, store=open_storage(task.storage), reporter=reporter or Reporter())

    def report() -> None:
        message = step.reporter.progress().message
        if stop_after is not None and message.startswith(f"step {stop_after} "):
            stop.set()

    try:
        with world() as place:
            return train(step, place, stop, report, lambda: None)
    finally:
        if dist.is_initialized():  # by a step that failed
            dist.destroy_process_group()


def artifact(task: Task) -> Artifact:
    """What a task committed."""
    return Artifact.open(open_storage(task.storage), task.key)


def losses(found: Artifact) -> list[float]:
    """Of the curve's points."""
    return [point["loss"] for point in found.read_json("curve.json")["points"]]


def launch(task: Task, folder: Path, **env: str) -> subprocess.Popen[str]:
    """Start a pod's process."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.json").write_text(write_task(task))
    given = {
        **os.environ, **env, "IXT_TASK": str(folder / "task.json"), "IXT_RESULT": str(folder / "result.json"),
        "IXT_HOST": "127.0.0.1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "ixt_workloads.steps.train"],
        env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def until_saved(alive: Callable[[], bool], task: Task, storage: Path) -> None:
    """Wait until this attempt has a complete checkpoint."""
    work = storage / "work" / task.key / "uid-1" / str(task.attempt)
    deadline = time.monotonic() + 120
    while not list(work.glob("step-*/state.json")):
        assert alive()
        assert time.monotonic() < deadline
        time.sleep(0.02)
