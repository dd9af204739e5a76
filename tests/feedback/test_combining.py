"""Verifier and judge as one raw score, and when they or a critique cannot be believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ixt_workloads.contract.settings import Calibration, LevelFrom
from ixt_workloads.feedback.combining import SCALE, combined, contradicts, quotes, source_of
from ixt_workloads.feedback.levels import level_of, thresholds

SCORES = st.integers(1, 5)
LONG = "zero one two three four five six seven eight"
RUBRIC = (1.0, 5.0)


@given(liked=SCORES, disliked=SCORES, levels=st.integers(2, 10))
def test_no_wrong_answer_comes_before_a_right_one(liked: int, disliked: int, levels: int) -> None:
    bounds = thresholds({}, *SCALE, levels, Calibration.FIXED)
    wrong, right = (
        combined(LevelFrom.BOTH, verified, judged, RUBRIC)
        for verified, judged in ((0.0, liked), (1.0, disliked))
    )
    assert wrong is not None
    assert right is not None
    assert wrong < right
    assert level_of(wrong, bounds) < levels
    assert level_of(wrong, bounds) < level_of(right, bounds)


def test_five_levels_of_right_and_wrong() -> None:
    bounds = thresholds({}, *SCALE, 5, Calibration.FIXED)
    found = {
        (verified, judged): level_of(combined(LevelFrom.BOTH, verified, judged, RUBRIC) or 0, bounds)
        for verified in (0.0, 0.5, 1.0)
        for judged in (1, 3, 5)
    }
    assert found == {
        (0.0, 1): 1, (0.0, 3): 1, (0.0, 5): 2,
        (0.5, 1): 2, (0.5, 3): 3, (0.5, 5): 4,
        (1.0, 1): 4, (1.0, 3): 5, (1.0, 5): 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("source", "verified", "judged", "score"),
    [
        (LevelFrom.VERIFIER, 0.0, 5, 0.0),
        (LevelFrom.VERIFIER, None, 5, None),
        (LevelFrom.JUDGE, 0.0, 4, 0.75),
        (LevelFrom.JUDGE, 1.0, None, None),
        (LevelFrom.BOTH, None, 3, 0.5),
        (LevelFrom.BOTH, 1.0, None, 1.0),
        (LevelFrom.BOTH, None, None, None),
        (LevelFrom.JUDGE, None, 9, 1.0),
    ],
)
def test_what_is_not_known_is_not_made_up(
    source: LevelFrom, verified: float | None, judged: float | None, score: float | None
) -> None:
    assert combined(source, verified, judged, RUBRIC) == score


def test_levels_come_from_what_there_is() -> None:
    assert source_of(None, verified=True, judged=True) is LevelFrom.BOTH
    assert source_of(LevelFrom.JUDGE, verified=True, judged=True) is LevelFrom.JUDGE
    assert source_of(LevelFrom.BOTH, verified=True, judged=False) is LevelFrom.VERIFIER
    assert source_of(None, verified=False, judged=True) is LevelFrom.JUDGE


def test_a_judge_contradicts_a_verifier_beyond_the_middle_of_its_scale() -> None:
    found = [contradicts(right, score, RUBRIC) for right in (True, False) for score in (1, 2, 3, 4, 5)]
    assert found == [True, True, False, False, False, False, False, False, True, True]


@pytest.mark.parametrize(
    ("critique", "reference", "prompt", "quoted"),
    [
        ("The sum should be 42, not 41.", "42", "What is 40 + 2?", True),
        ("The sum is off by one.", "42", "What is 40 + 2?", False),
        ("It repeats 42 of the question.", "42", "Is 42 even?", False),
        ("It should be 3.14.", "3.14", "Pi?", True),
        ("It should be 3.145.", "3.14", "Pi?", False),
        ("Nothing at all.", "!!", "?", False),
        ("As it says, one two three four five six seven eight nine.", LONG,
         "?", True),
        ("It has one two three four five six seven right.", LONG, "?",
         False),
    ],
)  # fmt: skip
def test_a_critique_may_not_hold_the_answer(critique: str, reference: str, prompt: str, quoted: bool) -> None:
    assert quotes(critique, reference, prompt) is quoted
