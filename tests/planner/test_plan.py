"""The planner, one situation a test: which children it starts and stops, and what it tells people."""

from typing import Any

import pytest
from make import runs
from make.observed import START, Platform, edited, flat

from ixt_operator.api.status import (
    MAX_STEP_MESSAGE,
    ConditionType,
    Phase,
    Reason,
    RunStatus,
    StepState,
    StepStatus,
    rfc3339,
)
from ixt_operator.planner.events import News, events
from ixt_operator.planner.nodes import stage_nodes
from ixt_operator.planner.observed import ProcessPhase
from ixt_operator.planner.plan import Plan, plan
from ixt_workloads.contract.configs import PrepareConfig
from ixt_workloads.contract.exits import Exit, Fault, PlatformReason
from ixt_workloads.contract.results import Gain, Outcome, Result
from ixt_workloads.contract.versions import read_known

PREPARE, TRAIN, EVALUATE = (
    "pretrain/prepare/conditioned",
    "pretrain/train/conditioned-s0",
    "pretrain/evaluate/conditioned-s0",
)
EXISTING = {"from": {"scoreField": "score", "critiqueField": "critique"}}


def platform(**spec: Any) -> Platform:
    return Platform(runs.run(**spec))


def step(plan: Plan, name: str, stage: int = 0) -> StepStatus:
    return next(step for step in plan.status.stages[stage].steps if step.name == name)


def reason(plan: Plan, type_: ConditionType) -> str:
    condition = plan.status.condition(type_)
    assert condition
    return condition.reason


def failure(plan: Plan) -> str:
    failed = plan.status.condition(ConditionType.FAILED)
    assert failed
    assert plan.status.is_true(ConditionType.FAILED)
    return failed.message


# --- What is started, in which order.


def test_the_first_look_asks_inventory_and_the_next_one_sets_every_condition() -> None:
    sim = platform()
    moves = sim.look()
    assert [child.node for child in moves.create] == ["pretrain/inventory"]
    assert moves.requeue_after == 0.0
    assert sim.status is None
    sim.now += 5
    moves = sim.look()
    assert moves.status.start_time == rfc3339(START), "when the first child was created"
    assert moves.status.phase is Phase.RUNNING
    assert [step.state for step in moves.status.stages[0].steps[:2]] == [StepState.RUNNING, StepState.WAITING]
    assert {c.type: (c.status.value, c.reason) for c in moves.status.conditions} == {
        ConditionType.ACCEPTED: ("True", Reason.VALID),
        ConditionType.PROGRESSING: ("True", Reason.STEPS_WAITING),
        ConditionType.SUSPENDED: ("False", Reason.NOT_SUSPENDED),
        ConditionType.COMPLETE: ("False", Reason.RUN_NOT_COMPLETE),
        ConditionType.FAILED: ("False", Reason.RUN_NOT_FAILED),
    }
    assert all(c.observed_generation == 1 for c in moves.status.conditions)


RUNS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a judge of its own": (
        {},
        [
            "pretrain/inventory",
            "pretrain/judge",
            "pretrain/annotate/0-15",
            "pretrain/annotate/holdout",
            PREPARE,
            TRAIN,
            EVALUATE,
            "report",
        ],
    ),
    "an endpoint needs no server": (
        {"judge": {"endpoint": {"url": "https://judge.example/v1", "model": "m"}}},
        [
            "pretrain/inventory",
            "pretrain/annotate/0-15",
            "pretrain/annotate/holdout",
            PREPARE,
            TRAIN,
            EVALUATE,
            "report",
        ],
    ),
    "existing feedback needs no judge": (
        {"judge": None, "stages": [runs.stage(annotate=EXISTING)]},
        [
            "pretrain/inventory",
            "pretrain/annotate/0-100",
            "pretrain/annotate/holdout",
            PREPARE,
            TRAIN,
            EVALUATE,
            "report",
        ],
    ),
    "NextToken alone needs no feedback": (
        {"judge": None, "arms": [runs.arm("plain", "NextToken")]},
        [
            "pretrain/inventory",
            "pretrain/prepare/plain",
            "pretrain/train/plain-s0",
            "pretrain/evaluate/plain-s0",
            "report",
        ],
    ),
    "arms share bands of the sample, seeds that draw nothing share the preparation": (
        {
            "arms": [
                runs.arm("c", seeds=[0, 1]),
                runs.arm("n", "NextToken", seeds=[0, 1]),
                runs.arm("f", "Filtered", samplePercent=40),
            ]
        },
        [
            "pretrain/inventory",
            "pretrain/judge",
            "pretrain/annotate/0-15",
            "pretrain/annotate/15-40",
            "pretrain/annotate/holdout",
            "pretrain/prepare/c-s0",
            "pretrain/prepare/c-s1",
            "pretrain/train/c-s0",
            "pretrain/evaluate/c-s0",
            "pretrain/train/c-s1",
            "pretrain/evaluate/c-s1",
            "pretrain/prepare/n",
            "pretrain/train/n-s0",
            "pretrain/evaluate/n-s0",
            "pretrain/train/n-s1",
            "pretrain/evaluate/n-s1",
            "pretrain/prepare/f",
            "pretrain/train/f-s0",
            "pretrain/evaluate/f-s0",
            "report",
        ],
    ),
}


def test_existing_feedback_is_levelled_on_its_own_scale_whatever_a_judge_is_asked() -> None:
    run = runs.run(stages=[runs.stage("own", annotate=EXISTING), runs.stage("judged")])
    rubrics = {
        node.name: node.config.rubric
        for position in (0, 1)
        for node in stage_nodes(run, position)
        if isinstance(node.config, PrepareConfig)
    }
    assert rubrics["own/prepare/conditioned"] is None
    assert rubrics["judged/prepare/conditioned"] is not None


@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_through(name: str) -> None:
    spec, expected = RUNS[name]
    sim = platform(**spec)
    assert flat(sim.history()) == expected
    assert sim.status
    assert sim.status.phase is Phase.COMPLETE
    assert sim.status.summary.progress_percent == 100
    assert not sim.nodes(), "nothing is left running"


def test_only_what_an_arm_pays_for_enters_its_preparation() -> None:
    sim = platform(arms=[runs.arm("c"), runs.arm("f", "Filtered", samplePercent=40)])
    sim.until("pretrain/prepare/c")
    task = sim.newest("pretrain/prepare/c").child.task
    assert task
    assert set(task.inputs) == {"inventory", "feedback/0-15", "holdout"}
    sim.until("pretrain/prepare/f")
    task = sim.newest("pretrain/prepare/f").child.task
    assert task
    assert set(task.inputs) == {"inventory", "feedback/0-15", "feedback/15-40", "holdout"}


