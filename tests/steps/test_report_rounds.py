"""The report on rounds: what they cost, and figures of answers that agree with a computation by hand."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ixt_workloads.contract.configs import ReportLane, ReportRound
from ixt_workloads.contract.settings import Method, StageType
from ixt_workloads.rollouts import ANSWERS, Answered, figures
from ixt_workloads.steps.report.build import not_looked_for
from ixt_workloads.steps.report.read import Lane, Round, read_lanes
from ixt_workloads.steps.report.rounds import told_rounds
from ixt_workloads.store import Artifact


def answers(right: dict[str, list[int]], prefix: str = "Best") -> Any:
    """Figures of answers to prompts, each with 1 for a right answer and 0 for a wrong one."""
    return figures(
        [
            Answered(prompt, prefix, f"{number} is {one}", bool(one), float(one), cut=False, tokens=4)
            for prompt, ones in right.items()
            for number, one in enumerate(ones)
        ]
    )


ONE_AND_THREE = {"a": [1, 0, 0, 0], "b": [1, 1, 1, 0]}


def test_pass_at_k_is_what_a_computation_by_hand_says() -> None:
    found = answers(ONE_AND_THREE)["Best"]
    # Of the first prompt's 6 pairs 3 hold the right answer; of the second's all 6 hold one.
    assert found["passAt"] == {"1": (1 / 4 + 3 / 4) / 2, "2": (3 / 6 + 6 / 6) / 2, "4": 1.0}
    (row,) = told_rounds([[Round(1, 10, {}, {"Best": found})]])
    told = row["answers"]["Best"]
    assert (told["k"], told["passAt"]["1"]["mean"], told["passAt"]["4"]["mean"]) == (4, 0.5, 1.0)
    # Two prompts are drawn with replacement: both are the first in a quarter of the draws, both the second in
    # another.
    assert told["passAt"]["1"]["interval"] == {"low": 0.25, "high": 0.75}
    assert told["passAt"]["4"]["interval"] == {"low": 1.0, "high": 1.0}


def test_seeds_are_averaged() -> None:
    worse = answers({"a": [0, 0, 0, 0], "b": [1, 0, 0, 0]})
    (row,) = told_rounds([[Round(0, 10, {}, answers(ONE_AND_THREE))], [Round(0, 20, {}, worse)]])
    assert row["flops"] == 15
    assert row["answers"]["Best"]["passAt"]["1"]["mean"] == (0.5 + 0.125) / 2


@pytest.fixture
def lane() -> Lane:
    """Two rounds of a lane, of which each costs 1 for its answers, 10 for the judge and 100 for training."""
    made: dict[str, Any] = {
        "start": {"rollout": answers({"a": [0, 0], "b": [0, 0]})},
        "inventory": {"documents": 2},
    }
    for number in (1, 2):
        solved = answers({"a": [1, 0], "b": [number - 1, 0]})
        made |= {
            f"generate/{number}": {"flops": 1, "documents": 4},
            f"annotate/{number}": {"flops": 10, "documents": 4, "contradictionPercent": 25 * number},
            f"prepare/{number}": {},
            f"train/{number}": {"flops": 100},
            f"evaluate/{number}": {"rollout": solved},
            f"held/{number}": {"evaluationFlops": 10**6},
        }

    def artifact(name: str) -> Artifact:
        evaluation = {"scores": {"tasks": {"other": {"Best": {"accuracy": 0.1, "items": 5}}}}}
        manifest = SimpleNamespace(preimage={"config": {"tasks": [{"name": "other"}]}})
        found = SimpleNamespace(
            key=name, summary=made[name], manifest=manifest, read_json=lambda path: evaluation
        )
        return cast(Artifact, found)

    kinds = ("generate", "annotate", "prepare", "train", "evaluate")
    rounds = tuple(
        ReportRound(round=n, samples=f"held/{n}", **{kind: f"{kind}/{n}" for kind in kinds}) for n in (1, 2)
    )
    spec = ReportLane(
        stage="post",
        stage_type=StageType.ROLLOUT,
        arm="c",
        method=Method.CONDITIONED,
        seed=0,
        inventory="inventory",
        annotate=("annotate/1", "annotate/2"),
        prepare="prepare/2",
        train="train/2",
        evaluate="evaluate/2",
        rounds=rounds,
        start="start",
    )
    assert {"start", "held/1", "held/2"} <= {*spec.nodes}
    (found,) = read_lanes([spec], artifact)
    return found


def test_rounds_pay_for_answers_and_judging_but_not_for_their_evaluation(lane: Lane) -> None:
    assert [each.flops for each in lane.rounds] == [0, 111, 222]
    assert (lane.generation, lane.annotation, lane.training) == (2, 20, 200)
    assert lane.points[-1].flops == lane.generation + lane.annotation + lane.training


def test_rounds_are_compared_by_answers_to_held_out_prompts(lane: Lane) -> None:
    shown = [point.scores["tasks"] for point in lane.points]
    assert [tasks[ANSWERS]["Best"]["accuracy"] for tasks in shown] == [0, 0.25, 0.5]
    assert all([*tasks] == [ANSWERS] for tasks in shown)
    assert shown[0][ANSWERS]["Best"]["items"] == 2
    assert sorted(lane.scores["tasks"]) == [ANSWERS, "other"]
    assert [row["contradictionPercent"] for row in told_rounds([lane.rounds])] == [None, 25, 50]
    alone = cast(Artifact, SimpleNamespace(summary={"source": "Verifier", "contradictionPercent": 0.0}))
    (unread,) = told_rounds([[replace(lane.rounds[1], annotate=alone)]])
    assert unread["contradictionPercent"] is None, "no judge has read the answers"


def test_a_stage_does_not_doubt_its_own_held_out_prompts(lane: Lane) -> None:
    """Earlier stages do: their documents were not searched for them."""
    assert not_looked_for(lane, [ANSWERS, "more", "other"]) == ["more"]
    earlier = replace(lane, rounds=())
    assert not_looked_for(earlier, [ANSWERS, "other"]) == [ANSWERS]
