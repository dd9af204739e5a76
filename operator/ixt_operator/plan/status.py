"""What a run's status says, and which events its changes make. Pure."""

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from ixt_operator.api.run import IXTRun
from ixt_operator.api.status import (
    MAX_MESSAGE,
    MAX_STEP_MESSAGE,
    Condition,
    ConditionStatus,
    ConditionType,
    Cost,
    Phase,
    Reason,
    RunStatus,
    StageStatus,
    StepState,
    StepStatus,
    Summary,
    fitted,
)
from ixt_operator.plan.child import Child
from ixt_operator.plan.nodes import lanes
from ixt_operator.plan.observed import JUDGE, ChildState, Observed, ProcessPhase
from ixt_operator.plan.retry import Cause, TryAgain, counts
from ixt_operator.plan.survey import NodeState, StageView, View, ready
from ixt_workloads.contract.exits import Fault
from ixt_workloads.contract.results import Progress

WEIGHTS = {"Inventory": 1, "Annotate": 20, "Prepare": 3, "Train": 50, "Evaluate": 4, "Report": 1}
"""Rough shares of the kinds of steps in a run's cost, for its progress."""

ORDER = {NodeState.RUNNING: 0, NodeState.RETRYING: 1, NodeState.WAITING: 2}
"""Which of a stage's nodes the summary is about."""

MAX_COUNT = 10_000
"""The status counts attempts no further."""


class Ending(NamedTuple):
    """How a run ended."""

    failed: bool
    reason: Reason
    message: str


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
    summary = _summary(run, stages, observed, previous, ending)
    begun = {name: children[-1].attempt + 1 for name, children in observed.by_node().items()}
    started = {child.node: child.attempt + 1 for child in created}
    begun |= started
    conditions = tuple(_conditions(run, stages, observed, previous, ending, summary.message, now))
    done = ending is not None
    status = RunStatus(
        observed_generation=run.metadata.generation,
        phase=_phase(run, bool(observed.children or started), ending),
        conditions=conditions,
        summary=summary,
        stages=tuple(_stage(run, stage, begun, started, previous, ending) for stage in stages),
        cost=_cost(observed, previous),
        start_time=(previous.start_time if previous else None) or _time(now),
        completion_time=((previous.completion_time if previous else None) or _time(now)) if done else None,
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
                last_transition_time=old.last_transition_time if old and kept else _time(now),
                observed_generation=generation,
            )
    return was.model_copy(
        update={
            "observed_generation": generation,
            "conditions": tuple(conditions[type_] for type_ in ConditionType),
            "summary": was.summary.model_copy(update={"message": message[:MAX_MESSAGE]}),
        }
    )


def held_up(
    status: RunStatus, previous: RunStatus | None, unmade: Iterable[Child], message: str
) -> RunStatus:
    """The status of a run of which children cannot be created: their attempts have not begun, so that
    the next look tries the same ones again."""
    nodes = [child.node for child in unmade]
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
                    if any(step_covers(stage.name, step.name, node) for node in nodes)
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


def step_covers(stage: str, step: str, node: str) -> bool:
    """Whether a status entry (`train/conditioned`) stands for a node (`pretrain/train/conditioned-s0`)."""
    return node in (step, f"{stage}/{step}") or node.rpartition("-s")[0] == f"{stage}/{step}"


class Event(NamedTuple):
    """Something that people want to read about."""

    warning: bool
    reason: str
    message: str


def events(old: RunStatus | None, new: RunStatus, failures: Mapping[str, Cause]) -> tuple[Event, ...]:
    """What changed between two statuses, in words. `failures` are the causes of nodes' last failed attempts:
    when the status comes to be written, the next attempt may be running already."""
    before = {(stage.name, step.name): step for stage in (old.stages if old else ()) for step in stage.steps}
    found = []
    for stage in new.stages:
        for step in stage.steps:
            was = before.get((stage.name, step.name), StepStatus(name=step.name, kind=step.kind))
            name = step.name if step.name == "report" else f"{stage.name}/{step.name}"
            if _failures(step) > _failures(was):
                causes = [
                    cause for node, cause in failures.items() if step_covers(stage.name, step.name, node)
                ]
                cause = max(causes, key=lambda cause: cause.ended_at)
                found.append(Event(True, "AttemptFailed", f"{name}: {cause.message}"))
            if step.state is was.state:
                continue
            match step.state:
                case StepState.RUNNING:
                    found.append(Event(False, "StepStarted", name))
                case StepState.COMPLETE:
                    verb = "StepCached" if step.cached else "StepComplete"
                    found.append(Event(False, verb, f"{name} {step.key}"))
    for condition in new.conditions:
        was_true = old is not None and old.is_true(condition.type)
        ends = condition.type in (ConditionType.COMPLETE, ConditionType.FAILED, ConditionType.SUSPENDED)
        if ends and condition.status is ConditionStatus.TRUE and not was_true:
            failed = condition.type is ConditionType.FAILED
            found.append(Event(failed, condition.reason.value, condition.message))
    return tuple(found)


