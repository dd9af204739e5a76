"""Prompts of the usual data sets, from a row to what verifiers are told."""

import json
from datetime import date
from typing import Any

import pytest
from make.corpora import dataset

from ixt_workloads.data.chat import Unusable
from ixt_workloads.data.prompts import Prompt, prompt_of, told_of

USER = [{"role": "user", "content": "2 + 2 ="}]


def read(row: dict[str, Any], *, needs_reference: bool = True, **fields: Any) -> Prompt:
    return prompt_of(dataset("s3://b/p", **fields), row, needs_reference=needs_reference)


ROWS: dict[str, tuple[dict[str, Any], Any]] = {
    "plain": ({"prompt": "2 + 2 =", "answer": "4"}, "4"),
    "a number": ({"prompt": "2 + 2 =", "ground_truth": 4}, 4),
    "verl": (
        {
            "data_source": "openai/gsm8k",
            "prompt": USER,
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": "4"},
            "extra_info": {"index": 3},
        },
        "4",
    ),
    "SkyRL": (
        {"prompt": USER, "env_class": "gsm8k", "reward_spec": {"method": "rule", "ground_truth": "4"}},
        "4",
    ),
    "several answers": ({"prompt": USER, "answer": ["4", "four"]}, ["4", "four"]),
    "empty answer beside another": ({"prompt": USER, "answer": " ", "solution": "4"}, "4"),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_read_as_its_data_set_means_it(name: str) -> None:
    row, reference = ROWS[name]
    found = read(row)
    assert (found.turns, found.reference) == (USER, reference)
    assert found.plain == isinstance(row["prompt"], str)
    assert json.loads(found.answer_json() or "") == reference
    columns = {key: value for key, value in row.items() if key != "prompt"}
    assert told_of(found.extra_json()) == (columns, found.plain)


def test_fields_may_have_other_names() -> None:
    row = {"question": "2 + 2 =", "meta": {"right": {"is": "4"}}, "answer": "not this"}
    found = read(row, prompt_field="question", answer_field="meta.right.is")
    assert (found.turns, found.reference) == (USER, "4")
    dotted = {"prompt": "2 + 2 =", "reward_model.ground_truth": "4"}
    assert read(dotted).reference == "4"


UNUSABLE: dict[str, dict[str, Any]] = {
    "noPrompt": {"answer": "4"},
    "noPrompt ": {"prompt": " \n", "answer": "4"},
    "noPrompt  ": {"prompt": [], "answer": "4"},
    "noPrompt   ": {"prompt": [{"role": "system", "content": "Add."}], "answer": "4"},
    "noAnswer": {"prompt": "2 + 2 =", "reward_model": {"style": "rule"}},
    "endsWithAnswer": {"prompt": [*USER, {"role": "assistant", "content": "4"}], "answer": "4"},
    "notText": {
        "prompt": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
        "answer": "4",
    },
}


@pytest.mark.parametrize("reason", UNUSABLE)
def test_a_row_that_cannot_be_asked_has_a_reason(reason: str) -> None:
    with pytest.raises(Unusable) as refused:
        read(UNUSABLE[reason])
    assert str(refused.value) == reason.strip()


def test_a_prompt_needs_an_answer_only_where_the_verifier_does() -> None:
    assert read({"prompt": "Say hello."}, needs_reference=False).answer_json() is None


def test_what_is_no_prompt_is_told_with_its_field() -> None:
    with pytest.raises(ValueError, match="field 'prompt' must be a list of turns"):
        read({"prompt": 7, "answer": "4"})
    with pytest.raises(ValueError, match="field 'prompt' turn 1 has role 'robot'"):
        read({"prompt": [{"role": "robot", "content": "?"}], "answer": "4"})


def test_columns_hold_what_json_can() -> None:
    row = {
        "prompt": "?",
        "when": date(2026, 5, 1),
        "image": b"\xff",
        "odd": float("nan"),
        "n": {"a": (1, b"x")},
    }
    columns, _ = told_of(read(row, needs_reference=False).extra_json())
    assert columns == {"when": "2026-05-01", "image": None, "odd": None, "n": {"a": [1, None]}}
