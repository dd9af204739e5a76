"""Pieces of PromQL, made of the rows of the table of metrics: a renamed metric takes its queries along.

What the operator tells of runs comes from the replica that leads, for a moment from two: what is asked about
runs and steps goes through `by`, which leaves out who told it.
"""

from collections.abc import Iterable

from ixt_workloads.contract.metrics import NODE, Metric, Type

STEP = NODE[:-1]
"""Labels of a step: of all seeds of its arm together."""
LANE = ("stage", "arm", "seed")
RATE = "$__rate_interval"
"""Grafana's window for rates: four scrapes, or a pixel's time where that is longer."""


def series(metric: Metric | str, *matchers: str, window: str = "", offset: str = "") -> str:
    """A selector of a metric's series, over a window if one is given. A histogram's name needs `buckets`."""
    name = metric if isinstance(metric, str) else metric.name
    selector = f"{name}{{{', '.join(filter(None, matchers))}}}" if any(matchers) else name
    return selector + (f"[{window}]" if window else "") + (f" offset {offset}" if offset else "")


def buckets(metric: Metric) -> str:
    """The name of a histogram's buckets."""
    if metric.type is not Type.HISTOGRAM:
        raise TypeError(f"{metric.name} is no histogram")
    return f"{metric.name}_bucket"


def by(labels: Iterable[str], expression: str, how: str = "max") -> str:
    """One series for each value of the labels; none but one without labels."""
    if names := ", ".join(labels):
        return f"{how} by ({names}) ({expression})"
    return f"{how}({expression})"


def rate(metric: Metric | str, *matchers: str, window: str = RATE) -> str:
    """The rate of a counter's series a second."""
    return f"rate({series(metric, *matchers, window=window)})"


def last(metric: Metric | str, *matchers: str) -> str:
    """The last value in the time that a dashboard shows: it is there for runs that have finished, too."""
    return f"last_over_time({series(metric, *matchers, window='$__range')})"


def quantile(
    of: float, metric: Metric, *matchers: str, labels: Iterable[str] = (), window: str = RATE
) -> str:
    """A quantile of a histogram's values within a window."""
    counts = by((*labels, "le"), rate(buckets(metric), *matchers, window=window), "sum")
    return f"histogram_quantile({of}, {counts})"


def is_one(labels: Iterable[str], metric: Metric, *matchers: str) -> str:
    """Series of a metric that tells by 1 what is so, where it is so."""
    return f"{by(labels, series(metric, *matchers))} == 1"


def in_run(*more: str) -> tuple[str, ...]:
    """Matchers of the run that a dashboard shows."""
    return ('namespace="$namespace"', 'run="$run"', *more)


def in_stage(*more: str) -> tuple[str, ...]:
    """Matchers of the stages that a dashboard shows of its run."""
    return in_run('stage=~"$stage"', *more)


def in_arms(*more: str) -> tuple[str, ...]:
    """Matchers of the arms that a dashboard shows of its run's stages."""
    return in_stage('arm=~"$arm"', *more)


def per_second(metric: Metric, label: str, *matchers: str) -> str:
    """The rate of a counter of the stages that a dashboard shows, by one of its labels."""
    return by([label], by((*STEP, label), rate(metric, *in_stage(*matchers))), "sum")
