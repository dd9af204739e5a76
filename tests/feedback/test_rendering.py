"""Feedback as text: what stands before a document, and in a conversation's system text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ixt_workloads.contract.rubrics import BUILTIN_RUBRICS
from ixt_workloads.contract.settings import FeedbackFormat
from ixt_workloads.feedback.rendering import SEPARATOR, clean, conditioned, ends, prefix, said

turns = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": st.text()}),
    max_size=4,
)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (FeedbackFormat.TOKEN, "Quality: 4/5\n\n"),
        (FeedbackFormat.CRITIQUE, "Critique: Sound but dry.\n\n"),
        (FeedbackFormat.TOKEN_AND_CRITIQUE, "Quality: 4/5\nCritique: Sound but dry.\n\n"),
        (FeedbackFormat.AXES, "Scores: Sound but dry.\n\n"),
    ],
)
def test_a_prefix_reads(form: FeedbackFormat, text: str) -> None:
    assert prefix(form, 4, 5, "Sound\nbut dry. ") == text


def test_axes_are_shown_as_text_and_their_ends_are_those_of_the_scale() -> None:
    feedback = {"critique": "Sound.", "axes": '{"writing_style": 4, "expertise": 2}'}
    assert said(FeedbackFormat.AXES, feedback) == "writing style 4, expertise 2"
    assert said(FeedbackFormat.AXES, {"critique": "", "axes": "{}"}) == ""
    best, worst = ends(FeedbackFormat.AXES, BUILTIN_RUBRICS["code"])
    assert best == "writing style 5, expertise 5, educational value 5, correctness 5, efficiency 5"
    assert worst == best.replace("5", "1")


@given(st.text(), st.sampled_from(FeedbackFormat))
def test_a_prefix_ends_at_its_only_blank_line(critique: str, form: FeedbackFormat) -> None:
    """So that a document never reads as feedback, nor feedback as part of a document."""
    text = prefix(form, 1, 5, critique)
    assert text.endswith(SEPARATOR) and text.count(SEPARATOR) == 1
    assert len(text.splitlines()) == 3 if form is FeedbackFormat.TOKEN_AND_CRITIQUE else 2
    assert clean(clean(critique)) == clean(critique)


@given(turns, st.text(st.characters(exclude_characters="\n"), min_size=1))
def test_feedback_opens_the_system_text_and_changes_nothing_else(
    messages: list[dict[str, str]], feedback: str
) -> None:
    before = [dict(message) for message in messages]
    found = conditioned(messages, feedback + SEPARATOR)
    assert messages == before
    own = messages[0]["content"] if messages and messages[0]["role"] == "system" else None
    rest = messages if own is None else messages[1:]
    wanted = f"{feedback}\n\n{own}" if own else feedback
    assert found == [{"role": "system", "content": wanted}, *rest]
