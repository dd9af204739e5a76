"""How processes end: one table, complete, and one order by which ranks and planner find the cause."""

import re
import signal
from pathlib import Path

import pytest

from ixt_operator import adapters
from ixt_operator.planner.observed import ChildState, ProcessPhase, ProcessState
from ixt_operator.planner.retry import cause_of
from ixt_workloads.contract.exits import (
    ENDINGS,
    Exit,
    Fault,
    PlatformReason,
    StepError,
    in_words,
    meaning_of,
)
from ixt_workloads.steps.train import exchange

TABLE = "workloads/ixt_workloads/contract/exits.py"


# --- The table ---


@pytest.mark.parametrize("ending", [*Exit, *PlatformReason])
def test_each_exit_code_and_reason_has_a_row(ending: Exit | PlatformReason) -> None:
    assert ending in ENDINGS or ending is Exit.OK, (
        f"{ending!r} means nothing: add a row for it to ENDINGS in {TABLE} (class of fault, what a person "
        "reads where the step itself says nothing, whether it only followed, whether it blames the machine)"
    )


def test_each_reason_that_an_adapter_gives_has_a_row() -> None:
    """Those that stand there as plain strings: others are members of PlatformReason."""
    files = [file for folder in adapters.__path__ for file in Path(folder).rglob("*.py")]
    given = {
        text for file in files for text in re.findall(r'reason"?\s*[:=]\s*"([A-Z]\w*)"', file.read_text())
    }
    assert "NodeLost" in given, "reasons are given in another way than this test looks for: mend it"
    missing = given - set(PlatformReason)
    assert not missing, (
        f"{missing} mean nothing: add them to PlatformReason and, with a row, to ENDINGS in {TABLE}"
    )


@pytest.mark.parametrize(
    ("code", "fault"),
    [(70, Fault.USER), (75, Fault.INFRASTRUCTURE), (79, Fault.APPLICATION), (None, Fault.APPLICATION)],
)
def test_codes_of_sysexits_are_a_persons_to_mend_but_for_the_table(code: int | None, fault: Fault) -> None:
    assert meaning_of(code).fault is fault


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "ended with exit code 1"),
        (None, "ended with exit code 1"),
        (255, "ended with exit code 255"),
        (-signal.SIGSEGV, "killed by SIGSEGV"),
        (139, "killed by SIGSEGV"),
        (134, "killed by SIGABRT"),
        (137, "killed by SIGKILL (perhaps the machine ran out of memory)"),
        (-9, "killed by SIGKILL (perhaps the machine ran out of memory)"),
        (-50, "killed by signal 50"),
        (84, "ended with exit code 84: it gave up waiting"),
    ],
)
def test_an_end_without_a_word_is_told_in_ours(code: int | None, words: str) -> None:
    assert in_words(code) == words


# --- The cause ---

Ending = Exit | PlatformReason | int

CAUSES: list[tuple[Ending, Ending, Ending]] = [
    # What ended first, what ended after it, and which of them is the cause.
    (Exit.CRASHED, Exit.CONFIG, Exit.CONFIG),
    (Exit.OUT_OF_MEMORY, Exit.STORAGE_FULL, Exit.STORAGE_FULL),
    (Exit.SICK_MACHINE, Exit.DATA, Exit.DATA),
    (Exit.CRASHED, Exit.SICK_MACHINE, Exit.SICK_MACHINE),
    (Exit.DIVERGED, Exit.SICK_MACHINE, Exit.SICK_MACHINE),
    (Exit.UNAVAILABLE, Exit.SICK_MACHINE, Exit.SICK_MACHINE),
    (Exit.OUT_OF_MEMORY, Exit.DIVERGED, Exit.DIVERGED),
    (Exit.CRASHED, Exit.OUT_OF_MEMORY, Exit.OUT_OF_MEMORY),
    (Exit.CRASHED, Exit.HUNG, Exit.CRASHED),
    (Exit.HUNG, Exit.CRASHED, Exit.HUNG),
    (Exit.UNAVAILABLE, Exit.CRASHED, Exit.CRASHED),
    (Exit.INTERRUPTED, Exit.HUNG, Exit.HUNG),
    (Exit.UNAVAILABLE, Exit.INTERRUPTED, Exit.UNAVAILABLE),
    (Exit.INTERRUPTED, Exit.UNAVAILABLE, Exit.INTERRUPTED),
    (Exit.UNAVAILABLE, PlatformReason.NODE_LOST, PlatformReason.NODE_LOST),
    (Exit.UNAVAILABLE, PlatformReason.PREEMPTED, PlatformReason.PREEMPTED),
    (PlatformReason.STOPPED, Exit.CRASHED, Exit.CRASHED),
    (PlatformReason.OOM_KILLED, Exit.UNAVAILABLE, PlatformReason.OOM_KILLED),
    (PlatformReason.EVICTED, Exit.CRASHED, PlatformReason.EVICTED),
    (143, Exit.CRASHED, Exit.CRASHED),
    (Exit.UNAVAILABLE, 137, Exit.UNAVAILABLE),
    (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGKILL),
]


@pytest.mark.parametrize(("first", "second", "cause"), CAUSES)
def test_the_planner_finds_the_cause(first: Ending, second: Ending, cause: Ending) -> None:
    processes = tuple(
        ProcessState(
            index=1 - at,
            phase=ProcessPhase.FAILED,
            where=repr(ending),
            ended_at=100.0 + at,
            exit_code=ending if isinstance(ending, int) else None,
            reason="" if isinstance(ending, int) else ending,
        )
        for at, ending in enumerate((first, second))
    )
    child = ChildState(name="c", node="s/train/a", key="k", attempt=0, created_at=0.0, processes=processes)
    assert cause_of(child).message.startswith(f"{cause!r}: ")


@pytest.mark.parametrize(
    ("first", "second", "cause"), [row for row in CAUSES if all(isinstance(end, Exit) for end in row)]
)
def test_ranks_find_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: Exit, second: Exit, cause: Exit
) -> None:
    for at, code in enumerate((first, second)):
        monkeypatch.setattr(exchange.time, "time", lambda at=at: 100.0 + at)
        exchange.write_error(tmp_path, 1 - at, StepError(code, repr(code)))
    found = exchange.read_cause(tmp_path)
    assert found is not None
    assert (found.code, found.message) == (cause, repr(cause))
