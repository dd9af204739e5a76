"""Looks in documents for what the evaluation tasks ask: runs of 13 words that both have.

As in GPT-3's and later reports (arXiv 2005.14165, appendix C) a document that has such a run is contaminated.
A run that more than 10 questions have is the task's own wording and says nothing. Words are runs of letters,
digits and what is not ASCII, in lower case. A document's words and runs are hashed by numpy over its bytes,
which costs a small part of what tokenising it does. Of the tasks only the runs' hashes are kept, 9 bytes
each, and a table for a first look of 4 to 64 MB.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from ixt_workloads.data.questions import Question

RUN = 13
"""Words in a row."""
COMMON = 10
"""Questions that may have a run before it counts for nothing."""
PIECE = 2**20
"""Bytes that are looked at together: some 60 MB of memory."""
OVERLAP = 2**12
"""Bytes that pieces of a long document have in common, more than 13 words have."""

_BITS = (22, 26)
"""Least and most bits of a hash for a first look: four more than number the runs, so that of the runs of
documents that no task has at most a sixteenth is looked for further."""

_WORD = np.zeros(256, np.bool_)
_WORD[[*range(ord("a"), ord("z") + 1), *range(ord("0"), ord("9") + 1), ord("_"), *range(128, 256)]] = True

_BASE, _STEP = 0x9E3779B97F4A7C15 | 1, 0xC2B2AE3D27D4EB4F
_MASK = 2**64 - 1


def _powers(base: int, count: int) -> np.ndarray:
    found = [1]
    for _ in range(count - 1):
        found.append(found[-1] * base & _MASK)
    return np.array(found, np.uint64)


_UP = _powers(_BASE, PIECE + 1)
_DOWN = _powers(pow(_BASE, -1, 2**64), PIECE + 1)
_STEPS = _powers(_STEP, RUN)


class Tasks:
    """The runs of all tasks' questions."""

    def __init__(self, tasks: Mapping[str, Sequence[Question]]) -> None:
        self.names = list(tasks)
        self.short = 0
        """Questions of fewer than 13 words with their answers: they cannot be looked for."""
        hashes, owners = [], []
        for place, questions in enumerate(tasks.values()):
            runs, counts, short = _asked(questions)
            self.short += short
            hashes.append(runs[counts <= COMMON])
            owners.append(np.full(len(hashes[-1]), place, np.uint8))
        every, owner = np.concatenate(hashes), np.concatenate(owners)
        order = np.argsort(every, kind="stable")
        self._hashes, self._owners = every[order], owner[order]
        bits = min(max(_BITS[0], len(every).bit_length() + 4), _BITS[1])
        self._shift = np.uint64(64 - bits)
        self._table = np.zeros(2**bits, np.bool_)
        self._table[self._hashes >> self._shift] = True

    def contaminated(self, texts: Iterable[str]) -> dict[int, set[str]]:
        """Places of the documents that have a run of a task, each with the tasks' names."""
        found: dict[int, set[str]] = {}
        if not len(self._hashes):
            return found
        for data, places in _pieces(texts):
            hashes, starts = _runs(data)
            likely = np.flatnonzero(self._table[hashes >> self._shift])
            first = np.searchsorted(self._hashes, hashes[likely])
            first = np.minimum(first, len(self._hashes) - 1)
            there = self._hashes[first] == hashes[likely]
            hits, first = likely[there], first[there]
            # Two tasks may have the same run: the first and the last of them are told.
            last = np.searchsorted(self._hashes, hashes[hits], "right") - 1
            documents = _documents(places, starts[hits])
            for document, *owners in zip(documents, self._owners[first], self._owners[last], strict=True):
                found.setdefault(int(document), set()).update(self.names[owner] for owner in owners)
        return found


def _asked(questions: Sequence[Question]) -> tuple[np.ndarray, np.ndarray, int]:
    """The different runs of questions, in how many of them each is, and how many questions have none."""
    hashes, owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for data, places in _pieces(f"{question.prompt}{question.answer}" for question in questions):
        found, starts = _runs(data)
        hashes.append(found)
        owners.append(_documents(places, starts))
    every, owner = np.concatenate(hashes), np.concatenate(owners)
    order = np.lexsort((every, owner))
    every, owner = every[order], owner[order]
    # Once a question.
    new = np.concatenate([[True], (every[1:] != every[:-1]) | (owner[1:] != owner[:-1])])[: len(every)]
    runs, counts = np.unique(every[new], return_counts=True)
    return runs, counts, len(questions) - len(np.unique(owner))


def _documents(places: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The places of the documents that bytes are of, from what `_pieces` says of them."""
    found: np.ndarray = places[np.searchsorted(places[:, 1], starts, "right") - 1, 0]
    return found


def _pieces(texts: Iterable[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The bytes of texts, put together up to PIECE, and [documents, 2] of place and first byte in ascending
    order. Between documents stand bytes that no run crosses: a word of its own for each."""
    waiting: list[bytes] = []
    places: list[tuple[int, int]] = []
    size = 0
    for place, text in enumerate(texts):
        whole = text.lower().encode(errors="replace")
        for start in range(0, max(1, len(whole)), PIECE - 2 * OVERLAP):
            part = whole[start : start + PIECE - OVERLAP]
            if size + len(part) + 1 > PIECE:
                yield np.frombuffer(b"".join(waiting), np.uint8), np.array(places)
                waiting, places, size = [], [], 0
            places.append((place, size))
            waiting += [part, _BETWEEN]
            size += len(part) + 1
    if waiting:
        yield np.frombuffer(b"".join(waiting), np.uint8), np.array(places)


_BETWEEN = b"\0"
"""Ends a document: the only byte that breaks runs."""


def _runs(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all runs of 13 words in a text, and where each begins; of none that has a document's end in
    it."""
    inside = np.concatenate([[False], _WORD[data], [False]])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    starts, ends = edges[::2], edges[1::2]
    count = len(starts) - RUN + 1
    if count <= 0:
        return np.zeros(0, np.uint64), starts[:0]
    # Of a word: sum of bytes times powers by place in the text, moved to its beginning, modulo 2**64.
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum((data.astype(np.uint64) + np.uint64(1)) * _UP[: len(data)], out=sums[1:])
    words = (sums[ends] - sums[starts]) * _DOWN[starts]
    words ^= words >> np.uint64(29)
    hashes = np.zeros(count, np.uint64)
    for place in range(RUN):
        hashes += words[place : place + count] * _STEPS[place]
    hashes ^= hashes >> np.uint64(32)
    hashes *= np.uint64(_STEP)
    document = np.searchsorted(np.flatnonzero(data == 0), starts)
    whole = document[:count] == document[RUN - 1 :]
    return hashes[whole], starts[:count][whole]
