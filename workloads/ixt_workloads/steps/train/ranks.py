"""What a rank has around its training: its place in the world, its processors, and a watchdog."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from ixt_workloads.contract.exits import Exit

HUNG_AFTER_SECONDS = 1800.0
"""An optimizer step that takes longer hangs, because a rank or a file system does not answer."""


@dataclass(frozen=True)
class World:
    """A rank's place among the ranks, and its device."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this is rank 0, which reports and writes for all."""
        return self.rank == 0


@contextmanager
def world() -> Iterator[World]:
    """Join the job that the environment describes, or be a job of one rank. NCCL on GPUs, gloo elsewhere."""
    number = {name: int(os.environ.get(name, default)) for name, default in _ALONE.items()}
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", number["LOCAL_RANK"]) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    timeout = timedelta(seconds=HUNG_AFTER_SECONDS)
    if "RANK" in os.environ:
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=timeout)
    else:
        dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1, timeout=timeout)
    yield World(
        number["RANK"], number["WORLD_SIZE"], number["LOCAL_RANK"], number["LOCAL_WORLD_SIZE"], device
    )
    # Not after a failure: NCCL may hang or abort here before the rank has said why it failed.
    dist.destroy_process_group()


_ALONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}


def processors() -> int:
    """Processors that this process may use: a container's quota, or the machine's."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, int(quota) // int(period)))


def memory_of_rank(place: World) -> int:
    """Bytes of memory for one rank: its GPU's, or its share of the container's or machine's."""
    if place.device.type == "cuda":
        return int(torch.cuda.get_device_properties(place.device).total_memory)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total // place.local_size


class Watchdog:
    """Ends a rank that hangs, or whose launcher or neighbour is gone, from a thread of its own.

    A rank in a collective cannot even handle a signal, so the thread exits the process.
    """

    def __init__(self, on_hang: Callable[[], None], failures: Path) -> None:
        self._on_hang = on_hang
        self._failures = failures
        self._parent = os.getppid()
        self._last = time.monotonic()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def beat(self) -> None:
        """Say that there is progress."""
        self._last = time.monotonic()

    def _watch(self) -> None:
        failed_at: float | None = None
        while True:
            time.sleep(1)
            now = time.monotonic()
            if os.getppid() != self._parent:
                _leave(Exit.UNAVAILABLE, "the launcher is gone")
            if failed_at is None and any(self._failures.glob("error-*.json")):
                failed_at = now
            if failed_at is not None and now - failed_at > 10:
                _leave(Exit.UNAVAILABLE, "another rank failed")
            if now - self._last > HUNG_AFTER_SECONDS:
                self._on_hang()
                _leave(Exit.HUNG, f"no step for {HUNG_AFTER_SECONDS:.0f} s")


def _leave(code: Exit, why: str) -> None:
    print(f"rank {os.environ.get('RANK', '0')} leaves: {why}", file=sys.stderr, flush=True)
    os._exit(code)
