"""The report's conclusion from its numbers, in a few sentences. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from ixt_workloads.contract.base import Model
from ixt_workloads.contract.settings import Method
from ixt_workloads.steps.report.curves import Band, Comparison, Curve, band
from ixt_workloads.steps.report.fair import Lines, at_equal_flops
from ixt_workloads.steps.report.intervals import Interval
from ixt_workloads.steps.report.measure import Measure
from ixt_workloads.steps.report.numbers import decimal, flops, ratio

ENOUGH_SEEDS = 5
"""Seeds that a claim needs: with fewer, a difference between arms may be chance."""


@dataclass(frozen=True)
class Contender:
    """One arm in one stage."""

    name: str
    method: Method
    prefix: str
    """Feedback asked for when accuracy is measured: Best or None."""
    annotation: float
    """FLOPs of annotation that the arm has paid for before its curve starts."""
    curves: Mapping[int, Curve]
    """By seed, at least one."""
    lines: Mapping[int, Lines] = field(default_factory=dict)
    """By seed: where its curve may be compared, and what it is made of."""
    rises: bool = False
    """Its held-out loss ends well above its least."""

    @property
    def band(self) -> Band:
        """Mean and range over the seeds."""
        return band([self.curves[seed] for seed in sorted(self.curves)])

    def lines_of(self, seed: int) -> Lines:
        """Of one seed; of curves alone every place may be compared."""
        return self.lines.get(seed) or Lines(self.curves[seed], self.curves[seed])


def contender(arm: Mapping[str, Any], lines: Mapping[int, Lines], *, rises: bool = False) -> Contender:
    """An arm of the report with its lines by seed."""
    return Contender(
        name=arm["name"],
        method=Method(arm["method"]),
        prefix=arm["prefix"],
        annotation=arm["flops"]["before"] + arm["flops"]["annotation"],
        curves={seed: each.curve for seed, each in lines.items()},
        lines=lines,
        rises=rises,
    )


class Verdict(Model):
    """The conclusion for one stage."""

    headline: str
    """The comparison that the run is about, in one sentence."""
    seeds: str
    """How many seeds there are, how far they spread, and whether that is enough for a claim."""
    notes: tuple[str, ...] = ()
    """How the other arms compare."""
    subject: str | None = None
    baseline: str | None = None
    comparisons: Mapping[str, Comparison] = {}
    """Each other arm against the baseline, by the arm's name."""
    gains: tuple[float, ...] = ()
    """Gain at equal FLOPs of each seed that both arms have."""
    equal_quality: str = ""
    """How the quality was chosen for which the arms' FLOPs are compared."""

    def told(self) -> dict[str, Any]:
        """The verdict as the report's JSON, each comparison with its word."""
        rows = {
            name: {**row.model_dump(mode="json"), "word": row.word} for name, row in self.comparisons.items()
        }
        return {**self.model_dump(mode="json"), "comparisons": rows}


def judge(contenders: Sequence[Contender], metric: Measure, costs_known: bool = True) -> Verdict:
    """The verdict over a stage's arms. `costs_known`: annotation is in the FLOPs."""
    if not contenders:
        return Verdict(headline="Nothing was evaluated, so there is no verdict.", seeds="")
    if len(contenders) == 1:
        return _alone(contenders[0], metric)
    plain = _first(contenders, Method.NEXT_TOKEN) or _first(contenders, Method.REJECTION_SAMPLING)
    baseline = plain or _other(contenders)
    rest = [contender for contender in contenders if contender is not baseline]
    subject = _first(rest, Method.CONDITIONED) or rest[0]
    comparisons = {arm.name: _compared(arm, baseline, metric) for arm in rest}
    found = comparisons[subject.name]
    gains = _gains(subject, baseline)
    return Verdict(
        headline=_headline(subject, baseline, found, metric, costs_known),
        seeds=_seeds(subject, baseline, gains, metric),
        notes=tuple(_notes(subject, rest, comparisons, metric)),
        subject=subject.name,
        baseline=baseline.name,
        comparisons=comparisons,
        gains=gains,
        equal_quality="" if _rising(metric, baseline) else _equal_quality(baseline, metric),
    )


def _first(contenders: Sequence[Contender], method: Method) -> Contender | None:
    return next((contender for contender in contenders if contender.method is method), None)


def _other(contenders: Sequence[Contender]) -> Contender:
    plain = (contender for contender in contenders if contender.method is not Method.CONDITIONED)
    return next(plain, contenders[0])


