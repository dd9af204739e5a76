"""The frame that every step runs in: task in, result out, progress beside it, one exit code.

A step is `def run(step: Step) -> Result`; its module ends in `if __name__ == "__main__": main(run)`.
The frame reads the task, answers `Cached` when the key is committed already, serves progress, turns every
exception into one result and one exit code, and writes the result where the platform looks for it.
"""

import json
import logging
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ixt_workloads import logs
from ixt_workloads.contract.exits import Exit, StepError, exit_of, meaning_of
from ixt_workloads.contract.graph import Keyed, Node, Task
from ixt_workloads.contract.metrics import STEP_METRICS
from ixt_workloads.contract.metrics import Type as MetricType
from ixt_workloads.contract.results import MAX_LOG_TAIL, MAX_RESULT_BYTES, Outcome, Result
from ixt_workloads.contract.versions import read_task
from ixt_workloads.flops import flops_by_purpose
from ixt_workloads.progress import Reporter
from ixt_workloads.store import (
    Artifact,
    ArtifactWriter,
    Claim,
    NotFound,
    Store,
    StoreError,
    committed,
    open_storage,
)
from ixt_workloads.store.claim import TTL

log = logging.getLogger("ixt")

T = TypeVar("T")

MOST_WAITS = 2000
"""Attempts after which a run no longer waits for another's claim, which may be kept alive without anything
being made: about a week, at one every five minutes. A claim saves cost and is no lock."""


@dataclass(frozen=True)
class Step:
    """What a running step has: its task, its place among the task's processes, storage and progress."""

    task: Task
    index: int
    store: Store
    reporter: Reporter

    @property
    def config(self) -> Any:
        """The step's own config model."""
        return self.task.config

    def input(self, role: str) -> Artifact:
        """The committed artifact that fills a role. Raises StepError when it is not there."""
        key = self.task.inputs[role]
        try:
            return Artifact.open(self.store, key)
        except NotFound:
            raise StepError(
                Exit.NO_INPUT,
                f"artifact {key} ({role}) of {self.task.node} is not committed in {self.task.storage}",
                "it was deleted after the step was planned: run again, and it is made anew",
            ) from None

    def writer(self, key: str = "", preimage: dict[str, Any] | None = None) -> ArtifactWriter:
        """Writer of this step's artifact."""
        return ArtifactWriter(
            self.store,
            key or self.task.key,
            self.task.kind,
            preimage or self.task.preimage,
            run=self.task.run,
            attempt=self.task.attempt,
            run_uid=self.task.run_uid,
        )

    def take(self, name: str) -> bool:
        """Whether this index is to do a shard or block: of an attempt's indexes, one is told so.

        This saves work and is no lock: two writers are safe because files are created only if absent. Marks
        belong to the attempt, so the next attempt may take everything.
        """
        path, me = f"{self.work}/taken/{name}", str(self.index).encode()
        # An index that was started again finds its own marks.
        return self.store.put_new(path, me) or self.store.get(path) == me

    def ring(self, items: Sequence[T]) -> list[T]:
        """All shards or blocks, in the order in which this index tries to take them: each index of an attempt
        begins at another place."""
        start = self.index * len(items) // self.task.indexes
        return [*items[start:], *items[:start]]

    def pinned(
        self,
        pins: dict[str, str],
        check: Callable[[list[Node]], None],
        make: Callable[[ArtifactWriter], None],
    ) -> Result:
        """Inventory: find the keys that the pins give the stage's nodes, `check` what those need that are not
        committed, make the own artifact unless it is there, and say which of all are."""
        keyed = self.task.keyed(pins)
        own = keyed[self.task.node]
        self._mark(keyed.values())
        present = [committed(self.store, each.key) for each in keyed.values()]
        check([each.node for each, there in zip(keyed.values(), present, strict=True) if not there])
        cached = committed(self.store, own.key)
        if not cached:
            make(self.writer(own.key, own.preimage))
            present[[*keyed].index(self.task.node)] = True
        found = {node.key for node, there in zip(keyed.values(), present, strict=True) if there}
        # What an earlier stage has in common with this one was counted there.
        found -= set(self.task.probe.known.values()) if self.task.probe else set()
        return Result(
            outcome=Outcome.CACHED if cached else Outcome.COMMITTED,
            key=own.key,
            pins=pins,
            committed=tuple(place for place, there in enumerate(present) if there),
            saved_flops=saved_flops(self.store, self.task, found),
        )

    def _mark(self, nodes: Iterable[Keyed]) -> None:
        """Write runs/<uid>/<stage>.json, which tells `gc` that a stage of the run needs the artifacts of its
        nodes and of earlier stages, no others.

        It is there before anybody looks for artifacts, so that none is deleted before it is used. Each stage
        has a file: what later stages need is kept even if the run fails before it reaches them this time.
        """
        task = self.task
        known = task.probe.known if task.probe else {}
        keys = {*known.values(), *(node.key for node in nodes)}
        path = f"runs/{task.run_uid}/{task.stage}.json"
        self.store.put(path, json.dumps({"keys": sorted(keys)}).encode())

    @property
    def work(self) -> str:
        """Folder of this attempt's unfinished work, in the store."""
        return f"{self.work_of_run}/{self.task.attempt}"

    @property
    def work_of_run(self) -> str:
        """Folder of the unfinished work of all attempts of this run at this key: the next one reads it."""
        return f"work/{self.task.key}/{self.task.run_uid}"