def test_inventories_run_ahead_of_training() -> None:
    sim = platform(stages=[runs.stage("pretrain"), runs.stage("midtrain"), runs.stage("last")])
    created = [look for look in sim.history() if look]
    assert [set(look) & {"midtrain/inventory", "last/inventory"} for look in created[:3]] == [
        set(),
        {"midtrain/inventory"},
        {"last/inventory"},
    ]
    order = flat(created)
    assert order.index("pretrain/evaluate/conditioned-s0") < order.index("midtrain/judge")
    assert order[-1] == "report"


def test_the_judge_is_gone_before_anything_else_asks_for_its_devices() -> None:
    sim = platform()
    sim.slow = True
    sim.until("pretrain/annotate/holdout")
    sim.finish("pretrain/annotate/holdout")
    moves = sim.look()
    assert moves.delete == (sim.newest("pretrain/judge").child.name,)
    assert [child.node for child in moves.create] == [PREPARE]
    sim.finish(PREPARE)
    moves = sim.look()
    assert (moves.delete, moves.create) == ((), ())
    assert moves.requeue_after == 1.0
    sim.vanish()
    assert [child.node for child in sim.look().create] == [TRAIN]


def test_annotation_waits_for_a_ready_judge() -> None:
    sim = platform()
    sim.until("pretrain/judge")
    sim.serve(phase=ProcessPhase.RUNNING, log="judge.log")
    moves = sim.look()
    assert not moves.create
    assert moves.status.summary.message == "the judge is starting, log: judge.log"
    assert moves.requeue_after is not None
    sim.serve()
    created = sim.look().create
    assert [child.node for child in created] == ["pretrain/annotate/0-15"]
    assert created[0].servers == {"JUDGE": sim.newest("pretrain/judge").child.name}


@pytest.mark.parametrize(("parallel", "most"), [(1, 1), (2, 2), (8, 3)])
def test_lanes_run_side_by_side_up_to_max_parallel_lanes(parallel: int, most: int) -> None:
    sim = platform(arms=[runs.arm("n", "NextToken", seeds=[0, 1, 2])], maxParallelLanes=parallel)
    sim.until("pretrain/train/n-s0")
    assert len([node for node in sim.nodes() if "/train/" in node]) == most


def test_a_lower_limit_starts_nothing_and_stops_nothing() -> None:
    sim = platform(arms=[runs.arm("c", seeds=[0, 1, 2])], maxParallelLanes=2)
    sim.until("pretrain/train/c-s1")
    sim.run = edited(sim.run, lambda spec: spec.update(maxParallelLanes=1))
    sim.finish("pretrain/train/c-s0")
    moves = sim.look()
    assert "pretrain/train/c-s1" in sim.nodes()
    assert not [c for c in moves.create if c.node != "pretrain/inventory"]


# --- Failures.


@pytest.mark.parametrize(
    ("fault", "fields", "budget"),
    [
        (Fault.APPLICATION, {"code": 1}, 3),
        (Fault.INFRASTRUCTURE, {"code": None, "reason": "Evicted"}, 16),
        (Fault.INFRASTRUCTURE, {"code": Exit.INTERRUPTED}, 16),
        (Fault.OUT_OF_MEMORY, {"code": 137, "reason": "OOMKilled"}, 1),
        (Fault.DIVERGED, {"code": Exit.DIVERGED}, 1),
        (Fault.HUNG, {"code": Exit.HUNG}, 3),
        (Fault.USER, {"code": Exit.DATA}, 0),
    ],
)
def test_each_class_of_fault_has_its_budget_and_waits_longer_each_time(
    fault: Fault, fields: dict[str, Any], budget: int
) -> None:
    sim = platform()
    sim.until(TRAIN)
    delays = []
    for attempt in range(1, budget + 1):
        sim.fail(TRAIN, **fields)
        moves = sim.look()
        assert not moves.create, "not before its time"
        assert moves.requeue_after
        assert reason(moves, ConditionType.PROGRESSING) == Reason.RETRYING
        delays.append(moves.requeue_after)
        sim.now += moves.requeue_after
        assert [(c.node, c.attempt) for c in sim.look().create] == [(TRAIN, attempt + 1)]
    assert delays == pytest.approx([min(2.0**n, 300.0) for n in range(budget)], abs=0.01)
    sim.fail(TRAIN, **fields)
    moves = sim.look()
    user = fault is Fault.USER
    assert reason(moves, ConditionType.FAILED) == (Reason.USER_FAULT if user else Reason.RESTARTS_EXHAUSTED)
    assert step(moves, "train/conditioned").attempts_by_fault == {fault: budget + 1}
    assert step(moves, "train/conditioned").state is StepState.FAILED


def test_preemptions_count_since_the_step_last_saved_something() -> None:
    sim = platform()
    for attempt in range(60):
        sim.until(TRAIN)
        assert sim.newest(TRAIN).child.attempt == attempt + 1
        sim.progress(TRAIN, done=attempt + 1, spent={"saved": 60.0})
        sim.look()
        # The pod is gone without a word, and so may be its Job.
        sim.fail(TRAIN, None, "Preempted")
        sim.look()
        sim.now += 300
    for _ in range(16):
        sim.until(TRAIN)
        sim.fail(TRAIN, None, "Preempted")
        moves = sim.look()
        sim.now += 300
    assert reason(moves, ConditionType.FAILED) == Reason.RESTARTS_EXHAUSTED


def test_other_faults_count_whatever_is_saved() -> None:
    sim = platform()
    for attempt in range(4):
        sim.until(TRAIN)
        sim.progress(TRAIN, done=attempt + 1, spent={"saved": 60.0})
        sim.look()
        sim.fail(TRAIN, 1)
        moves = sim.look()
        sim.now += 300
    assert reason(moves, ConditionType.FAILED) == Reason.RESTARTS_EXHAUSTED


