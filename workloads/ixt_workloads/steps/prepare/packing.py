"""Best-fit packing of documents into rows of equal length. Pure.

Best fit, longest first, as in "Fewer Truncations Improve Language Modeling" (arXiv 2404.10830): a document is
cut only when it is longer than a row, or when what would be left of a row is worth more than a cut.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

WASTE = 0.01
"""Share of a row that may stay empty before a document is cut to fill it."""
SMALLEST_CUT = 8
"""Tokens of a document that a cut must bring, since each segment repeats the prefix."""


class Segment(NamedTuple):
    """What a row holds of a document: its prefix, then the tokens [start, end) of its body."""

    document: int
    start: int
    end: int


def pack(prefixes: Sequence[int], bodies: Sequence[int], capacity: int, *, cut: bool) -> list[list[Segment]]:
    """Rows of segments. `prefixes` and `bodies` are lengths in tokens by document; every segment has the
    document's prefix in front.

    Without `cut`, documents must fit; with it, prefixes must leave room for SMALLEST_CUT.
    """
    rows: list[list[Segment]] = []
    # Pieces that wait: their size with the prefix, their document, and where in it they start.
    waiting: list[tuple[int, int, int]] = []
    for document, (prefix, body) in enumerate(zip(prefixes, bodies, strict=True)):
        start = 0
        while prefix + body - start > capacity:
            rows.append([Segment(document, start, start + capacity - prefix)])
            start += capacity - prefix
        if start < body:
            waiting.append((prefix + body - start, document, start))
    waiting.sort()
    # The same pieces as they are best cut: what repeats little, and of that the longest. Those that no
    # longer wait are passed over when they come up.
    starts = {document: start for _, document, start in waiting}
    to_cut = [(prefixes[document], -size, document, start) for size, document, start in waiting]
    heapify(to_cut)

    while waiting:
        row: list[Segment] = []
        room = capacity
        while (place := bisect_right(waiting, (room, len(bodies), 0)) - 1) >= 0:
            size, document, start = waiting.pop(place)
            row.append(Segment(document, start, bodies[document]))
            del starts[document]
            room -= size
        rows.append(row)
        if not (cut and waiting) or room <= int(capacity * WASTE):
            continue
        while starts.get(to_cut[0][2]) != to_cut[0][3]:
            heappop(to_cut)
        prefix, minus_size, document, start = to_cut[0]
        taken = room - prefix
        if taken < SMALLEST_CUT:
            continue
        row.append(Segment(document, start, start + taken))
        del waiting[bisect_left(waiting, (-minus_size, document, start))]
        rest = -minus_size - taken
        insort(waiting, (rest, document, start + taken))
        heappush(to_cut, (prefix, -rest, document, start + taken))
        starts[document] = start + taken
    return rows
