"""The status of an IXTRun: what the operator found out, in the words of Kubernetes' API conventions."""

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from ixt_operator.api.meta import Whole
from ixt_workloads.contract.base import Lenient, Percent
from ixt_workloads.contract.exits import Fault
from ixt_workloads.contract.foreign import Text
from ixt_workloads.contract.kinds import KINDS
from ixt_workloads.contract.metrics import Spending
from ixt_workloads.contract.results import MAX_GAINS, GainMeasure

MAX_STATUS_BYTES = 80_000
"""No status is larger as JSON (see `fitted`)."""

MAX_MESSAGE = 1024
MAX_STEP_MESSAGE = 120
MAX_WAITS = 2
MAX_ACCOUNTS = 40
MAX_STEADY = 64
MAX_AVOIDED = 8
MAX_PROGRESSED = 512
MAX_FAILED_LANES = 32
MAX_FAILURES = 8
MAX_LOG_TAIL = 1000
LONGEST_ETA = 2**53
"""Seconds."""


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
    RUNTIME_INVALID = "RuntimeInvalid"
    """The IXTRuntime lacks a role, or the template of one makes no pod."""
    CREATE_REFUSED = "CreateRefused"
    """The API server refuses an object of a step (a quota, Pod Security), or a foreign one bears its name."""
    REFERENCE_NOT_FOUND = "ReferenceNotFound"
    """A ConfigMap that the spec names is not there."""
    REFERENCES_CHANGED = "ReferencesChanged"
    """The runtime or the rubric changed since the run started: it goes on with what it was started with."""
    OPERATOR_ERROR = "OperatorError"
    """An error of the operator that nobody foresaw: its log says more."""
    STEPS_RUNNING = "StepsRunning"
    STEPS_WAITING = "StepsWaiting"
    """Pods are not scheduled yet, or admitted by their queue."""
    CLAIM_HELD = "ClaimHeld"
    """Another run is making an artifact that this one needs."""
    RETRYING = "Retrying"
    SUSPENDING = "Suspending"
    SUSPENDED_BY_USER = "SuspendedByUser"
    STOPPED = "Stopped"
    """On one machine: no process carries the run out, since Ctrl-C or a crash."""
    NOT_SUSPENDED = "NotSuspended"
    RUN_COMPLETE = "RunComplete"
    RUN_NOT_COMPLETE = "RunNotComplete"
    RUN_NOT_FAILED = "RunNotFailed"
    USER_FAULT = "UserFault"
    """Data, model or settings must change: the message says which."""
    RESTARTS_EXHAUSTED = "RestartsExhausted"
    """A step failed more often than failurePolicy allows."""
    LANES_FAILED = "LanesFailed"
    """Some lanes were given up, the others have finished."""
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    SCHEDULING_TIMEOUT = "SchedulingTimeout"


REASON_PATTERN = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
"""As Kubernetes' API has it for the reason of a condition."""


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


Count = Annotated[int, Field(ge=0, le=2**53)]
Attempts = Annotated[int, Field(ge=0, le=10_000)]
StageName = Annotated[str, Field(max_length=24)]
StepName = Annotated[str, Field(max_length=48)]
ArmName = Annotated[str, Field(max_length=24)]

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
    message: Annotated[Text, Field(max_length=MAX_MESSAGE)] = ""
    """Why, for people: what happened, where, and what to do next."""
    last_transition_time: Time
    """When the status last changed."""
    observed_generation: Count = 0
    """Generation of the spec that this was found for."""


class StepState(StrEnum):
    """What a step is doing."""

    WAITING = "Waiting"
    RUNNING = "Running"
    COMPLETE = "Complete"
    FAILED = "Failed"