def test_a_user_fault_says_what_where_and_what_to_do() -> None:
    sim = platform()
    sim.look()
    sim.fail(
        "pretrain/inventory",
        Exit.NO_INPUT,
        message="file:///data/documents.jsonl is not there",
        hint="put it there, or set spec.stages[0].datasets[0].uri",
        fault=Fault.USER,
    )
    moves = sim.look()
    assert failure(moves) == (
        "pretrain/inventory: pod-0: file:///data/documents.jsonl is not there\n"
        "put it there, or set spec.stages[0].datasets[0].uri"
    )
    assert moves.status.phase is Phase.FAILED
    assert moves.status.completion_time


def test_a_crash_shows_the_last_lines_of_its_log() -> None:
    sim = platform(failurePolicy={"application": 0})
    sim.until(TRAIN)
    sim.fail(TRAIN, 1)
    message = failure(sim.look())
    assert message.startswith(f"{TRAIN} (Application, 1 attempts): pod-0: ended with exit code 1")
    assert message.endswith("the last line")


def test_classes_of_faults_do_not_share_a_budget() -> None:
    sim = platform(failurePolicy={"application": 1, "infrastructure": 1})
    sim.until(TRAIN)
    for code in (1, Exit.UNAVAILABLE):
        sim.fail(TRAIN, code)
        sim.now += 10
        sim.until(TRAIN)
    assert sim.newest(TRAIN).child.attempt == 3


def test_the_cause_of_an_attempt_is_the_process_with_the_users_fault() -> None:
    sim = platform(stages=[runs.stage(train={"numNodes": 3})])
    sim.until(TRAIN)
    sim.fail(TRAIN, 1, index=0)
    sim.now += 1
    sim.fail(TRAIN, Exit.CONFIG, index=2, message="batchTokens does not divide", fault=Fault.USER)
    assert "pod-2: batchTokens does not divide" in failure(sim.look())


def test_a_lost_machine_is_told_though_the_step_knows_only_that_it_was_stopped() -> None:
    sim = platform()
    sim.until(TRAIN)
    sim.fail(TRAIN, Exit.INTERRUPTED, PlatformReason.NODE_LOST, message="stopped at step 7")
    (failed,) = sim.look().status.failures
    assert failed.message.startswith("pod-0: its node ")
    assert failed.message.endswith(" was lost (stopped at step 7)")


def test_a_claim_is_waited_for_without_a_budget_and_ever_more_patiently() -> None:
    sim = platform()
    sim.until(PREPARE)
    delays = []
    for _ in range(40):
        sim.fail(PREPARE, Exit.BUSY, message="run other works on it", fault=Fault.BUSY)
        moves = sim.look_on()
        assert moves.requeue_after
        assert reason(moves, ConditionType.PROGRESSING) == Reason.CLAIM_HELD
        assert "run other works on it" in moves.status.summary.message
        delays.append(round(moves.requeue_after))
        sim.now += moves.requeue_after
        sim.look()
    assert delays[:7] == [15, 30, 60, 120, 240, 300, 300]
    kept = [double for double in sim.children.values() if double.child.node == PREPARE]
    assert len(kept) <= 10, "old ones are cleared away"
    assert sim.newest(PREPARE).child.attempt == 41
    assert not [event for event in sim.events if event.warning]


def test_a_lane_that_waits_for_a_claim_makes_room_for_the_next() -> None:
    sim = platform(arms=[runs.arm("a", "NextToken"), runs.arm("b", "NextToken")])
    sim.until("pretrain/prepare/a")
    sim.fail("pretrain/prepare/a", Exit.BUSY)
    assert [child.node for child in sim.look().create] == ["pretrain/prepare/b"]


JUDGE_TROUBLES: list[tuple[dict[str, Any], str]] = [
    ({"phase": ProcessPhase.FAILED, "reason": "NeverReady", "last_log": "loading"}, "was not ready in time"),
    (
        {"phase": ProcessPhase.FAILED, "exit_code": 1, "restarts": 4},
        "ended 4 times, which is more than failurePolicy.application=3 allows: ended with exit code 1",
    ),
    (
        {"phase": ProcessPhase.RUNNING, "exit_code": 137, "reason": "OOMKilled", "restarts": 4},
        "ended 4 times, which is more than failurePolicy.application=3 allows: OOMKilled",
    ),
    ({"phase": ProcessPhase.FAILED, "exit_code": Exit.CONFIG}, "ended with exit code 78"),
]


@pytest.mark.parametrize(("fields", "message"), JUDGE_TROUBLES)
def test_a_judge_that_never_serves_fails_the_run_and_is_stopped(fields: dict[str, Any], message: str) -> None:
    sim = platform()
    sim.until("pretrain/judge")
    sim.serve(**fields)
    moves = sim.look()
    assert f"judge of stage pretrain: {message}" in failure(moves)
    assert not sim.nodes(), "a server in a crash loop is live: it would be started again"


def test_a_judge_that_was_mended_and_runs_again_is_waited_for() -> None:
    sim = platform()
    sim.until("pretrain/judge")
    sim.serve(phase=ProcessPhase.RUNNING, exit_code=Exit.CONFIG, restarts=1)
    assert not sim.look().finished


def test_a_judge_may_restart_a_few_times() -> None:
    sim = platform()
    sim.until("pretrain/judge")
    sim.serve(phase=ProcessPhase.FAILED, exit_code=1, restarts=3)
    assert not sim.look().finished


def test_a_mended_judge_gets_a_new_start_after_an_edit() -> None:
    sim = platform()
    sim.until("pretrain/judge")
    sim.serve(phase=ProcessPhase.FAILED, exit_code=Exit.CONFIG)
    failure(sim.look())
    engine = {"args": ["--max-model-len=4096"]}
    sim.run = edited(sim.run, lambda spec: spec.update(judge={"model": "file:///judge", "engine": engine}))
    list(sim.history())
    assert sim.status
    assert sim.status.phase is Phase.COMPLETE


def test_a_failed_run_stays_failed_until_its_spec_is_edited() -> None:
    sim = platform(failurePolicy={"application": 0})
    sim.until(TRAIN)
    sim.fail(TRAIN, 1)
    failed = sim.look().status
    sim.now += 1000
    moves = sim.look()
    assert moves.status == failed
    assert not moves.create
    sim.run = edited(sim.run, lambda spec: spec.update(failurePolicy={"application": 1}))
    assert flat(sim.history()) == ["pretrain/inventory", TRAIN, EVALUATE, "report"], "what is committed stays"


