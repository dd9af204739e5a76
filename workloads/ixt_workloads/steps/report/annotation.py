"""What annotation cost and what the judge said. Pure, but for the sample documents."""

from collections import Counter
from collections.abc import Mapping, Sequence

from ixt_workloads.steps.report.read import Json, Lane, cut, flops_of, judged_documents
from ixt_workloads.store import Artifact

COMPUTED = ("prompt", "reasoning", "feedback", "wasted")
"""Tokens that a judge computes. Cached prompt tokens cost nothing and are counted beside them."""


def account(artifacts: Sequence[Artifact]) -> Json:
    """Counts and costs of several annotations together."""
    summaries = [artifact.summary for artifact in artifacts]
    flops = sum(map(flops_of, artifacts))
    tokens = _tokens(artifacts)
    valid = sum(summary["valid"] for summary in summaries)
    overlaps = [(summary.get("overlapPercent"), summary["valid"]) for summary in summaries]
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
        "tokens": {kind: tokens[kind] for kind in (*COMPUTED, "cached")},
        "flops": flops,
        "flopsByKind": by_kind(artifacts, flops),
        "judgeParameters": summaries[0].get("judgeParameters"),
        "source": summaries[0].get("source"),
        "warnings": sorted({words for summary in summaries for words in summary.get("warnings") or []}),
        "probe": next((summary["probe"] for summary in summaries if summary.get("probe")), None),
        "costKnown": all(map(cost_known, artifacts)),
    }


def cost_known(annotation: Artifact) -> bool:
    """Whether what a judge did, if any was asked, is known: not of an endpoint whose size nobody said."""
    return annotation.summary.get("source") in ("Existing", "Verifier") or flops_of(annotation) > 0


def by_kind(artifacts: Sequence[Artifact], flops: float) -> dict[str, float]:
    """FLOPs by kind of token, in proportion to the tokens that were computed."""
    tokens = _tokens(artifacts)
    total = sum(tokens[kind] for kind in COMPUTED)
    return {kind: flops * tokens[kind] / total if total else 0.0 for kind in COMPUTED}


def _tokens(artifacts: Sequence[Artifact]) -> Counter[str]:
    """Tokens by kind. The prompt's are those that cost a forward pass, without the cached ones."""
    tokens: Counter[str] = Counter()
    for artifact in artifacts:
        tokens.update(artifact.summary.get("tokens") or {})
    tokens["prompt"] = max(0, tokens["prompt"] - tokens["cached"])
    return tokens


def annotation_ratio(lane: Lane) -> Json:
    """What annotating a document costs, as a multiple of one training pass over it."""
    documents = sum(artifact.summary["documents"] for artifact in lane.annotate)
    prepared, trained = lane.prepare.summary, lane.train.summary
    judging = sum(flops_of(artifact) for artifact in lane.annotate) / documents if documents else 0.0
    length = prepared["documentTokens"] / prepared["documents"] if prepared["documents"] else 0.0
    training = lane.training / trained["tokens"] * length if trained["tokens"] else 0.0
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


def feedback_figures(annotations: Sequence[Artifact], lane: Lane) -> Json:
    """What the judge said: scores of all, a few documents, and what a lane made of it."""
    scores: Counter[str] = Counter()
    for artifact in annotations:
        scores.update(artifact.summary.get("scores") or {})
    return {
        "arm": lane.spec.arm,
        "scores": _by_name(scores),
        "levels": _by_name(lane.prepare.summary.get("levels") or {}),
        "documents": judged_documents(lane.documents, lane.annotate[0]),
        "generations": _generations(lane),
    }


def _generations(lane: Lane) -> list[Json]:
    """What the model wrote after each prompt, level by level."""
    found: dict[str, list[Json]] = {}
    for sample in lane.evaluation.get("samples") or []:
        answers = found.setdefault(sample["prompt"], [])
        answers.append({"level": sample["level"], "text": cut(sample["text"])})
    return [{"prompt": cut(prompt), "answers": answers} for prompt, answers in found.items()]


def _by_name(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: counts[name] for name in sorted(counts, key=numeric)}


def numeric(text: str) -> tuple[float, str]:
    """Sorts numbers in text by value, other text after them."""
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text


def percentage(part: float, whole: float) -> float:
    """Percent, 0 of nothing."""
    return 100 * part / whole if whole else 0.0
