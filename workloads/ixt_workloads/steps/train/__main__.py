"""Train's process in a pod: starts the ranks, shows their progress, and says why they failed.

torch's elastic launcher runs in this process, since `torchrun` turns every exit code into 1 and kills ranks
30 s after SIGTERM, too early for a large checkpoint.
"""

import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ixt_workloads.contract.configs import TrainConfig
from ixt_workloads.contract.exits import Exit, StepError, in_words
from ixt_workloads.contract.results import Outcome, Result
from ixt_workloads.frame import Step, main
from ixt_workloads.steps.train import exchange
from ixt_workloads.steps.train.ranks import processors

log = logging.getLogger("ixt.train")

RENDEZVOUS_SECONDS = 600
"""How long pods wait for each other."""

SHUTDOWN_SECONDS = 100
"""How long ranks may take to save after SIGTERM: within the pod's grace of 120 s."""


def run(step: Step) -> Result:
    """Run the ranks of this pod to their end."""
    config: TrainConfig = step.config
    with tempfile.TemporaryDirectory(prefix="ixt-train-") as name:
        folder = Path(name)
        done = threading.Event()
        watch = threading.Thread(target=_show, args=(step, folder, done), name="show", daemon=True)
        watch.start()
        try:
            _launch(step, config.train.num_proc_per_node, folder)
        finally:
            done.set()
            watch.join()
        result = exchange.read_result(folder)
    if result is None:
        return Result(
            outcome=Outcome.SHARED, key=step.task.key, message=f"ranks of pod {step.index} are done"
        )
    return result


def _launch(step: Step, processes: int, folder: Path) -> None:
    os.environ[exchange.FOLDER] = str(folder)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, processors() // processes)))
    config = LaunchConfig(
        min_nodes=step.task.indexes,
        max_nodes=step.task.indexes,
        nproc_per_node=processes,
        run_id=f"{step.task.key}-{step.task.attempt}",
        rdzv_backend="static",
        rdzv_endpoint=_leader(step),
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
        if exchange.read_result(folder) is None:
            raise exchange.read_cause(folder) or StepError(Exit.INTERRUPTED, "stopped") from None
    except ChildFailedError as error:
        raise exchange.read_cause(folder) or _unexplained(error, killed_before) from None
    except (TimeoutError, ConnectionError, RuntimeError) as error:
        raise StepError(
            Exit.UNAVAILABLE,
            f"the {step.task.indexes} pods of {step.task.node} did not meet: {error}",
            "see why the others did not start; a NetworkPolicy may forbid the rendezvous port",
        ) from None


def _leader(step: Step) -> str:
    """host:port of index 0, once its name resolves: a headless Service takes a while to know a pod."""
    leader = os.environ.get("IXT_LEADER")
    if not leader:
        if step.task.indexes > 1:
            raise StepError(Exit.USAGE, "IXT_LEADER is not set", "it names host:port of index 0")
        with socket.create_server(("127.0.0.1", 0)) as free:
            return f"127.0.0.1:{free.getsockname()[1]}"
    host = leader.rpartition(":")[0].strip("[]")
    deadline = time.monotonic() + RENDEZVOUS_SECONDS
    while True:
        try:
            socket.getaddrinfo(host, None)
        except socket.gaierror as error:
            if time.monotonic() > deadline:
                raise StepError(
                    Exit.UNAVAILABLE,
                    f"{host} (index 0 of {step.task.node}) does not resolve: {error}",
                    "see whether its pod runs and cluster DNS works",
                ) from None
            time.sleep(1)
        else:
            return leader


def _show(step: Step, folder: Path, done: threading.Event) -> None:
    """Pass the ranks' progress on, until they are done."""
    shown = None
    while True:
        last = done.wait(0.5)
        progress = exchange.read_progress(folder)
        if progress is not None and progress != shown:
            step.reporter.update(
                progress.done, progress.total, progress.unit, progress.message, progress.metrics
            )
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
