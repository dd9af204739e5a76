"""Lanes that are given up while others go on."""

import pytest
from make import runs
from make.observed import Platform, edited, flat

from ixt_operator.api.status import ConditionType, Phase, Reason, StepState
from ixt_operator.planner.observed import ProcessPhase
from ixt_workloads.contract.configs import ReportConfig
from ixt_workloads.contract.exits import Exit, Fault

ARMS = [runs.arm("c", seeds=[0, 1]), runs.arm("n", "NextToken")]
LANES = ["c-s0", "c-s1", "n-s0"]
TWO_STAGES = [runs.stage("pretrain"), runs.stage("midtrain")]


def training(**spec: object) -> Platform:
    """A run of which all three lanes train."""
    found = Platform(runs.run(arms=ARMS, maxParallelLanes=8, **spec))
    for lane in LANES:
        found.until(f"pretrain/train/{lane}")
    return found


def give_up(sim: Platform, node: str = "pretrain/train/c-s0") -> None:
    """Its data are wrong: it is not tried again."""
    sim.fail(node, Exit.DATA, message="line 3 is no JSON", hint="mend it", fault=Fault.USER)


def failed(sim: Platform) -> tuple[str, str]:
    assert sim.status
    condition = sim.status.condition(ConditionType.FAILED)
    assert condition
    assert sim.status.is_true(ConditionType.FAILED)
    return condition.reason, condition.message


def steps(sim: Platform) -> dict[str, StepState]:
    assert sim.status
    return {f"{stage}/{step.name}": step.state for stage, step in sim.status.steps}


def reported(sim: Platform) -> tuple[list[str], tuple[str, ...]]:
    task = sim.newest("report").child.task
    assert task
    assert isinstance(task.config, ReportConfig)
    return [f"{lane.stage}/{lane.arm}-s{lane.seed}" for lane in task.config.lanes], task.config.missing


def test_a_lane_that_fails_fails_alone_and_the_report_compares_the_others() -> None:
    sim = training()
    give_up(sim)
    moves = sim.look()
    assert not moves.finished
    assert sim.nodes() == ["pretrain/train/c-s1", "pretrain/train/n-s0"]
    assert moves.status.failed_lanes == ("c-s0",)
    progressing = moves.status.condition(ConditionType.PROGRESSING)
    assert progressing
    assert "lanes that failed: c-s0" in progressing.message
    assert ("LaneFailed", True) in {(event.reason, event.warning) for event in sim.events}
    assert flat(sim.history())[-1] == "report"
    assert reported(sim) == (["pretrain/c-s1", "pretrain/n-s0"], ("c-s0",))
    reason, message = failed(sim)
    assert reason == Reason.LANES_FAILED
    assert "1 of 3 lanes failed" in message
    assert "pretrain/train/c-s0: pod-0: line 3 is no JSON" in message
    assert steps(sim)["pretrain/train/c"] is StepState.FAILED
    assert steps(sim)["pretrain/evaluate/n"] is StepState.COMPLETE
    assert not sim.nodes()


def test_it_is_told_once() -> None:
    sim = training()
    give_up(sim)
    list(sim.history())
    assert [event.message for event in sim.events if event.reason == "LaneFailed"] == [
        "lane c-s0 is given up, the others go on: pretrain/train/c-s0: pod-0: line 3 is no JSON"
    ]


def test_a_loss_that_diverges_again_ends_its_lane_alone() -> None:
    sim = training()
    for _ in range(2):
        sim.fail("pretrain/train/n-s0", Exit.DIVERGED)
        sim.now += 1000
        sim.look_on()
    assert sim.status
    assert sim.status.failed_lanes == ("n-s0",)
    list(sim.history())
    assert failed(sim)[0] == Reason.LANES_FAILED
    assert reported(sim)[0] == ["pretrain/c-s0", "pretrain/c-s1"]


def test_without_the_reference_nothing_is_compared() -> None:
    """All arms are planned by what the Prepare of the reference arm's first lane holds."""
    sim = Platform(runs.run(arms=[runs.arm("c"), *ARMS[1:]], maxParallelLanes=8, stages=TWO_STAGES))
    sim.until("pretrain/prepare/c")
    give_up(sim, "pretrain/prepare/c")
    assert not [node for node in flat(sim.history()) if "train/n" in node]
    assert failed(sim)[0] != Reason.LANES_FAILED
    assert "line 3 is no JSON" in failed(sim)[1]