class StepStatus(Lenient):
    """One step of a stage, or of one arm in it: all of an arm's seeds and rounds together."""

    name: StepName
    """Name of the step in its stage, for example annotate/0-15 or train/conditioned."""
    kind: Annotated[str, Field(max_length=16, description=f"Kind of the step: {', '.join(KINDS)}.")]
    arm: ArmName = ""
    """Arm that the step belongs to; empty for a step that arms share."""
    round: Annotated[int | None, Field(ge=1, le=16)] = None
    """Of a Rollout stage the newest round that has begun; the step stands for all its rounds."""
    state: StepState = StepState.WAITING
    """What the step is doing."""
    done: Count = 0
    """Units of work done, over all seeds and rounds."""
    total: Count | None = None
    """Units of work in all, once known."""
    unit: Annotated[str, Field(max_length=12)] = ""
    """What done and total count: documents, tokens, sequences."""
    key: Annotated[str, Field(max_length=32)] = ""
    """Key of the artifact; of the first seed's, where there are several."""
    attempt: Attempts = 0
    """Number of the newest attempt, which its Job and pods have in the label ixt.dev/attempt: 1 is the first.
    """
    attempts_by_fault: Annotated[dict[Fault, Attempts], Field(max_length=len(Fault))] = {}
    """Failed attempts by class of fault."""
    waits_for: Annotated[
        dict[Annotated[str, Field(max_length=32)], Attempts], Field(max_length=MAX_WAITS)
    ] = {}
    """Why the step stands still, in a word (Unschedulable, ImagePullBackOff, FailedCreate …), and how many of
    its seeds and rounds do."""
    cached: bool = False
    """The artifact was there before this run needed it."""
    message: Annotated[Text, Field(max_length=MAX_STEP_MESSAGE)] = ""
    """What the step is doing or why it failed, in a line."""


class StageStatus(Lenient):
    """One stage of a run."""

    name: StageName
    """Name of the stage."""
    pins: Annotated[
        dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=64)]], Field(max_length=8)
    ] = {}
    """Content hashes of what the stage reads, as Inventory found them."""
    rounds: Annotated[int | None, Field(ge=1, le=16)] = None
    """Rounds of a Rollout stage; unset for stages of other types."""
    eta_seconds: Count | None = None
    """Seconds left in the rounds of a Rollout stage, if each takes as long as the last one; unset before one
    is done."""
    steps: Annotated[tuple[StepStatus, ...], Field(max_length=96)] = ()
    """The stage's steps in the order in which they run."""


class Summary(Lenient):
    """The run in one line: what `kubectl get ixt` shows."""

    stage: StageName = ""
    """Stage that is running."""
    step: StepName = ""
    """Step that is running; empty while the run is suspended."""
    progress_percent: Percent = 0
    """How much of the whole run is done, by cost."""
    eta_seconds: Count | None = None
    """Seconds left in this step at its current rate; unset while unknown."""
    message: Annotated[Text, Field(max_length=MAX_MESSAGE)] = ""
    """What the run is doing or waiting for."""


_Flops = Annotated[
    dict[Annotated[str, Field(max_length=32)], Annotated[str, Field(pattern=r"^[0-9]+$", max_length=40)]],
    Field(max_length=8),
]
_Seconds = Annotated[dict[Spending, Annotated[int, Field(ge=0, le=2**53)]], Field(max_length=len(Spending))]


class Cost(Lenient):
    """What the run has paid."""

    flops: _Flops = {}
    """FLOPs by purpose: annotation, evaluation, generation, training. Whole numbers as strings: they outgrow
    64 bits. At least this much was paid: what the attempts that are there tell, and never less than was shown
    before. Of work that was done again after an attempt was deleted, what exceeds that attempt's shows."""
    saved_flops: _Flops = {}
    """FLOPs by purpose that were not paid, since their artifacts were there already."""
    gpu_seconds: _Seconds = {}
    """Seconds for which pods of the run held GPUs, times their number, by what they did: Annotating,
    Generating, Preparing, Training, Evaluating; Starting; Waiting for each other; Lost with failed attempts,
    from their last checkpoint on. Work since the last checkpoint is counted when it is saved or lost."""
    cpu_seconds: _Seconds = {}
    """The same of pods without GPUs, in seconds of a processor."""


