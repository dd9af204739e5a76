"""One look at a run and the moves that follow, on whatever platform."""

from ixt_operator.adapters.port import Platform
from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.api.status import RunStatus
from ixt_operator.plan.observed import Observed
from ixt_operator.plan.plan import Plan, plan


async def reconcile(
    platform: Platform, run: IXTRun, runtime: IXTRuntime, previous: RunStatus | None, now: float
) -> tuple[Plan, Observed]:
    """Observe, plan and carry the plan out. Every move is idempotent: after a crash anywhere in here the next
    call makes what is missing."""
    observed = await platform.observe()
    moves = plan(run, runtime, observed, previous, now)
    for name in moves.delete:
        await platform.delete(name)
    for child in moves.create:
        await platform.create(child)
    for child in moves.scale:
        await platform.scale(child)
    return moves, observed
