"""Processes that outlived their supervisor or `ixt run`, found by their mark or their log.

Each has a mark in its environment and one of our logs as its output. Engines that set their title (vLLM's)
overwrite the environment that /proc shows, and keep the log. Others send their output elsewhere, and keep the
mark.
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
"""Seconds that are waited for a killed process; one that takes longer is stuck in a device, until that
answers."""


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
    """A pidfd of each of these processes. It is opened before the process is examined, so that no other
    process with the same pid is taken for it."""
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
