"""Asks a model's servers about the items of file after file: keeps requests in flight, counts what comes
back, writes each file once it is whole, tells progress."""

import asyncio
import logging
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, Generic

from ixt_workloads.contract.metrics import REQUESTS_OPEN
from ixt_workloads.contract.results import Figures
from ixt_workloads.frame import Step
from ixt_workloads.steps.annotate.client import Judges
from ixt_workloads.steps.annotate.sharing import Item, Row, SharedFiles, Sums
from ixt_workloads.steps.annotate.wire import ServedModel

log = logging.getLogger("ixt.asking")

REPORT_SECONDS = 1.0


@dataclass
class Part(Generic[Item, Row, Sums]):
    """A file whose items are being asked about."""

    name: str
    items: list[Item]
    rows: list[Row | None]
    left: int
    sums: Sums


class Asking(ABC, Generic[Item, Row, Sums]):
    """Has servers answer for all items that this index can take. Requests of several files are in flight at
    once, so that the engine never runs dry at a file's end."""

    unit = "documents"

    def __init__(self, step: Step, files: SharedFiles[Item, Row, Sums]) -> None:
        self._step = step
        self._files = files
        self._seen = files.nothing()
        """Counts over all items that were asked about, written or not."""
        self._done = 0
        self._adopted = files.nothing()
        """Counts over files of earlier attempts."""
        self._told_at = time.monotonic()
        self._total = files.items * len(files.outstanding()) / max(len(files.files), 1)
        self._note = ""
        """For the status, while there is nothing else to say."""

    @abstractmethod
    async def _begin(self, servers: Judges, model: ServedModel) -> None:
        """Whatever comes before the first item. Raises StepError for a server that is of no use."""

    @abstractmethod
    async def _answer(self, servers: Judges, item: Item) -> Row:
        """The row that comes of an item. Raises StepError when the servers cannot be asked at all."""

    @abstractmethod
    def _sums_of(self, item: Item, row: Row) -> Sums:
        """What a row counts."""

    @abstractmethod
    def _check(self, seen: Sums) -> None:
        """Raise StepError when what was seen until now is too bad to go on."""

    @abstractmethod
    def _figures(self, sums: Sums) -> Figures:
        """Counts for Prometheus."""

    async def ask_all(self, servers: Judges) -> None:
        """Ask about all items that this index can take. Raises StepError."""
        async with servers:
            adopting = asyncio.create_task(asyncio.to_thread(self._adopt))
            model = await servers.ready(self._wait_for)
            await adopting
            await self._begin(servers, model)
            try:
                async with asyncio.TaskGroup() as group:
                    ticker = group.create_task(self._report(servers))
                    await self._ask_parts(servers, group)
                    ticker.cancel()
                    self._tell(servers)
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None

    async def _ask_parts(self, servers: Judges, group: asyncio.TaskGroup) -> None:
        open_tasks = set()
        async for part in self._prefetched():
            if not part.items:
                await self._write(part)
            for place in range(len(part.items)):
                await servers.pace.take()
                task = group.create_task(self._ask(servers, part, place))
                open_tasks.add(task)
                task.add_done_callback(open_tasks.discard)
        if open_tasks:
            await asyncio.wait(open_tasks)

    async def _prefetched(self) -> AsyncIterator[Part[Item, Row, Sums]]:
        """The files, each read from storage while the one before is being asked about."""
        taken = self._files.take()
        ahead = asyncio.create_task(asyncio.to_thread(next, taken, None))
        while found := await ahead:
            ahead = asyncio.create_task(asyncio.to_thread(next, taken, None))
            name, items = found
            yield Part(name, items, [None] * len(items), len(items), self._files.nothing())

    async def _ask(self, servers: Judges, part: Part[Item, Row, Sums], place: int) -> None:
        item = part.items[place]
        try:
            row = await self._answer(servers, item)
        finally:
            servers.pace.give()
        part.rows[place] = row
        part.left -= 1
        sums = self._sums_of(item, row)
        part.sums.merge(sums)
        self._seen.merge(sums)
        self._done += 1
        self._check(self._seen)
        if part.left == 0:
            await self._write(part)

    async def _write(self, part: Part[Item, Row, Sums]) -> None:
        rows = [row for row in part.rows if row is not None]
        await asyncio.to_thread(self._files.write, part.name, rows, part.sums)
        self._step.reporter.saved()
        log.info("wrote %s: %d %s", part.name, len(rows), self.unit)

    def _adopt(self) -> None:
        for sums in self._files.adopted():
            self._adopted.merge(sums)

    def _say(self, message: str) -> None:
        total = max(self._total, self._done)
        self._step.reporter.update(self._done, total, self.unit, (message or self._note)[:512])

    def _wait_for(self, server: str) -> None:
        self._say(server)
        self._step.reporter.waited(self._since_told())

    async def _report(self, servers: Judges) -> None:
        """Tell the progress every second."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            self._tell(servers)

    def _tell(self, servers: Judges) -> None:
        reporter, seconds = self._step.reporter, self._since_told()
        self._say("")
        if servers.pace.busy and not servers.open:
            # Items are due, and no server has any of them: none can be reached, or it asked for a pause.
            reporter.waited(seconds)
        reporter.set(REQUESTS_OPEN, servers.open, "Open")
        if servers.load and self._step.index == 0:
            # Every client sees the same queue.
            for state, number in zip(("Running", "Waiting"), servers.load, strict=True):
                reporter.set(REQUESTS_OPEN, number, state)
        both = self._files.nothing()
        both.merge(self._adopted)
        both.merge(self._seen)
        reporter.tell(self._figures(both))

    def _since_told(self) -> float:
        """Seconds since the last time that this was asked."""
        before, self._told_at = self._told_at, time.monotonic()
        return self._told_at - before


def until_told(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end, or until SIGTERM: that cancels all requests and raises KeyboardInterrupt."""
    # asyncio gives SIGINT this meaning, but only where Python's own handler is in place.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    asyncio.run(work)
