"""What a failed attempt means: its cause, and whether and when to try again. Pure."""

import signal
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from ixt_operator.api.run import FailurePolicy
from ixt_operator.plan.observed import ChildState, ProcessState
from ixt_workloads.contract.exits import Fault, fault_of

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 300.0
BUSY_DELAY_SECONDS = 15.0
"""A claim's holder is asked again after this long at first."""
BUSY_ATTEMPTS = 8
"""Attempts that found another run's claim and are kept; waiting may take days."""


class Cause(NamedTuple):
    """Why an attempt failed."""

    fault: Fault
    message: str
    """What failed where, in a line."""
    hint: str
    last_log: str
    ended_at: float


class GiveUp(NamedTuple):
    """The step is not tried again."""

    cause: Cause


class TryAgain(NamedTuple):
    """The step is tried again at a time in Unix seconds."""

    cause: Cause
    at: float


def cause_of(child: ChildState) -> Cause:
    """The cause of a failed attempt. Processes of one attempt fail together: the cause is the one with a
    user's fault, else one that ran out of memory, else the earliest."""
    order = {Fault.USER: 0, Fault.DIVERGED: 1, Fault.OUT_OF_MEMORY: 2}
    process = min(
        child.failed,
        key=lambda process: (order.get(fault(process), 3), process.ended_at or 0.0, process.index),
    )
    result = process.result
    message = result.message if result and result.message else _ending(process)
    hint = (result.hint if result else "") or _HINTS.get(fault(process), "").format(host=process.host)
    return Cause(
        fault(process),
        f"{process.where}: {message}" if process.where else message,
        hint,
        process.last_log,
        process.ended_at or 0.0,
    )


_HINTS = {
    Fault.OUT_OF_MEMORY: "give its role more memory, or train with smaller microBatchSequences",
    Fault.INFRASTRUCTURE: "see what became of the machine {host}",
}
"""What to do where the step itself says nothing."""


def fault(process: ProcessState) -> Fault:
    """Class of the fault that ended a process. The platform's reason counts before the exit code."""
    match process.reason:
        case "OOMKilled":
            return Fault.OUT_OF_MEMORY
        case "Lost" | "Evicted" | "Preempted" | "NodeLost" | "Stopped" | "ResultLost":
            return Fault.INFRASTRUCTURE
    if process.result and process.result.fault:
        return process.result.fault
    return fault_of(process.exit_code if process.exit_code is not None else 1)


def _ending(process: ProcessState) -> str:
    code = process.exit_code if process.exit_code is not None else 1
    match process.reason:
        case "Lost":
            return "its process is lost: it was killed from outside, or the machine went down"
        case "Stopped":
            return "its pod was deleted before it ended"
        case "ResultLost":
            return "it succeeded, but its pod was deleted before its result was read or needed"
        case "NodeLost":
            return f"its node {process.host} was lost"
        case "NoResult":
            return f"ended with exit code {code}, but left no result that can be read"
        case "":
            return f"killed by {_signal(-code)}" if code < 0 else f"ended with exit code {code}"
    return process.reason


def _signal(number: int) -> str:
    """Name of a signal, with what it usually means."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return f"{name} (perhaps the machine ran out of memory)" if name == "SIGKILL" else name


def counts(attempts: Iterable[ChildState]) -> Counter[Fault]:
    """Failed attempts by class of fault."""
    return Counter(cause_of(child).fault for child in attempts if child.failed)


def decide(attempts: list[ChildState], policy: FailurePolicy) -> GiveUp | TryAgain:
    """What to do after the newest of a step's attempts failed. Each class of fault has its own budget."""
    cause = cause_of(attempts[-1])
    failures = counts(attempts)[cause.fault]
    busy = cause.fault is Fault.BUSY
    if not busy and failures > budget(cause.fault, policy):
        return GiveUp(cause)
    delay = (BUSY_DELAY_SECONDS if busy else FIRST_DELAY_SECONDS) * 2.0 ** min(failures - 1, 16)
    return TryAgain(cause, cause.ended_at + min(delay, LONGEST_DELAY_SECONDS))


def bad_hosts(children: Iterable[ChildState]) -> tuple[str, ...]:
    """Machines on which two processes of a run met a fault of the infrastructure: they are avoided."""
    faults = Counter(
        process.host
        for child in children
        for process in child.failed
        if process.host and fault(process) is Fault.INFRASTRUCTURE
    )
    return tuple(sorted(host for host, number in faults.items() if number >= 2))


def spent(attempts: Iterable[ChildState]) -> Iterable[str]:
    """Names of old attempts that count for nothing any more."""
    busy = [child for child in attempts if child.failed and cause_of(child).fault is Fault.BUSY]
    return [child.name for child in busy[:-BUSY_ATTEMPTS] if child.ended]


def budget(fault_class: Fault, policy: FailurePolicy) -> int:
    """Attempts of a class that may fail before the run does."""
    return {
        Fault.INFRASTRUCTURE: policy.infrastructure,
        Fault.APPLICATION: policy.application,
        Fault.OUT_OF_MEMORY: policy.out_of_memory,
        Fault.DIVERGED: policy.diverged,
        Fault.HUNG: policy.hung,
    }.get(fault_class, 0)
