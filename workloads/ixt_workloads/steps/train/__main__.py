"""Train's process in a pod: starts the ranks, shows their progress, and says why they failed.

torch's elastic launcher runs in this process, since `torchrun` turns every exit code into 1 and kills ranks
30 s after SIGTERM, too early for a large checkpoint.
"""

import logging
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ixt_workloads.contract.configs import TrainConfig
from ixt_workloads.contract.exits import Exit, StepError, in_words
from ixt_workloads.contract.results import Outcome, Progress, Result
from ixt_workloads.data.pinned import check_model, check_tasks
from ixt_workloads.frame import Step, main
from ixt_workloads.gpus import counted
from ixt_workloads.steps.train import exchange
from ixt_workloads.steps.train.meeting import RENDEZVOUS_SECONDS, leader
from ixt_workloads.steps.train.ranks import processors
from ixt_workloads.trackers import Tracking, tracking

log = logging.getLogger("ixt.train")

SHOW_SECONDS = 1.0
SHUTDOWN_SECONDS = 100
"""How long ranks may take to save after SIGTERM: within the pod's grace of 120 s."""


def run(step: Step) -> Result:
    """Run the ranks of this pod to their end."""
    config: TrainConfig = step.config
    if config.model and "parent" not in step.task.inputs:
        check_model(config.model, step.task.pins, "model", "tokenizer")
    check_tasks(config.evaluate.tasks, step.task.pins)
    with tempfile.TemporaryDirectory(prefix="ixt-train-") as name:
        folder = Path(name)
        done = threading.Event()
        with tracking(step, config.trackers) as trackers:
            watch = threading.Thread(
                target=_show, args=(step, folder, done, trackers), name="show", daemon=True
            )
            watch.start()
            try:
                _launch(step, counted(config.train.num_proc_per_node), folder)
            finally:
                done.set()
                watch.join()
            result = exchange.read(folder, Result)
            if result is not None:
                trackers.finish(result.flops)
    if result is None:
        return Result(
            outcome=Outcome.SHARED, key=step.task.key, message=f"ranks of pod {step.index} are done"
        )
    return result.model_copy(update={"message": trackers.said(result.message)})


def _launch(step: Step, processes: int, folder: Path) -> None:
    os.environ[exchange.FOLDER] = str(folder)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, processors() // processes)))
    config = LaunchConfig(
        min_nodes=step.task.indexes,
        max_nodes=step.task.indexes,
        nproc_per_node=processes,
        run_id=f"{step.task.key}-{step.task.attempt}",
        rdzv_backend="static",
        rdzv_endpoint=leader(step),
        rdzv_configs={"rank": step.index, "timeout": RENDEZVOUS_SECONDS},
        local_addr=os.environ.get("IXT_HOST"),
        max_restarts=0,
        monitor_interval=0.2,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / "logs")),
        shutdown_timeout=SHUTDOWN_SECONDS,
    )
    killed_before = _kills()
    try:
        elastic_launch(config, sys.executable)("-m", "ixt_workloads.steps.train.worker")
    except SignalException:
        if exchange.read(folder, Result) is None:
            raise exchange.read_cause(folder) or StepError(Exit.INTERRUPTED, "stopped") from None
    except ChildFailedError as error:
        raise exchange.read_cause(folder) or _unexplained(error, killed_before) from None
    except (TimeoutError, ConnectionError, RuntimeError) as error:
        raise StepError(
            Exit.UNAVAILABLE,
            f"the {step.task.indexes} pods of {step.task.node} did not meet: {error}",
            "see why the others did not start; a NetworkPolicy may forbid the rendezvous port",
        ) from None


def _show(step: Step, folder: Path, done: threading.Event, trackers: Tracking) -> None:
    """Pass the ranks' progress on, until they are done."""
    shown = None
    while True:
        last = done.wait(SHOW_SECONDS)
        progress = exchange.read(folder, Progress)
        if progress is not None and progress != shown:
            message = trackers.said(progress.message)
            step.reporter.relay(progress.model_copy(update={"message": message}))
            trackers.show(progress)
            shown = progress
        if last:
            return


def _unexplained(error: ChildFailedError, killed_before: int) -> StepError:
    """The error of a rank that left none of its own."""
    rank, failure = error.get_first_failure()
    if failure.exitcode == -signal.SIGKILL and _kills() > killed_before:
        return StepError(
            Exit.OUT_OF_MEMORY,
            f"the kernel killed rank {rank}: the container's memory is used up",
            "give resourcesPerNode more memory, or set microBatchSequences lower",
        )
    code = Exit(failure.exitcode) if failure.exitcode in list(Exit) else Exit.CRASHED
    return StepError(code, f"rank {rank}: {in_words(failure.exitcode)}", "see the last lines of its log")


def _kills() -> int:
    """How often the kernel has killed in this container because its memory was used up."""
    try:
        lines = Path("/sys/fs/cgroup/memory.events").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


if __name__ == "__main__":
    main(run)
