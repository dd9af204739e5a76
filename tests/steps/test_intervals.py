"""Intervals of comparisons: against sums by hand, and how often they hold what is true."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ixt_workloads.contract.settings import Method
from ixt_workloads.steps.report.curves import Curve
from ixt_workloads.steps.report.fair import Lines, at_equal_flops
from ixt_workloads.steps.report.intervals import Pair, Samples, of_gain, of_ratio
from ixt_workloads.steps.report.measure import Measure
from ixt_workloads.steps.report.verdict import Contender, judge


def samples(*tasks: list[float]) -> Samples:
    """Right answers of each task."""
    return tuple(np.array([task, np.ones(len(task))], float) for task in tasks)


def test_the_interval_of_four_questions_is_that_of_all_their_draws() -> None:
    """All 256 draws of four questions with replacement, counted out."""
    arm, baseline = [1, 1, 1, 0], [0, 1, 0, 0]
    gains = [a - b for a, b in zip(arm, baseline, strict=True)]
    every = sorted(sum(gains[place] for place in draw) / 4 for draw in product(range(4), repeat=4))
    low, high = np.quantile(every, [0.025, 0.975])
    found = of_gain([Pair((samples(arm),), (samples(baseline),))])
    assert found
    assert (found.low, found.high) == (low, high) == (0.0, 1.0)


def test_questions_that_both_arms_answer_alike_add_no_doubt() -> None:
    """Only what differs does: what is common to both is drawn for both at once."""
    hard = [0, 1] * 100
    better = [1] * 10 + hard[10:]
    found = of_gain([Pair((samples(better),), (samples(hard),))])
    assert found and found.low is not None and found.high is not None
    assert 0 < found.low < 5 / 200 < found.high < 0.06


def test_tasks_weigh_alike_however_many_questions_they_have() -> None:
    """By hand: the standard error is half of the root of the sum of both tasks' variances of the mean."""
    random = np.random.default_rng(1)
    small, large = random.integers(0, 2, 50).tolist(), random.integers(0, 2, 2000).tolist()
    nothing = samples([0] * 50, [0] * 2000)
    found = of_gain([Pair((samples(small, large),), (nothing,))])
    assert found and found.low is not None and found.high is not None
    error = 0.5 * (np.var(small) / 50 + np.var(large) / 2000) ** 0.5
    middle = (np.mean(small) + np.mean(large)) / 2
    assert found.low == pytest.approx(middle - 1.96 * error, abs=0.25 * error)
    assert found.high == pytest.approx(middle + 1.96 * error, abs=0.25 * error)


def test_it_is_the_same_each_time() -> None:
    random = np.random.default_rng(0)
    pairs = [Pair((samples(random.random(30).tolist()),), (samples([0.5] * 30),)) for _ in range(3)]
    assert of_gain(pairs) == of_gain(pairs)


def test_arms_of_which_other_items_are_known_have_none() -> None:
    assert of_gain([Pair((samples([1, 0]),), (samples([1, 0, 1]),))]) is None
    assert of_gain([Pair((samples([]),), (samples([]),))]) is None


@settings(max_examples=6)
@given(
    seeds=st.sampled_from([1, 2, 3, 5]),
    of_seeds=st.sampled_from([0.0, 0.02, 0.1]),
    gain=st.sampled_from([0.0, 0.1]),
    number=st.integers(0, 1000),
)
def test_nineteen_of_twenty_intervals_hold_the_truth(
    seeds: int, of_seeds: float, gain: float, number: int
) -> None:
    """Questions of all difficulties, seeds that differ: how many of 60 intervals miss is binomial, and more
    than 16 percent of them hardly ever do. With one seed the truth is that of the seed."""
    random = np.random.default_rng(number)
    missed = 0
    for _ in range(60):
        ease = random.uniform(0.3, 0.6, 200)
        pairs, truths = [], []
        for _ in range(seeds):
            shift = gain + random.normal(0, of_seeds)
            chances = ease, np.clip(ease + shift, 0, 1)
            base, arm = ((random.random(200) < chance).astype(float).tolist() for chance in chances)
            pairs.append(Pair((samples(arm),), (samples(base),)))
            truths.append(np.mean(chances[1] - chances[0]))
        # Of several seeds the gain of seeds yet to come, of one that of the seed.
        truth = truths[0] if seeds == 1 else gain
        found = of_gain(pairs, draws=400)
        assert found and found.low is not None and found.high is not None
        missed += not found.low <= truth <= found.high
    assert missed <= 9


def curve(*quality: float, noise: int = 0) -> tuple[Curve, tuple[Samples, ...]]:
    """Evaluations after 1, 2, ... FLOPs with 400 questions, of which so many are answered by chance."""
    random = np.random.default_rng(noise)
    found = []
    for value in quality:
        right = np.zeros(400)
        right[: round(400 * value)] = 1
        found.append(samples(random.permutation(right).tolist() if noise else right.tolist()))
    return Curve(tuple(range(1, len(quality) + 1)), quality), tuple(found)


