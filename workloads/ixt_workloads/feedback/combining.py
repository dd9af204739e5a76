"""How right an answer is and what a judge thinks of it, as one raw score. Pure."""

import re

from ixt_workloads.contract.settings import LevelFrom
from ixt_workloads.feedback.answers import NGRAM

VERIFIERS_SHARE = 2 / 3
"""Of a score of both. Above a half, so that a wrong answer that the judge likes best comes after a right one
that it likes least."""

SCALE = (0.0, 1.0)
"""Of combined scores."""

_WORD = re.compile(r"\w+(?:\.\w+)*")


def source_of(wanted: LevelFrom | None, *, verified: bool, judged: bool) -> LevelFrom:
    """What levels come from, given what there is."""
    if verified and judged:
        return wanted or LevelFrom.BOTH
    return LevelFrom.VERIFIER if verified else LevelFrom.JUDGE


def combined(
    source: LevelFrom, verified: float | None, judged: float | None, scale: tuple[float, float]
) -> float | None:
    """A raw score on SCALE; None where what it must come from is not known. `judged` is on `scale`.

    Of Both, an answer that the verifier does not apply to has the judge's score, one that the judge said
    nothing valid about the verifier's.
    """
    opinion = None if judged is None else on_scale(judged, scale)
    if source is LevelFrom.VERIFIER:
        return verified
    if source is LevelFrom.JUDGE or verified is None:
        return opinion
    if opinion is None:
        return verified
    return VERIFIERS_SHARE * verified + (1 - VERIFIERS_SHARE) * opinion


def on_scale(score: float, scale: tuple[float, float]) -> float:
    """A score as a share of its scale, from 0 to 1."""
    low, high = scale
    return min(1.0, max(0.0, (score - low) / (high - low)))


def contradicts(right: bool, judged: float, scale: tuple[float, float]) -> bool:
    """Whether a judge thinks well of a wrong answer, or ill of a right one: its score lies on the other side
    of the middle of its scale."""
    opinion = on_scale(judged, scale)
    return opinion < 0.5 if right else opinion > 0.5


def quotes(critique: str, reference: str, prompt: str) -> bool:
    """Whether a critique holds the reference answer where the prompt does not: in one piece, of a long
    reference any NGRAM words in a row. A model that reads it before its answer would learn to copy."""
    words, asked = _words(critique), _words(prompt)
    wanted = _words(reference)
    size = min(NGRAM, len(wanted))
    if not size:
        return False
    runs = {tuple(wanted[start : start + size]) for start in range(len(wanted) - size + 1)}
    return bool(runs & _runs(words, size) - _runs(asked, size))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _runs(words: list[str], size: int) -> set[tuple[str, ...]]:
    return {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}
