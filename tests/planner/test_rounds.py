"""Rounds of a Rollout stage: what they are made of, in which order they run, and what an edit makes anew."""

from pathlib import Path
from typing import Any

import pytest
from make import rollouts, runs
from make.observed import Platform, edited, flat

from ixt_operator.api.run import IXTRun
from ixt_operator.api.status import StepState
from ixt_operator.manifests.loading import load
from ixt_operator.planner.nodes import resolve_run, stage_nodes
from ixt_workloads.contract.configs import GenerateConfig, ReportConfig, TrainConfig
from ixt_workloads.contract.exits import Exit
from ixt_workloads.contract.graph import Keyed, OfNode

PINS = {name: f"{name}-1" for name in ("datasets", "judge", "model", "tokenizer", "tasks")}
EXAMPLES = Path(__file__).parents[2] / "examples/quickstart"
ARMS = [runs.arm("c"), runs.arm("r", "RejectionSampling")]


def run(**rollout: Any) -> IXTRun:
    """Two arms that learn from documents first, and then from their own samples."""
    return runs.run(stages=[runs.stage("sft"), rollouts.stage(rollout=rollout)], arms=ARMS)


def keyed(run: IXTRun) -> dict[str, Keyed]:
    return resolve_run(run, {stage.name: PINS for stage in run.spec.stages})


def inputs(run: IXTRun, name: str) -> dict[str, str]:
    nodes = [node for position in range(len(run.spec.stages)) for node in stage_nodes(run, position)]
    return next(node.inputs for node in nodes if node.name == name)


def test_every_node_of_a_reported_lane_can_be_renamed() -> None:
    """As `ixt compare` does, so that the lanes of several runs stand beside each other."""
    stages = [runs.stage("sft"), rollouts.stage(evaluate={})]
    (*_, report) = stage_nodes(runs.run(stages=stages, arms=ARMS), 1)
    assert isinstance(report.config, ReportConfig)
    for lane in report.config.lanes:
        renamed = lane.renamed(lambda name: f"one:{name}")
        assert renamed.nodes == tuple(f"one:{name}" for name in lane.nodes)
    assert {name for lane in report.config.lanes for name in lane.nodes} >= {
        "post/evaluate/c-s0/r0",
        "post/generate/holdout/c-s0/r2",
    }


def test_the_example_begins_with_what_the_quickstart_makes() -> None:
    """Under another arm's name, the baseline trains on documents as next-token does."""

    def keys(file: str) -> dict[str, str]:
        (found,) = load(EXAMPLES / file)
        assert isinstance(found, IXTRun)
        known = keyed(found)
        return {name: each.key for name, each in known.items() if name.startswith(("pretrain/", "sft/"))}

    rounds = {
        name.replace("rejection-sampling", "next-token"): key for name, key in keys("rollout.yaml").items()
    }
    assert rounds == keys("run.yaml")


def test_a_round_is_made_of_what_the_round_before_made() -> None:
    found = run()
    assert inputs(found, "post/generate/c-s0/r1")["policy"] == "sft/train/c-s0"
    assert inputs(found, "post/generate/c-s0/r2")["policy"] == "post/train/c-s0/r1"
    assert inputs(found, "post/annotate/c-s0/r2")["inventory"] == "post/generate/c-s0/r2"
    prepared = inputs(found, "post/prepare/c-s0/r2")
    assert prepared["samples/2"] == "post/generate/c-s0/r2"
    assert prepared["feedback/2"] == "post/annotate/c-s0/r2"
    assert "samples/1" not in prepared
    trained = inputs(found, "post/train/c-s0/r2")
    assert trained["parent"] == "post/train/c-s0/r1"
    assert trained["prepare"] == "post/prepare/c-s0/r2"


def test_a_round_from_the_start_trains_on_all_samples() -> None:
    found = run(rounds=3, **{"from": "Start"})
    prepared = inputs(found, "post/prepare/c-s0/r3")
    assert {role for role in prepared if role.startswith("samples/")} == {f"samples/{n}" for n in (1, 2, 3)}
    assert inputs(found, "post/train/c-s0/r3")["parent"] == "sft/train/c-s0"
    assert inputs(found, "post/generate/c-s0/r3")["policy"] == "post/train/c-s0/r2"
    assert "samples/1" not in inputs(run(rounds=3, replayRounds=1), "post/prepare/c-s0/r3")


def test_a_first_stage_starts_from_the_model() -> None:
    found = runs.run(stages=[rollouts.stage()], model={"source": "file:///model"})
    assert inputs(found, "post/generate/conditioned-s0/r1")["model"] == "pin:model"
    assert inputs(found, "post/train/conditioned-s0/r1")["model"] == "pin:model"
    assert inputs(found, "post/train/conditioned-s0/r2")["parent"] == "post/train/conditioned-s0/r1"


