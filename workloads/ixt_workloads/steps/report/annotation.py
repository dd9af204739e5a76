"""What annotation cost and what the judge said. Pure, but for the sample documents."""

from collections import Counter
from collections.abc import Mapping, Sequence

from ixt_workloads.steps.report.read import Json, LaneArtifacts, cut, judged_documents
from ixt_workloads.store import Artifact

COMPUTED = ("prompt", "reasoning", "feedback", "wasted")
"""Tokens that a judge computes. Cached prompt tokens cost nothing and are counted beside them."""


def account(artifacts: Sequence[Artifact]) -> Json:
    """Counts and costs of several annotations together."""
    summaries = [artifact.summary for artifact in artifacts]
    flops = sum(flops_of(artifact) for artifact in artifacts)
    valid = sum(summary["valid"] for summary in summaries)
    overlaps = [(summary.get("overlapPercent"), summary["valid"]) for summary in summaries]
    tokens: Counter[str] = Counter()
    for summary in summaries:
        tokens.update(summary.get("tokens") or {})
    return {
        "documents": sum(summary["documents"] for summary in summaries),
        "valid": valid,
        "invalid": sum(summary["invalid"] for summary in summaries),
        "truncated": sum(summary.get("truncated") or 0 for summary in summaries),
        "overlapPercent": (
            sum(overlap * number for overlap, number in overlaps if overlap is not None) / valid
            if valid
            else None
        ),
        "tokens": {**_computed(tokens), "cached": tokens["cached"]},
        "flops": flops,
        "flopsByKind": by_kind(artifacts, flops),
        "judgeParameters": summaries[0].get("judgeParameters"),
        "source": summaries[0].get("source"),
        "costKnown": all(map(cost_known, artifacts)),
    }


def flops_of(annotation: Artifact) -> int:
    """Cost of an annotation; 0 where the judge's size is not known, or nothing was judged."""
    return int(annotation.summary.get("flops") or 0)


def cost_known(annotation: Artifact) -> bool:
    """Whether what a judge did could be counted: not for an endpoint whose size nobody said."""
    return annotation.summary.get("source") == "Existing" or flops_of(annotation) > 0


def by_kind(artifacts: Sequence[Artifact], flops: float) -> dict[str, float]:
    """FLOPs by kind of token, in proportion to the tokens that were computed."""
    tokens: Counter[str] = Counter()
    for artifact in artifacts:
        tokens.update(_computed(artifact.summary.get("tokens") or {}))
    total = sum(tokens.values())
    return {kind: flops * tokens[kind] / total if total else 0.0 for kind in COMPUTED}


def _computed(tokens: Mapping[str, int]) -> dict[str, int]:
    """Tokens that cost the judge a forward pass: of the prompt only what was not cached."""
    prompt = max(0, tokens.get("prompt", 0) - tokens.get("cached", 0))
    return {"prompt": prompt, **{kind: tokens.get(kind, 0) for kind in COMPUTED[1:]}}


def annotation_ratio(lane: LaneArtifacts, training_flops: int) -> Json:
    """What annotating a document costs, as a multiple of one training pass over it."""
    documents = sum(artifact.summary["documents"] for artifact in lane.annotate)
    prepared, trained = lane.prepare.summary, lane.train.summary
    judging = sum(flops_of(artifact) for artifact in lane.annotate) / documents if documents else 0.0
    length = prepared["documentTokens"] / prepared["documents"] if prepared["documents"] else 0.0
    training = training_flops / trained["tokens"] * length if trained["tokens"] else 0.0
    percent = percentage(documents, lane.inventory.summary["documents"])
    r = judging / training if training else None
    return {
        "arm": lane.spec.arm,
        "annotationFlopsPerDocument": judging,
        "trainingFlopsPerDocument": training,
        "tokensPerDocument": length,
        "r": r,
        "samplePercent": percent,
        "samplePercentTimesR": None if r is None else percent * r,
    }


def feedback_figures(annotations: Sequence[Artifact], lane: LaneArtifacts) -> Json:
    """What the judge said: scores of all, a few documents, and what a lane made of it."""
    scores: Counter[str] = Counter()
    for artifact in annotations:
        scores.update(
            {str(score): number for score, number in (artifact.summary.get("scores") or {}).items()}
        )
    prepared = lane.prepare.summary
    return {
        "arm": lane.spec.arm,
        "scores": {score: scores[score] for score in sorted(scores, key=numeric)},
        "levels": {
            level: prepared["levels"][level] for level in sorted(prepared.get("levels") or {}, key=numeric)
        },
        "documents": judged_documents(lane.inventory, annotations[0]),
        "generations": _generations(lane),
    }


def _generations(lane: LaneArtifacts) -> list[Json]:
    """What the model wrote after each prompt, level by level."""
    found: dict[str, list[Json]] = {}
    for sample in lane.evaluation.get("samples") or []:
        answers = found.setdefault(sample["prompt"], [])
        answers.append({"level": sample["level"], "text": cut(sample["text"])})
    return [{"prompt": cut(prompt), "answers": answers} for prompt, answers in found.items()]


def numeric(text: str) -> tuple[float, str]:
    """Sorts numbers in text by value, other text after them."""
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text


def percentage(part: float, whole: float) -> float:
    """Percent, 0 of nothing."""
    return 100 * part / whole if whole else 0.0
