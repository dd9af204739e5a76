"""Raw scores to quality levels. Pure."""

from bisect import bisect_right
from collections.abc import Mapping

from ixt_workloads.contract.settings import Calibration


def rounded(score: float) -> float:
    """A raw score with six significant digits: they bound a histogram, and make scores equal that differ by
    rounding errors only, such as 17 / 5 and 1 + 4 * 6 / 10."""
    return float(f"{score:.6g}")


def thresholds(
    histogram: Mapping[float, int], low: float, high: float, levels: int, calibration: Calibration
) -> tuple[float, ...]:
    """The lowest raw score of levels 2 ... `levels`, ascending (a level may be empty: equal thresholds).

    `histogram` counts documents by `rounded` score. Fixed: a scale of as many whole numbers as there are
    levels maps one to one, any other is cut into equal parts of [low, high]. Quantile: cut so that each level
    has as near as can be the same number of documents, equal scores never apart; without scores as Fixed.
    """
    if calibration is Calibration.QUANTILE and histogram:
        return _quantiles(histogram, levels)
    if high - low == levels - 1:
        return tuple(rounded(low + place - 0.5) for place in range(1, levels))
    # Each divided first: their difference may be no finite number.
    step = high / levels - low / levels
    return tuple(rounded(low + step * place) for place in range(1, levels))


def _quantiles(histogram: Mapping[float, int], levels: int) -> tuple[float, ...]:
    scores = sorted(histogram)
    total = sum(histogram.values())
    below, cuts = 0, []
    # Documents below each possible cut; the cut nearest to the wanted share is taken, the lower one of two.
    for score in scores:
        cuts.append((below, score))
        below += histogram[score]
    return tuple(
        min(cuts, key=lambda cut: (abs(cut[0] - total * place / levels), cut[1]))[1]
        for place in range(1, levels)
    )


def level_of(score: float, bounds: tuple[float, ...]) -> int:
    """Level of a raw score, from 1 (worst) to len(bounds) + 1."""
    return bisect_right(bounds, rounded(score)) + 1