def test_the_next_stage_starts_from_the_last_round() -> None:
    stages = [runs.stage("sft"), rollouts.stage(rollout={"rounds": 3}), runs.stage("last")]
    found = runs.run(stages=stages, arms=ARMS)
    assert inputs(found, "last/train/r-s0")["parent"] == "post/train/r-s0/r3"
    compared = [name for role, name in inputs(found, "last/train/r-s0").items() if "reference/" in role]
    assert compared == ["sft/prepare/c", *(f"post/prepare/c-s0/r{n}" for n in (1, 2, 3)), "last/prepare/c"]


def test_other_arms_are_planned_by_the_rounds_of_the_reference() -> None:
    found = run()
    compared = [name for role, name in inputs(found, "post/train/r-s0/r2").items() if "reference/" in role]
    assert compared == ["sft/prepare/c", "post/prepare/c-s0/r1", "post/prepare/c-s0/r2"]
    config = keyed(found)["post/train/r-s0/r2"].node.config
    assert isinstance(config, TrainConfig)
    assert len(config.reference) == len(compared)


def test_more_rounds_leave_all_keys_as_they_are() -> None:
    two, four = keyed(run(rounds=2)), keyed(run(rounds=4))
    same = {name for name in two if name != "report"}
    assert {name: two[name].key for name in same} == {name: four[name].key for name in same}
    assert {
        OfNode(**keyed.node.fields_of_node()).round for name, keyed in four.items() if name not in two
    } == {
        3,
        4,
    }


@pytest.mark.parametrize(
    "change",
    [{"engine": {"maxReplicas": 4, "args": ["--max-num-seqs=8"]}}, {"resources": {"limits": {"cpu": 2}}}],
)
def test_how_a_policy_is_served_is_in_no_key(change: dict[str, Any]) -> None:
    assert {name: each.key for name, each in keyed(run()).items()} == {
        name: each.key for name, each in keyed(run(**change)).items()
    }


@pytest.mark.parametrize(
    "change",
    [
        {"samplesPerPrompt": 8},
        {"promptsPerRound": 7},
        {"temperature": "0.7"},
        {"topP": "0.9"},
        {"topK": 20},
        {"maxTokens": 65},
        {"samplingFeedback": "Mix"},
        {"engine": {"args": ["--dtype=bfloat16"]}},
    ],
)
def test_how_samples_come_about_makes_the_first_round_anew(change: dict[str, Any]) -> None:
    old, new = keyed(run()), keyed(run(**change))
    changed = {name for name in old if old[name].key != new[name].key}
    assert "post/generate/c-s0/r1" in changed
    assert not {name for name in changed if name.startswith("sft/")}


def test_rounds_differ_in_their_keys_and_so_do_seeds() -> None:
    found = keyed(
        runs.run(stages=[rollouts.stage()], model={"source": "file:///m"}, arms=[runs.arm("c", seeds=[0, 1])])
    )
    keys = [each.key for name, each in found.items() if "/generate/" in name]
    assert len(set(keys)) == len(keys) == 4


def test_rounds_run_one_after_another_and_lanes_share_a_judge() -> None:
    platform = Platform(run())
    nodes = flat(platform.history())
    assert nodes.count("post/judge") == 2, "once a round, for both lanes"
    of_lane = [node for node in nodes if node.startswith("post/") and "/c-s0/" in node]
    kinds = ["policy", "generate", "annotate", "prepare", "train", "evaluate"]
    assert of_lane == [f"post/{kind}/c-s0/r{number}" for number in (1, 2) for kind in kinds]


def test_answers_to_held_out_prompts_are_evaluated_after_each_round_and_before_the_first() -> None:
    rollout = {"evaluation": {"samples": 2, "temperature": "0.5"}, "maxTokens": 9}
    platform = Platform(
        runs.run(stages=[runs.stage("sft"), rollouts.stage(rollout=rollout, evaluate={})], arms=ARMS)
    )
    made = flat(platform.history())
    of_rounds = [node for node in made if node.startswith("post/") and "/c-s0/" in node]
    assert [node for node in of_rounds if node.split("/")[1] not in ("prepare", "annotate")] == [
        # One server answers for the evaluation and for the next round.
        "post/policy/c-s0/r1",
        "post/generate/holdout/c-s0/r0",
        "post/generate/c-s0/r1",
        "post/evaluate/c-s0/r0",
        "post/train/c-s0/r1",
        "post/policy/c-s0/r2",
        "post/generate/holdout/c-s0/r1",
        "post/generate/c-s0/r2",
        "post/evaluate/c-s0/r1",
        "post/train/c-s0/r2",
        "post/policy/c-s0/r3",
        "post/generate/holdout/c-s0/r2",
        "post/evaluate/c-s0/r2",
    ]
    node = next(node for node in stage_nodes(platform.run, 1) if node.name == "post/generate/holdout/c-s0/r1")
    assert node.inputs["policy"] == "post/train/c-s0/r1"
    assert isinstance(node.config, GenerateConfig)
    assert node.config.prefixes == ("Best", "None", "Worst")
    asked = node.config.generation
    assert (asked.samples_per_prompt, asked.temperature, asked.max_tokens) == (2, "0.5", 9)
    assert inputs(platform.run, "post/evaluate/c-s0/r0") == {"samples": "post/generate/holdout/c-s0/r0"}
    assert inputs(platform.run, "post/evaluate/c-s0/r2")["samples"] == "post/generate/holdout/c-s0/r2"
    assert not [role for role in inputs(platform.run, "post/train/c-s0/r2") if role == "samples"]


