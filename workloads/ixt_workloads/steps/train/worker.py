"""The process of one rank: from its environment, through training, to an exit code."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
import torch.distributed as dist

from ixt_workloads import logs
from ixt_workloads.contract.exits import Exit, StepError, exit_of
from ixt_workloads.contract.versions import read_task
from ixt_workloads.frame import Step, without_input
from ixt_workloads.progress import Reporter
from ixt_workloads.steps.train import exchange
from ixt_workloads.steps.train.meter import TELL_SECONDS
from ixt_workloads.steps.train.ranks import Watchdog, world
from ixt_workloads.steps.train.train import train
from ixt_workloads.store import StoreError, open_storage

log = logging.getLogger("ixt.train")


def main() -> None:
    """One rank, from its environment to its exit code."""
    without_input()
    logs.start()
    folder = Path(os.environ[exchange.FOLDER])
    rank = int(os.environ["RANK"])
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def hung() -> None:
        hint = "see the logs of all ranks; storage or a node may have failed"
        exchange.write_error(folder, rank, StepError(Exit.HUNG, f"rank {rank} has made no step", hint))

    watchdog = Watchdog(hung, folder)
    reporter = Reporter()
    first = os.environ["LOCAL_RANK"] == "0"
    report = _passing_on(folder, reporter) if first else lambda: None
    try:
        task = read_task(Path(os.environ["IXT_TASK"]).read_bytes())
        logs.about(task)
        step = Step(task=task, index=0, store=open_storage(task.storage), reporter=reporter)
        with world() as place:
            result = train(step, place, stop, report, watchdog.beat)
        if result is not None:
            exchange.write(folder, result)
        code = Exit.OK
    except Exception as error:  # noqa: BLE001 - the launcher is told whatever it was
        cause = _cause(error, rank)
        exchange.write_error(folder, rank, cause)
        code = cause.code
    if first:
        # The last word: what was saved at the end counts as saved.
        with suppress(OSError):
            exchange.write(folder, reporter.progress())
    logging.shutdown()
    # Not sys.exit: threads that wait for a lost rank must not hold this one back.
    os._exit(code)


def _passing_on(folder: Path, reporter: Reporter) -> Callable[[], None]:
    """Pass progress on to the launcher, once in TELL_SECONDS at most. The first rank of each machine does."""
    passed_at = 0.0

    def pass_on() -> None:
        nonlocal passed_at
        now = time.monotonic()
        if now - passed_at > TELL_SECONDS:
            exchange.write(folder, reporter.progress())
            passed_at = now

    return pass_on


def _cause(error: Exception, rank: int) -> StepError:
    """The error, for people, that a rank failed by."""
    said = str(error)
    text = said.splitlines()[0] if said else type(error).__name__
    match error:
        case StepError():
            return error
        case StoreError():
            return StepError(error.code, str(error))
        case torch.OutOfMemoryError() | MemoryError():
            return _out_of_memory(rank, text)
        case RuntimeError() if "can't allocate memory" in text or "not enough memory" in text:
            return _out_of_memory(rank, text)
        case _ if exit_of(said) is Exit.SICK_MACHINE:
            return StepError(
                Exit.SICK_MACHINE, f"the machine of rank {rank} is sick: {' '.join(said.split())}"
            )
        case dist.DistError():
            return StepError(Exit.UNAVAILABLE, f"rank {rank} lost another rank: {text}")
        case RuntimeError() if "gloo" in text.lower() or "NCCL" in text or "Connection" in text:
            return StepError(Exit.UNAVAILABLE, f"rank {rank} lost another rank: {text}")
    log.error("unforeseen error", exc_info=error)
    return StepError(Exit.CRASHED, f"rank {rank}: {type(error).__name__}: {text}", "see the log of the ranks")


def _out_of_memory(rank: int, text: str) -> StepError:
    hint = "set train.microBatchSequences lower, or train.parallelism: FullyShard"
    return StepError(Exit.OUT_OF_MEMORY, f"rank {rank} is out of memory: {text}", hint)


if __name__ == "__main__":
    main()
