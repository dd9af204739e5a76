"""The learning rate over a run, and the order in which the sequences are read. Both are pure."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np

from ixt_workloads.contract.settings import Schedule, ScheduleType


def learning_rate(schedule: Schedule, peak: float, step: int, steps: int) -> float:
    """Rate of the optimizer step `step`, which counts from 0, of `steps`."""
    final = peak * schedule.final_percent / 100
    warmup = round(steps * schedule.warmup_percent / 100)
    if step < warmup:
        return peak * (step + 1) / warmup
    match schedule.type:
        case ScheduleType.CONSTANT:
            return peak
        case ScheduleType.COSINE:
            done = (step - warmup) / max(1, steps - 1 - warmup)
            return final + (peak - final) * (1 + math.cos(math.pi * done)) / 2
        case ScheduleType.WARMUP_STABLE_DECAY:
            decay = round(steps * schedule.decay_percent / 100)
            left = steps - 1 - step
            return peak if left >= decay else final + (peak - final) * left / max(1, decay)


class Order:
    """The order in which sequences are read: a pure function of seed and position, whatever the world size.

    Blocks come in a seeded order, and the sequences of a block in a seeded order. Blocks hold the same
    documents in every arm and are uniform samples of the corpus, so arms of one seed meet the documents in
    nearly the same order, and a batch needs one or two files only.
    """

    def __init__(self, sizes: Sequence[int], seed: int) -> None:
        self._sizes = tuple(sizes)
        self._firsts = (0, *accumulate(self._sizes))
        self._epoch = lru_cache(4)(self._order_of_blocks)
        self._block = lru_cache(16)(self._order_in_block)
        self._seed = seed

    @property
    def total(self) -> int:
        """Sequences in one epoch."""
        return self._firsts[-1]

    def sequence(self, position: int) -> int:
        """Index, counted over all blocks, of the sequence that is read at `position`, counted from 0."""
        epoch, place = divmod(position, self.total)
        blocks, ends = self._epoch(epoch)
        which = bisect_right(ends, place)
        block = int(blocks[which])
        within = place - (ends[which - 1] if which else 0)
        return self._firsts[block] + int(self._block(epoch, block)[within])

    def _order_of_blocks(self, epoch: int) -> tuple[np.ndarray, list[int]]:
        blocks = np.random.default_rng([self._seed, epoch]).permutation(len(self._sizes))
        return blocks, list(accumulate(self._sizes[block] for block in blocks))

    def _order_in_block(self, epoch: int, block: int) -> np.ndarray:
        return np.random.default_rng([self._seed, epoch, block]).permutation(self._sizes[block])
