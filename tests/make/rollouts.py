"""Runs with a Rollout stage."""

from typing import Any

from make import runs
from make.limits import Limit, whole


def stage(name: str = "post", **fields: Any) -> dict[str, Any]:
    """A small Rollout stage of a manifest, without held-out prompts. `rollout` is laid over a default one."""
    rollout = {"rounds": 2, "maxTokens": 64, "verifier": {"type": "Numeric"}, **fields.pop("rollout", {})}
    given = {"datasets": [runs.dataset("prompts")], "rollout": rollout}
    given["evaluate"] = {"holdoutDocuments": 0}
    return runs.stage(name, type="Rollout", **{**given, **fields})


SOURCE = {"model": {"source": "file:///model"}}
HERE = "spec.stages[0].rollout"


def base(**spec: Any) -> dict[str, Any]:
    long = {"prepare": {"sequenceLength": 262_144}, "train": {"maxTokens": 524_288, "batchTokens": 262_144}}
    return {**SOURCE, "stages": [stage(**long)], **spec}


WHOLE = {
    "rounds": 2,
    "samplesPerPrompt": 8,
    "promptsPerRound": 100,
    "temperature": "0.7",
    "topP": "0.9",
    "topK": 20,
    "maxTokens": 64,
    "samplingFeedback": "None",
    "replayRounds": 1,
    "verifier": {
        "type": "Function",
        "function": "rewards.score",
        "revision": "2",
        "pattern": "x",
        "schema": "{}",
        "extract": "y",
        "tolerance": "0.1",
        "min": "-1",
        "max": "2",
        "passingPercent": 50,
        "timeoutSeconds": 20,
        "memoryMiB": 512,
    },
    "judgeSees": "AnswerOnly",
    "evaluation": {"samples": 4, "temperature": "0.5", "topP": "0.8", "topK": 10, "maxTokens": 32},
    "from": "Start",
    "engine": {"minReplicas": 1, "maxReplicas": 2, "tensorParallelSize": 2, "args": ["--dtype=half"]},
    "resources": {"requests": {"cpu": 1}, "limits": {"cpu": 2}},
}
"""A rollout with every field."""

LIMITS = [
    *whole(f"{HERE}.rounds", 1, 16, base=base()),
    *whole(f"{HERE}.samplesPerPrompt", 1, 64, base=base()),
    *whole(f"{HERE}.promptsPerRound", 1, 10_000_000, base=base()),
    *whole(f"{HERE}.topK", 1, 1_000_000, base=base()),
    *whole(f"{HERE}.maxTokens", 1, 131_072, base=base()),
    *whole(f"{HERE}.replayRounds", 0, 15, base=base()),
    *whole(f"{HERE}.evaluation.samples", 1, 64, base=base()),
    *whole(f"{HERE}.evaluation.topK", 1, 1_000_000, base=base()),
    *whole(f"{HERE}.evaluation.maxTokens", 1, 131_072, base=base()),
    Limit(
        f"{HERE}.evaluation.temperature",
        "0.7",
        "-1",
        "must be a decimal number of at least 0 in quotes",
        base(),
    ),
    Limit(f"{HERE}.temperature", "0.7", "-1", "must be a decimal number of at least 0 in quotes", base()),
    Limit(f"{HERE}.samplingFeedback", "Mix", "Worst", "must be Best, Mix or None, not 'Worst'", base()),
    Limit(f"{HERE}.from", "Start", "Best", "must be Previous or Start, not 'Best'", base()),
    Limit(
        f"{HERE}.verifier",
        {"type": "Function", "function": "rewards.score"},
        {"type": "Function", "function": "score"},
        "must match ^[A-Za-z_]",
        base(),
        at=f"{HERE}.verifier.function",
    ),
    Limit(
        "spec.stages[0].rollout",
        {**WHOLE, "maxTokens": 64},
        None,
        "a stage of type Rollout needs rollout, and no other stage has it",
        base(),
    ),
    Limit(
        "spec.stages[0].type",
        "Rollout",
        "Midtrain",
        "a stage of type Rollout needs rollout, and no other stage has it",
        base(),
        at="spec.stages[0].rollout",
    ),
    Limit(
        f"{HERE}.maxTokens",
        255,
        256,
        "rollout.maxTokens must be below prepare.sequenceLength",
        {**SOURCE, "stages": [stage()]},
        at=HERE,
    ),
    Limit(
        "spec.stages[0].annotate",
        {"workers": 2},
        {"from": {"scoreField": "score", "critiqueField": "c"}},
        "samples come without feedback: leave annotate.from and annotate.referenceField out",
        base(),
    ),
    Limit(
        "spec.stages[0].rollout",
        {"maxTokens": 64, "verifier": {"type": "Numeric"}},
        {"maxTokens": 64},
        "a Rollout stage can have rollout.verifier instead",
        base(judge=None, conditioning={"format": "Token"}),
        at="spec.judge",
    ),
    Limit(
        "spec.conditioning",
        {"format": "Token"},
        {"format": "Critique"},
        "answers that no judge reads have no critiques: set judge, or conditioning.format Token",
        base(judge=None),
        at="spec.judge",
    ),
    Limit(
        "spec.stages[0].rollout",
        {"maxTokens": 64, "verifier": {"type": "Numeric"}},
        {"maxTokens": 64},
        "a RejectionSampling arm trains on answers that are verified to be right: set rollout.verifier",
        base(arms=[runs.arm("r", "RejectionSampling")]),
        at="spec.stages",
    ),
    Limit(
        "spec.arms",
        [runs.arm("r", "RejectionSampling")],
        [runs.arm("n", "NextToken")],
        "NextToken and Annealed do not learn from own samples",
        base(),
    ),
    Limit(
        "spec.arms",
        [runs.arm("n", "NextToken")],
        [runs.arm("r", "RejectionSampling")],
        "a RejectionSampling arm needs a Rollout stage",
    ),
    Limit(
        "spec.arms",
        [runs.arm("a", seeds=list(range(32))), runs.arm("b", seeds=list(range(32)))],
        [runs.arm("a", seeds=list(range(32))), *(runs.arm(f"b{i}", seeds=list(range(32))) for i in range(2))],
        "rounds times arms times seeds must be at most 128",
        base(),
        at="spec.stages",
    ),
    Limit(
        "spec.arms",
        [runs.arm("a", seeds=[0, 1]), runs.arm("b", "Shuffled", seeds=[0, 1])],
        [runs.arm("a", seeds=[0, 1]), runs.arm("b", "Shuffled", seeds=[0])],
        "give all arms the same seeds, or set EqualTokens",
        base(),
    ),
    Limit(
        "spec.model",
        {"source": "file:///model"},
        {"config": "file:///model", "tokenizer": "file:///model"},
        "a model that is initialised from scratch cannot answer prompts",
        base(),
    ),
]
