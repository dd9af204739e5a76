"""Processes that a run started, as the machine sees them."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from ixt_operator.adapters.local.leftovers import MARK

PATIENCE_SECONDS = 60


def marked(workdir: Path) -> list[int]:
    """Live processes that bear the mark of a workdir: supervisors, steps and all that these forked."""
    wanted = f"{MARK}={workdir}|".encode()
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and wanted in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return sorted(found)


def supervisors(workdir: Path) -> list[int]:
    """Those of them that supervise another."""
    return [pid for pid in marked(workdir) if b"supervisor.py" in _command(pid)]


def workers(workdir: Path) -> list[int]:
    """Those of them that are supervised, or descend from one that is."""
    return [pid for pid in marked(workdir) if b"supervisor.py" not in _command(pid)]


def parent(pid: int) -> int:
    """A process' parent; 0 when it is gone."""
    return int((_stat(pid) or ["", "0"])[1])


def child_of(pid: int) -> str:
    """Name of the child that a marked process belongs to; empty when it is gone."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return next((entry.split("|")[1] for entry in entries if entry.startswith(f"{MARK}=")), "")


def lives(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    return (_stat(pid) or ["Z"])[0] != "Z"


def until(holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS, every: float = 0.01) -> None:
    """Wait until something holds, asking `every` so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited {seconds} s"
        time.sleep(every)


def kill(pid: int) -> None:
    """SIGKILL, if it is still there."""
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return


def _stat(pid: int) -> list[str]:
    """State, parent and more (proc_pid_stat(5)); nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
