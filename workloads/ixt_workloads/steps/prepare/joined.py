"""Joins documents with their feedback, as the arm's method wants it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from ixt_workloads.contract.configs import PrepareConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import FeedbackFormat, LossOnFeedback, Method
from ixt_workloads.feedback.levels import level_of, rounded, thresholds
from ixt_workloads.feedback.prefixes import Prefixes
from ixt_workloads.feedback.rendering import COLUMNS, SEPARATOR, clean, ends, prefix, said
from ixt_workloads.store import Artifact

COUNTED = 20_000
"""The most frequent words of a level are looked for among this many."""

Cut = Callable[[Sequence[str]], list[str]]
"""Texts cut to maxFeedbackTokens."""


class DocumentFeedback(NamedTuple):
    """The feedback on one document, as a prefix has it."""

    level: int
    said: str
    """What is said besides the level, cut to maxFeedbackTokens; empty where the feedback has none."""


@dataclass(frozen=True)
class Bands:
    """The arm's feedback, block by block."""

    artifacts: tuple[Artifact, ...]
    bounds: tuple[float, ...]
    format: FeedbackFormat
    cut: Cut

    def of_block(self, name: str) -> dict[str, DocumentFeedback]:
        """Feedback by document id in one shard; `name` is as 00000 or holdout."""
        rows = [row for artifact in self.artifacts for row in _scored(artifact, name, "id", *COLUMNS)]
        texts = self.cut([said(self.format, row) for row in rows])
        return {
            row["id"]: DocumentFeedback(level_of(row["score"], self.bounds), text)
            for row, text in zip(rows, texts, strict=True)
        }


def open_bands(
    config: PrepareConfig,
    bands: Sequence[Artifact],
    holdout: Artifact | None,
    blocks: Sequence[str],
    cut: Cut,
) -> tuple[Bands, Bands]:
    """The arm's feedback and that of the held-out documents, levelled alike.

    An arm without feedback of its own levels the held-out documents by their own scores.
    """
    scored = [(artifact, name) for artifact in bands for name in blocks]
    if not scored and holdout:
        scored = [(holdout, "holdout")]
    histogram: Counter[float] = Counter()
    for artifact, name in scored:
        histogram.update(rounded(row["score"]) for row in _scored(artifact, name))
    low, high = min(histogram, default=0.0), max(histogram, default=1.0)
    if config.rubric:
        low, high = float(config.rubric.min_score), float(config.rubric.max_score)
    settings = config.conditioning
    bounds = thresholds(histogram, low, high, settings.levels, settings.calibration)
    held = (holdout,) if holdout else ()
    return Bands(tuple(bands), bounds, settings.format, cut), Bands(held, bounds, settings.format, cut)


def contract_of(config: PrepareConfig, bands: Bands, blocks: Sequence[str]) -> Prefixes | None:
    """The conditioning contract of the arm; None for a method that puts nothing in front of documents."""
    if not config.method.conditions:
        return None
    settings, rubric = config.conditioning, config.rubric
    best, worst = settings.inference_feedback, None
    if rubric:
        ideal, worst = ends(settings.format, rubric)
        best = best or ideal
    known: dict[int, str] = dict.fromkeys(range(1, settings.levels + 1), "")
    if settings.format.says:
        known = _typical(bands, blocks)
        if known:
            best, worst = best or known[max(known)], worst or known[min(known)]
        if best is None or worst is None:
            raise StepError(
                Exit.CONFIG,
                "no document has a critique, and there is no rubric that says what the best is told",
                "annotate more documents (samplePercent), or use conditioning.format Token",
            )
        known = known or {1: worst, settings.levels: best}

    def text(level: int, words: str | None) -> str:
        found = prefix(settings.format, level, settings.levels, bands.cut([clean(words or "")])[0])
        # In a conversation the prefix is system text: the template says what follows it.
        return found.removesuffix(SEPARATOR) if config.stage_type.is_chat else found

    return Prefixes(
        format=settings.format,
        levels=settings.levels,
        thresholds=bands.bounds,
        by_level={level: text(level, words) for level, words in sorted(known.items())},
        best=text(settings.levels, best),
        worst=text(1, worst),
        chat=config.stage_type.is_chat,
        loss_on_feedback=settings.loss_on_feedback or LossOnFeedback.INCLUDE,
    )


def prefixes_of(
    config: PrepareConfig, rows: Iterable[Mapping[str, Any]], feedback: Mapping[str, DocumentFeedback]
) -> list[tuple[int, str]]:
    """Level and prefix of each document of a block: (0, "") for one that trains without feedback.

    Where the format says more than a level, a document of which nothing is said trains without feedback.
    """
    ids = [base_id(row["id"]) for row in rows]
    if not config.method.conditions:
        return [(feedback[name].level if name in feedback else 0, "") for name in ids]
    settings = config.conditioning
    given = {name: entry for name, entry in feedback.items() if entry.said or not settings.format.says}
    if config.method is Method.SHUFFLED:
        given = shuffled(given)
    found = []
    for name in ids:
        entry = given.get(name)
        if entry is None or _place(f"dropout/{name}") % 100 < settings.dropout_percent:
            found.append((0, ""))
        else:
            text = prefix(settings.format, entry.level, settings.levels, entry.said)
            found.append((entry.level, text))
    return found


def shuffled(feedback: Mapping[str, DocumentFeedback]) -> dict[str, DocumentFeedback]:
    """The same feedback on other documents: each takes that of the next in a hashed order, so none keeps
    its own while there are two."""
    order = sorted(feedback, key=lambda name: _place(f"shuffle/{name}"))
    return {name: feedback[order[place - 1]] for place, name in enumerate(order)}


def base_id(name: str) -> str:
    """Id of the document that a copy is of."""
    return name.partition("-")[0]


def _scored(artifact: Artifact, name: str, *more: str) -> list[dict[str, Any]]:
    """The rows of one file of feedback that have a valid score: `score` and the columns `more`."""
    table = pq.read_table(artifact.file(f"feedback-{name}.parquet"), columns=["status", "score", *more])
    return [row for row in table.to_pylist() if row["status"] == "ok" and row["score"] is not None]


def _typical(bands: Bands, blocks: Sequence[str]) -> dict[int, str]:
    """What is said most often of each level."""
    counts: dict[int, Counter[str]] = {}
    counted = 0
    for name in blocks:
        for entry in bands.of_block(name).values():
            if entry.said:
                counts.setdefault(entry.level, Counter())[entry.said] += 1
                counted += 1
        if counted >= COUNTED:
            break
    return {level: min(found, key=lambda text: (-found[text], text)) for level, found in counts.items()}


def _place(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
