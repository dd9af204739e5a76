"""What a run's status says. Pure."""

from collections import Counter
from collections.abc import Iterable

from ixt_operator.api.run import IXTRun
from ixt_operator.api.status import (
    MAX_MESSAGE,
    Condition,
    ConditionStatus,
    ConditionType,
    Cost,
    Internal,
    Phase,
    Reason,
    RunStatus,
    StageStatus,
    Summary,
    fitted,
    rfc3339,
)
from ixt_operator.planner.clock import start_of, suspended_seconds
from ixt_operator.planner.ending import Ending
from ixt_operator.planner.entries import MAX_COUNT, stage_entry
from ixt_operator.planner.observed import Observed, ProcessPhase
from ixt_operator.planner.retry import TryAgain
from ixt_operator.planner.summary import summarize
from ixt_operator.planner.survey import StageView
from ixt_workloads.contract.exits import Fault


def describe(
    run: IXTRun,
    stages: tuple[StageView, ...],
    observed: Observed,
    previous: RunStatus | None,
    ending: Ending | None,
    refused: str,
    now: float,
) -> RunStatus:
    """The whole status: what was observed, and nothing that is only planned. Equal to the previous one when
    nothing shown has changed. `refused` says why something cannot be created, if it cannot."""
    summary = summarize(run, stages, observed, previous, ending)
    if refused:
        summary = summary.model_copy(update={"message": refused[:MAX_MESSAGE]})
    children, done = observed.by_node(), ending is not None
    entries = tuple(stage_entry(stage, children, previous, done) for stage in stages)
    internal = Internal(
        first_attempt=_first_attempt(previous, stages, entries, observed),
        suspended_seconds=suspended_seconds(run, observed, previous, now),
    )
    status = RunStatus(
        observed_generation=run.metadata.generation,
        phase=_phase(run, observed, ending),
        conditions=tuple(_conditions(run, stages, observed, previous, ending, refused, summary, now)),
        summary=summary,
        stages=entries,
        cost=_cost(observed, previous),
        start_time=start_of(observed, previous, now),
        completion_time=((previous.completion_time if previous else None) or rfc3339(now)) if done else None,
        internal=internal,
    )
    return fitted(status)


def unaccepted(
    previous: RunStatus | None, reason: Reason, message: str, generation: int, now: float
) -> RunStatus:
    """The status of a run that cannot be carried out as it stands; what runs of it goes on."""
    was = previous or RunStatus()
    others = (type_ for type_ in ConditionType if type_ is not ConditionType.ACCEPTED)
    conditions = (
        _condition(previous, ConditionType.ACCEPTED, False, reason, message, generation, now),
        *(
            was.condition(type_) or _condition(None, type_, False, Reason.PENDING, "", generation, now)
            for type_ in others
        ),
    )
    return was.model_copy(
        update={
            # One that had ended is taken up by the first look that can.
            "observed_generation": was.observed_generation if was.ended else generation,
            "conditions": conditions,
            "summary": was.summary.model_copy(update={"message": message[:MAX_MESSAGE]}),
        }
    )


def _phase(run: IXTRun, observed: Observed, ending: Ending | None) -> Phase:
    if ending:
        return Phase.FAILED if ending.failed else Phase.COMPLETE
    if run.spec.suspend:
        return Phase.SUSPENDED
    return Phase.RUNNING if observed.children else Phase.PENDING


def _conditions(
    run: IXTRun,
    stages: tuple[StageView, ...],
    observed: Observed,
    previous: RunStatus | None,
    ending: Ending | None,
    refused: str,
    summary: Summary,
    now: float,
) -> Iterable[Condition]:
    live = any(child.live for child in observed.children.values())
    works = any(
        process.phase in (ProcessPhase.RUNNING, ProcessPhase.READY)
        for child in observed.children.values()
        for process in child.processes
    )
    again = [
        (view.decision.cause.fault, view.decision.told(view.node.name))
        for stage in stages
        for view in stage.views.values()
        if isinstance(view.decision, TryAgain)
    ]
    held = [told for fault, told in again if fault is Fault.BUSY]
    if ending:
        progressing = (False, ending.reason, "")
    elif run.spec.suspend:
        progressing = (False, Reason.SUSPENDED_BY_USER, "")
    elif refused:
        progressing = (True, Reason.CREATE_REFUSED, refused)
    elif held:
        progressing = (True, Reason.CLAIM_HELD, held[0])
    elif again:
        progressing = (True, Reason.RETRYING, again[0][1])
    else:
        progressing = (True, Reason.STEPS_RUNNING if works else Reason.STEPS_WAITING, summary.message)
    if not run.spec.suspend or ending:
        suspended = (False, Reason.NOT_SUSPENDED, "")
    elif live:
        suspended = (False, Reason.SUSPENDING, "running steps save their state and stop")
    else:
        resume = f"nothing runs; go on with: kubectl ixt resume {run.metadata.name}"
        suspended = (True, Reason.SUSPENDED_BY_USER, resume)
    failed = ending if ending and ending.failed else None
    complete = ending if ending and not ending.failed else None
    for type_, (status, reason, text) in {
        ConditionType.ACCEPTED: (True, Reason.VALID, ""),
        ConditionType.PROGRESSING: progressing,
        ConditionType.SUSPENDED: suspended,
        ConditionType.COMPLETE: (
            (True, complete.reason, complete.message) if complete else (False, Reason.RUN_NOT_COMPLETE, "")
        ),
        ConditionType.FAILED: (
            (True, failed.reason, failed.message) if failed else (False, Reason.RUN_NOT_FAILED, "")
        ),
    }.items():
        yield _condition(previous, type_, status, reason, text, run.metadata.generation, now)


def _condition(
    previous: RunStatus | None,
    type_: ConditionType,
    holds: bool,
    reason: Reason,
    message: str,
    generation: int,
    now: float,
) -> Condition:
    status = ConditionStatus.TRUE if holds else ConditionStatus.FALSE
    was = previous.condition(type_) if previous else None
    return Condition(
        type=type_,
        status=status,
        reason=reason,
        message=message[:MAX_MESSAGE],
        last_transition_time=was.last_transition_time if was and was.status is status else rfc3339(now),
        observed_generation=generation,
    )


def _cost(observed: Observed, previous: RunStatus | None) -> Cost:
    """What the children that are there paid, and never less than was shown: children go, their cost stays."""
    flops: Counter[str] = Counter()
    for child in observed.children.values():
        for process in child.processes:
            flops.update(process.result.flops if process.result else {})
    for purpose, number in (previous.cost.flops if previous else {}).items():
        flops[purpose] = max(flops[purpose], int(number))
    return Cost(flops={purpose: str(number) for purpose, number in sorted(flops.items())})


def _first_attempt(
    previous: RunStatus | None,
    stages: tuple[StageView, ...],
    entries: tuple[StageStatus, ...],
    observed: Observed,
) -> int:
    """At least what steps that have left the run have used of numbers."""
    kept = {(stage.name, step.name) for stage in entries for step in stage.steps}
    nodes = {node for stage in stages for node in stage.views}
    used = [c.attempt + 1 for c in observed.children.values() if c.node not in nodes and not c.server]
    for stage in previous.stages if previous else ():
        used += [step.attempt for step in stage.steps if (stage.name, step.name) not in kept]
    return min(max([*used, previous.internal.first_attempt if previous else 0]), MAX_COUNT)
