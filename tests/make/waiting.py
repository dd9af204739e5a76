"""Waits with a deadline for what a platform or the machine should show."""

import asyncio
import time
from collections.abc import Callable

from ixt_operator.adapters.port import Platform
from ixt_operator.plan.observed import ChildState, ProcessPhase

DEADLINE_SECONDS = 30.0
PAUSE_SECONDS = 0.01


async def until(met: Callable[[], bool]) -> None:
    """Wait until a condition is met. Fails after the deadline."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not met():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(PAUSE_SECONDS)


async def seen(platform: Platform, name: str, met: Callable[[ChildState], bool]) -> ChildState:
    """Wait until a child is as told; what it is then. Fails after the deadline with its last state."""
    end = time.monotonic() + DEADLINE_SECONDS
    while True:
        child = (await platform.observe()).children[name]
        if met(child):
            return child
        assert time.monotonic() < end, f"waited in vain: {child}"
        await asyncio.sleep(PAUSE_SECONDS)


async def ended(platform: Platform, name: str) -> ChildState:
    """Wait until all processes of a child have ended."""
    return await seen(platform, name, lambda child: child.ended)


async def ready(platform: Platform, name: str, number: int = 1) -> ChildState:
    """Wait until a server has just this many processes, all ready."""
    return await seen(platform, name, lambda child: phases(child) == [ProcessPhase.READY] * number)


def phases(child: ChildState) -> list[ProcessPhase]:
    """Phases of a child's processes by index."""
    return [process.phase for process in child.processes]
