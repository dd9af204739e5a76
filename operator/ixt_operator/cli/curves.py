"""Small curves of the trainings that run, from the points in their logs."""

import math
from pathlib import Path
from typing import Any, NamedTuple

from rich.text import Text

from ixt_operator.adapters.local.logs import Log, Tail, logs_in, running
from ixt_operator.api.status import RunStatus
from ixt_workloads.contract.foreign import json_of
from ixt_workloads.contract.results import POINT

BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH = 24
MAX_LINE = 2**16
"""Bytes of a point at most."""
LOSS = "training/loss"
HELD_OUT = ("evaluation/loss/None", "evaluation/loss/Best")
"""Losses on held-out documents: the first that there is."""


class _Point(NamedTuple):
    step: int
    loss: float | None
    held_out: float | None


class Curves:
    """What the trainings of a workdir have told."""

    def __init__(self, workdir: Path) -> None:
        self._workdir = workdir
        self._tails: dict[Path, Tail] = {}
        self._points: dict[str, list[_Point]] = {}

    def shown(self, status: RunStatus) -> list[Text]:
        """A line for each training that runs and has told something."""
        trainings = [log for log in logs_in(self._workdir) if log.node.kind == "Train" and log.index == 0]
        found = []
        for log in running(trainings, status):
            points = self._read(log)
            loss = [point.loss for point in points if point.loss is not None]
            held = [point.held_out for point in points if point.held_out is not None]
            if loss:
                told = f"{log.node.in_stage}  loss {curve(loss)}"
                told += f"  held out {curve(held, WIDTH // 2)}" if held else ""
                found.append(Text(told, style="cyan", no_wrap=True, overflow="ellipsis"))
        return found

    def _read(self, log: Log) -> list[_Point]:
        """The points of a training, over all its attempts: one that resumed takes back what came later."""
        points = self._points.setdefault(log.node.node, [])
        for path in log.of_all_attempts:
            for line in self._tails.setdefault(path, Tail(path)).lines():
                if (point := _point(line)) is not None:
                    while point.loss is not None and points and points[-1].step >= point.step:
                        points.pop()
                    points.append(point)
        return points


def _point(line: str) -> _Point | None:
    """The point in a line of a log; None for another line."""
    if f'"{POINT}"' not in line:
        return None
    try:
        told = json_of(line, MAX_LINE)[POINT]
        held_out = next((_number(told[name]) for name in HELD_OUT if name in told), None)
        return _Point(int(told["step"]), _number(told.get(LOSS)), held_out)
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def curve(values: list[float], width: int = WIDTH) -> str:
    """Numbers in a row as blocks between the first and the last of them, each block a mean."""
    width = min(width, len(values))
    means = []
    for place in range(width):
        some = values[place * len(values) // width : (place + 1) * len(values) // width]
        means.append(sum(some) / len(some))
    low, high = min(means), max(means)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    blocks = "".join(BLOCKS[round((mean - low) * scale)] for mean in means)
    return f"{values[0]:.3g} {blocks} {values[-1]:.3g}"
