"""How many replicas a server has, and when it is given up. Pure."""

import math

from ixt_operator.api.judge import JudgeEngine
from ixt_operator.planner.observed import ChildState, ProcessPhase
from ixt_operator.planner.retry import how_ended
from ixt_workloads.contract.exits import Fault, PlatformReason, in_words, meaning_of


def replicas(
    engine: JudgeEngine,
    deadline_seconds: int | None,
    worker: ChildState | None,
    server: ChildState | None,
    now: float,
) -> int:
    """Replicas of a server that the backlog needs at the measured rate to keep the deadline, between min and
    max.

    Without a deadline: all that are allowed. Until a rate is known: what is there. Never fewer than now while
    work is outstanding, since a replica that is started again reads its weights again.
    """
    if deadline_seconds is None:
        return engine.max_replicas
    present = max(len(server.processes), engine.min_replicas) if server else engine.min_replicas
    progress = worker.progress if worker else None
    ready = sum(process.phase is ProcessPhase.READY for process in server.processes) if server else 0
    if not worker or not progress or not progress.per_second or not ready:
        return min(present, engine.max_replicas)
    backlog = max(0.0, (progress.total or 0.0) - progress.done)
    left = max(worker.created_at + deadline_seconds - now, 1.0)
    needed = math.ceil(backlog / (progress.per_second / ready) / left)
    return max(engine.min_replicas, min(max(needed, present), engine.max_replicas))


def server_trouble(server: ChildState, restarts: int) -> str | None:
    """Why a server will never be ready, with what to do; None while it may become ready."""
    for process in server.processes:
        if process.phase is ProcessPhase.READY:
            continue
        result = process.result
        ended = process.exit_code is not None or result is not None
        said = how_ended(process) if ended else ""
        hint = result.hint if result else ""
        fault = meaning_of(process.exit_code, told=result.fault if result else None).fault
        log = f"; log: {process.log}" if process.log else ""
        log += f"\n{process.last_log[-500:]}" if process.last_log else ""
        # A process that runs again is not given up for its last end: the cause may be mended by now.
        if ended and process.phase is ProcessPhase.FAILED and fault is Fault.USER:
            return f"{said}: {hint}" if hint else f"{said}{log}"
        if process.reason == PlatformReason.NEVER_READY:
            return f"{in_words(None, process.reason)}{log}"
        if process.restarts > restarts:
            times = "once" if process.restarts == 1 else f"{process.restarts} times"
            why = f": {said}" if said else ""
            return f"ended {times}, which is more than failurePolicy.application={restarts} allows{why}{log}"
    return None
