"""Runs and runtimes, as manifests and as models."""

from typing import Any

from ixt_operator.api.meta import API_VERSION
from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.render.builtin_runtimes import SECURITY, cpu, nvidia

RUNTIMES = {"cpu": cpu("ixt:test"), "nvidia": nvidia("ixt:test")}
"""The chart's runtimes."""

RESTRICTED = SECURITY
"""The security context of a container of the restricted Pod Security Standard."""

SECRET = {"name": "s" * 253}


def dataset(name: str = "documents", **fields: Any) -> dict[str, Any]:
    """A dataset of a manifest."""
    return {"name": name, "uri": f"file:///data/{name}.jsonl", **fields}


def stage(name: str = "pretrain", **fields: Any) -> dict[str, Any]:
    """A small stage of a manifest. `train` is laid over the default training."""
    train = {"maxTokens": 65_536, "batchTokens": 4096, **fields.pop("train", {})}
    return {
        "name": name,
        "type": "Pretrain",
        "datasets": [dataset()],
        "prepare": {"sequenceLength": 256},
        "train": train,
        **fields,
    }


def arm(name: str, method: str = "Conditioned", **fields: Any) -> dict[str, Any]:
    """An arm of a manifest."""
    return {"name": name, "method": method, **fields}


def manifest(*, name: str = "test", **spec: Any) -> dict[str, Any]:
    """A small valid run as a manifest. Fields of the spec are given in camelCase; None leaves one out."""
    fields = {
        "storage": {"uri": "file:///storage"},
        "model": {"config": "file:///model", "tokenizer": "file:///model"},
        "judge": {"model": "file:///judge"},
        "stages": [stage()],
        **spec,
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "IXTRun",
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", "generation": 1},
        "spec": {field: value for field, value in fields.items() if value is not None},
    }


def run(*, name: str = "test", **spec: Any) -> IXTRun:
    """A small valid run; fields of the spec as in `manifest`."""
    return IXTRun.model_validate(manifest(name=name, **spec))


def patch(*, spec: dict[str, Any] | None = None, **main: Any) -> dict[str, Any]:
    """A patch of pods: fields of the main container, and of the pods' spec."""
    containers = [{"name": "main", **main}] if main else []
    return {"spec": {**({"containers": containers} if containers else {}), **(spec or {})}}


def keys(status: dict[str, Any]) -> dict[str, str]:
    """Keys of a status, by stage and step; empty where they are not known yet."""
    return {
        f"{stage['name']}/{step['name']}": step.get("key", "")
        for stage in status["stages"]
        for step in stage["steps"]
    }


def runtime() -> IXTRuntime:
    """The runtime `cpu`."""
    return RUNTIMES["cpu"]


def applied(**fields: Any) -> dict[str, Any]:
    """A run as a user applies it: `manifest` without what the API server gives."""
    found = manifest(**fields)
    found["metadata"] = {"name": found["metadata"]["name"]}
    return found


def maximal() -> dict[str, Any]:
    """A run with every field set and every list and name as long as it may be.

    Of fields that exclude each other one is set: a hub's model, a judge of the run's own, an inline rubric.
    """
    return applied(
        name="m" * 63,
        runtimeRef={"name": "r" * 253},
        storage={
            "uri": "s3://bucket/prefix",
            "credentialsSecretRef": SECRET,
            "signingKeySecretRef": {**SECRET, "key": "k" * 253},
            "shared": "Disabled",
        },
        model={
            "source": "hf://owner/model",
            "revision": "r" * 128,
            "chatTemplate": "t" * 128,
            "credentialsSecretRef": SECRET,
        },
        judge={
            "model": "hf://owner/judge",
            "revision": "r" * 128,
            "credentialsSecretRef": SECRET,
            "second": {
                "url": "https://" + "s" * 1016,
                "model": "m" * 256,
                "apiKeySecretRef": {**SECRET, "key": "k" * 253},
                "activeParameters": 10**15,
            },
            "reasoningParser": "p" * 40,
            "systemPrompt": "s" * 16_384,
            "chatTemplateKwargs": [
                {"name": f"k{index}".ljust(64, "x"), "value": "v" * 1024} for index in range(16)
            ],
            "rubric": {
                "inline": {
                    "instructions": "i" * 16_384,
                    "axes": [f"axis_{index}".ljust(40, "x") for index in range(16)],
                    "minScore": 0,
                    "maxScore": 100,
                    "document": "Bare",
                    "idealCritique": "c" * 2048,
                    "worstCritique": "c" * 2048,
                }
            },
            "sampling": {
                "temperature": "0.6",
                "topP": "0.95",
                "topK": 1_000_000,
                "minP": "0.1",
                "presencePenalty": "1.5",
                "thinkingTokens": 131_072,
                "maxTokens": 131_072,
                "retries": 10,
            },
            "engine": {
                "minReplicas": 1024,
                "maxReplicas": 1024,
                "tensorParallelSize": 64,
                "args": [f"--max-num-seqs={index + 1}" for index in range(64)],
            },
        },
        conditioning=_conditioning(),
        comparison="EqualTokens",
        arms=[_arm("a" * 24, "Conditioned"), _arm("b" * 24, "Filtered")],
        maxParallelLanes=512,
        stages=[_maximal_stage(f"stage-{index}".ljust(24, "x")) for index in range(16)],
        trackers={
            "tensorboard": {},
            "mlflow": {
                "uri": "https://" + "m" * 1016,
                "experiment": "e" * 256,
                "credentialsSecretRef": SECRET,
            },
            "wandb": {
                "project": "p" * 128,
                "entity": "e" * 128,
                "baseUrl": "https://" + "w" * 1016,
                "credentialsSecretRef": SECRET,
            },
        },
        pods=dict.fromkeys(("all", "judge", "worker", "trainer", "evaluator"), _patch()),
        managedBy="ixt.dev/operator",
        queueName="q" * 63,
        suspend=True,
        failurePolicy={
            "lanes": "FailFast",
            **dict.fromkeys(("infrastructure", "application", "outOfMemory", "diverged", "hung"), 1000),
        },
        activeDeadlineSeconds=31_536_000,
        schedulingTimeoutSeconds=31_536_000,
        ttlSecondsAfterFinished=31_536_000,
    )