class Gain(Lenient):
    """What an arm gains over another at equal FLOPs, annotation included."""

    stage: StageName
    """Name of the stage."""
    arm: ArmName
    """Name of the arm."""
    baseline: ArmName
    """The arm that it is compared with."""
    measure: GainMeasure
    """Accuracy, from 0 to 1; or LogProbability of held-out documents, in nats a token."""
    gain: Annotated[str, Field(pattern=r"^-?[0-9]+\.[0-9]+$", max_length=24)]
    """The difference as a decimal number; above 0 the arm is better."""


class Failure(Lenient):
    """The last failed attempt at a step, which is told when its pods are long gone."""

    step: Annotated[str, Field(max_length=80)]
    """The step with its stage and seed, for example pretrain/train/conditioned-s0."""
    attempt: Attempts
    """Number of the attempt."""
    fault: Fault
    """Class of the fault."""
    message: Annotated[Text, Field(max_length=MAX_STEP_MESSAGE)] = ""
    """What failed where, in a line."""
    log_tail: Annotated[Text, Field(max_length=MAX_LOG_TAIL)] = ""
    """Last lines of its log."""


class Account(Lenient):
    """What a child's time was spent on (planner/accounting.py)."""

    since: Annotated[int, Field(ge=0, le=2**53)]
    """Unix seconds: what the child held before is counted elsewhere."""
    until: Annotated[int, Field(ge=0, le=2**53)]
    """Unix seconds up to which it has counted."""
    gpus: bool = False
    """Whether it counts seconds of GPUs, or of processors."""
    counted: Annotated[dict[Spending, Annotated[int, Field(ge=0, le=2**53)]], Field(max_length=4)] = {}
    """Milliseconds by what they were spent on."""
    unsaved: Annotated[int, Field(ge=0, le=2**53)] = 0
    """Milliseconds that the child has held and that are not counted yet."""
    work: Spending | None = None
    """What they were spent on, unless they are lost."""


class Internal(Lenient):
    """What the operator keeps for itself."""

    last_attempt: Attempts = 0
    """Attempts of a step that is new to the run are numbered behind this: one that the run leaves out and
    takes in again uses no number twice."""
    unscheduled: Annotated[tuple[Annotated[str, Field(max_length=8)], ...], Field(max_length=512), Whole] = ()
    """Nodes that are given up since their pods could not start in time, until the spec is edited."""
    progressed: Annotated[
        dict[Annotated[str, Field(max_length=8)], Attempts], Field(max_length=MAX_PROGRESSED)
    ] = {}
    """Of nodes that have failed the newest attempt that saved something: failures of the infrastructure
    before it count no more."""
    forgave_at: Annotated[int, Field(ge=0, le=2**53)] = 0
    """Unix seconds: failures before are held against no machine any more."""
    steady: Annotated[
        dict[Annotated[str, Field(max_length=8)], Annotated[int, Field(ge=0, le=2**31)]],
        Field(max_length=MAX_STEADY),
    ] = {}
    """Restarts of processes of servers that count no more, since the process was ready for long after."""
    started: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$", max_length=64)] = ""
    """Hash of what the run was started with (controller/started.py): what lies there otherwise counts for
    nothing."""
    suspended_seconds: Count = 0
    """Seconds that the run was suspended since its start, in all suspensions that are over:
    activeDeadlineSeconds does not count them."""
    accounts: Annotated[
        dict[Annotated[str, Field(max_length=8)], Account], Field(max_length=MAX_ACCOUNTS)
    ] = {}
    """Accounts of the time of children that hold a machine, and of the last that did."""
    accounted_until: Annotated[int, Field(ge=0, le=2**53)] = 0
    """Unix seconds up to which all children without an account are counted."""


