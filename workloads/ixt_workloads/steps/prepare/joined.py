"""Joins documents with their feedback, as the arm's method wants it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ixt_workloads.contract.configs import PrepareConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import Calibration, FeedbackFormat, LossOnFeedback, Method
from ixt_workloads.data.hashed import place_of
from ixt_workloads.data.parquet import rows_of
from ixt_workloads.feedback.combining import SCALE, combined, source_of
from ixt_workloads.feedback.levels import level_of, rounded, thresholds
from ixt_workloads.feedback.prefixes import Prefixes
from ixt_workloads.feedback.rendering import COLUMNS, SEPARATOR, clean, ends, prefix, said
from ixt_workloads.store import Artifact

COUNTED = 20_000
"""The most frequent words of a level are looked for among this many."""

Cut = Callable[[Sequence[str]], list[str]]
"""Texts cut to maxFeedbackTokens."""


class Block(NamedTuple):
    """Documents that are packed together, and the files with the feedback on them."""

    name: str
    documents: Artifact
    file: str
    feedback: tuple[tuple[Artifact, str], ...] = ()


class DocumentFeedback(NamedTuple):
    """The feedback on one document, as a prefix has it."""

    level: int
    said: str
    """What is said besides the level, cut to maxFeedbackTokens; empty where the feedback has none."""
    right: bool = False
    """Of a model's answer: the verifier finds it right."""


@dataclass(frozen=True)
class Bands:
    """The arm's feedback, block by block."""

    config: PrepareConfig
    bounds: tuple[float, ...]
    format: FeedbackFormat
    cut: Cut
    outside: int = 0
    """Scores beyond the scale."""

    def of_block(self, block: Block) -> dict[str, DocumentFeedback]:
        """Feedback by document id on the documents of a block."""
        rows = _scored(self.config, block, "id", *COLUMNS)
        verifier = self.config.verifier
        texts = self.cut([said(self.format, row) for row in rows])
        return {
            row["id"]: DocumentFeedback(
                level_of(row["score"], self.bounds), text, bool(verifier and verifier.passes(row["verified"]))
            )
            for row, text in zip(rows, texts, strict=True)
        }


def open_bands(config: PrepareConfig, blocks: Sequence[Block], held: Block, cut: Cut) -> Bands:
    """The feedback on the arm's blocks and on the held-out documents, levelled alike.

    An arm without feedback of its own levels the held-out documents by their own scores.
    """
    histogram: Counter[float] = Counter()
    for block in blocks if any(block.feedback for block in blocks) else [held]:
        histogram.update(rounded(row["score"]) for row in _scored(config, block))
    settings = config.conditioning
    scale = scale_of(config)
    # The extremes of the data are no scale: one outlier would decide about the levels of all others.
    calibration = settings.calibration if scale else Calibration.QUANTILE
    bounds = thresholds(histogram, *(scale or (0.0, 1.0)), settings.levels, calibration)
    outside = sum(count for score, count in histogram.items() if scale and not scale[0] <= score <= scale[1])
    return Bands(config, bounds, settings.format, cut, outside)


def scale_of(config: PrepareConfig) -> tuple[float, float] | None:
    """The ends of the scale that raw scores are on, where it is known."""
    if config.verifier:
        return SCALE
    return judges_scale(config)


def judges_scale(config: PrepareConfig) -> tuple[float, float] | None:
    """The same of what a judge or the data say, before a verifier's word is joined to it."""
    if config.rubric:
        return float(config.rubric.min_score), float(config.rubric.max_score)
    return (float(config.scale.min), float(config.scale.max)) if config.scale else None


def contract_of(config: PrepareConfig, bands: Bands, blocks: Sequence[Block]) -> Prefixes | None:
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
        given = shuffled(given, config.seed)
    found = []
    for name in ids:
        entry = given.get(name)
        if entry is None or _drawn("dropout", config.seed, name) % 100 < settings.dropout_percent:
            found.append((0, ""))
        else:
            text = prefix(settings.format, entry.level, settings.levels, entry.said)
            found.append((entry.level, text))
    return found


def shuffled(feedback: Mapping[str, DocumentFeedback], seed: int) -> dict[str, DocumentFeedback]:
    """The same feedback on other documents: each takes that of the next in a hashed order, so none keeps
    its own while there are two."""
    order = sorted(feedback, key=lambda name: _drawn("shuffle", seed, name))
    return {name: feedback[order[place - 1]] for place, name in enumerate(order)}


def _drawn(what: str, seed: int, name: str) -> int:
    """A number that a seed draws for a document."""
    return place_of(f"{what}/{name}" if seed == 0 else f"{what}/{seed}/{name}")


def base_id(name: str) -> str:
    """Id of the document that a copy is of."""
    return name.partition("-")[0]


def _scored(config: PrepareConfig, block: Block, *more: str) -> list[dict[str, Any]]:
    """The rows of feedback on a block that have a valid score: `score` and the columns `more`; of verified
    answers `verified` too, and as score what both come to."""
    columns = ["status", "score", *(["verified"] if config.verifier else []), *more]
    rows = [row for artifact, file in block.feedback for row in rows_of(artifact.file(file), columns)]
    if config.verifier:
        rows = [row | {"score": _joined(config, row)} for row in rows if row["status"] != "unverified"]
    return [row for row in rows if row["score"] is not None and (config.verifier or row["status"] == "ok")]


def _joined(config: PrepareConfig, row: Mapping[str, Any]) -> float | None:
    """The raw score of an answer that was verified, and judged where there is a scale of judging."""
    scale = judges_scale(config)
    judged = row["score"] if scale and row["status"] == "ok" else None
    source = source_of(config.conditioning.level_from, verified=True, judged=scale is not None)
    return combined(source, row["verified"], judged, scale or SCALE)


def _typical(bands: Bands, blocks: Sequence[Block]) -> dict[int, str]:
    """What is said most often of each level."""
    counts: dict[int, Counter[str]] = {}
    counted = 0
    for block in blocks:
        for entry in bands.of_block(block).values():
            if entry.said:
                counts.setdefault(entry.level, Counter())[entry.said] += 1
                counted += 1
        if counted >= COUNTED:
            break
    return {level: min(found, key=lambda text: (-found[text], text)) for level, found in counts.items()}