def _alone(contender: Contender, metric: Measure) -> Verdict:
    end = contender.band
    return Verdict(
        headline=f"{contender.name} is the only arm that was evaluated, so it is compared with nothing. It "
        f"ends at {metric.named(end.mean[-1])} after {flops(end.flops[-1])} FLOPs.",
        seeds=_seed_count(len(contender.curves)),
        subject=contender.name,
    )


def _headline(
    subject: Contender,
    baseline: Contender,
    found: Comparison,
    metric: Measure,
    costs_known: bool,
) -> str:
    asked = " (asked for the best)" if metric is Measure.ACCURACY and subject.prefix == "Best" else ""
    if found.quality is None or found.baseline_quality is None or found.flops is None:
        return _apart(subject, baseline, found, asked, metric)
    where = (
        f"At {flops(found.flops)} FLOPs, where both end," if found.at_ends
        else f"At {flops(found.flops)} FLOPs, where {subject.name} ends," if found.ends_before
        else f"At the FLOPs that {baseline.name} spent, {flops(found.flops)},"
    )  # fmt: skip
    reach = (
        f"{where} {subject.name}{asked} reaches {metric.named(found.quality)} "
        f"against {metric.shown(found.baseline_quality)}"
    )
    cost = _cost(baseline, found, metric, costs_known)
    return f"{reach}{_word(found, metric)}{cost}."


def _apart(subject: Contender, baseline: Contender, found: Comparison, asked: str, metric: Measure) -> str:
    """The sentence for curves that share no FLOPs, such as single points at different places."""
    left, right = subject.band, baseline.band
    if subject.annotation > right.flops[-1]:
        why = (
            f"{subject.name} spends {flops(subject.annotation)} FLOPs before it trains, more than "
            f"{baseline.name} in all, so there is no comparison at equal FLOPs."
        )
    elif found.why_no_gain:
        why = f"{found.why_no_gain}, so there is no comparison at equal FLOPs."
    elif len(left.flops) == len(right.flops) == 1:
        why = "Only the ends were evaluated, after unequal FLOPs, so there is no comparison at equal ones."
    else:
        why = "The curves share no FLOPs, so there is no comparison at equal ones."
    return (
        f"{why} {subject.name}{asked} ends at {metric.named(left.mean[-1])} after "
        f"{flops(left.flops[-1])} FLOPs, {baseline.name} at {metric.shown(right.mean[-1])} after "
        f"{flops(right.flops[-1])}."
    )


def _cost(baseline: Contender, found: Comparison, metric: Measure, costs_known: bool) -> str:
    included = f"annotation {'included' if costs_known else 'not included, as its cost is not known'}"
    best = f"{baseline.name}’s best within its spread, {metric.shown(found.target)}"
    if found.why_no_ratio:
        return ""
    if not found.reached:
        return f"; it does not reach {best}"
    if found.flops_ratio is None:
        return ""
    if found.flops_ratio < 1:
        needed = f"with {ratio(found.flops_ratio)} of the FLOPs{_range(found.ratio_interval)}"
        return f"; it reaches {best}, {needed}, {included}"
    needed = f"{ratio(found.flops_ratio)} times the FLOPs{_range(found.ratio_interval)}"
    return f"; to reach {best}, it needs {needed}, {included}"


def _range(interval: Interval | None) -> str:
    if interval is None:
        return ""
    low = "not reached" if interval.low is None else ratio(interval.low)
    return f" (95 % interval {low} to {'not reached' if interval.high is None else ratio(interval.high)})"


def _word(found: Comparison, metric: Measure) -> str:
    """What the difference is, in the word that its interval allows."""
    interval = found.gain_interval
    if interval is None:
        return ""
    low, high = (decimal(value, metric.digits) for value in (interval.low, interval.high))
    unit = "" if metric is Measure.ACCURACY else " nats a token"
    gain = decimal(found.gain, metric.digits)
    return f" ({found.word}: a gain of {gain}{unit}, 95 % interval {low} to {high})"


def _equal_quality(baseline: Contender, metric: Measure) -> str:
    found, seeds = (
        band([baseline.lines_of(seed).stable or baseline.curves[seed] for seed in baseline.curves]),
        len(baseline.curves),
    )
    how = (
        f"the standard deviation among its {seeds} seeds" if seeds > 1
        else "how far its evaluations lie from the middle of their neighbours, on average"
    )  # fmt: skip
    return (
        f"Equal quality: {baseline.name}’s best, {metric.shown(max(found.mean))}, given way by its spread, "
        f"{decimal(found.spread, metric.digits)}, since the best of many evaluations is partly luck. "
        f"The spread is {how}, over the second half of its curve."
    )


