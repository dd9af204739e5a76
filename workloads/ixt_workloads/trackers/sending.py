"""The thread and the bounded queue before a tracker."""

import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from ixt_workloads.trackers.points import Point

log = logging.getLogger("ixt.trackers")

WAITING = 1000
"""Points that wait for a tracker at most; then the oldest is dropped."""

BATCH = 100
"""Points that are sent together at most."""

RETRY_SECONDS = 30.0
"""How long a tracker that failed is left alone."""

TIMEOUT_SECONDS = 10
"""How long a tracker's server has for an answer."""

CLOSE_SECONDS = 5.0
"""How long a step waits at its end until all trackers have what is left."""

_SECRET = re.compile("KEY|TOKEN|PASSWORD|SECRET")


class Tracker(Protocol):
    """One tracker's run, open. Its methods may raise anything and take long."""

    def log(self, points: Sequence[Point]) -> None:
        """Take points, in ascending order of steps. Raises RefusedError for what no second try would save."""

    def close(self, *, succeeded: bool) -> None:
        """This attempt is over."""


class RefusedError(Exception):
    """The tracker does not take these points."""


class Sender:
    """Sends points to one tracker, in a thread of its own. Nothing here raises or waits for it."""

    def __init__(
        self, name: str, opener: Callable[[], Tracker], *, retry_seconds: float = RETRY_SECONDS
    ) -> None:
        self._name, self._opener, self._retry_seconds = name, opener, retry_seconds
        self._changed = threading.Condition()
        self._points: deque[Point] = deque()
        self._ended = threading.Event()
        self._succeeded = False
        self._sending = 0
        self._dropped = 0
        self._why = ""
        self._thread = threading.Thread(target=self._work, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def put(self, point: Point) -> None:
        """Send a point some time, or drop one."""
        with self._changed:
            self._points.append(point)
            if len(self._points) > WAITING or not self._thread.is_alive():
                self._points.popleft()
                self._dropped += 1
            self._changed.notify()

    def end(self, *, succeeded: bool) -> None:
        """Send what waits and close."""
        with self._changed:
            self._succeeded = succeeded
            self._ended.set()
            self._changed.notify()

    def join(self, seconds: float) -> None:
        """Wait until it is closed, so long at most; what was not sent by then is lost."""
        self._thread.join(max(0.0, seconds))
        with self._changed:
            lost = len(self._points) + self._sending
            if lost and not self._why:
                self._why = "it did not answer in time"
            self._dropped += lost
            self._points.clear()
            self._sending = 0

    @property
    def trouble(self) -> str:
        """What is wrong, for people; empty if nothing is."""
        with self._changed:
            lost = f"{self._dropped} point{'s' * (self._dropped != 1)} dropped" if self._dropped else ""
            return f"{self._name}: {', '.join(filter(None, (self._why, lost)))}" if self._why or lost else ""

    def _work(self) -> None:
        tracker: Tracker | None = None
        batch: list[Point] = []
        while True:
            if tracker is not None and not batch:
                batch = self._next()
                if not batch:
                    break
            # At the end each of them is tried once more.
            last = self._ended.is_set()
            try:
                if tracker is None:
                    tracker = self._opener()
                else:
                    tracker.log(batch)
                    batch = self._done(batch)
                self._tell("")
            except RefusedError as error:
                self._tell(_words(error))
                batch = self._done(batch, dropped=True)
            except ImportError as error:
                self._tell(f"this image lacks its library ({_words(error)})")
                self._done([*batch, *self._points], dropped=True)
                return
            except Exception as error:  # noqa: BLE001 - whatever a tracker does, the step goes on
                self._tell(_words(error))
                if last:
                    break
                self._ended.wait(self._retry_seconds)
        if tracker is not None:
            try:
                tracker.close(succeeded=self._succeeded)
            except Exception as error:  # noqa: BLE001
                self._tell(_words(error))

    def _next(self) -> list[Point]:
        """The next points, once there are some; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._points or self._ended.is_set())
            batch = [self._points.popleft() for _ in range(min(BATCH, len(self._points)))]
            self._sending = len(batch)
            return batch

    def _done(self, batch: Sequence[Point], *, dropped: bool = False) -> list[Point]:
        """These points are sent, or lost."""
        with self._changed:
            # After `join` it has counted them.
            self._dropped += min(len(batch), self._sending) if dropped else 0
            self._sending = 0
        return []

    def _tell(self, why: str) -> None:
        with self._changed:
            new, self._why = why != self._why, why
        if new and why:
            log.warning("%s: %s", self._name, why)


def close(senders: Iterable[Sender], *, succeeded: bool) -> None:
    """End them all, within CLOSE_SECONDS together."""
    deadline = time.monotonic() + CLOSE_SECONDS
    for sender in senders:
        sender.end(succeeded=succeeded)
    for sender in senders:
        sender.join(deadline - time.monotonic())


def _words(error: Exception) -> str:
    """An error in one short line, without what the environment keeps secret: libraries wrap what the network
    said in many words."""
    root: BaseException = error
    while below := root.__cause__ or root.__context__:
        root = below
    text = f"not reached ({root})" if root is not error and isinstance(root, OSError) else str(error)
    text = " ".join(text.split()) or type(error).__name__
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= 6:
            text = text.replace(value, "***")
    # The cause stands last.
    return text if len(text) <= 160 else f"{text[:60]} … {text[-100:]}"
