"""The queue of runs to look at: each at most once in it, each looked at by one worker at a time.

As client-go's workqueue: a key that is added while it is worked on comes again afterwards; a failure comes
again later each time, with jitter, until a success. Beyond it, a look may leave something for `Later`.
Belongs to one event loop.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 60.0

QUIET_SECONDS = 0.25
LATEST_SECONDS = 10.0
"""Keys that give way come again when none has begun to for the one, after the other in any case."""


class Retry(Exception):  # noqa: N818 - not an error of this program
    """A look that did not succeed and is to be repeated, `after` seconds from now at the earliest."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


class Later:
    """A look's answer when what it left undone can give way to others: to look again when no other has
    answered so for a moment. Whatever is added meanwhile is looked at then."""


class Queue(Generic[K]):
    """Keys that are due, and timers of those that will be."""

    def __init__(self) -> None:
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._queued: set[K] = set()
        self._working: set[K] = set()
        self._again: set[K] = set()
        """Added while they were worked on."""
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._giving_way: dict[K, float] = {}
        """Until when at the latest, by the loop's time; the earliest first."""
        self._quiet_at = 0.0
        """When they come again unless another begins to give way."""

    def __len__(self) -> int:
        """Keys that are due and wait for a worker."""
        return self._ready.qsize()

    def add(self, key: K, after: float = 0.0) -> None:
        """Have a key looked at in `after` seconds, or earlier if it is due earlier."""
        timer = self._timers.get(key)
        if after <= 0:
            self._due(key)
            return
        loop = asyncio.get_running_loop()
        if timer is None or loop.time() + after < timer.when():
            if timer:
                timer.cancel()
            self._timers[key] = loop.call_later(after, self._due, key)

    async def work(self, look: Callable[[K], Awaitable[float | Later | None]]) -> None:
        """Look at due keys for ever. `look` answers in how many seconds to look again, if at all, or that it
        is to look again later; it raises Retry when it did not succeed."""
        while True:
            key = await self._ready.get()
            self._queued.discard(key)
            self._working.add(key)
            self._again.discard(key)
            try:
                again = await look(key)
                self._failures.pop(key, None)
                if key in self._again and not isinstance(again, Later):
                    again = 0.0
            except Retry as error:
                failures = self._failures.get(key, 0)
                self._failures[key] = failures + 1
                again = max(error.after, backoff(failures))
            finally:
                self._working.discard(key)
            if isinstance(again, Later):
                self._give_way(key)
            elif again is not None:
                self.add(key, again)
            # Most looks wait for nothing: after a resync a thousand of them would keep the loop, and with it
            # the Lease, for seconds.
            await asyncio.sleep(0)

    def _due(self, key: K) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._working:
            self._again.add(key)
        elif key not in self._queued and key not in self._giving_way:
            self._queued.add(key)
            self._ready.put_nowait(key)

    def _give_way(self, key: K) -> None:
        now = asyncio.get_running_loop().time()
        self._quiet_at = now + QUIET_SECONDS
        self._giving_way[key] = now + LATEST_SECONDS
        if len(self._giving_way) == 1:
            self._let_go_when_due()

    def _let_go_when_due(self) -> None:
        """The only timer of all that give way."""
        loop = asyncio.get_running_loop()
        while self._giving_way:
            key, latest = next(iter(self._giving_way.items()))
            due = min(self._quiet_at, latest)
            if loop.time() < due:
                loop.call_at(due, self._let_go_when_due)
                return
            del self._giving_way[key]
            self._due(key)


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures before this one."""
    longest = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, 16))
    return longest * random.uniform(0.5, 1.0)