def test_any_edit_gives_what_failed_a_new_start_with_new_numbers() -> None:
    sim = platform(failurePolicy={"application": 1})
    sim.until(TRAIN)
    for _ in range(2):
        sim.fail(TRAIN, 1)
        sim.now += 1000
        sim.look()
    assert sim.status
    assert sim.status.phase is Phase.FAILED
    sim.run = edited(sim.run, lambda spec: spec.update(pods={"trainer": runs.patch(image="mended:2")}))
    sim.until(TRAIN)
    assert sim.newest(TRAIN).child.attempt == 3
    sim.fail(TRAIN, 1)
    assert not sim.look().finished, "the budget is whole again"


def test_a_complete_run_is_not_taken_up_again_when_its_jobs_are_cleared_away() -> None:
    sim = platform()
    list(sim.history())
    sim.children.clear()
    moves = sim.look()
    assert moves.finished
    assert not moves.create


@pytest.mark.parametrize("fails", [True, False])
def test_only_the_look_that_ends_a_run_must_be_certain(fails: bool) -> None:
    sim = platform(failurePolicy={"application": 0})
    sim.until(TRAIN)
    if fails:
        sim.fail(TRAIN, 1)
    list(sim.history())
    sim.status = None
    moves = sim.look()
    assert moves.finished
    assert moves.needs_certainty
    moves = sim.look()
    assert moves.finished
    assert not moves.needs_certainty, "five thousand of them are looked at after every takeover"


def test_a_finished_run_whose_children_must_go_is_looked_at_with_certainty() -> None:
    sim = platform()
    list(sim.history())
    sim.newest(TRAIN).become(phase=ProcessPhase.RUNNING)
    moves = sim.look()
    assert moves.delete
    assert moves.needs_certainty


def test_what_is_refused_is_told_and_its_attempt_is_unused() -> None:
    sim = platform()
    sim.until(PREPARE)
    sim.finish(PREPARE)
    before = sim.observed()
    wanted = sim.plan().create
    moves = plan(sim.run, sim.runtime, before, sim.status, sim.now, refused={TRAIN: "exceeded quota"})
    assert moves.create == wanted
    assert reason(moves, ConditionType.PROGRESSING) == Reason.CREATE_REFUSED
    assert moves.status.summary.message == f"{TRAIN}: exceeded quota"
    refused = step(moves, "train/conditioned")
    assert (refused.state, refused.attempt) == (StepState.WAITING, 0)


def test_what_is_deleted_was_told_before() -> None:
    """An edit comes right after a child was created, and another takes it back."""
    annotate = "pretrain/annotate/0-15"
    sim = platform()
    sim.until("pretrain/judge")
    sim.serve()
    assert [child.node for child in sim.look().create] == [annotate]
    first = sim.newest(annotate).child
    sim.run = edited(sim.run, lambda spec: spec["stages"][0].update(annotate={"samplePercent": 40}))
    assert first.name in sim.look().delete
    sim.run = edited(sim.run, lambda spec: spec["stages"][0].update(annotate={"samplePercent": 15}))
    sim.until(annotate)
    assert sim.newest(annotate).child.attempt > first.attempt


# --- Machines.


NEVER = 9


@pytest.mark.parametrize(
    ("first", "barred_from"),
    [
        ({"code": Exit.SICK_MACHINE}, 1),
        ({"code": Exit.SICK_MACHINE, "message": "the step had not seen it", "fault": Fault.APPLICATION}, 1),
        ({"reason": "NodeLost"}, 2),
        ({"code": Exit.UNAVAILABLE}, NEVER),
        ({"reason": "Preempted"}, NEVER),
        ({"reason": "Evicted"}, NEVER),
        ({"code": 143}, NEVER),
        ({"code": 1}, NEVER),
        ({"reason": "NoResult"}, NEVER),
    ],
)
def test_a_machine_is_avoided_once_it_is_sick_or_two_attempts_failed_by_it(
    first: dict[str, Any], barred_from: int
) -> None:
    """Both pods of an attempt are on it, and the second goes down with the first."""
    sim = platform(stages=[runs.stage(train={"numNodes": 2})])
    for attempt in range(1, 4):
        sim.until(TRAIN)
        assert sim.newest(TRAIN).child.attempt == attempt
        hosts = sim.newest(TRAIN).child.avoid_hosts
        assert hosts == (("node-1",) if attempt > barred_from else ())
        sim.fail(TRAIN, index=1, **first)
        sim.newest(TRAIN).become(host="node-1")
        sim.now += 10


def test_the_machine_of_who_merely_went_down_too_is_not_to_blame() -> None:
    sim = platform(failurePolicy={"outOfMemory": 9}, stages=[runs.stage(train={"numNodes": 2})])
    for _ in range(2):
        sim.until(TRAIN)
        sim.fail(TRAIN, 137, reason="OOMKilled", index=1)
        sim.newest(TRAIN).processes[0] = (
            sim.newest(TRAIN)
            .processes[0]
            .model_copy(update={"exit_code": Exit.UNAVAILABLE, "host": "node-1"})
        )
        sim.now += 10
    sim.until(TRAIN)
    assert sim.newest(TRAIN).child.avoid_hosts == ()


@pytest.mark.parametrize(
    ("reason", "host", "hinted"), [("NodeLost", "node-1", True), ("Stopped", "", False), ("Lost", "", False)]
)
def test_a_hint_to_a_machine_names_it(reason: str, host: str, hinted: bool) -> None:
    sim = platform(failurePolicy={"infrastructure": 0})
    sim.until(TRAIN)
    sim.fail(TRAIN, None, reason)
    sim.newest(TRAIN).become(host=host)
    assert ("see what became of the machine node-1" in failure(sim.look())) is hinted


@pytest.mark.parametrize(
    "told", [{}, {"message": "CUDA error", "hint": "see its log", "fault": Fault.APPLICATION}]
)
def test_a_sick_machine_is_an_infrastructure_fault_that_says_what_to_check(told: dict[str, Any]) -> None:
    """Also where a command around the step finds it out after the step has failed by something else."""
    sim = platform(failurePolicy={"infrastructure": 0})
    sim.until(TRAIN)
    sim.fail(TRAIN, Exit.SICK_MACHINE, **told)
    sim.newest(TRAIN).become(host="node-1")
    message = failure(sim.look())
    assert "(Infrastructure, 1 attempts)" in message
    assert (told.get("message") or "ended with exit code 75: its machine is sick") in message
    assert "the machine node-1 is avoided for a day: check its GPUs, links and network cards" in message


