"""Processes that outlived their supervisor or owner, found by what they cannot lose.

Each has a mark in its environment and a log of ours as its output. Engines that set their title (vLLM's)
overwrite their environment, as /proc shows it; they keep the log. Others lay their output aside; they keep
the mark.
"""

import os
import select
import signal
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

MARK = "IXT_SUPERVISED"
"""Variable in the environment of every process: `<workdir>|<child>|<index>|`."""
DYING_SECONDS = 5.0
"""A killed process that takes longer is stuck in a device; it ends when that answers."""


def kill_left(mark: str, logs: Collection[Path]) -> None:
    """SIGKILL the processes whose mark starts with `mark` or that write to one of the logs, which are real
    paths, and what they fork meanwhile; see them end."""
    while found := list(_handles(mark, frozenset(map(str, logs)))):
        for handle in found:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        ended = [select.select([handle], [], [], DYING_SECONDS)[0] for handle in found]
        for handle in found:
            os.close(handle)
        if not all(ended):
            return


def _handles(mark: str, logs: frozenset[str]) -> Iterator[int]:
    """A pidfd of each of these processes, opened before the look at it: no other can get its pid."""
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        with suppress(OSError):
            handle = os.pidfd_open(int(folder.name))
            if _marked(folder, wanted) or _writes_to(folder, logs):
                yield handle
            else:
                os.close(handle)


def _marked(folder: Path, wanted: bytes) -> bool:
    try:
        return any(entry.startswith(wanted) for entry in (folder / "environ").read_bytes().split(b"\0"))
    except OSError:
        return False


def _writes_to(folder: Path, logs: frozenset[str]) -> bool:
    for descriptor in ("1", "2"):
        with suppress(OSError):
            if str((folder / "fd" / descriptor).readlink()) in logs:
                return True
    return False
