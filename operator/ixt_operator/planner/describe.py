"""What a run's status says. Pure."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from ixt_operator.api.status import (
    MAX_FAILED_LANES,
    MAX_MESSAGE,
    MAX_PROGRESSED,
    Condition,
    ConditionStatus,
    ConditionType,
    Cost,
    Internal,
    Phase,
    Reason,
    RunStatus,
    StageStatus,
    fitted,
    rfc3339,
)
from ixt_operator.planner.accounting import at_least, booked, goodput_percent, saved_flops
from ixt_operator.planner.ending import Ending
from ixt_operator.planner.entries import MAX_COUNT, failures, gains, stage_entry
from ixt_operator.planner.hosts import Avoided
from ixt_operator.planner.lanes import SETTLED, failed_lanes
from ixt_operator.planner.now import Life, Moves, Now
from ixt_operator.planner.observed import ProcessPhase
from ixt_operator.planner.retry import GiveUp, TryAgain
from ixt_operator.planner.scale import steady
from ixt_operator.planner.summary import summarize
from ixt_operator.planner.survey import Stages, id_of, progressed, views_of
from ixt_workloads.contract.exits import Fault

Found = tuple[bool | None, str, str]
"""Whether a condition holds, None where that is not known; why, and the same for people."""


def describe(
    at: Now,
    stages: Stages,
    ending: Ending | None,
    moves: Moves,
    hosts: Avoided,
    refused: Mapping[str, str],
) -> RunStatus:
    """The whole status: what was observed, and nothing that is only planned. Equal to the previous one when
    nothing shown has changed. `moves` are those of this look, `refused` says why something cannot be
    created."""
    summary = summarize(at, stages, ending)
    if refused.keys() == {""}:
        summary = summary.model_copy(update={"message": refused[""][:MAX_MESSAGE]})
    entries = tuple(stage_entry(at, stage, ending is not None) for stage in stages)
    status = outline(
        at.life,
        ending,
        moves.delete,
        accepted=(True, Reason.VALID, ""),
        progressing=_progressing(at, stages, bool(refused), summary.message),
        last_attempt=_last_attempt(at, stages, entries),
    )
    failed = tuple(failed_lanes(stages))
    servers = [child for child in at.observed.all if child.server and not child.deleting]
    memory = {
        "unscheduled": _unscheduled(stages),
        "forgave_at": hosts.forgave_at,
        "progressed": _progressed(at, stages),
        "steady": steady(servers, at, moves.waits),
    }
    internal = status.internal.model_copy(update=memory)
    more = {
        "summary": summary,
        "stages": entries,
        "failed_lanes": failed[:MAX_FAILED_LANES],
        "avoided_hosts": hosts.hosts,
        "gains": gains(at, (view for _, view in views_of(stages))),
        "failures": failures(at.previous.failures, (view for _, view in views_of(stages))),
        "internal": internal,
    }
    return fitted(status.model_copy(update=more))


def outline(
    life: Life,
    ending: Ending | None,
    stopping: Collection[str],
    *,
    accepted: Found,
    progressing: Found,
    last_attempt: int,
) -> RunStatus:
    """A status without its summary and stages, which stay as they were told. `progressing` says what a run
    does that neither ends nor is suspended."""
    books = booked(life.observed, life.previous, stopping, life.time)
    cost = Cost(
        flops=_flops(life),
        saved_flops=saved_flops(life.observed, life.previous),
        gpu_seconds=books.gpu_seconds,
        cpu_seconds=books.cpu_seconds,
    )
    return RunStatus(
        observed_generation=life.generation,
        phase=_phase(life, ending),
        conditions=tuple(
            _condition(life, type_, *found)
            for type_, found in _conditions(life, ending, accepted, progressing)
        ),
        summary=life.previous.summary,
        stages=life.previous.stages,
        failed_lanes=life.previous.failed_lanes,
        avoided_hosts=life.previous.avoided_hosts,
        failures=life.previous.failures,
        cost=cost,
        goodput_percent=goodput_percent(cost),
        gains=life.previous.gains,
        start_time=life.start,
        completion_time=life.previous.completion_time or rfc3339(life.time) if ending else None,
        internal=Internal(
            last_attempt=min(last_attempt, MAX_COUNT),
            unscheduled=life.previous.internal.unscheduled,
            progressed=life.previous.internal.progressed,
            forgave_at=life.previous.internal.forgave_at,
            steady=life.previous.internal.steady,
            started=life.previous.internal.started,
            suspended_seconds=life.suspended_seconds,
            accounts=books.accounts,
            accounted_until=books.accounted_until,
        ),
    )


def noted(status: RunStatus, started: str, changed: str) -> RunStatus:
    """The status of a run that is carried out: with the hash of what it was started with, and what changed
    since and is not taken over."""
    internal = status.internal.model_copy(update={"started": started or status.internal.started})
    status = status.model_copy(update={"internal": internal})
    if status.ended or not changed:
        return status
    update = {"reason": Reason.REFERENCES_CHANGED, "message": changed[:MAX_MESSAGE]}
    conditions = (
        each.model_copy(update=update) if each.type is ConditionType.ACCEPTED else each
        for each in status.conditions
    )
    return status.model_copy(update={"conditions": tuple(conditions)})


def _phase(life: Life, ending: Ending | None) -> Phase:
    if ending:
        return Phase.FAILED if ending.failed else Phase.COMPLETE
    if life.suspended:
        return Phase.SUSPENDED
    return Phase.RUNNING if life.observed.children else Phase.PENDING


def _conditions(
    life: Life, ending: Ending | None, accepted: Found, progressing: Found
) -> Iterator[tuple[ConditionType, Found]]:
    """What holds of each condition. At most one of Progressing, Suspended, Complete and Failed does."""
    yield ConditionType.ACCEPTED, accepted
    if ending:
        progressing = (False, ending.reason, "")
    elif life.suspended:
        progressing = (False, Reason.SUSPENDED_BY_USER, "")
    yield ConditionType.PROGRESSING, progressing
    suspended = (False, Reason.NOT_SUSPENDED, "")
    if life.suspended and not ending:
        suspended = (False, Reason.SUSPENDING, "running steps save their state and stop")
        if life.at_rest:
            resume = f"nothing runs; go on with: kubectl ixt resume {life.name}"
            suspended = (True, Reason.SUSPENDED_BY_USER, resume)
    yield ConditionType.SUSPENDED, suspended
    complete = (False, Reason.RUN_NOT_COMPLETE, "")
    failed = (False, Reason.RUN_NOT_FAILED, "")
    if ending and ending.failed:
        failed = (True, ending.reason, ending.message)
    elif ending:
        complete = (True, ending.reason, ending.message)
    yield ConditionType.COMPLETE, complete
    yield ConditionType.FAILED, failed


def _unscheduled(stages: Stages) -> tuple[str, ...]:
    """The nodes of lanes that are given up since their pods could not start in time."""
    late = (
        view
        for _, view in views_of(stages)
        if isinstance(view.decision, GiveUp) and view.decision.reason is Reason.SCHEDULING_TIMEOUT
    )
    return tuple(id_of(view.node, view.keyed.key if view.keyed else "") for view in late)


def _progressed(at: Now, stages: Stages) -> dict[str, int]:
    """Of nodes that have failed and are not complete the newest attempt that saved something."""
    failed = (view for _, view in views_of(stages) if view.causes and view.state not in SETTLED)
    found = {id_of(view.node, view.keyed.key if view.keyed else ""): progressed(at, view) for view in failed}
    return {name: attempt for name, attempt in list(found.items())[:MAX_PROGRESSED] if attempt}


def _progressing(at: Now, stages: Stages, refused: bool, doing: str) -> Found:
    """What a run does that is to go on; `doing` says so, if nothing else is to be said of it."""
    if refused:
        return True, Reason.CREATE_REFUSED, doing
    again = [
        (view.decision.cause.fault, view.decision.told(view.node.name))
        for _, view in views_of(stages)
        if isinstance(view.decision, TryAgain)
    ]
    for fault, told in again:
        if fault is Fault.BUSY:
            return True, Reason.CLAIM_HELD, told
    if again:
        return True, Reason.RETRYING, again[0][1]
    phases = {process.phase for process in at.processes}
    works = phases & {ProcessPhase.RUNNING, ProcessPhase.READY}
    if failed := failed_lanes(stages):
        doing = "; ".join(filter(None, (f"lanes that failed: {', '.join(failed)}", doing)))
    return True, Reason.STEPS_RUNNING if works else Reason.STEPS_WAITING, doing


def _condition(life: Life, type_: ConditionType, holds: bool | None, reason: str, message: str) -> Condition:
    status = ConditionStatus.UNKNOWN
    if holds is not None:
        status = ConditionStatus.TRUE if holds else ConditionStatus.FALSE
    before = life.previous.condition(type_)
    since = rfc3339(life.time)
    if before and before.status is status:
        since = before.last_transition_time
    return Condition(
        type=type_,
        status=status,
        reason=reason,
        message=message[:MAX_MESSAGE],
        last_transition_time=since,
        observed_generation=life.generation,
    )


def _flops(life: Life) -> dict[str, str]:
    """What the children that are there paid, and never less than was shown: children go, their cost stays."""
    flops: Counter[str] = Counter()
    for process in life.processes:
        flops.update(process.result.flops if process.result else {})
    return at_least(flops, life.previous.cost.flops)


def _last_attempt(at: Now, stages: Stages, entries: tuple[StageStatus, ...]) -> int:
    """At least what steps that have left the run have used of numbers."""
    kept = {(stage.name, step.name) for stage in entries for step in stage.steps}
    nodes = {view.node.name for _, view in views_of(stages)}
    used = [c.attempt for c in at.observed.all if c.node not in nodes and not c.server]
    used += [step.attempt for stage, step in at.previous.steps if (stage, step.name) not in kept]
    return max([*used, at.previous.internal.last_attempt])
