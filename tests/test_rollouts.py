"""Figures of answers, against what a person computes on a small file."""

from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ixt_workloads.rollouts import Answered, distinct, figures, ks_of, pass_at

FILE = """\
prompt  prefix  right  score  cut  tokens  completion
a       Best    1      1.0    0    2       it is
a       Best    0      0.0    0    2       is it
a       Best    0      0.0    1    4       it it it it
a       Best    1      1.0    0    2       it is
b       Best    0      0.0    0    1       no
b       Best    0      -      0    0       .
b       Best    0      0.5    0    1       no
b       Best    0      0.0    0    1       no
a       None    1      1.0    0    1       yes
"""


def answers(text: str) -> list[Answered]:
    found = []
    for line in text.splitlines()[1:]:
        prompt, prefix, right, score, cut, tokens, completion = line.split(maxsplit=6)
        said = "" if completion == "." else completion
        number = None if score == "-" else float(score)
        found.append(Answered(prompt, prefix, said, right == "1", number, cut == "1", int(tokens)))
    return found


def test_figures_agree_with_a_computation_by_hand() -> None:
    found = figures(answers(FILE))
    best = found["Best"]
    # Of a 2 of 4 are right, of b none. pass@1 = (2/4 + 0) / 2; pass@2 = (1 - C(2,2)/C(4,2) + 0) / 2.
    assert best["passAt"] == {"1": 0.25, "2": pytest.approx(5 / 12), "4": 0.5}
    # Seven scores: 1 + 0 + 0 + 1 + 0 + 0.5 + 0.
    assert best["meanScore"] == pytest.approx(2.5 / 7)
    assert (best["prompts"], best["answers"], best["noVerdict"]) == (2, 8, 1)
    assert (best["meanTokens"], best["cut"], best["empty"]) == (13 / 8, 1 / 8, 1 / 8)
    # Words of a: "it", "is" of 10; of b: "no" of 3. Pairs of a: "it is", "is it", "it it" of 6; of b none.
    assert best["distinct"] == {"1": pytest.approx((2 / 10 + 1 / 3) / 2), "2": pytest.approx(3 / 6), "4": 1.0}
    assert best["items"] == [0.5, 0.0]
    assert found["None"]["passAt"] == {"1": 1.0}
    assert (best["sameAnswers"], found["None"]["sameAnswers"]) == (0, 1)


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_at_k_is_the_mean_over_all_choices_of_k_answers(right: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(right)))
    wanted = fmean(any(chosen) for chosen in combinations(right, k))
    assert pass_at(len(right), sum(right), k) == pytest.approx(wanted)


def test_pass_at_k_is_told_for_powers_of_two_and_all() -> None:
    assert [ks_of(number) for number in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]
    with pytest.raises(ValueError, match="pass@3 of 1 right answers of 2"):
        pass_at(2, 1, 3)


def test_texts_that_are_all_the_same_have_no_diversity() -> None:
    assert distinct(["a b c"] * 4, 1) == 0.25
    assert distinct(["", "one"], 2) is None
