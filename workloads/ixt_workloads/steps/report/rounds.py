"""Rounds of a Rollout stage, as the report tells of them: what each model's answers are like. Pure."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from ixt_workloads.rollouts import pass_at
from ixt_workloads.steps.report.intervals import LEVEL, Draws, Interval, Samples, same_items
from ixt_workloads.steps.report.numbers import mean_of
from ixt_workloads.steps.report.read import Json, Round


def told_rounds(lanes: Sequence[Sequence[Round]]) -> list[Json]:
    """The rounds of an arm, of which `lanes` are the seeds: figures by prefix, means over the seeds."""
    return [_round(together) for together in zip(*lanes, strict=True)]


def _round(seeds: Sequence[Round]) -> Json:
    prefixes = seeds[0].answers.keys()
    judged = [each.annotate.summary for each in seeds if each.annotate]
    contradicting = [
        found
        for each in judged
        if each.get("source") != "Verifier" and (found := each.get("contradictionPercent")) is not None
    ]
    return {
        "round": seeds[0].number,
        "flops": fmean(each.flops for each in seeds),
        "contradictionPercent": fmean(contradicting) if contradicting else None,
        "answers": {prefix: _answers([each.answers[prefix] for each in seeds]) for prefix in prefixes},
    }


def _answers(seeds: Sequence[Json]) -> Json:
    """Figures of answers under one prefix, with intervals of pass@k over prompts and seeds."""
    most = min(max(map(int, each["passAt"])) for each in seeds)
    plain = ("meanScore", "meanTokens", "cut", "empty", "sameAnswers", "noVerdict")
    return {
        "prompts": seeds[0]["prompts"],
        "k": most,
        "passAt": {
            str(k): {"mean": fmean(each["passAt"][str(k)] for each in seeds), "interval": interval(seeds, k)}
            for k in (1, most)
        },
        **{name: mean_of(each[name] for each in seeds) for name in plain},
        "distinct": {n: mean_of(each["distinct"][n] for each in seeds) for n in seeds[0]["distinct"]},
    }


def interval(seeds: Sequence[Json], k: int) -> Any:
    """95 % interval of pass@k by bootstrap over prompts and seeds; None where it is not known for each
    prompt."""
    found = [_of_prompts(each, k) for each in seeds]
    known = [samples for samples in found if samples is not None]
    if len(known) < len(found) or not same_items(known):
        return None
    drawn = Draws([known[0][0].shape[1]], len(known)).qualities([[samples] for samples in known])[:, 0]
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(low=max(0.0, float(low)), high=min(1.0, float(high))).model_dump()


def _of_prompts(answers: Json, k: int) -> Samples | None:
    """pass@k of each prompt. Its number of right answers is known where all prompts have as many answers."""
    each, rest = divmod(answers["answers"], answers["prompts"])
    if rest or len(answers["items"]) < answers["prompts"]:
        return None
    solved = [pass_at(each, round(share * each), k) for share in answers["items"]]
    return (np.array([solved, [1] * len(solved)], float),)
