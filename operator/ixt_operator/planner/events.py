"""What a change of a status means to people. Pure."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ixt_operator.api.status import (
    ConditionStatus,
    ConditionType,
    Reason,
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


class News(NamedTuple):
    """What a look knows of more than the status says. When that comes to be written, the next attempt may be
    running already."""

    failures: tuple[tuple[OfNode, Cause], ...] = ()
    """Why the last failed attempt of each node failed."""
    lanes: Mapping[str, str] = {}
    """Why each lane that is given up was."""
    standing: tuple[tuple[OfNode, str, str], ...] = ()
    """What stands still: the first of a step's nodes that do for one reason, its word, and a message."""


def events(old: RunStatus | None, new: RunStatus, news: News) -> tuple[Event, ...]:
    """What changed between two statuses, in words."""
    old = old or RunStatus()
    before = {(stage, step.name): step for stage, step in old.steps}
    found = []
    for stage, step in new.steps:
        was = before.get((stage, step.name), StepStatus(name=step.name, kind=step.kind))
        name = step.name if step.kind == "Report" else f"{stage}/{step.name}"
        causes = [cause for node, cause in news.failures if node.told_by(stage, step.name)]
        if causes and failed_attempts(step) > failed_attempts(was):
            cause = max(causes, key=lambda cause: cause.ended_at)
            found.append(Event(True, "AttemptFailed", f"{name}: {cause.message}"))
        for node, word, message in () if new.ended else news.standing:
            if node.told_by(stage, step.name) and step.waits_for.get(word, 0) > was.waits_for.get(word, 0):
                found.append(Event(True, "StepBlocked", f"{word}: {message}"))
        next_round = (step.round or 0) > (was.round or 0)
        if step.state is was.state and not next_round:
            continue
        # One that began and ended between two looks was started as well.
        unseen = was.state is StepState.WAITING and step.attempt > was.attempt
        if step.state is StepState.RUNNING or unseen:
            found.append(Event(False, "StepStarted", f"{name}/r{step.round}" if step.round else name))
        if step.state is StepState.COMPLETE is not was.state:
            verb = "StepCached" if step.cached else "StepComplete"
            reached = f" ({step.message})" if step.message and not step.cached else ""
            found.append(Event(False, verb, f"{name} {step.key}{reached}"))
    found += _references(old, new)
    found += _troubles(old, new)
    found += _lanes(old, new, news)
    found += _machines(old, new)
    for condition in new.conditions:
        ends = condition.type in (ConditionType.COMPLETE, ConditionType.FAILED, ConditionType.SUSPENDED)
        if ends and new.is_true(condition.type) and not old.is_true(condition.type):
            failed = condition.type is ConditionType.FAILED
            found.append(Event(failed, condition.reason, condition.message))
    return tuple(found)


def _references(old: RunStatus, new: RunStatus) -> Iterator[Event]:
    """What changed in what the run names and is not taken over, when that is new."""
    accepted, before = new.condition(ConditionType.ACCEPTED), old.condition(ConditionType.ACCEPTED)
    changed = accepted and accepted.reason == Reason.REFERENCES_CHANGED
    if accepted and changed and (before is None or before.message != accepted.message):
        yield Event(False, accepted.reason, accepted.message)


def _machines(old: RunStatus, new: RunStatus) -> Iterator[Event]:
    """Machines that are avoided since, and those that are used again."""
    for host in new.avoided_hosts:
        if host not in old.avoided_hosts:
            yield Event(True, "MachineAvoided", f"steps of this run avoid the machine {host} for a day")
    crowded = new.internal.forgave_at > old.internal.forgave_at
    why = ": pods that avoid machines find no room" if crowded else ""
    for host in old.avoided_hosts:
        if host not in new.avoided_hosts:
            yield Event(False, "MachineUsedAgain", f"the machine {host} is used again{why}")


def _lanes(old: RunStatus, new: RunStatus, news: News) -> Iterator[Event]:
    """Lanes that are given up since, while others go on."""
    for lane in new.failed_lanes:
        if lane not in old.failed_lanes and not new.ended:
            why = news.lanes.get(lane, "")
            yield Event(True, "LaneFailed", f"lane {lane} is given up, the others go on: {why}")


def _troubles(old: RunStatus, new: RunStatus) -> Iterator[Event]:
    """Why a run cannot be carried out, when that is new."""
    for type_ in (ConditionType.ACCEPTED, ConditionType.PROGRESSING):
        condition, before = new.condition(type_), old.condition(type_)
        if condition is None or condition.status is not ConditionStatus.FALSE:
            continue
        if type_ is ConditionType.PROGRESSING and condition.reason != Reason.OPERATOR_ERROR:
            continue
        known = before and before.status is condition.status and before.message == condition.message
        if not known:
            yield Event(True, condition.reason, condition.message)
