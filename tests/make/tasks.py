"""Tasks of steps, and steps run as the processes that they are."""

import importlib
import json
import multiprocessing
import os
import resource
import runpy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from ixt_workloads.contract.configs import Config
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.keys import key_of, preimage
from ixt_workloads.contract.kinds import KINDS
from ixt_workloads.contract.results import Result
from ixt_workloads.contract.versions import write_task
from ixt_workloads.frame import Step
from ixt_workloads.progress import Reporter
from ixt_workloads.store import open_store

WITHOUT_TORCH = {"Prepare", "Generate"}
"""Kinds of the steps that see to it that nothing imports torch."""


@dataclass(frozen=True)
class Ran:
    """How a step's process ended."""

    code: int
    result: Result
    log: str


def task(
    config: Config,
    storage: Path | str,
    inputs: Mapping[str, str] | None = None,
    pins: Mapping[str, str] | None = None,
    **fields: Any,
) -> Task:
    """A task with its key worked out, as the planner would make it."""
    inputs, pins = dict(inputs or {}), dict(pins or {})
    image = preimage(config, KINDS[config.kind].version, {**inputs, **pins})
    values: dict[str, Any] = {
        "kind": config.kind,
        "stage": "stage",
        "key": key_of(image),
        "preimage": image,
        "run": "test",
        "run_uid": "uid-1",
        "attempt": 0,
        "indexes": 1,
        **fields,
    }
    uri = storage if isinstance(storage, str) else f"file://{storage}"
    return Task(config=config, storage=uri, inputs=inputs, pins=pins, **values)


def run_here(task: Task, index: int = 0) -> Result:
    """Run a task's step in the test's own process, without the frame: its errors are raised."""
    module = importlib.import_module(f"ixt_workloads.steps.{task.config.kind.lower()}.__main__")
    store = open_store(task.storage)
    found: Result = module.run(Step(task=task, index=index, store=store, reporter=Reporter()))
    return found


def run_step(
    task: Task,
    folder: Path,
    index: int = 0,
    env: Mapping[str, str] | None = None,
    timeout: float = 240,
    limits: Mapping[int, int] | None = None,
    text: str = "",
    forked: bool = True,
) -> Ran:
    """Run a task's step as a process of its own, as an adapter does, but forked from one that has imported
    what steps do, which would take some seconds of a processor each time.

    `limits`: resource.RLIMIT_* to bytes. `text`: what an operator of another version wrote as the task.
    `forked`: not where the environment says what libraries read when they are imported; steps that keep torch
    out never are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    task_file, result_file = folder / f"task-{index}.json", folder / f"result-{index}.json"
    task_file.write_text(text or write_task(task))
    result_file.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "IXT_TASK": str(task_file),
        "IXT_RESULT": str(result_file),
        "IXT_INDEX": str(index),
        "IXT_HOST": "127.0.0.1",
        **(env or {}),
    }
    module, log = f"ixt_workloads.steps.{task.config.kind.lower()}", folder / f"log-{index}"
    forked = forked and task.config.kind not in WITHOUT_TORCH
    process = (forks() if forked else multiprocessing.get_context("spawn")).Process(
        target=_be, args=(module, environment, log, dict(limits or {}))
    )
    process.start()
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"{module} did not end in {timeout:g} s: {log.read_text()}")
    text = result_file.read_text() if result_file.exists() else json.dumps({"outcome": "Failed"})
    return Ran(process.exitcode, Result.model_validate_json(text), log.read_text())


def forks() -> ForkServerContext:
    """Starts processes as forks of one that has imported the steps and done nothing else."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([f"ixt_workloads.steps.{kind.lower()}.__main__" for kind in KINDS])
    return server


def _be(module: str, env: dict[str, str], log: Path, limits: dict[int, int]) -> None:
    """Be a module, to its end."""
    with log.open("wb") as out:
        for descriptor in (1, 2):
            os.dup2(out.fileno(), descriptor)
    os.environ.clear()
    os.environ.update(env)
    for limit, size in limits.items():
        resource.setrlimit(limit, (size, size))
    warnings.simplefilter("ignore", RuntimeWarning)  # runpy's, of a module that was imported before
    runpy.run_module(module, run_name="__main__", alter_sys=True)
