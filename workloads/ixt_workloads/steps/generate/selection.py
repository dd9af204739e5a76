"""Which prompts a round takes, and under which feedback the policy answers each. Pure."""

from collections.abc import Sequence

import numpy as np

from ixt_workloads.contract.settings import EvalPrefix, SamplingFeedback
from ixt_workloads.data.hashed import place_of
from ixt_workloads.feedback.prefixes import Prefixes


def chosen(ids: Sequence[str], number: int | None, round_: int, seed: int) -> np.ndarray:
    """Places of the prompts that a round takes, ascending: the next `number` in one order that the seed and
    the ids decide, from its start again where it ends. All, for no number and for one that is too large."""
    if number is None or number >= len(ids):
        return np.arange(len(ids))
    keys = np.fromiter((place_of(f"prompt/{seed}/{name}") for name in ids), np.uint64, len(ids))
    order = np.argsort(keys, kind="stable")
    first = (round_ - 1) * number
    return np.sort(order[np.arange(first, first + number) % len(ids)])


def feedback_of(
    contract: Prefixes | None, sampling: SamplingFeedback, prompt: str, round_: int, seed: int
) -> tuple[str, str]:
    """Name and text of the feedback under which a prompt is answered: `Best`, `None`, or a level's number."""
    if contract is None or sampling is SamplingFeedback.NONE:
        return "None", ""
    if sampling is SamplingFeedback.BEST:
        return "Best", contract.best
    levels = sorted(contract.by_level)
    level = levels[place_of(f"mix/{seed}/{round_}/{prompt}") % len(levels)]
    return str(level), contract.by_level[level]


def held_out_feedback(contract: Prefixes | None, prefixes: Sequence[EvalPrefix]) -> list[tuple[str, str]]:
    """Name and text of each feedback under which held-out prompts are answered; a policy that knows none is
    asked without."""
    if contract is None:
        return [(EvalPrefix.NONE.value, "")] if prefixes else []
    texts = {EvalPrefix.BEST: contract.best, EvalPrefix.WORST: contract.worst, EvalPrefix.NONE: ""}
    return [(each.value, texts[each]) for each in prefixes]


def parts(counts: Sequence[int], most: int) -> list[tuple[int, int, int]]:
    """For each file of samples the prompts that it answers, at most so many: the shard, and the first and end
    of them among the shard's chosen ones, of which `counts` has the numbers."""
    return [
        (shard, first, min(first + most, count))
        for shard, count in enumerate(counts)
        for first in range(0, count, most)
    ]
