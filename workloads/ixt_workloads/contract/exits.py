"""The ways in which a process can end, and what each means: what is tried again, where, what a person reads.

64 to 78 are the codes of BSD's sysexits.h: a person must change something, so nothing is retried, unless the
table says otherwise. Codes from 80 are ours. A process that a signal killed has no code of its own.
"""

import signal
from enum import IntEnum, StrEnum
from typing import NamedTuple


class Exit(IntEnum):
    """Exit code of a step's process."""

    OK = 0
    CRASHED = 1
    """Any exception that nobody foresaw."""
    USAGE = 64
    """The task itself is wrong."""
    DATA = 65
    """Malformed or unusable input data, or a gate that the feedback did not pass."""
    NO_INPUT = 66
    """A dataset, model or file that is not there."""
    NOT_WRITABLE = 73
    """The storage cannot be written."""
    SICK_MACHINE = 75
    """A GPU, a link or a network card of its machine is broken; EX_TEMPFAIL of a command around a step."""
    NO_PERMISSION = 77
    CONFIG = 78
    """Settings that do not fit each other or what was found."""
    BUSY = 80
    """Another run holds the claim on this artifact."""
    DIVERGED = 81
    """The loss is not finite."""
    HUNG = 82
    """No progress for longer than the watchdog allows."""
    INTERRUPTED = 83
    """Stopped by SIGTERM, with everything saved that can be."""
    UNAVAILABLE = 84
    """Storage, judge or another rank cannot be reached."""
    OUT_OF_MEMORY = 85
    STORAGE_FULL = 86
    VERSION_SKEW = 87
    """Operator and image are of versions that do not go together. Who runs them must act, not the user."""


class PlatformReason(StrEnum):
    """Why a process ended, as its platform knows it; others of Kubernetes are shown as they are."""

    OOM_KILLED = "OOMKilled"
    EVICTED = "Evicted"
    PREEMPTED = "Preempted"
    NODE_LOST = "NodeLost"
    LOST = "Lost"
    STOPPED = "Stopped"
    RESULT_LOST = "ResultLost"
    NO_RESULT = "NoResult"
    NEVER_READY = "NeverReady"


class Fault(StrEnum):
    """Why an attempt failed; each class has a budget of its own."""

    INFRASTRUCTURE = "Infrastructure"
    APPLICATION = "Application"
    USER = "User"
    OUT_OF_MEMORY = "OutOfMemory"
    DIVERGED = "Diverged"
    HUNG = "Hung"
    BUSY = "Busy"


class Blame(IntEnum):
    """How far a failure is blamed on the machine, which is avoided once its blames add up to AT_ONCE."""

    NEVER = 0
    AT_THE_SECOND_TIME = 1
    AT_ONCE = 2


class Precedence(IntEnum):
    """Which of an attempt's failed processes is the cause: the smallest, and among equals the earliest."""

    USER = 0
    SICK_MACHINE = 1
    DIVERGED = 2
    OUT_OF_MEMORY = 3
    ANY = 4
    FOLLOWED = 5
    """It was stopped, or lost what it needed: another process is the cause, if one failed otherwise."""


class Meaning(NamedTuple):
    """What one way of ending means."""

    fault: Fault
    precedence: Precedence = Precedence.ANY
    message: str = ""
    """How it ended, for people, where the step itself left no word; {code} and {host} are filled in."""
    hint: str = ""
    """What to do next, likewise."""
    blame: Blame = Blame.NEVER
    done: bool = False
    """Its work is done, and only its result cannot be read."""


_USER = Meaning(Fault.USER, Precedence.USER)
_STOPPED = Meaning(Fault.INFRASTRUCTURE, Precedence.FOLLOWED)
_DIVERGED = Meaning(Fault.DIVERGED, Precedence.DIVERGED)
_OUT_OF_MEMORY = Meaning(
    Fault.OUT_OF_MEMORY,
    Precedence.OUT_OF_MEMORY,
    hint="give its role more memory, or train with smaller microBatchSequences",
)
_TOLD = {row.fault: row for row in (_USER, _DIVERGED, _OUT_OF_MEMORY)}
"""Of faults that a step tells, those that may be the cause of others."""
_WAITED = "ended with exit code {code}: it gave up waiting"

