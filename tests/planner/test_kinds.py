"""The planner knows kinds of steps by their rows alone: shown by a kind that only tests know, which lanes own
and which has a server of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from make import kinds, runs
from make.observed import Platform, flat

import ixt_workloads.steps
from ixt_operator.api.status import StepState
from ixt_operator.render.render import render
from ixt_workloads.contract.exits import StepError
from ixt_workloads.contract.graph import OfNode
from ixt_workloads.contract.kinds import KINDS, LONGEST_SHORT
from ixt_workloads.contract.versions import read_task, write_task

STEPS = Path(ixt_workloads.steps.__path__[0])


@pytest.fixture
def sampled() -> Iterator[Platform]:
    with pytest.MonkeyPatch.context() as patch:
        kinds.know(patch)
        yield Platform(
            runs.run(name=kinds.SAMPLED, judge=None, arms=[runs.arm("n", "NextToken", seeds=[0, 1])])
        )


def test_each_lane_has_its_server_in_turn(sampled: Platform) -> None:
    assert flat(sampled.history()) == [
        "pretrain/inventory",
        "pretrain/prepare/n",
        "pretrain/policy/n-s0",
        "pretrain/sample/n-s0",
        "pretrain/train/n-s0",
        "pretrain/evaluate/n-s0",
        "pretrain/policy/n-s1",
        "pretrain/sample/n-s1",
        "pretrain/train/n-s1",
        "pretrain/evaluate/n-s1",
        "report",
    ]


def test_a_step_finds_its_own_server_and_a_train_has_the_devices_to_itself(sampled: Platform) -> None:
    sampled.slow = True
    sampled.until("pretrain/policy/n-s0")
    assert "pretrain/sample/n-s0" not in sampled.nodes()
    server = sampled.newest("pretrain/policy/n-s0")
    sampled.calm(sampled.look())
    (sample,) = sampled.look().create
    assert sample.servers == {"POLICY": server.child.name}
    assert sample.argv[-1] == "ixt_workloads.steps.sample"
    assert server.child.argv[-1] == "ixt_workloads.steps.sample.server"
    sampled.finish("pretrain/sample/n-s0")
    moves = sampled.look()
    assert (moves.delete, moves.create) == ((server.child.name,), ())
    sampled.vanish()
    assert [child.node for child in sampled.look().create] == ["pretrain/train/n-s0"]


def test_the_status_tells_of_the_kind_by_arm(sampled: Platform) -> None:
    sampled.until("pretrain/train/n-s0")
    steps = {step.name: step for step in sampled.look().status.stages[0].steps}
    assert list(steps) == ["inventory", "prepare/n", "sample/n", "train/n", "evaluate/n", "report"]
    assert (steps["sample/n"].kind, steps["sample/n"].arm) == ("Sample", "n")
    assert steps["sample/n"].state is StepState.RUNNING  # of its second seed there is nothing yet


def test_manifests_of_the_kind_say_whose_they_are(sampled: Platform) -> None:
    sampled.until("pretrain/policy/n-s0")
    server = sampled.newest("pretrain/policy/n-s0").child
    *_, deployment = render(sampled.run, sampled.runtime, server)
    labels = deployment["metadata"]["labels"]
    assert {name: labels[f"ixt.dev/{name}"] for name in ("kind", "stage", "arm", "seed", "server")} == {
        "kind": "Sample",
        "stage": "pretrain",
        "arm": "n",
        "seed": "0",
        "server": "True",
    }


def test_a_task_of_an_unknown_kind_is_refused_by_name(sampled: Platform) -> None:
    sampled.until("pretrain/policy/n-s0")
    sampled.calm(sampled.look())
    (sample,) = sampled.look().create
    assert sample.task
    text = write_task(sample.task)
    assert read_task(text.encode()).config == sample.task.config
    with pytest.raises(StepError, match=r"sets kind to 'Other', which this image, ixt .*, does not know"):
        read_task(text.replace('"kind":"Sample"', '"kind":"Other"', 1).encode())


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_is_a_module_and_its_names_fit(kind: str) -> None:
    row = KINDS[kind]
    missing = f"a kind's step is steps/{row.short}/__main__.py"
    assert (STEPS / row.short / "__main__.py").exists(), missing
    if row.server:
        assert (STEPS / row.short / "server.py").exists(), f"{kind} has a server: add server.py"
    assert len(row.short) <= LONGEST_SHORT


def test_names_are_made_of_the_fields() -> None:
    train = OfNode(kind="Train", stage="pretrain", arm="a-s1", seed=0)
    assert (train.node, train.in_stage, train.step) == (
        "pretrain/train/a-s1-s0",
        "train/a-s1-s0",
        "train/a-s1",
    )
    # An arm whose name ends as a seed does is not taken for another arm with that seed.
    other = OfNode(kind="Train", stage="pretrain", arm="a", seed=1)
    assert not other.told_by("pretrain", "train/a-s1")
    assert train.told_by("pretrain", "train/a-s1")
    assert not train.told_by("midtrain", "train/a-s1")