class RunStatus(Lenient):
    """What the operator found out about a run."""

    observed_generation: Count = 0
    """Generation of the spec that this status is about."""
    phase: Phase = Phase.PENDING
    """Where the run is, derived from the conditions."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=8)] = ()
    """Accepted, Progressing, Suspended, Complete and Failed."""
    summary: Summary = Summary()
    """The run in one line."""
    stages: Annotated[tuple[StageStatus, ...], Field(max_length=16), Whole] = ()
    """The stages with their steps."""
    failed_lanes: Annotated[
        tuple[Annotated[str, Field(max_length=40)], ...], Field(max_length=MAX_FAILED_LANES), Whole
    ] = ()
    """Lanes that are given up while the others go on; the first 32 of them."""
    avoided_hosts: Annotated[
        tuple[Annotated[str, Field(max_length=253)], ...], Field(max_length=MAX_AVOIDED), Whole
    ] = ()
    """Machines that the run's pods avoid, since steps failed because of them: for a day, or until pods find
    no room elsewhere."""
    failures: Annotated[tuple[Failure, ...], Field(max_length=MAX_FAILURES), Whole] = ()
    """The last failed attempt of each of the 8 steps that failed last, the newest at the end."""
    cost: Cost = Cost()
    """What the run has paid."""
    goodput_percent: Percent | None = None
    """Productive share of the time on GPUs, or on processors where no GPU was held; unset before any."""
    gains: Annotated[tuple[Gain, ...], Field(max_length=MAX_GAINS), Whole] = ()
    """What arms gain at equal FLOPs by the verdict of the report, once that is there; the first 16. A report
    that another run has made already tells none."""
    start_time: Time | None = None
    """When the run began: its first step was created, or the operator saw that none could be. An edit after
    its end begins it anew."""
    completion_time: Time | None = None
    """When the run completed or failed."""
    internal: Internal = Internal()
    """The operator's own memory, not for people or programs: it changes with any version."""

    @property
    def steps(self) -> Iterator[tuple[str, StepStatus]]:
        """All steps, each with the name of its stage."""
        return ((stage.name, step) for stage in self.stages for step in stage.steps)

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

    def accepted(self, generation: int) -> bool:
        """Whether the operator took the run as it stands."""
        return self.is_true(ConditionType.ACCEPTED) and self.observed_generation == generation

    def is_true(self, type_: ConditionType) -> bool:
        """Whether a condition is set and true."""
        condition = self.condition(type_)
        return condition is not None and condition.status is ConditionStatus.TRUE


def fitted(status: RunStatus) -> RunStatus:
    """The status within MAX_STATUS_BYTES. One that is larger loses the figures and messages of complete
    steps, the oldest stages' first, then the oldest failures and the last gains, and at last the figures and
    messages of other steps, those at the end first; keys, states and attempts stay."""
    stages = list(status.stages)
    for index, stage in enumerate(stages):
        if _fits(status):
            return status
        stages[index] = stage.model_copy(update={"steps": tuple(map(_slim, stage.steps))})
        status = status.model_copy(update={"stages": tuple(stages)})
    while status.failures and not _fits(status):
        status = status.model_copy(update={"failures": status.failures[1:]})
    while status.gains and not _fits(status):
        status = status.model_copy(update={"gains": status.gains[:-1]})
    for index, stage in reversed([*enumerate(stages)]):
        steps = list(stage.steps)
        for place, step in reversed([*enumerate(steps)]):
            if _fits(status):
                return status
            steps[place] = step.model_copy(update=NOTHING_SAID)
            stages[index] = stage.model_copy(update={"steps": tuple(steps)})
            status = status.model_copy(update={"stages": tuple(stages)})
    return status


NOTHING_SAID: dict[str, object] = {"done": 0, "total": None, "unit": "", "waits_for": {}, "message": ""}
"""A step's figures and messages, left out."""


def _fits(status: RunStatus) -> bool:
    return len(status.model_dump_json(exclude_defaults=True).encode()) <= MAX_STATUS_BYTES


def _slim(step: StepStatus) -> StepStatus:
    if step.state is not StepState.COMPLETE:
        return step
    return step.model_copy(update={**NOTHING_SAID, "attempts_by_fault": {}})
