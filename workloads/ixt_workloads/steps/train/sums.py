"""What ranks agree on: one small vector that they add up in every step."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist

from ixt_workloads.steps.train.ranks import World


class Sums(NamedTuple):
    """What all ranks add up in a step."""

    loss: float
    """In nats, over the targets."""
    router: float
    """What is added to it for experts that are used unevenly."""
    targets: float
    tokens: float
    squares: float
    """Of the segments' lengths: what attention costs."""
    stopping: float
    """Ranks that were told to stop."""
    saving: float
    """1 when rank 0 wants a checkpoint."""
    saved: float
    """Ranks that have written their part of the pending checkpoint."""


class OfRank(NamedTuple):
    """What every rank says of itself, in a place of its own. Memory in bytes."""

    seconds: float = 0.0
    """That it computed in the step before, without waiting for others."""
    allocated: float = 0.0
    reserved: float = 0.0
    resident: float = 0.0


def add_up(losses: torch.Tensor, own: Sums, of_rank: OfRank, place: World) -> tuple[Sums, Sequence[float]]:
    """The sums over all ranks, and the places of the ranks (`by_rank`). `losses` are this rank's two, float64
    on its device, which are waited for here; `own.loss` and `own.router` are left out."""
    head, width = len(Sums._fields), len(OfRank._fields)
    first = head + place.rank * width
    values = torch.zeros(head + place.size * width, dtype=torch.float64)
    values[:head] = torch.tensor(own, dtype=torch.float64)
    values[first : first + width] = torch.tensor(of_rank, dtype=torch.float64)
    values = values.to(place.device)
    values[:2] = losses
    dist.all_reduce(values)
    found = values.tolist()
    return Sums(*found[:head]), found[head:]


def by_rank(values: Sequence[float], field: str) -> Sequence[float]:
    """One field of every rank, from the places that `add_up` found."""
    return values[OfRank._fields.index(field) :: len(OfRank._fields)]
