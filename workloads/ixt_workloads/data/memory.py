"""A bound on the memory that reading foreign data takes, whatever the data says of its own size."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ixt_workloads.contract.exits import Exit, StepError

MOST_BYTES = 3 * 2**30
"""Beside what the process had before: the largest documents with all of their copies take less than 1 GiB."""


@contextmanager
def bounded(most: int = MOST_BYTES) -> Iterator[None]:
    """While inside, this process gets at most so many bytes more, of Linux; then MemoryError is raised, also
    by pyarrow, zlib and json. Threads of the process share the bound.

    The kernel counts private writable memory against RLIMIT_DATA, which no file can talk its way around.
    """
    before = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = _data_bytes() + most
    lower = [limit for limit in (wanted, *before) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(lower), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """The same around what reads a file of an artifact, which who may write to the storage may have put
    there. Raises StepError for one that takes more."""
    try:
        with bounded(MOST_BYTES):
            yield
    except MemoryError:
        raise StepError(
            Exit.DATA,
            f"{file} takes more than {MOST_BYTES >> 20:,} MiB of memory to read",
            "no step writes such a file: it is damaged, or somebody else put it there; delete its artifact, "
            "then run again",
        ) from None


def _data_bytes() -> int:
    """What RLIMIT_DATA counts of this process now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
