"""What tasks of lm-evaluation-harness say of a stage's arms, at the ends of their trainings."""

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from ixt_workloads.steps.report.curves import Curve
from ixt_workloads.steps.report.fair import Lines
from ixt_workloads.steps.report.intervals import Samples
from ixt_workloads.steps.report.measure import Measure
from ixt_workloads.steps.report.read import Json, Lane
from ixt_workloads.steps.report.verdict import contender, judge


def harness_of(arms: Sequence[Json], lanes: Sequence[Sequence[Lane]], costs_known: bool) -> Json | None:
    """Scores by arm and task, and the verdict over the tasks whose items have scores; None without tasks.
    `lanes` are those of each arm."""
    if not all(lane.harness for of_arm in lanes for lane in of_arm):
        return None
    compared = _compared(arms, lanes)
    contenders = [
        contender(arm, lines)
        for arm, of_arm in zip(arms, lanes, strict=True)
        if compared
        for lines in [{lane.spec.seed: _line(lane, compared, arm["prefix"]) for lane in of_arm}]
    ]
    verdict = judge(contenders, Measure.ACCURACY, costs_known)
    return {
        "compared": compared,
        "arms": {arm["name"]: _scores(of_arm) for arm, of_arm in zip(arms, lanes, strict=True)},
        "verdict": verdict.told() if contenders else None,
    }


def _compared(arms: Sequence[Json], lanes: Sequence[Sequence[Lane]]) -> list[str]:
    """The tasks whose items were scored for every arm under the prefix that it is compared by."""
    found = [
        {name for name, asked in lane.harness["items"]["tasks"].items() if arm["prefix"] in asked}
        for arm, of_arm in zip(arms, lanes, strict=True)
        for lane in of_arm
    ]
    return sorted(set.intersection(*found)) if found else []


def _line(lane: Lane, tasks: Sequence[str], prefix: str) -> Lines:
    """The end of a lane, which is all that the harness is asked about."""
    asked, items = lane.harness["tasks"], lane.harness["items"]["tasks"]
    quality = fmean(asked[name][prefix]["accuracy"] for name in tasks)
    end = Curve((lane.points[-1].flops,), (quality,))
    samples: Samples = tuple(
        np.array([items[name][prefix]["right"], items[name][prefix]["items"]], float) for name in tasks
    )
    return Lines(end, end, (samples,))


def _scores(lanes: Sequence[Lane]) -> Json:
    """Of each task its metric, and by prefix the mean over the seeds: of that metric, else of all that the
    harness tells."""
    first = lanes[0].harness["tasks"]
    return {
        name: {
            "metric": next(iter(asked.values()))["metric"],
            "items": max(told.get("items", 0) for told in asked.values()),
            "scores": {
                prefix: {
                    metric: fmean(_value(lane, name, prefix, metric) for lane in lanes)
                    for metric in ([told["metric"]] if told["metric"] else told["metrics"])
                }
                for prefix, told in asked.items()
            },
        }
        for name, asked in first.items()
    }


def _value(lane: Lane, task: str, prefix: str, metric: str) -> float:
    told = lane.harness["tasks"][task][prefix]
    return float(told["accuracy"] if metric == told["metric"] else told["metrics"][metric])
