"""The status: small enough to be stored at its largest, readable by an older operator."""

import pytest
from make import runs

from ixt_operator.api.run import MAX_ARM_STAGES, MAX_ARMS, MAX_STAGES, IXTRun
from ixt_operator.api.status import (
    MAX_ACCOUNTS,
    MAX_AVOIDED,
    MAX_FAILED_LANES,
    MAX_FAILURES,
    MAX_LOG_TAIL,
    MAX_MESSAGE,
    MAX_STATUS_BYTES,
    MAX_STEADY,
    MAX_STEP_MESSAGE,
    MAX_WAITS,
    Account,
    Condition,
    ConditionStatus,
    ConditionType,
    Cost,
    Failure,
    Gain,
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
from ixt_workloads.contract.metrics import Spending
from ixt_workloads.contract.results import MAX_GAINS
from ixt_workloads.contract.versions import read_known

NOW = "2026-01-01T00:00:00Z"
KEY = "f" * 32
COUNT = 10**14
FLOPS = dict.fromkeys(("annotation", "generation", "training", "evaluation", "judgeTraining"), "9" * 30)
SECONDS = dict.fromkeys(Spending, COUNT)
ACCOUNT = Account(
    since=10**10,
    until=10**10,
    gpus=False,
    counted=dict.fromkeys((Spending.STARTING, Spending.WAITING, Spending.ANNOTATING, Spending.LOST), COUNT),
    unsaved=COUNT,
    work=Spending.ANNOTATING,
)


def step(kind: str, arm: str = "", suffix: str = "", round_: int | None = None) -> StepStatus:
    """A step with everything that can be said about it, after a fault of every class."""
    return StepStatus(
        name="/".join(part for part in (kind.lower(), suffix or arm) if part),
        kind=kind,
        arm=arm,
        round=round_,
        state=StepState.COMPLETE,
        done=COUNT,
        total=COUNT,
        unit="x" * 12,
        key=KEY,
        attempt=9999,
        attempts_by_fault=dict.fromkeys(Fault, 999),
        cached=True,
        waits_for={f"W{index}".ljust(32, "x"): 32 for index in range(MAX_WAITS)},
        message="m" * MAX_STEP_MESSAGE,
    )


def largest(arms: int, stages: int, rounds: int | None = None) -> RunStatus:
    """The largest status of so many arms and stages; with rounds, all stages have them."""

    def stage(number: int) -> StageStatus:
        names = [f"{number:02}-{index:02}-".ljust(24, "x") for index in range(arms)]
        pins = dict.fromkeys(("datasets", "judge", "model", "tokenizer", "tasks"), KEY * 2)
        report = [step("Report")] if number == stages - 1 else []
        if rounds:
            kinds = ("Generate", "Annotate", "Prepare", "Train", "Evaluate")
            of_rounds = [step(kind, name, round_=rounds) for kind in kinds for name in names]
            of_rounds.append(step("Generate", suffix="holdout", round_=rounds))
            return StageStatus(
                name=f"{number:02}".ljust(24, "s"),
                pins=pins,
                rounds=rounds,
                eta_seconds=2**53,
                steps=(step("Inventory"), *of_rounds, *report),
            )
        shared = [
            step("Inventory"),
            *(step("Annotate", suffix=f"{index}-100") for index in range(arms)),
            step("Annotate", suffix="holdout"),
        ]
        own = [step(kind, name) for kind in ("Prepare", "Train", "Evaluate") for name in names]
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
        failed_lanes=tuple(f"{index:02}-".ljust(35, "x") for index in range(MAX_FAILED_LANES)),
        avoided_hosts=tuple(f"{index:02}-".ljust(253, "x") for index in range(MAX_AVOIDED)),
        gains=tuple(
            Gain(
                stage="s" * 24,
                arm=f"{index:02}".ljust(24, "a"),
                baseline="b" * 24,
                measure="LogProbability",
                gain=f"-{'1' * 12}.000000",
            )
            for index in range(MAX_GAINS)
        ),
        failures=tuple(
            Failure(
                step=f"{index}".ljust(80, "x"),
                attempt=9999,
                fault=Fault.INFRASTRUCTURE,
                message="m" * MAX_STEP_MESSAGE,
                log_tail="l" * MAX_LOG_TAIL,
            )
            for index in range(MAX_FAILURES)
        ),
        cost=Cost(flops=FLOPS, saved_flops=FLOPS, gpu_seconds=SECONDS, cpu_seconds=SECONDS),
        goodput_percent=100,
        start_time=NOW,
        completion_time=NOW,
        internal=Internal(
            last_attempt=10_000,
            # Half of the lanes cannot be scheduled, the others fail again and again.
            unscheduled=tuple(f"{index:08}" for index in range(arms * 16)),
            progressed={f"{index:08}": 9999 for index in range(arms * 16)},
            steady={f"{index:08}": 9999 for index in range(MAX_STEADY)},
            forgave_at=10**10,
            started="a" * 64,
            suspended_seconds=2**53,
            accounts={f"{index:08}": ACCOUNT for index in range(MAX_ACCOUNTS)},
            accounted_until=10**10,
        ),
    )


SHAPES = [
    (arms, stages)
    for arms in range(1, MAX_ARMS + 1)
    for stages in range(1, MAX_STAGES + 1)
    if arms * stages <= MAX_ARM_STAGES
]


@pytest.mark.parametrize("rounds", [None, 16])
def test_the_largest_status_can_be_stored(rounds: int | None) -> None:
    sizes = {shape: size(fitted(largest(*shape, rounds))) for shape in SHAPES}
    assert {shape: number for shape, number in sizes.items() if number > MAX_STATUS_BYTES} == {}


def size(status: RunStatus) -> int:
    return len(status.model_dump_json(exclude_defaults=True).encode())


def test_what_still_runs_and_every_key_survive_the_cut() -> None:
    whole, cut = largest(3, 13), fitted(largest(3, 13))
    assert size(whole) > MAX_STATUS_BYTES
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
        RunStatus, {"phase": "Running", "internal": {"lastAttempt": "3rd", "suspendedSeconds": 5}}
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
