"""The cgroups of a sandbox: one in every hierarchy that this machine has mounted, of v1, v2 or both."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
V2_ALONE = (ROOT / "cgroup.controllers").exists()


def own(name: str) -> Iterator[Path]:
    """A cgroup below this process's own in every hierarchy that is mounted.

    With cgroup v2 alone it is one beside: below a cgroup that has processes there are no controllers.
    """
    if V2_ALONE:
        yield ROOT / name
        return
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for _, target, kind, options, *_ in mounts:
            if not Path(target).is_relative_to(ROOT):
                continue
            given = set(options.replace("name=", "").split(","))
            wanted = set(controllers.replace("name=", "").split(","))
            if (kind == "cgroup2") if not controllers else (kind == "cgroup" and wanted <= given):
                yield Path(target) / path.lstrip("/") / name
                break


def make(cgroup: Path) -> None:
    """Make one that processes can join."""
    cgroup.mkdir()
    for file in ("cpuset.cpus", "cpuset.mems"):  # of v1: empty ones let no process in
        if (cgroup.parent / file).exists() and not (cgroup / file).read_text().strip():
            (cgroup / file).write_text((cgroup.parent / file).read_text())


def share_controllers(cgroup: Path) -> None:
    """With v2 alone: move its processes into a leaf of it, so that the kubelet's cgroups get controllers."""
    if not V2_ALONE:
        return
    (cgroup / "programs").mkdir()
    while pids := (cgroup / "cgroup.procs").read_text().split():
        for pid in pids:
            with suppress(ProcessLookupError):
                (cgroup / "programs" / "cgroup.procs").write_text(pid)
    given = (cgroup / "cgroup.controllers").read_text().split()
    (cgroup / "cgroup.subtree_control").write_text(" ".join(f"+{controller}" for controller in given))


def remove(cgroup: Path, seconds: float) -> bool:
    """Remove one with all below it; False when its last processes are not gone after so long."""
    deadline = time.monotonic() + seconds
    while cgroup.exists():
        with suppress(OSError):
            for folder, _, _ in os.walk(cgroup, topdown=False):
                Path(folder).rmdir()
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
