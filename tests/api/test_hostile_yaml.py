"""YAML that is small and becomes large, deep or slow: refused before anything is built of it."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ixt_operator.manifests.documents import MAX_DEPTH, RefusedError, dump, scalar, yaml_documents
from ixt_operator.manifests.loading import load, loads
from ixt_operator.manifests.problems import MAX_BYTES, ManifestError

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{after}: &{after} [{','.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdef", "bcdefg", strict=True)
)
BOMBS = {
    "aliases": LAUGHS,
    "brackets": "[" * 100_000,
    "braces": "{a: " * 100_000,
    "dashes": "- " * 100_000,
    "questions": "? " * 100_000,
    "merges": "a: {<<: [{b: 1}, {c: 2}]}\n",
    "merge by tag": "a: {!!merge b: {c: 1}}\n",
    "own alias": "&a [*a]\n",
    "documents": "--- a\n" * 100_000,
}


def values(text: str) -> list[Any]:
    return [document.value for document in yaml_documents(text)]


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_at_once(bomb: str) -> None:
    began = time.process_time()
    with pytest.raises(RefusedError):
        values(bomb)
    with pytest.raises(ManifestError):
        loads(bomb, "run.yaml", Path("/"))
    assert time.process_time() - began < 2.0


def test_as_many_levels_as_a_manifest_needs_are_read() -> None:
    assert values("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    with pytest.raises(RefusedError, match="levels"):
        values("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))


@pytest.mark.parametrize("number", ["9" * 5000, "0x" + "f" * 60_000, ":".join(["59"] * 20_000)])
def test_a_number_of_many_digits_is_text(number: str) -> None:
    assert values(f"a: {number}") == [{"a": number}]


def test_a_quoted_merge_key_is_a_name() -> None:
    assert values("{'<<': 1}") == [{"<<": 1}]


def test_a_long_file_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("#" * (MAX_BYTES + 1))
    with pytest.raises(ManifestError, match="has more than 1,048,576 bytes"):
        load(file)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab1:-[]{},&*<!?|>'\"#\n \t%@`~.=_", max_size=60))
@example("- - - *a")
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = values(text)
    except yaml.YAMLError:
        return
    for value in found:
        assert values(dump(value)) == ([value] if value is not None else [])


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_scalar_is_a_value(text: str) -> None:
    scalar(text)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"Great \ud83d\ude00\uD83D\uDE80", "Great 😀🚀"),
        (r"\\ud83d\\ude00", r"\ud83d\ude00"),
        (r"a\\\ud83d\ude00", "a\\😀"),
        (r"\u00e9\n", "é\n"),
    ],
)
def test_a_character_that_json_escapes_in_two_halves_is_read(written: str, read: str) -> None:
    assert json.loads(f'"{written}"') == read
    assert values(f'{{"a":\n "{written}"}}') == [{"a": read}]


def test_a_half_alone_is_refused() -> None:
    with pytest.raises(yaml.YAMLError, match="invalid Unicode character escape code"):
        values(r'{"a": "\ud83d"}')
