"""The logs of a run's children in its workdir, found by the step that they are of, and read as they grow."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ixt_operator.api.status import RunStatus, StepState
from ixt_workloads.contract.graph import OfNode

MOST_READ = 2**24
"""Bytes of a log that are read back: of a longer one the end."""


@dataclass(frozen=True)
class Log:
    """The log of one process."""

    node: OfNode
    attempt: int
    index: int
    indexes: int
    """Processes of its child."""
    path: Path

    @property
    def name(self) -> str:
        """Its step in its stage, and which process of several."""
        return f"{self.node.in_stage} {self.index}" if self.indexes > 1 else self.node.in_stage

    @property
    def of_all_attempts(self) -> list[Path]:
        """The logs of this process and of earlier attempts, oldest first."""
        child = self.path.name.rsplit("-", 2)[0]
        found = self.path.parent.glob(f"{child}-*-{self.index}.log")
        return sorted(found, key=lambda path: int(path.name.rsplit("-", 2)[1]))


def logs_in(workdir: Path) -> list[Log]:
    """The logs of all children that there are, in the order in which these were made. Of a step that was
    tried again, the newest attempt's."""
    newest: dict[str, tuple[float, list[Log]]] = {}
    for file in workdir.glob("children/*/child.json"):
        try:
            node, attempt, indexes, made = _child(file, file.stat().st_mtime_ns)
        except (OSError, ValueError, LookupError, TypeError):
            continue  # it is made or deleted just now
        place = workdir / "logs"
        found = [
            Log(node, attempt, index, indexes, place / f"{file.parent.name}-{index}.log")
            for index in range(indexes)
        ]
        if node.node not in newest or newest[node.node][0] < made:
            newest[node.node] = made, found
    return [log for _, logs in sorted(newest.values(), key=lambda each: each[0]) for log in logs]


@lru_cache(maxsize=4096)
def _child(file: Path, written: int) -> tuple[OfNode, int, int, float]:
    """Node, attempt, processes and time of creation of a child."""
    record = json.loads(file.read_bytes())
    child = record["child"]
    node = OfNode(**{name: child[name] for name in OfNode.model_fields if name in child})
    return node, int(child["attempt"]), int(child["indexes"]), float(record["createdAt"])


def running(logs: list[Log], status: RunStatus) -> list[Log]:
    """Those of steps that run; of a step with rounds, those of each lane's newest round."""
    steps = [(stage, step.name) for stage, step in status.steps if step.state is StepState.RUNNING]
    found = [log for log in logs if any(log.node.told_by(*step) for step in steps)]
    newest: dict[tuple[str, ...], int] = {}
    for log in found:
        newest[_lane(log)] = max(newest.get(_lane(log), 0), log.node.round or 0)
    return [log for log in found if (log.node.round or 0) == newest[_lane(log)]]


def _lane(log: Log) -> tuple[str, ...]:
    """What the rounds of a step have in common."""
    return log.node.stage, log.node.kind, log.node.part, log.node.lane


class Tail:
    """Reads the lines of a log as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: int | None = None
        self._rest = b""

    def lines(self, *, last: bool = False) -> Iterator[str]:
        """The lines that came since the last call; with `last` also one that has no end."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, 2)
                if self._read is None:
                    self._read = max(0, size - MOST_READ)
                file.seek(self._read)
                found = file.read(MOST_READ)
        except OSError:
            found = b""
        self._read = (self._read or 0) + len(found)
        *lines, self._rest = (self._rest + found).split(b"\n")
        if last and self._rest:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            yield line.decode(errors="replace")