def _conditioning() -> dict[str, Any]:
    return {
        "format": "TokenAndCritique",
        "levels": 10,
        "calibration": "Quantile",
        "levelFrom": "Both",
        "dropoutPercent": 100,
        "maxFeedbackTokens": 4096,
        "lossOnFeedback": "Mask",
        "inferenceFeedback": "f" * 2048,
    }


def _arm(name: str, method: str) -> dict[str, Any]:
    return arm(name, method, seeds=list(range(32)), tokensPercent=10_000, samplePercent=100)


def _maximal_stage(name: str) -> dict[str, Any]:
    fields = {"format": "Parquet", "textField": "t" * 128, "messagesField": "m" * 128, "weight": 1000}
    fields |= {"promptField": "p" * 128, "answerField": "a" * 128, "split": "s" * 64}
    places = {"uri": "s3://bucket/data", "credentialsSecretRef": SECRET}
    resources = {"requests": _amounts(), "limits": _amounts()}
    decimals = ("learningRate", "weightDecay", "beta1", "beta2", "epsilon", "maxGradNorm")
    return {
        "name": name,
        "type": "SFT",
        "datasets": [dataset(f"d{index}".ljust(40, "x"), **places, **fields) for index in range(32)],
        "annotate": {
            "samplePercent": 100,
            "workers": 256,
            "deadlineSeconds": 31_536_000,
            "gates": {
                **dict.fromkeys(
                    (
                        "maxInvalidPercent",
                        "maxOverlapPercent",
                        "maxDisagreementPercent",
                        "maxRewritingPercent",
                        "minReferencePercent",
                        "maxOneScorePercent",
                        "maxTruncatedPercent",
                        "maxContradictionPercent",
                        "maxQuotingPercent",
                    ),
                    100,
                ),
                "warn": [
                    "Invalid",
                    "Overlap",
                    "Disagreement",
                    "Reference",
                    "Rewriting",
                    "OneScore",
                    "Truncated",
                    "Contradiction",
                    "Quoting",
                ],
            },
            "from": {
                "scoreField": "s" * 128,
                "critiqueField": "c" * 128,
                "scale": {"min": "-1.5", "max": "5"},
            },
        },
        "conditioning": _conditioning(),
        "prepare": {"sequenceLength": 1_048_576, "decontamination": "Disabled", "workers": 256},
        "train": {
            "maxTokens": 10**13,
            "batchTokens": 1_048_576 * 512,
            "optimizer": {**dict.fromkeys(decimals, "0.1"), "momentsPrecision": "BF16"},
            "schedule": {
                "type": "WarmupStableDecay",
                "warmupPercent": 100,
                "decayPercent": 100,
                "finalPercent": 100,
            },
            "precision": "BF16",
            "evalEveryTokens": 10**15,
            "export": "Best",
            "numNodes": 4096,
            "numProcPerNode": 64,
            "microBatchSequences": 65_536,
            "parallelism": "FullyShard",
            "compile": "Enabled",
            "activationCheckpointing": "Selective",
            "checkpoint": {"intervalSeconds": 86_400, "keep": 100},
            "resourcesPerNode": resources,
        },
        "evaluate": {
            "tasks": [
                {"name": f"t{index}".ljust(40, "x"), **places, "maxItems": 100_000} for index in range(32)
            ],
            "harness": {
                "tasks": [{"name": f"h{index}".ljust(40, "x"), **places} for index in range(32)],
                "limit": 1_000_000,
                "fewshot": 64,
                "samples": 64,
            },
            "prefixes": ["Best", "None", "Worst", "Random"],
            "holdoutDocuments": 100_000,
            "maxNewTokens": 8192,
        },
    }


def _amounts() -> dict[str, Any]:
    return {f"example.com/resource-{index}": "1.5Gi" for index in range(16)}


def _patch() -> dict[str, Any]:
    found = patch(
        resources={"requests": _amounts(), "limits": _amounts()},
        image="i" * 512,
        env=[{"name": f"V{index}".ljust(128, "x"), "value": "v"} for index in range(64)],
        spec={
            "serviceAccountName": "s" * 253,
            "nodeSelector": {f"example.com/label-{index}": "v" * 63 for index in range(32)},
            "tolerations": [
                {
                    "key": f"example.com/taint-{index}",
                    "operator": "Equal",
                    "value": "v" * 63,
                    "effect": "NoExecute",
                    "tolerationSeconds": 31_536_000,
                }
                for index in range(32)
            ],
            "priorityClassName": "p" * 253,
            "imagePullSecrets": [{"name": f"s{index}".ljust(253, "x")} for index in range(8)],
        },
    )
    return {"metadata": {"labels": {"team": "t" * 63}, "annotations": {"note": "n" * 1024}}, **found}
