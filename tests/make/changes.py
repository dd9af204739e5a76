"""Changes of a run, one for each row of docs/mutability.md."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

from make import runs
from make.limits import put

DOCS = Path(__file__).parents[2] / "docs" / "mutability.md"
ROWS = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|", DOCS.read_text(), re.MULTILINE))

CHANGES: dict[str, Any] = {
    "suspend": True,
    "queueName": "batch",
    "runtimeRef": {"name": "nvidia"},
    "pods": {"trainer": runs.patch(resources={"limits": {"cpu": 2}}, image="other")},
    "maxParallelLanes": 2,
    "failurePolicy": {"hung": 0},
    "activeDeadlineSeconds": 60,
    "schedulingTimeoutSeconds": 60,
    "ttlSecondsAfterFinished": 60,
    "storage.credentialsSecretRef": {"name": "others"},
    "storage.signingKeySecretRef": {"name": "signing", "key": "key"},
    "model.credentialsSecretRef": {"name": "others"},
    "judge.credentialsSecretRef": {"name": "others"},
    "judge.second": {"url": "https://judge.example/v1", "model": "m"},
    "stages[].datasets[].credentialsSecretRef": {"name": "others"},
    "stages[].evaluate.tasks[].credentialsSecretRef": {"name": "others"},
    "stages[].evaluate.harness.tasks[].credentialsSecretRef": {"name": "others"},
    "trackers": {"tensorboard": {}},
    "trackers.mlflow.credentialsSecretRef": {"name": "others"},
    "trackers.wandb.credentialsSecretRef": {"name": "others"},
    "judge.engine": {"maxReplicas": 4, "tensorParallelSize": 2, "args": ["--max-num-seqs=8"]},
    "stages[].annotate.workers": 4,
    "stages[].annotate.deadlineSeconds": 60,
    "stages[].prepare.workers": 4,
    "stages[].train.numNodes": 4,
    "stages[].train.numProcPerNode": 4,
    "stages[].train.microBatchSequences": 4,
    "stages[].train.parallelism": "FullyShard",
    "stages[].train.compile": "Disabled",
    "stages[].train.activationCheckpointing": "Full",
    "stages[].train.checkpoint": {"intervalSeconds": 60},
    "stages[].train.resourcesPerNode": {"requests": {"cpu": 2}},
    "judge.rubric": {
        "inline": {"instructions": "Score it.", "idealCritique": "Good.", "worstCritique": "Bad."},
    },
    "judge.sampling": {"temperature": "0.7"},
    "judge.systemPrompt": "Be strict.",
    "judge.chatTemplateKwargs": [{"name": "enable_thinking", "value": "true"}],
    "judge.reasoningParser": "deepseek_r1",
    "judge.model": "file:///other",
    "conditioning": {"levels": 3},
    "arms": [runs.arm("conditioned"), runs.arm("plain", "NextToken")],
    "comparison": "EqualTokens",
    "stages[].type": "Midtrain",
    "stages[].datasets": [runs.dataset("other")],
    "stages[].rollout": {"temperature": "0.7"},  # tried in test_rollout.py
    "stages[].annotate.samplePercent": 50,
    "stages[].annotate.gates": {"maxOverlapPercent": 20},
    "stages[].annotate.referenceField": "rating",
    "stages[].annotate.from": {"scoreField": "score", "critiqueField": "words"},
    "stages[].conditioning": {"format": "Token"},
    "stages[].prepare.sequenceLength": 512,
    "stages[].prepare.decontamination": "Disabled",
    "stages[].train.maxTokens": 131_072,
    "stages[].train.batchTokens": 8192,
    "stages[].train.optimizer": {"learningRate": "1e-3"},
    "stages[].train.schedule": {"type": "Constant"},
    "stages[].train.precision": "FP32",
    "stages[].train.evalEveryTokens": 8192,
    "stages[].train.export": "Best",
    "stages[].evaluate": {"maxNewTokens": 8},
    "stages[].evaluate.harness": {"tasks": [{"name": "gsm8k"}], "limit": 8},
    "stages": [runs.stage(), runs.stage("more")],
    "managedBy": "kueue.x-k8s.io/multikueue",
    "storage.uri": "s3://bucket/other",
    "storage.shared": "Disabled",
    "model": {"source": "hf://a/b"},
    "stages[].name": "other",
}
"""A change of every row of the table."""

BEFORE: dict[str, Any] = {
    "storage": {"uri": "s3://bucket/runs", "credentialsSecretRef": {"name": "keys"}},
    "model": {"config": "s3://bucket/model", "tokenizer": "s3://bucket/model"},
    "judge": {"model": "s3://bucket/judge"},
    "trackers": {"mlflow": {"uri": "http://mlflow"}, "wandb": {"project": "sums"}},
    "arms": [runs.arm("conditioned"), runs.arm("next-token", "NextToken")],
    "stages": [
        runs.stage(
            datasets=[runs.dataset(uri="s3://bucket/documents")],
            evaluate={
                "tasks": [{"name": "sums", "uri": "s3://bucket/sums.jsonl"}],
                "harness": {"tasks": [{"name": "own", "uri": "s3://bucket/tasks"}]},
            },
        )
    ],
}
"""The spec's fields before a change."""


def changed(field: str) -> dict[str, Any]:
    """A run with one change, as a manifest; the other is `runs.manifest(**BEFORE)`."""
    manifest = runs.manifest(**deepcopy(BEFORE))
    return put(manifest, f"spec.{field}".replace("[]", "[0]"), CHANGES[field])
