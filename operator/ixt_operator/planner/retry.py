"""What a failed attempt means: its cause, and whether and when to try again. Pure."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from ixt_operator.api.run import FailurePolicy
from ixt_operator.planner.observed import ChildState, ProcessState
from ixt_workloads.contract.exits import Blame, Fault, Meaning, in_words, meaning_of, precedence
from ixt_workloads.contract.results import Outcome

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 300.0
BUSY_DELAY_SECONDS = 15.0
"""The first delay after another run's claim was found; it doubles each time."""
BUSY_ATTEMPTS = 8
"""So many attempts that found another run's claim are kept; waiting may take days."""


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
        """What the node waits for, in words. A node that found another run's claim did not fail."""
        verb = "waits" if self.cause.fault is Fault.BUSY else "is tried again"
        return f"{node} {verb}: {self.cause.message}"


def cause_of(child: ChildState) -> Cause:
    """Why an attempt failed: how that of its processes ended that failed first."""
    process = _culprit(child)
    message, found = how_ended(process), meaning(process)
    # Of an attempt that found another run's claim, its pod is of no interest: the message says who holds it.
    named = bool(process.where) and found.fault is not Fault.BUSY
    return Cause(
        found.fault,
        f"{process.where}: {message}" if named else message,
        _hint(process, found),
        process.last_log,
        process.ended_at or 0.0,
    )


def result_lost(child: ChildState) -> bool:
    """Whether an attempt did its work, but results of its processes cannot be read."""
    return bool(child.failed) and all(meaning(process).done for process in child.failed)


def _culprit(child: ChildState) -> ProcessState:
    """The process of a failed attempt that failed first; the others failed because it did."""
    # Of those that ended in the same second, the first is one of which the platform says why.
    return min(
        child.failed,
        key=lambda process: (
            *precedence(meaning(process), process.ended_at or 0.0),
            not process.reason,
            process.index,
        ),
    )


def _hint(process: ProcessState, found: Meaning) -> str:
    """What to do next: what the step said, unless its machine is sick, which the step may not know."""
    blame = found.blame if process.host else Blame.NEVER
    if blame is Blame.AT_ONCE:
        return f"the machine {process.host} is avoided from now on: {found.hint}"
    if process.result and process.result.hint:
        return process.result.hint
    return f"see what became of the machine {process.host}" if blame else found.hint


def meaning(process: ProcessState) -> Meaning:
    """What it means that a process ended as it did."""
    return meaning_of(process.exit_code, process.reason, process.result.fault if process.result else None)


def how_ended(process: ProcessState) -> str:
    """How a process ended: in its own words, or in ours where it left none or did not know of its failure."""
    if process.result and process.result.message and process.result.outcome is Outcome.FAILED:
        return process.result.message
    return in_words(process.exit_code, process.reason, process.host)


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
    failed = counts(attempts)[cause.fault]
    busy = cause.fault is Fault.BUSY
    if not busy and failed > budget(cause.fault, policy):
        return GiveUp(cause)
    delay = (BUSY_DELAY_SECONDS if busy else FIRST_DELAY_SECONDS) * 2.0 ** min(failed - 1, 16)
    return TryAgain(cause, cause.ended_at + min(delay, LONGEST_DELAY_SECONDS))


def bad_hosts(children: Iterable[ChildState]) -> tuple[str, ...]:
    """Machines that are avoided: sick ones, and those that two attempts of a run failed because of. Of an
    attempt only the process that failed first counts, since the others failed because it did."""
    blamed = Counter[str]()
    for process in (_culprit(child) for child in children if child.failed):
        blamed[process.host] += meaning(process).blame
    return tuple(sorted(host for host, blame in blamed.items() if host and blame >= Blame.AT_ONCE))


def spent(attempts: Iterable[ChildState]) -> Iterable[str]:
    """Names of attempts to be deleted: all but the newest of those that found another run's claim."""
    busy = [child for child in attempts if child.failed and cause_of(child).fault is Fault.BUSY]
    return [child.name for child in busy[:-BUSY_ATTEMPTS] if child.ended]


def budget(fault: Fault, policy: FailurePolicy) -> int:
    """How many attempts of a step may fail with a fault before the run does."""
    return {
        Fault.INFRASTRUCTURE: policy.infrastructure,
        Fault.APPLICATION: policy.application,
        Fault.OUT_OF_MEMORY: policy.out_of_memory,
        Fault.DIVERGED: policy.diverged,
        Fault.HUNG: policy.hung,
        Fault.USER: 0,
    }[fault]
