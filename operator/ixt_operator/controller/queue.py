"""The queue of runs to look at: each at most once in it, each looked at by one worker at a time.

As client-go's workqueue: a key that is added while it is worked on comes again afterwards; a failure comes
again later each time, with jitter, until a success. Beyond it, a look may put its key behind all others.
Belongs to one event loop.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 60.0
UNFORESEEN_SECONDS = 600.0
"""The longest wait after a failure that nobody foresaw: it costs more, and time alone seldom mends it."""

BEHIND_SECONDS = 10.0
"""A key that was put behind others is due like them after this time."""


class Retry(Exception):  # noqa: N818 - not an error of this program
    """A look that did not succeed and is to be repeated, `after` seconds from now at the earliest, and after
    more failures at most `longest` seconds from now. `forbidden`: the API server did not allow it."""

    def __init__(
        self,
        why: str,
        after: float = 0.0,
        longest: float = LONGEST_BACKOFF_SECONDS,
        *,
        forbidden: bool = False,
    ) -> None:
        super().__init__(why)
        self.after = after
        self.longest = longest
        self.forbidden = forbidden


class Behind:
    """A look's answer: to look again when no other key is due or worked on, at the latest
    after BEHIND_SECONDS."""


class Queue(Generic[K]):
    """Keys that are due, and timers of those that will be."""

    def __init__(self) -> None:
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._queued: dict[K, float] = {}
        """Keys that are due, and since when, by the loop's clock; the earliest first."""
        self._working: set[K] = set()
        self._again: dict[K, bool] = {}
        """Added while they were worked on; whether they were hastened."""
        self._behind: dict[K, float] = {}
        """Keys that wait behind others, and when each is due like them; the earliest first."""
        self._late: set[K] = set()
        """Keys that were behind others, and are due or worked on since there were none."""
        self._workers = 0
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}

    def __len__(self) -> int:
        """Keys that are due and wait for a worker."""
        return len(self._queued) + len(self._behind)

    def oldest(self) -> float:
        """For how many seconds the key that waits longest has been due; 0 when none waits."""
        since = next(iter(self._queued.values()), None)
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    def add(self, key: K, after: float = 0.0) -> None:
        """Have a key looked at in `after` seconds, or earlier if it is due earlier. One that was put behind
        others stays there."""
        timer = self._timers.get(key)
        if after <= 0:
            self._due(key)
            return
        loop = asyncio.get_running_loop()
        if timer is None or loop.time() + after < timer.when():
            if timer:
                timer.cancel()
            self._timers[key] = loop.call_later(after, self._due, key)

    def hasten(self, key: K) -> None:
        """Have a key looked at, also if it was put behind others."""
        self._behind.pop(key, None)
        self._due(key, hastened=True)

    async def work(self, look: Callable[[K], Awaitable[float | Behind | None]]) -> None:
        """Look at due keys for ever. `look` answers in how many seconds to look again, if at all, or behind
        others; it raises Retry when it did not succeed."""
        self._workers += 1
        while True:
            key = await self._ready.get()
            self._queued.pop(key, None)
            self._working.add(key)
            again: float | Behind | None
            try:
                again = await look(key)
                self._failures.pop(key, None)
                added, hastened = key in self._again, self._again.get(key, False)
                if hastened or (added and not isinstance(again, Behind)):
                    again = 0.0
            except Retry as error:
                failures = self._failures.get(key, 0)
                self._failures[key] = failures + 1
                again = 0.0 if self._again.get(key) else max(error.after, backoff(failures, error.longest))
            finally:
                self._working.discard(key)
                self._late.discard(key)
                self._again.pop(key, None)
            if isinstance(again, Behind):
                self._behind[key] = asyncio.get_running_loop().time() + BEHIND_SECONDS
            elif again is not None:
                self.add(key, again)
            self._let_on()
            # Most looks wait for nothing: after a resync a thousand of them would keep the loop, and with it
            # the Lease, for seconds.
            await asyncio.sleep(0)

    def _due(self, key: K, hastened: bool = False) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._working:
            self._again[key] = hastened or self._again.get(key, False)
        elif key not in self._queued and key not in self._behind:
            self._queued[key] = asyncio.get_running_loop().time()
            self._ready.put_nowait(key)

    def _let_on(self) -> None:
        """Have keys looked at that wait behind others: one a worker while there are no others, and each whose
        time is over."""
        while self._behind:
            key, latest = next(iter(self._behind.items()))
            others = len(self._queued) + len(self._working) > len(self._late)
            if not others and len(self._late) < self._workers:
                self._late.add(key)
            elif asyncio.get_running_loop().time() < latest:
                return
            del self._behind[key]
            self._due(key)


def backoff(failures: int, most: float = LONGEST_BACKOFF_SECONDS) -> float:
    """Seconds to wait after so many failures before this one."""
    longest = min(most, FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, 16))
    return longest * random.uniform(0.5, 1.0)
