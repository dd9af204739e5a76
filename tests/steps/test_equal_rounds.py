"""Rounds of arms that are compared: generation and judging count, what evaluations ask does not."""

from pathlib import Path
from typing import Any

from make.tasks import task

from ixt_workloads.contract.configs import ReferenceStage, TrainConfig
from ixt_workloads.contract.settings import Evaluate, StageType, Train
from ixt_workloads.flops import ModelShape, training_flops
from ixt_workloads.frame import Step
from ixt_workloads.progress import Reporter
from ixt_workloads.steps.train.before import flops_before, planned
from ixt_workloads.store import ArtifactWriter, open_store

SHAPE = ModelShape(parameters=1000, layers=1, width=10, vocabulary=100)
LENGTH = 32
PREPARED = {"sequences": 10, "tokens": 10 * LENGTH, "squares": 10 * LENGTH**2}
A_SEQUENCE = training_flops(SHAPE, LENGTH, LENGTH)
GENERATION, JUDGING = 3 * A_SEQUENCE, 4 * A_SEQUENCE
ROUNDS = 2


def commit(folder: Path, key: str, kind: str, inputs: dict[str, str], **summary: Any) -> str:
    writer = ArtifactWriter(
        open_store(f"file://{folder}"), key, kind, {"inputs": inputs}, run="test", attempt=0
    )
    writer.add("file", b"x")
    writer.commit(summary, ["file"])
    return key


def lane(folder: Path, name: str, *, judging: int, trained: int) -> dict[str, str]:
    """Two rounds of a lane, of which all but the second's training is there: what is known of each."""
    made: dict[str, str] = {}
    parent: dict[str, str] = {}
    for number in range(1, ROUNDS + 1):
        letter = f"{name}{number}"

        def key(kind: str, letter: str = letter) -> str:
            return f"{letter}{kind}".ljust(32, "0")

        policy = {"policy": parent["parent"]} if parent else {}
        samples = commit(folder, key("a"), "Generate", policy, flops=GENERATION)
        # Asked by the evaluation alone.
        commit(folder, key("b"), "Generate", policy, evaluationFlops=10**12)
        feedback = commit(folder, key("c"), "Annotate", {"inventory": samples}, flops=judging)
        of_round = {f"samples/{number}": samples, f"feedback/{number}": feedback}
        prepare = commit(folder, key("d"), "Prepare", of_round, **PREPARED)
        made |= {f"prepare/{number}": prepare, **{f"parent/{number}": parent.get("parent", "")}}
        if number < ROUNDS:
            parent = {
                "parent": commit(folder, key("e"), "Train", {"prepare": prepare, **parent}, flops=trained)
            }
    return made


def test_rounds_end_at_the_flops_of_the_reference_generation_and_judging_included(tmp_path: Path) -> None:
    reference = lane(tmp_path, "a", judging=JUDGING, trained=100 * A_SEQUENCE)
    own = 100 * A_SEQUENCE + JUDGING
    other = lane(tmp_path, "b", judging=0, trained=own)
    config = TrainConfig(
        stage_type=StageType.ROLLOUT,
        train=Train(max_tokens=LENGTH, batch_tokens=LENGTH),
        seed=0,
        reference=(ReferenceStage(sequences=100),) * ROUNDS,
        evaluate=Evaluate(),
    )
    inputs = {"prepare": other["prepare/2"], "parent": other["parent/2"]}
    inputs |= {f"reference/{place}": reference[f"prepare/{place + 1}"] for place in range(ROUNDS)}
    told = task(config, tmp_path, inputs)
    step = Step(told, 0, open_store(f"file://{tmp_path}"), Reporter())

    # By hand: the other arm's first round, and the answers of its second.
    assert flops_before(step) == own + 2 * GENERATION
    # The reference spends two times 100 sequences, 3 of generation and 4 of judging; what is left of it is
    # trained.
    left = 2 * (100 + 3 + 4) - (100 + 4 + 2 * 3)
    assert planned(step, SHAPE, LENGTH).max_tokens == left * LENGTH
