"""The report's conclusion from its numbers, in a few sentences. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ixt_workloads.contract.base import Model
from ixt_workloads.contract.settings import Method
from ixt_workloads.steps.report.curves import Band, Comparison, Curve, band, compare, quality_at
from ixt_workloads.steps.report.numbers import decimal, flops, ratio

ENOUGH_SEEDS = 5
"""Seeds that a claim needs: with fewer, a difference between arms may be chance."""

CREDIBLE = 2.0
"""Standard errors by which two accuracies must differ before the questions can tell them apart."""


class Measure(StrEnum):
    """What is compared; both are better when they are higher."""

    ACCURACY = "Accuracy"
    LOG_PROBABILITY = "LogProbability"
    """log p of the held-out documents without prefix, in nats a token."""


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

    @property
    def band(self) -> Band:
        """Mean and range over the seeds."""
        return band([self.curves[seed] for seed in sorted(self.curves)])


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


def judge(
    contenders: Sequence[Contender], metric: Measure, items: int = 0, costs_known: bool = True
) -> Verdict:
    """The verdict over a stage's arms.

    `items`: questions behind an accuracy, 0 when not known. `costs_known`: annotation is in the FLOPs.
    """
    if not contenders:
        return Verdict(headline="Nothing was evaluated, so there is no verdict.", seeds="")
    if len(contenders) == 1:
        return _alone(contenders[0], metric)
    baseline = _first(contenders, Method.NEXT_TOKEN) or _other(contenders)
    rest = [contender for contender in contenders if contender is not baseline]
    subject = _first(rest, Method.CONDITIONED) or rest[0]
    measure = baseline.band
    comparisons = {arm.name: compare(arm.band.curve, measure.curve, measure.spread) for arm in rest}
    found = comparisons[subject.name]
    gains = _gains(subject, baseline)
    return Verdict(
        headline=_headline(subject, baseline, found, metric, items, costs_known),
        seeds=_seeds(subject, baseline, gains, metric),
        notes=tuple(_notes(subject, rest, comparisons, metric)),
        subject=subject.name,
        baseline=baseline.name,
        comparisons=comparisons,
        gains=gains,
        equal_quality=_equal_quality(baseline, metric),
    )


def shown(value: float, metric: Measure) -> str:
    """A quality as the report shows it: an accuracy, or a log-probability as a loss."""
    return decimal(value) if metric is Measure.ACCURACY else decimal(-value, 3)


def _first(contenders: Sequence[Contender], method: Method) -> Contender | None:
    return next((contender for contender in contenders if contender.method is method), None)


def _other(contenders: Sequence[Contender]) -> Contender:
    plain = (contender for contender in contenders if contender.method is not Method.CONDITIONED)
    return next(plain, contenders[0])


def _alone(contender: Contender, metric: Measure) -> Verdict:
    end = contender.band
    return Verdict(
        headline=f"{contender.name} is the only arm that was evaluated, so it is compared with nothing. It "
        f"ends at {_named(end.mean[-1], metric)} after {flops(end.flops[-1])} FLOPs.",
        seeds=_seed_count(len(contender.curves)),
        subject=contender.name,
    )


def _named(value: float, metric: Measure) -> str:
    return (
        f"{shown(value, metric)} accuracy" if metric is Measure.ACCURACY
        else f"a loss of {shown(value, metric)} nats a token on held-out documents"
    )  # fmt: skip


def _headline(
    subject: Contender,
    baseline: Contender,
    found: Comparison,
    metric: Measure,
    items: int,
    costs_known: bool,
) -> str:
    asked = " (asked for the best)" if metric is Measure.ACCURACY and subject.prefix == "Best" else ""
    if found.quality is None or found.baseline_quality is None or found.flops is None:
        return _apart(subject, baseline, asked, metric)
    where = (
        f"At {flops(found.flops)} FLOPs, where {subject.name} ends," if found.ends_before
        else f"At the FLOPs that {baseline.name} spent, {flops(found.flops)},"
    )  # fmt: skip
    reach = (
        f"{where} {subject.name}{asked} reaches {_named(found.quality, metric)} "
        f"against {shown(found.baseline_quality, metric)}"
    )
    cost = _cost(baseline, found, metric, costs_known)
    return f"{reach}{cost}. {_size(subject, found, metric, items)}".strip()


def _apart(subject: Contender, baseline: Contender, asked: str, metric: Measure) -> str:
    """The sentence for curves that share no FLOPs, such as single points at different places."""
    left, right = subject.band, baseline.band
    if subject.annotation > right.flops[-1]:
        why = (
            f"{subject.name} spends {flops(subject.annotation)} FLOPs before it trains, more than "
            f"{baseline.name} in all, so there is no comparison at equal FLOPs."
        )
    elif len(left.flops) == len(right.flops) == 1:
        why = "Only the ends were evaluated, after unequal FLOPs, so there is no comparison at equal ones."
    else:
        why = "The curves share no FLOPs, so there is no comparison at equal ones."
    return (
        f"{why} {subject.name}{asked} ends at {_named(left.mean[-1], metric)} after "
        f"{flops(left.flops[-1])} FLOPs, {baseline.name} at {shown(right.mean[-1], metric)} after "
        f"{flops(right.flops[-1])}."
    )


def _cost(baseline: Contender, found: Comparison, metric: Measure, costs_known: bool) -> str:
    included = f"annotation {'included' if costs_known else 'not included, as its cost is not known'}"
    best = f"{baseline.name}’s best within its spread, {shown(found.target, metric)}"
    if not found.reached:
        return f"; it does not reach {best}"
    if found.flops_ratio is None:
        return ""
    if found.flops_ratio < 1:
        return f"; it reaches {best}, with {ratio(found.flops_ratio)} of the FLOPs, {included}"
    return f"; to reach {best}, it needs {ratio(found.flops_ratio)} times the FLOPs, {included}"


def _equal_quality(baseline: Contender, metric: Measure) -> str:
    found, seeds = baseline.band, len(baseline.curves)
    digits = 2 if metric is Measure.ACCURACY else 3
    how = (
        f"the standard deviation among its {seeds} seeds" if seeds > 1
        else "how far its evaluations fall short of the best before them, on average"
    )  # fmt: skip
    return (
        f"Equal quality: {baseline.name}’s best, {shown(max(found.mean), metric)}, given way by its spread, "
        f"{decimal(found.spread, digits)}, since the best of many evaluations is partly luck. The spread is "
        f"{how}, over the second half of its curve."
    )


def _size(subject: Contender, found: Comparison, metric: Measure, items: int) -> str:
    gain = found.gain or 0.0
    if metric is Measure.ACCURACY and abs(gain) < CREDIBLE * _standard_error(found, items):
        return f"The difference is within the noise of {items} questions."
    if gain < 0:
        return f"{subject.name} does worse here."
    return ""


def _standard_error(found: Comparison, items: int) -> float:
    """Of the difference of two accuracies on `items` questions each, taken as independent."""
    if items == 0 or found.quality is None or found.baseline_quality is None:
        return 0.0
    return math.sqrt(sum(p * (1 - p) for p in (found.quality, found.baseline_quality)) / items)


def _gains(subject: Contender, baseline: Contender) -> tuple[float, ...]:
    found = []
    for seed in sorted(subject.curves.keys() & baseline.curves.keys()):
        gain = compare(subject.curves[seed], baseline.curves[seed]).gain
        if gain is not None:
            found.append(gain)
    return tuple(found)


def _seeds(subject: Contender, baseline: Contender, gains: tuple[float, ...], metric: Measure) -> str:
    number = min(len(subject.curves), len(baseline.curves))
    if number == 1 or len(gains) < 2:
        return _seed_count(number)
    digits = 2 if metric is Measure.ACCURACY else 3
    unit = "" if metric is Measure.ACCURACY else " nats a token"
    mean = sum(gains) / len(gains)
    deviation = math.sqrt(sum((gain - mean) ** 2 for gain in gains) / (len(gains) - 1))
    spread = (
        f"{len(gains)} seeds: the gain at equal FLOPs is {decimal(mean, digits)} ± "
        f"{decimal(deviation, digits)}{unit} "
        f"(mean, standard deviation), from {decimal(min(gains), digits)} to {decimal(max(gains), digits)}"
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
    if found.flops is None or found.quality is None or found.gain is None:
        return []
    notes = []
    others = [
        (value, other)
        for other in rest
        if other is not subject
        and other.method is not Method.SHUFFLED
        and (value := quality_at(other.band.curve, found.flops)) is not None
    ]
    if others:
        value, other = max(others, key=lambda pair: pair[0])
        word = "is ahead" if value > found.quality else "comes closest"
        notes.append(f"Of the other arms, {other.name} {word} at these FLOPs, with {_named(value, metric)}.")
    control = _first([other for other in rest if other is not subject], Method.SHUFFLED)
    left = comparisons[control.name].gain if control else None
    if control and left is not None:
        digits = 2 if metric is Measure.ACCURACY else 3
        doubt = found.gain > 0 and left > found.gain / 2
        notes.append(
            f"With feedback shuffled over the documents ({control.name}) the gain is {decimal(left, digits)} "
            f"instead of {decimal(found.gain, digits)}"
            + (": most of it does not come from the feedback." if doubt else ".")
        )
    return notes
