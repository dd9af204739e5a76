"""Entries of a status: one for each step of a stage, which stands for the nodes of all its seeds and rounds.
Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from ixt_operator.api.status import (
    LONGEST_ETA,
    MAX_FAILURES,
    MAX_LOG_TAIL,
    MAX_STEP_MESSAGE,
    MAX_WAITS,
    Failure,
    Gain,
    StageStatus,
    StepState,
    StepStatus,
)
from ixt_operator.planner.lanes import SETTLED
from ixt_operator.planner.now import Now
from ixt_operator.planner.pace import rounds_left
from ixt_operator.planner.standstill import counted
from ixt_operator.planner.survey import NodeState, StageView, View
from ixt_workloads.contract.exits import Fault

MAX_COUNT = 10_000
"""The status counts attempts no further."""

BEGUN = frozenset({NodeState.RUNNING, NodeState.RETRYING, NodeState.COMPLETE, NodeState.GIVEN_UP})
"""States of nodes of which an attempt was made, or whose artifact is there."""

LIVE = frozenset({NodeState.RUNNING, NodeState.RETRYING})
"""States of nodes that something is done about."""


def stage_entry(at: Now, stage: StageView, ended: bool) -> StageStatus:
    """A stage's entry."""
    name = stage.stage.name
    grouped: dict[str, list[View]] = defaultdict(list)
    for view in stage.views.values():
        grouped[view.node.step].append(view)
    was = next((each for each in at.previous.stages if each.name == name), StageStatus(name=name))
    before = {step.name: step for step in was.steps}
    own = was.pins  # until Inventory has answered anew, as keys stay
    if stage.asked and stage.pins is not None:
        earlier = stage.asked.pins
        own = {pin: hash_[:64] for pin, hash_ in stage.pins.items() if earlier.get(pin) != hash_}
    left = None if ended else rounds_left(stage)
    return StageStatus(
        name=name,
        pins=own,
        rounds=stage.stage.rollout.rounds if stage.stage.rollout else None,
        eta_seconds=None if left is None else min(LONGEST_ETA, round(left)),
        steps=tuple(_step(at, step, views, before.get(step), ended) for step, views in grouped.items()),
    )


def failures(before: tuple[Failure, ...], views: Iterable[View]) -> tuple[Failure, ...]:
    """The last failed attempts, `before` those that were told until now; attempts go, these stay. One that
    found another run's claim did not fail."""
    found = {each.step: each for each in before}
    failed = [
        (cause.ended_at, view.node.name, child.attempt, cause)
        for view in views
        for child in view.attempts
        if (cause := view.causes.get(child.name)) and cause.fault is not Fault.BUSY
    ]
    for _, name, attempt, cause in sorted(failed, key=lambda each: each[:3]):
        if name in found and found[name].attempt >= attempt:
            continue
        found.pop(name, None)
        found[name] = Failure(
            step=name,
            attempt=min(attempt, MAX_COUNT),
            fault=cause.fault,
            message=shortened(cause.message),
            log_tail=cause.last_log[-MAX_LOG_TAIL:],
        )
    return tuple(found.values())[-MAX_FAILURES:]


def gains(at: Now, views: Iterable[View]) -> tuple[Gain, ...]:
    """What the report says that the run's arms gain, while it is complete: its pod goes, this stays."""
    report = next((view for view in views if view.node.kind == "Report"), None)
    if report is None or report.state is not NodeState.COMPLETE:
        return ()
    processes = report.current.processes if report.current else ()
    said = [each for process in processes if process.result for each in process.result.gains]
    spec = at.run.spec
    stages, arms = {stage.name for stage in spec.stages}, {arm.name for arm in spec.arms}
    found = {
        (each.stage, each.arm): Gain(**each.model_dump() | {"gain": f"{each.gain:.6f}"})
        for each in said
        if each.stage in stages and {each.arm, each.baseline} <= arms
    }
    return tuple(found.values()) or at.previous.gains


