"""What a plan is made from (`Now`), and the moves that its parts add (`Moves`)."""

from typing import NamedTuple

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.api.status import RunStatus
from ixt_operator.planner.child import Child
from ixt_operator.planner.observed import ChildState, Observed


class Now(NamedTuple):
    """What a plan is made from."""

    run: IXTRun
    runtime: IXTRuntime
    observed: Observed
    children: dict[str, list[ChildState]]
    """By node."""
    previous: RunStatus | None
    time: float


class Moves(NamedTuple):
    """The moves of a plan, while it is made."""

    delete: list[str]
    create: list[Child]
    scale: list[Child]
    waits: list[float]
    """Times at which something is due, in Unix seconds."""


def stops(child: ChildState) -> bool:
    """Whether a child is still to be stopped when nothing may run: it lives, and is not being deleted."""
    return child.live and not child.deleting