def test_rejection_sampling_asks_no_judge() -> None:
    nodes = {node.name: node for node in stage_nodes(run(), 1)}
    assert "judge" in nodes["post/annotate/c-s0/r1"].inputs
    assert "judge" not in nodes["post/annotate/r-s0/r1"].inputs
    alone = runs.run(stages=[runs.stage("sft"), rollouts.stage()], arms=ARMS[1:])
    assert all("judge" not in node.inputs for position in (0, 1) for node in stage_nodes(alone, position))
    assert not [node for node in flat(Platform(alone).history()) if "judge" in node]


def test_rejection_sampling_shares_with_next_token_what_is_made_of_documents() -> None:
    same = runs.run(stages=[runs.stage("sft")], arms=[runs.arm("c"), runs.arm("r", "NextToken")])
    name = "sft/prepare/r"
    assert keyed(run())[name].key == resolve_run(same, {"sft": PINS})[name].key


def test_lanes_that_begin_with_the_same_model_share_its_server() -> None:
    """And no lane is shown another's model: from the second round on each has a server of its own."""
    arms = [runs.arm("c", seeds=[0, 1])]
    platform = Platform(
        runs.run(stages=[rollouts.stage()], model={"source": "file:///m"}, arms=arms, maxParallelLanes=2)
    )
    history = [created for created in platform.history() if created]
    assert {"post/generate/c-s0/r1", "post/generate/c-s1/r1"} <= set(
        next(created for created in history if "post/generate/c-s0/r1" in created)
    )
    policies = [node for node in flat(history) if "policy" in node]
    assert policies == ["post/policy/r1", "post/policy/c-s0/r2", "post/policy/c-s1/r2"]


def test_the_status_has_one_entry_for_all_rounds() -> None:
    platform = Platform(run())
    platform.until("post/train/c-s0/r2")
    platform.look()
    assert platform.status
    (stage,) = (stage for stage in platform.status.stages if stage.name == "post")
    found = {step.name: step for step in stage.steps}
    assert found["train/c"].round == 2
    assert found["evaluate/c"].round == 1
    assert (found["prepare/c"].done, found["prepare/c"].total, found["prepare/c"].unit) == (2, 2, "rounds")
    assert found["train/c"].state is StepState.RUNNING
    assert found["evaluate/c"].state is StepState.WAITING, "for this round's training"
    assert stage.rounds == 2
    assert list(found)[:6] == [
        "inventory",
        "generate/c",
        "generate/r",
        "annotate/c",
        "annotate/r",
        "prepare/c",
    ]


def test_the_time_left_is_that_of_the_last_round() -> None:
    platform = Platform(run(rounds=3))

    def left() -> int | None:
        platform.look_on()
        assert platform.status
        return platform.status.stages[1].eta_seconds

    platform.until("post/generate/c-s0/r1")
    began = platform.now
    platform.now += 1000
    platform.until("post/evaluate/r-s0/r1")
    assert left() is None, "no round is done yet"
    platform.until("post/generate/c-s0/r2")
    took = platform.now - began
    assert left() == pytest.approx(2 * took, rel=0.01)
    platform.until("post/prepare/c-s0/r3")
    assert left() == pytest.approx(0, abs=100), "the second took next to no time"
    flat(platform.history())
    assert left() is None, "all are done"


def test_added_rounds_alone_are_made() -> None:
    platform = Platform(run(rounds=1))
    flat(platform.history())
    platform.run = edited(platform.run, lambda spec: spec["stages"][1]["rollout"].update(rounds=2))
    again = [node for node in flat(platform.history()) if "/inventory" not in node and node != "report"]
    assert again
    assert {node.rpartition("/")[2] for node in again if "judge" not in node} == {"r2"}


def test_with_the_reference_all_lanes_fail_that_are_planned_by_it() -> None:
    platform = Platform(run())
    platform.until("post/generate/c-s0/r2")
    platform.fail("post/generate/c-s0/r2", Exit.DATA, message="bad prompts")
    for moves in platform.history():
        del moves
    assert platform.status
    assert set(platform.status.failed_lanes) == {"c-s0", "r-s0"}


def test_a_lane_that_others_are_not_planned_by_fails_alone() -> None:
    platform = Platform(run())
    platform.until("post/generate/r-s0/r2")
    platform.fail("post/generate/r-s0/r2", Exit.DATA, message="bad prompts")
    nodes = flat(platform.history())
    assert "post/evaluate/c-s0/r2" in nodes
    assert platform.status
    assert set(platform.status.failed_lanes) == {"r-s0"}
