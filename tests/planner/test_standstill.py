"""What stands still is told at once, of every lane: in condition, summary, steps and events."""

from typing import Any

from make import runs
from make.observed import Platform

from ixt_operator.api.status import Condition, ConditionType, StepStatus
from ixt_operator.planner.observed import ProcessPhase
from ixt_operator.planner.plan import Plan, plan
from ixt_workloads.contract.exits import Exit

ARMS = [runs.arm("c", seeds=[0, 1, 2]), runs.arm("n", "NextToken")]
LANES = ["c-s0", "c-s1", "c-s2", "n-s0"]
NO_NODE = "Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu"


def training(**spec: Any) -> Platform:
    found = Platform(runs.run(arms=ARMS, maxParallelLanes=8, **spec))
    for lane in LANES:
        found.until(f"pretrain/train/{lane}")
    return found


def block(sim: Platform, node: str, reason: str = NO_NODE) -> None:
    sim.newest(node).become(phase=ProcessPhase.PENDING, blocked_since=sim.now, reason=reason)


def progressing(moves: Plan) -> Condition:
    found = moves.status.condition(ConditionType.PROGRESSING)
    assert found
    return found


def step(moves: Plan, name: str) -> StepStatus:
    return next(step for _, step in moves.status.steps if step.name == name)


def blocked(sim: Platform) -> list[str]:
    return [event.message for event in sim.events if event.reason == "StepBlocked" and event.warning]


def test_every_lane_that_waits_is_named() -> None:
    sim = training()
    for lane in ("c-s1", "c-s2", "n-s0"):
        block(sim, f"pretrain/train/{lane}")
    sim.start("pretrain/train/c-s0")
    moves = sim.look()
    said = f"pretrain/train/c-s1, pretrain/train/c-s2, pretrain/train/n-s0: cannot start yet: {NO_NODE}"
    assert said in moves.status.summary.message
    assert said in progressing(moves).message
    assert progressing(moves).reason == "StepsRunning"
    assert step(moves, "train/c").message == f"2 of 3 seeds: cannot start yet: {NO_NODE}"
    assert step(moves, "train/n").message == f"cannot start yet: {NO_NODE}"
    assert step(moves, "train/c").waits_for == {"Unschedulable": 2}
    assert blocked(sim) == [
        f"Unschedulable: pretrain/train/c-s1, pretrain/train/c-s2: cannot start yet: {NO_NODE}",
        f"Unschedulable: pretrain/train/n-s0: cannot start yet: {NO_NODE}",
    ]


def test_it_is_told_again_only_when_more_lanes_wait_or_for_another_reason() -> None:
    sim = training()
    block(sim, "pretrain/train/n-s0")
    sim.look()
    block(sim, "pretrain/train/n-s0", NO_NODE.replace("3", "4"))
    sim.look()
    assert len(blocked(sim)) == 1
    block(sim, "pretrain/train/n-s0", "ImagePullBackOff: Back-off pulling image")
    sim.look()
    assert len(blocked(sim)) == 2
    sim.start("pretrain/train/n-s0")
    moves = sim.look()
    assert step(moves, "train/n").waits_for == {}
    assert moves.status.summary.message == ""


def test_256_lanes_that_wait_for_one_thing_are_one_line() -> None:
    arms = [runs.arm(f"a{number}", "NextToken", seeds=list(range(32))) for number in range(8)]
    sim = Platform(runs.run(arms=arms, judge=None, maxParallelLanes=256))
    sim.until("pretrain/train/a0-s0")
    for _ in range(20):
        for double in [each for each in sim.children.values() if each.child.kind == "Prepare"]:
            if double.live:
                sim.end(double)
        if not sim.look().create:
            break
    waiting = [node for node in sim.nodes() if "/train/" in node]
    assert len(waiting) == 256
    for node in waiting:
        block(sim, node)
    moves = sim.look()
    assert "and 248 more: cannot start yet" in moves.status.summary.message
    assert len(moves.status.summary.message) < 600
    assert len(blocked(sim)) == len(arms)


def test_a_queue_is_told_though_no_timeout_counts_it() -> None:
    sim = training(schedulingTimeoutSeconds=1)
    sim.newest("pretrain/train/n-s0").become(reason="Queued: waits for queue gpus")
    sim.now += 100
    moves = sim.look()
    assert step(moves, "train/n").waits_for == {"Queued": 1}
    assert blocked(sim) == ["Queued: pretrain/train/n-s0: cannot start yet: Queued: waits for queue gpus"]


