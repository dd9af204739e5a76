"""The status of an IXTRun: what the operator found out, in the words of Kubernetes' API conventions."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from ixt_operator.api.meta import Whole
from ixt_workloads.contract.base import Lenient, Percent
from ixt_workloads.contract.exits import Fault
from ixt_workloads.contract.kinds import KINDS

MAX_BYTES = 64_000
"""No status is larger as JSON (see `fitted`)."""

MAX_MESSAGE = 1024
MAX_STEP_MESSAGE = 120


class Phase(StrEnum):
    """Where the run is, derived from the conditions."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    FAILED = "Failed"


class ConditionType(StrEnum):
    """The conditions of a run, all set at the operator's first visit."""

    ACCEPTED = "Accepted"
    """The spec can be run."""
    PROGRESSING = "Progressing"
    """Steps are running or waiting to."""
    SUSPENDED = "Suspended"
    """Everything is stopped and freed, because spec.suspend says so."""
    COMPLETE = "Complete"
    """Every step is committed."""
    FAILED = "Failed"
    """The run ended without completing."""


class Reason(StrEnum):
    """Why a condition is as it is. One word for machines; the message is for people."""

    PENDING = "Pending"
    """Not looked at yet."""
    VALID = "Valid"
    INVALID_SPEC = "InvalidSpec"
    RUNTIME_NOT_FOUND = "RuntimeNotFound"
    CREATE_REFUSED = "CreateRefused"
    """The API server refuses an object of a step (a quota, Pod Security), or a foreign one bears its name."""
    REFERENCE_NOT_FOUND = "ReferenceNotFound"
    """A ConfigMap that the spec names is not there."""
    STEPS_RUNNING = "StepsRunning"
    STEPS_WAITING = "StepsWaiting"
    """Pods are not scheduled yet, or admitted by their queue."""
    CLAIM_HELD = "ClaimHeld"
    """Another run is making an artifact that this one needs."""
    RETRYING = "Retrying"
    SUSPENDING = "Suspending"
    SUSPENDED_BY_USER = "SuspendedByUser"
    NOT_SUSPENDED = "NotSuspended"
    RUN_COMPLETE = "RunComplete"
    RUN_NOT_COMPLETE = "RunNotComplete"
    RUN_NOT_FAILED = "RunNotFailed"
    USER_FAULT = "UserFault"
    """Data, model or settings must change: the message says which."""
    RESTARTS_EXHAUSTED = "RestartsExhausted"
    """A step failed more often than failurePolicy allows."""
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    SCHEDULING_TIMEOUT = "SchedulingTimeout"


REASON_PATTERN = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
"""As Kubernetes' API has it for the reason of a condition."""


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


Time = Annotated[str, Field(max_length=32, json_schema_extra={"format": "date-time"})]
"""A time as in RFC 3339, in UTC."""


def unix(time: str) -> float:
    """Unix seconds of a time of the API."""
    return datetime.fromisoformat(time).timestamp()


def rfc3339(seconds: float) -> str:
    """The time of the API at these Unix seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Condition(Lenient):
    """One condition of a run, shaped as Kubernetes' own."""

    type: ConditionType
    """Which condition."""
    status: ConditionStatus
    """True, False or Unknown."""
    reason: Annotated[str, Field(pattern=REASON_PATTERN, min_length=1, max_length=128)]
    """Why, in one word. More words may come with every version."""
    message: Annotated[str, Field(max_length=MAX_MESSAGE)] = ""
    """Why, for people: what happened, where, and what to do next."""
    last_transition_time: Time
    """When the status last changed."""
    observed_generation: Annotated[int, Field(ge=0, le=2**53)] = 0
    """Generation of the spec that this was found for."""


class StepState(StrEnum):
    """What a step is doing."""

    WAITING = "Waiting"
    RUNNING = "Running"
    COMPLETE = "Complete"
    FAILED = "Failed"


class StepStatus(Lenient):
    """One step of a stage, or of one arm in it: all of an arm's seeds together."""

    name: Annotated[str, Field(max_length=48)]
    """Name of the step in its stage, for example annotate/0-15 or train/conditioned."""
    kind: Annotated[str, Field(max_length=16, description=f"Kind of the step: {', '.join(KINDS)}.")]
    arm: Annotated[str, Field(max_length=24)] = ""
    """Arm that the step belongs to; empty for a step that arms share."""
    state: StepState = StepState.WAITING
    """What the step is doing."""
    done: Annotated[int, Field(ge=0, le=2**53)] = 0
    """Units of work done, over all seeds."""
    total: Annotated[int | None, Field(ge=0, le=2**53)] = None
    """Units of work in all, once known."""
    unit: Annotated[str, Field(max_length=12)] = ""
    """What done and total count: documents, tokens, sequences."""
    key: Annotated[str, Field(max_length=32)] = ""
    """Key of the artifact; of the first seed's, where there are several."""
    attempt: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Attempts so far: the number that the next one gets."""
    attempts_by_fault: Annotated[
        dict[Fault, Annotated[int, Field(ge=0, le=10_000)]], Field(max_length=len(Fault))
    ] = {}
    """Failed attempts by class of fault."""
    cached: bool = False
    """The artifact was there before this run needed it."""
    message: Annotated[str, Field(max_length=MAX_STEP_MESSAGE)] = ""
    """What the step is doing or why it failed, in a line."""


class StageStatus(Lenient):
    """One stage of a run."""

    name: Annotated[str, Field(max_length=24)]
    """Name of the stage."""
    pins: Annotated[
        dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=64)]], Field(max_length=8)
    ] = {}
    """Content hashes of what the stage reads, as Inventory found them."""
    steps: Annotated[tuple[StepStatus, ...], Field(max_length=72)] = ()
    """The stage's steps in the order in which they run."""


