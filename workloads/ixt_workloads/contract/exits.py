"""Exit codes of a step and the classes of faults, which decide what is tried again.

64 to 78 are the codes of BSD's sysexits.h: a person must change something, so nothing is retried.
Codes from 80 are ours. A process that a signal killed has no code of its own (128 + signal in a pod).
"""

from enum import IntEnum, StrEnum


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


class Fault(StrEnum):
    """Why an attempt failed; each class has a budget of its own."""

    INFRASTRUCTURE = "Infrastructure"
    APPLICATION = "Application"
    USER = "User"
    OUT_OF_MEMORY = "OutOfMemory"
    DIVERGED = "Diverged"
    HUNG = "Hung"
    BUSY = "Busy"


STOPPED = (Exit.INTERRUPTED, 143, 130, -15, -2)
"""Codes of a process that was told to stop. A negative code or one over 128 is a signal."""

_FAULTS: dict[int, Fault] = {
    Exit.BUSY: Fault.BUSY,
    Exit.DIVERGED: Fault.DIVERGED,
    Exit.HUNG: Fault.HUNG,
    Exit.UNAVAILABLE: Fault.INFRASTRUCTURE,
    Exit.OUT_OF_MEMORY: Fault.OUT_OF_MEMORY,
    Exit.STORAGE_FULL: Fault.USER,
}


def fault_of(code: int) -> Fault:
    """Class of a non-zero exit code."""
    if 64 <= code <= 78:
        return Fault.USER
    if code in STOPPED:
        return Fault.INFRASTRUCTURE
    return _FAULTS.get(code, Fault.APPLICATION)


class StepError(Exception):
    """A failure that a person reads: `message` says what and where, `hint` what to do next."""

    def __init__(self, code: Exit, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