def test_what_is_refused_is_told_of_its_steps() -> None:
    sim = training()
    for lane in LANES:
        sim.finish(f"pretrain/train/{lane}")
    before = sim.observed()
    refused = {f"pretrain/evaluate/{lane}": "cannot be started: exceeded quota" for lane in LANES}
    moves = plan(sim.run, sim.runtime, before, sim.status, sim.now, refused=refused)
    assert progressing(moves).reason == "CreateRefused"
    assert "exceeded quota" in progressing(moves).message
    assert step(moves, "evaluate/c").message == "3 of 3 seeds: cannot be started: exceeded quota"
    assert step(moves, "evaluate/n").waits_for == {"CreateRefused": 1}


def test_a_judge_that_finds_no_node_is_told_of_the_steps_that_wait_for_it() -> None:
    sim = Platform(runs.run())
    sim.until("pretrain/judge")
    block(sim, "pretrain/judge")
    moves = sim.look()
    assert step(moves, "annotate/0-15").message == f"the judge cannot start yet: {NO_NODE}"
    assert step(moves, "annotate/holdout").waits_for == {"Unschedulable": 1}
    assert f"the judge cannot start yet: {NO_NODE}" in moves.status.summary.message


# --- Judges with several replicas.


def serving(**spec: Any) -> Platform:
    judge = {"model": "file:///judge", "engine": {"minReplicas": 8, "maxReplicas": 8}}
    sim = Platform(runs.run(judge=judge, **spec))
    sim.until("pretrain/judge")
    sim.serve()
    double = sim.newest("pretrain/judge")
    named = (p.model_copy(update={"where": f"pod judge-{p.index}"}) for p in double.processes)
    double.processes = list(named)
    return sim


def replica(sim: Platform, index: int, **fields: Any) -> None:
    double = sim.newest("pretrain/judge")
    double.processes[index] = double.processes[index].model_copy(update=fields)


BAD: dict[str, Any] = {"phase": ProcessPhase.FAILED, "exit_code": 1, "restarts": 9}


def test_one_bad_replica_of_eight_is_told_and_ends_nothing() -> None:
    sim = serving()
    replica(sim, 3, **BAD)
    moves = sim.look_on()
    assert not moves.finished
    assert "pretrain/annotate/0-15" in sim.nodes()
    assert step(moves, "annotate/0-15").message.startswith(
        "1 of 8 replicas of the judge fail: pod judge-3: ended 9 times"
    )
    assert blocked(sim)[0].startswith("ReplicaFailing: pretrain/annotate/0-15")
    list(sim.history())
    assert sim.status
    assert sim.status.is_true(ConditionType.COMPLETE)


def test_a_judge_is_given_up_when_no_replica_is_or_becomes_ready() -> None:
    sim = serving()
    for index in range(7):
        replica(sim, index, **BAD)
    replica(sim, 7, phase=ProcessPhase.RUNNING)
    assert not sim.look().finished
    # One that finds no node does not count as one that may come.
    replica(sim, 7, phase=ProcessPhase.PENDING, blocked_since=sim.now, reason=NO_NODE)
    assert sim.look().finished


def test_restarts_count_only_while_they_follow_each_other() -> None:
    """A judge that dies once a day is no judge in a crash loop."""
    sim = Platform(runs.run())
    sim.until("pretrain/judge")
    for restarts in range(1, 20):
        sim.serve(phase=ProcessPhase.RUNNING, exit_code=137, restarts=restarts, up_since=None)
        assert not sim.look_on().finished
        sim.serve(up_since=sim.now)
        due = sim.look_on().requeue_after
        assert due is not None
        assert due <= 600
        sim.now += 600
        sim.look_on()
    for restarts in range(20, 24):
        sim.serve(phase=ProcessPhase.FAILED, exit_code=Exit.CRASHED, restarts=restarts, up_since=None)
        assert sim.look_on().finished is (restarts == 23)


def test_a_judge_that_was_steady_while_nobody_looked_is_not_in_a_crash_loop() -> None:
    """No operator led for days: how long the judge ran before its last end, its pod says itself."""
    sim = Platform(runs.run())
    sim.until("pretrain/judge")
    crashed = {"phase": ProcessPhase.FAILED, "exit_code": Exit.CRASHED, "up_since": None}
    sim.serve(**crashed, restarts=9, lasted=2_400.0)
    assert not sim.look_on().finished
    for restarts in range(10, 13):
        sim.serve(**crashed, restarts=restarts, lasted=5.0)
        assert sim.look_on().finished is (restarts == 12)
