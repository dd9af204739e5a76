"""The report's conclusion as Markdown, short enough for a pull request. Text is escaped. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ixt_workloads.steps.report.measure import Measure
from ixt_workloads.steps.report.numbers import count, decimal, flops, percent, ratio

Json = Mapping[str, Any]

_MARKS = re.compile(r"([\\`*_\[\]<>|#~])")
"""What Markdown reads as more than text."""


def markdown(report: Json) -> str:
    """The headline, a table of arms for each stage, what speaks against it, and where the models are."""
    several = len(report["stages"]) > 1
    parts = [f"# {_plain(report['title'] or 'Untitled run')}: report", f"**{_plain(report['headline'])}**"]
    if report["missing"]:
        lanes = _plain(", ".join(report["missing"]))
        parts.append(f"Lanes that failed: {lanes}. Stages that they did not complete are not compared.")
    for stage in report["stages"]:
        parts += [f"## {_plain(stage['name'])} ({stage['type']})"] if several else []
        parts += _stage(stage, told=stage["name"] == report["verdictOf"])
    models = [
        f"- {_plain(node['node'])}: `artifacts/{node['key']}`"
        for node in report["lineage"]
        if node["kind"] == "Train"
    ]
    parts += ["<details><summary>Models</summary>", "\n".join(models), "</details>"]
    return "\n\n".join(parts) + "\n"


def _stage(stage: Json, *, told: bool) -> Iterator[str]:
    """`told`: the report's headline is this stage's."""
    verdict = stage["verdict"]
    metric = verdict["metric"]
    if metric is None:
        yield "This stage was not evaluated."
        return
    yield from () if told else (_plain(verdict["headline"]),)
    yield from (_plain(text) for text in (verdict["seeds"], *verdict["notes"]) if text)
    yield _table(_rows(stage, Measure(metric)))
    if verdict["equalQuality"]:
        yield _plain(verdict["equalQuality"])
    if stage["doubts"]:
        yield "\n".join(f"- **Doubt:** {_plain(doubt)}" for doubt in stage["doubts"])


def _rows(stage: Json, metric: Measure) -> Iterator[Sequence[str]]:
    verdict = stage["verdict"]
    what = "accuracy" if metric is Measure.ACCURACY else "held-out loss"
    yield (
        "Arm", "Seeds", "Tokens", "Total FLOPs", "Annotation", f"At the end, {what}", "Gain at equal FLOPs",
        "FLOPs for equal quality",
    )  # fmt: skip
    for arm in stage["arms"]:
        curves, spent = arm["curves"][metric.value], arm["flops"]
        end = sum(curve["quality"][-1] for curve in curves) / len(curves) if curves else None
        share = percent(100 * spent["annotation"] / spent["total"]) if spent["annotation"] else "none"
        row = verdict["comparisons"].get(arm["name"])
        baseline = arm["name"] == verdict["baseline"]
        yield (
            _plain(arm["name"]), str(len(arm["seeds"])), count(arm["training"]["tokens"]),
            flops(spent["total"]), share, metric.shown(end, 3), "baseline" if baseline else _gain(row),
            "baseline" if baseline else _ratio(row),
        )  # fmt: skip


def _gain(row: Json | None) -> str:
    if row is None or row["gain"] is None:
        return "not compared"
    interval = row["gainInterval"]
    gain = decimal(row["gain"], 3)
    if interval is None:
        return gain
    return f"{gain} ({row['word']}: {decimal(interval['low'], 3)} to {decimal(interval['high'], 3)})"


def _ratio(row: Json | None) -> str:
    if row is None or row["whyNoRatio"]:
        return "not told"
    if not row["reached"]:
        return "not reached"
    if row["flopsRatio"] is None:
        return "–"
    interval = row["ratioInterval"]
    told = f"{ratio(row['flopsRatio'])} ×"
    if interval is None:
        return told
    low, high = ("not reached" if end is None else ratio(end) for end in (interval["low"], interval["high"]))
    return f"{told} ({low} to {high})"


def _table(rows: Iterator[Sequence[str]]) -> str:
    head, *body = rows
    lines = [head, ("---",) + ("---:",) * (len(head) - 1), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text in one line that Markdown shows as it is, and that calls nobody."""
    return _MARKS.sub(r"\\\1", " ".join(text.split())).replace("&", "&amp;").replace("@", "@\u200b")
