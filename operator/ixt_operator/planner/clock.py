"""When a run began. Pure."""

from ixt_operator.api.status import RunStatus, rfc3339
from ixt_operator.planner.observed import Observed


def start_of(observed: Observed, previous: RunStatus | None, now: float) -> str:
    """When the run began: as its status says, else with its first child, else now."""
    if previous and previous.start_time:
        return previous.start_time
    return rfc3339(min((child.created_at for child in observed.children.values()), default=now))


def begun_anew(previous: RunStatus, now: float) -> RunStatus:
    """What stays of the status of a run that is taken up again: the numbers of attempts, and what it cost."""
    anew = {"conditions": (), "start_time": rfc3339(now), "completion_time": None}
    return previous.model_copy(update=anew)
