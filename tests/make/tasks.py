"""Tasks of steps, and steps run as the processes that they are."""

import importlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
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
) -> Ran:
    """Run a task's step as a process of its own, as an adapter does.

    `limits`: resource.RLIMIT_* to bytes. `text`: what an operator of another version wrote as the task.
    """
    folder.mkdir(parents=True, exist_ok=True)
    task_file, result_file = folder / f"task-{index}.json", folder / f"result-{index}.json"
    task_file.write_text(text or write_task(task))
    result_file.unlink(missing_ok=True)
    bounds = [(limit, (size, size)) for limit, size in (limits or {}).items()]
    done = subprocess.run(
        [sys.executable, "-m", f"ixt_workloads.steps.{task.config.kind.lower()}"],
        env={
            **os.environ,
            "IXT_TASK": str(task_file),
            "IXT_RESULT": str(result_file),
            "IXT_INDEX": str(index),
            "IXT_HOST": "127.0.0.1",
            **(env or {}),
        },
        preexec_fn=(lambda: [resource.setrlimit(*item) for item in bounds]) if limits else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    text = result_file.read_text() if result_file.exists() else json.dumps({"outcome": "Failed"})
    return Ran(done.returncode, Result.model_validate_json(text), done.stdout)