def lines(*quality: float, stable: bool = True) -> Lines:
    drawn, made_of = curve(*quality)
    return Lines(drawn, drawn if stable else None, made_of)


def test_the_ratio_has_an_interval_around_it() -> None:
    pair = lines(0.2, 0.6, 0.8, 0.8), lines(0.2, 0.3, 0.5, 0.6)
    found = at_equal_flops([pair[0]], [pair[1]], [pair])
    interval = found.ratio_interval
    assert found.flops_ratio == pytest.approx(0.5)
    assert interval and interval.low is not None and interval.high is not None
    assert 0.3 < interval.low <= found.flops_ratio <= interval.high < 0.9


def test_a_quality_that_many_draws_do_not_reach_has_no_upper_end() -> None:
    _, arm = curve(0.2, 0.5, 0.59, noise=1)
    _, baseline = curve(0.2, 0.5, 0.6, noise=2)
    found = of_ratio([Pair(arm, baseline)], ((1, 2, 3), (1, 2, 3)), 0.0)
    assert found
    assert found.high is None
    assert found.low is not None


def test_curves_in_mid_schedule_are_not_compared_and_it_is_said_why() -> None:
    arm, baseline = lines(0.2, 0.6, 0.8, stable=False), lines(0.2, 0.3, 0.5, 0.6, stable=False)
    found = at_equal_flops([arm], [baseline], [(arm, baseline)])
    assert found.gain is None
    assert found.flops_ratio is None
    assert "mid-schedule" in found.why_no_gain
    ixt = Contender("ixt", Method.CONDITIONED, "Best", 0, {0: arm.curve}, {0: arm})
    plain = Contender("plain", Method.NEXT_TOKEN, "None", 0, {0: baseline.curve}, {0: baseline})
    said = judge([plain, ixt], Measure.ACCURACY).headline
    assert said.startswith("The curves end at different FLOPs, and the learning rate falls over the whole")
    assert "ixt (asked for the best) ends at 0.80 accuracy" in said


def test_the_ends_of_schedules_are_compared_and_costs_in_mid_schedule_are_not() -> None:
    arm, baseline = lines(0.2, 0.6, 0.8, stable=False), lines(0.2, 0.3, 0.5, stable=False)
    found = at_equal_flops([arm], [baseline], [(arm, baseline)])
    assert (found.gain, found.at_ends, found.flops_ratio) == (pytest.approx(0.3), True, None)
    assert found.word == "better"
    ixt = Contender("ixt", Method.CONDITIONED, "Best", 0, {0: arm.curve}, {0: arm})
    plain = Contender("plain", Method.NEXT_TOKEN, "None", 0, {0: baseline.curve}, {0: baseline})
    verdict = judge([plain, ixt], Measure.ACCURACY)
    assert "where both end, ixt (asked for the best) reaches 0.80 accuracy against 0.50" in verdict.headline
    assert "(better: a gain of 0.30, 95 % interval 0.2" in verdict.headline
    assert "How many FLOPs the same quality takes is not told" in verdict.notes[0]


@pytest.mark.parametrize(
    ("ends", "word"), [((0.8, 0.5), "better"), ((0.5, 0.8), "worse"), ((0.502, 0.5), "no difference shown")]
)
def test_the_words_follow_from_the_interval(ends: tuple[float, float], word: str) -> None:
    made = [curve(0.2, end, noise=seed) for seed, end in enumerate(ends, 1)]
    pair = tuple(Lines(drawn, drawn, made_of) for drawn, made_of in made)
    assert at_equal_flops([pair[0]], [pair[1]], [(pair[0], pair[1])]).word == word


def test_over_fitting_is_no_spread_and_its_loss_has_no_equal_quality() -> None:
    falls = (0.1, 0.5, 0.6, 0.55, 0.5, 0.45, 0.4)
    drawn = Curve(tuple(range(1, 8)), falls)
    plain = Contender("plain", Method.NEXT_TOKEN, "None", 0, {0: drawn}, rises=True)
    ixt = Contender("ixt", Method.CONDITIONED, "Best", 0, {0: drawn})
    assert plain.band.spread == pytest.approx(0)
    found = judge([plain, ixt], Measure.LOG_PROBABILITY)
    assert found.comparisons["ixt"].flops_ratio is None
    assert found.comparisons["ixt"].gain == 0, "the ends are compared all the same"
    assert found.notes[0] == (
        "How many FLOPs the same quality takes is not told: the held-out loss of plain rises before its end."
    )
    assert not found.equal_quality
    by_accuracy = judge([plain, ixt], Measure.ACCURACY)
    assert by_accuracy.comparisons["ixt"].flops_ratio == 1