def _failures(step: StepStatus) -> int:
    """Failed attempts; one that found another run's claim did not fail."""
    return sum(number for fault, number in step.attempts_by_fault.items() if fault is not Fault.BUSY)


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
    retrying = [v for stage in stages for v in stage.views.values() if v.state is NodeState.RETRYING]
    waits_for_claim = any(
        view.decision is not None and view.decision.cause.fault is Fault.BUSY for view in retrying
    )
    if ending:
        progressing = (False, ending.reason, "")
    elif run.spec.suspend:
        progressing = (False, Reason.SUSPENDED_BY_USER, "")
    elif waits_for_claim:
        progressing = (True, Reason.CLAIM_HELD, message)
    elif retrying:
        progressing = (True, Reason.RETRYING, message)
    else:
        progressing = (True, Reason.STEPS_RUNNING if works else Reason.STEPS_WAITING, message)
    if not run.spec.suspend or ending:
        suspended = (False, Reason.NOT_SUSPENDED, "")
    elif live:
        suspended = (False, Reason.SUSPENDING, "running steps save their state and stop")
    else:
        suspended = (True, Reason.SUSPENDED_BY_USER, "nothing runs; set spec.suspend to false to go on")
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
        since = was.last_transition_time if was and was.status is value else _time(now)
        yield Condition(
            type=type_,
            status=value,
            reason=reason,
            message=text[:MAX_MESSAGE],
            last_transition_time=since,
            observed_generation=run.metadata.generation,
        )


def _stage(
    run: IXTRun,
    stage: StageView,
    begun: Mapping[str, int],
    started: Container[str],
    previous: RunStatus | None,
    ending: Ending | None,
) -> StageStatus:
    arms = {lane.name: lane.arm.name for lane in lanes(run)}
    name = stage.stage.name
    grouped: dict[str, list[View]] = defaultdict(list)
    for node, view in stage.views.items():
        short = node.removeprefix(name + "/")
        step, _, last = short.partition("/")
        arm = arms.get(last, "") if view.node.kind in ("Train", "Evaluate") else ""
        grouped[f"{step}/{arm}" if arm else short].append(view)
    earlier = next((entry for entry in (previous.stages if previous else ()) if entry.name == name), None)
    before = {step.name: step for step in earlier.steps} if earlier else {}
    own = {}
    if stage.asked and stage.pins is not None:
        own = {pin: hash_[:64] for pin, hash_ in stage.pins.items() if stage.asked.pins.get(pin) != hash_}
    return StageStatus(
        name=name,
        pins=own,
        steps=tuple(
            _step(short, views, begun, started, before.get(short), ending) for short, views in grouped.items()
        ),
    )


def _step(
    name: str,
    views: list[View],
    begun: Mapping[str, int],
    started: Container[str],
    was: StepStatus | None,
    ending: Ending | None,
) -> StepStatus:
    kind = views[0].node.kind
    done, total, unit = _amount(views)
    failures: Counter[Fault] = Counter()
    for view in views:
        failures.update(counts(view.attempts))
    key = next((view.keyed.key for view in views if view.keyed), "")
    # An edit of the spec can make keys unknown until Inventory has answered again: attempts stay counted.
    attempt = max([*(begun.get(view.node.name, 0) for view in views), was.attempt if was else 0])
    return StepStatus(
        name=name,
        kind=kind,
        arm=name.partition("/")[2] if kind in ("Prepare", "Train", "Evaluate") else "",
        state=_state(views, started, ending),
        done=round(done),
        total=None if total is None else round(total),
        unit=unit[:12],
        key=key or (was.key if was else ""),
        attempt=min(attempt, MAX_COUNT),
        attempts_by_fault={fault: min(number, MAX_COUNT) for fault, number in failures.items()},
        cached=all(view.cached for view in views),
        message=_message(views)[:MAX_STEP_MESSAGE],
    )


def _state(views: list[View], started: Container[str], ending: Ending | None) -> StepState:
    states = {view.state for view in views}
    if NodeState.GIVEN_UP in states:
        return StepState.FAILED
    if states == {NodeState.COMPLETE}:
        return StepState.COMPLETE
    begun = states & {NodeState.RUNNING, NodeState.RETRYING, NodeState.COMPLETE}
    if not ending and (begun or any(view.node.name in started for view in views)):
        return StepState.RUNNING
    return StepState.WAITING


def _amount(views: list[View]) -> tuple[float, float | None, str]:
    """Done, total and unit of an entry's nodes together. Seeds have equal work: one whose figures are gone or
    still to come has those of another; where none has any, the seeds themselves are counted."""
    figures = [progress for view in views if (progress := progress_of(view.current))]
    totals = [progress.total for progress in figures if progress.total]
    complete = sum(view.state is NodeState.COMPLETE for view in views)
    if not totals:
        if len(views) > 1:
            return complete, len(views), "seeds"
        if complete or not figures:
            return complete, complete or None, ""
        return figures[0].done, None, figures[0].unit
    each = sum(totals) / len(totals)
    begun = [progress_of(view.current) for view in views if view.state is not NodeState.COMPLETE]
    done = complete * each + sum(progress.done for progress in begun if progress)
    return done, each * len(views), next(progress.unit for progress in figures if progress.total)


