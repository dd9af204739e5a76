"""The curve of every training as lines of JSON in the run's storage, at curves/<run>/<stage>/<lane>/<id>/.
A line is a `Point`: {"step", "tokens", "time", "figures": {name: value}}."""

import json
import time
from collections.abc import Callable, Sequence

from ixt_workloads.trackers.parts import Parts
from ixt_workloads.trackers.points import Point, Tracked
from ixt_workloads.trackers.sending import Tracker


def opener(of: Tracked) -> Callable[[], Tracker]:
    """What opens a training's file of lines."""
    return lambda: Lines(of)


class Lines:
    """The lines of one attempt."""

    def __init__(self, of: Tracked) -> None:
        name = f"{int(time.time())}.{'train' if of.trains else 'evaluate'}"
        self._parts = Parts(of.store, f"curves/{of.name}/{of.id}", name, ".jsonl")

    def log(self, points: Sequence[Point]) -> None:
        self._parts.file.writelines(f"{json.dumps(point._asdict())}\n".encode() for point in points)
        self._parts.keep()

    def close(self, *, succeeded: bool) -> None:
        self._parts.close()
