"""`ixt eval` and `kubectl ixt eval`: tasks of lm-evaluation-harness for a model that a run has trained."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ixt_operator.api.run import Harness, IXTRun
from ixt_operator.cli.exporting import Trained
from ixt_operator.cli.stop import stop
from ixt_operator.cli.verbs.arguments import TASKS
from ixt_operator.planner.spec import storage_uri
from ixt_workloads.contract.configs import EvaluateConfig
from ixt_workloads.contract.exported import EvalQuestion
from ixt_workloads.contract.settings import Evaluate


def harness_of(tasks: str, limit: int | None, fewshot: int | None, samples: int) -> Harness:
    """What is asked, as `evaluate.harness` has it. What cannot be ends the program."""
    named = [part.strip() for part in tasks.split(",") if part.strip()]
    if not named:
        stop(f"--tasks: must be {TASKS}")
    entries = [_entry(*part.partition("=")[::2]) for part in named]
    twice = next((part for part in named if named.count(part) > 1), None)
    if twice:
        stop(f"--tasks: {twice} is named twice")
    try:
        return Harness.model_validate(
            {"tasks": entries, "limit": limit, "fewshot": fewshot, "samples": samples}
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = first["loc"]
        what = named[int(where[1])] if len(where) > 1 and where[0] == "tasks" else tasks
        stop(f"--tasks: {what}: {first['msg']}; must be {TASKS}")


def harness_of_a_pod(tasks: str, limit: int | None, fewshot: int | None, samples: int) -> Harness:
    """The same, asked by a pod: a task that lies on this machine ends the program."""
    harness = harness_of(tasks, limit, fewshot, samples)
    here = next((task for task in harness.tasks if (task.uri or "").startswith("file://")), None)
    if here:
        stop(
            f"--tasks: a pod cannot read {here.name} on this machine: name hf://…, s3://… or pvc://CLAIM/PATH"
        )
    return harness


def _entry(name: str, place: str) -> dict[str, Any]:
    if not place:
        return {"name": name}
    return {"name": name, "uri": place if "://" in place else Path(place).expanduser().absolute().as_uri()}


def eval_question(run: IXTRun, of: Trained, harness: Harness) -> EvalQuestion:
    """What a trained model is asked, under the prefixes that its stage is evaluated with."""
    assert of.node.seed is not None
    config = EvaluateConfig(
        stage_type=of.stage.type,
        evaluate=Evaluate(prefixes=of.stage.evaluate.prefixes, harness=harness),
        seed=of.node.seed,
    )
    return EvalQuestion(
        storage=storage_uri(run),
        train=of.key,
        name=of.name,
        config=config,
        run=run.metadata.name,
        run_uid=run.metadata.uid,
    )
