"""One look at a run and the moves that follow, on whatever platform."""

import asyncio

from ixt_operator.adapters.port import Platform
from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.api.status import RunStatus
from ixt_operator.plan.observed import Observed
from ixt_operator.plan.plan import Plan, plan


async def look(
    platform: Platform, run: IXTRun, runtime: IXTRuntime, previous: RunStatus | None, now: float
) -> tuple[Plan, Observed]:
    """What there is and what is to be done about it; nothing is done yet."""
    observed = await platform.observe()
    return plan(run, runtime, observed, previous, now), observed


async def carry_out(platform: Platform, moves: Plan) -> None:
    """Do what is planned. Every move is idempotent: after a crash anywhere in here the next look plans what
    is missing."""
    # All are waited for, also when one fails: nothing goes on beside the next look.
    ends = await asyncio.gather(*(platform.delete(name) for name in moves.delete), return_exceptions=True)
    for end in ends:
        if end is not None:
            raise end
    for child in moves.scale:
        await platform.scale(child)
    for child in moves.create:
        await platform.create(child)
