"""Machines that a run avoids, for a day at most, and not where too few others are left. Pure."""

import math
from collections import Counter
from typing import NamedTuple

from ixt_operator.api.status import MAX_AVOIDED
from ixt_operator.planner.now import Now, stops
from ixt_operator.planner.observed import ChildState
from ixt_operator.planner.retry import causes_of
from ixt_workloads.contract.exits import Blame

AVOIDED_SECONDS = 86_400.0
"""So long a failure is held against a machine: it is repaired by then, or fails again."""

CROWDED_SECONDS = 600.0
"""When a pod that avoids machines finds no room for so long, too few others are left."""


class Avoided(NamedTuple):
    """The machines that are avoided."""

    hosts: tuple[str, ...]
    forgave_at: int
    """Unix seconds: failures before are held against no machine any more."""
    crowded: tuple[str, ...] = ()
    """Children that find no room away from them, and are to be made anew."""


def avoided(at: Now, waits: list[float]) -> Avoided:
    """The machines to avoid. The times at which children count as crowded are added to `waits`."""
    forgave_at, crowded = at.previous.internal.forgave_at, []
    for child in at.observed.all:
        since = _without_room_since(child)
        if since is None:
            continue
        if at.time >= since + CROWDED_SECONDS:
            crowded.append(child.name)
        else:
            waits.append(since + CROWDED_SECONDS)
    if crowded:
        return Avoided((), math.ceil(at.time), tuple(crowded))
    return Avoided(_sick(at, max(at.time - AVOIDED_SECONDS, forgave_at)), forgave_at)


def _without_room_since(child: ChildState) -> float | None:
    """Since when a process of a child that avoids machines finds no node."""
    found = [
        process.blocked_since
        for process in (child.processes if child.avoids and stops(child) else ())
        if process.blocked_since is not None and process.reason.startswith("Unschedulable")
    ]
    return min(found, default=None)


def _sick(at: Now, since: float) -> tuple[str, ...]:
    """Machines that a step found to be sick, and those that two attempts of the run failed because of. Of an
    attempt only the process that failed first counts, since the others failed because it did."""
    blamed = Counter[str]()
    for cause in causes_of(at.observed.all).values():
        if cause.ended_at > since:
            blamed[cause.host] += cause.blame
    sick = sorted(host for host, blame in blamed.items() if host and blame >= Blame.AT_ONCE)
    return tuple(sick[:MAX_AVOIDED])