def test_other_seeds_of_the_reference_go_on_without_its_first() -> None:
    sim = Platform(runs.run(arms=ARMS, maxParallelLanes=8))
    sim.until("pretrain/prepare/c-s0")
    give_up(sim, "pretrain/prepare/c-s0")
    later = flat(sim.history())
    assert "pretrain/train/c-s1" in later
    assert not {"pretrain/train/c-s0", "pretrain/train/n-s0"} & {*later}
    assert reported(sim) == (["pretrain/c-s1"], ("c-s0", "n-s0"))


def test_others_are_planned_by_a_reference_that_failed_in_training() -> None:
    """Its preparations are still made, also in the next stage."""
    sim = Platform(runs.run(arms=[runs.arm("n", "NextToken"), runs.arm("c")], stages=TWO_STAGES))
    sim.until("pretrain/train/c-s0")
    give_up(sim)
    later = flat(sim.history())
    assert "midtrain/prepare/c" in later
    assert later.index("midtrain/prepare/c") < later.index("midtrain/train/n-s0")
    assert "midtrain/train/c-s0" not in later
    assert reported(sim) == (["pretrain/n-s0", "midtrain/n-s0"], ("c-s0",))


def test_what_only_failed_lanes_need_is_not_made() -> None:
    """The arm's preparation, from which nothing drops out, fails, and with it both of its seeds; of the
    feedback the other arm reads none but that on held-out documents."""
    spec = {"arms": ARMS, "stages": TWO_STAGES, "comparison": "EqualTokens"}
    sim = Platform(runs.run(maxParallelLanes=8, conditioning={"dropoutPercent": 0}, **spec))
    sim.until("pretrain/prepare/c")
    give_up(sim, "pretrain/prepare/c")
    later = [node for node in flat(sim.history()) if node.startswith("midtrain/")]
    assert later == [
        "midtrain/judge", "midtrain/annotate/holdout", "midtrain/prepare/n", "midtrain/train/n-s0",
        "midtrain/evaluate/n-s0",
    ]  # fmt: skip
    assert sim.status
    assert sim.status.failed_lanes == ("c-s0", "c-s1")
    assert failed(sim)[0] == Reason.LANES_FAILED
    assert steps(sim)["midtrain/annotate/0-15"] is StepState.WAITING


def test_stages_that_a_failed_lane_has_completed_are_reported() -> None:
    sim = Platform(runs.run(arms=ARMS, maxParallelLanes=8, stages=TWO_STAGES))
    sim.until("midtrain/train/c-s0")
    give_up(sim, "midtrain/train/c-s0")
    list(sim.history())
    assert set(reported(sim)[0]) == {
        "pretrain/c-s0", "pretrain/c-s1", "pretrain/n-s0", "midtrain/c-s1", "midtrain/n-s0"
    }  # fmt: skip


def test_nothing_of_a_failed_lane_goes_on() -> None:
    """Its evaluation fails while its next stage trains."""
    sim = Platform(runs.run(arms=ARMS, maxParallelLanes=8, stages=TWO_STAGES))
    sim.until("pretrain/evaluate/c-s0")
    sim.slow = True
    give_up(sim, "pretrain/evaluate/c-s0")
    sim.look()
    assert not [node for node in sim.nodes() if node.endswith("/c-s0")]


def test_fail_fast_ends_the_run_with_its_first_lane() -> None:
    sim = training(failurePolicy={"lanes": "FailFast"})
    give_up(sim)
    assert sim.look().finished
    assert failed(sim)[0] == Reason.USER_FAULT
    assert not sim.nodes()


def test_a_run_of_which_every_lane_fails_says_why_at_once() -> None:
    sim = training()
    for lane in LANES:
        give_up(sim, f"pretrain/train/{lane}")
    assert sim.look().finished
    reason, message = failed(sim)
    assert reason == Reason.USER_FAULT
    assert "there is no report, since no lane was evaluated" in message


