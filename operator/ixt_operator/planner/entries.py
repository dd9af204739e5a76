"""Entries of a status: one for each step of a stage, which stands for the nodes of all its seeds. Pure."""

from collections import Counter, defaultdict
from collections.abc import Mapping

from ixt_operator.api.status import (
    MAX_STEP_MESSAGE,
    RunStatus,
    StageStatus,
    StepState,
    StepStatus,
)
from ixt_operator.planner.observed import ChildState
from ixt_operator.planner.retry import counts
from ixt_operator.planner.survey import NodeState, StageView, View
from ixt_workloads.contract.exits import Fault

MAX_COUNT = 10_000
"""The status counts attempts no further."""


def stage_entry(
    stage: StageView,
    children: Mapping[str, list[ChildState]],
    previous: RunStatus | None,
    ended: bool,
) -> StageStatus:
    """A stage's entry. `children` are those of each node, whatever their keys."""
    name = stage.stage.name
    grouped: dict[str, list[View]] = defaultdict(list)
    for view in stage.views.values():
        grouped[view.node.step].append(view)
    earlier = next((entry for entry in (previous.stages if previous else ()) if entry.name == name), None)
    before = {step.name: step for step in earlier.steps} if earlier else {}
    own = {}
    if stage.asked and stage.pins is not None:
        own = {pin: hash_[:64] for pin, hash_ in stage.pins.items() if stage.asked.pins.get(pin) != hash_}
    return StageStatus(
        name=name,
        pins=own,
        steps=tuple(_step(step, views, children, before.get(step), ended) for step, views in grouped.items()),
    )


def failed_attempts(step: StepStatus) -> int:
    """Failed attempts; one that found another run's claim did not fail."""
    return sum(number for fault, number in step.attempts_by_fault.items() if fault is not Fault.BUSY)


def _step(
    name: str,
    views: list[View],
    children: Mapping[str, list[ChildState]],
    was: StepStatus | None,
    ended: bool,
) -> StepStatus:
    kind = views[0].node.kind
    done, total, unit = _amount(views)
    failures: Counter[Fault] = Counter()
    for view in views:
        failures.update(counts(view.attempts))
    key = next((view.keyed.key for view in views if view.keyed), "")
    # An edit of the spec can make keys unknown until Inventory has answered again: attempts stay counted.
    seen = [child.attempt + 1 for view in views for child in children.get(view.node.name, ())]
    attempt = max([*seen, was.attempt if was else 0])
    message = _message(views)
    return StepStatus(
        name=name,
        kind=kind,
        arm=views[0].node.arm,
        state=_state(views, ended),
        done=round(done),
        total=None if total is None else round(total),
        unit=unit[:12],
        key=key or (was.key if was else ""),
        attempt=min(attempt, MAX_COUNT),
        attempts_by_fault={fault: min(number, MAX_COUNT) for fault, number in failures.items()},
        cached=all(view.cached for view in views),
        message=message if len(message) <= MAX_STEP_MESSAGE else f"{message[: MAX_STEP_MESSAGE - 1]}…",
    )


def _state(views: list[View], ended: bool) -> StepState:
    states = {view.state for view in views}
    if NodeState.GIVEN_UP in states:
        return StepState.FAILED
    if states == {NodeState.COMPLETE}:
        return StepState.COMPLETE
    begun = states & {NodeState.RUNNING, NodeState.RETRYING, NodeState.COMPLETE}
    return StepState.RUNNING if begun and not ended else StepState.WAITING


def _amount(views: list[View]) -> tuple[float, float | None, str]:
    """Done, total and unit of an entry's nodes together. Seeds have equal work: one whose figures are gone or
    still to come has those of another; where none has any, the seeds themselves are counted."""
    figures = [progress for view in views if (progress := view.progress)]
    totals = [progress.total for progress in figures if progress.total]
    complete = sum(view.state is NodeState.COMPLETE for view in views)
    if not totals:
        if len(views) > 1:
            return complete, len(views), "seeds"
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
    live = [view for view in views if view.state is NodeState.RUNNING]
    for view in live:
        progress = view.progress
        if progress and progress.message:
            return progress.message
    if live:
        return ""
    for view in views:
        for process in view.current.processes if view.current else ():
            if process.result and process.result.message:
                return process.result.message
    return ""
