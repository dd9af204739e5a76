"""Best-fit packing of documents into rows of equal length. Pure.

Best fit, longest first, as in "Fewer Truncations Improve Language Modeling" (arXiv 2404.10830): a document is
cut only when it is longer than a row, or when what would be left of a row is worth more than a cut.
"""

from bisect import bisect_right, insort
from collections.abc import Sequence
from typing import NamedTuple

WASTE = 0.01
"""Share of a row that may stay empty before a document is cut to fill it."""
SMALLEST_CUT = 16
"""Tokens of a document that a cut must bring, since each part repeats the prefix."""


class Segment(NamedTuple):
    """Part of a document in a row: tokens [start, end) of its body, behind its prefix."""

    document: int
    start: int
    end: int


def pack(prefixes: Sequence[int], bodies: Sequence[int], capacity: int, *, cut: bool) -> list[list[Segment]]:
    """Rows of segments. `prefixes` and `bodies` are lengths in tokens by document; every part of a document
    has its prefix in front, so a row holds the sum of both.

    Without `cut`, bodies must fit; with it, prefixes must leave room for SMALLEST_CUT.
    """
    rows: list[list[Segment]] = []
    # Pieces that wait, by size and then by document; the last one is the longest.
    waiting: list[tuple[int, int, int]] = []
    for document, (prefix, body) in enumerate(zip(prefixes, bodies, strict=True)):
        start = 0
        while prefix + body - start > capacity:
            rows.append([Segment(document, start, start + capacity - prefix)])
            start += capacity - prefix
        if start < body:
            waiting.append((prefix + body - start, document, start))
    waiting.sort()
    allowed = int(capacity * WASTE)
    while waiting:
        row: list[Segment] = []
        room = capacity
        while waiting:
            place = bisect_right(waiting, (room, len(bodies), 0)) - 1
            if place >= 0:
                size, document, start = waiting.pop(place)
                row.append(Segment(document, start, bodies[document]))
                room -= size
                continue
            _, document, start = waiting[-1]
            taken = room - prefixes[document]
            if not cut or room <= allowed or taken < SMALLEST_CUT:
                break
            waiting.pop()
            row.append(Segment(document, start, start + taken))
            start += taken
            insort(waiting, (prefixes[document] + bodies[document] - start, document, start))
            break
        rows.append(row)
    return rows
