"""Measures a training while it runs, and tells its figures."""

import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ixt_workloads.contract.metrics import (
    EVALUATION_SECONDS,
    MEMORY,
    MFU,
    RANK_SECONDS,
    SLOWEST_RANK,
    STEP_SECONDS,
    TOKEN_RATE,
    TOTAL_FLOPS,
    TRAINED_FLOPS,
    TRAINED_STEPS,
    TRAINED_TOKENS,
    StepPart,
)
from ixt_workloads.evaluation import tell
from ixt_workloads.flops import ModelShape, training_flops
from ixt_workloads.progress import Reporter
from ixt_workloads.steps.train.peaks import peak_of
from ixt_workloads.steps.train.ranks import World
from ixt_workloads.steps.train.sums import OfRank, by_rank

TELL_SECONDS = 2.0
"""Figures are told, and passed on to the launcher, this far apart: that takes about a millisecond, which
is to be less than a thousandth however short steps are."""

RATE_SECONDS = 30.0
"""Speeds are means over this long, evaluations left out."""


class Stopwatch:
    """Seconds of the parts of steps: each mark ends a part, which began at the mark before.

    On a GPU a mark is an event in its stream, so that a part is the time that the GPU took for it, idling
    while the processor gets the data ready included. Nothing is synchronised for it: marks are read once the
    step has waited for what comes after them anyhow, which it does for the loss and for the gradient's norm.
    What a sharded model exchanges within a pass counts as part of the pass.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._marks: list[tuple[StepPart | None, Any]] = []

    def mark(self, part: StepPart | None = None) -> None:
        """End a part; None for what is no part of a step."""
        if self._on_gpu:
            now: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            now.record()
        else:
            now = time.perf_counter()
        self._marks.append((part, now))

    def read(self) -> dict[StepPart, float]:
        """Seconds by part of what was not read before, but for the part that ended last: a GPU may still be
        at it."""
        found: dict[StepPart, float] = {}
        for (_, start), (part, end) in pairwise(self._marks[:-1]):
            if part is not None:
                seconds = start.elapsed_time(end) / 1000 if self._on_gpu else end - start
                found[part] = found.get(part, 0.0) + seconds
        del self._marks[:-2]
        return found


class Meter:
    """What is measured of a training, on every rank. Rank 0 tells of all; the first rank of each other
    machine tells how its own time goes."""

    def __init__(self, reporter: Reporter, place: World, shape: ModelShape, before: int | None) -> None:
        """`before` are the FLOPs that were spent before this training, None if that is not known."""
        self._reporter = reporter
        self._place = place
        self._shape = shape
        self._before = before
        peak = peak_of(torch.cuda.get_device_name(place.device)) if place.device.type == "cuda" else None
        self._peak = peak and peak * place.size
        self._recent: deque[tuple[float, int, int]] = deque()
        self._paused = 0.0
        self._waited = 0.0
        self._told_at = float("-inf")
        self._watch = Stopwatch(place.device)
        self.of_rank = OfRank()
        """For the next sum."""

    def mark(self, part: StepPart | None = None) -> None:
        """End a part of a step, see `Stopwatch`."""
        self._watch.mark(part)

    def evaluated(self, scores: Mapping[str, Any], seconds: float) -> None:
        """Tell an evaluation, which is no part of the training's speed."""
        self._paused += seconds
        if self._place.main:
            tell(scores, self._reporter)
            self._reporter.set(EVALUATION_SECONDS, seconds)

    def stepped(self, state: Mapping[str, Any], ranks: Sequence[float], *, last: bool) -> bool:
        """Take in a step, once the gradient's norm is known; whether figures are due and were told."""
        parts = self._watch.read()
        seconds = by_rank(ranks, "seconds")
        self._waited += max(seconds) - seconds[self._place.rank]
        computed = parts.get(StepPart.DATA, 0.0) + parts.get(StepPart.FORWARD_BACKWARD, 0.0)
        self.of_rank = self.of_rank._replace(seconds=computed)
        now = time.monotonic()
        self._recent.append((now - self._paused, state["tokens"], state["squares"]))
        while len(self._recent) > 2 and self._recent[1][0] < now - self._paused - RATE_SECONDS:
            self._recent.popleft()
        if now - self._told_at < TELL_SECONDS and not last:
            return False
        self._told_at = now
        self.of_rank = _with_memory(self.of_rank, self._place.device)
        self._reporter.waited(self._waited)
        self._waited = 0.0
        if self._place.main:
            self._tell(state, parts, ranks)
        return True

    def _tell(
        self, state: Mapping[str, Any], parts: Mapping[StepPart, float], ranks: Sequence[float]
    ) -> None:
        told = self._reporter.set
        flops = self._flops(state["tokens"], state["squares"])
        told(TRAINED_STEPS, state["step"])
        told(TRAINED_TOKENS, state["tokens"])
        told(TRAINED_FLOPS, flops)
        if self._before is not None:
            told(TOTAL_FLOPS, self._before + flops)
        (start, *first), (end, *latest) = self._recent[0], self._recent[-1]
        if end > start:
            tokens, squares = (there - here for here, there in zip(first, latest, strict=True))
            told(TOKEN_RATE, tokens / (end - start))
            if self._peak:
                told(MFU, self._flops(tokens, squares) / (end - start) / self._peak)
        for part, took in parts.items():
            told(STEP_SECONDS, took, part)
        seconds = by_rank(ranks, "seconds")
        slowest = max(range(len(seconds)), key=seconds.__getitem__)
        if seconds[slowest]:
            told(RANK_SECONDS, median(seconds), "Median")
            told(RANK_SECONDS, seconds[slowest], "Slowest")
            told(SLOWEST_RANK, slowest)
        for kind in OfRank._fields[1:]:
            if most := max(by_rank(ranks, kind)):
                told(MEMORY, most, kind.capitalize())

    def _flops(self, tokens: int, squares: int) -> int:
        return training_flops(self._shape, tokens, squares / max(1, tokens))


def _with_memory(of_rank: OfRank, device: torch.device) -> OfRank:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    found = of_rank._replace(resident=float(pages * os.sysconf("SC_PAGE_SIZE")))
    if device.type != "cuda":
        return found
    return found._replace(
        allocated=float(torch.cuda.memory_allocated(device)),
        reserved=float(torch.cuda.memory_reserved(device)),
    )
