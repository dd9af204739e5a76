"""Scores of an evaluation, as they stand in evaluation.json and in the points of curve.json. Pure."""

from collections.abc import Mapping
from typing import Any

from ixt_workloads.contract.settings import EvalPrefix


def held_out_loss(scores: Mapping[str, Any] | None) -> float | None:
    """Loss on held-out documents without prefix, in nats a token; None where it was not measured."""
    found = ((scores or {}).get("documents") or {}).get(EvalPrefix.NONE)
    return found["nll"] if found else None