def test_a_sick_machine_that_nobody_can_avoid_is_to_be_checked() -> None:
    sim = platform(failurePolicy={"infrastructure": 0})
    sim.until(TRAIN)
    sim.fail(TRAIN, Exit.SICK_MACHINE)
    message = failure(sim.look())
    assert "\ncheck its GPUs" in message
    assert "avoided" not in message


def sick(sim: Platform, code: int = Exit.SICK_MACHINE) -> None:
    """The training's machine is sick."""
    sim.until(TRAIN)
    sim.now += 60
    sim.fail(TRAIN, code)
    sim.newest(TRAIN).become(host="node-1")
    sim.now += 10
    sim.until(TRAIN)


def test_a_machine_is_avoided_for_a_day() -> None:
    sim = platform()
    sick(sim)
    assert sim.status
    assert sim.status.avoided_hosts == ("node-1",)
    assert sim.newest(TRAIN).child.avoid_hosts == ("node-1",)
    sim.now += 86_400
    sim.finish(TRAIN)
    sim.until(EVALUATE)
    assert sim.newest(EVALUATE).child.avoid_hosts == ()
    said = [(event.reason, event.message) for event in sim.events if event.reason.startswith("Machine")]
    assert said == [
        ("MachineAvoided", "steps of this run avoid the machine node-1 for a day"),
        ("MachineUsedAgain", "the machine node-1 is used again"),
    ]


def test_machines_are_used_again_when_too_few_others_are_left() -> None:
    sim = platform()
    sick(sim)
    sim.newest(TRAIN).become(
        phase=ProcessPhase.PENDING, blocked_since=sim.now, reason="Unschedulable: 0/1 nodes are available"
    )
    assert sim.look().requeue_after == 600
    sim.now += 600
    sim.until(TRAIN)
    attempt = sim.newest(TRAIN).child
    assert (attempt.attempt, attempt.avoid_hosts) == (3, ())
    again = [event.message for event in sim.events if event.reason == "MachineUsedAgain"]
    assert again == ["the machine node-1 is used again: pods that avoid machines find no room"]
    # It is sick still, which counts from now on.
    sick(sim)
    assert sim.newest(TRAIN).child.avoid_hosts == ("node-1",)


def test_a_pod_that_waits_for_its_image_says_nothing_about_room() -> None:
    sim = platform()
    sick(sim)
    sim.newest(TRAIN).become(
        phase=ProcessPhase.PENDING, blocked_since=sim.now, reason="ErrImagePull: no such"
    )
    sim.now += 6000
    sim.look_on()
    assert sim.newest(TRAIN).child.attempt == 2


# --- Clocks.


@pytest.mark.parametrize("skew", [-120, 120])
def test_machines_whose_clocks_are_off_make_nothing_twice(skew: float) -> None:
    """The inventory's machine has the right time, those of all other steps have not."""
    spec, expected = RUNS["a judge of its own"]
    sim = platform(**spec)
    sim.until("pretrain/inventory")
    sim.finish("pretrain/inventory")
    sim.skew = skew
    assert flat(sim.history()) == expected[1:]


@pytest.mark.parametrize("skew", [-120, 120])
def test_a_clock_that_is_off_neither_hastens_nor_delays_the_next_attempt(skew: float) -> None:
    sim = platform()
    sim.until(TRAIN)
    sim.skew = skew
    for delay in (1.0, 2.0):
        sim.fail(TRAIN, 1)
        assert sim.look().requeue_after == pytest.approx(delay)
        sim.now += delay
        sim.look_on()


# --- Answers and artifacts that get lost.


def test_a_lost_answer_of_inventory_is_asked_for_again() -> None:
    sim = platform(stages=[runs.stage("pretrain"), runs.stage("midtrain")])
    sim.look()
    sim.finish("pretrain/inventory")
    sim.newest("pretrain/inventory").become(result=None)
    moves = sim.look()
    assert not moves.create
    assert "left no result" in moves.status.summary.message
    sim.now += moves.requeue_after or 0
    assert [(child.node, child.attempt) for child in sim.look().create] == [("pretrain/inventory", 2)]


def test_an_inventory_that_is_gone_is_asked_again_and_nothing_is_made_twice() -> None:
    sim = platform()
    sim.until(EVALUATE)
    sim.lose("pretrain/inventory")
    assert flat(sim.history()) == ["pretrain/inventory", "report"]


def lose_result(sim: Platform, node: str, reason: str) -> None:
    sim.newest(node).become(phase=ProcessPhase.FAILED, exit_code=0, result=None, reason=reason)


@pytest.mark.parametrize("reason", ["NoResult", "ResultLost"])
def test_a_lost_result_asks_inventory_again_and_nothing_else(reason: str) -> None:
    sim = platform(failurePolicy={"application": 0, "infrastructure": 0})
    sim.until(TRAIN)
    sim.now += 1
    sim.finish(TRAIN)
    lose_result(sim, TRAIN, reason)
    assert flat(sim.history()) == ["pretrain/inventory", EVALUATE, "report"]
    moves = sim.look()
    assert moves.status.phase is Phase.COMPLETE
    trained = step(moves, "train/conditioned")
    assert (trained.attempts_by_fault, trained.cached, trained.attempt) == ({}, False, 1)
    assert not [event for event in sim.events if event.warning]


def test_a_step_that_ended_without_result_or_artifact_is_tried_again() -> None:
    sim = platform()
    sim.until(TRAIN)
    sim.now += 1
    sim.fail(TRAIN, 0, "NoResult")
    assert flat(sim.history()) == ["pretrain/inventory", TRAIN, EVALUATE, "report"]


def test_a_success_from_before_inventorys_answer_counts_for_nothing() -> None:
    sim = platform()
    sim.until(EVALUATE)
    sim.committed.remove(sim.newest("pretrain/annotate/0-15").child.key)
    sim.committed.remove(sim.newest(PREPARE).child.key)
    sim.lose("pretrain/inventory")
    sim.lose(EVALUATE)
    order = flat(sim.history())
    assert order == [
        "pretrain/inventory",
        "pretrain/judge",
        "pretrain/annotate/0-15",
        PREPARE,
        EVALUATE,
        "report",
    ]


def test_a_lost_attempt_is_made_again_under_a_new_number() -> None:
    sim = platform()
    sim.until(TRAIN)
    sim.lose(TRAIN)
    assert [(child.node, child.attempt) for child in sim.look().create] == [(TRAIN, 2)]


