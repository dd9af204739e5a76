"""`ixt logs`: the logs of a run's steps on this machine."""

import time
from collections import deque
from pathlib import Path

from ixt_operator.adapters.kubernetes.log import shown
from ixt_operator.adapters.local.logs import Log, Tail, logs_in, running
from ixt_operator.adapters.local.workdir import current_status
from ixt_operator.api.status import Phase, RunStatus
from ixt_operator.cli.stop import FAILED, stop

FOLLOW_SECONDS = 0.5


def print_logs(
    workdir: Path, status: RunStatus, step: str | None, *, tail: int, follow: bool, raw: bool
) -> None:
    """Print the logs of a step, or of all that run; `raw` as they were written, with no step in front."""
    chosen = _chosen(workdir, status, step)
    if not chosen and not (follow and _goes_on(status)):
        there = "\n  ".join(dict.fromkeys(log.node.node for log in logs_in(workdir))) or "(none)"
        stop(f"no log of {step or 'a running step'} in {workdir}; there are logs of:\n  {there}", FAILED)
    tails = {log.path: Tail(log.path) for log in chosen}
    for log in chosen:
        lines = tails[log.path].lines(last=not follow)
        for line in lines if tail < 0 else deque(lines, maxlen=tail):
            _print(log, line, raw)
    while follow and _goes_on(status):
        time.sleep(FOLLOW_SECONDS)
        # What it wrote before it ended is printed, so the status is read first.
        status = current_status(workdir) or status
        chosen = [*{log.path: log for log in [*chosen, *_chosen(workdir, status, step)]}.values()]
        for log in chosen:
            for line in tails.setdefault(log.path, Tail(log.path)).lines(last=not _goes_on(status)):
                _print(log, line, raw)


def _goes_on(status: RunStatus) -> bool:
    return status.phase in (Phase.PENDING, Phase.RUNNING)


def _chosen(workdir: Path, status: RunStatus, step: str | None) -> list[Log]:
    found = logs_in(workdir)
    if step is None:
        return running(found, status)
    return [log for log in found if log.node.called(step, log.node.stage)]


def _print(log: Log, line: str, raw: bool) -> None:
    print(line if raw else shown(f"[{log.name}] {line}"), flush=True)
