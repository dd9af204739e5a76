"""How processes end: one table, complete, and one order by which ranks and planner find the cause."""

import re
import signal
from pathlib import Path

import pytest

from ixt_operator import adapters
from ixt_operator.planner.observed import ChildState, ProcessPhase, ProcessState
from ixt_operator.planner.retry import cause_of
from ixt_workloads import frame
from ixt_workloads.contract.exits import (
    ENDINGS,
    Exit,
    Fault,
    PlatformReason,
    StepError,
    exit_of,
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
        "reads where the step itself says nothing, its precedence as a cause, whether it blames the machine)"
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
    child = ChildState(
        name="c",
        kind="Train",
        stage="s",
        arm="a",
        seed=0,
        key="k",
        attempt=0,
        created_at=0.0,
        processes=processes,
    )
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


# --- Words of engines ---

CUDA = """\
CUDA error: {}
Search for `cudaErrorX' in https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.
"""
NCCL = """\
NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:77, {}, NCCL version 2.28.9
{}
Last error:
"""
IN_CUDA = NCCL.format(
    "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
    "ncclUnhandledCudaError: Call to CUDA function failed.",
)
IN_SYSTEM = NCCL.format(
    "unhandled system error (run with NCCL_DEBUG=INFO for details)",
    "ncclSystemError: System call (e.g. socket, malloc) or external library call failed or device error. ",
)
ELSEWHERE = NCCL.format(
    "remote process exited or there was a network error",
    "ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely.",
)


@pytest.mark.parametrize(
    "said",
    [
        CUDA.format("uncorrectable ECC error encountered"),
        CUDA.format("uncorrectable NVLink error detected during the execution"),
        CUDA.format("Invalid access of peer GPU memory over nvlink or a hardware error"),
        CUDA.format("CUDA-capable device(s) is/are busy or unavailable"),
        CUDA.format("system not yet initialized"),
        "HIP error: uncorrectable ECC error encountered",
        "NVRM: Xid (PCI:0000:41:00): 79, pid=1, GPU has fallen off the bus.",
        f"{IN_CUDA}Cuda failure 214 'uncorrectable ECC error encountered'",
        f"{IN_SYSTEM}Call to ibv_open_device failed",
        "NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)",
    ],
)
def test_words_of_engines_that_tell_of_a_sick_machine(said: str) -> None:
    assert exit_of(said) is Exit.SICK_MACHINE
    code, result = frame._failure(RuntimeError(said))
    assert (code, result.fault, result.hint) == (Exit.SICK_MACHINE, Fault.INFRASTRUCTURE, "")


@pytest.mark.parametrize(
    "said",
    [
        f"{ELSEWHERE}socketProgress: Connection closed by remote peer node-2<45074>",
        f"{IN_SYSTEM}socketStartConnect: Connect to 10.0.0.2<52822> failed : Connection refused",
        f"{IN_SYSTEM}ncclOsSocketPollConnect: connect to 10.0.0.2<5> failed : Connection refused",
        f"{IN_SYSTEM}Error while creating shared memory segment /dev/shm/nccl-F9ffgB (size 9637888)",
    ],
)
def test_words_of_engines_that_tell_of_another_rank_or_of_the_pod(said: str) -> None:
    assert exit_of(said) is Exit.UNAVAILABLE


@pytest.mark.parametrize(
    "said",
    [
        CUDA.format("device-side assert triggered"),
        CUDA.format("an illegal memory access was encountered"),
        CUDA.format("unspecified launch failure"),
        CUDA.format("out of memory"),
        f"{IN_CUDA}Cuda failure 1 'invalid argument'",
        "Cannot connect to host judge:8000",
        "",
    ],
)
def test_words_of_engines_that_tell_neither(said: str) -> None:
    assert exit_of(said) is None
