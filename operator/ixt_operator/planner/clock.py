"""When a run began, and how long it was suspended since: its deadline is counted from these. Pure."""

from ixt_operator.api.run import IXTRun
from ixt_operator.api.status import ConditionStatus, ConditionType, RunStatus, rfc3339, unix
from ixt_operator.planner.observed import Observed


def start_of(observed: Observed, previous: RunStatus | None, now: float) -> str:
    """When the run began: as its status says, else with its first child, else now."""
    if previous and previous.start_time:
        return previous.start_time
    return rfc3339(min((child.created_at for child in observed.children.values()), default=now))


def is_suspended(run: IXTRun, observed: Observed) -> bool:
    """Whether the run is suspended and nothing of it runs any more."""
    return run.spec.suspend and not any(child.live for child in observed.children.values())


def suspended_seconds(run: IXTRun, observed: Observed, previous: RunStatus | None, now: float) -> int:
    """Seconds that the run was suspended since it began, in all suspensions that are over."""
    if previous is None:
        return 0
    seconds, suspended = previous.internal.suspended_seconds, previous.condition(ConditionType.SUSPENDED)
    if suspended and suspended.status is ConditionStatus.TRUE and not is_suspended(run, observed):
        seconds += max(0, int(now - unix(suspended.last_transition_time)))
    return seconds


def begun_anew(previous: RunStatus, now: float) -> RunStatus:
    """What stays of the status of a run that is taken up again: the numbers of attempts, and what it cost."""
    internal = previous.internal.model_copy(update={"suspended_seconds": 0})
    anew = {"conditions": (), "start_time": rfc3339(now), "completion_time": None, "internal": internal}
    return previous.model_copy(update=anew)
