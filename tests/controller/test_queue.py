"""The queue of runs: de-duplicated, serial per key, patient with failures."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from ixt_operator.controller import queue as module
from ixt_operator.controller.queue import (
    LONGEST_BACKOFF_SECONDS,
    Behind,
    Queue,
    Retry,
    backoff,
)

Look = Callable[[str], Awaitable[float | Behind | None]]


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


async def order(queue: Queue[str], first: str, meanwhile: dict[str, Callable[[], None]]) -> str:
    """Keys in the order in which one worker looks at them, until none is left. The first look at `a` puts it
    behind others; `meanwhile` happens while a key is looked at for the first time."""
    looks: list[str] = []

    async def look(key: str) -> Behind | None:
        looks.append(key)
        if looks.count(key) > 1:
            return None
        meanwhile.get(key, lambda: None)()
        return Behind() if key == "a" else None

    for key in first:
        queue.add(key)
    await until_idle(queue, look, lambda: len(queue) == 0 and len(looks) > 1, workers=1)
    return "".join(looks)


@pytest.mark.parametrize("added", ["", "while it is looked at", "while it waits"])
async def test_what_is_put_behind_others_stays_there_when_it_is_added(added: str) -> None:
    def at_a() -> None:
        if added == "while it is looked at":
            queue.add("a")

    def at_b() -> None:
        if added == "while it waits":
            queue.add("a")
        queue.add("c")

    queue = Queue[str]()
    assert await order(queue, "ab", {"a": at_a, "b": at_b}) == "abca"


@pytest.mark.parametrize("hastened", ["a", "b"])
async def test_what_is_put_behind_others_comes_when_it_is_hastened(hastened: str) -> None:
    def at(key: str) -> None:
        if hastened == key:
            queue.hasten("a")
        if key == "b":
            queue.add("c")

    queue = Queue[str]()
    assert await order(queue, "ab", {"a": lambda: at("a"), "b": lambda: at("b")}) == "abac"


async def test_what_is_hastened_and_was_put_behind_no_other_keeps_its_place() -> None:
    queue = Queue[str]()
    assert await order(queue, "bcd", {"b": lambda: queue.hasten("c")}) == "bcd"


async def test_what_is_put_behind_others_waits_for_what_is_looked_at_then_all_workers_come() -> None:
    queue, looks, polls, running, most, go_on = Queue[str](), list[str](), 0, 0, 0, asyncio.Event()

    async def look(key: str) -> Behind | None:
        nonlocal running, most
        looks.append(key)
        if key == "x":
            await go_on.wait()
        elif looks.count(key) == 1:
            return Behind()
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return None

    def wanted() -> bool:
        nonlocal polls
        polls += 1
        if polls == 50:
            assert (looks, len(queue)) == ([*"xab"], 2)
            go_on.set()
        return len(looks) == 5 and running == 0

    for key in "xab":
        queue.add(key)
    await until_idle(queue, look, wanted)
    assert (looks, most) == ([*"xabab"], 2)


async def test_what_is_put_behind_others_waits_for_its_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is added meanwhile."""
    monkeypatch.setattr(module, "BEHIND_SECONDS", 1.0)
    now = 0.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)

    def at(key: str) -> None:
        nonlocal now
        now += 0.4
        queue.add(chr(ord(key) + 1))

    queue = Queue[str]()
    assert await order(queue, "ab", {key: partial(at, key) for key in "bcde"}) == "abcdeaf"


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
    monkeypatch.setattr(module, "backoff", lambda failures, _: asked.append(failures) or 0.001)
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


async def test_what_is_hastened_in_a_look_that_fails_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "backoff", lambda failures, _: 3600.0)
    queue, looks = Queue[str](), 0

    async def look(key: str) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            queue.hasten("a")
            raise Retry("the API server is away")

    queue.add("a")
    await until_idle(queue, look, lambda: looks == 2)


async def test_how_long_the_first_waits_is_known() -> None:
    queue, loop = Queue[str](), asyncio.get_running_loop()
    assert (len(queue), queue.oldest()) == (0, 0.0)
    before = loop.time()
    queue.add("a")
    since = loop.time()
    while loop.time() - since < 0.01:
        await asyncio.sleep(0)
    queue.add("b")
    queue.add("a")
    assert 0.01 <= queue.oldest() <= loop.time() - before
    assert len(queue) == 2


def test_the_backoff_grows_to_its_limit_with_jitter() -> None:
    assert 0.25 <= backoff(0) <= 0.5
    assert all(
        LONGEST_BACKOFF_SECONDS / 2 <= backoff(failures) <= LONGEST_BACKOFF_SECONDS for failures in (8, 99)
    )
    assert len({backoff(3) for _ in range(20)}) > 1
