"""What speaks against believing a stage's comparison, in words. Pure."""

import math
from collections.abc import Iterator

from ixt_workloads.contract.settings import Method
from ixt_workloads.steps.report.numbers import decimal, percent
from ixt_workloads.steps.report.read import Json

REPEATED = 4.0
"""Passes over the same documents beyond which more of them teach little (arXiv 2305.16264)."""

LOPSIDED = 60.0
"""Percent of the annotated documents that one level may have without a word about it."""

SURE = 1.96
"""Standard deviations of a 95 % interval."""


def doubts(stage: Json) -> list[str]:
    """Each doubt in a sentence or two, those about the numbers first."""
    return [
        *_of_training(stage), *_of_control(stage), *_of_levels(stage), *_of_feedback(stage),
        *_of_contamination(stage),
    ]  # fmt: skip


def _of_training(stage: Json) -> Iterator[str]:
    """Arms whose held-out loss rises, or that read the same documents many times."""
    for arm in stage["arms"]:
        name, held, epochs = arm["name"], arm["learning"]["heldOut"], arm["training"]["epochs"] or 0.0
        if held and held["rises"]:
            rise = (
                f"from {decimal(held['least'], 3)} after {percent(held['atPercent'])} of the training to "
                f"{decimal(held['last'], 3)} nats a token at its end"
            )
            yield (
                f"{name} over-fits: its held-out loss has risen {rise}, after {decimal(epochs, 1)} epochs, "
                "while its training loss fell. Give it fewer tokens or more documents, or export its best "
                "(train.export: Best)."
                if held["overFits"]
                else f"The held-out loss of {name} rises {rise}, and its training loss does not fall "
                "meanwhile: the held-out documents are unlike those at the end of the training, or the "
                "learning rate is too high."
            )
        elif epochs > REPEATED:
            yield (
                f"{name} reads its documents {decimal(epochs, 1)} times: beyond {REPEATED:.0f} more tokens "
                "teach little, give it more documents."
            )


def _of_control(stage: Json) -> Iterator[str]:
    """A model that does the same whatever it is asked for."""
    for arm in stage["arms"]:
        found = arm["accuracy"]
        if arm["name"] != stage["verdict"]["subject"] or not {"Best", "Worst"} <= found.keys():
            continue
        best, worst = found["Best"], found["Worst"]
        items = max(1, sum(task["items"] for task in arm["tasks"].values()) * len(arm["seeds"]))
        chance = SURE * math.sqrt((best * (1 - best) + worst * (1 - worst)) / items)
        if best - worst <= chance:
            yield (
                f"{arm['name']} is hardly better asked for the best ({decimal(best, 3)}) than for the worst "
                f"({decimal(worst, 3)}): chance alone moves the difference by {decimal(chance, 3)}, so it "
                "may not have learned from its feedback."
            )


def _of_levels(stage: Json) -> Iterator[str]:
    """Levels that nearly all documents share, or that none has, of arms that learn from levels."""
    said = set()
    for arm in stage["arms"]:
        levels, total = arm["levelCounts"], sum(arm["levelCounts"].values())
        if not total or not Method(arm["method"]).uses_feedback:
            continue
        most = max(levels, key=lambda level: levels[level])
        share = 100 * levels[most] / total
        empty = [level for level, number in levels.items() if not number]
        parts = [f"{percent(share)} of the documents with feedback are of level {most}"] * (share > LOPSIDED)
        parts += [f"none is of level {', '.join(empty)}"] if empty else []
        words = " and ".join(parts)
        if words and words not in said:
            said.add(words)
            yield (
                f"Lopsided levels ({arm['name']}): {words}. What is asked for by a level that few documents "
                "have was hardly taught: set conditioning.calibration to Quantile, or fewer levels."
            )


def _of_feedback(stage: Json) -> Iterator[str]:
    """Warnings of gates, of levels, and costs that nobody knows."""
    annotation = stage["annotation"]
    warnings = [*annotation["warnings"]] if annotation else []
    warnings += [words for arm in stage["arms"] for words in arm["prepared"].get("warnings") or []]
    yield from (f"{words[:1].upper()}{words[1:]}." for words in dict.fromkeys(warnings))
    if annotation and not annotation["costKnown"]:
        yield (
            "The judge’s size is not known, so its FLOPs are missing from every number here. Name the "
            "active parameters of the judge’s endpoint to count them."
        )


def _of_contamination(stage: Json) -> Iterator[str]:
    if stage["notLookedFor"]:
        names = ", ".join(stage["notLookedFor"])
        yield f"Questions of {names} were not looked for in this stage’s documents."
