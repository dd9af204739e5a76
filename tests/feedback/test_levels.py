"""Raw scores to levels: in order, whole, and of equal size where that is asked for."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ixt_workloads.contract.settings import Calibration
from ixt_workloads.feedback.levels import level_of, rounded, thresholds

scores = st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=False)
histograms = st.dictionaries(scores.map(rounded), st.integers(1, 50), max_size=30)
levels = st.integers(2, 10)


@given(histograms, scores, scores, levels, st.sampled_from(Calibration), scores)
def test_a_better_score_never_has_a_lower_level(
    histogram: dict[float, int], one: float, other: float, number: int, how: Calibration, score: float
) -> None:
    bounds = thresholds(histogram, min(one, other), max(one, other), number, how)
    assert len(bounds) == number - 1
    assert list(bounds) == sorted(bounds)
    assert 1 <= level_of(score, bounds) <= number
    assert level_of(score, bounds) <= level_of(max(score, one), bounds)


@given(st.integers(0, 95), levels)
def test_a_scale_of_as_many_whole_numbers_maps_one_to_one(low: int, number: int) -> None:
    bounds = thresholds({}, low, low + number - 1, number, Calibration.FIXED)
    found = [level_of(score, bounds) for score in range(low, low + number)]
    assert found == list(range(1, number + 1))


def test_fixed_levels_are_equal_parts_of_the_scale_whatever_floats_make_of_it() -> None:
    bounds = thresholds({}, 1, 5, 10, Calibration.FIXED)
    assert bounds == (1.4, 1.8, 2.2, 2.6, 3.0, 3.4, 3.8, 4.2, 4.6)
    means = [total / 5 for total in range(5, 26)]
    assert [level_of(mean, bounds) for mean in means] == [min(1 + place // 2, 10) for place in range(21)]


@given(histograms.filter(bool), levels)
def test_equal_levels_are_as_near_as_equal_scores_allow(histogram: dict[float, int], number: int) -> None:
    bounds = thresholds(histogram, 0, 1, number, Calibration.QUANTILE)
    total, largest = sum(histogram.values()), max(histogram.values())
    below = Counter[int]()
    for score, count in histogram.items():
        below[level_of(score, bounds)] += count
    for level in range(1, number):
        wanted = total * level / number
        assert abs(sum(below[lower] for lower in range(1, level + 1)) - wanted) <= largest


@given(st.integers(2, 400), levels)
def test_different_scores_make_levels_of_the_same_size(count: int, number: int) -> None:
    histogram = {rounded(score / 7): 1 for score in range(count)}
    bounds = thresholds(histogram, 0, 1, number, Calibration.QUANTILE)
    sizes = Counter(level_of(score, bounds) for score in histogram)
    assert sum(sizes.values()) == count
    if count >= number:
        assert max(sizes.values()) - min(sizes.get(level, 0) for level in range(1, number + 1)) <= 1


def test_without_scores_equal_levels_are_those_of_the_scale() -> None:
    assert thresholds({}, 1, 5, 5, Calibration.QUANTILE) == (1.5, 2.5, 3.5, 4.5)


@given(scores)
def test_a_score_and_its_rounding_have_one_level(score: float) -> None:
    assert rounded(rounded(score)) == rounded(score)
    assert rounded(score) == pytest.approx(score, rel=1e-5)
    bounds = (rounded(score),)
    assert level_of(score, bounds) == level_of(rounded(score), bounds) == 2
