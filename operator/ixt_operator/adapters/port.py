"""The port between planner and platform. Two adapters fill it: kubernetes/ and local/.

One contract-test suite runs against both (tests/adapters).
"""

import asyncio
from typing import Protocol

from ixt_operator.planner.child import Child
from ixt_operator.planner.observed import Observed
from ixt_operator.planner.plan import Plan


class Platform(Protocol):
    """Runs the children of one run and tells what became of them."""

    async def observe(self) -> Observed:
        """All children, with results of ended processes and progress of running ones."""
        ...

    async def create(self, child: Child) -> None:
        """Start a child. A child of that name that exists already is left as it is."""
        ...

    async def delete(self, name: str) -> None:
        """Stop a child's processes within its grace and forget it; no such child is no error."""
        ...

    async def scale(self, child: Child) -> None:
        """Give a Server the child's number of processes, and again what it is reached by."""
        ...


class Refused(Exception):  # noqa: N818 - what the platform did, not what went wrong here
    """A child cannot be created until a person changes what the message names."""


async def carry_out(platform: Platform, moves: Plan) -> dict[str, str]:
    """Do what is planned, and answer what was refused, by the children's nodes: that keeps no other child
    from being made. Every move is idempotent: after a crash anywhere the next look plans what is missing."""
    # All are waited for, also when one fails: nothing goes on beside the next look.
    ends = await asyncio.gather(*(platform.delete(name) for name in moves.delete), return_exceptions=True)
    for end in ends:
        if end is not None:
            raise end
    refused: dict[str, str] = {}
    for do, children in ((platform.scale, moves.scale), (platform.create, moves.create)):
        for child in children:
            try:
                await do(child)
            except Refused as said:
                refused[child.node] = str(said)
    return refused
