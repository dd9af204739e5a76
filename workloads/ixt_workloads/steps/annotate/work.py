"""Has a judge read shards: tries it on a first sample, counts rows, checks gates."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ixt_workloads.contract.configs import AnnotateConfig
from ixt_workloads.contract.exits import StepError
from ixt_workloads.contract.metrics import RETRIES, Retry
from ixt_workloads.contract.results import Figures
from ixt_workloads.flops import ModelShape, judging_flops
from ixt_workloads.frame import Step
from ixt_workloads.steps.annotate.asking import Asking, Part
from ixt_workloads.steps.annotate.client import Judges
from ixt_workloads.steps.annotate.judging import Reader, judge_tokenizer, prove
from ixt_workloads.steps.annotate.probing import LEAST, PROBED, probe
from ixt_workloads.steps.annotate.rows import CONVINCING, Document, Row, Tally
from ixt_workloads.steps.annotate.shards import Shards
from ixt_workloads.steps.annotate.verifying import say_verdict
from ixt_workloads.steps.annotate.wire import ServedModel

log = logging.getLogger("ixt.annotate")


class Work(Asking[Document, Row, Tally]):
    """Reads shard after shard with one judge."""

    def __init__(
        self,
        step: Step,
        shards: Shards,
        config: AnnotateConfig,
        shape: ModelShape,
        folder: Path | None,
        second: Judges | None = None,
    ) -> None:
        super().__init__(step, shards)
        self._shards = shards
        self._config = config
        self._gates = config.gates
        assert config.judge
        self._judge = config.judge
        self._shape = shape
        self._folder = folder
        """Where the judge's weights lie, if it has such."""
        self._second = second
        """Reads the first sample too."""
        self.engine = ""
        self._reader: Reader
        self._servers: Judges
        self._written = Tally()
        self._last_rejection = ""
        self._probed = Tally()
        """What the first sample cost and said, until it is written."""

    async def _begin(self, servers: Judges, model: ServedModel) -> None:
        self.engine = model.engine
        pin = self._step.task.pins.get("judge", "")[:16]
        fingerprint = " ".join(filter(None, (model.engine, model.name, model.root, pin)))
        tokenizer = judge_tokenizer(self._folder) if self._folder else None
        reader = await prove(servers.chat, self._judge, model, fingerprint, tokenizer)
        self._reader = replace(reader, rejected=self._rejected)
        self._servers = servers
        known = await asyncio.to_thread(self._shards.first_tally)
        await servers.check_same(known.served if known else ())
        await self._try()

    async def _try(self) -> None:
        """Have the judge read a first sample, unless an earlier attempt has: what it says is in a shard.
        Raises StepError for a gate, and for a second judge that cannot be asked."""
        fresh = self._step.index == 0 and not self._shards.written()
        if self._shards.items < LEAST or not fresh:
            return
        self._say(f"trying the judge on {PROBED} documents")
        documents = await asyncio.to_thread(self._shards.first, PROBED)
        found, rows = await probe(self._reader.read, documents, self._judge.rubric)
        if self._second:
            found = found.beside(rows, await self._read_by(self._second, documents))
        self._note = found.words()
        for row in rows:
            self._probed.add_cost(row, judging_flops(self._shape, row.computed(), row.context()))
        self._probed.probe.update(
            {name: value for name, value in found.summary().items() if value is not None}
        )
        self._probed.warnings.update(dict.fromkeys(found.check(self._gates), 1))
        log.info("%s", self._note)
        for warning in self._probed.warnings:
            log.warning("%s", warning)

    async def _read_by(self, second: Judges, documents: Sequence[Document]) -> list[Row]:
        """Rows of the second judge, asked by the same rubric in a form that all servers understand."""
        plain = {"top_k": None, "min_p": None, "thinking_tokens": None}
        own = {"source": None, "reasoning_parser": None, "chat_template_kwargs": (), "engine_args": ()}
        sampling = self._judge.sampling.model_copy(update=plain)
        judge = self._judge.model_copy(update={**own, "model": self._judge.second, "sampling": sampling})
        try:
            async with second:
                reader = await prove(second.chat, judge, await second.ready(self._wait_for), "", None)
                return list(await asyncio.gather(*map(reader.read, documents)))
        except StepError as error:
            raise StepError(error.code, f"judge.second: {error.message}", error.hint) from None

    async def _answer(self, servers: Judges, item: Document) -> Row:
        row = await self._reader.read(item)
        say_verdict(self._config, item, row)
        return row

    def _sums_of(self, item: Document, row: Row) -> Tally:
        tally = Tally()
        tally.add(row, item.text, judging_flops(self._shape, row.computed(), row.context()))
        if row.tries > 1:
            self._step.reporter.add(RETRIES, row.tries - 1, Retry.INVALID)
        return tally

    def _check(self, seen: Tally) -> None:
        seen.check(self._gates, CONVINCING, self._last_rejection)

    def _figures(self, sums: Tally) -> Figures:
        return sums.figures()

    async def _write(self, part: Part[Document, Row, Tally]) -> None:
        # Checked before it is written, so that no later attempt finds feedback of another model, or such as
        # fails the gates.
        await self._servers.check_same()
        if served := self._servers.model.root:
            part.sums.served.update({served: len(part.items)})
        if len(names := sorted(self._servers.names)) > 1:
            part.sums.warnings.update({f"the judge answers under several names: {', '.join(names)}": 1})
        self._written.merge(part.sums)
        self._written.check(self._gates, CONVINCING, self._last_rejection)
        # With the first shard, which an attempt that goes on from there finds.
        part.sums.merge(self._probed)
        self._probed = Tally()
        await super()._write(part)

    def _rejected(self, reason: str) -> None:
        self._last_rejection = reason