def test_no_attempt_starts_before_the_last_one_is_gone() -> None:
    sim = platform()
    sim.until(TRAIN)
    sim.slow = True
    sim.run = edited(sim.run, lambda spec: spec.update(suspend=True))
    assert sim.look().delete
    sim.run = edited(sim.run, lambda spec: spec.update(suspend=False))
    moves = sim.look()
    assert not moves.create, "the trainer is still saving its state"
    assert moves.requeue_after
    sim.vanish()
    assert [(child.node, child.attempt) for child in sim.look().create] == [(TRAIN, 2)]


# --- Suspend, deadline, edits.


def test_suspend_stops_everything_and_resume_goes_on() -> None:
    sim = platform()
    sim.until("pretrain/annotate/0-15")
    sim.slow = True
    sim.run = edited(sim.run, lambda spec: spec.update(suspend=True))
    moves = sim.look()
    assert moves.status.phase is Phase.SUSPENDED
    assert len(moves.delete) == 2, "judge and worker"
    assert reason(moves, ConditionType.SUSPENDED) == Reason.SUSPENDING
    sim.vanish()
    moves = sim.look()
    assert moves.status.is_true(ConditionType.SUSPENDED)
    assert not moves.create
    sim.run = edited(sim.run, lambda spec: spec.update(suspend=False))
    order = flat(sim.history())
    assert order[:2] == ["pretrain/judge", "pretrain/annotate/0-15"]


def test_the_deadline_fails_the_run_on_time() -> None:
    sim = platform(activeDeadlineSeconds=100)
    sim.until(TRAIN)
    moves = sim.look()
    assert moves.requeue_after == pytest.approx(100, abs=5)
    sim.now = START + 101
    moves = sim.look()
    assert reason(moves, ConditionType.FAILED) == Reason.DEADLINE_EXCEEDED
    assert "activeDeadlineSeconds=100" in failure(moves)
    assert not sim.nodes()
    sim.run = edited(sim.run, lambda spec: spec.update(activeDeadlineSeconds=1000))
    assert flat(sim.history()) == ["pretrain/inventory", TRAIN, EVALUATE, "report"]


def test_time_suspended_does_not_count() -> None:
    sim = platform(activeDeadlineSeconds=100)
    sim.look()
    sim.run = edited(sim.run, lambda spec: spec.update(suspend=True))
    sim.look()
    assert sim.look().status.is_true(ConditionType.SUSPENDED)
    sim.now += 1000
    sim.run = edited(sim.run, lambda spec: spec.update(suspend=False))
    assert not sim.look().finished
    sim.now += 90
    assert not sim.look().finished


def suspend(sim: Platform, wanted: bool = True) -> Plan:
    """Edit the run, and look until all is as it is wanted; the operator is another one by then."""
    sim.run = edited(sim.run, lambda spec: spec.update(suspend=wanted))
    moves = sim.look_on()
    assert sim.status
    sim.status = read_known(RunStatus, sim.status.model_dump(mode="json", exclude_none=True))
    return moves


def test_the_deadline_counts_what_was_active_over_all_suspensions() -> None:
    sim = platform(activeDeadlineSeconds=100)
    sim.look_on()
    for active in (30, 30, 30):
        sim.now += active
        assert not suspend(sim).finished
        sim.now += 1000
        for _ in range(3):
            assert not suspend(sim, wanted=False).finished
            assert not sim.look().finished, "however often it is looked at"
    moves = sim.look()
    assert moves.requeue_after == pytest.approx(10, abs=3), "nothing else need happen for it to fire"
    sim.now += 7
    assert not sim.look().finished
    sim.now += 6
    assert reason(sim.look(), ConditionType.FAILED) == Reason.DEADLINE_EXCEEDED


def test_a_suspension_counts_also_when_the_next_one_comes_before_anybody_told_of_its_end() -> None:
    sim = platform(activeDeadlineSeconds=3600)
    sim.look_on()
    suspend(sim)
    sim.now += 3 * 3600
    sim.run = edited(sim.run, lambda spec: spec.update(suspend=False))
    sim.look()  # creates, and so leaves the status to the next look
    for wanted in (True, False):
        assert not suspend(sim, wanted=wanted).finished


def test_a_deadline_that_passes_while_suspended_is_none() -> None:
    sim = platform(activeDeadlineSeconds=100)
    sim.look_on()
    sim.now += 90
    sim.slow = True
    suspend(sim)
    sim.now += 20
    moves = sim.look()
    assert not moves.finished, "what runs is still saving its state"
    assert moves.requeue_after is None
    sim.vanish()
    sim.now += 1000
    assert not sim.look_on().finished
    moves = suspend(sim, wanted=False)
    assert reason(moves, ConditionType.FAILED) == Reason.DEADLINE_EXCEEDED, "it took 110 seconds"


def test_a_run_that_is_suspended_from_its_start_has_all_its_time() -> None:
    sim = platform(activeDeadlineSeconds=100, suspend=True)
    assert sim.look_on().status.is_true(ConditionType.SUSPENDED)
    sim.now += 1000
    moves = suspend(sim, wanted=False)
    assert moves.requeue_after == pytest.approx(100, abs=2)


def test_a_run_that_is_taken_up_after_its_end_has_all_its_time_again() -> None:
    sim = platform(activeDeadlineSeconds=100)
    sim.look_on()
    suspend(sim)
    sim.now += 1000
    suspend(sim, wanted=False)
    sim.now += 101
    assert sim.look_on().finished
    sim.now += 50
    sim.run = edited(sim.run, lambda spec: spec.update(activeDeadlineSeconds=60))
    moves = sim.look_on()
    assert moves.requeue_after == pytest.approx(60, abs=2)
    assert moves.status.start_time == rfc3339(sim.now)


def test_pods_without_a_node_fail_the_run_after_a_while() -> None:
    sim = platform(schedulingTimeoutSeconds=60)
    sim.until(TRAIN)
    sim.newest(TRAIN).become(blocked_since=sim.now, reason="0/3 nodes have nvidia.com/gpu", where="pod-0")
    moves = sim.look()
    assert moves.status.summary.message == f"{TRAIN}: cannot start yet: 0/3 nodes have nvidia.com/gpu (pod-0)"
    assert reason(moves, ConditionType.PROGRESSING) == Reason.STEPS_WAITING
    assert moves.requeue_after == pytest.approx(60)
    sim.now += 60
    moves = sim.look()
    assert reason(moves, ConditionType.FAILED) == Reason.SCHEDULING_TIMEOUT
    assert "0/3 nodes have nvidia.com/gpu" in failure(moves)