def test_what_all_lanes_share_ends_them_all() -> None:
    sim = Platform(runs.run(arms=ARMS))
    sim.until("pretrain/annotate/0-15")
    give_up(sim, "pretrain/annotate/0-15")
    assert sim.look().finished
    assert failed(sim)[0] == Reason.USER_FAULT


@pytest.mark.parametrize(
    "ends", [["train/c-s0", "train/c-s1", "train/n-s0"], ["annotate/0-15"]], ids=["each", "shared"]
)
def test_where_no_lane_goes_on_the_report_compares_the_stages_before(ends: list[str]) -> None:
    sim = Platform(runs.run(arms=ARMS, maxParallelLanes=8, stages=TWO_STAGES))
    for node in ends:
        sim.until(f"midtrain/{node}")
        give_up(sim, f"midtrain/{node}")
    assert flat(sim.history()) == ["report"]
    assert reported(sim) == ([f"pretrain/{lane}" for lane in LANES], tuple(LANES))
    reason, message = failed(sim)
    assert reason == Reason.USER_FAULT
    assert f"midtrain/{ends[0]}" in message
    assert "the report compares what there is" in message
    assert sim.status
    assert sim.status.summary.progress_percent < 100


def test_an_edit_starts_failed_lanes_anew() -> None:
    sim = training()
    give_up(sim)
    list(sim.history())
    sim.run = edited(sim.run, lambda spec: spec.update(pods={"trainer": runs.patch(image="mended:2")}))
    made = flat(sim.history())
    assert [node for node in made if "/train/" in node] == ["pretrain/train/c-s0"]
    assert sim.status
    assert (sim.status.phase, sim.status.failed_lanes) == (Phase.COMPLETE, ())
    assert reported(sim) == ([f"pretrain/{lane}" for lane in LANES], ())


# --- Pods that are not scheduled.


def block(sim: Platform, node: str) -> None:
    reason = "Unschedulable: 0/3 nodes are available"
    sim.newest(node).become(phase=ProcessPhase.PENDING, blocked_since=sim.now, reason=reason)


def test_a_pod_that_is_pending_fails_nothing() -> None:
    sim = training()
    block(sim, "pretrain/train/c-s0")
    sim.now += 10**6
    assert not sim.look().finished
    for node in ("train/c-s1", "train/n-s0"):
        sim.finish(f"pretrain/{node}")
    sim.look_on()
    assert "pretrain/train/c-s0" in sim.nodes()
    assert "pretrain/evaluate/n-s0" in sim.nodes()
    assert sim.status
    assert sim.status.failed_lanes == ()


def test_a_lane_that_is_not_scheduled_in_time_fails_alone() -> None:
    sim = training(schedulingTimeoutSeconds=600)
    block(sim, "pretrain/train/c-s0")
    assert sim.look().requeue_after == 600
    sim.now += 600
    moves = sim.look()
    assert moves.status.failed_lanes == ("c-s0",)
    assert sim.nodes() == ["pretrain/train/c-s1", "pretrain/train/n-s0"]
    made = flat(sim.history())
    assert "pretrain/train/c-s0" not in made, "its Job is gone, but not forgotten"
    reason, message = failed(sim)
    assert reason == Reason.LANES_FAILED
    assert "pretrain/train/c-s0: its pods could not start in time" in message
    (told,) = [event.message for event in sim.events if event.reason == "LaneFailed"]
    assert "could not start within schedulingTimeoutSeconds=600: Unschedulable: 0/3 nodes" in told


def test_an_edit_gives_it_another_chance() -> None:
    sim = training(schedulingTimeoutSeconds=600)
    block(sim, "pretrain/train/c-s0")
    sim.now += 600
    sim.look_on()
    sim.run = edited(sim.run, lambda spec: spec.update(schedulingTimeoutSeconds=6000))
    sim.until("pretrain/train/c-s0")
    assert sim.newest("pretrain/train/c-s0").child.attempt == 2


@pytest.mark.parametrize("node", ["pretrain/inventory", "pretrain/judge"])
def test_what_lanes_share_and_is_not_scheduled_in_time_ends_the_run(node: str) -> None:
    sim = Platform(runs.run(arms=ARMS, schedulingTimeoutSeconds=600))
    sim.until(node)
    block(sim, node)
    sim.now += 600
    assert sim.look().finished
    assert failed(sim)[0] == Reason.SCHEDULING_TIMEOUT
