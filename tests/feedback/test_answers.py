"""What a judge is asked and which answers count."""

import json
import re

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ixt_operator.api.judge import RubricSpec
from ixt_workloads.contract.rubrics import BUILTIN_RUBRICS, DocumentForm, RubricText
from ixt_workloads.feedback.answers import Feedback, Rejected, copied, messages, parse, schema

RUBRIC = RubricText(
    instructions="Judge.",
    axes=("style", "depth"),
    min_score=1,
    max_score=5,
    ideal_critique="Good.",
    worst_critique="Bad.",
)


def answer(**changes: object) -> str:
    return json.dumps({"critique": "Fine.", "style": 4, "depth": 1, **changes})


def test_a_bare_document_follows_the_instructions_after_a_blank_line() -> None:
    bare = RUBRIC.model_copy(update={"document": DocumentForm.BARE})
    assert messages(bare, "Text\n\nmore") == [{"role": "user", "content": "Judge.\n\nText\n\nmore"}]


def test_a_system_text_stands_before_the_users_turn() -> None:
    first, second = messages(RUBRIC, "text", "Be strict.")
    assert first == {"role": "system", "content": "Be strict."}
    assert [second] == messages(RUBRIC, "text")


def test_the_critique_comes_before_the_scores_that_follow_from_it() -> None:
    assert list(schema(RUBRIC)["properties"]) == ["critique", "style", "depth"]
    assert list(
        schema(RubricText(instructions="J", ideal_critique="g", worst_critique="b"))["properties"]
    ) == [
        "critique",
        "score",
    ]


def test_a_valid_answer_becomes_feedback_with_the_mean_as_its_score() -> None:
    assert parse(answer(), "stop", RUBRIC) == Feedback("Fine.", {"style": 4, "depth": 1})
    assert Feedback("Fine.", {"style": 4, "depth": 1}).score == 2.5


def test_control_characters_that_a_grammar_let_through_become_spaces() -> None:
    raw = '{"critique": " Two\n\tlines \x00here ", "style": 1, "depth": 5}'
    found = parse(raw, "stop", RUBRIC)
    assert isinstance(found, Feedback)
    assert found.critique == "Two lines here"


@pytest.mark.parametrize(
    ("content", "finish", "reason"),
    [
        (answer(), "length", "ended by length"),
        (answer(), "MAX_TOKENS", "ended by MAX_TOKENS"),
        (answer(), "content_filter", "ended by content_filter"),
        (None, "stop", "empty"),
        ("", "stop", "empty"),
        ("I like it", "stop", "not JSON"),
        ("[" * 100_000, "stop", "not JSON"),
        ("9" * 5000, "stop", "not JSON"),
        ("[]", "stop", "not an object"),
        (answer(more=1), "stop", "not an object"),
        (answer(critique=" \n"), "stop", "critique is empty"),
        (answer(critique="\ud800"), "stop", "Unicode"),
        (answer(critique=3), "stop", "not a string"),
        (answer(style=6), "stop", "style is not an integer from 1 to 5"),
        (answer(depth=0), "stop", "depth"),
        (answer(depth=True), "stop", "depth"),
        (answer(depth=2.0), "stop", "depth"),
        (answer(depth="3"), "stop", "depth"),
    ],
)
def test_a_bad_answer_is_rejected_with_its_reason(content: str | None, finish: str, reason: str) -> None:
    found = parse(content, finish, RUBRIC)
    assert isinstance(found, Rejected)
    assert reason in found.reason


@pytest.mark.parametrize("finish", ["stop", "end_turn", "eos", "STOP", None])
def test_an_answer_that_is_whole_counts_however_its_end_is_called(finish: str | None) -> None:
    assert isinstance(parse(answer(), finish, RUBRIC), Feedback)


scores = st.one_of(st.integers(-3, 9), st.booleans(), st.floats(), st.text(max_size=3), st.none())
objects = st.fixed_dictionaries(
    {"critique": st.one_of(st.text(), st.none()), "style": scores, "depth": scores}
)


@given(st.one_of(st.text(), objects.map(json.dumps)), st.sampled_from(["stop", "length", None]))
def test_parse_never_raises_and_never_accepts_what_the_schema_refuses(
    content: str, finish: str | None
) -> None:
    found = parse(content, finish, RUBRIC)
    if isinstance(found, Feedback):
        assert finish != "length"
        jsonschema.validate(json.loads(content, strict=False), schema(RUBRIC))
        assert all(1 <= score <= 5 for score in found.axes.values())
        found.critique.encode()


@given(st.text(), st.integers(1, 5), st.integers(1, 5))
def test_every_printable_critique_comes_through(critique: str, style: int, depth: int) -> None:
    found = parse(answer(critique=critique, style=style, depth=depth), "stop", RUBRIC)
    assert isinstance(found, Feedback) == bool(critique.strip("".join(map(chr, [*range(33), 127]))).strip())


def test_copied_counts_runs_of_eight_words_whatever_their_case_and_punctuation() -> None:
    document = "The cat, the dog and the bird sat on a mat."
    assert copied("the CAT the dog and the bird sat; indeed", document) == (1, 2)
    assert copied("entirely new words about an animal story from home", document) == (0, 2)
    assert copied("too short to tell", document) == (0, 0)


def test_a_run_is_not_found_inside_longer_words() -> None:
    assert copied("a b c d e f g h", "xa b c d e f g hx") == (0, 1)


def test_builtin_rubrics_have_a_schema_that_is_valid() -> None:
    for rubric in BUILTIN_RUBRICS.values():
        jsonschema.Draft202012Validator.check_schema(schema(rubric))


@pytest.mark.parametrize("name", ["web", "code", "math", "chat"])
def test_rubrics_of_a_field_describe_five_axes_in_words_and_forbid_quotes(name: str) -> None:
    rubric = BUILTIN_RUBRICS[name]
    assert len(set(rubric.axes)) == 5
    for axis in rubric.axes:
        (line,) = [line for line in rubric.instructions.splitlines() if line.startswith(f"- {axis}. ")]
        assert re.search(r"\b1: .+ 3: .+ 5: ", line)
    assert "may not quote" in rubric.instructions
    for critique in (rubric.ideal_critique, rubric.worst_critique):
        assert len(critique.split()) > 20


def test_a_run_may_name_each_builtin_rubric() -> None:
    for name, rubric in BUILTIN_RUBRICS.items():
        assert RubricSpec.model_validate({"builtin": name}).text() == rubric