class Summary(Lenient):
    """The run in one line: what `kubectl get ixt` shows."""

    stage: Annotated[str, Field(max_length=24)] = ""
    """Stage that is running."""
    step: Annotated[str, Field(max_length=48)] = ""
    """Step that is running; empty while the run is suspended."""
    progress_percent: Percent = 0
    """How much of the whole run is done, by cost."""
    eta_seconds: Annotated[int | None, Field(ge=0, le=2**53)] = None
    """Seconds left in this step at its current rate; unset while unknown."""
    message: Annotated[str, Field(max_length=MAX_MESSAGE)] = ""
    """What the run is doing or waiting for."""


class Cost(Lenient):
    """What the run has paid."""

    flops: Annotated[
        dict[Annotated[str, Field(max_length=32)], Annotated[str, Field(pattern=r"^[0-9]+$", max_length=40)]],
        Field(max_length=8),
    ] = {}
    """FLOPs by purpose: annotation, training, evaluation. Whole numbers as strings: they outgrow 64 bits. At
    least this much was paid: what the attempts that are there tell, and never less than was shown before. Of
    work that was done again after an attempt was deleted, only what exceeds that attempt's shows."""


class Internal(Lenient):
    """What the operator keeps for itself."""

    first_attempt: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Attempts of a step that is new to the run are numbered from here: one that the run leaves out and takes
    in again uses no number twice."""
    suspended_seconds: Annotated[int, Field(ge=0, le=2**53)] = 0
    """Seconds that the run was suspended since its start, in all suspensions that are over:
    activeDeadlineSeconds does not count them."""


class RunStatus(Lenient):
    """What the operator found out about a run."""

    observed_generation: Annotated[int, Field(ge=0, le=2**53)] = 0
    """Generation of the spec that this status is about."""
    phase: Phase = Phase.PENDING
    """Where the run is, derived from the conditions."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=8)] = ()
    """Accepted, Progressing, Suspended, Complete and Failed."""
    summary: Summary = Summary()
    """The run in one line."""
    stages: Annotated[tuple[StageStatus, ...], Field(max_length=16), Whole] = ()
    """The stages with their steps."""
    cost: Cost = Cost()
    """What the run has paid."""
    start_time: Time | None = None
    """When the run began: its first step was created, or the operator saw that none could be. An edit after
    its end begins it anew."""
    completion_time: Time | None = None
    """When the run completed or failed."""
    internal: Internal = Internal()
    """The operator's own memory, not for people or programs: it changes with any version."""

    def condition(self, type_: ConditionType) -> Condition | None:
        """The condition of a type, if it is set."""
        return next((condition for condition in self.conditions if condition.type is type_), None)

    @property
    def ended(self) -> bool:
        """Whether the run completed or failed."""
        return self.is_true(ConditionType.COMPLETE) or self.is_true(ConditionType.FAILED)

    def settled(self, generation: int) -> bool:
        """Whether the run ended and was not edited since; an edit takes it up again."""
        return self.ended and self.observed_generation == generation

    def is_true(self, type_: ConditionType) -> bool:
        """Whether a condition is set and true."""
        condition = self.condition(type_)
        return condition is not None and condition.status is ConditionStatus.TRUE


def fitted(status: RunStatus) -> RunStatus:
    """The status within MAX_BYTES. One that is larger loses the figures and messages of complete steps,
    the oldest stages' first; their keys, states and attempts stay."""
    stages = list(status.stages)
    for index, stage in enumerate(stages):
        if len(status.model_dump_json(exclude_defaults=True).encode()) <= MAX_BYTES:
            break
        stages[index] = stage.model_copy(update={"steps": tuple(map(_slim, stage.steps))})
        status = status.model_copy(update={"stages": tuple(stages)})
    return status


def _slim(step: StepStatus) -> StepStatus:
    if step.state is not StepState.COMPLETE:
        return step
    return step.model_copy(
        update={"done": 0, "total": None, "unit": "", "attempts_by_fault": {}, "message": ""}
    )
