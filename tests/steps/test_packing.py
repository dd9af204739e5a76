"""Packing: every token once and in order, no row too long, and hardly anything wasted."""

import random
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ixt_workloads.steps.prepare.packing import SMALLEST_CUT, WASTE, Segment, pack

CAPACITY = 64

lengths = st.lists(st.tuples(st.integers(0, CAPACITY - SMALLEST_CUT), st.integers(0, 400)), max_size=60)


def used(row: list[Segment], prefixes: list[int]) -> int:
    return sum(prefixes[segment.document] + segment.end - segment.start for segment in row)


@given(lengths)
def test_every_token_comes_once_and_in_order(documents: list[tuple[int, int]]) -> None:
    prefixes, bodies = [prefix for prefix, _ in documents], [body for _, body in documents]
    rows = pack(prefixes, bodies, CAPACITY, cut=True)
    parts = defaultdict(list)
    for row in rows:
        assert row
        assert used(row, prefixes) <= CAPACITY
        for segment in row:
            assert segment.start < segment.end
            parts[segment.document].append((segment.start, segment.end))
    for document, body in enumerate(bodies):
        ends = 0
        for start, end in sorted(parts[document]):
            assert start == ends
            ends = end
        assert ends == body


@given(lengths)
def test_a_document_is_cut_only_where_it_pays(documents: list[tuple[int, int]]) -> None:
    prefixes, bodies = [prefix for prefix, _ in documents], [body for _, body in documents]
    rows = pack(prefixes, bodies, CAPACITY, cut=True)
    cuts = [segment for row in rows for segment in row if segment.end < bodies[segment.document]]
    assert all(segment.end - segment.start >= SMALLEST_CUT for segment in cuts)
    # Whatever is cut fills its row to the last token.
    for row in rows:
        if any(segment in cuts for segment in row):
            assert used(row, prefixes) == CAPACITY


conversations = st.lists(st.integers(1, CAPACITY), max_size=60)


@given(conversations)
def test_conversations_are_never_cut(bodies: list[int]) -> None:
    rows = pack([0] * len(bodies), bodies, CAPACITY, cut=False)
    assert sorted(segment for row in rows for segment in row) == [
        Segment(document, 0, body) for document, body in enumerate(bodies)
    ]
    full = [used(row, [0] * len(bodies)) for row in rows]
    assert all(0 < size <= CAPACITY for size in full)
    # Best fit: what is left of two rows never adds up to a row.
    assert sum(size <= CAPACITY / 2 for size in full) <= 1


def web(dice: random.Random) -> int:
    return int(dice.lognormvariate(6.2, 1.1)) + 1


def books(dice: random.Random) -> int:
    return int(dice.lognormvariate(8.5, 0.5))


def lines(dice: random.Random) -> int:
    return dice.randrange(60, 230)


def equal(_: random.Random) -> int:
    return 150


@pytest.mark.parametrize("annotated", [0.0, 0.15, 0.5])
@pytest.mark.parametrize("bodies", [web, books, lines, equal], ids=lambda made: str(made.__name__))
@pytest.mark.parametrize("number", [512, 4096])
def test_at_most_one_percent_is_wasted(bodies: object, annotated: float, number: int) -> None:
    """Also with prefixes that are long for their rows."""
    assert callable(bodies)
    dice = random.Random(0)
    capacity = 2048 if bodies in (web, books) else 256
    long = (40, 256) if capacity == 2048 else (20, 60)
    prefixes = [dice.randrange(*long) if dice.random() < annotated else 1 for _ in range(number)]
    rows = pack(prefixes, [bodies(dice) for _ in range(number)], capacity, cut=True)
    total = sum(used(row, prefixes) for row in rows)
    assert total > (1 - WASTE) * capacity * len(rows)


def test_what_repeats_least_is_cut() -> None:
    """Of documents that do not fit, not the one with feedback."""
    rows = pack([1, 20, 1], [40, 41, 40], CAPACITY, cut=True)
    cut = {segment.document for row in rows for segment in row if segment.start}
    assert cut and 1 not in cut
