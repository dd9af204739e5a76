"""Platforms that the contract suite runs against."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple

import pytest

from ixt_operator.adapters.local.platform import LocalPlatform
from ixt_operator.adapters.port import Platform
from ixt_operator.planner.observed import ChildState

PATIENCE_SECONDS = 60


class Place(NamedTuple):
    """Where platforms are opened: each `open()` is another owner's, on the same children."""

    open: Callable[[], AbstractAsyncContextManager[Platform]]


@pytest.fixture(params=["local"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place of each kind of platform."""
    assert request.param == "local"
    return Place(lambda: LocalPlatform.open(tmp_path / "work"))


@pytest.fixture
async def platform(place: Place) -> AsyncIterator[Platform]:
    async with place.open() as opened:
        yield opened


async def until(platform: Platform, name: str, holds: Callable[[ChildState], bool]) -> ChildState:
    """The first look at a child for which something holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        state = (await platform.observe()).children[name]
        if holds(state):
            return state
        assert time.monotonic() < deadline, state
        await asyncio.sleep(0.01)