ENDINGS: dict[int | str, Meaning] = {
    Exit.CRASHED: Meaning(Fault.APPLICATION),
    Exit.USAGE: _USER,
    Exit.DATA: _USER,
    Exit.NO_INPUT: _USER,
    Exit.NOT_WRITABLE: _USER,
    Exit.SICK_MACHINE: Meaning(
        Fault.INFRASTRUCTURE,
        Precedence.SICK_MACHINE,
        "ended with exit code {code}: its machine is sick",
        "check its GPUs, links and network cards (nvidia-smi -q, Xid in the kernel's log)",
        blame=Blame.AT_ONCE,
    ),
    Exit.NO_PERMISSION: _USER,
    Exit.CONFIG: _USER,
    Exit.BUSY: Meaning(Fault.BUSY),
    Exit.DIVERGED: _DIVERGED,
    Exit.HUNG: Meaning(Fault.HUNG, message=_WAITED),
    Exit.INTERRUPTED: _STOPPED,
    Exit.UNAVAILABLE: Meaning(Fault.INFRASTRUCTURE, Precedence.FOLLOWED, _WAITED),
    Exit.OUT_OF_MEMORY: _OUT_OF_MEMORY,
    Exit.STORAGE_FULL: _USER,
    Exit.VERSION_SKEW: Meaning(Fault.APPLICATION),
    -signal.SIGINT: _STOPPED,
    -signal.SIGTERM: _STOPPED,
    # Mostly what was told to stop and did not in time.
    -signal.SIGKILL: Meaning(
        Fault.APPLICATION,
        Precedence.FOLLOWED,
        "killed by SIGKILL (perhaps the machine ran out of memory)",
    ),
    PlatformReason.OOM_KILLED: _OUT_OF_MEMORY,
    PlatformReason.EVICTED: Meaning(Fault.INFRASTRUCTURE),
    PlatformReason.PREEMPTED: Meaning(Fault.INFRASTRUCTURE),
    PlatformReason.NODE_LOST: Meaning(
        Fault.INFRASTRUCTURE,
        message="its node {host} was lost",
        blame=Blame.AT_THE_SECOND_TIME,
    ),
    PlatformReason.LOST: Meaning(
        Fault.INFRASTRUCTURE,
        message="its process is lost: it was killed from outside, or the machine went down",
        blame=Blame.AT_THE_SECOND_TIME,
    ),
    PlatformReason.STOPPED: _STOPPED._replace(message="its pod was deleted before it ended"),
    PlatformReason.RESULT_LOST: Meaning(
        Fault.INFRASTRUCTURE,
        message="it succeeded, but its pod was deleted before its result was read or needed",
        done=True,
    ),
    PlatformReason.NO_RESULT: Meaning(
        Fault.APPLICATION,
        message="ended with exit code {code}, but left no result that can be read",
        done=True,
    ),
    PlatformReason.NEVER_READY: Meaning(Fault.APPLICATION, message="was not ready in time"),
}
"""What each exit code, signal (negative) and reason of a platform means. Other codes from 64 to 78 mean what
USAGE does, all others what CRASHED does."""


def meaning_of(code: int | None, reason: str = "", told: Fault | None = None) -> Meaning:
    """What an ending means. The platform's reason counts first, then the fault that the step `told`, then the
    exit code. A code that blames the machine counts before `told`: a command around the step may give it."""
    if reason in ENDINGS:
        return ENDINGS[reason]
    code = _plain(code)
    found = ENDINGS.get(code) or ENDINGS[Exit.USAGE if 64 <= code <= 78 else Exit.CRASHED]
    return _TOLD.get(told, Meaning(told)) if told and told is not found.fault and not found.blame else found


def in_words(code: int | None, reason: str = "", host: str = "") -> str:
    """How a process ended, for people, where only its exit code and the platform's reason are known."""
    code = _plain(code)
    found = ENDINGS.get(reason or code)
    if found and found.message:
        return found.message.format(code=code, host=host)
    killed = f"killed by {_SIGNALS.get(code, f'signal {-code}')}"
    return reason or (killed if code < 0 else f"ended with exit code {code}")


_SIGNALS = {-number: number.name for number in signal.Signals}


def _plain(code: int | None) -> int:
    """An exit code, negative for a signal, which pods and shells report as its number plus 128. None becomes
    CRASHED."""
    if code is None:
        return Exit.CRASHED
    return 128 - code if 128 - code in _SIGNALS else code


_SAID = (
    (
        Exit.SICK_MACHINE,
        # CUDA (cudaGetErrorString), which torch quotes after "CUDA error:" and NCCL after "Cuda failure". Not
        # what may be the program's: illegal accesses, device-side asserts, unspecified launch failures.
        "uncorrectable ecc error",  # cudaErrorECCUncorrectable
        "uncorrectable nvlink error",  # cudaErrorNvlinkUncorrectable
        "over nvlink or a hardware error",  # cudaErrorContained
        "device(s) is/are busy or unavailable",  # cudaErrorDevicesUnavailable
        "system not yet initialized",  # cudaErrorSystemNotReady: no fabric manager
        # NVIDIA's driver in the kernel's log, and NVML, for those who quote them.
        "nvrm: xid",
        "fallen off the bus",  # Xid 79
        "gpu is lost",
    ),
    (
        Exit.UNAVAILABLE,
        # NCCL (ncclGetErrorString, torch's c10d/NCCLUtils.cpp): another rank died.
        "ncclremoteerror",
        "remote process exited or there was a network error",
        # System errors to NCCL, but of a rank that takes no connection (socket.cc) or a small /dev/shm.
        "socketstartconnect",
        "socketpollconnect",
        "dev/shm/nccl-",
    ),
    # NCCL's system calls and network cards (ibvwrap.cc) of this machine.
    (Exit.SICK_MACHINE, "ncclsystemerror", "unhandled system error", "ibv_"),
)
"""Exit codes for words of engines, in lower case. The first that is found counts."""


def exit_of(text: str) -> Exit | None:
    """Exit code for an engine's error that tells of its machine or of another rank; None for any other."""
    said = text.lower()
    return next((code for code, *words in _SAID if any(word in said for word in words)), None)


class StepError(Exception):
    """A failure that a person reads: `message` says what and where, `hint` what to do next."""

    def __init__(self, code: Exit, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
