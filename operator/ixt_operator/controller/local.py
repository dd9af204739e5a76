"""A run on this machine: the same planner over processes, from the first stage to the end."""

import asyncio
import json
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from ixt_operator.adapters.local.platform import LocalPlatform
from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.api.status import RunStatus
from ixt_operator.controller import history
from ixt_operator.controller.reconcile import reconcile
from ixt_operator.plan.observed import Observed
from ixt_operator.plan.plan import Plan
from ixt_operator.plan.status import Event, events
from ixt_operator.plan.survey import running

LONGEST_WAIT_SECONDS = 1.0
"""Progress is read at least this often, for the display."""


class Look(NamedTuple):
    """What a watcher is shown after each look at the run."""

    status: RunStatus
    observed: Observed
    events: tuple[Event, ...]


def workdir_of(run: IXTRun) -> Path:
    """Where a run keeps its state unless told otherwise: .ixt/<name> in the current folder."""
    return Path(".ixt") / run.metadata.name


def status_file(workdir: Path) -> Path:
    """The run's status as `ixt status` reads it."""
    return workdir / "status.json"


def history_file(workdir: Path) -> Path:
    """The keys that nodes have had, for `ixt why` and `ixt diff`."""
    return workdir / "keys.jsonl"


def read_status(workdir: Path) -> RunStatus | None:
    """The last status, or None before the first."""
    try:
        return RunStatus.model_validate_json(status_file(workdir).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


async def run_to_end(
    run: IXTRun, runtime: IXTRuntime, workdir: Path, watch: Callable[[Look], None]
) -> RunStatus | None:
    """Carry a run to Complete or Failed; None when a signal stopped it, to be gone on with by the next call.

    Raises what LocalPlatform.open raises when another process runs this workdir.
    """
    run = _named(run, workdir)
    stopped = False
    async with LocalPlatform.open(workdir) as platform:

        def stop() -> None:
            nonlocal stopped
            stopped = True
            platform.wake()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        previous = await _afresh(platform, read_status(workdir))
        while not stopped:
            moves, observed = await reconcile(platform, run, runtime, previous, time.time())
            watch(Look(moves.status, observed, events(previous, moves.status)))
            _save(workdir, previous, moves)
            previous = moves.status
            if moves.finished:
                return previous
            if not moves.delete:  # what is gone now makes room for what comes next
                due = LONGEST_WAIT_SECONDS if moves.requeue_after is None else moves.requeue_after
                await platform.wait_changed(min(due, LONGEST_WAIT_SECONDS))
    return None


async def _afresh(platform: LocalPlatform, status: RunStatus | None) -> RunStatus | None:
    """Forget what a new start should not inherit: Inventory's old answers, failed attempts and what was live
    when an earlier `ixt run` died. Numbers of attempts stay in the status, finished work in the storage."""
    observed = await platform.observe()
    for name, child in observed.children.items():
        if child.node.endswith("/inventory") or child.failed or running(child):
            await platform.delete(name)
    return (
        status.model_copy(update={"conditions": (), "start_time": None, "completion_time": None})
        if status
        else None
    )


def _named(run: IXTRun, workdir: Path) -> IXTRun:
    """The run with the uid that this workdir gave it, so that a later call finds its own unfinished work."""
    workdir.mkdir(parents=True, exist_ok=True)
    file = workdir / "run.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    uid = known.get(run.metadata.name)
    if uid is None:
        uid = str(uuid.uuid4())
        _write(file, json.dumps({**known, run.metadata.name: uid}))
    return run.model_copy(update={"metadata": run.metadata.model_copy(update={"uid": uid})})


def _save(workdir: Path, previous: RunStatus | None, moves: Plan) -> None:
    if moves.status != previous:
        _write(status_file(workdir), moves.status.model_dump_json(exclude_none=True, indent=1))
        history.record(history_file(workdir), moves.keyed)


def _write(path: Path, text: str) -> None:
    """Replace a file in one step, so that a crash leaves the old or the new one."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)
