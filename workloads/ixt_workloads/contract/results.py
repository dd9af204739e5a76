"""What a step's process tells: progress while it runs, and at its end a result.

A result has at most 4,096 bytes of JSON and lies at $IXT_RESULT (the termination log).
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer

from ixt_workloads.contract.base import Model
from ixt_workloads.contract.exits import Fault

MAX_BYTES = 4096


def _places(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    bits = int(value, 16)
    return tuple(place for place in range(bits.bit_length()) if bits >> place & 1)


Places = Annotated[
    tuple[int, ...],
    BeforeValidator(_places),
    PlainSerializer(lambda places: f"{sum(1 << place for place in places):x}", return_type=str),
]
"""Ascending places in a list. In JSON a hexadecimal number with a bit for each: a thousand fit a result."""


class Outcome(StrEnum):
    """How a step's process ended."""

    COMMITTED = "Committed"
    CACHED = "Cached"
    SHARED = "Shared"
    """This index is done; another index commits."""
    FAILED = "Failed"
    OTHER = "Other"
    """An outcome that only another version knows."""

    @classmethod
    def _missing_(cls, value: object) -> "Outcome":
        return cls.OTHER


class Result(Model):
    """What a process of a step did."""

    outcome: Outcome
    key: str = ""
    message: str = Field(default="", max_length=2048)
    """One line for people: what was done, or what failed where."""
    hint: str = Field(default="", max_length=512)
    """What to do next after a failure."""
    fault: Fault | None = None
    pins: dict[str, str] = {}
    """Inventory: content hashes of what the stage reads, by pin name."""
    committed: Places = ()
    """Inventory: which of the probe's nodes are committed, by their place."""
    flops: dict[str, int] = {}
    """FLOPs by purpose: annotation, evaluation, training."""
    metrics: dict[str, float] = {}
    """A few figures for status and progress display."""


Figure = Annotated[float, Field(ge=0, le=2**53, allow_inf_nan=False)]
"""A count of work, or a rate. What a pod tells beyond it is left out, see `read_known`."""


class Progress(Model):
    """What a running process answers at GET /progress, at most 16 kB."""

    done: Figure = 0
    total: Figure | None = None
    unit: str = ""
    """documents, tokens, sequences ..."""
    per_second: Figure | None = None
    """Current rate in units a second."""
    message: str = Field(default="", max_length=512)
    metrics: dict[str, float] = {}
