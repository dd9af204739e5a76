"""What operator and workloads tell each other, as today's code writes it, and the schemas of it.

Tasks of a run that sets next to nothing, of one that sets all that it can, and of one with a judge that
somebody else serves; results, progress and statuses.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal, Union

from pydantic import BaseModel, TypeAdapter, create_model

from ixt_operator.api.status import RunStatus
from ixt_workloads.contract.exits import Fault
from ixt_workloads.contract.graph import Node, Probe, Task
from ixt_workloads.contract.kinds import KINDS
from ixt_workloads.contract.results import Outcome, Progress, Result
from ixt_workloads.contract.versions import read_known, read_task, write_task
from make import runs
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
}
_TRAIN = {
    "batchTokens": 65_536,
    "optimizer": {
        "learningRate": "1e-3", "weightDecay": "0.01", "beta1": "0.8", "beta2": "0.99",
        "epsilon": "1e-6", "maxGradNorm": "0.5",
    },
    "schedule": {"type": "WarmupStableDecay", "warmupPercent": 1, "decayPercent": 30, "finalPercent": 0},
    "precision": "FP32",
    "evalEveryTokens": 100_000,
    "numNodes": 2,
    "numProcPerNode": 4,
    "microBatchSequences": 8,
    "parallelism": "FullyShard",
    "compile": "Disabled",
    "checkpoint": {"intervalSeconds": 60, "keep": 3},
}  # fmt: skip
RICH = runs.run(
    name="rich",
    model={"source": "hf://owner/model", "revision": "main", "credentialsSecretRef": {"name": "hub"}},
    judge={
        "credentialsSecretRef": {"name": "hub"},
        "model": "hf://owner/judge",
        "revision": "main",
        "reasoningParser": "deepseek_r1",
        "sampling": {"temperature": "0.70", "topP": "0.9", "maxTokens": 512, "retries": 0},
        "rubric": {"inline": {
            "instructions": "Score it.", "axes": ["truth", "style"], "minScore": 0, "maxScore": 9,
            "idealCritique": "Good.", "worstCritique": "Bad.",
        }},
    },
    conditioning={
        "format": "Critique", "levels": 3, "calibration": "Quantile", "dropoutPercent": 5,
        "maxFeedbackTokens": 64, "lossOnFeedback": "Mask", "inferenceFeedback": "Perfect.",
    },
    arms=[
        runs.arm("annealed", "Annealed", seeds=[7], samplePercent=40),
        runs.arm("filtered", "Filtered", seeds=[1], samplePercent=15),
    ],
    stages=[
        runs.stage(
            datasets=[
                runs.dataset(
                    uri="s3://bucket/documents", format="Jsonl", textField="body", weight=50,
                    credentialsSecretRef={"name": "bucket"},
                )
            ],
            annotate={"workers": 2, "gates": {"maxInvalidPercent": 5, "maxOverlapPercent": 10}},
            prepare={"sequenceLength": 512, "workers": 3},
            train=_TRAIN,
            evaluate=_EVALUATE,
        ),
        runs.stage(
            "sft",
            type="SFT",
            datasets=[runs.dataset("chat", messagesField="messages")],
            annotate={"from": {"scoreField": "score", "critiqueField": "words"}},
        ),
    ],
)  # fmt: skip


SHOWN = {
    "small": (SMALL, "pretrain/inventory pretrain/judge pretrain/annotate/0-15 pretrain/prepare/conditioned "
              "pretrain/train/conditioned-s0 pretrain/evaluate/conditioned-s0 report"),
    "endpoint": (ENDPOINT, "pretrain/annotate/0-15"),
    "rich": (RICH, "pretrain/inventory sft/inventory pretrain/judge pretrain/annotate/15-40 "
             "pretrain/annotate/holdout pretrain/prepare/annealed pretrain/train/annealed-s7 "
             "pretrain/evaluate/annealed-s7 report"),
}  # fmt: skip
"""Of each run the nodes whose tasks are kept."""


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
    return found


RESULTS = {
    "inventory": Result(
        outcome=Outcome.COMMITTED,
        key="0123456789abcdef" * 2,
        message="1,000 documents, 256 more held out, 3 duplicates",
        pins={"datasets": "d" * 64, "judge": "e" * 64},
        committed=(0, 2, 9),
        metrics={"documents": 1000},
    ),
    "train": Result(
        outcome=Outcome.COMMITTED,
        key="f" * 32,
        message="done",
        flops={"training": 10**20},
        metrics={"loss": 2.5},
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
        done=10, total=40, unit="tokens", per_second=2.5, message="step 10", metrics={"loss": 3}
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
