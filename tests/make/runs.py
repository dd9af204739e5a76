"""Runs and runtimes, as manifests and as models."""

from typing import Any

from ixt_operator.api.meta import API_VERSION
from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.api.runtimes import cpu


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


def runtime() -> IXTRuntime:
    """The runtime `cpu`."""
    return cpu("ixt:test")
