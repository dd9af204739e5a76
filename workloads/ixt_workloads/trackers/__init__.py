"""Curves of trainings: always as lines of JSON in the step's log and in the run's storage, and with config
and lineage in the experiment trackers that a run asks for, TensorBoard, MLflow or W&B.

A tracker never slows and never fails a step: each has a thread of its own and a bounded queue before it
(`sending.py`). What it did not take is counted and told with the step's progress and result. The library of
a tracker is imported in its thread, by the one file that knows it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module

from ixt_workloads import logs
from ixt_workloads.contract.results import Figures, Progress
from ixt_workloads.contract.trackers import Trackers
from ixt_workloads.frame import Step
from ixt_workloads.trackers import lines
from ixt_workloads.trackers.points import Point, in_words, named, thinned, tracked
from ixt_workloads.trackers.sending import Sender, Tracker, close

NAMES = {"tensorboard": "TensorBoard", "mlflow": "MLflow", "wandb": "Weights & Biases"}
"""Fields of spec.trackers, which are also the modules here, with the names that people know."""


class Tracking:
    """Log and trackers of one step's process; of one that tells nothing (no senders) it does nothing."""

    def __init__(self, senders: tuple[Sender, ...]) -> None:
        self._senders = senders
        self._point = thinned()
        self._last: Point | None = None

    def show(self, progress: Progress) -> None:
        """Tell how a training goes. Costs no time; most progress makes no point."""
        if self._senders and (point := self._point(progress)):
            self._add(point)

    def finish(self, flops: Mapping[str, int]) -> None:
        """Tell what a training cost in all, in FLOPs by purpose."""
        if self._last:
            self._add(self._last._replace(figures=_cost(flops)))

    def add(self, step: int, tokens: int, figures: Figures, flops: Mapping[str, int]) -> None:
        """Tell figures and the cost of what came after a training."""
        self._add(Point(step, tokens, time.time(), {**named(figures), **_cost(flops)}))

    def _add(self, point: Point) -> None:
        if not self._senders:
            return
        self._last = point
        logs.point(in_words(point), {"step": point.step, "tokens": point.tokens, **point.figures})
        for sender in self._senders:
            sender.put(point)

    def said(self, message: str) -> str:
        """A message of the step, with what is wrong with its trackers."""
        return "; ".join(filter(None, (message, *(sender.trouble for sender in self._senders))))


def _cost(flops: Mapping[str, int]) -> dict[str, float]:
    return {f"cost/{purpose}_flops": float(number) for purpose, number in flops.items()}


@contextmanager
def tracking(step: Step, trackers: Trackers | None) -> Iterator[Tracking]:
    """Open a step's trackers, in the background. At its end they are sent what is left, for some seconds. Of
    a step's processes only the first tells anything."""
    found = []
    if step.index == 0:
        of = tracked(step.task, step.store)
        found.append(Sender("curve in the storage", lines.opener(of)))
        for field, name in NAMES.items():
            if settings := getattr(trackers, field, None):
                opener: Callable[..., Callable[[], Tracker]] = import_module(f"{__name__}.{field}").opener
                found.append(Sender(name, opener(settings, of)))
    succeeded = False
    try:
        yield Tracking(tuple(found))
        succeeded = True
    finally:
        close(found, succeeded=succeeded)
