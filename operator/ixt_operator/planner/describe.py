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
    Phase,
    Reason,
    RunStatus,
    StageStatus,
    StepState,
    fitted,
    rfc3339,
)
from ixt_operator.planner.child import Child
from ixt_operator.planner.ending import Ending
from ixt_operator.planner.entries import stage_entry
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
    created: Iterable[Child],
    now: float,
) -> RunStatus:
    """The whole status. Equal to the previous one when nothing shown has changed. `created` are the children
    that this look starts: their attempts are begun even if they are never seen, and their steps run."""
    summary = summarize(run, stages, observed, previous, ending)
    begun = {name: children[-1].attempt + 1 for name, children in observed.by_node().items()}
    started = {child.node: child.attempt + 1 for child in created}
    begun |= started
    conditions = tuple(_conditions(run, stages, observed, previous, ending, summary.message, now))
    done = ending is not None
    entries = tuple(stage_entry(stage, begun, started, previous, done) for stage in stages)
    status = RunStatus(
        observed_generation=run.metadata.generation,
        phase=_phase(run, bool(observed.children or started), ending),
        conditions=conditions,
        summary=summary,
        stages=entries,
        first_attempt=_first_attempt(previous, entries),
        cost=_cost(observed, previous),
        start_time=(previous.start_time if previous else None) or rfc3339(now),
        completion_time=((previous.completion_time if previous else None) or rfc3339(now)) if done else None,
    )
    return fitted(status)


def unaccepted(
    previous: RunStatus | None, reason: Reason, message: str, generation: int, now: float
) -> RunStatus:
    """The status of a run that cannot be carried out as it stands; what runs of it goes on."""
    was = previous or RunStatus()
    conditions = {condition.type: condition for condition in was.conditions}
    for type_ in ConditionType:
        if type_ not in conditions or type_ is ConditionType.ACCEPTED:
            old = conditions.get(type_)
            found = (
                (reason, message[:MAX_MESSAGE]) if type_ is ConditionType.ACCEPTED else (Reason.PENDING, "")
            )
            kept = old is not None and old.status is ConditionStatus.FALSE
            conditions[type_] = Condition(
                type=type_,
                status=ConditionStatus.FALSE,
                reason=found[0],
                message=found[1],
                last_transition_time=old.last_transition_time if old and kept else rfc3339(now),
                observed_generation=generation,
            )
    return was.model_copy(
        update={
            # One that had ended is taken up by the first look that can.
            "observed_generation": was.observed_generation if was.ended else generation,
            "conditions": tuple(conditions[type_] for type_ in ConditionType),
            "summary": was.summary.model_copy(update={"message": message[:MAX_MESSAGE]}),
        }
    )


def held_up(
    status: RunStatus, previous: RunStatus | None, unmade: Iterable[Child], message: str
) -> RunStatus:
    """The status of a run of which children cannot be created: their attempts have not begun, so that
    the next look tries the same ones again."""
    nodes = list(unmade)
    noted = {
        (stage.name, step.name): {"attempt": step.attempt, "state": step.state}
        for stage in (previous.stages if previous else ())
        for step in stage.steps
    }
    never = {"attempt": 0, "state": StepState.WAITING}
    stages = tuple(
        stage.model_copy(
            update={
                "steps": tuple(
                    step.model_copy(update=noted.get((stage.name, step.name), never))
                    if any(node.told_by(stage.name, step.name) for node in nodes)
                    else step
                    for step in stage.steps
                )
            }
        )
        for stage in status.stages
    )
    conditions = tuple(
        condition.model_copy(update={"reason": Reason.CREATE_REFUSED, "message": message[:MAX_MESSAGE]})
        if condition.type is ConditionType.PROGRESSING and condition.status is ConditionStatus.TRUE
        else condition
        for condition in status.conditions
    )
    summary = status.summary.model_copy(update={"message": message[:MAX_MESSAGE]})
    phase = previous.phase if previous else Phase.PENDING
    shown = {"phase": phase, "conditions": conditions, "summary": summary, "stages": stages}
    return status.model_copy(update=shown)


def _phase(run: IXTRun, begun: bool, ending: Ending | None) -> Phase:
    if ending:
        return Phase.FAILED if ending.failed else Phase.COMPLETE
    if run.spec.suspend:
        return Phase.SUSPENDED
    return Phase.RUNNING if begun else Phase.PENDING


def _conditions(
    run: IXTRun,
    stages: tuple[StageView, ...],
    observed: Observed,
    previous: RunStatus | None,
    ending: Ending | None,
    message: str,
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
    elif held:
        progressing = (True, Reason.CLAIM_HELD, held[0])
    elif again:
        progressing = (True, Reason.RETRYING, again[0][1])
    else:
        progressing = (True, Reason.STEPS_RUNNING if works else Reason.STEPS_WAITING, message)
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
        value = ConditionStatus.TRUE if status else ConditionStatus.FALSE
        was = previous.condition(type_) if previous else None
        since = was.last_transition_time if was and was.status is value else rfc3339(now)
        yield Condition(
            type=type_,
            status=value,
            reason=reason,
            message=text[:MAX_MESSAGE],
            last_transition_time=since,
            observed_generation=run.metadata.generation,
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


def _first_attempt(previous: RunStatus | None, entries: Iterable[StageStatus]) -> int:
    """At least what steps that have left the run have used of numbers."""
    if previous is None:
        return 0
    kept = {(stage.name, step.name) for stage in entries for step in stage.steps}
    used = (
        step.attempt
        for stage in previous.stages
        for step in stage.steps
        if (stage.name, step.name) not in kept
    )
    return max([previous.first_attempt, *used])
