"""The port between planner and platform. Two adapters fill it: kubernetes/ and local/.

One contract-test suite runs against both (tests/adapters).
"""

from typing import Protocol

from ixt_operator.plan.child import Child
from ixt_operator.plan.observed import Observed


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
