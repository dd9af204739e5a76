"""The queue of runs: de-duplicated, serial per key, patient with failures."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from ixt_operator.controller import queue as module
from ixt_operator.controller.queue import (
    LATEST_SECONDS,
    LONGEST_BACKOFF_SECONDS,
    QUIET_SECONDS,
    Later,
    Queue,
    Retry,
    backoff,
)

Look = Callable[[str], Awaitable[float | Later | None]]


async def until_idle(queue: Queue[str], look: Look, wanted: Callable[[], bool], workers: int = 2) -> None:
    """Work until what is wanted holds."""

    async def holds() -> None:
        while not wanted():
            await asyncio.sleep(0)

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(queue.work(look)) for _ in range(workers)]
        await holds()
        for worker in working:
            worker.cancel()


async def test_a_key_that_is_added_often_is_looked_at_once() -> None:
    queue, seen = Queue[str](), []

    async def look(key: str) -> None:
        seen.append(key)

    for _ in range(5):
        queue.add("a")
        queue.add("b")
    assert len(queue) == 2
    await until_idle(queue, look, lambda: len(queue) == 0 and len(seen) >= 2)
    assert sorted(seen) == ["a", "b"]


async def test_one_key_is_never_looked_at_by_two_and_comes_again_when_it_was_added_meanwhile() -> None:
    queue, running, most, looks = Queue[str](), 0, 0, 0

    async def look(key: str) -> None:
        nonlocal running, most, looks
        running += 1
        looks += 1
        most = max(most, running)
        if looks == 1:
            queue.add("a")
            queue.add("a")
        await asyncio.sleep(0)
        running -= 1

    queue.add("a")
    await until_idle(queue, look, lambda: looks == 2 and running == 0)
    assert (most, looks, len(queue)) == (1, 2, 0)


async def test_looks_that_wait_for_nothing_let_others_run_between_them() -> None:
    queue, seen, since, longest = Queue[str](), 0, 0, 0

    async def look(key: str) -> None:
        nonlocal seen, since, longest
        seen, since = seen + 1, since + 1
        longest = max(longest, since)

    def wanted() -> bool:
        nonlocal since
        since = 0
        return seen == 200

    for number in range(200):
        queue.add(str(number))
    await until_idle(queue, look, wanted, workers=4)
    assert longest <= 4


class Clock:
    """The loop's time, which stands still but for what a test lets pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = 0.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self._now)

    async def passes(self, seconds: float) -> None:
        """Let happen what is due, then time pass, and happen what is due by then."""
        for pause in (seconds, 0.0):
            for _ in range(20):
                await asyncio.sleep(0)
            self._now += pause


@asynccontextmanager
async def first_give_way(queue: Queue[str]) -> AsyncIterator[list[str]]:
    """Looks, as they are made; the first one at each key gives way, though it is added meanwhile."""
    looks: list[str] = []

    async def look(key: str) -> Later | None:
        looks.append(key)
        if looks.count(key) > 1:
            return None
        queue.add(key)
        return Later()

    worker = asyncio.create_task(queue.work(look))
    try:
        yield looks
    finally:
        worker.cancel()


async def test_what_gives_way_comes_when_no_other_has_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, queue = Clock(monkeypatch), Queue[str]()
    async with first_give_way(queue) as looks:
        for key in "abc":
            queue.add(key)
            await clock.passes(0.9 * QUIET_SECONDS)
        assert looks == ["a", "b", "c"]
        queue.add("a")
        queue.add("b", 0.01)
        await clock.passes(0.05 * QUIET_SECONDS)
        assert looks == ["a", "b", "c"]
        assert len(queue) == 0
        await clock.passes(0.06 * QUIET_SECONDS)
        assert looks == ["a", "b", "c", "a", "b", "c"]
        await clock.passes(LATEST_SECONDS)
    assert looks == ["a", "b", "c", "a", "b", "c"]


async def test_what_gives_way_does_so_for_its_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LATEST_SECONDS", 3.7 * QUIET_SECONDS)
    clock, queue = Clock(monkeypatch), Queue[str]()
    async with first_give_way(queue) as looks:
        for number in range(4):
            queue.add(str(number))
            await clock.passes(0.9 * QUIET_SECONDS)
        assert looks == ["0", "1", "2", "3"]
        await clock.passes(0.08 * QUIET_SECONDS)
        assert looks == ["0", "1", "2", "3"]
        queue.add("4")
        await clock.passes(0.03 * QUIET_SECONDS)
    assert looks == ["0", "1", "2", "3", "4", "0"]


async def test_it_comes_again_when_it_asks_to() -> None:
    queue, looks = Queue[str](), 0

    async def look(key: str) -> float | None:
        nonlocal looks
        looks += 1
        return 0.01 if looks < 3 else None

    queue.add("a")
    await until_idle(queue, look, lambda: looks == 3)
    assert len(queue) == 0


async def test_the_earlier_of_two_times_holds() -> None:
    queue, looks = Queue[str](), 0

    async def look(key: str) -> None:
        nonlocal looks
        looks += 1

    queue.add("a", 3600)
    queue.add("a", 0.01)
    queue.add("a", 7200)
    await until_idle(queue, look, lambda: looks == 1)


async def test_failures_wait_longer_each_time_until_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(module, "backoff", lambda failures: asked.append(failures) or 0.001)
    queue, looks = Queue[str](), 0

    async def look(key: str) -> None:
        nonlocal looks
        looks += 1
        if looks in (1, 2, 3, 5):
            raise Retry("the API server is away")
        if looks == 4:
            queue.add("a")

    queue.add("a")
    await until_idle(queue, look, lambda: looks == 6)
    assert asked == [0, 1, 2, 0]


def test_the_backoff_grows_to_its_limit_with_jitter() -> None:
    assert 0.25 <= backoff(0) <= 0.5
    assert all(
        LONGEST_BACKOFF_SECONDS / 2 <= backoff(failures) <= LONGEST_BACKOFF_SECONDS for failures in (8, 99)
    )
    assert len({backoff(3) for _ in range(20)}) > 1