def failed_attempts(step: StepStatus) -> int:
    """Failed attempts; one that found another run's claim did not fail."""
    return sum(number for fault, number in step.attempts_by_fault.items() if fault is not Fault.BUSY)


def _step(at: Now, name: str, views: list[View], was: StepStatus | None, ended: bool) -> StepStatus:
    done, total, unit = _amount(views)
    failures = Counter(cause.fault for view in views for cause in view.causes.values())
    key = next((view.keyed.key for view in views if view.keyed), "")
    # An edit of the spec can make keys unknown until Inventory has answered again: attempts stay counted.
    seen = [child.attempt for view in views for child in at.children.get(view.node.name, ())]
    attempt = max([*seen, was.attempt if was else 0])
    return StepStatus(
        name=name,
        kind=views[0].node.kind,
        arm=views[0].node.arm if len({view.node.arm for view in views}) == 1 else "",
        round=max((view.node.round or 0 for view in views if view.state in BEGUN), default=0) or None,
        state=_state(views, ended),
        done=round(done),
        total=None if total is None else round(total),
        unit=unit[:12],
        key=key or (was.key if was else ""),
        attempt=min(attempt, MAX_COUNT),
        attempts_by_fault={fault: min(number, MAX_COUNT) for fault, number in failures.items()},
        waits_for=dict(list(counted(views).items())[:MAX_WAITS]),
        cached=all(view.cached for view in views),
        message=shortened(_message(views)),
    )


def shortened(message: str) -> str:
    """A message as the line of a step has it."""
    return message if len(message) <= MAX_STEP_MESSAGE else f"{message[: MAX_STEP_MESSAGE - 1]}…"


def _state(views: list[View], ended: bool) -> StepState:
    states = {view.state for view in views}
    if states == {NodeState.COMPLETE}:
        return StepState.COMPLETE
    if NodeState.GIVEN_UP in states and (ended or states <= SETTLED):
        return StepState.FAILED
    if states <= SETTLED and NodeState.GIVEN_UP not in states:
        return StepState.WAITING
    # Between its rounds a step waits for others.
    going = LIVE if views[-1].node.round else BEGUN
    return StepState.RUNNING if states & going and not ended else StepState.WAITING


def _amount(views: list[View]) -> tuple[float, float | None, str]:
    """Done, total and unit of an entry's nodes together. Seeds have equal work: one whose figures are gone or
    still to come has those of another; where none has any, the seeds themselves are counted."""
    figures = [progress for view in views if (progress := view.progress)]
    totals = [progress.total for progress in figures if progress.total]
    complete = sum(view.state is NodeState.COMPLETE for view in views)
    if not totals:
        if len(views) > 1:
            return complete, len(views), "rounds" if views[-1].node.round else "seeds"
        if complete or not figures:
            return complete, complete or None, ""
        return figures[0].done, None, figures[0].unit
    each = sum(totals) / len(totals)
    begun = [view.progress for view in views if view.state is not NodeState.COMPLETE]
    done = complete * each + sum(progress.done for progress in begun if progress)
    return done, each * len(views), next(progress.unit for progress in figures if progress.total)


def _message(views: list[View]) -> str:
    for view in views:
        if view.decision:
            return view.decision.cause.message
    standing = [view for view in views if view.standstill]
    for view in standing:
        of = "seeds and rounds" if views[-1].node.round else "seeds"
        many = f"{len(standing)} of {len(views)} {of}: " if len(views) > 1 else ""
        return f"{many}{view.standstill.message}" if view.standstill else ""
    if any(view.state is NodeState.ABANDONED for view in views):
        return "not made: its lane failed"
    live = [view for view in views if view.state is NodeState.RUNNING]
    for view in live:
        progress = view.progress
        if progress and progress.message:
            return progress.message
    if live:
        return ""
    for view in sorted(views, key=lambda view: view.node.round or 0, reverse=True):
        for process in view.current.processes if view.current else ():
            if process.result and process.result.message:
                return process.result.message
    return ""
