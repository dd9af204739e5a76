"""What a failed attempt means: its cause, and whether and when to try again. Pure."""

import signal
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from ixt_operator.api.run import FailurePolicy
from ixt_operator.planner.observed import ChildState, ProcessState
from ixt_workloads.contract.exits import STOPPED, Exit, Fault, fault_of

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 300.0
BUSY_DELAY_SECONDS = 15.0
"""A claim's holder is asked again after this long at first."""
BUSY_ATTEMPTS = 8
"""Attempts that found another run's claim and are kept; waiting may take days."""

RESULT_LOST = ("NoResult", "ResultLost")
"""Reasons of a process that did its work, and whose result cannot be read."""


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

    def told(self, node: str) -> str:
        """What the node waits for, for people. One that found another run's claim did not fail."""
        verb = "waits" if self.cause.fault is Fault.BUSY else "is tried again"
        return f"{node} {verb}: {self.cause.message}"


def cause_of(child: ChildState) -> Cause:
    """The cause of a failed attempt. Processes of one attempt fail together: the cause is the one with a
    user's fault, else one that ran out of memory, else the earliest."""
    process = _culprit(child)
    result = process.result
    message = how_ended(process)
    found = fault(process)
    # One that found another run's claim did not fail: not its pod is of interest, but who holds the claim.
    named = bool(process.where) and found is not Fault.BUSY
    return Cause(
        found,
        f"{process.where}: {message}" if named else message,
        (result.hint if result else "") or _hint(process),
        process.last_log,
        process.ended_at or 0.0,
    )


def result_lost(child: ChildState) -> bool:
    """Whether an attempt failed only in that results of its processes cannot be read."""
    return bool(child.failed) and all(process.reason in RESULT_LOST for process in child.failed)


def _culprit(child: ChildState) -> ProcessState:
    order = {Fault.USER: 0, Fault.DIVERGED: 1, Fault.OUT_OF_MEMORY: 2}
    # Of those that ended in the same second, the one of which the platform says why did not just follow.
    return min(
        child.failed,
        key=lambda process: (
            order.get(fault(process), 3),
            process.ended_at or 0.0,
            not process.reason,
            process.index,
        ),
    )


def _hint(process: ProcessState) -> str:
    """What to do where the step itself says nothing."""
    if fault(process) is Fault.OUT_OF_MEMORY:
        return "give its role more memory, or train with smaller microBatchSequences"
    return f"see what became of the machine {process.host}" if _blames_host(process) else ""


def _blames_host(process: ProcessState) -> bool:
    """Whether it failed by a fault of the infrastructure that may be its machine's: not where the process
    was told to make room or to stop, could not reach storage or a peer, or only its result went missing."""
    elsewhere = process.reason in ("Preempted", "Evicted", "Stopped", *RESULT_LOST)
    stopped = not process.reason and process.exit_code in (*STOPPED, Exit.UNAVAILABLE)
    return bool(process.host) and fault(process) is Fault.INFRASTRUCTURE and not elsewhere and not stopped


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


def how_ended(process: ProcessState) -> str:
    """How a process ended: in its own words, or in ours where it left none."""
    if process.result and process.result.message:
        return process.result.message
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


def failures(attempts: Iterable[ChildState]) -> list[Cause]:
    """Causes of failed attempts, oldest first; one that found another run's claim did not fail."""
    causes = (cause_of(child) for child in attempts if child.failed)
    return [cause for cause in causes if cause.fault is not Fault.BUSY]


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
    """Machines that two attempts of a run failed by: they are avoided. What else of an attempt went down with
    the process that failed first says nothing of its machine."""
    culprits = (_culprit(child) for child in children if child.failed)
    faults = Counter(process.host for process in culprits if _blames_host(process))
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
