"""What operator and workloads tell each other, as today's code writes it, and the schemas of it.

Tasks of a run that sets next to nothing, of one that sets all that it can, and of one with a judge that
somebody else serves; results, progress and statuses.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal, Union

from pydantic import BaseModel, TypeAdapter, create_model

from ixt_operator.api.status import RunStatus
from ixt_workloads.contract.configs import ReportConfig, ReportRound
from ixt_workloads.contract.exits import Fault
from ixt_workloads.contract.graph import Node, Probe, Task
from ixt_workloads.contract.kinds import KINDS
from ixt_workloads.contract.results import Outcome, Progress, Result, Spent
from ixt_workloads.contract.verifiers import JudgeSees, Verifier, VerifierType
from ixt_workloads.contract.versions import read_known, read_task, write_task
from make import rollouts, runs
from make.observed import Platform

SMALL = runs.run(judge={"model": "file:///judge", "rubric": {"inline": {
    "instructions": "Score it.", "idealCritique": "Good.", "worstCritique": "Bad.",
}}})  # fmt: skip

ENDPOINT = runs.run(judge={"endpoint": {"url": "https://a.b/v1", "model": "m", "activeParameters": 7}})

_EVALUATE = {
    "tasks": [
        {
            "name": "sums",
            "uri": "s3://bucket/sums.jsonl",
            "maxItems": 50,
            "credentialsSecretRef": {"name": "bucket"},
        }
    ],
    "prefixes": ["Best", "None"],
    "holdoutDocuments": 64,
    "maxNewTokens": 8,
    "harness": {
        "tasks": [
            {"name": "own", "uri": "s3://bucket/tasks", "credentialsSecretRef": {"name": "bucket"}},
            {"name": "gsm8k"},
        ],
        "limit": 100,
        "fewshot": 4,
        "samples": 2,
    },
}
_TRAIN = {
    "batchTokens": 65_536,
    "optimizer": {
        "learningRate": "1e-3", "weightDecay": "0.01", "beta1": "0.8", "beta2": "0.99",
        "epsilon": "1e-6", "maxGradNorm": "0.5", "momentsPrecision": "BF16",
    },
    "schedule": {"type": "WarmupStableDecay", "warmupPercent": 1, "decayPercent": 30, "finalPercent": 0},
    "precision": "FP32",
    "evalEveryTokens": 100_000,
    "export": "Best",
    "numNodes": 2,
    "numProcPerNode": 4,
    "microBatchSequences": 8,
    "parallelism": "FullyShard",
    "compile": "Disabled",
    "activationCheckpointing": "Full",
    "checkpoint": {"intervalSeconds": 60, "keep": 3},
}  # fmt: skip
RICH = runs.run(
    name="rich",
    model={
        "source": "hf://owner/model",
        "revision": "main",
        "chatTemplate": "tool_use",
        "credentialsSecretRef": {"name": "hub"},
    },
    judge={
        "credentialsSecretRef": {"name": "hub"},
        "model": "hf://owner/judge",
        "revision": "main",
        "reasoningParser": "deepseek_r1",
        "systemPrompt": "You judge.",
        "second": {"url": "https://second.example/v1", "model": "second"},
        "engine": {"args": ["--dtype=half"]},
        "chatTemplateKwargs": [{"name": "enable_thinking", "value": "true"}],
        "sampling": {
            "temperature": "0.70", "topP": "0.9", "topK": 20, "minP": "0.1", "presencePenalty": "1.5",
            "thinkingTokens": 256, "maxTokens": 512, "retries": 0,
        },
        "rubric": {"inline": {
            "instructions": "Score it.", "axes": ["truth", "style"], "minScore": 0, "maxScore": 9,
            "document": "Bare", "idealCritique": "Good.", "worstCritique": "Bad.",
        }},
    },
    conditioning={
        "format": "Critique", "levels": 3, "calibration": "Quantile", "levelFrom": "Both",
        "dropoutPercent": 5, "maxFeedbackTokens": 64,
        "lossOnFeedback": "Mask", "inferenceFeedback": "Perfect.",
    },
    trackers={
        "tensorboard": {},
        "mlflow": {
            "uri": "https://mlflow.example.org", "experiment": "ours", "credentialsSecretRef": {"name": "ml"},
        },
        "wandb": {
            "project": "ours", "entity": "team", "baseUrl": "https://wandb.example.org",
            "credentialsSecretRef": {"name": "wb"},
        },
    },
    arms=[
        runs.arm("annealed", "Annealed", seeds=[7], samplePercent=40),
        runs.arm("filtered", "Filtered", seeds=[1], samplePercent=15),
    ],
    stages=[
        runs.stage(
            datasets=[
                runs.dataset(
                    uri="s3://bucket/documents", split="train", format="Jsonl", textField="body", weight=50,
                    promptField="question", answerField="meta.right", credentialsSecretRef={"name": "bucket"},
                )
            ],
            annotate={
                "workers": 2,
                "referenceField": "rating",
                "gates": {
                    "maxInvalidPercent": 5, "maxOverlapPercent": 20, "maxDisagreementPercent": 10,
                    "maxRewritingPercent": 10, "minReferencePercent": 50, "maxOneScorePercent": 80,
                    "maxTruncatedPercent": 10, "maxContradictionPercent": 20, "maxQuotingPercent": 5,
                    "warn": ["Overlap"],
                },
            },
            prepare={"sequenceLength": 512, "workers": 3},
            train=_TRAIN,
            evaluate=_EVALUATE,
        ),
        runs.stage(
            "sft",
            type="SFT",
            datasets=[runs.dataset("chat", messagesField="messages")],
            prepare={"sequenceLength": 256, "decontamination": "Disabled"},
            annotate={
                "from": {
                    "scoreField": "score", "critiqueField": "words", "scale": {"min": "0", "max": "5"}
                }
            },
        ),
    ],
)  # fmt: skip


SHOWN = {
    "small": (SMALL, "pretrain/inventory pretrain/judge pretrain/annotate/0-15 pretrain/prepare/conditioned "
              "pretrain/train/conditioned-s0 pretrain/evaluate/conditioned-s0 report"),
    "endpoint": (ENDPOINT, "pretrain/annotate/0-15"),
    "rich": (RICH, "pretrain/inventory sft/inventory pretrain/judge pretrain/annotate/15-40 "
             "pretrain/annotate/holdout pretrain/prepare/annealed pretrain/train/annealed-s7 "
             "pretrain/evaluate/annealed-s7 pretrain/train/filtered-s1 "
             "sft/prepare/filtered sft/train/filtered-s1 report"),
}  # fmt: skip
"""Of each run the nodes whose tasks are kept."""

VERIFIED = (
    *("pretrain/inventory", "pretrain/annotate/15-40", "sft/prepare/filtered"),
    *("pretrain/evaluate/annealed-s7", "report"),
)
"""Nodes of the rich run whose tasks are kept as those of a model's answers, too."""

