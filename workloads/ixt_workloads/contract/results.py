"""What a step's process tells: progress while it runs, and at its end a result.

A result has at most 4,096 bytes of JSON and lies at $IXT_RESULT (the termination log).
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from ixt_workloads.contract.base import Model
from ixt_workloads.contract.exits import Fault
from ixt_workloads.contract.foreign import Text

MAX_RESULT_BYTES = 4096
MAX_LOG_TAIL = 1000

POINT = "point"
"""Field of a log's line that is a point of a training's curve: `step`, `tokens`, and figures by the names
that trackers show."""


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


Amount = Annotated[float, Field(ge=0, le=2**53, allow_inf_nan=False)]
"""Of work, of time, or a rate. What a pod tells beyond it is left out, see `read_known`."""

GainMeasure = Literal["Accuracy", "LogProbability"]
"""What a gain is measured in: accuracy from 0 to 1, or log p of held-out documents in nats a token."""

Figures = dict[str, dict[str, float]]
"""See `figures.py`."""


class Spent(Model):
    """How a process spent its time since it was started, in seconds: their sum is its age."""

    starting: Amount = 0
    """Before its first unit of work."""
    waiting: Amount = 0
    """For others."""
    saved: Amount = 0
    """On work that will last, whatever becomes of it."""
    unsaved: Amount = 0
    """On work that is lost if it fails now."""


MAX_GAINS = 16


class Gain(Model):
    """What an arm gains over another at equal FLOPs, annotation included."""

    stage: str = Field(max_length=63)
    arm: str = Field(max_length=63)
    baseline: str = Field(max_length=63)
    """The arm that it is compared with."""
    measure: GainMeasure
    gain: float = Field(ge=-1e12, le=1e12, allow_inf_nan=False)
    """The difference; above 0 the arm is better."""


class Result(Model):
    """What a process of a step did."""

    outcome: Outcome
    key: str = ""
    message: Text = Field(default="", max_length=2048)
    """One line for people: what was done, or what failed where."""
    hint: Text = Field(default="", max_length=512)
    """What to do next after a failure."""
    fault: Fault | None = None
    log_tail: Text = Field(default="", max_length=MAX_LOG_TAIL)
    """After a failure the last lines of its log."""
    pins: dict[str, str] = {}
    """Inventory: content hashes of what the stage reads, by pin name."""
    committed: Places = ()
    """Inventory: which of the probe's nodes are committed, by their place."""
    flops: dict[str, int] = {}
    """FLOPs by purpose: annotation, evaluation, generation, training."""
    saved_flops: dict[str, int] = {}
    """Inventory: FLOPs by purpose that made what was committed already."""
    spent: Spent = Spent()
    figures: Figures = {}
    """Its last figures; of counters and histograms the whole."""
    gains: tuple[Gain, ...] = Field(default=(), max_length=MAX_GAINS)
    """Report: what arms gain, the stage of its verdict first."""


class Progress(Model):
    """What a running process answers at GET /progress, at most 16 kB."""

    done: Amount = 0
    total: Amount | None = None
    unit: Text = Field(default="", max_length=64)
    """documents, tokens, sequences ..."""
    per_second: Amount | None = None
    """Current rate in units a second."""
    steady_per_second: Amount | None = None
    """Rate over the second half of the time so far, pauses included. It changes slowly: what is left is told
    by it."""
    message: Text = Field(default="", max_length=512)
    spent: Spent = Spent()
    figures: Figures = {}

    @property
    def seconds_left(self) -> float | None:
        """Seconds until all is done, as far as that can be told."""
        rate = self.steady_per_second or self.per_second
        return max(0.0, self.total - self.done) / rate if self.total and rate else None
