"""What trackers are told: points of a curve, and what they belong to. Pure."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.metrics import TRAINED_STEPS, TRAINED_TOKENS
from ixt_workloads.contract.results import Figures, Progress
from ixt_workloads.store import Store

POINTS = 1000
"""Points of a short training's curve, about."""

POINT_SECONDS = 10.0
"""A long training has a point at least this often."""

EVALUATION = "evaluation/"
"""Begins the names of what is measured now and then: it is told when it is new."""


TOKENS = "training/tokens"


class Point(NamedTuple):
    """Figures of a training after so many optimizer steps and tokens."""

    step: int
    tokens: int
    time: float
    """Seconds since 1970."""
    figures: Mapping[str, float]
    """By name, for example training/loss or evaluation/score/Best/sums."""


@dataclass(frozen=True)
class Tracked:
    """A training, as trackers know it: one lane in one stage."""

    id: str
    """16 hex digits: the same for all attempts at the training, and for the evaluation of its model."""
    run: str
    stage: str
    lane: str
    config: Mapping[str, str | int | float | bool]
    """The step's config by dotted names."""
    lineage: Mapping[str, str]
    """What came of what: keys, and pins of data, model and judge."""
    trains: bool
    """False for the evaluation after it, which adds to the curves."""
    store: Store
    """The run's storage."""

    @property
    def name(self) -> str:
        """Its name for people."""
        return f"{self.run}/{self.stage}/{self.lane}"


def tracked(task: Task, store: Store) -> Tracked:
    """The training that a task of Train or Evaluate belongs to."""
    trains = task.kind == "Train"
    training = task.key if trains else task.inputs["train"]
    config = task.config.model_dump(mode="json", exclude={"trackers"})
    lineage = {task.short: task.key}
    lineage |= {role: key for role, key in task.inputs.items() if role != "train"}
    lineage |= {f"pin/{name}": pin for name, pin in task.pins.items()}
    return Tracked(
        id=hashlib.sha256(f"{task.run_uid}/{training}".encode()).hexdigest()[:16],
        run=task.run,
        stage=task.stage,
        lane=task.lane,
        config=dict(_flat(config)) if trains else {},
        lineage=lineage,
        trains=trains,
        store=store,
    )


def named(figures: Figures) -> dict[str, float]:
    """Figures by the names that trackers show: ixt_training_loss is training/loss, labels stand behind. What
    is no finite number is left out."""
    return {
        "/".join(filter(None, (name.removeprefix("ixt_").replace("_", "/", 1), *labels.split(",")))): value
        for name, values in figures.items()
        for labels, value in values.items()
        if math.isfinite(value)
    }


def thinned(clock: Callable[[], float] = time.monotonic) -> Callable[[Progress], Point | None]:
    """Makes points of a training's progress: one each time that a thousandth of it is done or ten seconds
    have passed, and whenever it was evaluated."""
    last: tuple[int, int, float] | None = None
    evaluated: dict[str, float] = {}

    def point(progress: Progress) -> Point | None:
        nonlocal last, evaluated
        now, found = clock(), named(progress.figures)
        # Not what is done by now, since figures are told less often.
        step, tokens = (
            int(progress.figures.get(metric.name, {}).get("", progress.done))
            for metric in (TRAINED_STEPS, TRAINED_TOKENS)
        )
        evaluation = {name: value for name, value in found.items() if name.startswith(EVALUATION)}
        new = evaluation != evaluated
        moved = last is None or step > last[0]
        share = (progress.total or 0) / POINTS
        due = last is None or tokens - last[1] >= share or now - last[2] >= POINT_SECONDS
        if not new and not (moved and (due or tokens == progress.total)):
            return None
        if not moved:
            found = evaluation
        elif not new:
            found = {name: value for name, value in found.items() if name not in evaluation}
        last, evaluated = (step, tokens, now), evaluation
        return Point(step, tokens, time.time(), {**found, TOKENS: tokens})

    return point


def in_words(point: Point) -> str:
    """A point in a line for people."""
    shown = {"training/loss": "loss", "training/learning_rate": "learning rate"}
    parts = [f"{word} {point.figures[name]:.4g}" for name, word in shown.items() if name in point.figures]
    if rate := point.figures.get("training/tokens_per_second"):
        parts.append(f"{rate:,.0f} tokens/s")
    parts += [f"{name} {value:.4g}" for name, value in point.figures.items() if name.startswith(EVALUATION)]
    return ", ".join([f"step {point.step:,}, {point.tokens:,} tokens", *parts])


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str | int | float | bool]]:
    """The leaves of a config by dotted names, without those that are unset and names of Secrets."""
    if isinstance(value, Mapping):
        parts = ((key, part) for key, part in value.items() if key != "credentialsSecretRef")
    elif isinstance(value, list):
        parts = ((str(place), part) for place, part in enumerate(value))
    else:
        if value is not None:
            yield name, value
        return
    for key, part in parts:
        yield from _flat(part, f"{name}.{key}" if name else key)