VERIFIER = Verifier(
    type=VerifierType.FUNCTION,
    function="rewards.score",
    revision="2",
    pattern="x",
    schema_text="{}",
    extract="y",
    tolerance="0.1",
    min="-1",
    max="2",
    passing_percent=50,
    timeout_seconds=20,
    memory_mi_b=512,
)


def tasks() -> dict[str, Task]:
    """Tasks by run and node, as the planner makes them."""
    found: dict[str, Task] = {}
    for name, (run, nodes) in SHOWN.items():
        sim, left = Platform(run), nodes.split()
        for created in sim.history():
            for node in created:
                task = sim.newest(node).child.task
                if node in left and task:
                    found[f"{name}: {node}"] = task
    found["without a lane: report"] = _report_without_a_lane()
    found |= {f"answers: {node}": _of_answers(found[f"rich: {node}"]) for node in VERIFIED}
    return found | _tasks_of_rounds()


def _tasks_of_rounds() -> dict[str, Task]:
    """Tasks of a run with a Rollout stage."""
    held = "post/generate/holdout/c-s0/r1"
    wanted = ("post/policy/c-s0/r2", held, "post/generate/c-s0/r2", "post/prepare/c-s0/r2", "report")
    stage = rollouts.stage(rollout=rollouts.WHOLE, evaluate={})
    sim = Platform(runs.run(stages=[runs.stage("sft"), stage], arms=[runs.arm("c")]))
    made = {node: sim.newest(node).child.task for created in sim.history() for node in created}
    return {f"rounds: {node}": task for node in wanted if (task := made[node])}


def _of_answers(task: Task) -> Task:
    """The task with documents that are a model's answers to prompts."""
    config = task.config
    known = {"verifier": VERIFIER, "judge_sees": JudgeSees.ANSWER_ONLY, "rollout": True}
    own: dict[str, Any] = {name: value for name, value in known.items() if name in type(config).model_fields}
    if isinstance(config, ReportConfig):
        lane = config.lanes[0]
        made = {kind: getattr(lane, kind) for kind in ("prepare", "train", "evaluate")}
        first = ReportRound(round=1, generate="a/generate/x", annotate="a/annotate/x", **made)
        own["lanes"] = (lane.model_copy(update={"rounds": (first,)}),)
    return task.model_copy(update={"config": config.model_copy(update=own)})


