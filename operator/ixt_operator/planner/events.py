"""What a change of a status means to people. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

from ixt_operator.api.status import (
    ConditionStatus,
    ConditionType,
    RunStatus,
    StepState,
    StepStatus,
)
from ixt_operator.planner.entries import failed_attempts
from ixt_operator.planner.retry import Cause
from ixt_workloads.contract.graph import OfNode


class Event(NamedTuple):
    """Something that people want to read about."""

    warning: bool
    reason: str
    message: str


def events(
    old: RunStatus | None, new: RunStatus, failures: Iterable[tuple[OfNode, Cause]]
) -> tuple[Event, ...]:
    """What changed between two statuses, in words. `failures` are the causes of nodes' last failed attempts:
    when the status comes to be written, the next attempt may be running already."""
    before = {(stage.name, step.name): step for stage in (old.stages if old else ()) for step in stage.steps}
    found = []
    for stage in new.stages:
        for step in stage.steps:
            was = before.get((stage.name, step.name), StepStatus(name=step.name, kind=step.kind))
            name = step.name if step.kind == "Report" else f"{stage.name}/{step.name}"
            causes = [cause for node, cause in failures if node.told_by(stage.name, step.name)]
            if causes and failed_attempts(step) > failed_attempts(was):
                cause = max(causes, key=lambda cause: cause.ended_at)
                found.append(Event(True, "AttemptFailed", f"{name}: {cause.message}"))
            if step.state is was.state:
                continue
            # One that began and ended between two looks was started as well.
            unseen = was.state is StepState.WAITING and step.attempt > was.attempt
            if step.state is StepState.RUNNING or unseen:
                found.append(Event(False, "StepStarted", name))
            if step.state is StepState.COMPLETE:
                verb = "StepCached" if step.cached else "StepComplete"
                found.append(Event(False, verb, f"{name} {step.key}"))
    for condition in new.conditions:
        was_true = old is not None and old.is_true(condition.type)
        ends = condition.type in (ConditionType.COMPLETE, ConditionType.FAILED, ConditionType.SUSPENDED)
        if ends and condition.status is ConditionStatus.TRUE and not was_true:
            failed = condition.type is ConditionType.FAILED
            found.append(Event(failed, condition.reason, condition.message))
    return tuple(found)