def main(run: Callable[[Step], Result]) -> NoReturn:
    """Run a step's process to its exit. SIGTERM raises KeyboardInterrupt in the step, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    without_input()
    reporter = Reporter.from_environment()
    logs.start()
    try:
        with reporter:
            result = _attempt(run, reporter)
        code = int(Exit.OK)
        reporter.saved()
    except BaseException as error:  # noqa: BLE001 - the last frame: everything ends in a result
        code, result = _failure(error)
    _write(result.model_copy(update={"spent": reporter.spent(), "figures": reporter.figures()}))
    log.log(logging.ERROR if code else logging.INFO, "%s: %s", result.outcome, result.message)
    logging.shutdown()
    sys.stdout.flush()
    # Not sys.exit: threads of engines must not hold back a process whose result is written.
    os._exit(code)


def without_input() -> None:
    """Close standard input, also for engines that this process starts or becomes: what asks there whether to
    trust somebody's code gets no answer."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _attempt(run: Callable[[Step], Result], reporter: Reporter) -> Result:
    path = os.environ.get("IXT_TASK")
    if not path:
        raise StepError(Exit.USAGE, "IXT_TASK is not set", "steps are started by `ixt run` or the operator")
    try:
        task = read_task(Path(path).read_bytes())
    except OSError as error:
        raise StepError(Exit.USAGE, f"task {path} cannot be read: {error}") from None
    logs.about(task)
    store = open_storage(task.storage)
    index = int(os.environ.get("IXT_INDEX", "0"))
    if task.key and committed(store, task.key):
        message = f"{task.node} is committed already"
        saved = saved_flops(store, task, [task.key]) if index == 0 else {}
        return Result(outcome=Outcome.CACHED, key=task.key, message=message, saved_flops=saved)
    with _claimed(store, task):
        return run(Step(task=task, index=index, store=store, reporter=reporter))


@contextmanager
def _claimed(store: Store, task: Task) -> Iterator[None]:
    """Hold the claim on the task's key, so that no other run pays for the same artifact at the same time.

    Raises StepError(BUSY) saying for whom to wait. Several processes of an attempt share the claim, so none
    releases it: heartbeats of the others keep it, else it expires.
    """
    if not task.key:
        yield
        return
    claim = Claim(store, task.key, run=task.run, run_uid=task.run_uid, attempt=task.attempt)
    holder = claim.acquire()
    if holder and task.attempt >= MOST_WAITS:
        log.warning("run %s has held %s for too long: it is made twice", holder.run, task.key)
    elif holder:
        raise StepError(
            Exit.BUSY,
            f"run {holder.run} on {holder.host} is making {task.node} ({task.key}), last heard of at "
            f"{holder.heartbeat:%H:%M:%S} UTC",
            f"this run takes the artifact when it is there, or makes it itself {TTL.seconds // 60} minutes "
            f"after the last sign of life, or after {MOST_WAITS - task.attempt} more tries",
        )
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(TTL.total_seconds() / 5):
            try:
                claim.heartbeat()
            except StoreError as error:
                log.warning("no heartbeat could be written: %s", error)

    threading.Thread(target=beat, name="claim", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        if task.indexes == 1:
            claim.release()


def saved_flops(store: Store, task: Task, keys: Iterable[str]) -> dict[str, int]:
    """FLOPs by purpose that other runs paid for artifacts that this one finds, each counted once."""
    total: Counter[str] = Counter()
    for key in set(keys):
        try:
            made = Artifact.open(store, key).manifest
        except StoreError as error:
            log.warning("what %s cost is not known: %s", key, error)
            continue
        if made.created_by.run_uid != task.run_uid:
            total.update(flops_by_purpose(made.kind, made.summary))
    return dict(sorted(total.items()))


def _failure(error: BaseException) -> tuple[int, Result]:
    code: int
    hint = ""
    match error:
        case StepError():
            code, message, hint = error.code, error.message, error.hint
        case StoreError():
            code, message = error.code, str(error)
        case MemoryError():
            code, message = Exit.OUT_OF_MEMORY, "out of memory"
        case KeyboardInterrupt() | SystemExit():
            code, message = Exit.INTERRUPTED, "stopped"
        case _:
            log.error("unforeseen error", exc_info=error)
            code, message = exit_of(str(error)) or Exit.CRASHED, f"{type(error).__name__}: {error}"
    fault = meaning_of(code).fault
    return code, Result(
        outcome=Outcome.FAILED,
        message=message[:1500],
        hint=hint[:500],
        fault=fault,
        log_tail=logs.tail(MAX_LOG_TAIL),
    )


def _write(result: Result) -> None:
    """Write the result in one piece, within the 4 kB that Kubernetes keeps of a termination message:
    gauges are left out first, then most of the log, then all figures."""
    lasting = {
        name: values
        for name, values in result.figures.items()
        if STEP_METRICS[name].type is not MetricType.GAUGE
    }
    log_tail = result.log_tail[-300:]
    short = {"message": result.message[:300], "hint": result.hint[:300], "log_tail": log_tail}
    smaller: tuple[dict[str, Any], ...] = (
        {},
        {"figures": lasting},
        {"figures": lasting, "log_tail": log_tail},
        {"figures": {}, **short},
    )
    for less in smaller:
        told = result.model_copy(update=less).model_dump(mode="json", exclude_defaults=True)
        text = json.dumps(told, ensure_ascii=False)
        if len(text.encode()) <= MAX_RESULT_BYTES:
            break
    path = os.environ.get("IXT_RESULT")
    if path:
        Path(path).write_text(text)
    else:
        print(text)
