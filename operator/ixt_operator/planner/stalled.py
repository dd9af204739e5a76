"""What becomes of a run that cannot be carried out: nothing of it starts, and whatever stops a run stops this
one too. Pure."""

from collections.abc import Collection
from typing import NamedTuple

from ixt_operator.api.status import (
    MAX_MESSAGE,
    ConditionStatus,
    ConditionType,
    Reason,
    RunStatus,
    StageStatus,
    StepState,
    StepStatus,
    fitted,
)
from ixt_operator.planner.describe import Found, outline
from ixt_operator.planner.ending import Ending, too_late
from ixt_operator.planner.entries import MAX_COUNT, shortened
from ixt_operator.planner.events import News
from ixt_operator.planner.now import Life, running, stops
from ixt_operator.planner.plan import Plan, settled


class Trouble(NamedTuple):
    """Why a run cannot be carried out."""

    reason: Reason
    message: str
    accepted: bool = False
    """Its spec can be run: the trouble is another."""


def stalled(life: Life, trouble: Trouble) -> Plan:
    """The moves of a run that cannot be carried out: what runs of it goes on until the run is suspended or
    its activeDeadlineSeconds are over."""
    if life.previous.settled(life.generation):
        return settled(life.observed, life.previous)
    life, gone = life.again()
    waits: list[float] = []
    ending = too_late(life, waits)
    if ending:
        ending = ending._replace(message=f"{ending.message}; {trouble.message}")
    if ending or life.suspended:
        gone.extend(running(life.observed))
    return Plan(
        delete=tuple(dict.fromkeys(gone)),
        create=(),
        scale=(),
        status=_status(life, trouble, ending, gone),
        requeue_after=max(0.0, min(waits) - life.time) if waits else None,
        keyed={},
        news=News(),
        ends=ending is not None,
    )


def _status(life: Life, trouble: Trouble, ending: Ending | None, stopping: Collection[str]) -> RunStatus:
    """The status: what was told of steps stays, and those of which nothing runs say what they wait for."""
    accepted: Found = (False, trouble.reason, trouble.message)
    if trouble.accepted:
        before = life.previous.condition(ConditionType.ACCEPTED)
        accepted = (None, Reason.PENDING, "")
        if before and before.status is not ConditionStatus.UNKNOWN:
            accepted = (before.status is ConditionStatus.TRUE, before.reason, before.message)
    status = outline(
        life,
        ending,
        stopping,
        accepted=accepted,
        progressing=(False, trouble.reason, trouble.message),
        last_attempt=_last_attempt(life),
    )
    message = ending.message if ending else trouble.message
    summary = life.previous.summary.model_copy(update={"eta_seconds": None, "message": message[:MAX_MESSAGE]})
    stages = tuple(_stage(life, stage, trouble, ending) for stage in life.previous.stages)
    return fitted(status.model_copy(update={"summary": summary, "stages": stages}))


def _stage(life: Life, stage: StageStatus, trouble: Trouble, ending: Ending | None) -> StageStatus:
    """A stage's entry. Attempts that nobody told of yet are counted: they may be deleted with this look."""
    attempts = [child for child in life.observed.all if not child.server]

    def step(was: StepStatus) -> StepStatus:
        own = [child for child in attempts if child.told_by(stage.name, was.name)]
        attempt = min(max([was.attempt, *(child.attempt for child in own)]), MAX_COUNT)
        now = was.model_copy(update={"attempt": attempt})
        if was.state in (StepState.COMPLETE, StepState.FAILED):
            return now
        if ending:
            return now.model_copy(update={"state": StepState.WAITING})
        waits = not any(map(stops, own))
        return now.model_copy(update={"message": shortened(trouble.message)}) if waits else now

    return stage.model_copy(update={"steps": tuple(map(step, stage.steps))})


def _last_attempt(life: Life) -> int:
    """At least what children of which the status has no step have used of numbers."""
    steps = list(life.previous.steps)
    untold = [
        child.attempt
        for child in life.observed.all
        if not child.server and not any(child.told_by(stage, step.name) for stage, step in steps)
    ]
    return max([*untold, life.previous.internal.last_attempt])
