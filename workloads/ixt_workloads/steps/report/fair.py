"""Where two curves may be compared: at the ends of their schedules, or while the learning rate is constant.
Pure.

A model in the middle of a schedule that falls over the whole training is worse than one whose training was
planned to end there, so what such a curve says of fewer FLOPs is not what an arm would have reached with
them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from ixt_workloads.steps.report.curves import Comparison, Curve, band, compare
from ixt_workloads.steps.report.intervals import Pair, Samples, between, of_gain, of_ratio

SAME_END = 0.02
"""Share by which the FLOPs of two ends may differ: steps are whole, and packed sequences differ a little."""


@dataclass(frozen=True)
class Lines:
    """One seed of an arm."""

    curve: Curve
    """All evaluations."""
    stable: Curve | None
    """Those at which the learning rate was constant; None for less than one."""
    samples: tuple[Samples, ...] = ()
    """What each evaluation of `curve` is made of; empty where single items are not known."""

    def samples_at(self, flops: float) -> Samples | None:
        """What the curve is made of after so many FLOPs, on straight lines between evaluations."""
        places = self.curve.flops
        if not self.samples or not places[0] <= flops <= places[-1]:
            return None
        right = next(place for place, there in enumerate(places) if there >= flops)
        if places[right] == flops or right == 0:
            return self.samples[right]
        share = (flops - places[right - 1]) / (places[right] - places[right - 1])
        return between(self.samples[right - 1], self.samples[right], share)


def at_equal_flops(
    arm: Sequence[Lines], baseline: Sequence[Lines], pairs: Sequence[tuple[Lines, Lines]]
) -> Comparison:
    """An arm's seeds against those of the baseline: quality at equal FLOPs, and FLOPs for equal quality.
    `pairs` are the seeds that both have, by which the intervals are made."""
    whole, other = band([each.curve for each in arm]), band([each.curve for each in baseline])
    plain = compare(whole.curve, other.curve, other.spread)
    ends = [fmean(each.curve.flops[-1] for each in side) for side in (arm, baseline)]
    stable, stable_other = _stable(arm), _stable(baseline)
    found = plain
    if stable and stable_other:
        measure = band(stable_other)
        found = compare(band(stable).curve, measure.curve, measure.spread)
        places = [list(band(each).flops) for each in (stable, stable_other)]
        if found.flops_ratio is not None:
            interval = of_ratio(_paired(pairs, places), (places[0], places[1]), measure.spread)
            found = found.model_copy(update={"ratio_interval": interval})
    else:
        why = "the learning rate falls over the whole training, so before its end a curve is in mid-schedule"
        less = {"flops": None, "quality": None, "baseline_quality": None, "gain": None, "flops_ratio": None}
        found = plain.model_copy(update={**less, "why_no_ratio": why})
    if abs(ends[0] - ends[1]) <= SAME_END * max(ends):
        quality, against = (fmean(each.curve.quality[-1] for each in side) for side in (arm, baseline))
        update = {
            "flops": max(ends), "quality": quality, "baseline_quality": against,
            "gain": quality - against, "ends_before": ends[0] < ends[1], "at_ends": True,
        }  # fmt: skip
        gains = [
            Pair(one.samples[-1:], two.samples[-1:]) for one, two in pairs if one.samples and two.samples
        ]
        return found.model_copy(update=update | {"gain_interval": of_gain(gains) if gains else None})
    if found.gain is None and plain.gain is not None:
        why = found.why_no_ratio or "they share none with a constant learning rate"
        return found.model_copy(update={"why_no_gain": f"The curves end at different FLOPs, and {why}"})
    if found.flops is None:
        return found
    gains = _paired(pairs, [[found.flops], [found.flops]])
    return found.model_copy(update={"gain_interval": of_gain(gains) if gains else None})


def _stable(lines: Sequence[Lines]) -> list[Curve]:
    """The part of each seed's curve with a constant rate; empty where one has none."""
    found = [each.stable for each in lines if each.stable]
    return found if len(found) == len(lines) else []


def _paired(pairs: Sequence[tuple[Lines, Lines]], places: Sequence[Sequence[float]]) -> list[Pair]:
    """Samples of each pair of seeds at the places of either arm, without pairs that are not known there."""
    found = []
    for pair in pairs:
        arm, baseline = (
            tuple(known for place in at if (known := each.samples_at(place)))
            for each, at in zip(pair, places, strict=True)
        )
        if (len(arm), len(baseline)) == (len(places[0]), len(places[1])):
            found.append(Pair(arm, baseline))
    return found
