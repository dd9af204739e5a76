"""How many requests are in flight: enough that the engine never waits, few enough that none waits long."""

import asyncio
from collections import deque

START = 64
MOST = 8192
WINDOW = 3
"""Readings of the engine's gauges looked at together: one alone may fall between two of its batches."""

EASY = 4.0
"""Without gauges: latency may be this many times the lowest before the number stops growing."""


class Pace:
    """Slots for requests, whose number follows the engine's load.

    An engine that shows its queue is kept just full: running requests at their maximum and a few waiting.
    One that does not (an external endpoint) gets additive increase and multiplicative decrease.
    """

    def __init__(self, start: int = START) -> None:
        self.limit: float = start
        self.busy = 0
        self._changed = asyncio.Event()
        self._readings: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self._lowest = float("inf")
        self._cooling = 0.0

    async def take(self) -> None:
        """Wait for a slot. One coroutine at a time may wait."""
        while self.busy >= int(self.limit):
            self._changed.clear()
            await self._changed.wait()
        self.busy += 1

    def give(self) -> None:
        """Free a slot."""
        self.busy -= 1
        self._changed.set()

    def observed(self, running: float, waiting: float) -> None:
        """Follow the gauges of the engine, summed over its replicas; other clients may share it."""
        self._readings.append((running, waiting))
        running = max(reading[0] for reading in self._readings)
        waiting = min(reading[1] for reading in self._readings)
        if len(self._readings) < WINDOW:
            return
        wanted = max(2.0, running / 16)
        if waiting > 2 * wanted:
            share = min(self.busy / (running + waiting), 1.0)
            self._set(self.limit - (waiting - wanted) * share)
        elif waiting == 0 and self.busy >= int(self.limit):
            self._set(self.limit * 1.5)

    def answered(self, seconds: float) -> None:
        """An answer came, without gauges: one more slot for each round of answers while latency holds."""
        self._lowest = min(self._lowest, seconds)
        if self.busy >= int(self.limit) and seconds < EASY * self._lowest:
            self._set(self.limit + 1 / self.limit)

    def throttled(self, now: float, pause: float) -> None:
        """The endpoint asks for less: half the slots, once for all requests that it turns away together."""
        if now >= self._cooling:
            self._cooling = now + pause
            self._set(self.limit / 2)

    def _set(self, limit: float) -> None:
        self.limit = min(max(limit, 1.0), MOST)
        self._readings.clear()
        self._changed.set()
