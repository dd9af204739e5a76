"""A run on this machine: the same planner over processes, from the first stage to the end."""

import asyncio
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from ixt_operator.adapters.local.platform import LocalPlatform
from ixt_operator.adapters.local.process import check_credentials
from ixt_operator.adapters.local.workdir import (
    LocalError,
    identified,
    record_keys,
    status_in,
    write_run,
    write_status,
)
from ixt_operator.adapters.port import carry_out
from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.api.status import Phase, RunStatus, StageStatus, StepStatus
from ixt_operator.planner.building import credentials
from ixt_operator.planner.events import Event, News, events
from ixt_operator.planner.now import begun_anew
from ixt_operator.planner.observed import Observed
from ixt_operator.planner.plan import plan

LONGEST_WAIT_SECONDS = 1.0
"""Progress is read at least this often, for the display."""


class Look(NamedTuple):
    """What a watcher is shown after each look at the run."""

    status: RunStatus
    observed: Observed
    events: tuple[Event, ...] = ()
    due: float | None = None
    """Seconds until the planner wants to look again; None when it only waits for what runs."""
    stopping: bool = False
    """A signal came: what runs is told to stop, and this is the last look."""

    @classmethod
    def of_statuses(cls, before: RunStatus, status: RunStatus) -> Self:
        """What is known to who only reads the statuses of a run that another process carries out."""
        return cls(status, Observed(), events(before, status, News()))


async def run_to_end(
    run: IXTRun, runtime: IXTRuntime, workdir: Path, watch: Callable[[Look], None]
) -> Look | None:
    """Carry a run to Complete or Failed and answer the last look at it; None when a signal stopped it, to be
    gone on with by the next call. A second signal ends at once what the first told to stop.

    Raises LocalError for what a person must mend, such as another process that runs this workdir.
    """
    if run.spec.suspend:
        raise LocalError(f"{run.metadata.name} is suspended: set spec.suspend to false to run it")
    check_credentials(credentials(run, run.spec))
    signals = _Signals()
    with signals.heard():
        async with LocalPlatform.open(workdir) as platform:
            signals.platform = platform
            run = identified(run, workdir)
            run = run if run.metadata.uid else run.with_metadata(uid=str(uuid.uuid4()))
            previous = await _afresh(platform, run, runtime, workdir)
            observed = Observed()
            while not signals.count:
                # The plan is made from what there is.
                observed = await platform.observe()
                moves = plan(run, runtime, observed, previous, time.time())

                # What was seen is told, then what is planned is done.
                told = events(previous, moves.status, moves.news)
                found = Look(moves.status, observed, told, moves.requeue_after)
                if moves.tells:
                    watch(found)
                    if moves.status != previous:
                        write_status(workdir, moves.status)
                        record_keys(workdir, moves.keyed)
                    previous = moves.status
                await carry_out(platform, moves)
                if moves.finished:
                    return found

                # The next look comes when something changes or is due.
                due = LONGEST_WAIT_SECONDS if moves.requeue_after is None else moves.requeue_after
                await platform.wait_changed(min(due, LONGEST_WAIT_SECONDS))
            watch(Look(previous, observed, stopping=True))
    return None


class _Signals:
    """Signals that ask the run to stop. One that is ignored, as under nohup, stays so."""

    count = 0
    platform: LocalPlatform | None = None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """While inside, signals are counted instead of ending the program."""
        loop = asyncio.get_running_loop()
        before = {
            number: handler
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            if (handler := signal.getsignal(number)) is not signal.SIG_IGN
        }
        for number in before:
            loop.add_signal_handler(number, self._came)
        try:
            yield
        finally:
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)

    def _came(self) -> None:
        self.count += 1
        if self.platform and self.count == 1:
            self.platform.wake()
        elif self.platform:
            self.platform.hurry()


async def _afresh(platform: LocalPlatform, run: IXTRun, runtime: IXTRuntime, workdir: Path) -> RunStatus:
    """Forget what a new start should not inherit: Inventory's old answers, failed attempts and what was live
    when an earlier `ixt run` died. Numbers of attempts stay in the status, finished work in the storage."""
    observed, now = await platform.observe(), time.time()
    # Also of what was created and not told of any more: no attempt's number may be forgotten and given again.
    status = plan(run, runtime, observed, status_in(workdir), now).status
    stages = tuple(
        StageStatus(name=stage.name, steps=tuple(map(_waiting, stage.steps))) for stage in status.stages
    )
    status = begun_anew(status, now).model_copy(update={"phase": Phase.PENDING, "stages": stages})
    write_status(workdir, status)
    for name, child in observed.children.items():
        if child.kind == "Inventory" or child.failed or child.live:
            await platform.delete(name)
    # After the status: it never shows pins that were found at other places than those of run.json.
    write_run(workdir, run)
    return status


def _waiting(step: StepStatus) -> StepStatus:
    return StepStatus(name=step.name, kind=step.kind, arm=step.arm, key=step.key, attempt=step.attempt)
