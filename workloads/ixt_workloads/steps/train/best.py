"""The weights with which a training did best on held-out documents, beside those that it goes on with."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from ixt_workloads.contract.scores import held_out_loss

Tensors = Mapping[str, Any]
"""By name; of a sharded model this rank's shards."""


def room_for(weights: Tensors, dtype: torch.dtype) -> dict[str, Any]:
    """Tensors like the weights in the dtype in which they are exported, which is all that is needed of the
    best."""
    return {name: torch.zeros_like(value, dtype=dtype) for name, value in weights.items()}


def copied(source: Tensors, target: Tensors) -> None:
    """Copy tensors into those of the same name. Every rank does with its own shards."""
    for name, value in target.items():
        _own(value).copy_(_own(source[name]))


def better(best: Mapping[str, Any], step: int, scores: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Step and held-out loss of an evaluation without prefix, if it is better than the best so far; None for
    one before the first step, which is of the model that the training started with."""
    loss = held_out_loss(scores)
    if not step or loss is None or not loss < best.get("loss", float("inf")):
        return None
    return {"step": step, "loss": loss}


def _own(value: Any) -> torch.Tensor:
    own: torch.Tensor = value.to_local() if isinstance(value, DTensor) else value
    return own
