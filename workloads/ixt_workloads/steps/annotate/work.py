"""Has a judge read shards: keeps requests in flight, counts rows, checks gates, tells progress."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ixt_workloads.contract.configs import AnnotateConfig
from ixt_workloads.flops import ModelShape, judging_flops
from ixt_workloads.frame import Step
from ixt_workloads.steps.annotate.client import Judges
from ixt_workloads.steps.annotate.judging import Reader, judge_tokenizer, prove
from ixt_workloads.steps.annotate.rows import CONVINCING, Document, Row, Tally
from ixt_workloads.steps.annotate.shards import Shards

log = logging.getLogger("ixt.annotate")

REPORT_SECONDS = 1.0


@dataclass
class _Shard:
    """A shard that is being read by the judge."""

    name: str
    documents: list[Document]
    rows: list[Row | None]
    left: int
    tally: Tally = field(default_factory=Tally)


class Work:
    """Reads shard after shard with one judge. Requests of several shards are in flight at once, so that the
    engine never runs dry at a shard's end."""

    def __init__(self, step: Step, shards: Shards, config: AnnotateConfig, shape: ModelShape) -> None:
        self._step = step
        self._shards = shards
        self._gates = config.gates
        self._judge = config.judge
        self._shape = shape
        self.engine = ""
        self._seen = Tally()
        """Counts over all documents that were read, written or not."""
        self._written = Tally()
        self._last_rejection = ""
        self._total = shards.documents * len(shards.outstanding()) / max(len(shards.files), 1)

    async def judge_all(self, judges: Judges, folder: Path | None) -> None:
        """Read all shards that this index can take. Raises StepError."""
        assert self._judge is not None
        async with judges:
            model = await judges.ready(self._say)
            self.engine = model.engine
            pin = self._step.task.pins.get("judge", "")[:16]
            fingerprint = " ".join(filter(None, (model.engine, model.name, pin)))
            tokenizer = judge_tokenizer(folder) if folder else None
            reader = await prove(judges.chat, self._judge, model, fingerprint, tokenizer)
            reader = replace(reader, rejected=self._rejected)
            try:
                async with asyncio.TaskGroup() as group:
                    ticker = group.create_task(self._report(judges))
                    await self._read_shards(judges, reader, group)
                    ticker.cancel()
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None

    async def _read_shards(self, judges: Judges, reader: Reader, group: asyncio.TaskGroup) -> None:
        readings = set()
        async for shard in self._prefetched():
            if not shard.documents:
                await self._write(shard)
            for place in range(len(shard.documents)):
                await judges.pace.take()
                task = group.create_task(self._read(judges, reader, shard, place))
                readings.add(task)
                task.add_done_callback(readings.discard)
        if readings:
            await asyncio.wait(readings)

    async def _prefetched(self) -> AsyncIterator[_Shard]:
        """The shards, each read from storage while the one before is being judged."""
        taken = self._shards.take()
        ahead = asyncio.create_task(asyncio.to_thread(next, taken, None))
        while found := await ahead:
            ahead = asyncio.create_task(asyncio.to_thread(next, taken, None))
            name, documents = found
            yield _Shard(name, documents, [None] * len(documents), len(documents))

    async def _read(self, judges: Judges, reader: Reader, shard: _Shard, place: int) -> None:
        document = shard.documents[place]
        try:
            row = await reader.read(document)
        finally:
            judges.pace.give()
        shard.rows[place] = row
        shard.left -= 1
        self._count(shard, row, document.text)
        if shard.left == 0:
            await self._write(shard)

    def _count(self, shard: _Shard, row: Row, text: str) -> None:
        tally = Tally()
        flops = judging_flops(self._shape, row.computed(), row.context())
        tally.add(row, text, flops)
        shard.tally.merge(tally)
        self._seen.merge(tally)
        self._seen.check(self._gates, CONVINCING, self._last_rejection)
        for kind, number in row.tokens().items():
            self._step.reporter.count_tokens(kind, number)
        self._step.reporter.count_flops("annotation", flops)

    async def _write(self, shard: _Shard) -> None:
        # Checked before it is written, so that no later attempt finds feedback that fails the gates.
        self._written.merge(shard.tally)
        self._written.check(self._gates, CONVINCING, self._last_rejection)
        rows = [row for row in shard.rows if row is not None]
        await asyncio.to_thread(self._shards.write, shard.name, rows, shard.tally)
        log.info("wrote %s: %d documents", shard.name, len(rows))

    def _rejected(self, reason: str) -> None:
        self._last_rejection = reason

    def _say(self, message: str) -> None:
        done = self._seen.documents
        self._step.reporter.update(done, max(self._total, done), "documents", message)

    async def _report(self, judges: Judges) -> None:
        """Tell the progress every second."""
        before = time.monotonic(), 0
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            seen, now = self._seen, time.monotonic()
            output = seen.tokens["reasoning"] + seen.tokens["feedback"]
            metrics = {
                "validPercent": 100 - seen.invalid_percent,
                "outputTokensPerSecond": (output - before[1]) / (now - before[0]),
                "inFlight": float(judges.pace.busy),
            }
            before = now, output
            self._step.reporter.update(
                seen.documents, max(self._total, seen.documents), "documents", "", metrics
            )
