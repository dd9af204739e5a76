"""Annotate a band of a stage's documents, or its held-out ones: `python -m ixt_workloads.steps.annotate`."""

import asyncio
import math
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from ixt_workloads.contract.configs import AnnotateConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.results import Outcome, Result
from ixt_workloads.contract.settings import Judge
from ixt_workloads.data.locate import local_folder
from ixt_workloads.flops import ModelShape
from ixt_workloads.frame import Step, main
from ixt_workloads.steps.annotate.client import Judges
from ixt_workloads.steps.annotate.rows import CONVINCING, Row, Tally
from ixt_workloads.steps.annotate.shards import Shards
from ixt_workloads.steps.annotate.work import Work


def run(step: Step) -> Result:
    """Write this index's share of the shards, and commit when all are there."""
    config: AnnotateConfig = step.config
    shards = Shards(step)
    if config.judge is None:
        return _take_over(step, shards)
    judge = config.judge
    secret = judge.credentials_secret_ref
    folder = local_folder(judge.source, judge.revision, secret) if judge.source else None
    shape = _shape(judge, folder)
    work = Work(step, shards, config, shape)
    if shards.outstanding():
        _until_told(work.judge_all(_judges(judge), folder))
    source = "Judge" if judge.source else "Endpoint"
    return _finish(step, shards, source, shape.parameters, work.engine)


def _take_over(step: Step, shards: Shards) -> Result:
    """Write the feedback that the documents came with. Those without a score get no row."""
    tally = Tally()
    for name, documents in shards.take():
        part = Tally()
        rows = []
        for document in documents:
            if document.score is not None and math.isfinite(document.score):
                critique = (document.critique or "").strip()
                rows.append(Row(document.id, "ok", document.score, critique=critique, fingerprint="existing"))
                part.add(rows[-1], document.text, 0)
        tally.merge(part)
        tally.check(step.config.gates, CONVINCING)
        shards.write(name, rows, part)
        step.reporter.update(tally.documents, None, "documents", f"took over {name}")
    return _finish(step, shards, "Existing", 0, "")


def _finish(step: Step, shards: Shards, source: str, parameters: int, engine: str) -> Result:
    missing = shards.outstanding()
    if missing:
        return Result(
            outcome=Outcome.SHARED,
            key=step.task.key,
            message=f"this worker is done; {len(missing)} of {len(shards.files)} shards are with others",
        )
    tally = shards.tally()
    tally.check(step.config.gates, 1)
    shards.commit(tally, source, parameters, {"engine": engine} if engine else {})
    return Result(
        outcome=Outcome.COMMITTED,
        key=step.task.key,
        message=f"{tally.valid:,} of {tally.documents:,} documents have feedback",
        flops={"annotation": tally.flops},
        metrics={"validPercent": 100 - tally.invalid_percent, "overlapPercent": tally.overlap_percent},
    )


def _judges(judge: Judge) -> Judges:
    """Clients of the servers that the environment names."""
    url = os.environ.get("IXT_ENDPOINT_URL", "")
    if judge.source is None:
        if not url:
            raise StepError(
                Exit.USAGE, "IXT_ENDPOINT_URL is not set, and the judge has no weights of its own"
            )
        key = os.environ.get("IXT_ENDPOINT_API_KEY", "")
        return Judges([url], model=judge.model, endpoint=True, key=key)
    urls = [part.rstrip("/") for part in os.environ.get("IXT_JUDGE_URLS", "").split(",") if part]
    if not urls:
        raise StepError(
            Exit.USAGE, "IXT_JUDGE_URLS is not set", "steps are started by `ixt run` or the operator"
        )
    return Judges(urls)


def _shape(judge: Judge, folder: Path | None) -> ModelShape:
    """What the judge costs. An endpoint's attention is not known and not counted."""
    if folder is not None:
        return ModelShape.from_folder(folder)
    return ModelShape(parameters=judge.active_parameters or 0, layers=0, width=0, vocabulary=0)


def _until_told(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end, or until SIGTERM: that cancels all requests and raises KeyboardInterrupt."""
    # asyncio gives SIGINT this meaning, but only where Python's own handler is in place.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    asyncio.run(work)


if __name__ == "__main__":
    main(run)
