"""What a pod of a training has, for the Inventory that refuses what cannot be trained there."""

from pydantic import Field

from ixt_workloads.contract.base import Model

TRAINER_POD = "IXT_TRAINER_POD"
"""Variable of an Inventory in a cluster: a TrainerPod of its stage as JSON."""


class TrainerPod(Model):
    """One pod of a training, as far as its template tells."""

    gpus: int = Field(default=0, ge=0)
    gpu: str | None = None
    """Name of the GPUs, where nodes are chosen by it."""
    memory_bytes: int | None = Field(default=None, ge=1)
    """The most that its main container may take; None without a limit."""
