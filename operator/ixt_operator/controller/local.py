"""A run on this machine: the same planner over processes, from the first stage to the end."""

import asyncio
import json
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    events: tuple[Event, ...] = ()
    stopping: bool = False
    """A signal came: what runs is told to stop, and this is the last look."""


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
) -> Look | None:
    """Carry a run to Complete or Failed and answer the last look at it; None when a signal stopped it, to be
    gone on with by the next call. A second signal ends at once what the first told to stop.

    Raises LocalError for what a person must mend, such as another process that runs this workdir.
    """
    signals = _Signals()
    with signals.heard():
        async with LocalPlatform.open(workdir) as platform:
            signals.platform = platform
            run = _named(run, workdir)
            previous = await _afresh(platform, read_status(workdir))
            while not signals.count:
                moves, observed = await reconcile(platform, run, runtime, previous, time.time())
                look = Look(moves.status, observed, events(previous, moves.status))
                watch(look)
                _save(workdir, previous, moves)
                previous = moves.status
                if moves.finished:
                    return look
                if not moves.delete:  # what is gone now makes room for what comes next
                    due = LONGEST_WAIT_SECONDS if moves.requeue_after is None else moves.requeue_after
                    await platform.wait_changed(min(due, LONGEST_WAIT_SECONDS))
            if previous:
                watch(Look(previous, await platform.observe(), stopping=True))
    return None


class _Signals:
    """Signals that ask the run to stop. One that is ignored, as under nohup, stays so."""

    count = 0
    platform: LocalPlatform | None = None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """While inside, signals are counted instead of ending the program."""
        loop = asyncio.get_running_loop()
        numbers = [
            number
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            if signal.getsignal(number) is not signal.SIG_IGN
        ]
        for number in numbers:
            loop.add_signal_handler(number, self._came)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _came(self) -> None:
        self.count += 1
        if self.platform and self.count == 1:
            self.platform.wake()
        elif self.platform:
            self.platform.hurry()


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