def _compared(arm: Contender, baseline: Contender, metric: Measure) -> Comparison:
    """One arm against the baseline, over all seeds. How many FLOPs a loss takes is not asked of curves that
    rise: their best is one that they had lost again."""
    every = [[each.lines_of(seed) for seed in sorted(each.curves)] for each in (arm, baseline)]
    seeds = sorted(arm.curves.keys() & baseline.curves.keys())
    pairs = [(arm.lines_of(seed), baseline.lines_of(seed)) for seed in seeds]
    found = at_equal_flops(every[0], every[1], pairs)
    rising = _rising(metric, arm, baseline)
    if not rising or found.why_no_ratio:
        return found
    why = f"the held-out loss of {' and '.join(rising)} rises before its end"
    return found.model_copy(update={"flops_ratio": None, "ratio_interval": None, "why_no_ratio": why})


def _rising(metric: Measure, *arms: Contender) -> list[str]:
    """Names of the arms whose loss, where that is compared, rises."""
    return [arm.name for arm in arms if arm.rises] if metric is Measure.LOG_PROBABILITY else []


def _gains(subject: Contender, baseline: Contender) -> tuple[float, ...]:
    seeds = sorted(subject.curves.keys() & baseline.curves.keys())
    gains = (at_equal_flops([subject.lines_of(seed)], [baseline.lines_of(seed)], ()).gain for seed in seeds)
    return tuple(gain for gain in gains if gain is not None)


def _seeds(subject: Contender, baseline: Contender, gains: tuple[float, ...], metric: Measure) -> str:
    number = min(len(subject.curves), len(baseline.curves))
    if number == 1 and len(gains) == 1:
        return "One seed: the interval knows the items alone, not how far seeds differ, so no claim."
    if number == 1 or len(gains) < 2:
        return _seed_count(number)
    unit = "" if metric is Measure.ACCURACY else " nats a token"
    found = (fmean(gains), stdev(gains), min(gains), max(gains))
    mean, deviation, least, most = (decimal(value, metric.digits) for value in found)
    spread = (
        f"{len(gains)} seeds: the gain at equal FLOPs is {mean} ± {deviation}{unit} "
        f"(mean, standard deviation), from {least} to {most}"
    )
    if len(gains) < ENOUGH_SEEDS:
        return f"{spread}. Fewer than {ENOUGH_SEEDS} seeds are not enough for a claim."
    if min(gains) <= 0 <= max(gains):
        return f"{spread}: the seeds do not agree on its sign."
    return f"{spread}: every seed agrees on its sign."


def _seed_count(number: int) -> str:
    if number == 1:
        return "One seed: no spread among seeds, so no claim."
    if number < ENOUGH_SEEDS:
        return f"{number} seeds: fewer than {ENOUGH_SEEDS} are not enough for a claim."
    return f"{number} seeds."


def _notes(
    subject: Contender, rest: Sequence[Contender], comparisons: Mapping[str, Comparison], metric: Measure
) -> list[str]:
    found = comparisons[subject.name]
    reasons = [found.why_no_ratio] if found.why_no_ratio and found.gain is not None else []
    return [f"How many FLOPs the same quality takes is not told: {why}." for why in reasons] + _others(
        subject, rest, comparisons, metric
    )


def _others(
    subject: Contender, rest: Sequence[Contender], comparisons: Mapping[str, Comparison], metric: Measure
) -> list[str]:
    found = comparisons[subject.name]
    if found.flops is None or found.quality is None or found.gain is None:
        return []
    notes = []
    others = [
        (value, other)
        for other in rest
        if other is not subject
        and other.method is not Method.SHUFFLED
        and comparisons[other.name].gain is not None
        and (value := comparisons[other.name].quality) is not None
    ]
    if others:
        value, other = max(others, key=lambda pair: pair[0])
        word = "is ahead" if value > found.quality else "comes closest"
        notes.append(f"Of the other arms, {other.name} {word} at these FLOPs, with {metric.named(value)}.")
    control = _first([other for other in rest if other is not subject], Method.SHUFFLED)
    left = comparisons[control.name].gain if control else None
    if control and left is not None:
        doubt = found.gain > 0 and left > found.gain / 2
        notes.append(
            f"With feedback shuffled over the documents ({control.name}) the gain is "
            f"{decimal(left, metric.digits)} instead of {decimal(found.gain, metric.digits)}"
            + (": most of it does not come from the feedback." if doubt else ".")
        )
    return notes