def _report_without_a_lane() -> Task:
    """The report of a run of which one of two lanes was given up."""
    sim = Platform(RICH)
    sim.until("pretrain/train/filtered-s1")
    sim.fail("pretrain/train/filtered-s1", 65, message="too long", fault=Fault.USER)
    list(sim.history())
    task = sim.newest("report").child.task
    assert task
    return task


RESULTS = {
    "inventory": Result(
        outcome=Outcome.COMMITTED,
        key="0123456789abcdef" * 2,
        message="1,000 documents, 256 more held out, 3 duplicates",
        pins={"datasets": "d" * 64, "judge": "e" * 64},
        committed=(0, 2, 9),
        saved_flops={"training": 10**18},
        spent=Spent(starting=2, unsaved=1),
    ),
    "train": Result(
        outcome=Outcome.COMMITTED,
        key="f" * 32,
        message="done",
        flops={"training": 10**20},
        spent=Spent(starting=2, waiting=0.5),
        figures={"ixt_training_loss": {"": 2.5}},
    ),
    "cached": Result(outcome=Outcome.CACHED, key="f" * 32),
    "shared": Result(outcome=Outcome.SHARED),
    "failed": Result(
        outcome=Outcome.FAILED, message="no file", hint="check the URI", fault=Fault.USER
    ),
}  # fmt: skip

PROGRESS = {
    "begun": Progress(),
    "running": Progress(
        done=10,
        total=40,
        unit="tokens",
        per_second=2.5,
        message="step 10",
        spent=Spent(starting=2, unsaved=8.5),
        figures={"ixt_training_loss": {"": 3}},
    ),
}


def statuses() -> dict[str, RunStatus]:
    """Statuses of runs in the middle and at their ends."""
    running, failed, complete = Platform(RICH), Platform(SMALL), Platform(RICH)
    running.until("sft/train/annealed-s7")
    failed.until("pretrain/prepare/conditioned")
    failed.fail("pretrain/prepare/conditioned", 65, message="too long", fault=Fault.USER)
    failed.look()
    list(complete.history())
    found = {"running": running.status, "failed": failed.status, "complete": complete.status}
    return {name: status for name, status in found.items() if status}


def documents() -> dict[str, dict[str, Any]]:
    """All of these as JSON values, by group and name."""
    groups: dict[str, Mapping[str, BaseModel]] = {
        "tasks": tasks(), "results": RESULTS, "progress": PROGRESS, "statuses": statuses()
    }  # fmt: skip
    return {group: {name: written(one) for name, one in found.items()} for group, found in groups.items()}


def written(document: BaseModel) -> Any:
    """A document as whoever makes it writes it."""
    match document:
        case Task():
            return json.loads(write_task(document))
        case Result():
            return document.model_dump(mode="json", exclude_defaults=True)
        case RunStatus():
            return document.model_dump(mode="json", exclude_none=True)
    return document.model_dump(mode="json")


MODELS: dict[str, type[BaseModel]] = {"results": Result, "progress": Progress, "statuses": RunStatus}


def read(group: str, document: Any) -> BaseModel:
    """A document as whoever gets it reads it."""
    if group == "tasks":
        return read_task(json.dumps(document).encode())
    return read_known(MODELS[group], json.dumps(document))


def schemas() -> dict[str, Any]:
    """Schemas of documents as they are written; a kind's task is `<Kind>Task` in those of the tasks."""
    nodes = [_of_kind(Node, kind) for kind in KINDS]
    probe = create_model("ProbeOfKinds", __base__=Probe, nodes=(tuple[Union[*nodes], ...], ...))
    found = [_of_kind(Task, kind, probe=(probe | None, None)) for kind in KINDS]
    models = {"tasks": Union[*found], **MODELS}
    return {
        name: _bare(TypeAdapter(model).json_schema(mode="serialization")) for name, model in models.items()
    }


def _of_kind(base: type[Any], kind: str, **fields: Any) -> Any:
    own = {"kind": (Literal[kind], ...), "config": (KINDS[kind].config, ...), **fields}
    return create_model(kind + base.__name__, __base__=base, **own)


def _bare(schema: Any) -> Any:
    """A schema without words for people."""
    if isinstance(schema, dict):
        words = {name for name in ("title", "description") if isinstance(schema.get(name), str)}
        return {name: _bare(value) for name, value in schema.items() if name not in words}
    return [_bare(item) for item in schema] if isinstance(schema, list) else schema
