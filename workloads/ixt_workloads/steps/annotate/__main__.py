"""Annotate a band of a stage's documents, or its held-out ones: `python -m ixt_workloads.steps.annotate`."""

import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ixt_workloads.contract.configs import AnnotateConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.metrics import RETRIES, Retry
from ixt_workloads.contract.results import Outcome, Result
from ixt_workloads.contract.settings import Judge
from ixt_workloads.data.locate import local_folder
from ixt_workloads.flops import ModelShape
from ixt_workloads.frame import Step, main
from ixt_workloads.steps.annotate.asking import until_told
from ixt_workloads.steps.annotate.client import Judges, served
from ixt_workloads.steps.annotate.rows import CONVINCING, Row, Tally
from ixt_workloads.steps.annotate.shards import Shards
from ixt_workloads.steps.annotate.verifying import say_verdict
from ixt_workloads.steps.annotate.work import Work


def run(step: Step) -> Result:
    """Write this index's share of the shards, and commit when all are there."""
    config: AnnotateConfig = step.config
    shards = Shards(step)
    if config.judge is None:
        return _verify_alone(step, shards) if config.verifier else _take_over(step, shards)
    judge = config.judge
    secret = judge.credentials_secret_ref
    folder = local_folder(judge.source, judge.revision, secret) if judge.source else None
    shape = _shape(judge, folder)
    retried = partial(step.reporter.add, RETRIES, 1)
    work = Work(step, shards, config, shape, folder, _second(judge, retried))
    if shards.outstanding():
        until_told(work.ask_all(_judges(judge, retried)))
    source = "Judge" if judge.source else "Endpoint"
    return _finish(step, shards, source, shape.parameters, work.engine)


def _take_over(step: Step, shards: Shards) -> Result:
    """Write the feedback that the documents came with. Those without a score get no row."""
    tally, told = Tally(), Tally()
    for adopted in shards.adopted():
        told.merge(adopted)
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
        told.merge(part)
        step.reporter.tell(told.figures())
        step.reporter.saved()
        step.reporter.update(tally.documents, None, "documents", f"took over {name}")
    return _finish(step, shards, "Existing", 0, "")


def _verify_alone(step: Step, shards: Shards) -> Result:
    """Write what a verifier says of a model's answers, without a judge."""
    config: AnnotateConfig = step.config
    told, written = Tally(), Tally()
    for adopted in shards.adopted():
        told.merge(adopted)
    for name, documents in shards.take():
        part, rows = Tally(), []
        for document in documents:
            row = Row(document.id, fingerprint=f"verifier {config.verifier and config.verifier.type}")
            say_verdict(config, document, row)
            rows.append(row)
            part.add(row, document.text, 0)
        written.merge(part)
        written.check(config.gates, CONVINCING, next((row.reason for row in rows if row.reason), ""))
        shards.write(name, rows, part)
        told.merge(part)
        step.reporter.tell(told.figures())
        step.reporter.saved()
        step.reporter.update(written.documents, shards.items, "documents", f"verified {name}")
    return _finish(step, shards, "Verifier", 0, "")


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
    fingerprint = {"engine": engine} if engine else {}
    what = "answers" if step.config.verifier else "documents"
    shards.writer.commit(tally.summary(source, parameters), shards.files, fingerprint)
    return Result(
        outcome=Outcome.COMMITTED,
        key=step.task.key,
        message="; ".join(
            filter(None, (f"{tally.valid:,} of {tally.documents:,} {what} have feedback", tally.told()))
        ),
        flops={"annotation": tally.flops},
    )


def _judges(judge: Judge, retried: Callable[[Retry], None]) -> Judges:
    """Clients of the servers that the environment names."""
    if judge.source is None:
        return _endpoint("ENDPOINT", judge.model, retried)
    return served("judge", retried)


def _second(judge: Judge, retried: Callable[[Retry], None]) -> Judges | None:
    """Client of the second judge, if there is one."""
    return _endpoint("SECOND", judge.second, retried) if judge.second else None


def _endpoint(name: str, model: str | None, retried: Callable[[Retry], None]) -> Judges:
    url = os.environ.get(f"IXT_{name}_URL", "")
    if not url:
        raise StepError(
            Exit.USAGE, f"IXT_{name}_URL is not set, and the judge {model} has no weights of its own"
        )
    key = os.environ.get(f"IXT_{name}_API_KEY", "")
    return Judges([url], model=model, endpoint=True, key=key, retried=retried)


def _shape(judge: Judge, folder: Path | None) -> ModelShape:
    """What the judge costs. An endpoint's attention is not known and not counted."""
    if folder is not None:
        return ModelShape.from_folder(folder)
    return ModelShape(parameters=judge.active_parameters or 0, layers=0, width=0, vocabulary=0)


if __name__ == "__main__":
    main(run)