def _train(**fields: Any) -> Any:
    return lambda spec: spec["stages"][0]["train"].update(fields)


LEFT_ALONE = {
    "numNodes": _train(numNodes=2),
    "checkpoint": _train(checkpoint={"intervalSeconds": 60}),
    "prepare.workers": lambda spec: spec["stages"][0]["prepare"].update(workers=4),
    "pods": lambda spec: spec.update(pods={"trainer": runs.patch(image="other:1")}),
    "queueName": lambda spec: spec.update(queueName="gpu"),
    "failurePolicy": lambda spec: spec.update(failurePolicy={"application": 9}),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_an_edit_that_is_in_no_key_leaves_a_running_child_alone(name: str) -> None:
    sim = platform()
    sim.until(TRAIN)
    sim.run = edited(sim.run, LEFT_ALONE[name])
    moves = sim.look()
    assert (moves.delete, moves.create) == ((), ()), "not even Inventory is asked again"
    sim.finish(TRAIN)
    assert flat(sim.history()) == [EVALUATE, "report"]


def test_an_edit_that_gives_another_key_stops_the_running_child() -> None:
    sim = platform()
    sim.until(TRAIN)
    old = sim.newest(TRAIN).child
    sim.run = edited(sim.run, _train(optimizer={"learningRate": "1e-3"}))
    moves = sim.look()
    assert [child.node for child in moves.create] == ["pretrain/inventory"]
    assert TRAIN in sim.nodes(), "its key is not known yet"
    assert step(moves, "train/conditioned").state is StepState.RUNNING
    sim.finish("pretrain/inventory")
    assert sim.look().delete == (old.name,)
    order = flat(sim.history())
    assert order == [TRAIN, EVALUATE, "report"]
    assert sim.newest(TRAIN).child.attempt > old.attempt


def test_an_arm_that_is_left_out_is_stopped() -> None:
    sim = platform(arms=[runs.arm("a", "NextToken"), runs.arm("b", "NextToken")], maxParallelLanes=2)
    sim.until("pretrain/train/b-s0")
    sim.run = edited(sim.run, lambda spec: spec["arms"].pop())
    assert sim.look().delete
    assert "pretrain/train/b-s0" not in sim.nodes()
    assert "pretrain/train/a-s0" in sim.nodes()


def test_new_options_of_the_engine_do_not_stop_a_judge_at_work() -> None:
    sim = platform()
    sim.until("pretrain/annotate/0-15")
    engine = {"args": ["--max-num-seqs=64"]}
    sim.run = edited(sim.run, lambda spec: spec.update(judge={"model": "file:///judge", "engine": engine}))
    moves = sim.look()
    assert (moves.delete, moves.create) == ((), ())
    old = sim.newest("pretrain/judge").child.name
    sim.finish("pretrain/annotate/0-15")
    assert sim.look().delete == (old,), "the next one has them"


def test_replicas_of_the_judge_follow_the_spec_at_once() -> None:
    sim = platform()
    sim.until("pretrain/annotate/0-15")
    engine = {"maxReplicas": 3}
    sim.run = edited(sim.run, lambda spec: spec.update(judge={"model": "file:///judge", "engine": engine}))
    assert [child.indexes for child in sim.look().scale] == [3]
    assert len(sim.newest("pretrain/judge").processes) == 3


def test_replicas_follow_backlog_rate_and_deadline() -> None:
    judge = {"model": "file:///judge", "engine": {"maxReplicas": 8}}
    sim = platform(judge=judge, stages=[runs.stage(annotate={"deadlineSeconds": 100})])
    sim.until("pretrain/annotate/0-15")
    assert len(sim.newest("pretrain/judge").processes) == 1
    sim.progress("pretrain/annotate/0-15", done=0, total=4000, per_second=10)
    assert [child.indexes for child in sim.look().scale] == [4]


# --- What the status tells.


def test_a_run_whose_artifacts_are_there_says_cached() -> None:
    first = platform()
    list(first.history())
    second = Platform(runs.run(name="second"), committed=set(first.committed), now=first.now + 10)
    moves = second.look()
    second.calm(moves)
    moves = second.look()
    assert moves.finished
    assert all(entry.cached for entry in moves.status.stages[0].steps)
    assert not second.status or second.status.cost.flops == {}


def test_what_the_run_made_itself_is_not_cached() -> None:
    sim = platform()
    list(sim.history())
    assert sim.status
    assert not any(entry.cached for entry in sim.status.stages[0].steps)
    assert sim.status.cost.flops == {
        "annotate": "2000",
        "prepare": "1000",
        "train": "1000",
        "evaluate": "1000",
        "report": "1000",
    }


def test_cost_stays_when_children_go() -> None:
    sim = platform()
    sim.until(TRAIN)
    sim.lose(PREPARE)
    assert sim.look().status.cost.flops["prepare"] == "1000"


def test_progress_and_eta_of_what_runs() -> None:
    sim = platform()
    sim.until(TRAIN)
    sim.progress(TRAIN, done=25, total=100, unit="tokens", per_second=0.5, message="loss 2.1")
    moves = sim.look()
    entry = step(moves, "train/conditioned")
    assert (entry.done, entry.total, entry.unit, entry.message) == (25, 100, "tokens", "loss 2.1")
    summary = moves.status.summary
    assert (summary.stage, summary.step, summary.eta_seconds) == ("pretrain", "train/conditioned-s0", 150)
    assert 40 < summary.progress_percent < 80
    assert moves.status.phase is Phase.RUNNING
    assert reason(moves, ConditionType.PROGRESSING) == Reason.STEPS_RUNNING


def test_progress_does_not_fall_when_an_attempt_starts_again() -> None:
    sim = platform()
    sim.until(TRAIN)
    sim.progress(TRAIN, done=90, total=100)
    before = sim.look().status.summary.progress_percent
    sim.fail(TRAIN, 1)
    assert sim.look().status.summary.progress_percent == before
    assert sim.plan().status.summary.eta_seconds is None


@pytest.mark.parametrize(("node", "expected"), [("pretrain/annotate/0-15", 70.0), (TRAIN, 50.0)])
def test_workers_share_their_documents_and_ranks_tell_the_same(node: str, expected: float) -> None:
    sim = platform(stages=[runs.stage(annotate={"workers": 2}, train={"numNodes": 2})])
    sim.until(node)
    sim.progress(node, 0, done=50, total=100, per_second=1)
    sim.progress(node, 1, done=20, total=100, per_second=1)
    progress = sim.newest(node).state.progress
    assert progress
    assert progress.done == expected


def test_seeds_of_an_arm_share_an_entry() -> None:
    sim = platform(arms=[runs.arm("c", seeds=[0, 1])], maxParallelLanes=2)
    sim.until("pretrain/train/c-s1")
    sim.progress("pretrain/train/c-s0", done=10, total=100, unit="tokens")
    sim.progress("pretrain/train/c-s1", done=30, total=100, unit="tokens")
    entry = step(sim.look(), "train/c")
    assert (entry.done, entry.total) == (40, 200)


def test_a_seed_that_is_done_counts_as_much_as_another() -> None:
    """Its process is gone, and its figures with it."""
    sim = platform(arms=[runs.arm("c", seeds=[0, 1, 2])], maxParallelLanes=3)
    sim.until("pretrain/train/c-s2")
    entry = step(sim.look(), "train/c")
    assert (entry.done, entry.total, entry.unit) == (0, 3, "seeds")
    sim.finish("pretrain/train/c-s0")
    sim.progress("pretrain/train/c-s1", done=30, total=100, unit="tokens")
    entry = step(sim.look(), "train/c")
    assert (entry.done, entry.total, entry.unit) == (130, 300, "tokens")


def test_nothing_new_to_show_is_the_same_status() -> None:
    sim = platform()
    sim.until(TRAIN)
    before = sim.look().status
    sim.now += 500
    assert sim.look().status == before


def test_events_tell_the_story() -> None:
    sim = platform()
    sim.look()
    sim.look()
    sim.until(TRAIN)
    sim.look()
    sim.fail(TRAIN, 1)
    list(sim.history())
    told = [(event.reason, event.message.split(" ")[0]) for event in sim.events]
    assert told[0] == ("StepStarted", "pretrain/inventory")
    assert [reason for reason, name in told if name.startswith("pretrain/train")] == [
        "StepStarted",
        "AttemptFailed",
        "StepComplete",
    ]
    assert told[-1][0] == "RunComplete"
    assert [event.warning for event in sim.events].count(True) == 1


def test_what_a_run_leaves_out_and_takes_in_again_uses_no_number_twice() -> None:
    annotate = "pretrain/annotate/0-15"
    sim = platform()
    sim.until(annotate)
    first = sim.newest(annotate).child
    sim.run = edited(sim.run, lambda spec: spec["stages"][0].update(annotate={"samplePercent": 40}))
    sim.until("pretrain/annotate/0-40")
    sim.run = edited(sim.run, lambda spec: spec["stages"][0].update(annotate={"samplePercent": 15}))
    sim.until(annotate)
    again = sim.newest(annotate).child
    assert again.key == first.key
    assert again.attempt > first.attempt


def test_a_failed_attempt_is_told_though_the_next_one_runs_by_then() -> None:
    """The status is written after the children are made, and may be written late."""
    sim = platform()
    sim.until(TRAIN)
    before = sim.look().status
    said = "a cause that is longer than what the status keeps of it " * 4
    sim.fail(TRAIN, Exit.UNAVAILABLE, message=said, fault=Fault.INFRASTRUCTURE)
    entry = step(sim.look(), "train/conditioned")
    assert entry.message == f"pod-0: {said}"[: MAX_STEP_MESSAGE - 1] + "…"
    sim.now += 60
    sim.look()
    sim.start(TRAIN)
    sim.progress(TRAIN, message="all is well")
    sim.status, sim.events = before, []
    status = sim.look().status
    assert [event.reason for event in sim.events] == ["AttemptFailed"]
    # Of a run that cannot be carried out as it stands, no causes are known.
    assert "AttemptFailed" not in {event.reason for event in events(None, status, News())}
    assert sim.events[0].message == f"pretrain/train/conditioned: pod-0: {said}"


def test_a_step_that_began_and_ended_between_two_looks_is_told_to_have_started() -> None:
    sim = platform()
    sim.look()
    sim.finish("pretrain/inventory")
    sim.look_on()
    told = [(event.reason, event.message.split(" ")[0]) for event in sim.events]
    assert told[:2] == [("StepStarted", "pretrain/inventory"), ("StepComplete", "pretrain/inventory")]


def test_events_of_a_failure_say_why() -> None:
    sim = platform()
    sim.look()
    sim.fail("pretrain/inventory", Exit.DATA, message="line 3 is no JSON", fault=Fault.USER)
    sim.look()
    assert sim.events[-1].warning
    assert sim.events[-1].reason == "UserFault"
    assert "line 3 is no JSON" in sim.events[-1].message


# --- What the report found.


def test_what_the_report_says_that_arms_gain_outlives_its_pod() -> None:
    """And is taken for arms that the run has only, each once: a pod may say anything."""
    sim = platform(arms=[runs.arm("conditioned"), runs.arm("plain", "NextToken")])
    gain = Gain(stage="pretrain", arm="conditioned", baseline="plain", measure="Accuracy", gain=0.25)
    strange = (
        gain.model_copy(update={"arm": "others"}),
        gain.model_copy(update={"stage": 'a"\n'}),
        gain.model_copy(update={"baseline": "others"}),
    )
    sim.until("report")
    assert sim.look().status.gains == ()
    sim.finish("report", Result(outcome=Outcome.COMMITTED, gains=(gain, *strange, gain)))
    told = sim.look_on().status.gains
    assert [(each.arm, each.baseline, each.measure, each.gain) for each in told] == [
        ("conditioned", "plain", "Accuracy", "0.250000")
    ]
    sim.lose("report")
    assert sim.look().status.gains == told


def test_an_edit_takes_back_what_the_report_said_until_it_is_made_anew() -> None:
    sim = platform(arms=[runs.arm("conditioned"), runs.arm("plain", "NextToken")])
    gain = Gain(stage="pretrain", arm="conditioned", baseline="plain", measure="Accuracy", gain=0.25)
    sim.until("report")
    sim.finish("report", Result(outcome=Outcome.COMMITTED, gains=(gain,)))
    assert sim.look_on().status.gains
    sim.run = edited(sim.run, lambda spec: spec["arms"][0].update(seeds=[1]))
    sim.until("report")
    assert sim.look().status.gains == ()
