"""What a failed attempt means: its cause, and whether and when to try again. Pure."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ixt_operator.api.run import FailurePolicy
from ixt_operator.api.status import Reason
from ixt_operator.planner.observed import ChildState, ProcessState
from ixt_workloads.contract.exits import Blame, Fault, Meaning, PlatformReason, in_words, meaning_of
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
    host: str
    blame: Blame
    """How far the failure is blamed on the host."""


class GiveUp(NamedTuple):
    """The step is not tried again."""

    cause: Cause
    reason: Reason


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
    # The others failed because it did. Of those that ended in the same second, the first is one of which the
    # platform says why.
    process = min(
        child.failed,
        key=lambda process: (
            meaning(process).precedence,
            process.over_at,
            not process.reason,
            process.index,
        ),
    )
    message, found = how_ended(process), meaning(process)
    # Of an attempt that found another run's claim, its pod is of no interest: the message says who holds it.
    named = bool(process.where) and found.fault is not Fault.BUSY
    return Cause(
        found.fault,
        f"{process.where}: {message}" if named else message,
        _hint(process, found),
        process.last_log,
        process.over_at,
        process.host,
        found.blame,
    )


def result_lost(child: ChildState) -> bool:
    """Whether an attempt did its work, but results of its processes cannot be read."""
    return bool(child.failed) and all(meaning(process).done for process in child.failed)


def _hint(process: ProcessState, found: Meaning) -> str:
    """What to do next: what the step said, unless its machine is sick, which the step may not know."""
    blame = found.blame if process.host else Blame.NEVER
    if blame is Blame.AT_ONCE:
        return f"the machine {process.host} is avoided for a day: {found.hint}"
    if process.result and process.result.hint:
        return process.result.hint
    return f"see what became of the machine {process.host}" if blame else found.hint


def meaning(process: ProcessState) -> Meaning:
    """What it means that a process ended as it did."""
    told = process.result.fault if process.result else None
    return meaning_of(process.exit_code, process.reason, told)


def how_ended(process: ProcessState) -> str:
    """How a process ended: in its own words, or in ours where it left none or did not know of its failure."""
    words = in_words(process.exit_code, process.reason, process.host)
    if process.result and process.result.message and process.result.outcome is Outcome.FAILED:
        own = process.result.message
        # That it was told to stop is all that a step knows of the loss of its machine.
        return f"{words} ({own})" if process.reason == PlatformReason.NODE_LOST else own
    return words


def causes_of(attempts: Iterable[ChildState]) -> dict[str, Cause]:
    """Why the attempts that failed did, by their names, oldest first."""
    return {child.name: cause_of(child) for child in attempts if child.failed}


def saves(child: ChildState) -> bool:
    """Whether an attempt has saved work that its successor need not do again."""
    told = (each for process in child.processes for each in (process.progress, process.result) if each)
    return any(each.spent.saved > 0 for each in told)


def decide(causes: list[Cause], recent: list[Cause], policy: FailurePolicy) -> GiveUp | TryAgain:
    """What to do after a step's attempts failed for these causes. Each class of fault has its own budget: so
    many attempts may fail with it before the step does. Of those that the infrastructure failed only the
    `recent` ones count, since the step last saved something: else a long one would die of its 17th
    preemption."""
    cause = causes[-1]
    counted = recent if cause.fault is Fault.INFRASTRUCTURE else causes
    failed = sum(each.fault is cause.fault for each in counted)
    busy = cause.fault is Fault.BUSY
    budgets = policy.model_dump(by_alias=True)
    if not busy and failed > budgets.get(budget_of(cause.fault), 0):
        user = cause.fault is Fault.USER
        return GiveUp(cause, Reason.USER_FAULT if user else Reason.RESTARTS_EXHAUSTED)
    delay = (BUSY_DELAY_SECONDS if busy else FIRST_DELAY_SECONDS) * 2.0 ** min(failed - 1, 16)
    return TryAgain(cause, cause.ended_at + min(delay, LONGEST_DELAY_SECONDS))


def spent(causes: Mapping[str, Cause]) -> list[str]:
    """Names of attempts to be deleted: all but the newest of those that found another run's claim."""
    busy = [name for name, cause in causes.items() if cause.fault is Fault.BUSY]
    return busy[:-BUSY_ATTEMPTS]


def budget_of(fault: Fault) -> str:
    """The field of failurePolicy that has the budget of a class of faults; a user's faults have none."""
    return f"{fault[0].lower()}{fault[1:]}"
