"""What plans are made from, what they are collected in, and what their parts share."""

from typing import NamedTuple

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.api.status import RunStatus
from ixt_operator.planner.child import Child
from ixt_operator.planner.observed import ChildState, Observed
from ixt_operator.planner.survey import StageView
from ixt_workloads.contract.credentials import secrets_of
from ixt_workloads.contract.keys import KEY_LENGTH, key_of


class Now(NamedTuple):
    """What a plan is made from."""

    run: IXTRun
    runtime: IXTRuntime
    observed: Observed
    children: dict[str, list[ChildState]]
    """By node."""
    previous: RunStatus | None
    time: float


class Moves(NamedTuple):
    """What a plan is collected in."""

    delete: list[str]
    create: list[Child]
    scale: list[Child]
    waits: list[float]
    """Times at which something is due, in Unix seconds."""


def stops(child: ChildState) -> bool:
    """Whether a child is to be stopped when nothing may run: it lives, and is not on its way out."""
    return child.live and not child.deleting


def judge_key(run: IXTRun, runtime: IXTRuntime, stage: StageView) -> str:
    """Key of a stage's judge: changes with whatever needs another server; not with the number of replicas."""
    judge = run.spec.judge
    pins = stage.pins or {}
    return key_of(
        {
            "pin": pins.get("judge", ""),
            "source": judge.model if judge else None,
            "credentials": sorted(secrets_of(judge)),
            "parser": judge.reasoning_parser if judge else None,
            "args": [*runtime.spec.engine_args, *(judge.engine.args if judge else ())],
            "tensorParallelSize": judge.engine.tensor_parallel_size if judge else 1,
        }
    )[:KEY_LENGTH]
