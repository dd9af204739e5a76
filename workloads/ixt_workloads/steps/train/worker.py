"""The process of one rank: from its environment, through training, to an exit code."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from ixt_workloads.contract.exits import Exit, StepError, exit_of
from ixt_workloads.contract.results import Progress
from ixt_workloads.contract.versions import read_task
from ixt_workloads.frame import Step
from ixt_workloads.progress import Reporter
from ixt_workloads.steps.train import exchange
from ixt_workloads.steps.train.ranks import Watchdog, World, world
from ixt_workloads.steps.train.train import train
from ixt_workloads.store import StoreError, open_store

log = logging.getLogger("ixt.train")


def main() -> None:
    """One rank, from its environment to its exit code."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    folder = Path(os.environ[exchange.FOLDER])
    rank = int(os.environ["RANK"])
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def hung() -> None:
        hint = "see the logs of all ranks; storage or a node may have failed"
        exchange.write_error(folder, rank, StepError(Exit.HUNG, f"rank {rank} has made no step", hint))

    watchdog = Watchdog(hung, folder)
    try:
        task = read_task(Path(os.environ["IXT_TASK"]).read_bytes())
        step = Step(task=task, index=0, store=open_store(task.storage), reporter=Reporter())
        with world() as place:
            result = train(step, place, stop, _reporting(folder, place), watchdog.beat)
        if result is not None:
            exchange.write_result(folder, result)
        code = Exit.OK
    except Exception as error:  # noqa: BLE001 - the launcher is told whatever it was
        cause = _cause(error, rank)
        exchange.write_error(folder, rank, cause)
        code = cause.code
    logging.shutdown()
    # Not sys.exit: threads that wait for a lost rank must not hold this one back.
    os._exit(code)


def _reporting(folder: Path, place: World) -> Callable[[Progress], None]:
    """Rank 0 shows its progress, twice a second at most, and the last step's."""
    shown_at = 0.0

    def report(progress: Progress) -> None:
        nonlocal shown_at
        now = time.monotonic()
        if place.main and (now - shown_at > 0.5 or progress.done == progress.total):
            exchange.write_progress(folder, progress)
            shown_at = now

    return report


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