def progress_of(child: ChildState | None) -> Progress | None:
    """Progress of a child's processes together, if it has any."""
    return child.progress if child else None


def _message(views: list[View]) -> str:
    for view in views:
        if view.decision:
            return view.decision.cause.message
    live = [view for view in views if view.state is NodeState.RUNNING]
    for view in live:
        progress = progress_of(view.current)
        if progress and progress.message:
            return progress.message
    if live:
        return ""
    for view in views:
        for process in view.current.processes if view.current else ():
            if process.result and process.result.message:
                return process.result.message
    return ""


def _summary(
    run: IXTRun,
    stages: tuple[StageView, ...],
    observed: Observed,
    previous: RunStatus | None,
    ending: Ending | None,
) -> Summary:
    if ending and not ending.failed:
        return Summary(progress_percent=100, message=ending.message)
    percent = max(_percent(stages), _percent_before(run, previous))
    if ending:
        return Summary(progress_percent=percent, message=ending.message[:MAX_MESSAGE])
    active = next(stage for stage in stages if not stage.complete)
    view = min(
        (view for view in active.views.values() if view.state in ORDER), key=lambda view: ORDER[view.state]
    )
    progress = progress_of(view.current) if view.state is NodeState.RUNNING else None
    eta = ""
    if progress and progress.total and progress.per_second:
        eta = duration((progress.total - progress.done) / progress.per_second)
    return Summary(
        stage=active.stage.name,
        step=view.node.name.removeprefix(active.stage.name + "/")[:48],
        progress_percent=percent,
        eta=eta,
        message=_waiting_for(active, view, observed)[:MAX_MESSAGE],
    )


def _percent(stages: tuple[StageView, ...]) -> int:
    total = done = 0.0
    for view in (view for stage in stages for view in stage.views.values()):
        weight = WEIGHTS[view.node.kind]
        total += weight
        if view.state is NodeState.COMPLETE:
            done += weight
        elif (progress := progress_of(view.current)) and progress.total and view.state is NodeState.RUNNING:
            done += weight * min(1.0, progress.done / progress.total)
    return min(99, int(100 * done / total))


def _percent_before(run: IXTRun, previous: RunStatus | None) -> int:
    """What was shown of the same work: an attempt that starts again does not turn the progress back."""
    if previous is None or not previous.conditions:
        return 0
    same = previous.observed_generation == run.metadata.generation and previous.completion_time is None
    return previous.summary.progress_percent if same else 0


def _waiting_for(stage: StageView, view: View, observed: Observed) -> str:
    if isinstance(view.decision, TryAgain):
        return f"{view.node.name} is tried again: {view.decision.cause.message}"
    current = view.current
    pending = [p for p in current.processes if p.phase is ProcessPhase.PENDING] if current else []
    if current and not current.ended and any(process.reason for process in pending):
        process = next(process for process in pending if process.reason)
        return f"{process.where or view.node.name} cannot start yet: {process.reason}"
    judge = next((c for c in observed.children.values() if c.node == f"{stage.stage.name}/{JUDGE}"), None)
    if judge and not judge.deleting and not ready(judge):
        first = judge.processes[0] if judge.processes else None
        reason = f" ({first.reason})" if first and first.reason else ""
        where = f", log: {first.log}" if first and first.log else ""
        return f"the judge is starting{reason}{where}"
    progress = progress_of(current)
    return progress.message if progress else ""


def duration(seconds: float) -> str:
    """A duration as people write it: 42s, 3m10s, 1h12m, 5d3h."""
    whole = max(0, round(seconds))
    minutes, seconds_left = divmod(whole, 60)
    hours, minutes_left = divmod(minutes, 60)
    days, hours_left = divmod(hours, 24)
    if days:
        return f"{days}d{hours_left}h"
    if hours:
        return f"{hours}h{minutes_left:02d}m"
    return f"{minutes}m{seconds_left:02d}s" if minutes else f"{seconds_left}s"


def _cost(observed: Observed, previous: RunStatus | None) -> Cost:
    """What the children that are there paid, and never less than was shown: children go, their cost stays."""
    flops: Counter[str] = Counter()
    for child in observed.children.values():
        for process in child.processes:
            flops.update(process.result.flops if process.result else {})
    for purpose, number in (previous.cost.flops if previous else {}).items():
        flops[purpose] = max(flops[purpose], int(number))
    return Cost(flops={purpose: str(number) for purpose, number in sorted(flops.items())})


def _time(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def unix(time: str) -> float:
    """Unix seconds of a time of the API."""
    return datetime.fromisoformat(time).timestamp()
