"""Whatever bytes somebody else wrote: every parser of them answers, or refuses in its own words.

Longer and guided by what the code does: `python -m fuzz` (tests/fuzz).
"""

import json
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make import bombs
from make.parsers import PARSERS

from ixt_workloads.contract.foreign import answer_of, listed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NOISE = (b"[", b'{"":', b"}", b"\x00", b"\xff", b"\x1b[", b"-", b"*a", b"9" * 400, b"\\ud800", b"NaN", b'"')


@st.composite
def mutations(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A seed of which parts are cut out, repeated or replaced."""
    content = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        begin = draw(st.integers(0, len(content)))
        end = draw(st.integers(begin, min(len(content), begin + 12)))
        new = draw(st.sampled_from(NOISE) | st.just(content[begin:end] * 3) | JSON.map(_written))
        content = content[:begin] + new + content[end:]
    return content


def _written(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("name", PARSERS)
def test_any_bytes_are_read_or_refused(name: str) -> None:
    parser = PARSERS[name]

    @settings(max_examples=60)
    @given(mutations(parser.seeds) | JSON.map(_written) | st.binary(max_size=64))
    def tried(content: bytes) -> None:
        with suppress(*parser.refusals):
            parser.read(content)

    tried()


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize(
    "bomb", [b"[" * 100_000, b'{"a":' * 20_000, b"9" * 100_000, b"- " * 50_000, b'"' * 99_999]
)
def test_a_bomb_is_read_or_refused(name: str, bomb: bytes) -> None:
    parser = PARSERS[name]
    with suppress(*parser.refusals):
        parser.read(bomb)


def test_what_a_parser_is_tried_with_is_mostly_what_it_reads() -> None:
    """Else nothing behind the first check would be tried."""
    read = 0
    for parser in PARSERS.values():
        try:
            parser.read(parser.seeds[0])
        except parser.refusals:
            continue
        read += 1
    assert read >= len(PARSERS) - 3


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=3), st.lists(JSON, max_size=4), st.booleans())
def test_a_list_is_the_same_object_by_object(others: dict[str, Any], items: list[Any], spaced: bool) -> None:
    content = json.dumps({**others, "items": items, "z": 1}, indent=1 if spaced else None).encode()
    whole = answer_of(content)
    assert repr(listed(content, lambda item: item)) == repr(whole)
    assert len(listed(content, lambda item: None)["items"]) == len(items)


def test_a_list_of_many_values_is_built_an_object_at_a_time() -> None:
    """A page of what a tenant may write; as a whole it takes 35 MiB."""
    item = f'{{"spec":{bombs.wide(100_000)}}}'
    content = f'{{"items":[{",".join([item] * 5)}]}}'.encode()
    tracemalloc.start()
    try:
        assert listed(content, lambda item: len(item["spec"]))["items"] == [100_000] * 5
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 20 * 2**20


def test_what_is_deep_is_cut_out_of_many_values() -> None:
    content = f"[{bombs.wide(100_000)},{'[' * 250}{']' * 250},{bombs.wide(100_000)}]".encode()
    first, deep, last = answer_of(content)
    assert first == last == [[]] * 100_000
    assert json.dumps(deep) == "[" * 99 + "null" + "]" * 99
