"""Processes of an earlier owner that outlived it, found by a mark in their environment."""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MARK = "IXT_SUPERVISED"
"""Variable in the environment of every process: `<workdir>|<child>|<index>|`."""
DYING_SECONDS = 5.0
"""A killed process that takes longer is stuck in a device; it ends when that answers."""


def kill_marked(mark: str) -> None:
    """SIGKILL the processes whose mark starts with `mark` and what they fork meanwhile; see them end."""
    while found := list(_handles(mark)):
        for handle in found:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        ended = [select.select([handle], [], [], DYING_SECONDS)[0] for handle in found]
        for handle in found:
            os.close(handle)
        if not all(ended):
            return


def _handles(mark: str) -> Iterator[int]:
    """A pidfd of each process with the mark, opened before the look at it: no other can get its pid."""
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        with suppress(OSError):
            handle = os.pidfd_open(int(folder.name))
            if _marked(folder, wanted):
                yield handle
            else:
                os.close(handle)


def _marked(folder: Path, wanted: bytes) -> bool:
    try:
        return any(entry.startswith(wanted) for entry in (folder / "environ").read_bytes().split(b"\0"))
    except OSError:
        return False
