"""The status: small enough to be stored at its largest, readable by an older operator."""

from make import runs

from ixt_operator.api.run import MAX_ARM_STAGES, MAX_ARMS, MAX_STAGES, IXTRun
from ixt_operator.api.status import (
    MAX_BYTES,
    MAX_MESSAGE,
    MAX_STEP_MESSAGE,
    Condition,
    ConditionStatus,
    ConditionType,
    Cost,
    Internal,
    Phase,
    Reason,
    RunStatus,
    StageStatus,
    StepState,
    StepStatus,
    Summary,
    fitted,
)
from ixt_workloads.contract.exits import Fault
from ixt_workloads.contract.versions import read_known

NOW = "2026-01-01T00:00:00Z"
KEY = "f" * 32
COUNT = 10**14


def step(kind: str, arm: str = "", suffix: str = "") -> StepStatus:
    """A step with everything that can be said about it, after a fault of every class."""
    return StepStatus(
        name="/".join(part for part in (kind.lower(), suffix or arm) if part),
        kind=kind,
        arm=arm,
        state=StepState.COMPLETE,
        done=COUNT,
        total=COUNT,
        unit="x" * 12,
        key=KEY,
        attempt=9999,
        attempts_by_fault=dict.fromkeys(Fault, 999),
        cached=True,
        message="m" * MAX_STEP_MESSAGE,
    )


def largest(arms: int, stages: int) -> RunStatus:
    def stage(number: int) -> StageStatus:
        names = [f"{number:02}-{index:02}-".ljust(24, "x") for index in range(arms)]
        shared = [
            step("Inventory"),
            *(step("Annotate", suffix=f"{index}-100") for index in range(arms)),
            step("Annotate", suffix="holdout"),
        ]
        own = [step(kind, name) for kind in ("Prepare", "Train", "Evaluate") for name in names]
        report = [step("Report")] if number == stages - 1 else []
        pins = dict.fromkeys(("datasets", "judge", "model", "tokenizer", "tasks"), KEY * 2)
        return StageStatus(name=f"{number:02}".ljust(24, "s"), pins=pins, steps=(*shared, *own, *report))

    conditions = tuple(
        Condition(
            type=type_,
            status=ConditionStatus.UNKNOWN,
            reason=Reason.REFERENCE_NOT_FOUND,
            message="m" * MAX_MESSAGE,
            last_transition_time=NOW,
            observed_generation=COUNT,
        )
        for type_ in ConditionType
    )
    # Stages run one after the other: only the last can have steps that are not complete.
    made = [stage(number) for number in range(stages)]
    failed = tuple(one.model_copy(update={"state": StepState.FAILED}) for one in made[-1].steps)
    made[-1] = made[-1].model_copy(update={"steps": failed})
    return RunStatus(
        observed_generation=COUNT,
        phase=Phase.FAILED,
        conditions=conditions,
        summary=Summary(
            stage="s" * 24, step="s" * 48, progress_percent=99, eta_seconds=2**53, message="m" * MAX_MESSAGE
        ),
        stages=tuple(made),
        cost=Cost(flops=dict.fromkeys(("annotation", "training", "evaluation", "judgeTraining"), "9" * 30)),
        start_time=NOW,
        completion_time=NOW,
        internal=Internal(first_attempt=10_000, suspended_seconds=2**53),
    )


SHAPES = [
    (arms, stages)
    for arms in range(1, MAX_ARMS + 1)
    for stages in range(1, MAX_STAGES + 1)
    if arms * stages <= MAX_ARM_STAGES
]


def test_the_largest_status_can_be_stored() -> None:
    sizes = {shape: size(fitted(largest(*shape))) for shape in SHAPES}
    assert {shape: number for shape, number in sizes.items() if number > MAX_BYTES} == {}


def size(status: RunStatus) -> int:
    return len(status.model_dump_json(exclude_defaults=True).encode())


def test_what_still_runs_and_every_key_survive_the_cut() -> None:
    whole, cut = largest(3, 13), fitted(largest(3, 13))
    assert size(whole) > MAX_BYTES
    assert cut.stages[-1] == whole.stages[-1]
    facts = [
        [
            (step.name, step.state, step.key, step.attempt, step.cached)
            for one in status.stages
            for step in one.steps
        ]
        for status in (whole, cut)
    ]
    assert facts[0] == facts[1]
    assert fitted(cut) == cut


def test_a_small_status_is_left_alone() -> None:
    assert fitted(largest(2, 2)) == largest(2, 2)


def test_a_status_is_kept_as_it_is() -> None:
    status = largest(2, 2)
    run = runs.run().model_copy(update={"status": status})
    assert IXTRun.model_validate_json(run.model_dump_json(exclude_defaults=True)).status == status


def test_an_older_operator_reads_a_newer_ones_status() -> None:
    manifest = runs.manifest() | {
        "status": {"phase": "Running", "later": 1, "stages": [{"name": "a", "later": {}, "steps": []}]}
    }
    status = IXTRun.model_validate(manifest).status
    assert status is not None
    assert (status.phase, status.stages[0].name) == (Phase.RUNNING, "a")


def test_what_another_operator_keeps_for_itself_is_left_out_where_it_is_not_understood() -> None:
    status = read_known(
        RunStatus, {"phase": "Running", "internal": {"firstAttempt": "3rd", "suspendedSeconds": 5}}
    )
    assert status.phase is Phase.RUNNING
    assert status.internal == Internal(suspended_seconds=5)


def test_conditions_are_found_by_type() -> None:
    status = largest(1, 1)
    complete = status.condition(ConditionType.COMPLETE)
    assert complete is not None
    assert complete.type is ConditionType.COMPLETE
    assert not status.is_true(ConditionType.COMPLETE)
    assert RunStatus().condition(ConditionType.FAILED) is None
